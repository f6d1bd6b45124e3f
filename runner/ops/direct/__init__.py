"""The loops of `loops`, compiled: Numba on the CPU, Triton on CUDA.

Nothing is rearranged beforehand: every output is summed up where it stands, from input that is
read in order. That is the fastest way for one or few channels and for pooling, where the work is
little and moving data is what takes the time; with many channels matrix products win.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from runner.geometry import ConvGeometry, Pair, PoolGeometry, Shape, elements
from runner.ops import ConvOp, PoolOp
from runner.ops.direct import bands

if TYPE_CHECKING:
    from torch import Tensor


class DirectConv(ConvOp):
    """Cross-correlation, position by position."""

    def unsupported(self, geometry: ConvGeometry, dtype: str, device: str) -> list[str]:
        """Needs a device that Numba or Triton compile for, and its types of number."""
        return _unsupported(dtype, device)

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """On the CPU, a band of padded input, and a band or a row of sums."""
        ins, width = x.channels // geometry.groups, bands.width(y.width, geometry)
        rows = bands.rows(ins, y.height, y.width, geometry)
        span = (rows - 1) * geometry.stride[0] + geometry.extent[0]
        return any(geometry.padding) * ins * span * width + max(rows * width, 3 * y.width)

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """Multiply-adds at the rate of their loops, and each number moved once."""
        ins = x.channels // geometry.groups
        products = elements(y) * ins * geometry.kernel[0] * geometry.kernel[1]
        return bands.seconds(products, elements(x) + elements(y), ins, geometry)

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """Each output is the sum of a window times the kernel."""
        if x.is_cuda:
            from runner.ops.direct import triton_conv

            return triton_conv.forward(x, weight, bias, geometry)
        from runner.ops.direct import numba_conv

        return numba_conv.forward(x, weight, bias, geometry)

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """Each input sums up what its windows hand back to it."""
        if grad.is_cuda:
            from runner.ops.direct import triton_conv

            return triton_conv.input_gradient(grad, weight, size, geometry)
        from runner.ops.direct import numba_conv

        return numba_conv.input_gradient(grad, weight, size, geometry)

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """Each weight sums up the products of its pairs of input and output gradient."""
        if grad.is_cuda:
            from runner.ops.direct import triton_conv

            return triton_conv.weight_gradient(grad, x, geometry)
        from runner.ops.direct import numba_conv

        return numba_conv.weight_gradient(grad, x, geometry)


class DirectPool(PoolOp):
    """Pooling, position by position."""

    def unsupported(self, geometry: PoolGeometry, mode: str, dtype: str, device: str) -> list[str]:
        """As the convolution's."""
        return _unsupported(dtype, device)

    def workspace(self, x: Shape, y: Shape, geometry: PoolGeometry) -> int:
        """The places of the extremes, in numbers of four bytes."""
        small = self.indices("max", geometry) == "uint8"
        return -(-elements(y) // 4) if small else 2 * elements(y)

    def estimate(self, x: Shape, y: Shape, geometry: PoolGeometry) -> float:
        """Reading the input, once more where windows overlap down, and each window across."""
        if geometry.output is not None:
            return 2e-10 * elements(x)
        (kh, kw), (sh, sw) = geometry.kernel, geometry.stride
        # Vectorised for these steps; elsewhere the places in a window are taken one by one.
        each = 5e-11 if sw == 1 or (sw == 2 and kw <= 3) else 5e-10
        return 1e-10 * elements(x) * (1 + kh / sh) + each * kw * elements(y)

    def indices(self, mode: str, geometry: PoolGeometry) -> str | None:
        """The place in the window, row by row; a byte where the window has at most 256 places."""
        if mode == "avg":
            return None
        small = geometry.output is None and geometry.kernel[0] * geometry.kernel[1] <= 256
        return "uint8" if small else "int64"

    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """Each output is the largest, smallest or mean number of a window."""
        if x.is_cuda:
            from runner.ops.direct import triton_pool

            return triton_pool.forward(x, mode, geometry)
        from runner.ops.direct import numba_pool

        return numba_pool.forward(x, mode, geometry)

    def forward_with_indices(
        self, x: Tensor, mode: str, geometry: PoolGeometry
    ) -> tuple[Tensor, Tensor]:
        """As `forward`, with the place of each extreme."""
        if x.is_cuda:
            from runner.ops.direct import triton_pool

            return triton_pool.forward_with_indices(x, mode, geometry)
        from runner.ops.direct import numba_pool

        return numba_pool.forward_with_indices(x, mode, geometry)

    def input_gradient(
        self,
        grad: Tensor,
        x: Tensor | None,
        indices: Tensor | None,
        size: Pair,
        mode: str,
        geometry: PoolGeometry,
    ) -> Tensor:
        """An average shares its gradient out evenly; an extreme gives it to where it was found."""
        if grad.is_cuda:
            from runner.ops.direct import triton_pool

            return triton_pool.input_gradient(grad, x, indices, size, mode, geometry)
        from runner.ops.direct import numba_pool

        return numba_pool.input_gradient(grad, x, indices, size, mode, geometry)


def _unsupported(dtype: str, device: str) -> list[str]:
    """What the compilers lack."""
    if device == "cuda":
        return [] if find_spec("triton") else ["on CUDA it needs Triton: pip install triton"]
    if device != "cpu":
        return [f"it is compiled for cpu and cuda, not for {device}"]
    if dtype not in ("float32", "float64"):
        return [f"Numba, which compiles it for the CPU, has no {dtype}"]
    return []
