"""How far from the exact result rounding can take a stack, at the very most.

A sum of n products computed in any order is off by at most γₙ·Σ|w||x|, where γₙ = n·u / (1 − n·u)
and u is half the distance from 1 to the next number (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed. 2002, section 3.1). Bounds of layers in a row combine: their n add up (lemma
3.3), and the magnitudes Σ|w||x| are what the same stack gives with absolute weights for absolute
input. So one pass in double precision bounds the error of every output.

That holds for sums of products: transforms (FFT, Winograd) take their own paths and can be worse.
It is many times what rounding usually does, and known for some layers only; to tell rounding from
a difference after any layer, take `runner.tasks._rounding`.
"""

from __future__ import annotations

from dataclasses import replace
from math import log, prod
from typing import TYPE_CHECKING

from runner.config.errors import problem
from runner.geometry import Shape, adaptive_extent
from runner.ops import Ops
from runner.plan import Row
from runner.tasks import Run

if TYPE_CHECKING:
    from torch import Tensor, nn

    from runner.modules import Pool2d

FUNCTION_TERMS = 8
"""Roundings that an elementary function counts for: libraries are within a few units."""


def output_bound(run: Run) -> Tensor:
    """The most that each output can be off: n × …, in double precision on the CPU.

    Raises:
        ConfigError: a layer of unknown rounding, or a precision too low for so many terms.
    """
    import torch

    model, terms = _absolute(run)
    with torch.no_grad():
        magnitudes: Tensor = model(_magnitude(run))
    return _gamma(run, terms) * magnitudes


def gradient_bound(run: Run, functional: Tensor) -> Tensor:
    """The most that the gradient of Σ functional · output with respect to the input can be off.

    Layers must be piecewise linear, and no input at a kink: a tie between two maxima, or a zero
    before a relu, decides by its last digit where the gradient goes.

    Args:
        run: the stack and the data.
        functional: one number per output, n × outputs.

    Raises:
        ConfigError: as `output_bound`.
    """
    import torch

    model, terms = _absolute(run, gradient=True)
    x = _magnitude(run).requires_grad_()
    total = (model(x).flatten(1) * functional.cpu().double().abs()).sum()
    return _gamma(run, terms) * torch.autograd.grad(total, x)[0]


def _magnitude(run: Run) -> Tensor:
    return run.x.cpu().double().abs()


def _gamma(run: Run, terms: int) -> float:
    import torch

    n = terms * torch.finfo(getattr(torch, run.dtype)).eps / 2
    if n >= 1:
        raise problem(
            "task.bound",
            "a number",
            "auto",
            f"{terms:,} roundings in {run.dtype} can take an output anywhere.",
        )
    return n / (1 - n)


def _absolute(run: Run, gradient: bool = False) -> tuple[nn.Module, int]:
    """The stack with absolute weights in double precision, and how many roundings to count."""
    import torch

    model = run.stack.build(run.plan, Ops(), torch.Generator()).double().eval()
    model.load_state_dict(run.model.state_dict())
    model.requires_grad_(False)
    terms = 1  # of the input itself
    for row in run.plan.walk():
        if row.inner:
            terms += 1  # branches are added
            continue
        module = model.get_submodule(row.name)
        for parameter in module.parameters():
            parameter.abs_()
        bounding, more = _bounding(module, row, gradient)
        parent, _, name = row.name.rpartition(".")
        setattr(model.get_submodule(parent), name, bounding)
        terms += more
    return model, terms


def _bounding(module: nn.Module, row: Row, gradient: bool) -> tuple[nn.Module, int]:
    """A module that gives at least the magnitudes of this one's output, and its roundings.

    Each output counts its products, its bias and the rounding of the weights themselves.
    """
    from torch import nn

    from runner.modules import Conv2d, Pool2d

    match module:
        case Conv2d():
            # Going back, the sums run over the outputs that an input has a part in.
            outputs = module.weight.shape[0] // module.geometry.groups
            inputs, *kernel = module.weight.shape[1:]
            return module, (outputs if gradient else inputs) * prod(kernel) + 2
        case nn.Linear():
            outputs, inputs = module.weight.shape
            return module, (outputs if gradient else inputs) + 2
        case Pool2d():
            return _bounding_pool(module, row, gradient)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if module.running_mean is not None:
                module.running_mean.abs_().neg_()  # it is subtracted
            return module, FUNCTION_TERMS
        case nn.Flatten() | nn.Dropout():
            return module, 0
        case nn.Identity() | nn.ReLU():
            return nn.Identity(), 0
    slope, offset = _line(module, row)
    line = nn.Identity()
    line.register_forward_hook(lambda *given: offset + slope * given[-1])
    return line, FUNCTION_TERMS


def _bounding_pool(module: Pool2d, row: Row, gradient: bool) -> tuple[nn.Module, int]:
    """An average counts its sum. A minimum is at most the largest magnitude of its window.

    A gradient may go to any number of a window; adding all up counts with that.
    """
    from runner.modules import Pool2d

    geometry, x = module.geometry, row.input
    window = geometry.kernel
    if geometry.output is not None and isinstance(x, Shape):
        down, across = geometry.output
        window = (adaptive_extent(x.height, down), adaptive_extent(x.width, across))
    size = prod(window)
    if module.mode == "avg":
        return module, size + 1
    if not gradient:
        return Pool2d("max", geometry, "native"), 0
    total = Pool2d("avg", replace(geometry, count_include_pad=True), "native")
    total.register_forward_hook(lambda *given: size * given[-1])
    return total, size


def _line(module: nn.Module, row: Row) -> tuple[float, float]:
    """Slope and offset of a line that no magnitude and no slope of an activation exceeds.

    Raises:
        ConfigError: it isn't an activation that is known here.
    """
    from torch import nn

    match module:
        case nn.ELU() | nn.Tanh():
            return 1, 0
        case nn.LeakyReLU():
            return max(1, module.negative_slope), 0
        case nn.GELU():
            return 1.13, 0  # its steepest slope, at √2
        case nn.SiLU():
            return 1.1, 0  # … at 2.4
        case nn.Sigmoid():
            return 0.25, 0.5
        case nn.Softplus():
            return 1, log(2)
    raise problem(
        "task.bound",
        "a number",
        "auto",
        f"How {row.path} (kind {row.kind}) rounds is not known here.",
    )
