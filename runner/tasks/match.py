"""Match: find a pattern in an image by normalized cross-correlation (the book's Waldo, 6.1.4).

Image and pattern go through the stack, and the pattern's features are searched for in the image's:
with no layers these are the pixels themselves. Of the pattern's features only those count that see
nothing but the pattern, so that padding plays no part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator
from pydantic import Field as Limited

from runner.config.errors import ConfigError, Problem, describe, problem
from runner.config.numbers import array
from runner.data import Images
from runner.geometry import ConvGeometry, Pair, Shape, elements
from runner.ops import Ops, conv_op
from runner.plan import ITEM_BYTES, Plan
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._interior import Span, spans
from runner.tasks._ncc import HINT, correlation, missed, ncc, peaks, position_error, workspace
from runner.tasks._outputs import check_feature_maps, to_numpy
from runner.tasks._pattern import Pattern
from runner.tasks._selection import Positions, check_image, outside
from runner.tracking import pictures
from runner.tracking.boxes import GREEN, ORANGE, Box

Array = NDArray[np.float64]

LISTED = 5
"""How many missed positions are named."""


def _numbers(value: object) -> object:
    numbers, shape = array(value)
    if len(shape) > 1:
        raise problem("", "a number, or a list with one per planting", describe(value))
    return numbers if shape else (numbers,)


PerPlanting = Annotated[tuple[float, ...], BeforeValidator(_numbers)]
"""One number for every planting, or a list with one for each."""


class Match(Task):
    """Where a pattern is.

    Attributes:
        pattern: what is searched for.
        plant: places, [row, column] of the top left corner, into which the pattern is copied
            first; copies don't overlap. Default: a crop stays where it was taken; anything else is
            not planted, and true positions are unknown.
        gain: what a planted pattern is multiplied by: its contrast. Not 0 if `normalize`.
        offset: what is added to it then: its brightness.
        noise: standard deviation of Gaussian noise, added to the image at last.
        normalize: zero-mean, unit-norm windows (NCC); false: plain cross-correlation.
        peaks: how many places are looked for; default: as many as there are true positions.
        image: which of the data's images.
    """

    measures: ClassVar[str] = """
        pattern found true_positions position_error missed scores runner_up margin
    """
    showcase: ClassVar[tuple[str, ...]] = ("match/overview",)
    objective: ClassVar[Objective | None] = Objective("margin", "max")

    pattern: Pattern = Pattern()
    plant: Positions | None = None
    gain: PerPlanting = (1.0,)
    offset: PerPlanting = (0.0,)
    noise: Annotated[float, Limited(ge=0, le=1e6)] = 0.0
    normalize: bool = True
    peaks: Annotated[int, Limited(ge=1, le=100)] | None = None
    image: Annotated[int, Limited(ge=0)] = 0

    def batch(self, count: int) -> int:
        """The image, and the pattern."""
        return 2

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """Maps less their mean, their squares, window sums, scores, and what the operator takes."""
        pattern = self.pattern.shape(plan.input)
        sides = spans(plan, pattern) if isinstance(plan.output, Shape) else None
        if sides is None:
            return 0  # `check` refuses it
        held = workspace(plan.output.dims[0], sides, ops.conv)
        return ITEM_BYTES[_wide(plan.dtype)] * (6 * elements(plan.output) + held)

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The pattern must fit the image, the plantings too, and the stack must leave maps."""
        shape = self.pattern.shape(plan.input)
        self._check_plantings(plan.input, shape)
        self._check_stack(plan, ops, shape)

    def _check_plantings(self, image: Shape, pattern: Shape) -> None:
        last = (image.height - pattern.height, image.width - pattern.width)
        problems = outside(
            {f"task.plant[{i}]": place for i, place in enumerate(self.plant or ())},
            (last[0] + 1, last[1] + 1),
            f"[row, column] from [0, 0] to {list(last)}, so that the {pattern.height}×"
            f"{pattern.width} pattern lies within the {image.height}×{image.width} image",
        )
        count = len(self._plantings(image))
        for name in ("gain", "offset"):
            given = len(getattr(self, name))
            if given not in (1, count):
                expected = "one number" + f", or {count}, one per planting" * (count > 1)
                problems.append(Problem(f"task.{name}", expected, f"{given} numbers"))
        problems += self._overlaps(pattern)
        if self.normalize and count:
            problems += self._without_contrast()
        if problems:
            raise ConfigError(*problems)

    def _overlaps(self, pattern: Shape) -> Iterator[Problem]:
        """Copies that would be pasted over others."""
        h, w = pattern.size
        plant = self.plant or ()
        for i, place in enumerate(plant):
            for j, other in enumerate(plant[:i]):
                if abs(place[0] - other[0]) < h and abs(place[1] - other[1]) < w:
                    yield Problem(
                        f"task.plant[{i}]",
                        f"a place whose {h}×{w} copy doesn't overlap the one at {list(other)} "
                        f"(task.plant[{j}])",
                        str(list(place)),
                        f"Keep {h} rows or {w} columns between their corners.",
                    )
                    break

    def _without_contrast(self) -> Iterator[Problem]:
        """Copies that are constant, so that no normalized correlation finds them."""
        for i, gain in enumerate(self.gain):
            if gain == 0:
                yield Problem(
                    "task.gain" if len(self.gain) == 1 else f"task.gain[{i}]",
                    "a number other than 0, which leaves no contrast to find",
                    "0",
                    "Take a small one such as 0.1, or set task.normalize=false.",
                )

    def _check_stack(self, plan: Plan, ops: Ops, pattern: Shape) -> None:
        check_feature_maps(plan)
        found = spans(plan, pattern)
        if found is None:
            fields = [
                axis.size if axis else n
                for axis, n in zip(plan.field.axes(), plan.input.size, strict=True)
            ]
            raise problem(
                "task.pattern",
                f"a pattern of at least {fields[0]}×{fields[1]} (height × width), what one output "
                f"of '{plan.rows[-1].name}' sees",
                f"{pattern.height}×{pattern.width}",
                "Take a larger pattern, or fewer layers.",
            )
        kernel = (found[0].count, found[1].count)
        op, dtype = conv_op(ops.conv), _wide(plan.dtype)
        for size in (kernel, (1, kernel[1]), (kernel[0], 1)):
            reasons = op.unsupported(ConvGeometry(size), dtype, "cpu")
            if reasons:
                raise problem(
                    "ops.conv",
                    f"an operator that can correlate with a {size[0]}×{size[1]} kernel",
                    f"'{ops.conv}', which can't: " + "; ".join(reasons),
                    "Try ops=native.",
                )

    def check_images(self, images: Images, plan: Plan) -> None:
        """The image must be there, and the pattern must have contrast."""
        check_image(self.image, images)
        pattern = self.pattern.read(images.x[self.image])
        if self.normalize and not np.ptp(pattern, axis=(1, 2)).any():
            got = f"a constant one, {float(pattern.mean()):.3g} everywhere"
            raise problem("task.pattern", "a pattern with contrast", got, HINT)

    def _plantings(self, image: Shape) -> list[Pair]:
        """Where the pattern is copied to, changed; a crop by default to its own place."""
        if self.plant is not None:
            return list(self.plant)
        own = self.pattern.place(image)
        return [own] if own else []

    def _true(self, image: Shape) -> list[Pair]:
        """Where the pattern is, as far as is known: as planted, and where a crop was taken."""
        true = self._plantings(image)
        own, (_, h, w) = self.pattern.place(image), self.pattern.shape(image).dims
        if own is None or any(abs(r - own[0]) < h and abs(c - own[1]) < w for r, c in true):
            return true
        return [*true, own]

    def _planted(self, image: Array, pattern: Array, seed: int) -> Array:
        """The image that is searched."""
        image = image.copy()
        places = self._plantings(Shape(*image.shape))
        gains = self.gain * len(places) if len(self.gain) == 1 else self.gain
        offsets = self.offset * len(places) if len(self.offset) == 1 else self.offset
        h, w = pattern.shape[1:]
        for (top, left), gain, offset in zip(places, gains, offsets, strict=True):
            image[:, top : top + h, left : left + w] = gain * pattern + offset
        if self.noise:
            image += np.random.default_rng(seed).normal(0, self.noise, image.shape)
        return image

    def run(self, run: Run) -> dict[str, Any]:
        """Where the pattern was found, how well, and how far that is from where it is."""
        clean = run.images.x[self.image]
        pattern = self.pattern.read(clean)
        image = self._planted(clean, pattern, run.seed)
        scores, sides = self._scores(run, image, pattern)
        true = self._true(run.plan.input)
        count = self.peaks or max(1, len(true))
        near = tuple(float(n / 2 / s.jump) for n, s in zip(pattern.shape[1:], sides, strict=True))
        places = peaks(scores, count + 1, (near[0], near[1]))
        best, others = places[:count], places[count:]
        found = [
            (round(row * sides[0].jump), round(column * sides[1].jump)) for row, column in best
        ]
        values = [float(scores[place]) for place in best]

        run.outputs |= {"match/image": image, "match/pattern": pattern, "match/scores": scores}
        self._draw(run, image, pattern, scores, best, found)
        metrics: dict[str, Any] = {"pattern": list(pattern.shape)}
        metrics["found"] = [list(place) for place in found]
        if true:
            metrics["true_positions"] = [list(place) for place in true]
            metrics["position_error"] = position_error(true, found)
            half = (pattern.shape[1] / 2, pattern.shape[2] / 2)
            lost = missed(true, found, half)
            metrics["missed"] = len(lost)
            run.notes.extend(self._note(lost, len(true), len(found)))
        metrics["scores"] = values
        if others:
            metrics["runner_up"] = float(scores[others[0]])
            metrics["margin"] = min(values) - metrics["runner_up"]
        return metrics

    def _note(self, lost: list[Pair], true: int, found: int) -> Iterator[str]:
        """What was missed, and why if it was not looked for."""
        if not lost:
            return
        listed = ", ".join(str(list(place)) for place in lost[:LISTED])
        more = ", …" if len(lost) > LISTED else ""
        what = f"Missed {len(lost)} of {true} true positions: {listed}{more}."
        if found < true:
            reason = f"task.peaks is {self.peaks}" if self.peaks == found else "no room for more"
            what += f" Only {found} place{'s were' if found > 1 else ' was'} looked for ({reason})."
        yield what

    def _scores(self, run: Run, image: Array, pattern: Array) -> tuple[Array, tuple[Span, Span]]:
        """The score of every place, and what the places are in the input."""
        import torch

        sides = spans(run.plan, Shape(*pattern.shape))
        assert sides is not None  # check
        canvas = np.zeros_like(image)
        canvas[:, : pattern.shape[1], : pattern.shape[2]] = pattern
        with torch.no_grad():
            maps = run.model.eval()(run.tensor(np.stack([image, canvas])))
            maps = maps.to(getattr(torch, _wide(run.dtype)))
            rows, columns = sides
            features = maps[0][:, rows.searched, columns.searched]
            wanted = maps[1][:, rows.pattern, columns.pattern]
            score = ncc if self.normalize else correlation
            scores = score(features, wanted, run.ops.conv)
        return to_numpy(scores), sides

    def _draw(
        self,
        run: Run,
        image: Array,
        pattern: Array,
        scores: Array,
        best: list[Pair],
        found: list[Pair],
    ) -> None:
        h, w = pattern.shape[1:]
        true = self._true(run.plan.input)
        boxes = [Box(top, left, h, w, GREEN, "true") for top, left in true]
        boxes += [Box(top, left, h, w, ORANGE, "found") for top, left in found]
        clean = run.images.x[self.image]
        if clean.min() >= 0 and clean.max() <= 1:
            image = image.clip(0, 1)  # noise beyond black and white can't be drawn as such
        title = "image" if not self.noise else f"image, noise {self.noise:g}"
        where = pictures.photograph(image, title, boxes)
        what = pictures.photograph(pattern, "pattern")
        around = max(1, max(scores.shape) // 40)
        rings = [_ring(place, around, scores.shape) for place in best]
        kind = "normalized cross-correlation" if self.normalize else "cross-correlation"
        rings = rings if scores.size > 144 else []
        if self.normalize:
            how = pictures.signed(scores, kind, 1.0, rings)
        elif scores.min() >= 0:
            how = pictures.brightness(scores, kind, boxes=rings)
        else:
            how = pictures.signed(scores, kind, boxes=rings)
        run.tracker.image("match/found", where)
        run.tracker.image("match/pattern", what)
        run.tracker.image("match/scores", how)
        run.tracker.image("match/overview", pictures.sheet([where, how, what], 2))
        run.tracker.histogram("match/scores_histogram", scores)


def _wide(dtype: str) -> str:
    """The type that scores are computed in: sums of squares need more than half precision."""
    return dtype if ITEM_BYTES[dtype] >= 4 else "float32"


def _ring(place: Pair, around: int, size: tuple[int, ...]) -> Box:
    """A box around a place of a map, within the map."""
    top, left = (max(0, p - around) for p in place)
    bottom, right = (min(n, p + around + 1) for p, n in zip(place, size, strict=True))
    return Box(top, left, bottom - top, right - left)
