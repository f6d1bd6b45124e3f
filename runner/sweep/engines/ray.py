"""A cluster, by Ray: one that is started on this machine for the sweep, or one that is there."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, ClassVar

from pydantic import Field as Limited

from runner.config.errors import first_line
from runner.config.fields import Count
from runner.config.spec import Spec
from runner.sweep.engines.launcher import PACKAGE, UNLIMITED, EngineLauncher, Pool
from runner.sweep.engines.process import GRACE, LOST, Call, Ended, perform

QUIET = {"log_to_driver": False, "logging_level": "error"}
LOCAL = {"include_dashboard": False}
"""What `ray.init` is told where the preset says nothing else."""


class RayPreset(Spec):
    """Settings of ``hydra/launcher=ray``.

    Attributes:
        n_jobs: jobs at once; None is as many as the cluster has CPUs for.
        init: arguments of `ray.init`: ``{address: auto}`` joins a cluster.
        remote: options of each job: ``{num_cpus: 2, num_gpus: 0.5}``.
    """

    n_jobs: Count | None = None
    init: dict[str, Any] = Limited(default_factory=dict)
    remote: dict[str, Any] = Limited(default_factory=dict)


class RayLauncher(EngineLauncher):
    """Runs jobs on a cluster."""

    __module__ = PACKAGE

    package: ClassVar[str] = "ray"
    extra: ClassVar[str] = "ray"
    preset: ClassVar[type[Spec]] = RayPreset

    def open(self, jobs: int, folder: str) -> Pool:
        """Start the cluster, or join it."""
        return _Cluster(self.settings)


class _Cluster(Pool):
    """Ray's workers."""

    def __init__(self, settings: RayPreset) -> None:
        # A cluster that is ours tells nobody about itself.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        joins = "address" in settings.init
        ends = signal.getsignal(signal.SIGTERM)
        ray.init(**(QUIET if joins else QUIET | LOCAL) | settings.init)
        signal.signal(signal.SIGTERM, ends)  # Ray's own handler aborts
        options = {"num_cpus": 1, "max_retries": 0} | settings.remote
        self._limit, self._cpus = settings.n_jobs, float(options["num_cpus"])
        self.threads = max(int(self._cpus), 1)
        self._perform = ray.remote(**options)(perform)
        self._running: dict[Future[Ended], tuple[Any, Call]] = {}

    def room(self) -> int:
        import ray

        limit = self._limit or UNLIMITED
        if self._limit is None and self._cpus:
            cpus = ray.cluster_resources().get("CPU", 1)  # a cluster may grow
            limit = max(int(cpus / self._cpus), 1)
        return limit - len(self._running)

    def submit(self, calls: Sequence[Call]) -> None:
        for call in calls:
            task = self._perform.remote(call)
            # Within ray.wait, the exit code of a signal's handler would be lost.
            self._running[task.future()] = task, call

    def wait(self) -> list[Ended]:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        return [self._ended(future) for future in done]

    def _ended(self, future: Future[Ended]) -> Ended:
        from ray.exceptions import RayError

        _, call = self._running.pop(future)
        try:
            return future.result()
        except RayError as error:
            return Ended(call.number, LOST, reason=first_line(error))

    def close(self) -> None:
        import ray

        for task, _ in self._running.values():
            ray.cancel(task)
        wait(self._running, timeout=GRACE)
        ray.shutdown()
