"""Minibatch gradient descent for several runs at once, each as `Training` does it alone.

Every run has its own split and order of images, its own dropout, learning rate and best weights,
and stops early by itself; the others go on without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runner.tasks import Advance
from runner.tasks._dropout import Masks
from runner.tasks._together import Stacked, attempt
from runner.tasks._training import Training, wide
from runner.tasks._updates import Updates

if TYPE_CHECKING:
    from torch import Tensor

    from runner.tasks._together import Model


def fit_together(trainings: Sequence[Training]) -> None:
    """As `Training.fit` of each; what stops one of them is its `failure`."""
    with ExitStack() as bars:
        learning = _Learning(
            [
                _Learner(t, bars.enter_context(t.run.progress(t.total, "training", t.step)))
                for t in trainings
            ]
        )
        while learning.going:
            learning.epoch()
            learning.judge()


@dataclass
class _Learner:
    training: Training
    advance: Advance
    note: str = ""


class _Learning:
    """Those that are still learning; all have done as many steps."""

    def __init__(self, learners: Sequence[_Learner]) -> None:
        self.going = list(learners)
        trainings = [one.training for one in learners]
        self.stacked = Stacked([t.model for t in trainings])
        self.updates = Updates([t.recipe.optimizer for t in trainings], self.stacked.trainable)
        self.masks = Masks(self.stacked)

    def epoch(self) -> None:
        """Learn from every image once; who diverges is computed to the end, to no effect."""
        import torch

        trainings = [one.training for one in self.going]
        self.updates.set_rates([t.lr for t in trainings])
        self.stacked.skeleton.train()
        loaders = [iter(t.batches) for t in trainings]
        count, device = len(trainings[0].batches), trainings[0].run.device
        losses = torch.zeros(len(trainings), count, device=device)
        correct = torch.zeros(len(trainings), dtype=torch.int64, device=device)
        sizes = torch.zeros(count)
        for i in range(count):
            batches = [next(loader) for loader in loaders]
            x, labels = (torch.stack(parts) for parts in zip(*batches, strict=True))
            self.masks.draw(x, [t.random for t in trainings])
            loss, right = self.stacked(_lesson, x, labels, dims=(0, 0))
            self.stacked.differentiate(loss)
            self.updates.step(self.stacked.trainable)
            losses[:, i], sizes[i] = loss.detach(), labels.shape[1]
            correct += right
            for one, measured in zip(self.going, losses, strict=True):
                _after_step(one, measured[: i + 1])
        for t, measured, right in zip(trainings, losses, correct, strict=True):
            t.failure = t.failure or attempt(partial(t.learned, measured, sizes, right))
        self._keep([t.failure is None for t in trainings])

    def judge(self) -> None:
        """What follows an epoch: validation, the next learning rate, checkpoints, early stops."""
        trainings = [one.training for one in self.going]
        for place, t in enumerate(trainings):
            t.failure = attempt(t.validate)
            if t.failure is None:
                self.updates.hand_over(place, t.optimizer)
                t.failure = attempt(t.close_epoch)
        self._keep([t.failure is None and t.goes_on for t in trainings])
        for t in trainings:
            if t.failure is None and not t.goes_on:
                t.take_best()

    def _keep(self, these: Sequence[bool]) -> None:
        """Leave the others behind."""
        places = [place for place, stays in enumerate(these) if stays]
        self.going = [self.going[place] for place in places]
        if 0 < len(places) < len(these):
            self.stacked.keep(places)
            self.updates.keep(places)


def _lesson(model: Model, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and how many images are taken for what they are."""
    from torch.nn.functional import cross_entropy

    y = wide(model(x))
    return cross_entropy(y, labels), (y.argmax(dim=1) == labels).sum()


def _after_step(one: _Learner, losses: Tensor) -> None:
    t = one.training
    t.step += 1
    if t.logs and t.failure is None:
        t.failure = attempt(lambda: setattr(one, "note", t.log(losses)))
    one.advance(one.note)
