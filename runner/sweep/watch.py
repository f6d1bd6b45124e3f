"""Follow jobs that run in other processes, by what their directories say."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

from runner.config.contents import contents
from runner.sweep.manifest import Planned
from runner.tracking.directory import STATUS

EVERY = 0.5
"""Seconds between two looks at the directories."""


class Told(Protocol):
    """Who is told which jobs run and which have ended."""

    def begin(self, job: Planned) -> None:
        """A job runs."""

    def end(self, job: Planned, folder: Path) -> None:
        """A job has ended."""


class Watch:
    """Looks at the jobs' directories from a thread; used in a ``with`` statement.

    A directory counts when its state is written anew: what an earlier try left there says nothing.
    """

    def __init__(self, told: Told, root: Path, jobs: Sequence[Planned]) -> None:
        """Begin.

        Args:
            told: of what happens.
            root: the sweep's directory.
            jobs: that will run; if there are none, all that appear.
        """
        self._told, self._root = told, root
        self._jobs = {job.directory: job for job in jobs}
        self._files = {job.directory: root / job.directory / STATUS for job in jobs}
        self._running: dict[str, Planned] = {}
        self._ended: set[str] = set()
        self._unread: BrokenPipeError | None = None
        self._seen = dict(self._written())
        self._stop, self._thread = Event(), Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        for folder, job in self._running.items():  # killed: nothing runs any more
            self._told.end(job, self._root / folder)
        if self._unread is not None and kind is None:
            raise self._unread

    def _follow(self) -> None:
        try:
            while not self._stop.wait(EVERY):
                self._look()
        except BrokenPipeError as error:  # the jobs go on; who called it is told at the end
            self._unread = error

    def _look(self) -> None:
        for folder, written in list(self._written()):
            if self._seen.get(folder) != written:
                self._seen[folder] = written
                self._tell(folder)

    def _written(self) -> Iterator[tuple[str, int]]:
        """When the states of jobs that haven't ended were written, by directory."""
        files = self._files
        if not self._jobs:
            files = {one.name: self._root / one.name / STATUS for one in os.scandir(self._root)}
        for folder, file in files.items():
            if folder not in self._ended:
                try:
                    yield folder, file.stat().st_mtime_ns
                except OSError:
                    continue  # it hasn't begun

    def _tell(self, folder: str) -> None:
        try:
            status = json.loads(contents(self._root / folder / STATUS))
        except (OSError, ValueError, RecursionError):
            return
        if folder not in self._running:
            self._running[folder] = job = self._job(folder, status)
            self._told.begin(job)
        # Whether a lock is free isn't looked at: who looks could keep a job from taking it.
        if status.get("state") != "RUNNING":
            self._ended.add(folder)
            self._told.end(self._running.pop(folder), self._root / folder)

    def _job(self, folder: str, status: dict[str, Any]) -> Planned:
        """The job of a directory, as it was planned or else as its status tells."""
        words = tuple(map(str, status.get("overrides", ())))
        return self._jobs.get(folder) or Planned(int(status.get("job") or 0), "", words, folder)
