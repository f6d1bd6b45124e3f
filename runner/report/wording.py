"""What a report says in the same words in every format."""

from __future__ import annotations

import os
import re
from urllib.parse import quote

from runner.environment import RECORDED
from runner.report.gather import Entry, Report, tally

LINE, LINES = 100, 12
"""Characters to a line and lines to a value, at most; metrics.json has all of it."""


def headline(report: Report) -> str:
    """``3 of 5 experiments hold, 1 does not hold, 1 FAILED``."""
    count = len(report.entries)
    noun = "experiment" if report.experiments == count else "run"
    noun += "s" if count > 1 else ""
    return re.sub(r"^((?:\d+ of )?\d+)", rf"\1 {noun}", tally(report.entries))


def facts(report: Report) -> list[tuple[str, str]]:
    """When, how long, and on what: names and values."""
    given = dict(report.facts)
    names = [name for name in ("python", *RECORDED) if name in given]
    versions = {name: given.pop(name) for name in names}
    return [
        ("date", report.started.strftime("%Y-%m-%d %H:%M %Z")),
        ("time", duration(report.seconds)),
        *given.items(),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]


def duration(seconds: float) -> str:
    """``0.07 s``, ``12.3 s``, ``2 min 05 s``; whole seconds stay whole."""
    if seconds >= 60:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    if isinstance(seconds, int):
        return f"{seconds} s"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def title(entry: Entry) -> str:
    """What heads a run: the question, or without one the name."""
    return entry.question or entry.name


def anchor(entry: Entry) -> str:
    """What a link to a run's part of the report leads to."""
    # What isn't a letter or digit becomes its code, so that no two folders share an anchor.
    return "run-" + re.sub(r"[^A-Za-z0-9]", lambda match: f"-{ord(match[0]):x}-", entry.folder)


def url(path: str) -> str:
    """What leads to a file, whatever bytes its name is made of."""
    return quote(os.fsencode(path))


def caption(picture: str) -> str:
    """What is written under a picture: its file's name."""
    return picture.rpartition("/")[2].rpartition(".")[0].replace("_", " ")


def broken(text: str) -> list[str]:
    """A value in lines: short ones whole, matrices by rows, mappings by entries, long ones cut."""
    inside = r"(?<=\],) (?=\[)" if text.startswith("[") else r"(?<=,) (?=[^\s:,]+: )"
    rows = re.sub(inside, "\n ", text).split("\n") if len(text) > LINE // 2 else [text]
    lines = [row if len(row) <= LINE else f"{_cut(row)} …" for row in rows]
    if len(lines) > LINES:
        rest = len(lines) - LINES + 1
        lines[LINES - 1 :] = [f"… {rest} more lines"]
    return lines


def _cut(row: str) -> str:
    """The beginning of a row, cut between two entries where there are some."""
    start = row[:LINE]
    return start[: start.rfind(", ") + 1] if ", " in start else start
