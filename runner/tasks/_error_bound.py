"""How far from the exact result rounding can take a stack, at the very most.

A sum of n products computed in any order is off by at most γₙ·Σ|w||x|, where γₙ = n·u / (1 − n·u)
and u is half the distance from 1 to the next number (Higham, Accuracy and Stability of Numerical
Algorithms, 2nd ed. 2002, section 3.1). Bounds of layers in a row combine: their n add up (lemma
3.3), and the magnitudes Σ|w||x| are what the same stack gives with absolute weights for absolute
input. So one pass in double precision bounds the error of every output.

That holds for sums of products: transforms (FFT, Winograd) take their own paths and can be worse,
which `check_sums` refuses.
It is many times what rounding usually does, the more the deeper the stack: `says_nothing` where it
is not small beside the outputs. It is known for some layers only, by `roundings`; to tell rounding
from a difference after any layer, take `runner.tasks._rounding`.
"""

from __future__ import annotations

from dataclasses import replace
from math import log, prod
from typing import TYPE_CHECKING, Any

from runner.config.errors import ConfigError, problem
from runner.geometry import AnyShape, ConvGeometry, Pair, PoolGeometry, Shape, adaptive_extent
from runner.ops import Ops
from runner.plan import Plan, Row
from runner.tasks import Run
from runner.tasks._rounding import transformed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from runner.modules import Pool2d

FUNCTION_TERMS = 8
"""Roundings that an elementary function counts for: libraries are within a few units."""
CONTAINERS = ("block", "repeat", "residual", "parallel", "dense_block")
"""Layers made of layers that do no more than add and concatenate what these give."""
DIGITS = {"float64": 53, "float32": 24, "bfloat16": 8, "float16": 11}
"""Binary digits of a number, the leading one included."""
USEFUL = 0.01
"""The part of the largest output up to which a bound says something."""


def says_nothing(bound: float, largest: float) -> bool:
    """Whether results within a bound may still be far apart: by more than `USEFUL` of the largest.

    Args:
        bound: of a difference.
        largest: magnitude of what may differ.
    """
    return bound > USEFUL * largest


def check_sums(plan: Plan, ops: Ops) -> None:
    """Check that every layer's operator sums over windows, as the bound takes for granted.

    Raises:
        ConfigError: one may compute by transforms.
    """
    for row in transformed(plan, ops):
        raise problem(
            "task.bound",
            f"a number, to compare what '{row.op}' computes in {row.path}",
            "auto",
            "No bound is known for transforms. Set task.bound=1e-5, or take task=verify, which "
            "holds every operator to its own gates.",
        )


def roundings(plan: Plan, gradient: bool = False) -> int:
    """How many roundings to count for a stack; known from its plan, without torch.

    Args:
        plan: of the stack.
        gradient: count for the gradient with respect to the input, not for the output.

    Raises:
        ConfigError: a layer of unknown rounding, or a precision too low for so many terms.
    """
    terms = 1 + sum(_roundings(row, gradient) for row in plan.walk())  # 1 of the input itself
    if terms * _unit(plan.dtype) >= 1:
        raise problem(
            "task.bound",
            "a number",
            "auto",
            f"{terms:,} roundings in {plan.dtype} can take an output anywhere. "
            "Set one, such as task.bound=0.01.",
        )
    return terms


def _roundings(row: Row, gradient: bool) -> int:
    """Each output counts its products, its bias and the rounding of the weights themselves."""
    layer: Any = row.layer
    # Going back, sums run over the outputs that an input has a part in.
    terms = (row.output if gradient else row.input).dims[0]
    match row.kind:
        case "conv":
            geometry: ConvGeometry = layer.geometry(row.input)
            return terms // geometry.groups * prod(geometry.kernel) + 2
        case "linear":
            return terms + 2
        case "pool":
            size = prod(_window(layer.geometry(row.input), row.input))
            return size + 1 if layer.mode == "avg" else gradient * size
        case "activation" if layer.function in ("relu", "identity"):
            return 0
        case "flatten" | "dropout":
            return 0
        case "activation" | "batchnorm":
            return FUNCTION_TERMS
    if row.kind in CONTAINERS:
        return 1  # branches are added
    raise _unknown(row)


def _unknown(row: Row) -> ConfigError:
    hint = f"How {row.path} (kind {row.kind}) rounds is not known here. Set task.bound=1e-5."
    return problem("task.bound", "a number", "auto", hint)


def _window(geometry: PoolGeometry, x: AnyShape) -> Pair:
    """The largest window of a pool."""
    if geometry.output is None:
        return geometry.kernel
    assert isinstance(x, Shape)  # a pool takes nothing else
    down, across = geometry.output
    return (adaptive_extent(x.height, down), adaptive_extent(x.width, across))


def output_bound(run: Run) -> Tensor:
    """The most that each output can be off: n × …, in double precision on the CPU.

    Raises:
        ConfigError: as `roundings`.
    """
    import torch

    gamma = _gamma(run.plan, gradient=False)
    with torch.no_grad():
        magnitudes: Tensor = _absolute(run)(_magnitude(run))
    return gamma * magnitudes


def gradient_bound(run: Run, functional: Tensor) -> Tensor:
    """The most that the gradient of Σ functional · output with respect to the input can be off.

    Layers must be piecewise linear, and no input at a kink: a tie between two maxima, or a zero
    before a relu, decides by its last digit where the gradient goes.

    Args:
        run: the stack and the data.
        functional: one number per output, n × outputs.

    Raises:
        ConfigError: as `roundings`.
    """
    import torch

    gamma = _gamma(run.plan, gradient=True)
    x = _magnitude(run).requires_grad_()
    outputs = _absolute(run, gradient=True)(x).flatten(1)
    total = (outputs * functional.cpu().double().abs()).sum()
    return gamma * torch.autograd.grad(total, x)[0]


def _unit(dtype: str) -> float:
    """Half the distance from 1 to the next number."""
    return 2.0 ** -DIGITS[dtype]


def _gamma(plan: Plan, gradient: bool) -> float:
    n = roundings(plan, gradient) * _unit(plan.dtype)
    return n / (1 - n)


def _magnitude(run: Run) -> Tensor:
    return run.x.cpu().double().abs()


def _absolute(run: Run, gradient: bool = False) -> nn.Module:
    """The stack with absolute weights in double precision."""
    import torch

    model = run.stack.build(run.plan, Ops(), torch.Generator()).double().eval()
    model.load_state_dict(run.model.state_dict())
    model.requires_grad_(False)
    for row in run.plan.leaves():
        module = model.get_submodule(row.name)
        for parameter in module.parameters():
            parameter.abs_()
        parent, _, name = row.name.rpartition(".")
        setattr(model.get_submodule(parent), name, _bounding(module, row, gradient))
    return model


def _bounding(module: nn.Module, row: Row, gradient: bool) -> nn.Module:
    """A module that gives at least the magnitudes of this one's output."""
    from torch import nn

    from runner.modules import Conv2d, Pool2d

    match module:
        case Pool2d():
            return _bounding_pool(module, row, gradient)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if module.running_mean is not None:
                module.running_mean.abs_().neg_()  # it is subtracted
            return module
        case Conv2d() | nn.Linear() | nn.Flatten() | nn.Dropout():
            return module
        case nn.Identity() | nn.ReLU():
            return nn.Identity()
    slope, offset = _line(module, row)
    line = nn.Identity()
    line.register_forward_hook(lambda *given: offset + slope * given[-1])
    return line


def _bounding_pool(module: Pool2d, row: Row, gradient: bool) -> Pool2d:
    """A minimum is at most the largest magnitude of its window.

    A gradient may go to any number of a window; adding all up counts with that.
    """
    from runner.modules import Pool2d

    if module.mode == "avg":
        return module
    geometry = module.geometry
    if not gradient:
        return Pool2d("max", geometry, "native")
    size = prod(_window(geometry, row.input))
    total = Pool2d("avg", replace(geometry, count_include_pad=True), "native")
    total.register_forward_hook(lambda *given: size * given[-1])
    return total


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
    raise _unknown(row)
