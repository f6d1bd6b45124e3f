"""What is shown while a sweep goes on: a bar in a terminal, plain lines when piped.

A job costs a look at its files when it ends; the bar is drawn by a thread, a few times a second,
from the numbers that are kept here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic

from runner.expect import compact
from runner.sweep.bar import Bar, Steps
from runner.sweep.manifest import Manifest, Planned
from runner.sweep.records import COMPLETED, FAILED, Record, read_job
from runner.sweep.varied import short_names
from runner.sweep.watch import Watch
from runner.tasks import Advance
from runner.tasks import Progress as Bars
from runner.terminal import Terminal

FEW, LINES, PIPED = 10, 40, 200
"""Jobs of a sweep whose metrics are shown; of which each has a line in a terminal, or piped."""

TROUBLES = 20
"""Jobs of a larger sweep that went wrong and have a line, at most."""

PARTS, SECONDS = 20, 30
"""A piped sweep without a line for each job has one for a twentieth of them, or half a minute."""

WORDS = {COMPLETED: ("done", ""), FAILED: ("FAILED", "bold red")}
"""What states are called in a job's line, and their styles, where they aren't called by name."""

EXPERIMENT = "experiment"


class Progress:
    """Tells which jobs run and how the others went."""

    def __init__(
        self, terminal: Terminal, root: Path, manifest: Manifest, missing: Sequence[Planned]
    ) -> None:
        """Begin.

        Args:
            terminal: where to.
            root: the sweep's directory.
            manifest: the sweep.
            missing: the jobs that are to be run; of a sweep that chooses its jobs as it goes, none.
        """
        self._terminal, self._root, self._jobs = terminal, root, {j.directory: j for j in missing}
        self._shared = _shared(manifest)
        words = (word for job in manifest.jobs for word in job.overrides)
        varied = [word for word in words if word not in self._shared] or manifest.overrides
        self._short = short_names(list(dict.fromkeys(map(_key, varied))))
        self._bar = Bar([job.directory for job in missing])
        self._troubles = 0
        self._told = (0, monotonic())

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Keep the bar at the bottom of the terminal."""
        with self._terminal.live(self._bar.lines):
            yield

    def begin(self, job: Planned) -> None:
        """A job starts."""
        self._bar.begin(job.directory, f"#{job.number}", self._label(job))

    def steps(self, job: Planned) -> Bars:
        """What that job's task opens a progress bar with, within the sweep's."""
        return partial(self._open, job.directory)

    def end(self, job: Planned, folder: Path) -> None:
        """A job has ended, as its directory says."""
        known = {"number": job.number, "overrides": job.overrides}
        record = read_job(folder, job.directory, known)
        self._bar.end(job.directory, record.state)
        wrong = record.state != COMPLETED
        self._troubles += wrong
        total = len(self._jobs) or self._bar.ended
        if total <= (LINES if self._terminal.console.is_terminal else PIPED):
            self._line(job, record, total)
            return
        if wrong and self._troubles <= TROUBLES:
            self._line(job, record, total)
            if self._troubles == TROUBLES:
                self._terminal.line("More that go wrong are counted, and listed in summary.csv.")
        if not self._terminal.console.is_terminal:
            self._tell(total)

    def again(self, count: int, reason: str) -> None:
        """Jobs that were done together have failed together."""
        self._terminal.line(
            f"{count} jobs that were learned together failed ({reason}); each is done by itself"
        )

    def refuse(self, job: Planned, reason: str) -> None:
        """A job can't be run, and there is no directory that says so."""
        self._bar.end(job.directory, FAILED)
        self._troubles += 1
        if self._troubles <= TROUBLES:
            self._line(job, Record(job.number, job.directory, FAILED, reason=reason), PIPED)

    def watch(self) -> Watch:
        """Follow jobs that run in other processes, within a ``with`` statement."""
        return Watch(self, self._root, list(self._jobs.values()))

    @contextmanager
    def _open(self, folder: str, total: int, label: str, done: int = 0, /) -> Iterator[Advance]:
        steps = Steps(total, label, done)
        self._bar.running[folder].open(steps)
        yield steps.advance

    def _line(self, job: Planned, record: Record, total: int) -> None:
        """How a job went, why, and of few jobs its single numbers."""
        word, style = WORDS.get(record.state, (record.state, "bold red"))
        if record.state == COMPLETED and record.expected:
            word, style = "holds", "green"
        # An experiment's numbers are in the report; of other sweeps they are the point.
        told = record.metrics if total <= FEW and EXPERIMENT not in record.values else {}
        metrics = "  ".join(f"{name} {compact(number)}" for name, number in told.items())
        self._terminal.job(
            f"#{job.number}",
            self._label(job),
            word,
            record.seconds or 0.0,
            style,
            [piece for piece in ((metrics, ""), (record.reason, "red")) if piece[0]],
        )

    def _tell(self, total: int) -> None:
        """A line every so often."""
        ended, now = self._bar.ended, monotonic()
        part = ended * PARTS // total
        if part > self._told[0] or now - self._told[1] >= SECONDS:
            self._told = part, now
            self._terminal.line(self._bar.text())

    def _label(self, job: Planned) -> str:
        """What sets a job apart from the others, or for the only one, all of it."""
        words = [word for word in job.overrides if word not in self._shared] or job.overrides
        return " ".join(map(self._word, words))

    def _word(self, word: str) -> str:
        key, mark, value = word.partition("=")
        if key == EXPERIMENT:
            return value
        name = key.lstrip("+~")
        return f"{key[: len(key) - len(name)]}{self._short.get(name, name)}{mark}{value}"


def _shared(manifest: Manifest) -> set[str]:
    """Words that say nothing about a job, as all of them were told these."""
    told = [set(job.overrides) for job in manifest.jobs]
    if not told:
        return set(manifest.overrides)
    return set.intersection(*told) if len(told) > 1 else set()


def _key(word: str) -> str:
    return word.lstrip("+~").partition("=")[0]
