"""How far rounding is likely to move a stack's outputs: what is closer than that counts as equal.

An estimate for any stack, layer by layer, close enough to tell rounding from a real difference.
Where a stated bound must hold for every input, take `runner.tasks._error_bound`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod, sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn

MARGIN = 4
"""Two results differ by more than twice their error, and of many differences one is the largest."""


def estimates(model: nn.Sequential, x: Tensor, peaks: Sequence[float]) -> list[float]:
    """About the largest difference that rounding explains: of the input, of each layer's output.

    Rounding errors are as good as random (Higham & Mary 2019, "A new approach to probabilistic
    rounding error analysis"): a sum of n products with weights w is off by about √n · eps · ‖w‖ ·
    max|x|, and what comes in wrong goes out wrong by ‖w‖ times as much, or by as much more as the
    layer's numbers themselves.

    Args:
        model: the stack.
        x: its input.
        peaks: the largest magnitude of each layer's output for it.
    """
    import torch

    eps, peak = torch.finfo(x.dtype).eps, float(x.abs().max())
    error = eps * peak
    found = [MARGIN * error]
    for layer, largest in zip(model, peaks, strict=True):
        rows = [p.detach().double().flatten(1) for p in layer.parameters() if p.ndim > 1]
        gain = prod(float(row.norm(dim=1).max()) for row in rows)
        gain = max(gain, largest / peak if peak else 0.0)
        terms = 1 + sum(row.shape[1] for row in rows)
        error = gain * (error + sqrt(terms) * eps * peak) + eps * largest
        peak = largest
        found.append(MARGIN * error)
    return found
