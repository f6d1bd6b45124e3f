"""Two runs beside each other: what to write above their outputs, and how to lay them out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runner.data import Data
from runner.plan import Plan
from runner.tasks import Run

Array = NDArray[Any]


def side_by_side(first: Run, other: Run) -> tuple[str, str]:
    """Titles of two runs: their last layer, its operator, and what differs in their data."""
    data, other_data = _told_apart(first.data, other.data)
    return f"first{_by(first.plan)}{data}", f"other{_by(other.plan)}{other_data}"


def _by(plan: Plan) -> str:
    """The last layer and its operator, for a title."""
    if not plan.rows:
        return ""
    row = plan.rows[-1]
    return f": {row.name} ({row.op})" if row.op else f": {row.name}"


def _told_apart(*data: Data) -> tuple[str, str]:
    """What to add to the titles of two data: their kinds and the short fields that differ."""
    fields = [one.model_dump() for one in data]
    differ = [name for name in fields[0] | fields[1] if len({str(f.get(name)) for f in fields}) > 1]
    if not differ:
        return "", ""
    if "kind" in differ:
        differ.clear()  # other kinds have other fields: their names say enough
    first, other = (
        ", ".join([one["kind"], *(f"{name} {one[name]}" for name in differ if _short(one[name]))])
        for one in fields
    )
    return f", {first}", f", {other}"


def _short(value: object) -> bool:
    return isinstance(value, int | float | str) and len(str(value)) <= 20


def as_maps(y: Array, layout: tuple[int, ...] | None) -> Array:
    """One example's numbers as c × h × w: laid out so, or else in rows of sixteen."""
    flat = y.ravel().astype(np.float64)
    if layout is not None:
        return flat.reshape(layout)
    columns = min(flat.size, 16)
    rows = -(-flat.size // columns)
    padded = np.full(rows * columns, np.nan)
    padded[: flat.size] = flat
    return padded.reshape(1, rows, columns)
