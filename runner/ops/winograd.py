"""Winograd's F(4×4, 3×3): 36 multiplications instead of 144 for 4 × 4 outputs of a 3×3 kernel.

The fastest for many channels, with 8 to 14 times `native`'s rounding error at 64 to 256 channels.
NaN, infinities and the rounding of large values are smeared over the tiles that they are in.
"""

from __future__ import annotations

from typing import ClassVar

from runner.ops import Gate
from runner.ops._winograd import MinimalFiltering


class WinogradConv(MinimalFiltering):
    """Cross-correlation with tiles of 4 × 4 outputs."""

    m = 4
    gates: ClassVar[dict[str, Gate]] = {
        "float64": Gate(1e-12, 1e-12),
        "float32": Gate(1.5e-5, 6e-5),
    }
