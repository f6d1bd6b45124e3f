"""Learn a kernel from input and output alone (the book, 6.2.4).

A target kernel is laid on the data; the stack is trained by gradient descent to give the same
output, and its own kernels come out like the target.
"""

from __future__ import annotations

from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field as Limited

from runner.ops import Ops
from runner.plan import Plan
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._checkpoint import save_weights
from runner.tasks._film import Film
from runner.tasks._optimizer import Diverged, Optimizer, check_trainable
from runner.tasks._outputs import layer_outputs, numbers, to_numpy
from runner.tasks._quadratic import stable_learning_rate
from runner.tasks._target import Target, only_conv, squared_error

if TYPE_CHECKING:
    from torch import Tensor, nn

DIVERGED = 1e6
"""Learning is stopped when the loss has grown by this factor: it won't come back."""


class LearnKernel(Task):
    """Kernel learning.

    Attributes:
        target: the kernel whose output is to be matched. It is laid on the data with the stride,
            padding, dilation and groups of the stack's only conv layer (plainly, if there are
            several layers).
        optimizer: how to follow the gradient.
        steps: how many steps to take, each on all of the data.
        reduction: whether squared errors are added up (the book) or averaged.
        log_every: log the loss and the kernel every so many steps; default: about 50 times.
    """

    memory_factor: ClassVar[int] = 3
    showcase: ClassVar[tuple[str, ...]] = ("kernel/forming",)
    objective: ClassVar[Objective | None] = Objective("kernel_error", "min", "loss")

    target: Target
    optimizer: Optimizer = Optimizer()
    steps: Annotated[int, Limited(ge=1)] = 10
    reduction: Literal["sum", "mean"] = "sum"
    log_every: Annotated[int, Limited(ge=1)] | None = None

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """There must be something to learn, and target and stack must give the same shape."""
        check_trainable(plan)
        self.target.check(plan, stack)

    def run(self, run: Run) -> dict[str, Any]:
        """Loss by step, the kernel as it forms, and how far it ends from the target."""
        import torch

        x, model = run.x, run.model.train()
        target = self.target.build(run)
        with torch.no_grad():
            wanted = target(x)
        film = Film(run, self.log_every or max(1, self.steps // 50), target.effective_kernel())
        try:
            losses = self._learn(run, model, x, wanted, film)
        finally:
            # Also what was learned until an interruption.
            save_weights(run.directory, model.state_dict())
            film.draw()
        if film.frames:
            run.tracker.image("kernel/forming", film.sheet())
        run.outputs.update(layer_outputs(run))
        found, expected = next(reversed(run.outputs.values())), to_numpy(wanted)
        run.outputs["learn_kernel/target"] = expected

        metrics: dict[str, Any] = {
            "loss": losses[-1],
            "losses": losses if len(losses) <= 100 else losses[:: len(losses) // 100],
            "output_error": float(np.abs(found - expected).max()),
        }
        if only_conv(run.stack) is not None:
            learned: Any = model[0]
            error = learned.effective_kernel() - target.effective_kernel()
            metrics["kernel_error"] = float(error.detach().abs().max())
            metrics["kernel"] = numbers(to_numpy(learned.weight))
        if losses[-1] > losses[0]:
            run.notes.append(f"The loss grew: {self._stability(run)}")
        return metrics

    def _learn(
        self, run: Run, model: nn.Module, x: Tensor, wanted: Tensor, film: Film
    ) -> list[float]:
        """Take the steps; the loss of each is that before its update, as the book prints it."""
        take_step, weights = self.optimizer.stepper(model.parameters()), list(model.parameters())
        losses: list[float] = []
        since = monotonic()
        with run.progress(self.steps, "learning") as advance:
            for step in range(1, self.steps + 1):
                loss = squared_error(model(x), wanted, self.reduction)
                for weight in weights:
                    weight.grad = None
                loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
                losses.append(loss.item())
                pictured = step % film.every == 0 or step in (1, self.steps)
                # At least once a second, so that little is lost when a long run is stopped.
                logged = pictured or monotonic() - since > 1
                if logged:
                    run.tracker.scalars({"train/loss": losses[-1]}, step)
                    since = monotonic()
                self._stop_if_diverged(run, losses, logged)
                take_step()
                if pictured:
                    film.add(model, step)
                advance(f"loss {losses[-1]:.4g}")
        return losses

    def _stop_if_diverged(self, run: Run, losses: list[float], logged: bool) -> None:
        if isfinite(losses[-1]) and losses[-1] <= DIVERGED * max(losses[0], 1.0):
            return
        step = len(losses)
        if not logged:
            run.tracker.scalars({"train/loss": losses[-1]}, step)
        raise Diverged(
            f"the loss was {losses[-1]:g} at step {step}, {losses[0]:g} at step 1: "
            + self._stability(run)
        )

    def _stability(self, run: Run) -> str:
        """The largest learning rate that plain gradient descent can take on this problem.

        For one conv layer the loss is quadratic in the kernel: its Hessian is 2·PᵀP with a row of
        P per window, and steps shrink the error as long as lr < 2/λmax.
        """
        lr = f"lr {self.optimizer.lr:g}"
        only = only_conv(run.stack)
        if only is None or self.optimizer.name != "sgd" or self.optimizer.momentum:
            return f"{lr} is too large for {self.optimizer.name} here; try a tenth of it."
        limit = stable_learning_rate(
            run.x, only, run.plan, self.reduction, self.optimizer.weight_decay
        )
        if self.optimizer.lr < limit:
            return f"{lr} is below the largest stable learning rate, {limit:.4g}."
        return f"{lr} is above the largest stable learning rate here, 2/λmax = {limit:.4g}."
