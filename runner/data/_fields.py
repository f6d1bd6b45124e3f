"""Field types that several sources share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator
from pydantic import Field as Limited

from runner.config.fields import Size, refuse
from runner.geometry import Pair

LONGEST = 16_384
"""The longest side of an image; 16,384 × 16,384 float64 pixels are 2 GiB."""

Side = Annotated[int, Limited(ge=1, le=LONGEST)]
"""Height or width of an image, in pixels."""


def _not_too_long(size: Pair) -> Pair:
    if max(size) > LONGEST:
        refuse(f"sides of at most {LONGEST}", str(list(size)))
    return size


Resize = Annotated[Size, AfterValidator(_not_too_long)]
"""Height and width that images are brought to, or one number for both."""

Brightness = Annotated[float, Limited(ge=0, le=1)]
"""0 is black, 1 is white."""

Seed = Annotated[int, Limited(ge=0, le=2**63 - 1)]
"""Where a source's own random numbers start."""
