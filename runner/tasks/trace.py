"""Trace: the sliding window of a conv or pool layer, step by step, beside what the layer computed.

Each step is worked out by the definition (the book, 6.2.1, 6.4.1, 6.5.1), window times kernel,
products, sum, and must agree with the operator's output within rounding.
"""

from __future__ import annotations

import logging
from math import log2
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator
from pydantic import Field as Limited

from runner.config.errors import ConfigError, Problem, problem
from runner.config.fields import integers
from runner.data import Images
from runner.geometry import Pair, Shape
from runner.ops import Ops
from runner.plan import Plan, Row
from runner.stack import Stack
from runner.tasks import Run, Task
from runner.tasks._outputs import at_layer, numbers, to_numpy
from runner.tasks._selection import Positions, check_image, indices, named_layer, outside
from runner.tasks._trace_frames import frames
from runner.tasks._trace_text import FILE, TERMINAL, described
from runner.tasks._windows import ConvStep, PoolStep, conv_step, pool_step
from runner.tracking.directory import write_atomically
from runner.tracking.frames import gif
from runner.tracking.pictures import sheet

logger = logging.getLogger(__name__)

FIRST = 16
"""Positions that are traced where none are named."""
FRAMES = 32
"""Steps that are drawn, at most."""
LINES = 60
"""Lines that are shown in the terminal, at most."""
KINDS = ("conv", "pool")


def _channels(value: object) -> object:
    return tuple(integers(value, range(1, 65), 0, "a channel or a list of up to 64"))


Channels = Annotated[tuple[int, ...], BeforeValidator(_channels)]


class Trace(Task):
    """The sliding window, step by step.

    Attributes:
        layer: a conv or pool layer's name, dotted inside containers; default: the first one.
        positions: rows and columns of its output; default: the first 16, row by row.
        channels: of its output.
        image: which of the data's images.
        seconds: how long each frame of the animation is shown.
    """

    measures: ClassVar[str] = "layer positions values sums channel_sums winners max_difference"
    showcase: ClassVar[tuple[str, ...]] = ("trace/storyboard",)

    layer: str | None = None
    positions: Positions | None = None
    channels: Channels = (0,)
    image: Annotated[int, Limited(ge=0)] = 0
    seconds: Annotated[float, Limited(ge=0.05, le=10)] = 1.0

    def batch(self, count: int) -> int:
        """One image."""
        return 1

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """The layer must be there and slide a window; positions must lie in its output."""
        row = self._row(plan)
        shape = row.output
        assert isinstance(shape, Shape)  # of conv and pool layers
        problems = outside(
            {f"task.positions[{i}]": position for i, position in enumerate(self.positions or ())},
            shape.size,
            f"[row, column] within the {shape.height}×{shape.width} output of '{row.name}'",
        )
        expected = f"a channel of the output of '{row.name}', {indices(shape.channels)}"
        for i, channel in enumerate(self.channels):
            if channel >= shape.channels:
                problems.append(Problem(f"task.channels[{i}]", expected, str(channel)))
        if problems:
            raise ConfigError(*problems)

    def check_images(self, images: Images, plan: Plan) -> None:
        """The image must be there."""
        check_image(self.image, images)

    def _row(self, plan: Plan) -> Row:
        able = {row.name: row for row in plan.walk() if row.kind in KINDS}
        if not able:
            given = ", ".join(row.name for row in plan.walk()) or "no layers"
            hint = "Add one, or pick a stack: stack=kernel."
            raise problem("stack.layers", "a conv or pool layer to trace", given, hint)
        if self.layer is None:
            return next(iter(able.values()))
        return named_layer(self.layer, plan, able, "a conv or pool layer")

    def run(self, run: Run) -> dict[str, Any]:
        """The traced outputs, by hand and by the operator; text, frames and an animation."""
        import torch

        row = self._row(run.plan)
        module: Any = run.model.get_submodule(row.name)
        with torch.no_grad():
            image = run.tensor(run.images.x[self.image : self.image + 1])
            x, y = (to_numpy(one)[0] for one in at_layer(run, row.name, image))
        run.outputs |= {"trace/input": x, f"trace/{row.name}": y}
        positions = list(self.positions or np.ndindex(*y.shape[1:]))[: self._most()]
        steps: list[Any] = [_step(module, x, p, c) for c in self.channels for p in positions]
        measured = np.array([y[step.channel][step.position] for step in steps])
        sums = np.array([step.value for step in steps])
        self._check_agreement(run, row, module, x, steps, measured)

        conv = isinstance(steps[0], ConvStep)
        flipped = conv and module.flip
        self._write(run, row, steps, flipped)
        size: Pair = (y.shape[1], y.shape[2])
        pictures = frames(steps[:FRAMES], x, size, module.pad_mode if conv else None, flipped)
        for i, picture in enumerate(pictures):
            run.tracker.image("trace/frames", picture, i + 1)
        large = pictures[0].width > 700
        chosen = np.linspace(0, len(pictures) - 1, 3 if large else 6).round().astype(int)
        storyboard = sheet([pictures[i] for i in np.unique(chosen)], 1 if large else 2)
        run.tracker.image("trace/storyboard", storyboard)
        folder = run.directory / "images"
        folder.mkdir(exist_ok=True)
        write_atomically(folder / "trace.gif", gif(pictures, int(1000 * self.seconds)))

        metrics: dict[str, Any] = {"layer": row.name, "positions": [list(p) for p in positions]}
        metrics["values"] = self._by_channel(measured)
        metrics["sums"] = self._by_channel(sums)
        if conv and len(steps[0].parts) > 1:
            parts = np.array([[part.value for part in step.parts] for step in steps])
            metrics["channel_sums"] = numbers(parts)
        if not conv and module.mode != "avg":
            metrics["winners"] = [list(step.winner_in_input) for step in steps]
        metrics["max_difference"] = float(np.abs(measured - sums).max())
        return metrics

    def _most(self) -> int:
        return FIRST if self.positions is None else len(self.positions)

    def _by_channel(self, values: NDArray[Any]) -> Any:
        """One number per position; with several channels, such a list for each."""
        several = len(self.channels) > 1
        return numbers(values.reshape(len(self.channels), -1) if several else values)

    def _write(self, run: Run, row: Row, steps: list[Any], flipped: bool) -> None:
        """The steps as text: all of them in the log, on TensorBoard and in ``trace.txt``."""
        assert isinstance(row.output, Shape)
        titled = row.output.channels > 1
        whole = "\n\n".join(
            "\n".join(described(step, row.name, titled, flipped, FILE)) for step in steps
        )
        write_atomically(run.directory / "trace.txt", f"{whole}\n".encode())
        logger.info("trace\n%s", whole)
        run.tracker.text("trace", "\n".join(f"    {line}" for line in whole.splitlines()))
        shown: list[str] = []
        for i, step in enumerate(steps):
            lines = ["", *described(step, row.name, titled, flipped, TERMINAL)]
            if shown and len(shown) + len(lines) > LINES:
                shown += ["", f"… and {len(steps) - i} more outputs, in trace.txt."]
                break
            shown += lines
        run.notes += shown

    def _check_agreement(
        self,
        run: Run,
        row: Row,
        module: Any,
        x: NDArray[Any],
        steps: list[Any],
        measured: NDArray[Any],
    ) -> None:
        """Refuse an operator that doesn't compute what the definition says.

        A sum of n products is off by at most n · eps times the sum of their magnitudes; one that
        goes through transforms of the whole image, by its norm (Higham 2002, 3.1 and 24.1).
        """
        import torch

        limits = torch.finfo(getattr(torch, run.dtype))
        spread = 0.0
        if isinstance(steps[0], ConvStep):
            weight = float(module.weight.detach().double().norm())
            spread = log2(x.size + 1) * weight * float(np.linalg.norm(x.astype(np.float64)))
        for step, value in zip(steps, measured, strict=True):
            terms = step.padded.size * len(getattr(step, "parts", (1,)))
            bound = 4 * limits.eps * ((terms + 2) * step.magnitude + spread)
            # What is too large for the type is infinite, and then not a number, rightly so.
            if step.magnitude < limits.max and not abs(value - step.value) <= bound:
                raise RuntimeError(
                    f"stack.layers.{row.name}: operator '{row.op}' computed {value:g} at "
                    f"channel {step.channel}, position {list(step.position)}, where the "
                    f"definition gives {step.value:g}"
                )


def _step(module: Any, x: NDArray[Any], position: Pair, channel: int) -> ConvStep | PoolStep:
    from runner.modules import Conv2d

    if not isinstance(module, Conv2d):
        return pool_step(x, module.mode, module.geometry, position, channel)
    weight = to_numpy(module.effective_kernel())
    bias = None if module.bias is None else to_numpy(module.bias)
    return conv_step(x, weight, bias, module.geometry, module.pad_mode, position, channel)
