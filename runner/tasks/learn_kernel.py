"""Learn a kernel from input and output alone (the book, 6.2.4).

A target kernel is laid on the data; the stack is trained by gradient descent to give the same
output, and its own kernels come out like the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from math import isfinite
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

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
from runner.tasks._together import Stacked, attempt, outcome, too_coarse, too_large
from runner.tasks._updates import Updates

if TYPE_CHECKING:
    from torch import Tensor

    from runner.tasks._together import Model

DIVERGED = 1e6
"""Learning is stopped when the loss has grown by this factor: it won't come back."""

PICTURES = 200
"""Of the kernel, at most but for the first: each takes as long as many steps, and a file."""


class LearnKernel(Task):
    """Kernel learning.

    Attributes:
        target: the kernel whose output is to be matched. It is laid on the data with the stride,
            padding, dilation and groups of the stack's only conv layer (plainly, if there are
            several layers).
        optimizer: how to follow the gradient.
        steps: how many steps to take, each on all of the data.
        reduction: whether squared errors are added up (the book) or averaged.
        log_every: log the loss and the kernel every so many steps; default: about 50 times. Of
            the kernel there are some `PICTURES` at most.
    """

    memory_factor: ClassVar[int] = 3
    measures: ClassVar[str] = "loss losses output_error kernel_error kernel"
    showcase: ClassVar[tuple[str, ...]] = ("kernel/forming",)
    objective: ClassVar[Objective | None] = Objective("kernel_error", "min", "loss")
    per_run: ClassVar[tuple[str, ...]] = (
        "task.target.*",
        "task.optimizer.lr",
        "task.optimizer.momentum",
        "task.optimizer.weight_decay",
        "stack.layers.*.weight",
        "stack.layers.*.bias",
        "data.*",
    )

    target: Target
    optimizer: Optimizer = Optimizer()
    steps: Annotated[int, Limited(ge=1, le=10_000_000)] = 10
    reduction: Literal["sum", "mean"] = "sum"
    log_every: Annotated[int, Limited(ge=1)] | None = None

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """There must be something to learn, and target and stack must give the same shape."""
        check_trainable(plan)
        self.target.check(plan, stack)

    def apart(self, plan: Plan, stack: Stack, ops: Ops, device: str) -> list[str]:
        """Numbers that are too coarse, and several layers that are too large.

        One layer's kernels are laid on one image all at once, the faster the larger it is.
        """
        return too_coarse(plan) or ([] if only_conv(stack) else too_large(plan, device))

    def run(self, run: Run) -> dict[str, Any]:
        """Loss by step, the kernel as it forms, and how far it ends from the target."""
        lesson = Lesson(self, run)
        try:
            self._learn(lesson)
        finally:
            lesson.write()
        return lesson.metrics()

    def _learn(self, lesson: Lesson) -> None:
        """Take the steps; the loss of each is that before its update, as the book prints it."""
        model, x, wanted = lesson.model, lesson.x, lesson.wanted
        take_step, weights = self.optimizer.stepper(model.parameters()), list(model.parameters())
        with lesson.run.progress(self.steps, "learning") as advance:
            for _ in range(self.steps):
                loss = squared_error(model(x), wanted, self.reduction)
                for weight in weights:
                    weight.grad = None
                loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
                lesson.measured(loss.item())
                take_step()
                lesson.stepped()
                advance(lesson.note)

    @classmethod
    def run_together(
        cls, tasks: Sequence[Self], runs: Sequence[Run]
    ) -> list[dict[str, Any] | Exception]:
        """As `run`, with the models of all runs stacked."""
        lessons = [Lesson(task, run) for task, run in zip(tasks, runs, strict=True)]
        left = list(lessons)
        try:
            _learn_together(lessons)
            outcomes = []
            while left:
                outcomes.append(left[0].outcome())
                left.pop(0)
            return outcomes
        except BaseException:
            for lesson in left:
                attempt(lesson.write)
            raise


class Lesson:
    """One run's learning: what is to be matched, and what was measured so far.

    Attributes:
        task: how to learn.
        run: what learns, and takes what is measured.
        x: n × c × h × w.
        model: the run's.
        target: the kernel to be found, as a module.
        wanted: the target's output, n × c × oh × ow.
        film: pictures of the kernel.
        losses: by step, each before its update.
        stopped: what stopped this run, where several learn together.
    """

    def __init__(self, task: LearnKernel, run: Run) -> None:
        import torch

        self.task, self.run = task, run
        self.x, self.model = run.x, run.model.train()
        self.target = task.target.build(run)
        with torch.no_grad():
            self.wanted: Tensor = self.target(self.x)
        self._every = task.log_every or max(1, task.steps // 50)
        apart = max(self._every, -(-task.steps // PICTURES))
        self.film = Film(run, apart, self.target.effective_kernel())
        self.losses: list[float] = []
        self.stopped: Exception | None = None
        self._since = monotonic()

    @property
    def note(self) -> str:
        """What to show beside the progress bar."""
        return f"loss {self.losses[-1]:.4g}"

    def measured(self, loss: float) -> None:
        """Take the loss of a step, before its update.

        Raises:
            Diverged: it is infinite or undefined, or has grown without bound; and why.
        """
        self.losses.append(loss)
        # At least once a second, so that little is lost when a long run is stopped.
        logged = self._due(self._every) or monotonic() - self._since > 1
        diverged = not (isfinite(loss) and loss <= DIVERGED * max(self.losses[0], 1.0))
        step = len(self.losses)
        if logged or diverged:
            self.run.tracker.scalars({"train/loss": loss}, step)
            self._since = monotonic()
        if diverged:
            raise Diverged(
                f"the loss was {loss:g} at step {step}, {self.losses[0]:g} at step 1: "
                + self._stability()
            )

    def stepped(self) -> None:
        """Keep the kernel after the step's update, if it shall be seen."""
        if self._due(self.film.every):
            self.film.add(self.model, len(self.losses))

    def _due(self, every: int) -> bool:
        step = len(self.losses)
        return step % every == 0 or step in (1, self.task.steps)

    def write(self) -> None:
        """Write what was learned, also until an interruption."""
        save_weights(self.run.directory, self.model.state_dict())
        self.film.draw()

    def outcome(self) -> dict[str, Any] | Exception:
        """Where several learn together: what `LearnKernel.run` gives or raises."""
        failure = attempt(self.write) or self.stopped
        return outcome(self.metrics, failure)

    def metrics(self) -> dict[str, Any]:
        """What came out, once all steps are taken."""
        run, losses = self.run, self.losses
        if self.film.frames:
            run.tracker.image("kernel/forming", self.film.sheet())
        run.outputs.update(layer_outputs(run))
        found, expected = next(reversed(run.outputs.values())), to_numpy(self.wanted)
        run.outputs["learn_kernel/target"] = expected

        metrics: dict[str, Any] = {
            "loss": losses[-1],
            "losses": losses if len(losses) <= 100 else losses[:: len(losses) // 100],
            "output_error": float(np.abs(found - expected).max()),
        }
        if only_conv(run.stack) is not None:
            learned: Any = run.model[0]
            error = learned.effective_kernel() - self.target.effective_kernel()
            metrics["kernel_error"] = float(error.detach().abs().max())
            metrics["kernel"] = numbers(to_numpy(learned.weight))
        if losses[-1] > losses[0]:
            run.notes.append(f"The loss grew: {self._stability()}")
        return metrics

    def _stability(self) -> str:
        """The largest learning rate that plain gradient descent can take on this problem.

        For one conv layer the loss is quadratic in the kernel: its Hessian is 2·PᵀP with a row of
        P per window, and steps shrink the error as long as lr < 2/λmax.
        """
        run, optimizer = self.run, self.task.optimizer
        lr = f"lr {optimizer.lr:g}"
        only = only_conv(run.stack)
        if only is None or optimizer.name != "sgd" or optimizer.momentum:
            return f"{lr} is too large for {optimizer.name} here; try a tenth of it."
        limit = stable_learning_rate(
            run.x, only, run.plan, self.task.reduction, optimizer.weight_decay
        )
        if optimizer.lr < limit:
            return f"{lr} is below the largest stable learning rate, {limit:.4g}."
        return f"{lr} is above the largest stable learning rate here, 2/λmax = {limit:.4g}."


def _learn_together(lessons: Sequence[Lesson]) -> None:
    """As `LearnKernel._learn`; a lesson that is `stopped` leaves the others alone."""
    import torch

    task, going = lessons[0].task, list(lessons)
    stacked = Stacked([lesson.model for lesson in going])
    updates = Updates([lesson.task.optimizer for lesson in going], stacked.trainable)
    # One image for all is convolved with all kernels at once.
    one = all(lesson.run.data == going[0].run.data for lesson in going)
    x = going[0].x if one else torch.stack([lesson.x for lesson in going])
    wanted = torch.stack([lesson.wanted for lesson in going])

    def error(model: Model, x: Tensor, wanted: Tensor) -> Tensor:
        return squared_error(model(x), wanted, task.reduction)

    with ExitStack() as bars:
        shown = {
            id(lesson): bars.enter_context(lesson.run.progress(task.steps, "learning"))
            for lesson in going
        }
        for _ in range(task.steps):
            losses = stacked(error, x, wanted, dims=(None if one else 0, 0))
            stacked.differentiate(losses)
            for lesson, loss in zip(going, losses.tolist(), strict=True):
                lesson.stopped = lesson.stopped or attempt(partial(lesson.measured, loss))
            places = [i for i, lesson in enumerate(going) if lesson.stopped is None]
            if len(places) < len(going):
                going = [going[i] for i in places]
                if not going:
                    return
                stacked.keep(places)
                updates.keep(places)
                x, wanted = x if one else x[places], wanted[places]
            updates.step(stacked.trainable)
            for lesson in going:
                lesson.stopped = attempt(lesson.stepped)
                shown[id(lesson)](lesson.note)
