"""Jobs of their own, by submitit: processes on this machine, or Slurm's."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from pydantic import Field as Limited

from runner.config.errors import problem
from runner.config.fields import Count
from runner.config.spec import Spec
from runner.sweep.engines.launcher import PACKAGE, UNLIMITED, EngineLauncher, Pool, shared_cores
from runner.sweep.engines.process import GRACE, LOST, Call, Ended, deaf_children, perform

LOGS = ".submitit/%j"
"""Where submitit writes what it sends to a job, what comes back, and what is printed there."""

ARRAY = 1000
"""Jobs of an array; Slurm's default is to take no more than 1001."""

SHARED = "timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb"
"""Settings that submitit knows on all clusters; names of the others start with the cluster's."""


class LocalPreset(Spec):
    """Settings of ``hydra/launcher=submitit_local``.

    Attributes:
        n_jobs: jobs at once; None is one for each core.
        timeout_min: minutes that a job may take.
    """

    n_jobs: Count | None = None
    timeout_min: Count = 60


class SlurmPreset(Spec):
    """Settings of ``hydra/launcher=submitit_slurm``: submitit's own, by its names.

    Attributes:
        timeout_min: minutes that a job may take.
        cpus_per_task: of each job; its libraries have as many threads.
        gpus_per_node: of each job.
        mem_gb: memory of each job, in GB.
        n_jobs: jobs at once.
        partition: and `qos`, `account`, `constraint`: of Slurm.
        setup: shell commands before each job.
        additional_parameters: more of sbatch's.
    """

    timeout_min: Count = 60
    cpus_per_task: Count = 1
    gpus_per_node: int | None = None
    mem_gb: float | None = None
    n_jobs: Count = 256
    partition: str | None = None
    qos: str | None = None
    account: str | None = None
    constraint: str | None = None
    setup: list[str] | None = None
    additional_parameters: dict[str, Any] = Limited(default_factory=dict)


class LocalLauncher(EngineLauncher):
    """Runs jobs as processes on this machine, as a trial of what Slurm will do."""

    __module__ = PACKAGE

    package: ClassVar[str] = "submitit"
    extra: ClassVar[str] = "submitit"
    preset: ClassVar[type[Spec]] = LocalPreset

    def open(self, jobs: int, folder: str) -> Pool:
        """A pool of processes, no more at once than there are jobs; they share the cores."""
        options = {"timeout_min": self.settings.timeout_min}
        return _Jobs("local", folder, options, *shared_cores(self.settings.n_jobs, jobs))


class SlurmLauncher(EngineLauncher):
    """Submits jobs to Slurm, as job arrays."""

    __module__ = PACKAGE

    package: ClassVar[str] = "submitit"
    extra: ClassVar[str] = "submitit"
    preset: ClassVar[type[Spec]] = SlurmPreset

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Any:
        """As for the others, and Slurm must be there."""
        settings = super().check(values)
        if missing := [name for name in ("sbatch", "srun") if shutil.which(name) is None]:
            found = f"one without {' and '.join(missing)}"
            hint = "hydra/launcher=submitit_local tries the same on this one."
            raise problem("hydra/launcher", "a machine of a Slurm cluster", found, hint)
        return settings

    def open(self, jobs: int, folder: str) -> Pool:
        """A pool that takes all jobs at once; Slurm runs `n_jobs` of them at a time."""
        told = self.settings.model_dump(exclude={"n_jobs"}, exclude_none=True)
        told["array_parallelism"] = self.settings.n_jobs
        options = {key if key in SHARED else f"slurm_{key}": value for key, value in told.items()}
        return _SlurmJobs("slurm", folder, options, UNLIMITED, self.settings.cpus_per_task)


class _Jobs(Pool):
    """Jobs that write their result to a file when they end."""

    pause: ClassVar[float] = 0.1

    def __init__(
        self, cluster: str, folder: str, options: dict[str, Any], limit: int, threads: int
    ) -> None:
        """Prepare to submit jobs.

        Args:
            cluster: ``local`` or ``slurm``.
            folder: of the sweep.
            options: submitit's.
            limit: jobs at once.
            threads: of each job.
        """
        import submitit

        self._executor = submitit.AutoExecutor(folder=f"{folder}/{LOGS}", cluster=cluster)
        self._executor.update_parameters(**options)
        self._limit, self.threads = limit, threads
        self._running: dict[Any, Call] = {}

    def room(self) -> int:
        return self._limit - len(self._running)

    def submit(self, calls: Sequence[Call]) -> None:
        for i in range(0, len(calls), ARRAY):
            part = calls[i : i + ARRAY]
            with deaf_children():
                jobs = self._executor.map_array(perform, part)
            self._running |= zip(jobs, part, strict=True)

    def wait(self) -> list[Ended]:
        while True:
            if done := [job for job in self._running if job.done()]:
                return [self._ended(job) for job in done]
            time.sleep(self.pause)

    def _ended(self, job: Any) -> Ended:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        call = self._running.pop(job)
        try:
            if not self.survives and not job.paths.result_pickle.exists():
                # submitit would look for it for a while, as it may have to on a cluster.
                return Ended(call.number, LOST, reason=f"its process ended; see {job.paths.stderr}")
            ended: Ended = job.result()
        except (FailedJobError, UncompletedJobError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            return Ended(call.number, LOST, reason=f"{lines[-1]}; see {job.paths.stderr}")
        return ended

    def close(self) -> None:
        for job in self._running:
            with suppress(ProcessLookupError):
                os.kill(int(job.job_id), signal.SIGTERM)
        end = time.monotonic() + 2 * GRACE
        while time.monotonic() < end and not all(job.done() for job in self._running):
            time.sleep(self.pause)


class _SlurmJobs(_Jobs):
    """Jobs of Slurm; they go on when the process that submitted them is gone."""

    survives: ClassVar[bool] = True
    pause: ClassVar[float] = 2.0

    def withdraw(self) -> None:
        for job in self._running:
            if job.state == "PENDING":
                job.cancel()

    def close(self) -> None:
        for job in self._running:
            job.cancel(check=False)
