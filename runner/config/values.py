"""The values that an override of a sweep lists, or those that stand for all of them."""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import Any, cast

from hydra.core.override_parser.types import ChoiceSweep, Glob, IntervalSweep, RangeSweep, Sweep

from runner.config.errors import problem
from runner.config.overrides import parse


def each_value(text: str, *, grid: bool) -> list[str]:
    """An override with each of its values.

    Args:
        text: the override, without globs.
        grid: whether every value is to be listed. Otherwise both ends of a range or an interval
            stand for all.

    Raises:
        ConfigError: it has no list of values.
        OverrideParseException: it can't be read.
    """
    override = parse(text)
    key, _, written = text.partition("=")
    if not override.is_sweep_override():
        return [text]
    if override.is_interval_sweep():
        if grid:
            hint = "hydra/sweeper=optuna searches among them all."
            raise problem(key, "values that can be listed", f"'{written}'", hint)
        interval = cast(IntervalSweep, override.value())
        return [f"{key}={end}" for end in (interval.start, interval.end)]
    if override.is_choice_sweep() and _has_sweep(cast(ChoiceSweep, override.value()).list):
        expected = "values, or one range, choice or glob"
        raise problem(key.lstrip("+"), expected, f"one among others: '{written}'")
    found: list[Any]
    if override.is_range_sweep() and not grid:
        found = ends(cast(RangeSweep, override.value()), key, written)
    else:
        found = list(override.sweep_string_iterator())
    if not found:
        raise problem(key, "at least one value", f"'{written}'")
    return [f"{key}={value}" for value in found]


def _has_sweep(value: object) -> bool:
    """Whether a value, or one within it, stands for several."""
    if isinstance(value, dict | list):
        return any(map(_has_sweep, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Sweep | Glob)


def ends(values: RangeSweep, key: str, written: str) -> list[int | float]:
    """The first and the last number of a range, without a list of them all; none if it is empty.

    Raises:
        ConfigError: its step is 0, or it isn't finite.
    """
    if values.step == 0:
        raise problem(key, "a step other than 0", f"'{written}'")
    numbers = values.range()
    if isinstance(numbers, range):
        return list(dict.fromkeys((numbers[0], numbers[-1]))) if numbers else []
    # Hydra counts in decimal numbers, too.
    start, stop, step = (Decimal(one or 0) for one in (values.start, values.stop, values.step))
    if not all(one.is_finite() for one in (start, stop, step)):
        raise problem(key, "a range of finite numbers", f"'{written}'")
    count = max(0, ceil((stop - start) / step))
    return list(dict.fromkeys(float(start + i * step) for i in (0, count - 1) if count))
