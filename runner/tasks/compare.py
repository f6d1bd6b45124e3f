"""Compare: two stacks, two operators, or one stack on two data must agree within a bound.

The chapter is full of different ways to compute the same: a 1×1 convolution and a dense layer per
pixel, average pooling and a convolution, two kernels in a row and one. In floating point they
agree but for rounding; how much that can be follows from the data (`runner.tasks._error_bound`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Limited
from pydantic import model_validator

from runner.config.errors import ConfigError, problem, under
from runner.config.spec import Menu, Spec
from runner.data import Data
from runner.geometry import Shape, elements
from runner.ops import Ops
from runner.plan import ITEM_BYTES, Plan
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._error_bound import (
    check_sums,
    gradient_bound,
    output_bound,
    roundings,
    says_nothing,
)
from runner.tasks._outputs import layer_outputs, numbers, save_outputs, to_numpy
from runner.tasks._side_by_side import as_maps, side_by_side
from runner.tracking import pictures

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]

PIECEWISE_LINEAR = ("relu", "leaky_relu", "identity")
PRINTED = 64
"""Outputs of at most so many numbers are metrics; both are printed, to be compared by eye."""
CHANNELS = 3
"""How many channels are drawn."""


class Other(Spec):
    """What is compared with the run's own stack; what is left out is the run's own.

    Attributes:
        stack: the other layers.
        ops: the other operators.
        data: the other input.
    """

    stack: Stack | None = None
    ops: Ops | None = None
    data: Annotated[Data | None, Menu("runner.data")] = None

    @model_validator(mode="after")
    def _something(self) -> Other:
        if self.stack is None and self.ops is None and self.data is None:
            raise problem("", "a stack, ops or data to compare with", "none of them")
        return self


class Compare(Task):
    """A comparison.

    Attributes:
        other: what to compare with.
        weights: ``own`` draws those of the other stack from the same seed; ``copied`` fills them
            with the first's, in order, reshaped where the number of elements agrees.
        bound: how much two outputs may differ, at most; ``auto`` is what rounding can do. Where
            that is more than a hundredth of the largest output, as it is after many layers or in
            half precision, it says nothing, and only outputs that are equal agree.
        gradients: compare too how a fixed random sum of the outputs changes with the input, and
            (as a metric alone) with the weights, where both sides have as many.
    """

    measures: ClassVar[str] = """
        max_difference relative_difference bound agrees gradient_difference gradient_bound
        weight_gradient_difference parameters multiply_adds output other_output
    """
    showcase: ClassVar[tuple[str, ...]] = ("compare/overview",)
    objective: ClassVar[Objective | None] = Objective("max_difference", "min")

    other: Other
    weights: Literal["own", "copied"] = "own"
    bound: Literal["auto"] | Annotated[float, Limited(ge=0)] = "auto"
    gradients: bool = False

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The other must fit together too, and give as many numbers for as many images."""
        other_stack, other_ops, other = self._other(plan, stack, ops)
        _check_ops(other_stack, other, other_ops)
        differs = "data" if self.other.stack is None else "stack.layers"
        if other.batch != plan.batch:
            expected = f"{plan.batch} images, as many as data gives"
            raise problem("task.other.data", expected, str(other.batch))
        if elements(other.output) != elements(plan.output):
            raise problem(
                f"task.other.{differs}",
                f"{elements(plan.output)} numbers per image, as the first gives ({plan.output})",
                f"{elements(other.output)} ({other.output})",
            )
        if self.weights == "copied" and other.parameters != plan.parameters:
            raise problem(
                f"task.other.{differs}",
                f"{plan.parameters:,} parameters, as the first has, to copy those",
                f"{other.parameters:,}",
                "Set bias: false where only one of them has a bias, or task.weights=own.",
            )
        if self.gradients:
            self._check_gradients(plan, other)
        if self.bound == "auto":
            check_sums(plan, ops)
            check_sums(other, other_ops)
            for one in (plan, other):
                for gradient in (False, True)[: 1 + self.gradients]:
                    roundings(one, gradient)

    def _check_gradients(self, *plans: Plan) -> None:
        first, other = plans
        if first.input != other.input:
            raise problem(
                "task.other.data",
                f"inputs of {first.input}, whose gradients can be compared",
                f"{other.input}",
                "Set task.gradients=false.",
            )
        for row in (row for plan in plans for row in plan.leaves()):
            function = getattr(row.layer, "function", "identity")
            if self.bound == "auto" and function not in PIECEWISE_LINEAR:
                raise problem(
                    "task.bound",
                    f"a number, to compare gradients through the {function} of {row.path}",
                    "auto",
                )

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """The other stack, its images, gradients, and the passes in double precision."""
        _, _, other = self._other(plan, stack, ops)
        scratch = max((row.scratch for row in other.leaves()), default=0) * other.batch
        memory = other.memory + ITEM_BYTES[plan.dtype] * scratch
        passes = self.gradients * (plan.memory + memory)
        if self.bound == "auto":
            passes += (1 + self.gradients) * max(plan.memory, memory) * 8 // ITEM_BYTES[plan.dtype]
        return memory + passes + 16 * other.batch * elements(other.input)

    def _input(self, plan: Plan) -> tuple[Shape, int]:
        """Shape and number of the other images."""
        if self.other.data is None:
            return plan.input, plan.batch
        with under("task.other.data"):
            return self.other.data.shape(), self.other.data.count()

    def _other(self, plan: Plan, stack: Stack, ops: Ops) -> tuple[Stack, Ops, Plan]:
        """The other stack, its operators and its plan; problems carry paths under task.other."""
        shape, count = self._input(plan)
        ops = self.other.ops or ops
        if self.other.stack is not None:
            path = "task.other.stack.layers"
            return self.other.stack, ops, self.other.stack.plan(shape, ops, count, plan.dtype, path)
        try:
            return stack, ops, stack.plan(shape, ops, count, plan.dtype)
        except ConfigError as error:
            reason = "; ".join(map(str, error.problems))
            expected = "images that the stack can take"
            raise problem("task.other.data", expected, f"{shape}, with {reason}") from None

    def run(self, run: Run) -> dict[str, Any]:
        """Both outputs, how far they are apart, and whether the bound holds."""
        other = self._prepare(run)
        first_outputs, other_outputs = layer_outputs(run), layer_outputs(other)
        y = next(reversed(first_outputs.values()), run.images.x)
        other_y = next(reversed(other_outputs.values()), other.images.x)
        run.outputs.update(first_outputs)
        run.outputs.update({f"other/{name}": output for name, output in other_outputs.items()})
        save_outputs(run)

        difference = _difference(y, other_y)
        bound = self._bound(output_bound, run, other)
        largest = float(np.abs(difference).max())
        metrics: dict[str, Any] = {
            "max_difference": largest,
            "relative_difference": _relative(difference, y, other_y),
            "bound": bound,
            "agrees": self._agrees(run, "outputs", largest, bound, (y, other_y)),
        }
        if self.gradients:
            found, agree = self._compare_gradients(run, other)
            metrics |= found
            metrics["agrees"] &= agree
        metrics["parameters"] = {"first": run.plan.parameters, "other": other.plan.parameters}
        metrics["multiply_adds"] = {"first": run.plan.cost, "other": other.plan.cost}
        if y.size <= PRINTED:
            metrics |= {"output": numbers(y), "other_output": numbers(other_y)}
        if largest > bound:
            at = np.unravel_index(np.abs(difference).argmax(), y.shape)
            where = ", ".join(map(str, at[1:]))
            run.notes.append(f"They differ most at [{where}] of image {at[0]}.")
        self._draw(run, other, y, other_y, difference)
        return metrics

    def _bound(self, error: Callable[[Run], Tensor], *runs: Run) -> float:
        """How much two results may differ: each may be off by its own error."""
        if self.bound != "auto":
            return self.bound
        first, other = (error(run).flatten(1) for run in runs)
        return float((first + other).max())

    def _agrees(
        self, run: Run, what: str, difference: float, bound: float, results: Sequence[Array]
    ) -> bool:
        """Whether two results are equal, or within a bound that says something."""
        if not difference <= bound:  # what is not a number isn't either
            return False
        if difference == 0 or self.bound != "auto":
            return True
        largest = max(float(np.abs(one).max()) for one in results)
        if not says_nothing(bound, largest):
            return True
        run.notes.append(
            f"The bound from rounding analysis, {bound:.3g}, says nothing here, as the {what} are "
            f"at most {largest:.3g}; state task.bound."
        )
        return False

    def _prepare(self, run: Run) -> Run:
        """The other run: its own stack, data, operators and plan, and weights as asked for."""
        stack, ops, plan = self._other(run.plan, run.stack, run.ops)
        stack.check_ops(plan, ops, run.dtype, run.device.partition(":")[0])
        data = self.other.data or run.data
        other = replace(run, stack=stack, ops=ops, plan=plan, data=data, outputs={}, notes=[])
        with under("task.other"):
            _ = other.images
        if self.weights == "copied":
            _copy(run, other)
        return other

    def _compare_gradients(self, run: Run, other: Run) -> tuple[dict[str, Any], bool]:
        """How far apart the gradients are of one random sum of the outputs; and if they agree."""
        import torch

        generator = torch.Generator().manual_seed(run.seed)
        size = (run.plan.batch, elements(run.plan.output))
        functional = torch.randn(size, generator=generator).to(run.x.device, run.x.dtype)
        (first, weights), (second, other_weights) = (
            _gradients(one, functional) for one in (run, other)
        )
        run.outputs |= {"gradient": first, "other/gradient": second}
        bound = self._bound(lambda one: gradient_bound(one, functional), run, other)
        difference = float(np.abs(_difference(first, second)).max())
        agree = self._agrees(run, "gradients", difference, bound, (first, second))
        metrics = {"gradient_difference": difference, "gradient_bound": bound}
        if weights.size and weights.shape == other_weights.shape:
            apart = _relative(_difference(weights, other_weights), weights, other_weights)
            metrics["weight_gradient_difference"] = apart
        return metrics, agree

    def _draw(self, run: Run, other: Run, y: Array, other_y: Array, difference: Array) -> None:
        """The first image's outputs side by side, and their difference on its own scale."""
        layout = next((one.shape[1:] for one in (y, other_y) if one.ndim == 4), None)
        maps = [as_maps(one[0], layout)[:CHANNELS] for one in (y, other_y, difference)]
        scale = pictures.symmetric_scale(maps[:2])
        scales = (scale, scale, pictures.symmetric_scale(maps[2:]))
        last = "difference" if difference[0].any() else "difference: none"
        titles = (*side_by_side(run, other), last)
        columns = []
        for name, title, values, one in zip(
            ("first", "other", "difference"), titles, maps, scales, strict=True
        ):
            many = len(values) > 1
            panels = [
                pictures.signed(channel, f"{title}, channel {c}" if many else title, one)
                for c, channel in enumerate(values)
            ]
            run.tracker.image(f"compare/{name}", pictures.sheet(panels))
            columns.append(panels)
        rows = [panel for row in zip(*columns, strict=True) for panel in row]
        run.tracker.image("compare/overview", pictures.sheet(rows, columns=3))


def _check_ops(stack: Stack, plan: Plan, ops: Ops) -> None:
    """Check that the operators can compute the stack on some device; which one is known later.

    Raises:
        ConfigError: they can't on any; of the CPU's reasons.
    """
    try:
        stack.check_ops(plan, ops, plan.dtype, "cpu")
    except ConfigError as error:
        try:
            stack.check_ops(plan, ops, plan.dtype, "cuda")
        except ConfigError:
            raise error from None


def _copy(run: Run, other: Run) -> None:
    """Fill the other model's parameters with the first's, in order.

    Raises:
        ConfigError: two that don't hold equally many numbers, by name.
    """
    import torch

    given, wanted = list(run.model.named_parameters()), list(other.model.named_parameters())
    for (name, weight), (other_name, other_weight) in zip(given, wanted, strict=False):
        if weight.numel() != other_weight.numel():
            raise problem(
                f"task.other.stack.layers.{other_name}",
                f"{weight.numel()} numbers, to copy {name} ({_sizes(weight.shape)})",
                f"{other_weight.numel()} ({_sizes(other_weight.shape)})",
                "Set task.weights=own, or give the layers the same sizes.",
            )
        with torch.no_grad():
            other_weight.copy_(weight.reshape(other_weight.shape))


def _sizes(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))


def _gradients(run: Run, functional: Tensor) -> tuple[Array, Array]:
    """The gradients of Σ functional · output.

    Returns:
        With respect to the input, n × c × h × w; and to all weights and biases, 1 × numbers.
    """
    import torch

    x, weights = run.x.detach().clone().requires_grad_(), list(run.model.parameters())
    total = (run.model.eval()(x).flatten(1) * functional).sum()
    learned = [weight for weight in weights if weight.requires_grad]
    gradient, *others = torch.autograd.grad(total, [x, *learned], materialize_grads=True)
    flat = [torch.zeros(0, dtype=torch.float64), *(one.flatten().cpu().double() for one in others)]
    return to_numpy(gradient), torch.cat(flat)[None].numpy()


def _difference(y: Array, other: Array) -> Array:
    """Other minus first in double precision, n × numbers: whatever their layouts."""
    flat, other_flat = (one.reshape(len(one), -1).astype(np.float64) for one in (y, other))
    with np.errstate(invalid="ignore"):  # infinity less infinity
        difference: Array = other_flat - flat
    return difference


def _relative(difference: Array, y: Array, other: Array) -> float:
    """‖other − first‖ / ‖first‖ in the Euclidean norm; of the other where the first is zero."""
    norms = (float(np.linalg.norm(one.astype(np.float64))) for one in (y, other))
    return float(np.linalg.norm(difference)) / (next(filter(None, norms), 1.0))
