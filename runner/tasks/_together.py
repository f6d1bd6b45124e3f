"""Several models of one make as one: what tasks share that learn several runs together.

The weights of all runs are stacked, and `torch.vmap` computes with all of them at once; where a
call takes longer than its computation, a hundred small models take hardly longer than one. Each
run's own model holds views into the stack, so that whatever looks at it sees what was learned.
Nothing of one run enters another's numbers, be they infinite or undefined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

from runner.plan import Plan
from runner.readable import readable_bytes
from runner.tasks import Run, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

    Model = Callable[[Tensor], Tensor]

T = TypeVar("T")

CACHED = 2**20
"""Planned bytes of a step from which on several runs are no faster together on a CPU.

Measured on one core, alone ÷ together: 64 whole jobs of one small convolution (0.05 MiB) 1.7 to
2.6, 32 of digits_cnn (1.5 MiB) 0.9; learning only, 2.8 MiB 0.8, 11 MiB 0.6, 23 MiB 0.4.
"""


def attempt(do: Callable[[], object]) -> Exception | None:
    """What a function raises: one run's trouble is not the others'."""
    try:
        do()
    except Exception as error:
        return error
    return None


def outcome(metrics: Callable[[], T], stopped: Exception | None) -> T | Exception:
    """A run's metrics, or what stopped it: before, or while they are measured."""
    if stopped is not None:
        return stopped
    try:
        return metrics()
    except Exception as error:
        return error


def too_coarse(plan: Plan) -> list[str]:
    """Why models of such numbers can't learn together; empty when they can."""
    if plan.dtype in ("float32", "float64"):
        return []
    return [f"{plan.dtype} has so few digits that the order of sums shows in the results"]


def too_large(plan: Plan, device: str) -> list[str]:
    """Why models of this size learn faster one after the other; empty when they don't.

    What saves time is that calls are fewer. Against it stands that several runs' numbers leave the
    caches between one layer and the next, where one run's stay in them.
    """
    if device.startswith("cuda") or plan.memory <= CACHED:
        return []
    held, most = readable_bytes(plan.memory), readable_bytes(CACHED)
    return [f"a step holds {held}; beyond {most}, one run at a time is faster"]


def alone(task: Task, run: Run) -> dict[str, Any] | Exception:
    """A run that was prepared beside others, by itself after all."""
    import torch

    torch.manual_seed(run.seed)
    return outcome(lambda: task.run(run), None)


class Stacked:
    """Models of one make, with their numbers stacked.

    Attributes:
        models: the runs' own, each a view of its part.
        skeleton: a model that computes with whatever numbers it is given.
        weights: by name, all models' parameters: runs × the parameter's shape.
        buffers: by name, what models hold besides, stacked likewise.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        import torch

        self.models = list(models)
        self.skeleton = deepcopy(models[0])
        parameters = [dict(model.named_parameters()) for model in models]
        buffers = [dict(model.named_buffers()) for model in models]
        self.weights = {
            name: torch.stack([one[name].detach() for one in parameters]).requires_grad_(
                first.requires_grad
            )
            for name, first in parameters[0].items()
        }
        self.buffers = {name: torch.stack([one[name] for one in buffers]) for name in buffers[0]}
        self._share()

    @property
    def trainable(self) -> list[Tensor]:
        """The stacked parameters that learning changes, in the order of a model's own."""
        return [weight for weight in self.weights.values() if weight.requires_grad]

    def __call__(
        self, compute: Callable[..., Any], *inputs: Tensor, dims: Sequence[int | None]
    ) -> Any:
        """Compute something for every run.

        Args:
            compute: takes a model, and of each input the run's part; gives tensors.
            inputs: what it is given.
            dims: of each input 0 where it is runs × what one takes, None where all take the same.

        Returns:
            What `compute` gives, with a leading axis of runs.
        """
        import torch
        from torch.func import functional_call

        from runner import batching  # noqa: F401  # the operators' rules

        def one(weights: Any, buffers: Any, *given: Tensor) -> Any:
            def model(x: Tensor) -> Tensor:
                y: Tensor = functional_call(self.skeleton, (weights, buffers), (x,))
                return y

            return compute(model, *given)

        return torch.vmap(one, in_dims=(0, 0, *dims))(self.weights, self.buffers, *inputs)

    def differentiate(self, losses: Tensor) -> None:
        """Every run's gradient of its own loss: of their sum, as none depends on another's run."""
        for weight in self.trainable:
            weight.grad = None
        losses.sum().backward()  # type: ignore[no-untyped-call]  # torch's has no types

    def keep(self, places: Sequence[int]) -> None:
        """Go on with the runs at these places; the others' models keep what they have."""
        staying = set(places)
        for place, model in enumerate(self.models):
            if place not in staying:
                # A copy, so that nothing holds what was stacked so far.
                for tensor in [*model.parameters(), *model.buffers()]:
                    tensor.data = tensor.data.clone()
        self.models = [self.models[place] for place in places]
        index = list(places)
        for name, weight in self.weights.items():
            kept = weight.detach()[index].requires_grad_(weight.requires_grad)
            kept.grad = None if weight.grad is None else weight.grad[index]
            self.weights[name] = kept
        self.buffers = {name: buffer[index] for name, buffer in self.buffers.items()}
        self._share()

    def _share(self) -> None:
        for i, model in enumerate(self.models):
            for name, parameter in model.named_parameters():
                parameter.data = self.weights[name].detach()[i]
            for name, buffer in model.named_buffers():
                buffer.data = self.buffers[name][i]
