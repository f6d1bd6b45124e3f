"""The summary of a sweep, from its files alone: a table in the terminal, and three files.

``summary.csv`` has every job with all that varied and was measured, ``summary.md`` what a person
wants to read, ``summary.png`` a picture of the metric over what varied.
"""

from __future__ import annotations

import logging
from pathlib import Path

from runner.config.errors import problem
from runner.report.markdown import block, escaped
from runner.sweep.findings import Summary, summarize
from runner.sweep.picture import draw
from runner.sweep.tables import (
    Table,
    best_command,
    best_line,
    not_started,
    overall,
    reason,
    settings_table,
    to_csv,
    trouble_rows,
    troubles,
)
from runner.sweep.varied import in_order, shown, some, value
from runner.terminal import Terminal
from runner.tracking.directory import write_atomically
from runner.tracking.files import png

__all__ = ["Summary", "show", "summarize", "write"]

CSV, MARKDOWN, PICTURE = "summary.csv", "summary.md", "summary.png"

ROWS, METRICS, KINDS = 20, 5, 10
"""Settings, metrics and kinds of trouble that the terminal shows, at most."""

PAGE_ROWS, PAGE_METRICS = 100, 8
"""Settings and metrics on the page, at most."""

REASONS = 20
"""Reasons that differ in their numbers alone, which the page tells one by one, at most."""

logger = logging.getLogger(__name__)


def write(summary: Summary, directory: Path) -> None:
    """Write summary.csv, summary.md and, if there is something to draw, summary.png.

    Raises:
        ConfigError: the directory can't be written.
    """
    try:
        write_atomically(directory / CSV, to_csv(summary).encode())
        drawn = _draw(summary, directory / PICTURE)
        write_atomically(directory / MARKDOWN, markdown(summary, picture=drawn).encode())
    except OSError as error:
        found = f"'{directory}' ({error.strerror})"
        raise problem("summary", "a directory that can be written", found) from None


def _draw(summary: Summary, path: Path) -> bool:
    """Whether there is a picture now; one that can't be drawn costs nothing else."""
    try:
        picture = draw(summary)
    except Exception as error:
        logger.warning("could not draw %s: %s", path.name, error)
        picture = None
    if picture is None:
        path.unlink(missing_ok=True)
        return False
    write_atomically(path, png(picture))
    return True


def show(summary: Summary, terminal: Terminal) -> None:
    """The settings as a table, the best one, and then what went wrong."""
    table = settings_table(summary, ROWS, METRICS)
    terminal.line()
    terminal.line(summary.tally, "bold")
    terminal.line()
    hidden = terminal.columns(table.headings, table.rows, table.numbers, table.best)
    names = set(summary.names.values())
    if missing := [name for name in hidden if name in names]:
        terminal.line(f"Also varied, but there is no room here: {', '.join(missing)}", "dim")
    if table.more:
        terminal.line(_more(table.more, ranked=summary.objective is not None), "dim")
    if line := overall(summary, METRICS):
        terminal.line()
        terminal.line(line)
    if line := best_line(summary):
        terminal.line()
        terminal.line(line, "bold green")
        which, command = best_command(summary)
        if command:
            terminal.line(which)
            terminal.line(command, whole=True)
    for note in summary.notes:
        terminal.line(note, "yellow")
    show_troubles(summary, terminal)


def show_troubles(summary: Summary, terminal: Terminal) -> None:
    """What went wrong, and what never began."""
    if rows := trouble_rows(summary):
        terminal.line()
        terminal.line("What went wrong:", "bold")
        terminal.troubles(rows[:KINDS])
        if len(rows) > KINDS:
            terminal.line(f"… {len(rows) - KINDS:,} more kinds of failures in {CSV}", "dim")
    if line := not_started(summary):
        terminal.line()
        terminal.line(line)


def markdown(summary: Summary, *, picture: bool) -> str:
    """The summary as Markdown, in GitHub's dialect."""
    parts = [f"# {escaped(summary.tally)}"]
    if summary.command:
        parts.append(block(summary.command))
    parts.append("\n".join(_what_varied(summary)))
    if line := best_line(summary):
        parts.append(f"**{escaped(line)}**")
        which, command = best_command(summary)
        parts += [escaped(which), block(command)] if command else []
    parts += map(escaped, filter(None, [overall(summary, PAGE_METRICS), *summary.notes]))
    if picture:
        parts.append(f"![{escaped(', '.join(summary.varied))}]({PICTURE})")
    table = settings_table(summary, PAGE_ROWS, PAGE_METRICS)
    parts.append(_markdown_table(table))
    if table.more:
        parts.append(_more(table.more, ranked=summary.objective is not None))
    if summary.troubled:
        parts.append("## What went wrong")
    for jobs in troubles(summary, REASONS):
        names = some([job.name for job in jobs], REASONS)
        parts.append(f"**{jobs[0].state}**: {escaped(names)}")
        parts += [block(reason(jobs))] if jobs[0].reason else []
    if line := not_started(summary):
        parts.append(escaped(line))
    return "\n\n".join(parts) + "\n"


def _what_varied(summary: Summary) -> list[str]:
    """A line per parameter: its values."""
    lines = []
    for name in summary.varied:
        found = list(map(shown, in_order(value(record, name) for record in summary.records)))
        lines.append(f"* {escaped(name)}: {escaped(some(found, 10))}")
    return lines or ["Nothing varied."]


def _markdown_table(table: Table) -> str:
    count = len(table.headings)
    rule = ["---" if i < count - 1 - table.numbers else "---:" for i in range(count - 1)]
    rows = [
        [f"**{escaped(cell)}**" if i == table.best and cell else escaped(cell) for cell in row]
        for i, row in enumerate(table.rows)
    ]
    lines = [list(map(escaped, table.headings)), [*rule, "---"], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _more(count: int, *, ranked: bool) -> str:
    return f"… {count:,} more in {CSV}" + (" (these are the best)" if ranked else "")
