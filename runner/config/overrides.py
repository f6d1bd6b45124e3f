"""Overrides as Hydra's grammar reads them, up to limits: for more it takes seconds, or gives up."""

from __future__ import annotations

import re
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType

from runner.config.contents import SURROGATE
from runner.config.errors import problem

LONGEST = 10_000
"""Characters: reading a list takes the square of its length."""

LONGEST_KEY = 240
"""Characters: Hydra asks whether there is a file of that name."""

LEVELS = 50
"""How deep values may be nested, as in YAML of the user's own."""

DIGITS = 1_000
"""Of a number; Python itself reads no more than 4,300."""

_LONG_NUMBER = re.compile(rf"\d{{{DIGITS + 1}}}")

NUMBER = re.compile(
    r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)=(?:(0|-?[1-9]\d*)|(-?(?:0|[1-9]\d*)\.\d+))", re.ASCII
)
"""Overrides that jobs of a sweep mostly differ in, and that need no grammar: ``seed=5``."""


@lru_cache(maxsize=1024)
def parse(text: str) -> Override:
    """An override as Hydra's grammar reads it; it is shared, and not to be changed.

    Raises:
        ConfigError: it is too long or too deep to be read, or isn't UTF-8.
        OverrideParseException: it can't be read.
    """
    _check(text)
    if number := NUMBER.fullmatch(text):
        key, whole, real = number.groups()
        value = float(real) if whole is None else int(whole)
        return Override(OverrideType.CHANGE, key, ValueType.ELEMENT, value, input_line=text)
    (override,) = OverridesParser.create().parse_overrides([text])
    return override


def _check(text: str) -> None:
    """Refuse an override that is too long or too deep to be read, or that can't be written.

    Raises:
        ConfigError: it is, with what there may be.
    """
    key = text.partition("=")[0].lstrip("+~")
    hint = "Write it into a YAML file."
    if len(text) > LONGEST:
        raise problem(key, f"at most {LONGEST:,} characters", f"{len(text):,}", hint)
    if len(key) > LONGEST_KEY:
        raise problem(key, f"a key of at most {LONGEST_KEY} characters", f"{len(key):,}")
    if SURROGATE.search(text):
        raise problem(key, "text in UTF-8", "other bytes")
    if _LONG_NUMBER.search(text):
        raise problem(key, f"numbers of at most {DIGITS:,} digits", "a longer one")
    if _levels(text) > LEVELS:
        raise problem(key, f"at most {LEVELS} levels", "more", hint)


def _levels(text: str) -> int:
    """How deep brackets of any kind are nested; those in quotes count too."""
    deepest = level = 0
    for sign in re.findall(r"[][{}()]", text):
        level += 1 if sign in "[{(" else -1
        deepest = max(deepest, level)
    return deepest
