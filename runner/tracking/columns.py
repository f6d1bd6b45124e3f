"""The columns of the table that compares the runs of a sweep; every run has a cell in each.

TensorBoard's HParams page leaves out parameters that some runs don't have, and neither sorts nor
draws a column whose values are numbers in one run and text in another. So the columns are fixed
before the first run. What is the same number in all of them is a number, too: a sweep may be
extended by runs with others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeGuard

Cell = bool | int | float | str

ABSENT = "–"
"""The cell of a run that doesn't have the parameter."""

MANY = 20
"""Values that can still be chosen from a list."""


@dataclass(frozen=True)
class Column:
    """One parameter in all runs.

    Attributes:
        text: whether its cells are text: of values that aren't all numbers or all truths.
        differs: whether it is one that the runs were told to differ in.
        options: of one whose cells are text and differ, what they are, unless there are many.
    """

    text: bool
    differs: bool = False
    options: tuple[str, ...] = ()


@dataclass
class _Seen:
    first: Any
    text: bool
    options: dict[str, None]
    count: int = 1
    differs: bool = False


class Columns:
    """Finds the columns of a sweep from the parameters of its runs."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._asked: set[str] = set()
        self._runs = 0

    def add(self, parameters: Mapping[str, Any], asked: Iterable[str]) -> None:
        """Look at one more run.

        Args:
            parameters: values by dotted name, and choices of config groups by the group's name.
            asked: keys of its overrides. That of a group stands for the choice, not for the many
                parameters that follow from it.
        """
        self._runs += 1
        self._asked.update(asked)
        for name, value in parameters.items():
            seen = self._seen.get(name)
            if seen is None:
                self._seen[name] = _Seen(value, _kind(value) is str, {_text(value): None})
                continue
            seen.count += 1
            if value is not seen.first and (_kind(value), value) != (_kind(seen.first), seen.first):
                seen.differs = True
                seen.text |= _kind(value) is not _kind(seen.first)
                if len(seen.options) <= MANY:
                    seen.options[_text(value)] = None

    def found(self) -> dict[str, Column]:
        """The columns of the runs so far, by name."""
        columns = {}
        for name, seen in self._seen.items():
            some = seen.count < self._runs
            differs = seen.differs or some
            text = seen.text or some
            asked = differs and self._is_asked(name)
            options = [*seen.options, ABSENT] if some else list(seen.options)
            listed = text and asked and len(options) <= MANY
            columns[name] = Column(text, asked, tuple(options) if listed else ())
        return columns

    def _is_asked(self, name: str) -> bool:
        parts = name.split(".")
        above = {".".join(parts[:i]) for i in range(1, len(parts))} - self._seen.keys()
        return name in self._asked or not above.isdisjoint(self._asked)


def row(parameters: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, Cell]:
    """A run's cells, one for each column; without columns, one for each parameter."""
    if not columns:
        return {
            name: value if isinstance(value, bool) or is_number(value) else _text(value)
            for name, value in parameters.items()
        }
    found = {name: (parameters.get(name, ABSENT), column.text) for name, column in columns.items()}
    return {
        name: _text(value) if text or _kind(value) is str else value
        for name, (value, text) in found.items()
    }


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number that a float holds exactly."""
    if isinstance(value, float):
        return isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53


def _kind(value: object) -> type:
    return bool if isinstance(value, bool) else float if is_number(value) else str


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
