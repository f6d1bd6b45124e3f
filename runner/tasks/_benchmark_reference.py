"""What a case must give: torch's own operators in double precision, on the very same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.geometry import ConvGeometry
from runner.tasks._verify_case import FORWARD, INPUT, Case
from runner.tasks._verify_reference import computed

if TYPE_CHECKING:
    from torch import Tensor

BAND = 2**26
"""Bytes of windows that torch lays out at a time."""


def reference(
    module: Any, x: Tensor, grad: Tensor, gradients: bool
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Output and gradients of a layer.

    Args:
        module: a conv or pool layer.
        x: its input.
        grad: the gradient with respect to the output.
        gradients: whether they are asked for.

    Returns:
        Those by the names of `runner.tasks._verify_case`, on the device unless that has no double
        precision; and by the same names, how many numbers are added up for one of theirs.
    """
    import torch

    wide = "cpu" if x.device.type == "mps" else x.device
    case = Case.of(module.to(wide, torch.float64), x.to(wide).double(), grad.to(wide).double())
    whole = case.weight is None
    results = computed(case, "native", gradients) if whole else _conv(case, gradients)
    return results, case.terms()


def _conv(case: Case, gradients: bool) -> dict[str, Tensor]:
    """A convolution band by band: in double precision, torch lays out every window."""
    import torch
    import torch.nn.functional as F

    whole, mode = case.geometry, str(case.module.pad_mode)
    top, bottom, left, right = whole.padding
    x = case.x.detach().requires_grad_()
    with torch.enable_grad():
        sides = (left, right, top, bottom)
        padded = F.pad(x, sides, "constant" if mode == "zeros" else mode) if any(sides) else x + 0
    bare = ConvGeometry(whole.kernel, whole.stride, (0, 0, 0, 0), whole.dilation, whole.groups)
    found: dict[str, Tensor] = {}
    outputs, to_input = [], torch.zeros_like(padded, requires_grad=False)
    for start, stop in _bands(case):
        rows = slice(start * whole.stride[0], (stop - 1) * whole.stride[0] + whole.extent[0])
        band = replace(
            case, geometry=bare, x=padded.detach()[:, :, rows], grad=case.grad[:, :, start:stop]
        )
        results = computed(band, "native", gradients)
        outputs.append(results.pop(FORWARD))
        if gradients:
            to_input[:, :, rows] += results.pop(INPUT)
        for name, part in results.items():
            found[name] = found[name] + part if name in found else part
    found[FORWARD] = torch.cat(outputs, dim=2)
    if gradients:
        (found[INPUT],) = torch.autograd.grad(padded, x, to_input)
    return found


def _bands(case: Case) -> Iterator[tuple[int, int]]:
    """Rows of the output, from and to, whose windows take `BAND` bytes."""
    n, channels, height, width = case.grad.shape[0], case.x.shape[1], *case.grad.shape[2:]
    kh, kw = case.geometry.kernel
    step = max(1, BAND // (8 * n * channels * kh * kw * width))
    for start in range(0, height, step):
        yield start, min(start + step, height)
