"""Checks in processes of their own: one that hangs or crashes doesn't take the others with it.

A lane is a list of checks. A process does them one after the other and tells each as soon as it is
done; where it dies, or takes too long, the check that it was at is to blame, and another process
does the rest. So torch is imported once, and still nothing can end the examination.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from time import monotonic

from runner import installation
from runner.tasks._doctor_finding import SKIPPED, WRONG, Finding

CHILD = "runner.tasks._doctor_child"

MARK = b"@doctor "
"""Begins the lines that the child tells; all others are what libraries print."""


@dataclass(frozen=True)
class Check:
    """Something to look at.

    Attributes:
        name: of the function that does, in the child.
        title: in the table.
        argument: what the function is given.
        needs: the name of a check without which this one makes no sense.
    """

    name: str
    title: str
    argument: str = ""
    needs: str = ""

    def lost(self, why: str) -> Finding:
        """That it could not be done."""
        modules = [one.module for one in installation.libraries() if one.name == self.title]
        told = installation.mend(self.title, modules[0]) if modules else ()
        return Finding(self.title, WRONG, why, *told)

    def skipped(self) -> Finding:
        """That it was not done, as what it needs is wrong."""
        return Finding(self.title, SKIPPED, f"needs {self.needs}")


Told = tuple[Check, list[Finding]]


def examine(lanes: Sequence[Sequence[Check]], limit: float) -> Iterator[Told]:
    """Do the checks of several lanes side by side.

    Args:
        lanes: checks in order.
        limit: seconds that each check may take.

    Yields:
        Each check as soon as it is done, with what it found. When the caller stops asking, all
        processes are ended.
    """
    running = [_Lane(checks, limit) for checks in lanes]
    try:
        while running:
            wait = min(lane.deadline for lane in running) - monotonic()
            ready, _, _ = select.select(running, [], [], max(wait, 0))
            for lane in running:
                yield from lane.read() if lane in ready else lane.late()
            running = [lane for lane in running if lane.left]
    finally:
        for lane in running:
            lane.end()


class _Lane:
    """Some checks, and the process that does them.

    Attributes:
        left: what isn't done yet.
        deadline: when the next check must be done, on the clock of `monotonic`.
    """

    def __init__(self, checks: Sequence[Check], limit: float) -> None:
        self.left, self._limit = list(checks), limit
        self._start()

    def _start(self) -> None:
        self._unread, self._said = b"", ""
        self.deadline = monotonic() + self._limit
        told = json.dumps({"limit": self._limit, "checks": [asdict(one) for one in self.left]})
        # A session of its own, so that all that it starts can be ended with it.
        self._process = subprocess.Popen(
            [sys.executable, "-m", CHILD, told],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def fileno(self) -> int:
        """Of the pipe, for `select`."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read(self) -> Iterator[Told]:
        """What the process has told by now; or that it is dead."""
        part = os.read(self.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + part).split(b"\n")
        for line in lines:
            if line.startswith(MARK):
                self.deadline = monotonic() + self._limit
                findings = json.loads(line.removeprefix(MARK))
                yield self.left.pop(0), [Finding(**one) for one in findings]
            else:
                self._said = line.decode(errors="replace").strip() or self._said
        if not self.left:
            self.end()
        elif not part:
            yield from self._blame(_ending(self._process))

    def late(self) -> Iterator[Told]:
        """What to tell of a check that takes too long, if one does."""
        if monotonic() >= self.deadline:
            yield from self._blame(f"not done in {self._limit:g} s (task.seconds)")

    def _blame(self, why: str) -> Iterator[Told]:
        """Give up the check that the process was at, and do the rest in another."""
        self.end()
        culprit = self.left.pop(0)
        yield culprit, [culprit.lost(f"{why}; its last words: {self._said}" if self._said else why)]
        for check in [one for one in self.left if one.needs == culprit.name]:
            self.left.remove(check)
            yield check, [check.skipped()]
        if self.left:
            self._start()

    def end(self) -> None:
        """End the process, and all that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # One that waits for a dead file server can't be killed; it isn't waited for.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _ending(process: subprocess.Popen[bytes]) -> str:
    """How a process that closed its pipe ended."""
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(2)
        return f"crashed ({signal.Signals(-code).name})" if code < 0 else f"ended with code {code}"
    return "stopped answering"
