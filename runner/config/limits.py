"""What of an override is read at all: Hydra's grammar takes seconds for more, or gives up."""

from __future__ import annotations

import re

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


def check_override(text: str) -> None:
    """Refuse an override that is too long or too deep to be read.

    Raises:
        ConfigError: it is, with what there may be.
    """
    key = text.partition("=")[0].lstrip("+~")
    hint = "Write it into a YAML file."
    if len(text) > LONGEST:
        raise problem(key, f"at most {LONGEST:,} characters", f"{len(text):,}", hint)
    if len(key) > LONGEST_KEY:
        raise problem(key, f"a key of at most {LONGEST_KEY} characters", f"{len(key):,}")
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
