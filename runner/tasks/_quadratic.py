"""The squared error of one conv layer is quadratic in its weights; how steep it is decides.

With a row of P per window of the input, the output is P·w, and the sum of squared errors
‖P(w − w*)‖² has the Hessian H = 2·PᵀP everywhere. Gradient descent multiplies the error w − w*
along each eigenvector of H by 1 − lr·λ per step (Goodfellow, Bengio & Courville, Deep Learning,
4.3; Goh, Why Momentum Really Works, 2017), so it shrinks as long as lr < 2/λmax.

Groups don't share weights, so each has its own block of H. Output channels don't either, but they
see the same windows: one block serves all channels of a group. Everything here is in double
precision on the CPU, and takes bounded memory whatever the images' size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.geometry import Shape, elements
from runner.plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from runner.layers.conv import Conv

DENSE = 512
"""Weights per output up to which the Hessian is made as a matrix."""
PATCHES = 2**22
"""Numbers in windows that are laid out at once: 32 MiB."""
STEPS = 40
"""Products with the Hessian that are taken, at most, to find its ends without the matrix."""
CLOSE = 1e-9
"""Relative residual at which an eigenvalue counts as found."""


@dataclass(frozen=True)
class Curvature:
    """The Hessian of a sum of squared errors, by its eigenvectors.

    Attributes:
        values: groups × modes eigenvalues, ascending.
        vectors: groups × weights × modes; a bias is the last weight.
        matrix: groups × weights × weights; None where it would be too large. The modes are then
            the flattest and the steepest alone, and the flattest is an upper bound.
    """

    values: Tensor
    vectors: Tensor
    matrix: Tensor | None


def curvature(x: Tensor, layer: Conv, shape: Shape, dense: int = DENSE) -> Curvature:
    """The Hessian of the sum of squared errors of one conv layer.

    Args:
        x: n × c × h × w.
        layer: the layer.
        shape: of one image.
        dense: weights per output up to which all of it is found.
    """
    import torch

    weights = _weights(layer, shape)
    if weights <= dense:
        matrix = _matrix(x, layer, shape)
        values, vectors = torch.linalg.eigh(matrix)
        return Curvature(values.clamp(min=0), vectors, matrix)  # PᵀP has none below zero
    values, vectors = lanczos(
        lambda v: _product(x, layer, shape, v), layer.geometry(shape).groups, weights
    )
    ends = [0, values.shape[1] - 1]
    return Curvature(values[:, ends].clamp(min=0), vectors[:, :, ends], None)


def stable_learning_rate(
    x: Tensor, layer: Conv, plan: Plan, reduction: str, weight_decay: float = 0.0
) -> float:
    """2/λmax of the Hessian of the squared error of one conv layer.

    Args:
        x: n × c × h × w.
        layer: the layer.
        plan: of the stack of that one layer.
        reduction: ``sum`` or ``mean`` of the squared errors.
        weight_decay: adds as much to every eigenvalue.

    Returns:
        The learning rate above which plain gradient descent diverges.
    """
    shape = plan.input
    groups, weights = layer.geometry(shape).groups, _weights(layer, shape)
    values, _ = lanczos(lambda v: _product(x, layer, shape, v), groups, weights, both_ends=False)
    largest = float(values.max()) / share(plan, len(x), reduction) + weight_decay
    return 2 / largest if largest > 0 else float("inf")


def share(plan: Plan, images: int, reduction: str) -> int:
    """What the sum of squared errors is divided by."""
    return images * elements(plan.output) if reduction == "mean" else 1


def _weights(layer: Conv, shape: Shape) -> int:
    """Weights of one output channel, its bias included."""
    geometry = layer.geometry(shape)
    kernel = shape.channels // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
    return kernel + layer.has_bias


def _matrix(x: Tensor, layer: Conv, shape: Shape) -> Tensor:
    """2·PᵀP, groups × weights × weights, added up strip by strip."""
    import torch

    groups, weights = layer.geometry(shape).groups, _weights(layer, shape)
    total = torch.zeros(groups, weights, weights, dtype=torch.float64)
    for patches in _patches(x, layer, shape):
        total += 2 * torch.einsum("ngal,ngbl->gab", patches, patches)
    return total


def _patches(x: Tensor, layer: Conv, shape: Shape) -> Iterator[Tensor]:
    """The windows of some images, or of some rows of one: images × groups × weights × windows."""
    import torch
    import torch.nn.functional as F

    geometry = layer.geometry(shape)
    top, bottom, left, right = geometry.padding
    mode = "constant" if layer.pad_mode == "zeros" else layer.pad_mode
    oh, ow = geometry.output_size(shape.size)
    in_row = shape.channels * geometry.kernel[0] * geometry.kernel[1] * ow
    images, rows = max(1, PATCHES // (in_row * oh)), min(oh, max(1, PATCHES // in_row))
    for i in range(0, len(x), images):
        batch = x[i : i + images]
        padded = F.pad(batch.cpu().double(), (left, right, top, bottom), mode=mode)
        for first in range(0, oh, rows):
            start, count = first * geometry.stride[0], min(rows, oh - first)
            stop = start + (count - 1) * geometry.stride[0] + geometry.extent[0]
            strip = padded[:, :, start:stop]
            windows = F.unfold(strip, geometry.kernel, geometry.dilation, 0, geometry.stride)
            patches = windows.reshape(len(batch), geometry.groups, -1, windows.shape[2])
            if layer.has_bias:
                patches = torch.cat([patches, torch.ones_like(patches[:, :, :1])], dim=2)
            yield patches


def _product(x: Tensor, layer: Conv, shape: Shape, v: Tensor) -> Tensor:
    """H·v without H, groups × weights: the gradient of ‖P·v‖², by the convolution itself."""
    import torch

    from runner.autograd import convolve
    from runner.ops import conv_op

    geometry, native = layer.geometry(shape), conv_op("native")
    v = v.detach().requires_grad_()
    kernel = v[:, : v.shape[1] - layer.has_bias].reshape(geometry.groups, -1, *geometry.kernel)
    bias = v[:, -1] if layer.has_bias else None
    total = torch.zeros_like(v)
    images = max(1, PATCHES // elements(shape))
    for i in range(0, len(x), images):
        batch = x[i : i + images].cpu().double()
        y = convolve(native, batch, kernel, bias, geometry, layer.pad_mode)
        total += torch.autograd.grad((y**2).sum(), v, retain_graph=True)[0]
    return total


def lanczos(
    product: Callable[[Tensor], Tensor],
    groups: int,
    size: int,
    steps: int = STEPS,
    both_ends: bool = True,
) -> tuple[Tensor, Tensor]:
    """Eigenvalues of symmetric matrices that can only be multiplied; the outer ones come first.

    Every vector is made orthogonal to all before it, without which rounding finds some
    eigenvalues twice (Golub & Van Loan, Matrix Computations, 4th ed., 10.1 and 10.3).

    Args:
        product: multiplies groups × size vectors by their matrices.
        groups: how many matrices.
        size: of each.
        steps: products to take, at most.
        both_ends: go on until the smallest eigenvalue is found too, not only the largest.

    Returns:
        Ritz values, groups × taken, ascending, each within the true eigenvalues' range; and Ritz
        vectors, groups × size × taken.
    """
    import torch

    generator = torch.Generator().manual_seed(0)

    def unit(w: Tensor) -> Tensor:
        length: Tensor = w.norm(dim=1, keepdim=True)
        return w / length

    def draw() -> Tensor:
        return torch.randn(groups, size, generator=generator, dtype=torch.float64)

    basis, v = torch.empty(groups, 0, size, dtype=torch.float64), unit(draw())
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    for _ in range(min(steps, size)):
        basis = torch.cat([basis, v[:, None]], dim=1)
        w = product(v)
        diagonal.append((v * w).sum(dim=1))
        w = _orthogonal(w, basis)
        length = w.norm(dim=1)
        tridiagonal = torch.diag_embed(torch.stack(diagonal, dim=1))
        for i, entry in enumerate(beside):
            tridiagonal[:, i, i + 1] = tridiagonal[:, i + 1, i] = entry
        values, inner = torch.linalg.eigh(tridiagonal)
        # ‖A·v − λ·v‖ of a Ritz vector is what leads out of the basis.
        residual = length[:, None] * inner[:, -1].abs()
        wanted = residual[:, [0, -1]] if both_ends else residual[:, -1:]
        largest = values.abs().amax(dim=1, keepdim=True)
        if (wanted <= CLOSE * largest).all():
            break
        # Where nothing leads out of the basis but rounding, go on in a direction of one's own.
        stuck = length[:, None] <= 1e-12 * largest
        beside.append(length * ~stuck[:, 0])
        v = unit(torch.where(stuck, _orthogonal(draw(), basis), w))
    return values, torch.einsum("gks,gkm->gsm", basis, inner)


def _orthogonal(w: Tensor, basis: Tensor) -> Tensor:
    """`w`, groups × size, without its parts along the basis, groups × vectors × size."""
    import torch

    for _ in range(2):  # the second time takes what rounding left
        along: Tensor = torch.einsum("gks,gs->gk", basis, w)
        w = w - torch.einsum("gks,gk->gs", basis, along)
    return w
