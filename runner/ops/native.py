"""Torch's own operators: the yardstick for speed, and the default.

Torch pads evenly on both sides of an axis and by at most half a pooling window; where more is
asked for, the input is padded first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.geometry import ConvGeometry, Pair, PoolGeometry, Shape, elements
from runner.ops import ConvOp, PoolOp

if TYPE_CHECKING:
    from torch import Tensor


CALL = 4e-6
"""Seconds that a call takes before it computes."""

MULTIPLY_ADDS, COPIED, COPIED_LARGE, POOLED = 9e10, 2.5e9, 5e8, 3e8
"""Multiply-adds, numbers copied, and numbers pooled in a second on one core, as measured."""

LARGE = 2**23
"""Numbers from which on each copy gets memory anew from the system, page by page."""


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

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """Products at full speed, 16 channels at a time, and copies in and out of such blocks.

        The copies decide where there are few channels.
        """
        per_group = y.channels // geometry.groups
        # Depthwise, the 16 are channels of different groups.
        blocks = -(-y.channels // 16) if per_group == 1 else geometry.groups * -(-per_group // 16)
        window = x.channels // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
        products = 16 * blocks * y.height * y.width * window / MULTIPLY_ADDS
        copied = self.scratch(x, y, geometry)
        return CALL + products + copied / (COPIED if copied < LARGE else COPIED_LARGE)

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """One call, after padding by hand where the padding is uneven."""
        import torch.nn.functional as F

        x, padding = _padded(x, geometry)
        return F.conv2d(
            x, weight, bias, geometry.stride, padding, geometry.dilation, geometry.groups
        )

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """Torch's own, cut out of the padded input where the padding is uneven."""
        import torch

        # Only the shape counts; nothing of the size of an image is allocated for it.
        c_in = weight.shape[1] * geometry.groups
        x = grad.new_empty(1).expand(grad.shape[0], c_in, *size)
        x, padding = _padded(x, geometry)
        wanted = (True, False, False)
        window = (geometry.stride, padding, geometry.dilation, False, (0, 0), geometry.groups)
        found: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *window, wanted)[
            0
        ]
        if x.shape[2:] == size:
            return found
        top, _, left, _ = geometry.padding
        return found[:, :, top : top + size[0], left : left + size[1]].contiguous()

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """Torch's own, on the padded input where the padding is uneven."""
        import torch

        shape = (grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel)
        weight = grad.new_empty(1).expand(shape)
        x, padding = _padded(x, geometry)
        wanted = (False, True, False)
        window = (geometry.stride, padding, geometry.dilation, False, (0, 0), geometry.groups)
        found: Tensor = torch.ops.aten.convolution_backward(grad, x, weight, None, *window, wanted)[
            1
        ]
        return found


def _padded(x: Tensor, geometry: ConvGeometry) -> tuple[Tensor, Pair]:
    """The input, padded by hand where the padding is uneven, and what is left for torch to pad."""
    import torch.nn.functional as F

    top, bottom, left, right = geometry.padding
    if (top, left) == (bottom, right):
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


class NativePool(PoolOp):
    """`torch.nn.functional.max_pool2d`, `avg_pool2d` and their adaptive forms."""

    own_gradient = True

    def workspace(self, x: Shape, y: Shape, geometry: PoolGeometry) -> int:
        """A padded copy where torch can't pad."""
        if geometry.output is not None or _torch_pads(geometry):
            return 0
        (kh, kw), (sh, sw) = geometry.kernel, geometry.stride
        return x.channels * ((y.height - 1) * sh + kh) * ((y.width - 1) * sw + kw)

    def estimate(self, x: Shape, y: Shape, geometry: PoolGeometry) -> float:
        """Number by number, where channels aren't last."""
        (kh, kw), adaptive = geometry.kernel, geometry.output is not None
        looked_at = elements(x) if adaptive else elements(y) * kh * kw
        return CALL + looked_at / POOLED

    def indices(self, mode: str, geometry: PoolGeometry) -> str | None:
        """Torch's, of the extreme's place in the padded input."""
        return None if mode == "avg" else "int64"

    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """One call; a minimum is the negated maximum of the negated input."""
        import torch.nn.functional as F

        if mode != "avg":
            return self.forward_with_indices(x, mode, geometry)[0]
        if geometry.output is not None:
            return F.adaptive_avg_pool2d(x, geometry.output)
        kernel, stride, (top, _, left, _) = geometry.kernel, geometry.stride, geometry.padding
        if _torch_pads(geometry):
            ceil, count = geometry.ceil_mode, geometry.count_include_pad
            return F.avg_pool2d(x, kernel, stride, (top, left), ceil, count)
        size = (x.shape[2], x.shape[3])
        # Sums of half-precision numbers can exceed what half precision holds.
        wide = x.float() if x.element_size() < 4 else x
        sums = F.avg_pool2d(F.pad(wide, _sides(size, geometry)), kernel, stride, divisor_override=1)
        return (sums / _counts(wide, size, geometry)).to(x.dtype)

    def forward_with_indices(
        self, x: Tensor, mode: str, geometry: PoolGeometry
    ) -> tuple[Tensor, Tensor]:
        """One call; a minimum is the negated maximum of the negated input."""
        import torch.nn.functional as F

        if mode == "min":
            y, indices = self.forward_with_indices(-x, "max", geometry)
            return -y, indices
        if geometry.output is not None:
            return F.adaptive_max_pool2d_with_indices(x, geometry.output)
        kernel, stride, (top, _, left, _) = geometry.kernel, geometry.stride, geometry.padding
        if _torch_pads(geometry):
            ceil = geometry.ceil_mode
            return F.max_pool2d_with_indices(x, kernel, stride, (top, left), ceil_mode=ceil)
        size = (x.shape[2], x.shape[3])
        sides = _sides(size, geometry)
        padded = F.pad(x, sides, value=-float("inf"))
        indices = F.max_pool2d_with_indices(padded.detach(), kernel, stride)[1]
        # Not what torch gives beside them: its gradient would go to padding, where that ties.
        indices = _inside(indices, padded.shape[3], sides, size)
        return padded.flatten(2).gather(2, indices.flatten(2)).view_as(indices), indices

    def input_gradient(
        self,
        grad: Tensor,
        x: Tensor | None,
        indices: Tensor | None,
        size: Pair,
        mode: str,
        geometry: PoolGeometry,
    ) -> Tensor:
        """Torch's own, cut out of the padded input where torch can't pad."""
        import torch

        aten: Any = torch.ops.aten  # torch leaves its operators untyped
        kernel, stride = geometry.kernel, geometry.stride
        found: Tensor
        left, right, top, bottom = 0, 0, 0, 0
        padding, ceil, pads = geometry.padding[::2], geometry.ceil_mode, _torch_pads(geometry)
        if geometry.output is None and not pads:
            (left, right, top, bottom), padding, ceil = _sides(size, geometry), (0, 0), False
        h, w = size[0] + top + bottom, size[1] + left + right
        # Only its shape counts.
        like = grad.new_empty(1).expand(*grad.shape[:2], h, w)
        if mode != "avg":
            if geometry.output is not None:
                found = aten.adaptive_max_pool2d_backward(grad, like, indices)
                return found
            found = aten.max_pool2d_with_indices_backward(
                grad.contiguous(), like, kernel, stride, padding, (1, 1), ceil, indices
            )
        elif geometry.output is not None:
            found = aten._adaptive_avg_pool2d_backward(grad, like)
        else:
            count, divisor = geometry.count_include_pad, None
            if not pads:
                grad, divisor = grad / _counts(grad, size, geometry), 1
            found = aten.avg_pool2d_backward(
                grad, like, kernel, stride, padding, ceil, count, divisor
            )
        if (h, w) == tuple(size):
            return found
        # Negative sides cut off what no window reaches: there the gradient is zero.
        return torch.nn.functional.pad(found, (-left, -right, -top, -bottom))


def _torch_pads(geometry: PoolGeometry) -> bool:
    """Whether torch's own pooling can pad like this: evenly, and by at most half a window."""
    (kh, kw), (top, bottom, left, right) = geometry.kernel, geometry.padding
    return (top, left) == (bottom, right) and 2 * top <= kh and 2 * left <= kw


def _sides(size: Pair, geometry: PoolGeometry) -> tuple[int, int, int, int]:
    """Left, right, top, bottom: exactly what the windows need; negative where they leave a rest."""
    oh, ow = geometry.output_size(size)
    (kh, kw), (sh, sw), (top, _, left, _) = geometry.kernel, geometry.stride, geometry.padding
    down, across = (oh - 1) * sh + kh - top - size[0], (ow - 1) * sw + kw - left - size[1]
    return left, across, top, down


def _inside(indices: Tensor, width: int, sides: tuple[int, int, int, int], size: Pair) -> Tensor:
    """Places in the padded input, moved into the image.

    The padding wins where all of a window is −∞, at the window's first place; the image's first
    place in that window is the one nearest to it.
    """
    (left, _, top, _), (h, w) = sides, size
    rows = indices.div(width, rounding_mode="floor").clamp(top, top + h - 1)
    return rows * width + (indices % width).clamp(left, left + w - 1)


def _counts(like: Tensor, size: Pair, geometry: PoolGeometry) -> Tensor:
    """What each average divides by: oh × ow."""
    rows, columns = (
        like.new_tensor([count for _, _, count in geometry.windows(size, axis)]) for axis in (0, 1)
    )
    return rows[:, None] * columns
