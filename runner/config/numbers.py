"""Numbers written into YAML: nested lists, checked to be rectangular."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from runner.config.errors import describe, problem

Nested = float | tuple[Any, ...]
"""A number, or a tuple of equally deep and long entries, which Python's types can't say simply."""


def array(value: object, path: str = "") -> tuple[Nested, tuple[int, ...]]:
    """Read a nested list of numbers.

    Args:
        value: lists of lists of … numbers, as YAML gives them.
        path: of `value`, for the error.

    Returns:
        The same as nested tuples, and its shape.

    Raises:
        ConfigError: ragged, empty, or something in it is not a finite number. The path names the
            entry: ``values[1][0]``.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise problem(path, "at least one number", "an empty list")
        entries = [array(entry, f"{path}[{i}]") for i, entry in enumerate(value)]
        first = entries[0][1]
        for i, (_, shape) in enumerate(entries):
            if shape != first:
                expected = f"{_sized(first)}, like the first"
                hint = "A tensor's rows must be equally long."
                raise problem(f"{path}[{i}]", expected, _sized(shape), hint)
        return tuple(entry for entry, _ in entries), (len(value), *first)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise problem(path, "a number", describe(value))
    try:
        number = float(value)
    except OverflowError:  # an integer beyond every float
        number = inf
    if not isfinite(number):
        raise problem(path, "a finite number", describe(value))
    return number, ()


def farthest(value: object) -> float:
    """The number farthest from zero among nested ones; 0 where there is none."""
    if isinstance(value, list | tuple):
        return max(map(farthest, value), key=abs, default=0.0)
    return value if isinstance(value, float) else 0.0


def _sized(shape: tuple[int, ...]) -> str:
    if not shape:
        return "a number"
    if len(shape) == 1:
        return f"a list of {shape[0]}"
    return "a list of shape " + "×".join(map(str, shape))
