"""What a task's YAML picks, and whether it is there: a layer, positions, an image of the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from runner.config.errors import Problem, describe, did_you_mean, problem
from runner.config.fields import LARGEST, refuse
from runner.data import Images
from runner.geometry import Pair
from runner.plan import Plan, Row

MOST = 1000
"""Positions in one list."""
PAIR = "two integers: [row, column]"
ADD_CONV = "Add a conv layer such as {kind: conv, channels: 1, kernel: 3}."
"""What to do about a stack that has nothing to work on."""


def _position(value: object) -> object:
    if not isinstance(value, list | tuple) or not _is_pair(value):
        refuse(PAIR, describe(value))
    return tuple(value)


def _positions(value: object) -> object:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MOST:
        refuse(f"a list of 1 to {MOST} positions: [[row, column], …]", describe(value))
    for i, position in enumerate(value):
        if not _is_pair(position):
            hint = "Put the position into brackets too: [[0, 1]]." if _is_index(position) else ""
            raise problem(f"[{i}]", PAIR, describe(position), hint)
    return tuple(map(tuple, value))


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_index, value))


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST


Position = Annotated[tuple[int, int], BeforeValidator(_position)]
"""``[2, 0]``: row and column, from 0. Whether it is there, `outside` says."""

Positions = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_positions)]
"""``[[0, 1], [2, 0]]``: several of them."""


def outside(positions: Mapping[str, Pair], size: Pair, expected: str) -> list[Problem]:
    """The positions that don't lie within a map.

    Args:
        positions: by the path in the config.
        size: rows and columns of the map.
        expected: what should have been given.
    """
    problems = []
    for path, position in positions.items():
        nearest = [min(max(p, 0), n - 1) for p, n in zip(position, size, strict=True)]
        if list(position) != nearest:
            hint = f"Rows and columns count from 0; the nearest is {nearest}."
            problems.append(Problem(path, expected, str(list(position)), hint))
    return problems


def check_image(index: int, images: Images) -> None:
    """The image that ``task.image`` picks must be there.

    Raises:
        ConfigError: it isn't.
    """
    if index >= len(images.x):
        expected = f"an image of the data, {indices(len(images.x))}"
        raise problem("task.image", expected, str(index))


def indices(count: int) -> str:
    """What can be picked of so many."""
    return f"0 to {count - 1}" if count > 1 else "0, the only one"


def named_layer(
    name: str, plan: Plan, able: Mapping[str, Row], what: str, path: str = "task.layer"
) -> Row:
    """The layer that ``task.layer`` names.

    Args:
        name: as in the plan, dotted inside containers.
        plan: of the stack.
        able: the layers that can be picked, by name; at least one.
        what: they are.
        path: of the name in the config.

    Raises:
        ConfigError: it isn't one of them; the answer lists some, those in a container of that
            name if there are any, and the nearest.
    """
    if name in able:
        return able[name]
    near = [other for other in able if other.startswith(f"{name}.")] or list(able)
    listed = near if len(near) <= 12 else [*near[:6], "…", *near[-3:]]
    kind = next((f", of kind {row.kind}" for row in plan.walk() if row.name == name), "")
    raise problem(
        path,
        f"{what} ({', '.join(listed)})",
        f"'{name}'{kind}",
        "" if kind else did_you_mean(name, able),
    )
