"""Steps of a sliding window as pictures: where it lies, what it makes, the output filling up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from runner.geometry import Pair
from runner.tasks._trace_text import number, signed_sum
from runner.tasks._windows import Array, ConvStep, Part, PoolStep, Step, picked
from runner.tracking.boxes import GREEN, ORANGE, Box
from runner.tracking.frames import below, beside, captioned, grid, same_size
from runner.tracking.pictures import symmetric_scale

VIEW = 9
"""Rows and columns that are shown of a larger map, unless the window itself is larger."""
NEAR = 2
"""Outputs that are shown on each side, where those that are traced lie far apart."""
PARTS = 3
"""Input channels that are shown."""
TERMS = 9
"""Numbers that a caption spells out."""


def frames(
    steps: Sequence[ConvStep] | Sequence[PoolStep],
    x: NDArray[Any],
    size: Pair,
    pad_mode: str | None,
    flipped: bool,
) -> list[Image]:
    """A picture per step, all of one size and on one scale.

    Args:
        steps: in order; each output shows what the steps before it gave.
        x: the layer's input, c × h × w.
        size: height and width of the output.
        pad_mode: what padding holds; None for pooling.
        flipped: whether the kernel was flipped.
    """
    gray = x.min() >= 0 and x.max() <= 1
    parts = [part for s in steps if isinstance(s, ConvStep) for part in s.parts]
    scales: dict[str, float | None] = {
        "input": None if gray else symmetric_scale([x]),
        "kernel": symmetric_scale([part.kernel for part in parts]) if parts else 1.0,
        "products": symmetric_scale([part.products for part in parts]) if parts else 1.0,
        "output": symmetric_scale([np.array([s.value for s in steps])]),
    }
    if not parts:
        scales["output"] = scales["input"]  # pooling stays within the input's range
    reach = (
        _reach([step.rows for step in steps], x.shape[1]),
        _reach([step.columns for step in steps], x.shape[2]),
    )
    several = len({step.channel for step in steps}) > 1
    outputs = {step.channel: np.full(size, np.nan) for step in steps}
    spans = [_span([step.position[axis] for step in steps], size[axis]) for axis in (0, 1)]
    drawn = []
    for step in steps:
        output = outputs[step.channel]
        output[step.position] = step.value
        title = f"output channel {step.channel}" if several else "output"
        shown = _output(output, title, step.position, spans, scales["output"])
        if isinstance(step, PoolStep):
            made, caption = (
                _input(step, x, step.channel, None, reach, scales["input"]),
                _pooled(step),
            )
        else:
            rows = [
                beside(_conv_row(step, part, x, pad_mode, flipped, reach, scales))
                for part in step.parts[:PARTS]
            ]
            made, caption = below(rows), _convolved(step)
        lines = [caption]
        if isinstance(step, ConvStep) and len(step.parts) > PARTS:
            lines.append(f"Drawn are the first {PARTS} of {len(step.parts)} input channels.")
        drawn.append(captioned(beside([made, "→", shown]), lines))
    return same_size(drawn)


def _conv_row(
    step: ConvStep,
    part: Part,
    x: NDArray[Any],
    pad_mode: str | None,
    flipped: bool,
    reach: tuple[range, range],
    scales: dict[str, float | None],
) -> list[Image | str]:
    return [
        _input(step, x, part.channel, pad_mode, reach, scales["input"]),
        "×",
        grid(part.kernel, "flipped kernel" if flipped else "kernel", scales["kernel"]),
        "=",
        grid(part.products, f"products, sum {number(part.value)}", scales["products"]),
    ]


def _input(
    step: Step,
    x: NDArray[Any],
    channel: int,
    pad_mode: str | None,
    reach: tuple[range, range],
    scale: float | None,
) -> Image:
    """The input around the window, the window's cells outlined; the winner of pooling in green."""
    rows, columns = _view(step.rows, reach[0]), _view(step.columns, reach[1])
    values, padded = picked(x[channel][None], rows, columns, pad_mode)
    top, left = step.rows[0] - rows[0], step.columns[0] - columns[0]
    tall, wide = step.rows[-1] - step.rows[0] + 1, step.columns[-1] - step.columns[0] + 1
    boxes = [Box(top, left, tall, wide)]
    if (tall, wide) != step.padded.shape:  # dilated: the window's cells lie apart
        boxes = [
            Box(row - rows[0], column - columns[0], 1, 1)
            for row in step.rows
            for column in step.columns
        ]
    if isinstance(step, PoolStep) and step.mode != "avg":
        row, column = step.winner
        boxes.append(Box(top + row, left + column, 1, 1, GREEN))
    title = "input" if x.shape[0] == 1 else f"input channel {channel}"
    title += _from(rows, columns, x.shape[1:])
    return grid(values[0], title, scale, padded, boxes)


def _reach(windows: Sequence[Sequence[int]], n: int) -> range:
    """The input along one axis, and the padding that the windows reach."""
    first = min(window[0] for window in windows)
    return range(min(first, 0), max(n, *(window[-1] + 1 for window in windows)))


def _view(window: Sequence[int], reach: range) -> range:
    """Positions to show of an axis: all that the steps reach, or the window and what is near."""
    first, last = window[0], window[-1]
    length = max(VIEW, last + 1 - first)
    if len(reach) <= length:
        return reach
    start = min(max(reach.start, (first + last + 1 - length) // 2), reach.stop - length)
    return range(start, start + length)


def _span(positions: Sequence[int], n: int) -> range | None:
    """Positions to show of the output in every frame, if all that is traced can be seen at once."""
    if n <= VIEW:
        return range(n)
    first, last = min(positions), max(positions)
    return range(first, last + 1) if last - first < VIEW else None


def _output(
    output: Array, title: str, position: Pair, spans: Sequence[range | None], scale: float | None
) -> Image:
    """What is known of the output so far, the step's own number outlined."""
    rows, columns = (
        span or range(max(0, p - NEAR), min(n, p + NEAR + 1))
        for span, p, n in zip(spans, position, output.shape, strict=True)
    )
    at = Box(position[0] - rows[0], position[1] - columns[0], 1, 1, ORANGE)
    title += _from(rows, columns, output.shape)
    return grid(output[np.ix_(rows, columns)], title, scale, boxes=[at])


def _from(rows: range, columns: range, size: tuple[int, ...]) -> str:
    """Where a part begins that is shown of a map."""
    if len(rows) >= size[0] and len(columns) >= size[1]:
        return ""
    return f" from [{rows[0]}, {columns[0]}]"


def _convolved(step: ConvStep) -> str:
    """``0·0 + 1·1 + 3·2 + 4·3 = 19``, or the channels' sums, or the result."""
    terms = [number(part.value) for part in step.parts]
    if len(terms) > TERMS:
        terms = [f"{number(sum(part.value for part in step.parts))} ({len(terms)} channels)"]
    elif len(terms) == 1 and step.padded.size <= TERMS:
        part = step.parts[0]
        pairs = zip(part.window.flat, part.kernel.flat, strict=True)
        terms = [f"{number(a)}·{_factor(b)}" for a, b in pairs]
    elif len(terms) == 1:
        terms = [f"{terms[0]} ({step.padded.size} products)"]
    terms += [f"{number(step.bias)} (bias)"] if step.bias is not None else []
    # The one number that all of it makes needn't be said again.
    result = f" = {number(step.value)}" if len(terms) > 1 or "·" in terms[0] else ""
    return f"output{list(step.position)} = {signed_sum(terms)}{result}"


def _factor(value: float) -> str:
    return f"({number(value)})" if value < 0 else number(value)


def _pooled(step: PoolStep) -> str:
    """``max of 0, 1, 3, 4 = 4``."""
    counted = [number(v) for v in step.window[~step.padded]]
    if step.mode == "avg":
        total = f"({signed_sum(counted)})" if 1 < len(counted) <= TERMS else number(step.total)
        what = f"{total} / {step.divisor}"
    else:
        few = len(counted) <= TERMS
        what = f"{step.mode} of {', '.join(counted) if few else f'{len(counted)} numbers'}"
    return f"output{list(step.position)} = {what} = {number(step.value)}"
