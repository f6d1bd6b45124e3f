"""What the doctor finds: a table that fits a terminal, and below it what is wrong."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

OK, SKIPPED, WARNING, WRONG = STATES = "ok", "skipped", "warning", "wrong"
"""From good to bad. What needs something that is wrong is skipped; a warning costs time or comfort,
what is wrong costs results."""

WIDTH = 80
"""Columns of the table, unless the terminal has fewer."""

HEADINGS = "check", "state", "found"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: what was looked at, in a few words.
        state: `OK`, `WARNING`, `WRONG` or `SKIPPED`.
        found: what there is.
        mend: what to do about it, a sentence.
        command: that does it, if there is one.
    """

    check: str
    state: str
    found: str
    mend: str = ""
    command: str = ""

    def metrics(self) -> dict[str, str]:
        """For ``metrics.json``."""
        told = {"state": self.state, "found": self.found, "mend": self.mend}
        return {**told, "command": self.command}


def table(findings: Sequence[Finding], width: int = WIDTH) -> list[str]:
    """A line or more for each finding, of at most `width` columns.

    A name longer than a third of that has a line of its own.
    """
    names = [HEADINGS[0], *(one.check for one in findings)]
    first = max(len(name) for name in names if len(name) <= max(width // 3, len(HEADINGS[0])))
    second = max(map(len, STATES))
    lines = [f"{HEADINGS[0]:<{first}}  {HEADINGS[1]:<{second}}  {HEADINGS[2]}"]
    for one in findings:
        name = one.check
        if len(name) > first:
            lines += _wrapped(name, "", "", width)
            name = ""
        head = f"{name:<{first}}  {one.state:<{second}}  "
        lines += _wrapped(one.found, head, " " * len(head), width)
    return lines


def advice(findings: Sequence[Finding], width: int = WIDTH) -> Iterator[str]:
    """What is wrong first, then what might be better, and how; commands are lines of their own."""
    for state, title in ((WRONG, "Wrong"), (WARNING, "Could be better"), (OK, "Could be added")):
        several = [one for one in findings if one.state == state and (one.mend or state != OK)]
        if several:
            yield from ("", f"{title}:")
        for one in several:
            yield from _wrapped(f"{one.check}: {one.found}", "  ", "    ", width)
            yield from _wrapped(one.mend, "    ", "    ", width) if one.mend else ()
            for line in one.command.splitlines():
                yield from _continued(line, "      ", width)


def summary(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings there are of each state; `expect` holds them to something."""
    counts = Counter(one.state for one in findings)
    return {
        "ok": counts[OK],
        "warnings": counts[WARNING],
        "wrong": counts[WRONG],
        "skipped": counts[SKIPPED],
    }


def _wrapped(text: str, first: str, others: str, width: int) -> list[str]:
    # A path is whole where there is room for it, so that it can be copied.
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _continued(command: str, indent: str, width: int) -> list[str]:
    """A command on lines that a shell takes for one."""
    lines = textwrap.wrap(
        command, max(width - len(indent) - 2, 1), break_long_words=False, break_on_hyphens=False
    )
    return [f"{indent}{line}" for line in " \\\n".join(lines).splitlines()]
