"""What a person sees: tables and a progress bar in a terminal, plain lines when piped."""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from runner.config.errors import ConfigError, printable
from runner.expect import Outcome, compact
from runner.plan import HEADINGS, LEFT, Plan, columns, hungry
from runner.report.gather import FAILS, Report
from runner.report.wording import duration, headline
from runner.tasks import Advance

LINES, WHOLE = 40, 1000
"""Layers that are shown at the head of a run, and where the plan is to be seen whole, if containers
can be shut."""

SPARE = ("op", "memory", "stride")
"""Columns that a narrow terminal can do without, first to last; plan.json has them all."""

FOLDED = 24
"""Characters of a name, beyond which it may take several lines."""

RATE = 8
"""How often lines at the bottom of the terminal are drawn anew, per second."""

Piece = tuple[str, str]
"""Text and its style."""


class _Console(Console):
    """One that shows text as text, and leaves it to the caller what follows when nobody reads."""

    def _render_buffer(self, buffer: Iterable[Segment]) -> str:
        """What goes to the terminal, which obeys no more than rich wants it to."""
        return super()._render_buffer(map(_shown, buffer))

    def on_broken_pipe(self) -> None:
        """Raise the error again; rich would end the process with SystemExit(1).

        Raises:
            BrokenPipeError: who read the output has gone.
        """
        self.quiet = True  # what is told from now on reaches nobody
        del self._buffer[:]
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class Terminal:
    """Prints one run.

    Attributes:
        console: where to; quiet when the run is not to be shown.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console: Console = _Console(quiet=quiet, highlight=False)
        if not self.console.is_terminal:
            self.console.width = 10_000  # a pipe has no width; tables keep theirs

    def line(self, text: str = "", style: str = "", *, whole: bool = False) -> None:
        """A line of text, broken at words to fit a terminal, unless it must stay `whole`."""
        wrap = whole or not self.console.is_terminal
        self.console.print(Text(text, style=style), soft_wrap=wrap)

    def _indented(self, text: str, style: str, spaces: int) -> None:
        """A line of text, every line of it indented where it is broken to fit a terminal."""
        if self.console.is_terminal:
            self.console.print(Padding(Text(text, style=style), (0, 0, 0, spaces)))
        else:
            self.line(" " * spaces + text)

    def _table(self, table: Table) -> None:
        """A table; when piped, without the spaces that fill up its last column."""
        if self.console.is_terminal:
            self.console.print(table)
            return
        with self.console.capture() as captured:
            self.console.print(table)
        for line in captured.get().splitlines():
            self.console.out(line.rstrip(), highlight=False)

    def columns(
        self,
        headings: Sequence[str],
        rows: Sequence[Sequence[str]],
        numbers: int = 0,
        best: int | None = None,
    ) -> list[str]:
        """A table of text under headings: names, a count, numbers, a remark.

        Where the terminal is too narrow, columns of numbers are left out, the last first but never
        the only one, and then names likewise; long names are folded.

        Args:
            headings: one per column.
            rows: as many cells each.
            numbers: how many columns, before the last one, hold numbers.
            best: the row that is marked, if any.

        Returns:
            The headings of the columns that were left out.
        """
        last = len(headings) - 1
        widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        room = [w if last - numbers <= i < last else min(w, FOLDED) for i, w in enumerate(widths)]
        spare = [*range(last - 1, last - numbers, -1), *range(last - numbers - 2, 0, -1)]
        hidden, needed = set(), sum(room) + 2 * len(room)
        for i in spare:
            if needed > self.console.width + 2:
                hidden.add(i)
                needed -= room[i] + 2
        used = [i for i in range(len(headings)) if i not in hidden]
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for i in used:
            table.add_column(headings[i], no_wrap=last - numbers <= i < last, overflow="fold")
        for place, row in enumerate(rows):
            style = "bold green" if place == best else None
            table.add_row(*(Text(row[i]) for i in used), style=style)
        self._table(table)
        return [heading for i, heading in enumerate(headings) if i in hidden]

    def troubles(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        """What went wrong with jobs: state, which jobs, their values; the reason below each."""
        widths = [max(len(row[i]) for row in rows) for i in (0, 1)]
        for state, jobs, values, reason in rows:
            self._indented(f"{state:<{widths[0]}}  {jobs:<{widths[1]}}  {values}".rstrip(), "", 0)
            if reason:
                self._indented(reason, "red", 2)

    def plan(self, title: str, plan: Plan, *, whole: bool) -> None:
        """The stack as a table; long containers are one line, sooner unless it is seen `whole`.

        Of a stack without layers the title says it all.
        """
        if self.console.quiet:  # laying a table out takes longer than a small job of a sweep
            return
        self.line(title, "bold")
        if not plan.rows and not whole:
            return
        rows = columns(plan, WHOLE if whole else LINES)
        # An empty column says nothing; at 80 columns its place is worth more.
        used = [i for i in range(len(HEADINGS)) if i < 3 or any(row[i] for row in rows)]
        widths = {i: max(len(row[i]) for row in [HEADINGS, *rows]) for i in used}
        for heading in SPARE:
            if sum(widths[i] + 1 for i in used) > self.console.width + 1:
                used = [i for i in used if HEADINGS[i] != heading]
        gap = 2 if sum(widths[i] + 2 for i in used) <= self.console.width else 1
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
        for i in used:
            table.add_column(
                HEADINGS[i], justify="left" if HEADINGS[i] in LEFT else "right", no_wrap=True
            )
        for row in rows:
            style = "bold" if row is rows[-1] else "dim" if row is rows[0] else None
            table.add_row(*(Text(row[i]) for i in used), style=style)
        self._table(table)
        for text in hungry(plan):
            self.line(text, "dim")

    def metrics(self, metrics: Mapping[str, Any]) -> None:
        """Single numbers as a table, small lists of lists as grids of numbers."""
        if self.console.quiet:
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, value in metrics.items():
            for label, text in self._cells(name, value):
                table.add_row(Text(label, style="cyan"), Text(text))
        self.line()
        self._table(table)

    def _cells(self, name: str, value: Any) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            text = ", ".join(f"{key} {compact(entry)}" for key, entry in value.items())
            long = f"{len(value)} entr{'y' if len(value) == 1 else 'ies'}, in metrics.json"
            nested = any(isinstance(entry, Mapping) for entry in value.values())
            yield name, long if nested or len(text) > 160 else text or "none"
            return
        grid = _grid(value)
        if grid is None:
            text = compact(value)
            yield name, text if len(text) <= 160 else f"{text[:100]} … all in metrics.json"
            return
        for i, text in enumerate(grid):
            yield (name if i == 0 else ""), text

    def outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Expected against measured."""
        if not outcomes:
            return
        table = Table(box=None, pad_edge=False, header_style="dim")
        for heading in ("expected", "", "measured", ""):
            table.add_column(heading, overflow="fold")
        for outcome in outcomes:
            verdict = Text("holds", "green") if outcome.holds else Text("FAILS", "bold red")
            # The exact deviation says more than a long list does.
            measured = compact(outcome.measured) if outcome.holds else outcome.failure
            cells = (outcome.metric, outcome.expected, measured)
            table.add_row(*(Text(cell) for cell in cells), verdict)
        self.line()
        self._table(table)

    def job(
        self,
        name: str,
        label: str,
        verdict: str,
        seconds: float,
        style: str,
        below: Sequence[Piece] = (),
    ) -> None:
        """How one job of a sweep went: a line of at most 80 columns, if it is seen in a terminal.

        Args:
            name: ``#3``.
            label: what sets it apart from the others.
            verdict: how it went, in at most 13 letters.
            seconds: how long it took.
            style: of the verdict.
            below: what is to be said besides, in lines of their own.
        """
        room = min(self.console.width, 80) - 27 - max(4, len(name))
        if self.console.is_terminal and len(label) > room:
            label = f"{label[: room - 1]}…"
        head, time = f"{name:<4} {label:<{room}}", f"{duration(seconds):>11}"
        self.console.print(Text.assemble(head, (f"  {verdict:<13}", style), time), soft_wrap=True)
        for text, colour in below:
            self._indented(text, colour, 5)

    @contextmanager
    def live(self, lines: Callable[[int], Sequence[Sequence[Piece]]]) -> Iterator[None]:
        """Keep lines at the bottom of the terminal while work goes on; nothing when piped.

        Args:
            lines: gives them for so many columns. A thread asks, a few times a second.
        """
        if not self.console.is_terminal or self.console.quiet:
            yield
            return
        from rich.console import Group
        from rich.live import Live

        def shown() -> Group:
            width = self.console.width
            texts = (Text.assemble(*line) for line in lines(width))
            return Group(*(_cut(text, width) for text in texts))

        with Live(
            get_renderable=shown, console=self.console, transient=True, refresh_per_second=RATE
        ):
            yield

    def report(self, report: Report) -> None:
        """How a sweep over experiments went."""
        self.line()
        self.line(f"{headline(report)} ({duration(report.seconds)})", "bold")
        for entry in report.entries:
            if entry.verdict == FAILS:
                self._indented(f"{entry.name}: {'; '.join(entry.reasons)}", "red", 2)

    def where(self, directory: Path, tensorboard: bool, report: Path | None = None) -> None:
        """Where the results are, and how to look at them."""
        self.line()
        if report is not None:
            self.line(f"report       {_short(report)}", whole=True)
        self.line(f"results      {_short(directory)}", whole=True)
        if tensorboard:
            path = shlex.quote(str(_short(directory)))
            self.line(f"TensorBoard  tensorboard --host 127.0.0.1 --logdir {path}", whole=True)

    @contextmanager
    def progress(self, total: int, label: str, done: int = 0, /) -> Iterator[Advance]:
        """A bar while work goes on, gone when it is done; nothing when piped."""
        if not self.console.is_terminal or self.console.quiet:
            yield lambda _: None
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        parts = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*parts, console=self.console, transient=True) as bar:
            task = bar.add_task(label, total=total, completed=done, note="")
            shown = 0.0

            def advance(note: str) -> None:
                # Steps can take microseconds; a bar is looked at ten times a second.
                nonlocal done, shown
                done += 1
                if done == total or monotonic() - shown > 0.1:
                    shown = monotonic()
                    bar.update(task, completed=done, note=note)

            yield advance


def print_problems(error: ConfigError) -> None:
    """Every problem of a bad config, on stderr, one paragraph each."""
    console = Console(stderr=True, highlight=False)
    count = len(error.problems)
    console.print(Text(f"{count} problem{'s' if count != 1 else ''} in the config:", "bold red"))
    for found in error.problems:
        text = Text.assemble((found.place, "bold"), str(found)[len(found.place) :])
        if console.is_terminal:
            console.print(Padding(text, (0, 0, 0, 2)))
        else:
            console.print(Text("  ") + text, soft_wrap=True)


def print_error(message: str) -> None:
    """A failure, on stderr."""
    text = "\n".join(map(printable, message.splitlines()))
    Console(stderr=True, highlight=False).print(Text(text, "red"), soft_wrap=True)


def _shown(segment: Segment) -> Segment:
    """A piece of text with an escape for whatever a terminal would obey, lines apart."""
    text, style, control = segment
    if control or text.isprintable() or text == "\n":
        return segment
    return Segment("\n".join(map(printable, text.split("\n"))), style)


def _short(path: Path) -> Path:
    """A path as it can be typed here; where the run itself has moved to its directory, absolute."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) and path != here else path


def _cut(text: Text, width: int) -> Text:
    text.truncate(width, overflow="ellipsis")
    return text


def _grid(value: Any) -> list[str] | None:
    """Rows of numbers in columns, if the value is that and small; channels are set apart."""
    if not isinstance(value, list) or not value or not isinstance(value[0], list):
        return None
    if not value[0] or isinstance(value[0][0], list):
        parts = [_grid(entry) for entry in value]
        if len(value) > 6 or any(part is None for part in parts):
            return None
        return [line for i, part in enumerate(parts) for line in ([""] if i else []) + (part or [])]
    cells = [[f"{n:.4g}" if isinstance(n, float) else str(n) for n in row] for row in value]
    width = max(len(cell) for row in cells for cell in row)
    if len(cells) > 16 or len(cells[0]) * (width + 1) > 60:
        return None
    return [" ".join(cell.rjust(width) for cell in row) for row in cells]
