"""Steps of a sliding window as text: window × kernel = products, and the sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.tasks._windows import ConvStep, Part, PoolStep, Step


@dataclass(frozen=True)
class Room:
    """How much of a step is written.

    Attributes:
        side: rows and columns of a block; of longer ones the middle is left out.
        parts: input channels.
        width: columns; blocks that don't fit side by side are stacked.
    """

    side: int
    parts: int
    width: int = 78


TERMINAL = Room(side=8, parts=4)
FILE = Room(side=1000, parts=64)


def described(step: Step, name: str, titled: bool, flipped: bool, room: Room) -> list[str]:
    """A step as lines of text.

    Args:
        step: of a convolution or of pooling.
        name: of the layer.
        titled: whether the channel is said.
        flipped: whether the kernel was flipped.
        room: how much of it.
    """
    row, column = step.position
    channel = f"channel {step.channel} of " if titled else ""
    assert isinstance(step, ConvStep | PoolStep)
    head = f"output[{row}, {column}] of {channel}{name} = {number(step.value)}"
    where = f"  rows {_span(step.rows)}, columns {_span(step.columns)} of the input"
    lines = [head, f"{where}; (…) is padding" if step.padded.any() else where]
    if isinstance(step, PoolStep):
        return lines + _pooled(step, room)
    return lines + _convolved(step, flipped, room)


def _convolved(step: ConvStep, flipped: bool, room: Room) -> list[str]:
    lines: list[str] = []
    many = len(step.parts) > 1
    for part in step.parts[: room.parts]:
        lines += [f"  input channel {part.channel}"] if many else []
        lines += _part(part, step, flipped, room)
    left_out = step.parts[room.parts :]
    if left_out:
        rest = number(sum(part.value for part in left_out))
        lines.append(f"  {len(left_out)} more input channels: sum {rest}")
    terms = [number(part.value) for part in step.parts[: room.parts]]
    terms += [rest] if left_out else []
    terms += [f"{number(step.bias)} (bias)"] if step.bias is not None else []
    if len(terms) > 1:
        lines.append(f"  {signed_sum(terms)} = {number(step.value)}")
    return lines


def _part(part: Part, step: ConvStep, flipped: bool, room: Room) -> list[str]:
    """One channel's three blocks, side by side where there is room."""
    kernel = "flipped kernel" if flipped else "kernel"
    blocks = [
        ("window", _block(part.window, room, step.padded)),
        (kernel, _block(part.kernel, room)),
        ("products", _block(part.products, room)),
    ]
    total = f"sum {number(part.value)}"
    wide = [max(len(title), *map(len, lines)) for title, lines in blocks]
    if sum(wide) + 14 + len(total) > room.width:
        stacked = []
        for sign, (title, lines) in zip((" ", "×", "="), blocks, strict=True):
            stacked += [f"  {sign} {title}", *(f"      {line}" for line in lines)]
        return [*(line.rstrip() for line in stacked), f"    {total}"]
    columns = [[title, *lines] for title, lines in blocks]
    signs = ["×", "="]
    rows = []
    height = len(columns[0])
    for i in range(height):
        text = "    "
        for c, column in enumerate(columns):
            text += column[i].ljust(wide[c])
            if c < 2:
                text += f"  {signs[c] if i == 1 else ' '}  "
        rows.append(text + (f"  {total}" if i == height - 1 else ""))
    return [row.rstrip() for row in rows]


def _pooled(step: PoolStep, room: Room) -> list[str]:
    lines = [f"    {line}" for line in _block(step.window, room, step.padded, step)]
    lines = [line.ljust(max(map(len, lines))) for line in lines]
    if step.mode == "avg":
        padding = ""
        if step.padded.any():
            inside = int((~step.padded).sum())
            padding = ", padding counted" if step.divisor > inside else ", padding not counted"
        end = f"sum {number(step.total)} / {step.divisor}{padding} = {number(step.value)}"
    else:
        end = f"{step.mode} {number(step.value)}"
    return [*(line.rstrip() for line in lines[:-1]), f"{lines[-1]}  {end}"]


def _block(
    values: NDArray[Any],
    room: Room,
    padded: NDArray[np.bool_] | None = None,
    pooled: PoolStep | None = None,
) -> list[str]:
    """Numbers in columns; padding in round brackets, the winner of a pooling window in square."""
    winner = pooled.winner if pooled is not None and pooled.mode != "avg" else None
    brackets = winner is not None or (padded is not None and bool(padded.any()))

    def cell(row: int, column: int) -> str:
        value = float(values[row, column])
        text = "·" if np.isnan(value) else number(value)
        if padded is not None and padded[row, column]:
            return f"({text})"
        if (row, column) == winner:
            return f"[{text}]"
        return f" {text} " if brackets else text

    rows, columns = (_chosen(n, room.side) for n in values.shape)
    gone = " … " if brackets else "…"
    cells = [[gone if None in (i, j) else cell(i, j) for j in columns] for i in rows]  # type: ignore[arg-type]  # not None here
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    gap = "" if brackets else " "
    lines = (gap.join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells)
    return [line.rstrip() for line in lines]


def _chosen(n: int, most: int) -> list[int | None]:
    """Positions to be shown; None stands for those left out."""
    if n <= most:
        return list(range(n))
    return [*range(most // 2), None, *range(n - most // 2 + 1, n)]


def _span(positions: Sequence[int]) -> str:
    """``3``, ``0 to 2``, or with gaps ``0, 2, 4``."""
    if len(positions) == 1:
        return str(positions[0])
    if positions[1] - positions[0] > 1:
        texts = [str(p) for p in positions]
        return ", ".join(texts if len(texts) <= 11 else [*texts[:3], "…", texts[-1]])
    return f"{positions[0]} to {positions[-1]}"


def number(value: float) -> str:
    """Four significant digits, whole numbers in full: ``25``, ``0.1333``, ``-1.2e-07``."""
    if value == round(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def signed_sum(terms: Sequence[str]) -> str:
    """``19 + 37 - 2``."""
    text = terms[0]
    for term in terms[1:]:
        text += f" - {term[1:]}" if term.startswith("-") else f" + {term}"
    return text
