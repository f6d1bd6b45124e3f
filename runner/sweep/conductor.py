"""Runs the jobs of a sweep: here, or by handing them to a launcher that has processes for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from runner.config.errors import ConfigError
from runner.config.hydra_job import handlers, hydra_job, logged_by
from runner.config.plain import plain
from runner.execute import Origin
from runner.sweep.composition import SweepComposer
from runner.sweep.manifest import Planned, SweepDirectory, digest, is_hydra
from runner.sweep.progress import Progress
from runner.sweep.settled import settle
from runner.sweep.together import Kin, groups
from runner.sweep.worker import Worker, ends_sweep
from runner.tracking.directory import synced_behind

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """A job failed, and the sweep was told to stop then."""


class Conductor:
    """Everything that runs jobs; Hydra takes it for the function to call with a job's config.

    In another process only its worker is needed, and nothing else is sent there.

    Attributes:
        jobs: that are to be run; none of a sweep that chooses its jobs as it goes.
    """

    def __init__(
        self,
        loader: ConfigLoader,
        composer: SweepComposer,
        directory: SweepDirectory,
        worker: Worker,
        jobs: Sequence[Planned],
        progress: Progress,
        *,
        mended: Collection[str],
        stop_on_error: bool,
        kin: Mapping[int, Kin | None],
        computes: bool,
    ) -> None:
        self.jobs, self._loader = jobs, loader
        self._composer, self._directory, self._worker = composer, directory, worker
        self._mended = mended
        self._progress, self._stop_on_error, self._kin = progress, stop_on_error, kin
        self._computes = computes

    def __call__(self, task_config: DictConfig) -> float | None:
        """Run the job that a launcher of Hydra's own has set up in this process."""
        return self._worker(task_config)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return copy, (self._worker,)

    def remaining(self) -> list[list[str]]:
        """The overrides of each job for another launcher, which counts from 0 again."""
        return [
            [*usable(job.overrides, self._mended), f"hydra.sweep.subdir={quoted(job.directory)}"]
            for job in self.jobs
        ]

    def run_all(self, callbacks: Callbacks) -> None:
        """Run the jobs in this process.

        Raises:
            Stopped: one failed, and no more shall start.
            KeyboardInterrupt: and SystemExit by SIGTERM: the job is recorded as INTERRUPTED.
        """
        settle()
        if self._computes:
            import torch  # noqa: F401
            settle(collect=False)  # its hundred thousands of objects are no garbage
        with synced_behind():
            for jobs in self._batches(callbacks):
                if len(jobs) > 1 and self._run_together(jobs):
                    continue
                for job in jobs:
                    if not self._directory.finished(job):
                        self._run(job, callbacks)

    def run_asked(
        self, job_overrides: Sequence[Sequence[str]], first: int, callbacks: Callbacks
    ) -> list[JobReturn]:
        """Run in this process what another sweeper asks for."""
        known = {_told(job.overrides): job for job in self._directory.jobs()}
        done = []
        for number, words in enumerate(job_overrides, first):
            job = known.get(_told(words)) or self._asked(number, words)
            if self._directory.finished(job):
                value = self._worker.recorded(self._directory.path / job.directory)
            else:
                value = self._run(job, callbacks)
            done.append(JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=value))
        return done

    def _asked(self, number: int, words: Sequence[str]) -> Planned:
        """A job that a sweeper has chosen as it went."""
        composed = self._composer.compose(words, number=number)
        if composed.problems:
            raise ConfigError(*composed.problems)
        # Not validated: values that are wrong together are this trial's failure, not the search's.
        key = digest(plain(composed.config))
        directory = str(OmegaConf.select(composed.config, "hydra.sweep.subdir"))
        return Planned(number, key, tuple(words), directory)

    def _batches(self, callbacks: Callbacks) -> list[list[Planned]]:
        """The jobs, those together that are learned together."""
        # A callback is told of one job after the other.
        if callbacks.callbacks:
            return [[job] for job in self.jobs]
        found = groups([self._kin.get(job.number) for job in self.jobs])
        return [[self.jobs[i] for i in places] for places in found]

    def _run(self, job: Planned, callbacks: Callbacks) -> float | None:
        config, folder, where = self._set_up(job)
        with hydra_job(config, folder, callbacks) as (task_config, done):
            steps = self._progress.steps(job)
            result = self._worker.run(task_config, folder, where, steps)
            done.return_value = value = self._worker.value(result)
        self._progress.end(job, folder)
        self._stop_if(result is None)
        return value

    def _run_together(self, jobs: Sequence[Planned]) -> bool:
        """Run jobs as one batched computation; False where they must be run one by one.

        What fails together can succeed alone, or tells there which job it is.
        """
        try:
            failures = self._batch(jobs)
        except (Exception, SystemExit) as error:
            if ends_sweep(error):
                raise
            logger.warning("jobs that failed together are run one by one", exc_info=error)
            return False
        self._stop_if(failures > 0)
        return True

    def _batch(self, jobs: Sequence[Planned]) -> int:
        """Run jobs as one, each in its own directory; how many failed."""
        failures = 0
        with ExitStack() as going:
            begun = []
            for job in jobs:
                config, folder, where = self._set_up(job)
                with hydra_job(config, folder) as (task_config, _):
                    log = handlers()
                    steps = self._progress.steps(job)
                    execution = self._worker.begin(task_config, folder, where, going, steps)
                if execution is None:
                    failures += 1
                    self._progress.end(job, folder)
                else:
                    begun.append((job, log, execution))
            if not begun:
                return failures
            tasks = [execution.prepared.job.task for _, _, execution in begun]
            runs = [execution.prepared.run for _, _, execution in begun]
            outcomes = type(tasks[0]).run_together(tasks, runs)
            for (job, log, execution), outcome in zip(begun, outcomes, strict=True):
                with logged_by(log):
                    failures += not self._worker.finish(execution, outcome)
                self._progress.end(job, execution.directory)
        return failures

    def _set_up(self, job: Planned) -> tuple[DictConfig, Path, Origin]:
        """A job's config, its directory, and where it comes from."""
        words = [*hydra_words(self._directory), *job.overrides]
        config = self._composer.compose(words, number=job.number).config
        folder = self._directory.path / job.directory
        folder.mkdir(parents=True, exist_ok=True)
        where = self._worker.origin(self._loader, config, job.overrides, job.number, job.key)
        self._progress.begin(job)
        return config, folder, where

    def _stop_if(self, failed: bool) -> None:
        if failed and self._stop_on_error:
            raise Stopped


def _told(words: Sequence[str]) -> tuple[str, ...]:
    """What a job's overrides say of the job itself, as the user wrote them or as Hydra has them."""
    return tuple(word.removeprefix("++") for word in words if not is_hydra(word))


def usable(words: Sequence[str], mended: Collection[str]) -> list[str]:
    """Overrides as Hydra takes them: it wants a ``++`` for keys that YAML doesn't spell out."""
    return [f"++{word}" if word.partition("=")[0] in mended else word for word in words]


def hydra_words(directory: SweepDirectory) -> list[str]:
    """What Hydra is told of a sweep besides what the command line says."""
    return [f"hydra.sweep.dir={quoted(str(directory.path))}", "hydra.mode=MULTIRUN"]


def quoted(value: str) -> str:
    """A value that Hydra's grammar reads as this very text."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
