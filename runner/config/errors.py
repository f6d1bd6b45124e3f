"""What a mistake looks like to the person who made it.

Every complaint of the project has one form, ``path: expected X, got Y. Hint.``, and complaints
are collected, so that one run names them all.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

MANY = 50
"""Options that nobody reads through."""

LONGEST = 400
"""Letters of a path, or of what was there, that somebody reads."""

LONGEST_LIST = 1_200
"""Letters of what was expected, which lists options."""

NO = ("no", "n", "off", "f", "0")
YES = ("yes", "y", "on", "t", "1")
"""What people write for false and true, and older YAML reads as such."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with the input.

    Attributes:
        path: where it stands, dotted as on the command line: ``stack.layers.conv1.kernel``.
        expected: what would have been right.
        got: what was there.
        hint: the nearest fix, a sentence, or nothing.
    """

    path: str
    expected: str
    got: str
    hint: str = ""

    @property
    def place(self) -> str:
        """The path as it is shown."""
        return printable(shortened(self.path))

    def __str__(self) -> str:
        """One line, whatever the input holds."""
        expected = shortened(self.expected, LONGEST_LIST)
        sentence = f"{self.place}: expected {expected}, got {shortened(self.got)}."
        return printable(f"{sentence} {shortened(self.hint)}" if self.hint else sentence)


class ConfigError(ValueError):
    """The input is wrong; nothing was run. Carries every problem that was found."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)

    def under(self, prefix: str) -> ConfigError:
        """The same problems seen from further out: ``kernel`` becomes ``<prefix>.kernel``."""
        return ConfigError(*(replace(p, path=join(prefix, p.path)) for p in self.problems))

    def noting(self, sentence: str) -> ConfigError:
        """The same problems, with one more sentence to say where they arise."""
        return ConfigError(
            *(replace(p, hint=" ".join(filter(None, (p.hint, sentence)))) for p in self.problems)
        )


class SweepFailed(RuntimeError):
    """Some jobs of a sweep failed: which, and why."""


def join(prefix: str, path: str) -> str:
    """Join two dotted paths, either of which may be empty."""
    if path.startswith("["):
        return prefix + path
    return ".".join(part for part in (prefix, path) if part)


@contextmanager
def under(prefix: str) -> Iterator[None]:
    """Whatever is wrong inside the block is told from further out, as by `ConfigError.under`."""
    try:
        yield
    except ConfigError as error:
        raise error.under(prefix) from None


def problem(path: str, expected: str, got: str, hint: str = "") -> ConfigError:
    """A `ConfigError` with a single problem, ready to be raised."""
    return ConfigError(Problem(path, expected, got, hint))


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """``Did you mean 'photo'?``, or nothing when no option comes near.

    Who names a folder that there is, ``6_2/crr2d``, means something in it.
    """
    names = list(options)
    folder = word[: word.rfind("/") + 1]
    if inside := [name[len(folder) :] for name in names if folder and name.startswith(folder)]:
        near = _nearest(word[len(folder) :], inside)
        return f"Did you mean '{folder}{near}'?" if near else ""
    near = _nearest(word, names)
    return f"Did you mean '{near}'?" if near else ""


def _nearest(word: str, options: Iterable[str]) -> str | None:
    by_lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    # A word that was cut short is near, however long the whole is: corr for correlation.
    near = near or [
        option for option in by_lower if len(word) > 2 and option.startswith(word.lower())
    ]
    return by_lower[near[0]] if near else None


def one_of(options: Iterable[str]) -> str:
    """``one of a, b, c``; of very many, how many: the nearest is a better answer than all."""
    names = list(options)
    return f"one of {len(names)} names" if len(names) > MANY else "one of " + ", ".join(names)


def describe(value: object) -> str:
    """A value as a person would name it, cut to a readable length."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"a mapping with {', '.join(map(str, value)) or 'no keys'}"
    try:
        text = repr(value)
    except ValueError:  # Python doesn't spell out integers of more than 4300 digits
        return "an integer of thousands of digits"
    if len(text) > 60:
        text = f"{text[:57]}..."
    if isinstance(value, str):
        return f"{text} (text)"
    return text


def meant(value: object) -> str:
    """What somebody meant whose text was read as a truth, or whose truth as text; or nothing."""
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return f"YAML reads {words} as {describe(value)}; in quotes they are text."
    word = str(value).lower()
    truth = "false" if word in NO else "true" if word in YES else ""
    return f"Write {truth}." if truth else ""


def printable(text: str) -> str:
    r"""A text with an escape for whatever a terminal would obey or hide: ``\n``, ``\x1b``."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def shortened(text: str, most: int = LONGEST) -> str:
    """A text; of one longer than `most` letters, both ends."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, cut to its first line."""
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0].strip().rstrip(".")
