"""The bar of a sweep: where every job stands, how long it will take, and what runs now.

A cell of the bar stands for a job, or for several: then it shows what matters most of them. Jobs
change numbers here and nothing else; who draws asks for the lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from time import monotonic

from runner.report.wording import duration
from runner.sweep.records import COMPLETED, FAILS
from runner.terminal import Piece

WAITING, DONE, RUNNING, WRONG, FAILED = range(5)
"""What is known of a job, what matters most last."""

CELLS = (("─", "dim"), ("━", "green"), ("━", "bold cyan"), ("!", "yellow"), ("×", "bold red"))
"""How a cell of the bar looks."""

WAITED = [("waiting for the first job", "dim")]
"""What is told before it starts: other processes take seconds for that."""

WIDEST = 80
"""Cells of the bar, at most."""

INNER = 10
"""Cells of the bar for what runs."""

LEFT = len("about 59 min 59 s left")

EARLY = 1.0
"""Seconds that a sweep goes on before it is told how long it will take."""

SHORT = 0.5
"""Seconds that a job's steps take before they are shown: what is gone at once only flickers."""


class Steps:
    """The progress of one job's task.

    Attributes:
        total: how many steps there are.
        label: what they are.
        done: how many are done.
        note: what is to be shown beside them.
    """

    def __init__(self, total: int, label: str, done: int) -> None:
        self.total, self.label, self.done, self.note = total, label, done, ""
        self.since = monotonic()

    def advance(self, note: str) -> None:
        """One more is done."""
        self.done += 1
        self.note = note


class Running:
    """A job that runs.

    Attributes:
        name: of the job.
        label: what sets it apart from the others.
        steps: the bar that its task opened last, if any.
    """

    def __init__(self, name: str, label: str) -> None:
        self.name, self.label = name, label
        self.steps: Steps | None = None
        self._before = 0.0

    def open(self, steps: Steps) -> None:
        """The task opens a bar."""
        self._before, self.steps = self.share, steps

    @property
    def share(self) -> float:
        """How much of the job is done, from 0 to 1; a second bar doesn't take it back."""
        now = 0.0 if self.steps is None else self.steps.done / max(self.steps.total, 1)
        return max(self._before, now)


class Bar:
    """Where the jobs of a sweep stand.

    Attributes:
        running: the jobs that run, by directory.
    """

    def __init__(self, folders: Sequence[str]) -> None:
        """Begin.

        Args:
            folders: directories of the jobs, in their order; none if they aren't known before.
        """
        self._places = {folder: place for place, folder in enumerate(folders)}
        self._states = bytearray(len(folders))
        self._known = bool(folders)
        self._how: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._started: float | None = None
        self._last: list[Running] = []
        self.running: dict[str, Running] = {}

    def begin(self, folder: str, name: str, label: str) -> None:
        """A job runs; one that had ended is counted anew when it ends again."""
        if self._started is None:
            self._started = monotonic()
        self._forget(folder)
        self.running[folder] = Running(name, label)
        self._mark(folder, RUNNING)

    def end(self, folder: str, state: str) -> None:
        """A job has ended; its state is called as in `Record`."""
        self.running.pop(folder, None)
        self._forget(folder)
        self._how[folder] = state
        self._counts[state] += 1
        self._mark(folder, {COMPLETED: DONE, FAILS: WRONG}.get(state, FAILED))

    def _forget(self, folder: str) -> None:
        """How a job ended earlier."""
        if before := self._how.pop(folder, ""):
            self._counts -= Counter([before])

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return len(self._how)

    def _mark(self, folder: str, state: int) -> None:
        place = self._places.setdefault(folder, len(self._states))
        if place == len(self._states):
            self._states.append(state)
        else:
            self._states[place] = state

    def text(self) -> str:
        """``312 of 600: 300 done, 12 failed; about 1 min 05 s left``."""
        left = self._left()
        return f"{self._head()}: {self._tally()}" + (f"; {left}" if left else "")

    def lines(self, width: int) -> list[list[Piece]]:
        """What is drawn: the bar, how many went wrong, and the jobs that run.

        Args:
            width: of the terminal, in columns.
        """
        head, left = self._head(), self._left()
        room = width - len(head) - 4 - LEFT
        if room < 10:
            room, left = max(width - len(head) - 2, 1), ""
        found = [[(f"{head}  ", ""), *self._cells(min(room, WIDEST))]]
        if left:
            found[0].append((f"  {left}", ""))
        if set(self._counts) - {COMPLETED}:
            found.append([(self._tally(), "")])
        running = list(self.running.values()) or self._last
        self._last = running  # between two jobs the line stays
        found.append(_running(running, width) if running else WAITED)
        return found

    def _head(self) -> str:
        if not self._known:
            return f"{self.ended} ended"
        total = f"{len(self._states):,}"
        return f"{self.ended:>{len(total)},} of {total}"

    def _tally(self) -> str:
        counts = dict(self._counts)
        words = [f"{counts.pop(COMPLETED, 0):,} done"]
        for state, count in counts.items():
            words.append(f"{count:,} {state.replace('does', 'do') if count > 1 else state}")
        return ", ".join(words)

    def _left(self) -> str:
        """How long the jobs that are left will take if they take as long as those so far."""
        done = self.ended + sum(one.share for one in list(self.running.values()))
        rest = len(self._states) - done
        if not self._known or self._started is None or not done or rest <= 0:
            return ""
        spent = monotonic() - self._started
        # What a job has done in its first moments says little about the others.
        return f"about {duration(round(spent * rest / done))} left" if spent > EARLY else ""

    def _cells(self, room: int) -> list[Piece]:
        """Neighbouring cells of one kind are one piece."""
        states = bytes(self._states) or bytes([WAITING])
        bounds = [i * len(states) // room for i in range(room + 1)]
        cells = [max(states[first : max(after, first + 1)]) for first, after in pairwise(bounds)]
        pieces: list[Piece] = []
        start = 0
        for i in range(1, room + 1):
            if i == room or cells[i] != cells[start]:
                sign, style = CELLS[cells[start]]
                pieces.append((sign * (i - start), style))
                start = i
        return pieces


def _running(jobs: Sequence[Running], width: int) -> list[Piece]:
    """The jobs that run and how far they are, in a line."""
    names = [one.name for one in jobs]
    head = (
        f"{names[0]} {jobs[0].label}" if len(jobs) == 1 else f"{len(jobs)} at once: {some(names)}"
    )
    newest = max(
        (one.steps for one in jobs if one.steps is not None and one.steps.done < one.steps.total),
        key=lambda steps: steps.since,
        default=None,
    )
    shown = newest is not None and monotonic() - newest.since > SHORT
    room = max(width // 2 if shown else width, 8)
    if len(head) > room:
        head = f"{head[: room - 1]}…"
    if newest is None or not shown:
        return [(head, "")]
    share = sum(one.share for one in jobs) / len(jobs)
    cells = min(int(INNER * share), INNER)
    return [
        (f"{head}  {newest.label} ", ""),
        ("━" * cells, "cyan"),
        ("─" * (INNER - cells), "dim"),
        (f" {newest.done}/{newest.total}  {newest.note}", ""),
    ]


def some(names: Sequence[str]) -> str:
    """``#3``, ``#3, #4``, ``#3 … #66``."""
    return ", ".join(names) if len(names) < 4 else f"{names[0]} … {names[-1]}"
