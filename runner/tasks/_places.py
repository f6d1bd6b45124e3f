"""Positions and regions of images, as YAML writes them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator

from runner.config.errors import describe, problem
from runner.config.spec import LARGEST, integers, refuse

MOST = 1000
"""Positions in one list."""


def _places(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST:
        raise problem("", f"a list of 1 to {MOST} positions: [[row, column], …]", describe(value))
    for i, place in enumerate(value):
        pair = isinstance(place, list | tuple) and len(place) == 2
        if not pair or not all(_is_index(n) for n in place):
            hint = "Put the position into brackets too: [[0, 1]]." if _is_index(place) else ""
            raise problem(f"[{i}]", "two integers: [row, column]", describe(place), hint)
    return tuple((row, column) for row, column in value)


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


Places = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_places)]
"""``[[0, 1], [2, 0]]``: rows and columns, from 0."""

REGION = "[top, left, height, width]"


def _region(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        refuse(REGION, describe(value))
    top, left, height, width = integers(value, (4,), 0, REGION)
    if min(height, width) < 1:
        refuse(f"{REGION}, height and width at least 1", describe(list(value)))
    return (top, left, height, width)


Region = Annotated[tuple[int, int, int, int], BeforeValidator(_region)]
"""``[top, left, height, width]``, in pixels."""
