"""How far rounding is likely to move a stack's outputs: what is closer than that counts as equal.

An estimate for any stack, layer by layer, close enough to tell rounding from a real difference.
Where a stated bound must hold for every input, take `runner.tasks._error_bound`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt
from typing import TYPE_CHECKING

from runner.config.errors import join
from runner.ops import Operator, Ops, conv_op, pool_op
from runner.plan import Plan, Row

if TYPE_CHECKING:
    from torch import Tensor, nn

NONE = 32
"""Units of rounding, beside the largest: a gradient or a weight of less may be no more than what a
transform leaves where there is none."""
MARGIN = 4
"""Two results differ by more than twice their error, and of many differences one is the largest."""
TELLING = 1e-2
"""Beside the largest output: rounding that may explain more than this explains real differences."""


def estimates(model: nn.Sequential, x: Tensor) -> dict[str, float]:
    """About the largest difference that rounding explains, by layer: of each one's output.

    Rounding errors are as good as random (Higham & Mary 2019, "A new approach to probabilistic
    rounding error analysis"): a sum of n products with weights w is off by about √n · eps · ‖w‖ ·
    max|x|, or by as much more as its operator is coarser, and what comes in wrong goes out wrong by
    ‖w‖ times as much, or by as much more as the layer's numbers themselves. In a chain the factors
    multiply; of parallel layers the worst counts; where outputs are added, their errors are.

    Args:
        model: the stack; it runs once.
        x: its input.

    Returns:
        By the layers' names, dotted inside containers; "" is the whole stack.
    """
    import torch

    peaks: dict[str, tuple[float, float]] = {}

    def watched(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
            peaks[name] = float(given[0].abs().max()), float(y.abs().max())

        return hook

    hooks = [one.register_forward_hook(watched(name)) for name, one in model.named_modules()]
    try:
        with torch.no_grad():
            model.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
    eps = torch.finfo(x.dtype).eps
    errors = _Errors(eps, peaks)
    errors.after(model, "", eps * float(x.abs().max()))
    return {name: MARGIN * error for name, error in errors.found.items()}


@dataclass
class _Errors:
    """Errors of outputs, as they are found.

    Attributes:
        eps: unit of rounding.
        peaks: the largest magnitudes of each layer's input and output.
        found: errors of each layer's output.
    """

    eps: float
    peaks: dict[str, tuple[float, float]]
    found: dict[str, float] = field(default_factory=dict)

    def after(self, module: nn.Module, name: str, error: float) -> float:
        """The error of a module's output, its input being off by `error`."""
        from torch import nn

        from runner.modules import DenseBlock, Parallel, Residual

        inner = {join(name, key): child for key, child in module.named_children()}
        match module:
            case Parallel():
                error = max(self.after(child, key, error) for key, child in inner.items())
            case DenseBlock():
                for key, child in inner.items():
                    error = max(error, self.after(child, key, error))
            case Residual():
                around = join(name, "shortcut")
                short = self.after(inner.pop(around), around, error) if around in inner else error
                error = self._chain(inner, error) + short + self.eps * self.peaks[name][1]
            case nn.Sequential():
                error = self._chain(inner, error)
            case _:
                error = self._leaf(module, name, error)
        self.found[name] = error
        return error

    def _chain(self, modules: dict[str, nn.Module], error: float) -> float:
        for name, module in modules.items():
            error = self.after(module, name, error)
        return error

    def _leaf(self, module: nn.Module, name: str, error: float) -> float:
        peak, largest = self.peaks[name]
        gain, terms = _gain(module)
        gain = max(gain, largest / peak if peak else 0.0)
        own = coarseness(module) * sqrt(1 + terms) * self.eps * peak
        return gain * (error + own) + self.eps * largest


def coarseness(module: nn.Module) -> float:
    """How many times the rounding errors of plain summation an operator may make, by its gate."""
    operator = getattr(module, "operator", None)
    if not isinstance(operator, Operator):
        return 1.0
    # Of single precision, whatever the run's: gates of double precision are wide for all.
    own, plain = (one.gates["float32"].largest for one in (operator, Operator))
    return max(1.0, own / plain)


def transformed(plan: Plan, ops: Ops) -> list[Row]:
    """The layers whose operator may compute by transforms: no sums over windows alone."""
    able = {"conv": conv_op, "pool": pool_op}
    rows = [row for row in plan.leaves() if row.kind in able]
    return [row for row in rows if not able[row.kind](row.op, ops.auto).sums]


def _gain(module: nn.Module) -> tuple[float, int]:
    """How many times as wrong an output is as the input, and how many products it adds."""
    from torch import nn

    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
        scale = (module.running_var.double() + module.eps).rsqrt()
        scale = scale if module.weight is None else scale * module.weight.detach().double()
        return float(scale.abs().max()), 0
    rows = [p.detach().double().flatten(1) for p in module.parameters() if p.ndim > 1]
    if not rows:
        return 1.0, 0  # activations and pooling
    return max(float(row.norm(dim=1).max()) for row in rows), sum(row.shape[1] for row in rows)


def same(difference: float, allowed: float, largest: float, negligible: float) -> bool | None:
    """Whether results are the same but for rounding.

    Args:
        difference: between them, at most.
        allowed: what rounding explains.
        largest: magnitude of the results.
        negligible: a difference that is none in any case: for outputs, `MARGIN` units of rounding
            beside the largest.

    Returns:
        None where it can't be told: rounding explains the difference, but would a real one, too.
    """
    if not difference <= allowed:  # also where it is not a number
        return False
    return True if allowed <= TELLING * largest or difference <= negligible else None


def untold(what: str, allowed: float, largest: float, dtype: str) -> str:
    """A note that says why there is no answer.

    Args:
        what: the question: ``"the stack is affine"``.
        allowed: what rounding explains.
        largest: magnitude of the results.
        dtype: the numbers' type.
    """
    share = f"{allowed / largest:.2g} of the largest output" if largest else f"{allowed:.2g}"
    hint = "" if dtype == "float64" else " With dtype=float64 it may."
    return f"Whether {what} can't be told: rounding may make a difference of {share}.{hint}"
