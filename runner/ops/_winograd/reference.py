"""Minimal filtering as it is written on paper, in a few lines of torch.

Every transform is one matrix: vec(M d Mᵀ) = (M ⊗ M) vec(d). `strips` computes the same, faster;
tests hold the two together.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.geometry import Pair
from runner.ops._winograd.matrices import MATRICES, Matrix


def correlate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    corner: Pair,
    size: Pair,
    groups: int,
    m: int,
) -> Tensor:
    """Cross-correlate with 3×3 kernels.

    Args:
        x: n × c_in × h × w.
        weight: c_out × c_in / groups × 3 × 3.
        bias: c_out, or None.
        corner: row and column of the first window, (−1, −1) for a padding of one; zeros lie
            outside x.
        size: oh and ow of the output.
        groups: of channels.
        m: outputs of a tile along one axis, 2 or 4.

    Returns:
        n × c_out × oh × ow.
    """
    n, c_out = x.shape[0], weight.shape[0]
    rows, columns = -(-size[0] // m), -(-size[1] // m)
    per_group = weight.shape[1]
    kernels = _transform_kernels(weight, m).view((m + 2) ** 2, groups, -1, per_group)
    inputs = _transform_input(x, corner, (rows, columns), m, groups)
    products = (kernels @ inputs).flatten(1)
    tiles = _twice(MATRICES[m].output, x) @ products
    tiles = tiles.view(m, m, c_out, n, rows, columns).permute(3, 2, 4, 0, 5, 1)
    y: Tensor = tiles.reshape(n, c_out, rows * m, columns * m)[
        ..., : size[0], : size[1]
    ].contiguous()
    return y if bias is None else y + bias[:, None, None]


def weight_gradient(grad: Tensor, x: Tensor, corner: Pair, groups: int, m: int) -> Tensor:
    """The gradient with respect to the weight: Gᵀ [Σ (A g Aᵀ) ⊙ (Bᵀ d B)] G, summed over tiles.

    Args:
        grad: n × c_out × oh × ow.
        x: n × c_in × h × w.
        corner: row and column of the first window.
        groups: of channels.
        m: outputs of a tile along one axis, 2 or 4.

    Returns:
        c_out × c_in / groups × 3 × 3.
    """
    oh, ow = grad.shape[2:]
    rows, columns = -(-oh // m), -(-ow // m)
    inputs = _transform_input(x, corner, (rows, columns), m, groups)
    tiles = F.pad(grad, (0, columns * m - ow, 0, rows * m - oh)).unfold(2, m, m).unfold(3, m, m)
    tiles = tiles.permute(4, 5, 1, 0, 2, 3).reshape(m * m, -1)
    outputs = (_twice(MATRICES[m].output, x).T @ tiles).view(
        len(inputs), groups, -1, inputs.shape[3]
    )
    return _transform_back((outputs @ inputs.mT).flatten(1, 2), m)


def _transform_kernels(weight: Tensor, m: int) -> Tensor:
    """G g Gᵀ of every kernel: t² × c_out × c_in, from c_out × c_in × 3 × 3."""
    found = _twice(MATRICES[m].kernel, weight) @ weight.reshape(-1, 9).T
    return found.view(-1, *weight.shape[:2])


def _transform_back(products: Tensor, m: int) -> Tensor:
    """Gᵀ p G, the kernels' transform transposed: c_out × c_in × 3 × 3, from t² × c_out × c_in."""
    found = _twice(MATRICES[m].kernel, products).T @ products.flatten(1)
    return found.T.contiguous().view(*products.shape[1:], 3, 3)


def _transform_input(x: Tensor, corner: Pair, tiles: Pair, m: int, groups: int) -> Tensor:
    """Bᵀ d B of every tile of t × t inputs, m apart: t² × groups × c_in / groups × all tiles."""
    (top, left), (rows, columns), t = corner, tiles, m + 2
    bottom, right = top + rows * m + 2 - x.shape[2], left + columns * m + 2 - x.shape[3]
    padded = F.pad(x, (-left, right, -top, bottom))  # negative sides cut off
    taken = padded.unfold(2, t, m).unfold(3, t, m).permute(4, 5, 1, 0, 2, 3)
    found = _twice(MATRICES[m].input, x) @ taken.reshape(t * t, -1)
    return found.view(t * t, groups, x.shape[1] // groups, x.shape[0] * rows * columns)


def _twice(matrix: Matrix, like: Tensor) -> Tensor:
    """M ⊗ M, of the type of another."""
    one = torch.tensor(matrix, dtype=torch.float64)
    return torch.kron(one, one).to(like)
