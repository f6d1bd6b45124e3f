"""Diagnose: why that learning rate? What gradient descent on one kernel does, mode by mode.

The squared error of one conv layer is quadratic in its weights (`runner.tasks._quadratic`), so
everything about plain gradient descent is known beforehand: along an eigenvector of the Hessian
with eigenvalue λ, each step multiplies the error by 1 − lr·λ. This task predicts that, then
learns as task=learn_kernel does (the book, 6.2.4), and measures it.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, isfinite, log10
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Limited

from runner.config.errors import problem
from runner.ops import Ops
from runner.plan import Plan
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._modes import MEASURABLE, Array, Modes
from runner.tasks._optimizer import Optimizer
from runner.tasks._outputs import SMALL, numbers
from runner.tasks._quadratic import DENSE, PATCHES, Curvature, curvature, share
from runner.tasks._target import Target, only_conv, squared_error
from runner.tracking import charts

if TYPE_CHECKING:
    from torch import Tensor

MODES = 3
"""How many modes are drawn."""
KEPT = 2**32
"""Bytes that the weights before and after every step may take."""


class Diagnose(Task):
    """Gradient descent on one kernel, predicted and measured.

    Attributes:
        target: the kernel whose output is to be matched, laid on the data as the layer is.
        optimizer: plain gradient descent: sgd without momentum.
        steps: how many steps to take, each on all of the data; fewer are taken where numbers
            become infinite. The weights of every step are kept, which bounds how many there can be.
        reduction: whether squared errors are added up (the book) or averaged.
    """

    memory_factor: ClassVar[int] = 3
    measures: ClassVar[str] = """
        hessian eigenvalues nullity condition_number condition_number_at_least stable_lr best_lr
        best_lr_at_least stable contraction_predicted contraction_measured contraction_error steps
        loss losses kernel_error kernel_error_predicted
    """
    showcase: ClassVar[tuple[str, ...]] = ("diagnose/surface", "diagnose/modes", "diagnose/loss")
    objective: ClassVar[Objective | None] = Objective("kernel_error", "min")

    target: Target
    optimizer: Optimizer = Optimizer()
    steps: Annotated[int, Limited(ge=1, le=100_000)] = 10
    reduction: Literal["sum", "mean"] = "sum"

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The problem must be quadratic: one conv layer that learns, and plain steps."""
        only = only_conv(stack)
        if only is None:
            raise problem(
                "stack.layers",
                "one conv layer and nothing else, whose squared error is quadratic",
                ", ".join(f"{name} ({one.kind})" for name, one in stack.layers.items())
                or "no layers",
                "Try stack=kernel_1x2 or stack=kernel_3x3.",
            )
        (name,) = stack.layers
        if not only.trainable:
            raise problem(f"stack.layers.{name}.trainable", "true", "false", "It is to be learned.")
        if self.optimizer.name != "sgd":
            hint = "Other steps depend on more than the gradient."
            raise problem("task.optimizer.name", "sgd", f"'{self.optimizer.name}'", hint)
        if self.optimizer.momentum:
            raise problem("task.optimizer.momentum", "0", f"{self.optimizer.momentum:g}")
        self.target.check(plan, stack)

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """The Hessian, its eigenvectors, windows laid out, and the weights of every step."""
        weights = plan.parameters // plan.output.dims[0]
        hessian = 4 * weights * plan.parameters if weights <= DENSE else 0
        step = 8 * 3 * plan.parameters
        if step * (self.steps + 1) > max(KEPT, 2 * step):
            raise problem(
                "task.steps",
                f"at most {max(1, KEPT // step - 1):,}, as the {plan.parameters:,} weights of "
                f"every step are kept",
                f"{self.steps:,}",
            )
        return 8 * (hessian + 4 * PATCHES) + step * (self.steps + 1)

    def run(self, run: Run) -> dict[str, Any]:
        """Eigenvalues, learning rates, and the error of each mode, predicted and measured."""
        import torch

        layer = only_conv(run.stack)
        assert layer is not None  # check
        found = curvature(run.x, layer, run.plan.input)
        groups, divisor = len(found.values), share(run.plan, len(run.x), self.reduction)
        target = self.target.build(run)
        goal = _weights(target, groups, layer.has_bias)
        with torch.no_grad():
            wanted = target(run.x)
        module: Any = run.model.train()[0]
        weights, losses = self._descend(run, module, wanted, groups)
        modes = Modes.of(
            found, weights, goal, divisor, self.optimizer, torch.finfo(run.x.dtype).eps
        )
        run.outputs |= {"diagnose/errors": modes.measured, "diagnose/predicted": modes.predicted}

        metrics = self._spectrum(found, modes, divisor) | self._contraction(modes)
        kernel = slice(None, -1) if layer.has_bias else slice(None)
        error = (weights[-1] - goal)[..., kernel]
        metrics |= {"steps": len(weights) - 1, "loss": losses[-1], "losses": losses[:100]}
        metrics["kernel_error"] = float(np.abs(error).max())
        if found.matrix is not None:
            along = modes.predicted[-1] + modes.shift
            error = np.einsum("gkm,gom->gok", found.vectors.numpy(), along)[..., kernel]
            metrics["kernel_error_predicted"] = float(np.abs(error).max())
        run.notes.extend(self._notes(run, found, modes, len(weights) - 1))
        self._draw(run, found, modes, losses)
        plane = goal.size == 2 and not layer.has_bias and modes.seen.any()
        if found.matrix is not None and plane:
            _draw_surface(run, found.matrix[0].numpy() / divisor, weights[:, 0, 0], goal[0, 0])
        return metrics

    def _descend(
        self, run: Run, module: Any, wanted: Tensor, groups: int
    ) -> tuple[Array, list[float]]:
        """Take the steps; the weights before the first and after each, and each step's loss."""
        optimizer = self.optimizer.build(module.parameters())
        with_bias = module.bias is not None
        weights, losses = [_weights(module, groups, with_bias)], []
        with run.progress(self.steps, "descending") as advance:
            for step in range(1, self.steps + 1):
                loss = squared_error(module(run.x), wanted, self.reduction)
                if not isfinite(loss.item()):
                    break
                losses.append(loss.item())
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
                optimizer.step()
                after = _weights(module, groups, with_bias)
                if not np.isfinite(after).all():
                    break
                weights.append(after)
                if step % max(1, self.steps // 50) == 0 or step == 1:
                    run.tracker.scalars({"train/loss": losses[-1]}, step)
                advance(f"loss {losses[-1]:.4g}")
        return np.stack(weights), losses or [float("nan")]

    def _spectrum(self, found: Curvature, modes: Modes, divisor: int) -> dict[str, Any]:
        """The Hessian where it is small, its eigenvalues, and the learning rates they allow."""
        metrics: dict[str, Any] = {}
        if found.matrix is not None and found.matrix.numel() <= SMALL:
            decay = self.optimizer.weight_decay * np.eye(found.matrix.shape[1])
            metrics["hessian"] = numbers(found.matrix.numpy() / divisor + decay)
        largest, smallest = modes.ends
        metrics["eigenvalues"] = _listed(modes.values)
        if found.matrix is not None:
            metrics["nullity"] = int((~modes.seen).sum())
        # Where the flattest eigenvalue is an upper bound, what follows from it is a lower one.
        bound = "" if found.matrix is not None else "_at_least"
        return metrics | {
            f"condition_number{bound}": largest / smallest if smallest else None,
            "stable_lr": 2 / largest if largest else None,
            f"best_lr{bound}": 2 / (largest + smallest) if largest else None,
            "stable": bool(self.optimizer.lr * largest < 2),
        }

    def _contraction(self, modes: Modes) -> dict[str, Any]:
        """What a step multiplies each mode's error by."""
        apart = np.abs(modes.contraction - modes.factor)
        known = np.isfinite(apart)
        return {
            "contraction_predicted": _listed(modes.factor),
            "contraction_measured": _listed(modes.contraction),
            "contraction_error": float(apart[known].max()) if known.any() else None,
        }

    def _notes(self, run: Run, found: Curvature, modes: Modes, steps: int) -> Iterator[str]:
        largest, smallest = modes.ends
        if not largest:
            yield "The loss doesn't depend on the weights: the data are zero in every window."
            return
        lr, limit = self.optimizer.lr, 2 / largest
        slowest = float(np.abs(modes.factor[modes.seen]).max())
        if slowest >= 1:
            yield (
                f"lr {lr:g} is not below the largest stable learning rate, 2/λmax = {limit:.4g}: "
                f"the steepest mode's error is multiplied by {1 - lr * largest:.4g} per step."
            )
            if steps < self.steps:
                yield f"Step {steps + 1} led to numbers that are no longer finite."
        elif found.matrix is not None:
            best, total = (largest - smallest) / (largest + smallest), largest + smallest
            yield (
                f"The slowest mode's error shrinks by the factor {_factor(slowest)} per step; with "
                f"the best learning rate, 2/(λmin + λmax) = {2 / total:.4g}, by {_factor(best)}."
            )
        if found.matrix is None:
            yield (
                "The Hessian is too large for a matrix: these are its steepest mode and the "
                "flattest that products with it found. There may be flatter ones, which shrink "
                "more slowly: that eigenvalue is an upper bound, the condition number and the "
                "best learning rate are lower bounds."
            )
        unknown = int((~np.isfinite(modes.contraction)).sum())
        if unknown and steps:
            yield (
                f"Of {unknown} mode{'s' * (unknown > 1)} no contraction could be measured (none): "
                f"the error was never {MEASURABLE:,.0f} times what {run.dtype} rounds off."
            )

    def _draw(self, run: Run, found: Curvature, modes: Modes, losses: list[float]) -> None:
        """Errors and loss over the steps, measured and predicted."""
        complete = found.matrix is not None
        measured, predicted = (
            np.sqrt((e**2).sum(axis=2)).reshape(len(e), -1)
            for e in (modes.measured, modes.predicted)
        )
        values = modes.values.ravel()
        chosen = np.argsort(values)[np.linspace(0, values.size - 1, MODES).round().astype(int)]
        series: dict[str, Any] = {}
        for i in dict.fromkeys(chosen.tolist()):
            factor = f"λ = {values[i]:.4g}, factor {_factor(modes.factor.ravel()[i])}"
            series[factor] = measured[:, i]
            series[f"{factor} predicted"] = predicted[:, i]
        dashed = [name for name in series if name.endswith("predicted")]
        title = f"Error of the weights by mode, lr {self.optimizer.lr:g}"
        groups, size, _ = found.vectors.shape
        if groups * size > MODES or not complete:
            title += f"; {len(series) // 2} of {groups * size} modes"
        chart = charts.lines(series, title, "step", "error", log=True, dashed=dashed)
        run.tracker.image("diagnose/modes", chart)
        curves: dict[str, Any] = {"loss": losses}
        if complete:
            curves["loss predicted"] = modes.losses()[: len(losses)]
        chart = charts.lines(
            curves, "Loss before each step", "step", f"squared error, {self.reduction}",
            x=range(1, len(losses) + 1), log=True, dashed=["loss predicted"] if complete else [],
        )  # fmt: skip
        run.tracker.image("diagnose/loss", chart)


def _weights(module: Any, groups: int, with_bias: bool) -> Array:
    """A conv module's kernel as cross-correlation sees it: groups × outputs × weights.

    With a bias it is the last weight: the module's, or zero.
    """
    import torch

    kernel = module.effective_kernel().detach().cpu().double().flatten(1)
    if with_bias:
        none = kernel.new_zeros(len(kernel))
        bias = none if module.bias is None else module.bias.detach().cpu().double()
        kernel = torch.cat([kernel, bias[:, None]], dim=1)
    weights: Array = kernel.reshape(groups, -1, kernel.shape[1]).numpy().copy()
    return weights


def _factor(value: float) -> str:
    """A factor with as many digits as it takes to tell it from 1."""
    apart = abs(1 - abs(value))
    digits = ceil(-log10(apart)) + 1 if 0 < apart < 1 else 0
    return f"{value:.{max(4, digits)}g}"


def _listed(values: Array) -> Any:
    """Numbers by mode, in lists by group where there are several; None for what isn't known."""
    lists = [[float(v) if isfinite(v) else None for v in group] for group in values]
    return lists[0] if len(lists) == 1 else lists


def _draw_surface(run: Run, hessian: Array, path: Array, goal: Array) -> None:
    """The loss over the kernel's two weights, and the way down."""
    # What descent covers, unless it runs away; with room around.
    reach = 1.3 * min(np.abs(path - goal).max(), 2 * np.abs(path[0] - goal).max()) or 1.0
    x, y = (np.linspace(centre - reach, centre + reach, 121) for centre in goal)
    apart = np.stack(np.meshgrid(x, y), axis=-1) - goal
    loss = 0.5 * np.einsum("yxi,ij,yxj->yx", apart, hessian, apart)
    picture = charts.surface(
        loss, x.tolist(), y.tolist(), "Loss over the two weights", "first weight", "second weight",
        path=path, goal=(float(goal[0]), float(goal[1])),
    )  # fmt: skip
    run.tracker.image("diagnose/surface", picture)
