"""Pictures of what a classifier learned, how, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from runner.tasks import Run
from runner.tasks._outputs import at_layer, channel_titles, map_panels, to_numpy
from runner.tracking import charts, pictures

Array = NDArray[np.floating[Any]]

MOST = 32
"""Filters and feature maps that are drawn."""


@dataclass(frozen=True)
class Classified:
    """Images, what they are, and what they are taken for.

    Attributes:
        x: n × c × h × w.
        labels: their classes, n integers.
        probabilities: n × classes.
        classes: names of the classes.
    """

    x: Array
    labels: NDArray[np.int64]
    probabilities: Array
    classes: Sequence[str]

    @property
    def taken_for(self) -> NDArray[np.int64]:
        """The most probable class of each image."""
        found: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def confusion(self) -> NDArray[np.int64]:
        """How often each class, a row, was taken for each, a column."""
        counts = np.zeros((len(self.classes),) * 2, dtype=np.int64)
        np.add.at(counts, (self.labels, self.taken_for), 1)
        return counts

    def notes(self) -> list[str]:
        """How the confusion matrix is read, and whether anything was learned at all."""
        notes = [
            "confusion: a row for each class, a column for each that it was taken for: "
            f"{listed(self.classes)}."
        ]
        counts = self.confusion.sum(axis=1).tolist()
        right, most = int(self.confusion.trace()), max(counts)
        if right <= most < len(self.labels):
            notes.append(
                f"Nothing was learned: {right} of {len(self.labels)} test images are right, and "
                f"{most} would be if all were taken for '{self.classes[counts.index(most)]}'. "
                "Try another task.optimizer.lr (a tenth, or ten times), or more epochs."
            )
        return notes

    def draw(self, run: Run, most: int) -> None:
        """The confusion matrix, and the `most` mistakes that are the surest of themselves."""
        wrong = np.flatnonzero(self.taken_for != self.labels)
        title = f"{len(wrong)} of {len(self.labels)} test images taken for another class"
        run.tracker.image(
            "classify/confusion", charts.confusion(self.confusion, self.classes, title)
        )
        if len(wrong):
            surest = np.argsort(-self.probabilities[wrong].max(axis=1), kind="stable")
            panels = [self._mistake(i) for i in wrong[surest][:most]]
            columns = min(len(panels), 5)
            run.tracker.image("classify/misclassified", pictures.sheet(panels, columns))

    def _mistake(self, i: int) -> Image:
        found = self.taken_for[i]
        true, taken = self.classes[self.labels[i]], self.classes[found]
        sure = f"{self.probabilities[i, found]:.0%}"
        # Pixels that are repeated carry no numbers, which would hide a small image's shape.
        x = self.x[i].repeat(2, axis=1).repeat(2, axis=2)
        return pictures.photograph(x, f"{true}, taken for {taken} ({sure})")


def listed(names: Sequence[str]) -> str:
    """Names with commas; of many, the first and the last."""
    if len(names) > 10:
        names = [*names[:3], "…", names[-1]]
    return ", ".join(names)


def curves(history: Mapping[str, Sequence[float]], best: int) -> Image:
    """Loss and accuracy by epoch, of training and of validation."""
    epochs = range(1, len(history["val/loss"]) + 1)
    names = {"training, while learning": "train", "validation": "val"}
    marked = f"the best weights are those of epoch {best}"
    panels = [
        charts.lines(
            {name: history[f"{part}/{what}"] for name, part in names.items()},
            f"{what}: {marked}" if what == "loss" else what,
            "epoch",
            label,
            x=epochs,
            log=what == "loss",
        )
        for what, label in (("loss", "cross-entropy"), ("accuracy", "share of images"))
    ]
    return pictures.sheet(panels, columns=2)


def draw_first_layer(run: Run, found: Classified) -> None:
    """The first conv layer's filters, and what they make of the first test image."""
    import torch

    from runner.modules import Conv2d

    named = run.model.named_modules()
    name, module = next(((n, m) for n, m in named if isinstance(m, Conv2d)), (None, None))
    if name is None or module is None:
        return
    weight = to_numpy(module.effective_kernel())
    run.tracker.image(f"filters/{name}", _filters(run, name, weight))
    run.tracker.histogram(f"weights/{name}", weight)
    with torch.no_grad():
        maps = to_numpy(at_layer(run, name, run.tensor(found.x[:1]))[1])[0]
    panels = map_panels(run, name, maps, MOST, pictures.symmetric_scale([maps]))
    label = found.classes[found.labels[0]]
    example = pictures.photograph(found.x[0], f"a test image: {label}")
    run.tracker.image(f"maps/{name}", pictures.sheet([example, *panels]))


def _filters(run: Run, name: str, weight: Array) -> Image:
    """Filters on one scale: side by side, or with several input channels, a row for each."""
    outputs, inputs = weight.shape[:2]
    scale = pictures.symmetric_scale([weight])
    titles = channel_titles(run, name, outputs)
    if inputs == 1:
        shown = zip(titles[:MOST], weight[:, 0], strict=False)
        return pictures.sheet([pictures.signed(w, title, scale) for title, w in shown])
    across = min(inputs, 8)
    panels = [
        pictures.signed(weight[o, i], f"{titles[o]}, in {i}", scale)
        for o in range(min(outputs, 8))
        for i in range(across)
    ]
    return pictures.sheet(panels, columns=across)
