"""Field types that several sources share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limited

LONGEST = 16_384
"""The longest side of an image; 16,384 × 16,384 float64 pixels are 2 GiB."""

Side = Annotated[int, Limited(ge=1, le=LONGEST)]
"""Height or width of an image, in pixels."""

Brightness = Annotated[float, Limited(ge=0, le=1)]
"""0 is black, 1 is white."""

Seed = Annotated[int, Limited(ge=0, le=2**63 - 1)]
"""Where a source's own random numbers start."""
