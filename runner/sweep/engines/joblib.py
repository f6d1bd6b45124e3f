"""Processes on this machine, by joblib's loky.

Each worker is a pool of its own with one process: joblib ends all processes of a pool when one of
them dies, and with them the jobs that are innocent.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import suppress
from multiprocessing import resource_tracker
from typing import ClassVar

from runner.config.fields import Count
from runner.config.spec import Spec
from runner.sweep.engines.launcher import PACKAGE, EngineLauncher, Pool, shared_cores
from runner.sweep.engines.process import GRACE, LOST, Call, Ended, deaf_children, perform, threads


class JoblibPreset(Spec):
    """Settings of ``hydra/launcher=joblib``.

    Attributes:
        n_jobs: jobs at once; None is one for each core.
    """

    n_jobs: Count | None = None


class JoblibLauncher(EngineLauncher):
    """Runs jobs in processes on this machine."""

    __module__ = PACKAGE

    package: ClassVar[str] = "joblib"
    extra: ClassVar[str] = "joblib"
    preset: ClassVar[type[Spec]] = JoblibPreset

    def open(self, jobs: int, folder: str) -> Pool:
        """Workers, no more than there are jobs; they share the cores evenly."""
        return _Workers(*shared_cores(self.settings.n_jobs, jobs))


class _Workers(Pool):
    """Processes that wait for calls."""

    def __init__(self, workers: int, threads: int) -> None:
        self.threads = threads
        self._idle = [_Worker(threads) for _ in range(workers)]
        self._running: dict[Future[Ended], tuple[_Worker, Call]] = {}

    def room(self) -> int:
        return len(self._idle)

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            worker = self._idle.pop()
            try:
                future = worker.submit(call)
            except BrokenExecutor:  # its process died while it waited
                worker.kill()
                worker = _Worker(self.threads)
                future = worker.submit(call)
            self._running[future] = worker, call

    def wait(self) -> list[Ended]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._ended(future) for future in done]

    def _ended(self, future: Future[Ended]) -> Ended:
        worker, call = self._running.pop(future)
        try:
            ended = future.result()
        except BrokenExecutor as error:
            worker.kill()
            worker = _Worker(self.threads)
            ended = Ended(call.number, LOST, reason=_exit(error))
        except Exception as error:  # the call, or what it gave, can't be sent
            ended = Ended(call.number, LOST, reason=f"{type(error).__name__}: {error}")
        self._idle.append(worker)
        return ended

    def close(self) -> None:
        for worker, _ in self._running.values():
            worker.terminate()
        wait(self._running, timeout=GRACE)
        for worker in [*self._idle, *(worker for worker, _ in self._running.values())]:
            worker.kill()


class _Worker:
    """One process that does calls one after the other, and starts with the first."""

    def __init__(self, count: int) -> None:
        """Make a worker whose libraries have `count` threads."""
        from joblib.externals.loky import ProcessPoolExecutor

        # What the user says in the environment goes before.
        environment = {k: v for k, v in threads(count).items() if k not in os.environ}
        self._pool = ProcessPoolExecutor(max_workers=1, env=environment)
        self._pid: Future[int] | None = None

    def submit(self, call: Call) -> Future[Ended]:
        """Do a call, which must be the only one."""
        if self._pid is None:
            # Python's own helper, which joblib starts too, would let Ctrl-C through again.
            resource_tracker.ensure_running()
            with deaf_children():
                self._pid = self._pool.submit(os.getpid)
        future: Future[Ended] = self._pool.submit(perform, call)
        return future

    def terminate(self) -> None:
        """Tell the job that it must end."""
        if self._pid is not None and self._pid.done() and self._pid.exception() is None:
            with suppress(ProcessLookupError):
                os.kill(self._pid.result(), signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once."""
        self._pool.shutdown(wait=True, kill_workers=True)


def _exit(error: BrokenExecutor) -> str:
    """What joblib says of how a process ended, in fewer words."""
    found = re.search(r"exit codes of the workers are \{(.*)\}", str(error))
    return f"its process ended: {found[1]}" if found else f"its process ended: {error}"
