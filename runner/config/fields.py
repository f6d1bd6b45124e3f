"""Field types that specs share: how many, how large, which part, how much padding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, NoReturn

from pydantic import BeforeValidator
from pydantic import Field as Limited
from pydantic_core import PydanticCustomError

from runner.config.errors import describe, did_you_mean


def refuse(expected: str, got: str, hint: str = "") -> NoReturn:
    """Reject a field's value from inside a validator, in the project's form."""
    # Pydantic wants a template and fills it from the context; the parts are what we report.
    raise PydanticCustomError(
        "refused", "expected {expected}", {"expected": expected, "got": got, "hint": hint}
    )


LARGEST = 2**31 - 1
"""The largest size of anything; beyond it torch's own arithmetic can overflow unseen."""


def integers(value: object, lengths: Iterable[int], least: int, expected: str) -> list[int]:
    """Read one integer or a list of them, each at least `least`; anything else is refused."""
    is_list = isinstance(value, list | tuple)
    given = list(value) if isinstance(value, list | tuple) else [value]
    items = [item for item in given if isinstance(item, int) and not isinstance(item, bool)]
    if len(items) != len(given) or (is_list and len(items) not in lengths):
        refuse(expected, describe(value))
    if min(items) < least or max(items) > LARGEST:
        refuse(f"{expected}, each from {least} to {LARGEST}", describe(value))
    return items


def _pair(least: int) -> BeforeValidator:
    def parse(value: object) -> tuple[int, int]:
        items = integers(value, (2,), least, "an integer or [height, width]")
        return (items[0], items[-1])

    return BeforeValidator(parse)


def _padding(value: object) -> tuple[int, int, int, int] | str:
    words = ("same", "same_lower", "valid")
    expected = "an integer, [h, w], [top, bottom, left, right], same, same_lower or valid"
    if isinstance(value, str):
        if value not in words:
            refuse(expected, f"'{value}'", did_you_mean(value, words))
        return value
    items = integers(value, (2, 4), 0, expected)
    if len(items) == 4:
        return (items[0], items[1], items[2], items[3])
    return (items[0], items[0], items[-1], items[-1])


REGION = "[top, left, height, width]"


def _region(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        refuse(REGION, describe(value))
    region = integers(value, (4,), 0, REGION)
    if min(region[2:]) < 1:
        refuse(f"{REGION}, height and width at least 1", describe(list(value)))
    return tuple(region)


Count = Annotated[int, Limited(ge=1, le=LARGEST)]
"""``6``: how many of something, at least 1."""

Size = Annotated[tuple[int, int], _pair(least=1)]
"""``3`` or ``[3, 5]``: height and width, each at least 1."""

Region = Annotated[tuple[int, int, int, int], BeforeValidator(_region)]
"""``[top, left, height, width]``: a part of an image, in pixels."""

Padding = Annotated[
    tuple[int, int, int, int] | Literal["same", "same_lower", "valid"], BeforeValidator(_padding)
]
"""Rows and columns added per side, as in torch; the book's p_h counts top and bottom together.

An integer, ``[h, w]`` for both sides of each axis, ``[top, bottom, left, right]``, or a rule:
``same`` (output as large as the input at stride 1, the odd one at the bottom and right, torch's
rule), ``same_lower`` (the odd one at the top and left, the book's rule), ``valid`` (none).
"""
