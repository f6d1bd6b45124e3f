"""Minibatch gradient descent on labelled images: early stop, best weights, checkpoints.

Everything that decides what comes next is in `Training.state`, the generators of all randomness
included, so that a run that was killed goes on as if it had not been.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from operator import index
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field as Limited

from runner.config.fields import Count
from runner.config.spec import Spec
from runner.tasks import Advance, Run
from runner.tasks._checkpoint import save_checkpoint
from runner.tasks._optimizer import Diverged, Optimizer
from runner.tasks._schedule import Schedule

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, TensorDataset

CURVES = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/lr")


class Recipe(Spec):
    """How to learn.

    Attributes:
        epochs: how often each training image is seen, at most.
        batch_size: images per step.
        optimizer: how to follow the gradient of the cross-entropy, averaged over the batch.
        schedule: how the learning rate changes from epoch to epoch.
        patience: stop after so many epochs without a better validation loss; null: never.
        checkpoint_every: epochs between checkpoints.
        log_every: steps between logged training losses; null: about 200 times in all.
    """

    epochs: Count = 30
    batch_size: Count = 32
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    patience: Count | None = None
    checkpoint_every: Count = 1
    log_every: Annotated[int, Limited(ge=1)] | None = None


@dataclass
class Best:
    """The weights with the lowest validation loss so far, and the epoch they are from."""

    epoch: int
    loss: float
    weights: dict[str, Tensor]


class Training:
    """Learning that can be stopped and taken up again.

    Attributes:
        random: what dropout draws from.
        epoch: epochs done.
        step: steps done.
        total: steps at most.
        waited: epochs since the best one.
        best: the best weights.
        history: per curve, a value per epoch; ``train/loss`` and ``train/accuracy`` are means over
            the epoch's steps, each before its update.
        failure: what stopped learning, where several learn together.
    """

    def __init__(
        self,
        run: Run,
        recipe: Recipe,
        train: TensorDataset,
        validation: TensorDataset,
        random: torch.Generator | None = None,
    ) -> None:
        """Ready to learn; `random`, if not torch's own, is what several that learn at once need."""
        import torch

        self.random = random or torch.default_generator
        self.failure: Exception | None = None
        self.run, self.recipe, self.model = run, recipe, run.model
        self.optimizer = recipe.optimizer.build(self.model.parameters())
        self.schedule = recipe.schedule.build(self.optimizer, recipe.epochs)
        self.batches = shuffled(train, recipe.batch_size, run.generator)
        self.validation = validation
        self.total = recipe.epochs * len(self.batches)
        self.log_every = recipe.log_every or max(1, self.total // 200)
        self.epoch = self.step = self.waited = 0
        self.best = Best(0, float("inf"), _copy(self.model))
        self.history: dict[str, list[float]] = {curve: [] for curve in CURVES}

    @property
    def goes_on(self) -> bool:
        """Whether there is another epoch to do."""
        return self.epoch < self.recipe.epochs and not self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether the validation loss hasn't improved for as long as the recipe waits."""
        return self.recipe.patience is not None and self.waited >= self.recipe.patience

    def fit(self) -> None:
        """Learn until the epochs are done or nothing improves; the model gets the best weights.

        Raises:
            Diverged: the loss is infinite or undefined; which step, and why.
        """
        with self.run.progress(self.total, "training", self.step) as advance:
            while self.goes_on:
                self._learn(advance)
                self.validate()
                self.close_epoch()
        self.take_best()

    def _learn(self, advance: Advance) -> None:
        """One epoch; nothing in it waits for the device except where a loss is logged."""
        import torch
        from torch.nn.functional import cross_entropy

        model, optimizer, batches = self.model.train(), self.optimizer, self.batches
        device = self.run.device
        losses = torch.zeros(len(batches), device=device)
        sizes = torch.zeros(len(batches))
        correct = torch.zeros((), dtype=torch.int64, device=device)
        note = ""
        for i, (x, labels) in enumerate(batches):
            y = wide(model(x))
            loss = cross_entropy(y, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's has no types
            optimizer.step()
            losses[i], sizes[i] = loss.detach(), len(labels)
            correct += (y.argmax(dim=1) == labels).sum()
            self.step += 1
            if self.logs:
                note = self.log(losses[: i + 1])
            advance(note)
        self.learned(losses, sizes, correct)

    @property
    def lr(self) -> float:
        """The learning rate of this epoch."""
        rate: float = self.optimizer.param_groups[0]["lr"]
        return rate

    @property
    def logs(self) -> bool:
        """Whether this step's loss is logged."""
        return self.step % self.log_every == 0

    def log(self, losses: Tensor) -> str:
        """Log the last of the epoch's losses so far.

        Returns:
            What to show beside the progress bar.

        Raises:
            Diverged: one of them is infinite or undefined.
        """
        self._stop_if_diverged(losses)
        value = float(losses[-1])
        self.run.tracker.scalars({"train/loss": value, "train/lr": self.lr}, self.step)
        return f"epoch {self.epoch + 1}, loss {value:.4g}"

    def learned(self, losses: Tensor, sizes: Tensor, correct: Tensor) -> None:
        """Take what an epoch's steps measured: each one's loss and images, and all that are right.

        Raises:
            Diverged: a loss is infinite or undefined.
        """
        self._stop_if_diverged(losses)
        self.history["train/loss"].append(float((losses.cpu() * sizes).sum() / sizes.sum()))
        self.history["train/accuracy"].append(float(correct / sizes.sum()))
        self.history["train/lr"].append(self.lr)
        self.epoch += 1

    def validate(self) -> None:
        """Measure the model on the validation images, and keep it if it is the best so far.

        Raises:
            Diverged: the validation loss is infinite or undefined.
        """
        batch_size = self.recipe.batch_size
        loss, accuracy = score(*predict(self.model, self.validation, batch_size, self.random))
        if not isfinite(loss):
            raise Diverged(f"the validation loss was {loss:g} after step {self.step}{self._why()}")
        self.history["val/loss"].append(loss)
        self.history["val/accuracy"].append(accuracy)
        # The loss by step is logged as it comes; its mean is for the picture.
        by_epoch = ("train/accuracy", "val/loss", "val/accuracy")
        values = {curve: self.history[curve][-1] for curve in by_epoch}
        self.run.tracker.scalars({"epoch": self.epoch, **values}, self.step)
        if loss < self.best.loss:
            self.best, self.waited = Best(self.epoch, loss, _copy(self.model)), 0
        else:
            self.waited += 1

    def close_epoch(self) -> None:
        """Change the learning rate, and write a checkpoint if it is time to."""
        self.schedule.step()
        if self.epoch % self.recipe.checkpoint_every == 0 or not self.goes_on:
            save_checkpoint(self.run.directory, self.state())

    def take_best(self) -> None:
        """Give the model the best weights."""
        self.model.load_state_dict(self.best.weights)

    def _stop_if_diverged(self, losses: Tensor) -> None:
        """Look for the first loss of the epoch that isn't a number."""
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            i = int(bad[0])
            step = self.epoch * len(self.batches) + i + 1
            self.run.tracker.scalars({"train/loss": float(losses[i])}, step)
            raise Diverged(f"the loss was {float(losses[i]):g} at step {step}{self._why()}")

    def _why(self) -> str:
        optimizer = self.recipe.optimizer
        return (
            f", in epoch {self.epoch + 1}: task.optimizer.lr={optimizer.lr:g} is too large for "
            f"{optimizer.name} here; try a tenth of it."
        )

    def state(self) -> dict[str, Any]:
        """Everything that decides what comes next, as tensors and plain types."""
        best = {"epoch": self.best.epoch, "loss": self.best.loss, "weights": self.best.weights}
        return {
            "epoch": self.epoch,
            "step": self.step,
            "waited": self.waited,
            "best": best,
            "history": self.history,
            "model": _copy(self.model),  # of a stack's part; all of it would be saved
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "order": self.run.generator.get_state(),
            "random": self.random.get_state(),
            "device_random": _device_random(self.run.device),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`.

        Raises:
            ValueError: it is of no use; or another error of what doesn't fit.
        """
        import torch

        self.epoch, self.step, self.waited = (index(state[k]) for k in ("epoch", "step", "waited"))
        self.history = {curve: [float(x) for x in state["history"][curve]] for curve in CURVES}
        if any(len(values) != self.epoch for values in self.history.values()):
            raise ValueError(f"history: not a value for each of {self.epoch} epochs")
        best = state["best"]
        self.best = Best(index(best["epoch"]), float(best["loss"]), best["weights"])
        self.take_best()  # which shows that they fit
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.run.generator.set_state(state["order"])
        self.random.set_state(state["random"])
        if state["device_random"] is not None:
            torch.cuda.set_rng_state(state["device_random"], self.run.device)


def _device_random(device: str) -> Tensor | None:
    """The state of a GPU's own generator, from which its dropout draws."""
    import torch

    return torch.cuda.get_rng_state(device) if device.startswith("cuda") else None


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def shuffled(
    data: TensorDataset, batch_size: int, generator: torch.Generator
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of images and labels in a new order every epoch.

    A last batch of one image is left out: batch normalisation can't learn from it.
    """
    from torch.utils.data import BatchSampler, RandomSampler

    order = RandomSampler(data, generator=generator)
    alone = batch_size > 1 and len(data) % batch_size == 1
    return _loader(data, BatchSampler(order, batch_size, drop_last=alone), generator)


def _loader(
    data: TensorDataset, batches: Any, generator: torch.Generator | None = None
) -> DataLoader[tuple[Tensor, Tensor]]:
    """A loader that takes each batch by one indexing; collating images one by one costs more."""
    from torch.utils.data import DataLoader

    pairs: Any = data  # a TensorDataset gives tuples of any length, this one pairs
    return DataLoader(pairs, sampler=batches, batch_size=None, generator=generator)


def predict(
    model: nn.Module,
    data: TensorDataset,
    batch_size: int,
    random: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The model's outputs in evaluation mode, n × classes, and the n labels.

    A loader draws a number when it begins, from `random` or from torch's own generator.
    """
    import torch
    from torch.utils.data import BatchSampler, SequentialSampler

    batches = BatchSampler(SequentialSampler(data), batch_size, drop_last=False)
    model.eval()
    with torch.no_grad():
        found = [(wide(model(x)), labels) for x, labels in _loader(data, batches, random)]
    outputs, labels = zip(*found, strict=True)
    return torch.cat(outputs), torch.cat(labels)


def score(outputs: Tensor, labels: Tensor) -> tuple[float, float]:
    """Cross-entropy, averaged, and the share of images whose largest output is the right one."""
    from torch.nn.functional import cross_entropy

    accuracy = (outputs.argmax(dim=1) == labels).double().mean()
    return float(cross_entropy(outputs, labels)), float(accuracy)


def wide(y: Tensor) -> Tensor:
    """Half types as float32, in which a cross-entropy has digits enough."""
    return y.float() if y.element_size() < 4 else y
