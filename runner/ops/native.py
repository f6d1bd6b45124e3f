"""Torch's own operators: the yardstick for speed, and the default.

Torch pads evenly on both sides of an axis and by at most half a pooling window; where more is
asked for, the input is padded first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.geometry import ConvGeometry, PoolGeometry, Shape
from runner.ops import ConvOp, PoolOp

if TYPE_CHECKING:
    from torch import Tensor


class NativeConv(ConvOp):
    """`torch.nn.functional.conv2d`."""

    own_gradient = True

    def workspace(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """A padded copy where the padding is uneven."""
        top, bottom, left, right = geometry.padding
        uneven = top != bottom or left != right
        return uneven * x.channels * (x.height + top + bottom) * (x.width + left + right)

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """On the CPU, copies in which channels are filled up to blocks of 16."""
        blocked_in = 0 if x.channels == 1 else -(-x.channels // 16) * 16 * x.height * x.width
        return blocked_in + -(-y.channels // 16) * 16 * y.height * y.width

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """One call, after padding by hand where the padding is uneven."""
        import torch.nn.functional as F

        top, bottom, left, right = geometry.padding
        padding = (top, left)
        if top != bottom or left != right:
            x, padding = F.pad(x, (left, right, top, bottom)), (0, 0)
        return F.conv2d(
            x, weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups
        )


class NativePool(PoolOp):
    """`torch.nn.functional.max_pool2d`, `avg_pool2d` and their adaptive forms."""

    own_gradient = True

    def workspace(self, x: Shape, y: Shape, geometry: PoolGeometry) -> int:
        """A padded copy where torch can't pad."""
        if geometry.output is not None or _torch_pads(geometry):
            return 0
        (kh, kw), (sh, sw) = geometry.kernel, geometry.stride
        return x.channels * ((y.height - 1) * sh + kh) * ((y.width - 1) * sw + kw)

    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """One call; a minimum is the negated maximum of the negated input."""
        if mode == "min":
            return -self._pool(-x, "max", geometry)
        return self._pool(x, mode, geometry)

    def _pool(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        import torch.nn.functional as F

        if geometry.output is not None:
            adaptive = F.adaptive_max_pool2d if mode == "max" else F.adaptive_avg_pool2d
            return adaptive(x, geometry.output)
        if not _torch_pads(geometry):
            return self._pad_and_pool(x, mode, geometry)
        kernel, stride, (top, _, left, _) = geometry.kernel, geometry.stride, geometry.padding
        if mode == "max":
            return F.max_pool2d(x, kernel, stride, (top, left), ceil_mode=geometry.ceil_mode)
        return F.avg_pool2d(
            x, kernel, stride, (top, left), geometry.ceil_mode, geometry.count_include_pad
        )

    def _pad_and_pool(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        import torch.nn.functional as F

        h, w = x.shape[2], x.shape[3]
        oh, ow = geometry.output_size((h, w))
        (kh, kw), (sh, sw), (top, _, left, _) = geometry.kernel, geometry.stride, geometry.padding
        # Exactly what the windows need at the end; negative cuts off rows that no window reaches.
        sides = (left, (ow - 1) * sw + kw - left - w, top, (oh - 1) * sh + kh - top - h)
        if mode == "max":
            return F.max_pool2d(F.pad(x, sides, value=-float("inf")), (kh, kw), (sh, sw))
        # Sums of half-precision numbers can exceed what half precision holds.
        wide = x.float() if x.element_size() < 4 else x
        sums = F.avg_pool2d(F.pad(wide, sides), (kh, kw), (sh, sw), divisor_override=1)
        rows = wide.new_tensor([count for _, _, count in geometry.windows((h, w), 0)])
        columns = wide.new_tensor([count for _, _, count in geometry.windows((h, w), 1)])
        return (sums / (rows[:, None] * columns)).to(x.dtype)


def _torch_pads(geometry: PoolGeometry) -> bool:
    """Whether torch's own pooling can pad like this: evenly, and by at most half a window."""
    (kh, kw), (top, bottom, left, right) = geometry.kernel, geometry.padding
    return (top, left) == (bottom, right) and 2 * top <= kh and 2 * left <= kw
