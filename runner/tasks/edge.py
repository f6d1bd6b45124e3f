"""Edge: run a stack of edge detectors, combine its maps, and compare with the edges that are there.

The last layer's channels are the detectors. Where there are two, they are taken as the horizontal
and the vertical derivative: their magnitude is √(gx² + gy²), their direction atan2(gy, gx).
Otherwise the magnitude is that of the strongest detector.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from pydantic import Field as Limited

from runner.config.errors import problem
from runner.geometry import Axis, Shape
from runner.ops import Ops
from runner.plan import Plan
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._outputs import (
    SMALL,
    check_feature_maps,
    layer_outputs,
    map_panels,
    numbers,
    save_outputs,
)
from runner.tracking import pictures

Map = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

FOUND = {
    "nothing": (255, 255, 255),
    "found": (60, 160, 80),
    "false": (210, 60, 50),
    "missed": (70, 120, 210),
}


class Edge(Task):
    """Edge detection.

    Attributes:
        threshold: what counts as an edge: a fraction of the image's largest magnitude, or with
            `absolute`, a magnitude.
        absolute: read `threshold` as a magnitude.
        tolerance: how far, in pixels of the input, a detection may lie from a true edge. Edges lie
            between pixels, so a 3×3 detector is always half a pixel off.
        images: how many of the images are drawn, at most.
    """

    measures: ClassVar[str] = "output_shape output min max detected precision recall f1 true_edges"
    showcase: ClassVar[tuple[str, ...]] = ("edge/overview",)
    objective: ClassVar[Objective | None] = Objective("f1", "max")

    threshold: Annotated[float, Limited(gt=0)] = 0.3
    absolute: bool = False
    tolerance: Annotated[float, Limited(ge=0, le=10)] = 1.0
    images: Annotated[int, Limited(ge=1, le=64)] = 1

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The stack must end in feature maps."""
        check_feature_maps(plan)
        if not self.absolute and self.threshold > 1:
            raise problem(
                "task.threshold",
                "a fraction of the largest magnitude, at most 1",
                str(self.threshold),
                "For a magnitude, set task.absolute=true.",
            )

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """Magnitude, direction, detections and the grid of half pixels that scores them."""
        output = plan.output
        size = output.height * output.width if isinstance(output, Shape) else 0
        return plan.batch * size * 12 + plan.input.height * plan.input.width * 16

    def run(self, run: Run) -> dict[str, Any]:
        """Detections, and precision, recall and F1 where the true edges are known."""
        run.outputs.update(layer_outputs(run))
        save_outputs(run)
        maps = next(reversed(run.outputs.values()), run.images.x)
        magnitude, direction = combine(maps)
        detected = self._detect(magnitude, self._noise(run))
        run.outputs |= {"edge/magnitude": magnitude, "edge/detected": detected}

        metrics: dict[str, Any] = {"output_shape": list(maps.shape)}
        if maps.size <= SMALL:
            metrics["output"] = numbers(maps)
        metrics |= {"min": float(maps.min()), "max": float(maps.max())}
        metrics["detected"] = int(detected.sum())
        if run.images.regions is not None:
            score = Score.of(run.images.regions, detected, run.plan, self.tolerance)
            metrics |= score.metrics()
        self._draw(run, maps, magnitude, direction, detected)
        return metrics

    def _detect(self, magnitude: Map, noise: float) -> Mask:
        largest = 1.0 if self.absolute else magnitude.max(axis=(1, 2), keepdims=True)
        return (magnitude > noise) & (magnitude >= self.threshold * largest)

    def _noise(self, run: Run) -> float:
        """What rounding alone can leave where an image is flat: a fraction of it is no edge.

        A sum of n products is off by about √n · eps · Σ|w| · max|x|, and the next layer makes as
        much more of it as its own Σ|w|; operators by transforms by more.
        """
        import torch

        from runner.modules import Conv2d
        from runner.tasks._rounding import coarseness

        if self.absolute:
            return 0.0
        gain, terms, coarse = 1.0, 1, 1.0
        for module in run.model.modules():
            if isinstance(module, Conv2d):
                sums = module.weight.detach().double().abs().flatten(1).sum(dim=1)
                gain, terms = gain * float(sums.max()), max(terms, module.weight[0].numel())
                coarse = max(coarse, coarseness(module))
        eps = torch.finfo(getattr(torch, run.dtype)).eps
        x = run.images.x
        return float(coarse * sqrt(terms) * eps * gain * max(-x.min(), x.max()))

    def _draw(
        self, run: Run, maps: Map, magnitude: Map, direction: Map | None, detected: Mask
    ) -> None:
        name = run.plan.rows[-1].name if run.plan.rows else "input"
        scale = pictures.symmetric_scale([maps])
        for i in range(min(self.images, len(maps))):
            suffix = f"_{i}" if self.images > 1 else ""
            picture = pictures.photograph(run.images.x[i], f"input: {run.images.note}")
            channels = map_panels(run, name, maps[i], 16, scale)
            found = self._found(run, i, detected[i])
            strength = pictures.brightness(magnitude[i], "magnitude")
            panels = [picture, *channels]
            if len(maps[i]) > 1:
                panels.append(strength)
            if direction is not None:
                angles = pictures.orientation(direction[i], magnitude[i], "orientation")
                run.tracker.image(f"edge/orientation{suffix}", angles)
                panels.append(angles)
            run.tracker.image(f"input{suffix}", picture)
            run.tracker.image(f"edge/maps{suffix}", pictures.sheet(channels))
            run.tracker.image(f"edge/magnitude{suffix}", strength)
            run.tracker.image(f"edge/detected{suffix}", found)
            run.tracker.image(f"edge/overview{suffix}", pictures.sheet([*panels, found]))
        run.tracker.histogram(f"activations/{name}", maps)

    def _found(self, run: Run, i: int, detected: Mask) -> Image:
        title = f"detected: at least {self.threshold:g}"
        title += "" if self.absolute else " of the largest"
        kinds = detected.astype(np.uint8)
        if run.images.regions is None:
            return pictures.marked(kinds, title, {"no edge": (0, 0, 0), "edge": (255, 255, 255)})
        lattice = Lattice.of(run.images.regions[i], run.plan, detected.shape, self.tolerance)
        kinds[detected & ~lattice.near_truth()] = 2
        kinds[~detected & lattice.near_missed(detected)] = 3
        return pictures.marked(kinds, title, FOUND)


def combine(maps: Map) -> tuple[Map, Map | None]:
    """The strength of an edge at each position, and its direction where there are two detectors.

    Args:
        maps: n × c × h × w.

    Returns:
        The magnitude, n × h × w, and for two channels the gradient's direction in radians.
    """
    if maps.shape[1] == 2:
        return np.hypot(maps[:, 0], maps[:, 1]), np.arctan2(maps[:, 1], maps[:, 0])
    return np.abs(maps).max(axis=1), None


@dataclass(frozen=True)
class Lattice:
    """True edges and detections on one grid of half pixels.

    Edges lie between pixels and kernels of even size are centred there too, so twice the input's
    resolution is where both have whole coordinates. The grid has a margin for detections that
    padding puts outside the image.

    Attributes:
        truth: where two neighbouring pixels belong to different regions.
        rows: grid row of each output row.
        columns: grid column of each output column.
        radius: the tolerance, in half pixels.
    """

    truth: Mask
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    radius: float

    @staticmethod
    def of(regions: NDArray[Any], plan: Plan, size: tuple[int, ...], tolerance: float) -> Lattice:
        """Lay the true edges of h × w `regions` and the outputs of a plan on one grid."""
        h, w = regions.shape
        rows, columns = (_centres(axis, n) for axis, n in zip(plan.field.axes(), size, strict=True))
        margin = int(2 * tolerance) + 1
        for at, n in ((rows, h), (columns, w)):
            margin = max(margin, -int(at.min()), int(at.max()) - 2 * n + 1)
        truth = np.zeros((2 * h + 2 * margin, 2 * w + 2 * margin), dtype=bool)
        inner = truth[margin : margin + 2 * h - 1, margin : margin + 2 * w - 1]
        inner[::2, 1::2] = regions[:, 1:] != regions[:, :-1]
        inner[1::2, ::2] = regions[1:] != regions[:-1]
        return Lattice(truth, rows + margin, columns + margin, 2 * tolerance)

    def near_truth(self) -> Mask:
        """Which outputs lie within the tolerance of a true edge."""
        near: Mask = _grow(self.truth, self.radius)[np.ix_(self.rows, self.columns)]
        return near

    def reached(self, detected: Mask) -> Mask:
        """Which positions lie within the tolerance of a detection."""
        grid = np.zeros_like(self.truth)
        grid[np.ix_(self.rows, self.columns)] = detected
        return _grow(grid, self.radius)

    def near_missed(self, detected: Mask) -> Mask:
        """Which outputs lie within the tolerance of a true edge that no detection reaches."""
        missed = _grow(self.truth & ~self.reached(detected), self.radius)
        near: Mask = missed[np.ix_(self.rows, self.columns)]
        return near


@dataclass
class Score:
    """Detections against true edges, added up over images.

    Attributes:
        hits: detections near a true edge.
        detections: all detections.
        reached: true edges near a detection.
        edges: all true edges.
    """

    hits: int = 0
    detections: int = 0
    reached: int = 0
    edges: int = 0

    @staticmethod
    def of(regions: NDArray[Any], detected: Mask, plan: Plan, tolerance: float) -> Score:
        """Count over n images."""
        score = Score()
        for labels, found in zip(regions, detected, strict=True):
            lattice = Lattice.of(labels, plan, found.shape, tolerance)
            reached = lattice.reached(found)[lattice.truth]
            score.hits += int((found & lattice.near_truth()).sum())
            score.detections += int(found.sum())
            score.reached += int(reached.sum())
            score.edges += reached.size
        return score

    def metrics(self) -> dict[str, float]:
        """Precision, recall and their harmonic mean; nothing found or nothing there counts as 0."""
        precision = self.hits / self.detections if self.detections else 0.0
        recall = self.reached / self.edges if self.edges else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        return {"precision": precision, "recall": recall, "f1": f1, "true_edges": self.edges}


def _centres(axis: Axis | None, count: int) -> NDArray[np.int64]:
    """Where the outputs are centred on the input, in half pixels."""
    assert axis is not None  # Edge.check: the stack ends in feature maps
    return np.array([round(2 * (axis.start + i * axis.jump)) for i in range(count)], dtype=np.int64)


def _grow(mask: Mask, radius: float) -> Mask:
    """Every position within `radius` of a true one; the mask's margin is wide enough."""
    grown = np.zeros_like(mask)
    reach = int(radius)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dy * dy + dx * dx <= radius * radius:
                grown |= np.roll(mask, (dy, dx), axis=(0, 1))
    return grown
