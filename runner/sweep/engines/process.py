"""What happens in a worker process: one job, under the eyes of the launcher's process."""

from __future__ import annotations

import os
import platform
import select
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner import signals
from runner.tracking.directory import STATUS, state

COMPLETED, FAILED, INTERRUPTED, LOST = "COMPLETED", "FAILED", "INTERRUPTED", "LOST"
"""How a call ended. LOST: its process died, or it never ran."""

GRACE = 2.0
"""Seconds that a job has to record that it is interrupted, before its process is killed."""

KEYS = "hydra.sweep.dir", "hydra.sweep.subdir"
"""Where a job's config says in which directory it is."""

LIBRARIES = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
"""Environment variables that libraries take their number of threads from when they are loaded."""


@dataclass(frozen=True)
class Place:
    """A process, and where it is: its number means something on its own machine only."""

    pid: int
    machine: str

    @staticmethod
    def here() -> Place:
        """This process."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            return Place(os.getpid(), f"{boot} {Path('/proc/self/ns/pid').readlink()}")
        except OSError:
            return Place(os.getpid(), platform.node())


@dataclass(frozen=True)
class Call:
    """One job, ready to be sent to a worker process.

    Attributes:
        number: of the job.
        config: composed, with its ``hydra`` node.
        function: what runs the job.
        callbacks: Hydra's.
        environment: variables that the worker's process shall have, unless they are set.
        launcher: the process without which the worker ends, or None where jobs outlive it.
    """

    number: int
    config: DictConfig
    function: TaskFunction
    callbacks: Callbacks
    environment: Mapping[str, str]
    launcher: Place | None


@dataclass(frozen=True)
class Ended:
    """How a call ended: COMPLETED, FAILED, INTERRUPTED or LOST; what it gave; and why it didn't."""

    number: int
    state: str
    value: Any = None
    reason: str = ""


@contextmanager
def deaf_children() -> Iterator[None]:
    """Processes that are started here don't hear Ctrl-C, which reaches all of a terminal.

    Whoever started them hears it, and tells them by SIGTERM.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def threads(count: int) -> dict[str, str]:
    """Environment variables that give a process's libraries so many threads."""
    return dict.fromkeys(LIBRARIES, str(count))


def perform(call: Call) -> Ended:
    """Run a job in this process, as Hydra's own launcher would."""
    for name, value in call.environment.items():
        os.environ.setdefault(name, value)
    if call.launcher is not None:
        _follow(call.launcher)
    version.setbase("1.3")
    setup_globals()
    JobRuntime.instance().set("name", call.config.hydra.job.name)
    # A worker composes nothing; the loader stays where the config came from.
    context = HydraContext(config_loader=None, callbacks=call.callbacks)  # type: ignore[arg-type]
    try:
        with _ended_by_signals():
            done = run_job(call.function, call.config, *KEYS, context)
    except (KeyboardInterrupt, SystemExit) as stop:
        return Ended(call.number, INTERRUPTED, reason=type(stop).__name__)
    return Ended(call.number, _state(done), done._return_value)


def _state(done: JobReturn) -> str:
    """What the job's directory says, or else what Hydra does."""
    if done.status != JobStatus.COMPLETED:
        return FAILED
    assert done.hydra_cfg is not None
    folder = Path(str(done.hydra_cfg.hydra.runtime.output_dir))
    return state(folder) if (folder / STATUS).exists() else COMPLETED


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A job that is told to end can still say so in its directory."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with signals.terminable():
        yield


_followed: set[Place] = set()


def _follow(launcher: Place) -> None:
    """End this process soon after the launcher's has ended, however that came about."""
    if launcher in _followed or launcher.machine != Place.here().machine:
        return
    _followed.add(launcher)
    threading.Thread(target=_end_with, args=(launcher.pid,), daemon=True).start()


def _end_with(pid: int) -> None:
    try:
        ended = os.pidfd_open(pid)
    except ProcessLookupError:
        pass
    except (AttributeError, OSError):  # not on Linux, or on an old one
        while _exists(pid):
            time.sleep(1)
    else:
        select.select([ended], [], [])
    # The system's own alarm ends the process even while Python is busy ending itself.
    signal.setitimer(signal.ITIMER_REAL, GRACE)
    os.kill(os.getpid(), signal.SIGTERM)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
