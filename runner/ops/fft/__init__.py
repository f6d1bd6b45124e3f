"""Sums over windows as products of spectra: the correlation theorem.

The discrete Fourier transform of a cross-correlation is X · conj(W), the input's spectrum times
the conjugate of the kernel's, frequency by frequency. Transforms take n log n steps (Cooley and
Tukey 1965), however large the kernel is; layers computed so: Mathieu, Henaff and LeCun 2013,
"Fast Training of Convolutional Networks through FFTs".

Errors are relative to the largest sums of a tile, not to each output: where a kernel cancels most
of a bright image, what is left has fewer digits. A NaN or an infinity turns into NaN all that is
transformed together with it: its tile, or the whole image. So do numbers whose sum over a tile
exceeds the type, from about 1e35 in single precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from runner.geometry import ConvGeometry, Pair, Shape
from runner.ops import ConvOp, Gate, Operator
from runner.ops.fft.tiles import Correlation, Phases, Tile, best_tile

if TYPE_CHECKING:
    from torch import Tensor


class FftConv(ConvOp):
    """Cross-correlation by real transforms, tile by tile."""

    sums: bool = False
    gates: ClassVar[dict[str, Gate]] = {**Operator.gates, "float32": Gate(2e-6, 2e-6)}

    def unsupported(self, geometry: ConvGeometry, dtype: str, device: str) -> list[str]:
        """Torch's transforms of other devices are not relied on."""
        if device not in ("cpu", "cuda"):
            return [f"it is made for cpu and cuda, not for {device}"]
        return []

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """A padded copy, and the spectra of a tile and of the kernels."""
        h, w = Phases.of(geometry, x.size).padded
        return x.channels * h * w + _tile(x, y, geometry).numbers

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """The transforms of all tiles and of the kernels, and the products between them."""
        return _tile(x, y, geometry).seconds

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """Correlate the input with the kernels."""
        from runner.ops.fft import spectra

        y = spectra.forward(x, weight, geometry)
        return y if bias is None else y.add_(bias[:, None, None])

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """Correlate the output's gradient, with zeros around it, with the flipped kernels."""
        from runner.ops.fft import spectra

        return spectra.input_gradient(grad, weight, size, geometry)

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """Correlate the input with the output's gradient, as far as the kernel reaches."""
        from runner.ops.fft import spectra

        return spectra.weight_gradient(grad, x, geometry)


def _tile(x: Shape, y: Shape, geometry: ConvGeometry) -> Tile:
    phases, groups = Phases.of(geometry, x.size), geometry.groups
    inputs = x.channels // groups * phases.number[0] * phases.number[1]
    return best_tile(Correlation(y.size, phases.kernel, inputs, y.channels // groups, groups))
