"""Classify: train a stack on labelled images, and measure it on images it has never seen.

The stack ends in as many features as there are classes; the largest says which class an image is
taken for. Learning lowers the cross-entropy of their softmax (the book, 4.1 and 6.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field as Limited

from runner.config.errors import problem, under
from runner.config.spec import Menu
from runner.data import Data, Images
from runner.geometry import Features, Shape, elements
from runner.ops import Ops
from runner.plan import ITEM_BYTES, Plan
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._checkpoint import CHECKPOINT, load_checkpoint, restoring, save_weights
from runner.tasks._classified import Classified, curves, draw_first_layer, listed
from runner.tasks._optimizer import check_trainable
from runner.tasks._outputs import to_numpy
from runner.tasks._split import in_common, sizes, stratified
from runner.tasks._together import alone, attempt, outcome, too_coarse, too_large
from runner.tasks._training import Recipe, Training, predict, score
from runner.tasks._training_together import fit_together

if TYPE_CHECKING:
    from torch.utils.data import TensorDataset

Fraction = Annotated[float, Limited(gt=0, lt=1)]


class Classify(Recipe, Task):
    """Classification of images; `Recipe` has the fields that say how to learn.

    Attributes:
        validation: fraction of the images that choose the best weights and stop learning early.
        test: fraction of the images that are kept for the end; unused where there is `test_data`.
        test_data: another source, all of whose images test: MNIST's test files, for example.
        images: how many misclassified images are drawn, at most.
    """

    memory_factor: ClassVar[int] = 3
    measures: ClassVar[str] = """
        test_accuracy test_loss val_accuracy val_loss train_accuracy train_loss epochs steps
        best_epoch stopped_early parameters head_share confusion
    """
    showcase: ClassVar[tuple[str, ...]] = ("classify/curves", "classify/", "filters/", "maps/")
    objective: ClassVar[Objective | None] = Objective("val_accuracy", "max")
    per_run: ClassVar[tuple[str, ...]] = (
        "task.optimizer.lr",
        "task.optimizer.momentum",
        "task.optimizer.weight_decay",
        "stack.layers.*.weight",
        "stack.layers.*.bias",
    )

    validation: Fraction = 0.1
    test: Fraction = 0.2
    test_data: Annotated[Data | None, Menu("runner.data")] = None
    images: Annotated[int, Limited(ge=1, le=64)] = 15

    def batch(self, count: int) -> int:
        """The images of a step; all of them only wait for their turn."""
        return min(self.batch_size, count)

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """The optimizer's two numbers per weight, and the test images of another source."""
        with under("task.test_data"):
            count = self.test_data.count() if self.test_data is not None else 0
        return 2 * plan.parameters * ITEM_BYTES[plan.dtype] + 16 * count * elements(plan.input)

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The stack must end in classes and have something to learn."""
        last = plan.rows[-1].name if plan.rows else "the input"
        if not isinstance(plan.output, Features):
            raise problem(
                "stack.layers",
                "a last layer that gives a flat vector, one number per class",
                f"feature maps of {plan.output} from '{last}'",
                "End with {kind: flatten} and {kind: linear, features: …}.",
            )
        check_trainable(plan)
        self._check_batchnorm(plan)
        if self.schedule.warmup >= self.epochs:
            expected = f"fewer epochs than task.epochs, {self.epochs}"
            raise problem("task.schedule.warmup", expected, str(self.schedule.warmup))
        with under("task.test_data"):
            shape = self.test_data.shape() if self.test_data is not None else plan.input
            if shape != plan.input:
                raise problem("", f"images of {plan.input}, like the data", str(shape))

    def _check_batchnorm(self, plan: Plan) -> None:
        for row in plan.leaves() if self.batch_size == 1 else ():
            x = row.input
            if row.kind == "batchnorm" and (not isinstance(x, Shape) or x.size == (1, 1)):
                hint = f"{row.path} has one number per channel and image, and needs their variance."
                raise problem("task.batch_size", "at least 2 with batch normalisation", "1", hint)

    def check_images(self, images: Images, plan: Plan) -> None:
        """Labels of at least two classes, as many as the stack tells apart, and images enough."""
        _check_labels(images, "data")
        classes = len(images.classes)
        if classes != plan.output.dims[0]:
            last = plan.rows[-1]
            direct = last.kind == "linear"
            raise problem(
                last.path,
                f"{classes} features, one per class ({listed(images.classes)})",
                f"{plan.output} features",
                f"Set {last.path}.features={classes}." if direct else "End with a linear layer.",
            )
        training, _, _ = sizes(len(images.x), self.validation, self._test_fraction)
        if self.batch_size > training:
            raise problem(
                "task.batch_size",
                f"at most {training}, the images that are left for training",
                str(self.batch_size),
                f"Set task.batch_size={training}, or take more images.",
            )
        if self._tests is not None:
            _check_labels(self._tests, "task.test_data")
            if self._tests.classes != images.classes:
                raise problem(
                    "task.test_data",
                    f"the data's classes ({listed(images.classes)})",
                    listed(self._tests.classes),
                )

    @property
    def _test_fraction(self) -> float:
        return 0.0 if self.test_data is not None else self.test

    @cached_property
    def _tests(self) -> Images | None:
        """The images of `test_data`."""
        with under("task.test_data"):
            return self.test_data.load() if self.test_data is not None else None

    def reached(self, directory: Path) -> int:
        """The step of the checkpoint."""
        saved = load_checkpoint(directory)
        if saved is None:
            return 0
        with restoring(directory):
            return int(saved["step"])

    def run(self, run: Run) -> dict[str, Any]:
        """Accuracy and loss of the best weights, and what they get wrong."""
        sets = self._sets(run)
        training = Training(run, self, sets.train, sets.val)
        saved = load_checkpoint(run.directory)
        if saved is not None:
            with restoring(run.directory):
                training.restore(saved)
            run.notes.append(f"Resumed after epoch {training.epoch}, step {training.step}.")
        try:
            training.fit()
        finally:  # also what was learned until an interruption
            save_weights(run.directory, training.best.weights)
        return self._metrics(run, sets, training)

    def apart(self, plan: Plan, stack: Stack, ops: Ops, device: str) -> list[str]:
        """Numbers that are too coarse, and steps that are too large."""
        return too_coarse(plan) or too_large(plan, device)

    @classmethod
    def run_together(
        cls, tasks: Sequence[Self], runs: Sequence[Run]
    ) -> list[dict[str, Any] | Exception]:
        """As `run`, with the models of all runs stacked."""
        import torch

        def resumes(run: Run) -> bool:
            return (run.directory / CHECKPOINT).exists()

        # A GPU's dropout draws from a generator that can't be had for each run.
        drops = runs[0].device != "cpu" and any(r.kind == "dropout" for r in runs[0].plan.leaves())
        if drops or any(map(resumes, runs)):
            return [alone(task, run) for task, run in zip(tasks, runs, strict=True)]
        sets = [task._sets(run) for task, run in zip(tasks, runs, strict=True)]
        trainings = [
            Training(run, task, own.train, own.val, torch.Generator().manual_seed(run.seed))
            for task, run, own in zip(tasks, runs, sets, strict=True)
        ]
        try:
            fit_together(trainings)
        finally:
            for t in trainings:
                write = partial(save_weights, t.run.directory, t.best.weights)
                t.failure = attempt(write) or t.failure
        return [
            outcome(partial(task._metrics, t.run, own, t), t.failure)
            for task, own, t in zip(tasks, sets, trainings, strict=True)
        ]

    def _sets(self, run: Run) -> Sets:
        """The images as tensors on the run's device, apart by what they are for."""
        import torch
        from torch.utils.data import TensorDataset

        images = run.images
        assert images.labels is not None  # `check_images` saw to it
        split = stratified(images.labels, self.validation, self._test_fraction, run.seed)
        labels = torch.from_numpy(images.labels).to(run.device)

        def part(indices: NDArray[np.int64]) -> TensorDataset:
            at = torch.from_numpy(indices).to(run.device)
            return TensorDataset(run.x[at], labels[at])

        pictures = images.x[split.test]
        test = part(split.test)
        if self._tests is not None:
            pictures = self._tests.x
            if known := in_common(pictures, images.x):
                run.notes.append(
                    f"{known} of the {len(pictures)} images of task.test_data are also in the "
                    "data, so test_accuracy says less of images that were never seen."
                )
            test = TensorDataset(
                run.tensor(pictures), torch.as_tensor(self._tests.labels, device=run.device)
            )
        return Sets(part(split.train), part(split.validation), test, pictures)

    def _metrics(self, run: Run, sets: Sets, training: Training) -> dict[str, Any]:
        metrics: dict[str, Any] = {}
        for name, part in {"test": sets.test, "val": sets.val, "train": sets.train}.items():
            loss, accuracy = score(*predict(run.model, part, self.batch_size))
            metrics |= {f"{name}_accuracy": accuracy, f"{name}_loss": loss}
        outputs, labels = predict(run.model, sets.test, self.batch_size)
        probabilities = to_numpy(outputs.softmax(dim=1))
        found = Classified(sets.pictures, to_numpy(labels), probabilities, run.images.classes)
        dense = sum(row.parameters for row in run.plan.leaves() if row.kind == "linear")
        metrics |= {
            "epochs": training.epoch,
            "steps": training.step,
            "best_epoch": training.best.epoch,
            "stopped_early": training.stopped_early,
            "parameters": run.plan.parameters,
            "head_share": dense / run.plan.parameters,
            "confusion": found.confusion.tolist(),
        }
        if training.stopped_early:
            run.notes.append(
                f"Stopped early: no better validation loss in {training.waited} epochs; "
                f"the weights are those of epoch {training.best.epoch}."
            )
        run.notes += found.notes()
        run.outputs |= {"classify/probabilities": probabilities, "classify/labels": found.labels}
        run.tracker.image("classify/curves", curves(training.history, training.best.epoch))
        found.draw(run, self.images)
        draw_first_layer(run, found)
        return metrics


@dataclass(frozen=True)
class Sets:
    """Images and labels, apart by what they are for.

    Attributes:
        train: what is learned from.
        val: what chooses the best weights.
        test: what is looked at once, at the end.
        pictures: the test images as they are drawn, n × c × h × w.
    """

    train: TensorDataset
    val: TensorDataset
    test: TensorDataset
    pictures: NDArray[np.float64]


def _check_labels(images: Images, path: str) -> None:
    """There must be labels of at least two classes, and a name for each."""
    labels, classes = images.labels, images.classes
    if labels is None:
        hint = "data=digits_all, mnist and fashion_mnist have labels."
        if path != "data":
            hint = "The kinds digits, mnist and fashion_mnist have labels."
        raise problem(path, "images with labels", "images without labels", hint)
    if not classes:
        hint = "The source's Images need `classes`, one name for each label."
        raise problem(path, "labels with named classes", "labels without classes", hint)
    least, most = int(labels.min()), int(labels.max())
    if least < 0 or most >= len(classes):
        expected = f"labels from 0 to {len(classes) - 1}, one of {len(classes)} classes"
        raise problem(path, expected, f"labels from {least} to {most}")
    if least == most:
        raise problem(
            path,
            "images of at least two classes",
            f"{len(labels)} of one class, '{classes[least]}'",
            f"There is nothing to tell apart. Take other or more images: {path}.images=null.",
        )
