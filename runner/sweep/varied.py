"""What isn't the same in all jobs of a sweep, and the shortest names for it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from typing import Any

from runner.sweep.records import Record, is_number

SEED = "seed"

FEW = 3
"""How many of a kind are named before the rest is counted."""

DEPTH = 50
"""Parts of a dotted path that are looked at; a name that somebody made up may have thousands."""

MISSING = None
"""The value of a parameter that a job doesn't have: configs have null for the same."""

SETTINGS = ("sweep.", "hydra.")
"""Of the sweep itself, not of its jobs."""


def varied(records: Sequence[Record]) -> list[str]:
    """Dotted paths of the parameters, and names of the config groups, that jobs differ in.

    A group that varies stands for the many parameters that follow from its choice; those that the
    overrides name besides are listed too. The order is that of the overrides, ``seed`` last.
    """
    names = dict.fromkeys(name for record in records for name in record.values)
    differing = [n for n in names if not n.startswith(SETTINGS) and _differs(n, records)]
    told = dict.fromkeys(_key(word) for record in records for word in record.overrides)
    asked = {key: place for place, key in enumerate(told)}
    groups = [n for n in differing if n in asked and "." not in n and n != SEED]
    # An override of a whole node names all that is in it, but for the choice of a group.
    nodes = {key for key in asked if key not in names}
    found = [
        name
        for name in differing
        if name in asked
        or not nodes.isdisjoint(_beginnings(name))
        or not any(_follows(name, group, records) for group in groups)
    ]

    def place(name: str) -> tuple[bool, int]:
        return name == SEED, min(asked.get(key, len(asked)) for key in [name, *_beginnings(name)])

    return sorted(found, key=place)


def identity(value: Any) -> Hashable:
    """Equal for equal values: 1 is 1.0, but not true; lists by their entries."""
    return value if is_number(value) or isinstance(value, str) else json.dumps(value, default=str)


def value(record: Record, name: str) -> Any:
    """A job's value; `MISSING` if it has none."""
    return record.values.get(name, MISSING)


def short_names(names: Sequence[str], taken: Collection[str] = ()) -> dict[str, str]:
    """Each dotted path's shortest end that means no other one: ``task.optimizer.lr`` is ``lr``.

    Args:
        names: the paths.
        taken: words that would be misunderstood.
    """
    found = Counter(end for name in set(names) for end in [name, *_ends(name)])
    return {name: _shortest(name, found, taken) for name in names}


def _shortest(name: str, found: Mapping[str, int], taken: Collection[str]) -> str:
    ends = (end for end in _ends(name) if end not in taken and found[end] == 1)
    return next(ends, name)


def _beginnings(name: str) -> list[str]:
    """What a dotted path begins with, without the whole."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, min(len(parts), DEPTH))]


def _ends(name: str) -> list[str]:
    """What a dotted path ends in, the shortest first, without the whole."""
    parts = name.split(".")
    return [".".join(parts[-count:]) for count in range(1, min(len(parts), DEPTH))]


def shown(value: Any) -> str:
    """A parameter's value as text; numbers with at most six digits."""
    if value is MISSING:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return min(repr(value), f"{value:.6g}", key=len)
    return json.dumps(value, default=str)


def assignments(names: Mapping[str, str], values: Mapping[str, Any]) -> str:
    """``lr=0.01 stack=lenet``: values under short names."""
    return " ".join(f"{short}={shown(values[name])}" for name, short in names.items())


def in_order(values: Iterable[Any]) -> list[Any]:
    """Each different value once: numbers in ascending order, others in the given one."""
    found = list({identity(value): value for value in values}.values())
    return sorted(found) if all(map(is_number, found)) else found


def some(names: Sequence[str], few: int = FEW) -> str:
    """``#1, #2, #3 and 7 more``."""
    if len(names) <= few + 1:
        return ", ".join(names)
    return f"{', '.join(names[:few])} and {len(names) - few} more"


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]


def _differs(name: str, records: Sequence[Record]) -> bool:
    """Whether jobs have different values; of those that say only some of theirs, these count."""
    told = [value(r, name) for r in records if r.whole or name in r.values]
    return any(
        not (type(one) is type(told[0]) and one == told[0]) and identity(one) != identity(told[0])
        for one in told
    )


def _follows(name: str, group: str, records: Sequence[Record]) -> bool:
    """Whether the choice of a group decides a value."""
    decided: dict[Hashable, Hashable] = {}
    for record in records:
        if record.whole:
            choice, found = identity(value(record, group)), identity(value(record, name))
            if decided.setdefault(choice, found) != found:
                return False
    return True
