"""Winograd's minimal filtering: fewer multiplications for the sum of a 3×3 window.

`matrices` says where it comes from, `reference` computes it readably. Fast are `tiles`, between
images and tiles, `products`, both made of `vectors`, and `strips`, which brings them together.
After Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016 (arXiv:1509.09308).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runner.geometry import ConvGeometry, Pair, Shape
from runner.ops import ConvOp

if TYPE_CHECKING:
    from torch import Tensor


class MinimalFiltering(ConvOp):
    """F(m×m, 3×3): tiles of m × m outputs from (m + 2)² products per pair of channels.

    NaN, infinities and the rounding of large values are smeared over the tiles that they are in.
    Transforms make numbers up to 100 times larger, so that the largest of a type exceed it, and
    kernels 24 times smaller, so that the smallest lose digits.

    Attributes:
        m: outputs of a tile along one axis.
    """

    m: ClassVar[int]
    sums: bool = False

    def unsupported(self, geometry: ConvGeometry, dtype: str, device: str) -> list[str]:
        """Needs 3×3 kernels side by side, enough precision, and the CPU."""
        (kh, kw), (sh, sw), (dh, dw) = geometry.kernel, geometry.stride, geometry.dilation
        reasons = []
        if (kh, kw) != (3, 3):
            reasons.append(f"the kernel is {kh}×{kw}; Winograd's transforms here are for 3×3")
        if (sh, sw) != (1, 1):
            reasons.append(f"the stride is {sh}×{sw}; its tiles are for stride 1")
        if (dh, dw) != (1, 1):
            reasons.append(f"the dilation is {dh}×{dw}; its tiles are for dilation 1")
        if dtype not in ("float32", "float64"):
            reasons.append(f"its transforms amplify rounding too much for {dtype}")
        if device != "cpu":
            reasons.append(f"its transforms are compiled for cpu, not for {device}")
        return reasons

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """Transformed kernels, or their gradient, and tiles before and after the products.

        Forward, every thread holds a strip of its own; two threads' are a block of the gradient's.
        """
        c_in, c_out = (padded(shape.channels // geometry.groups) for shape in (x, y))
        tiles = min(self._tiles(y), BLOCK)
        return (self.m + 2) ** 2 * (c_in * c_out + tiles * (c_in + c_out))

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """Products at 150 GFLOP/s, 25 ns for each transform of a tile, and the kernels'."""
        c_out, tiles = y.channels // geometry.groups, self._tiles(y)
        products = 1.3e-11 * (self.m + 2) ** 2 * tiles * x.channels * padded(c_out)
        transforms = tiles * (x.channels + y.channels) + x.channels * c_out
        return products + 25e-9 * transforms

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """Transform tiles and kernels, multiply them summing over channels, transform back."""
        from runner.ops._winograd import strips

        top, _, left, _ = geometry.padding
        size = geometry.output_size((x.shape[2], x.shape[3]))
        return strips.correlate(x, weight, bias, (-top, -left), size, geometry.groups, self.m)

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """The same on the output's gradient, with kernels turned by 180° and channels exchanged."""
        from runner.ops._winograd import strips

        top, _, left, _ = geometry.padding
        turned = (
            weight.reshape(geometry.groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)
        )
        # A window of the gradient ends where the output's windows begin: 2 further up and left.
        corner = (top - 2, left - 2)
        return strips.correlate(
            grad, turned.flip(2, 3), None, corner, size, geometry.groups, self.m
        )

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """Products of transformed input and transformed gradient, summed, transformed back once."""
        from runner.ops._winograd import strips

        top, _, left, _ = geometry.padding
        return strips.weight_gradient(grad, x, (-top, -left), geometry.groups, self.m)

    def _tiles(self, y: Shape) -> int:
        return -(-y.height // self.m) * -(-y.width // self.m)


STRIP = 64
"""The most tiles that are transformed, multiplied and transformed back together."""

BLOCK = 2 * STRIP
"""The most tiles whose products are added to the weight gradient together."""

PAD = 32
"""Channels and tiles are multiplied in multiples of it."""


def padded(count: int) -> int:
    """Rounded up to a multiple of PAD."""
    return -(-count // PAD) * PAD
