"""Runs the jobs of a sweep: here, or by handing them to a launcher that has processes for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from copy import copy
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from runner import signals
from runner.config.compose import Composed
from runner.config.errors import ConfigError, problem
from runner.config.hydra_job import handlers, hydra_job, logged_by
from runner.config.plain import plain
from runner.execute import Origin, reason
from runner.sweep.composition import SweepComposer
from runner.sweep.group import Group
from runner.sweep.manifest import (
    Planned,
    SweepDirectory,
    digest,
    is_hydra,
    is_inside,
    mapping,
    places,
)
from runner.sweep.preflight import SUBDIR
from runner.sweep.progress import Progress
from runner.sweep.settled import settle
from runner.sweep.together import Kin, groups
from runner.sweep.worker import Worker, ends_sweep
from runner.tracking.directory import STATUS, synced_behind


class Stopped(BaseException):
    """A job failed, and the sweep was told to stop then.

    No Exception: Hydra takes those for a job's own, and goes on with the next one.
    """


class Conductor:
    """Everything that runs jobs; Hydra takes it for the function to call with a job's config.

    In another process only its worker is needed, and nothing else is sent there.

    Attributes:
        jobs: that are to be run; none of a sweep that chooses its jobs as it goes.
        begun: whether a job was begun in this process.
        refused: why jobs have no directory that could tell what became of them, by name.
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
        overrides: Sequence[str],
        kin: Mapping[int, Kin | None],
        drafts: dict[tuple[str, ...], Composed],
        computes: bool,
    ) -> None:
        self.jobs, self._loader = jobs, loader
        self._composer, self._directory, self._worker = composer, directory, worker
        self._mended, self._overrides = mended, overrides
        self._progress, self._stop_on_error, self._kin = progress, stop_on_error, kin
        self._drafts, self._computes = drafts, computes
        self.begun, self.refused = False, dict[str, str]()

    def __call__(self, task_config: DictConfig) -> float | None:
        """Run the job that a launcher of Hydra's own has set up in this process.

        Raises:
            Stopped: it failed, and no more shall start.
        """
        self.begun = True
        folder = Path(HydraConfig.get().runtime.output_dir)
        value = self._worker(task_config)
        self._stop_if(mapping(folder / STATUS).get("state") != "COMPLETED")
        return value

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
        if callbacks.callbacks:
            self._drafts.clear()  # a callback may change the config of its job, and of no other
        settle()
        if self._computes:
            with signals.held():  # which importing torch may swallow
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
        """Run in this process what another sweeper asks for.

        Raises:
            Stopped: one failed, and no more shall start.
        """
        done = []
        for number, words in enumerate(job_overrides, first):
            # Of equal jobs, each is asked for.
            waiting = self._known.get(_told(words))
            job = waiting.popleft() if waiting else self._asked(number, words)
            if self._directory.finished(job):
                value = self._worker.recorded(self._directory.path / job.directory)
            else:
                value = self._run(job, callbacks)
            done.append(JobReturn(overrides=words, status=JobStatus.COMPLETED, _return_value=value))
        return done

    @cached_property
    def _known(self) -> dict[tuple[str, ...], deque[Planned]]:
        """The jobs that `sweep.json` names and nobody asked for yet, by what they are told."""
        found: dict[tuple[str, ...], deque[Planned]] = {}
        for job in self._directory.jobs():
            found.setdefault(_told(job.overrides), deque()).append(job)
        return found

    @cached_property
    def _directories(self) -> dict[str, str]:
        """The directories of jobs that were chosen as the sweep went, by their keys."""
        return self._directory.recorded()

    def _asked(self, number: int, words: Sequence[str]) -> Planned:
        """A job that a sweeper has chosen as it went.

        Not validated: values that are wrong together are this trial's failure, not the search's.
        """
        # Hydra's sweepers hand over what the jobs are told, not what Hydra is.
        told = (*filter(is_hydra, self._overrides), *words)
        config = self._composer.compose(told, number=number).config
        key = digest(plain(config))
        wanted = str(OmegaConf.select(config, SUBDIR))
        (directory,) = places(self._directories, [(key, wanted)], self._directory.path)
        self._directories[key] = directory
        return Planned(number, key, told, directory)

    def _batches(self, callbacks: Callbacks) -> list[list[Planned]]:
        """The jobs, those together that are learned together."""
        # A callback is told of one job after the other.
        if callbacks.callbacks:
            return [[job] for job in self.jobs]
        found = groups([self._kin.get(job.number) for job in self.jobs])
        return [[self.jobs[i] for i in places] for places in found]

    @signals.heard()
    def _run(self, job: Planned, callbacks: Callbacks) -> float | None:
        try:
            config, folder, where = self._set_up(job)
            with hydra_job(config, folder, callbacks) as (task_config, done):
                steps = self._progress.steps(job)
                result = self._worker.run(task_config, folder, where, steps)
                done.return_value = value = self._worker.value(result)
        except BrokenPipeError:  # who read what is told here
            raise
        except (ConfigError, OSError) as error:
            if isinstance(error, OSError) and not self._directory.writable():
                raise
            self._refuse(job, error)
            self._stop_if(True)
            return nan
        self._progress.end(job, folder)
        self._stop_if(result is None)
        return value

    def _refuse(self, job: Planned, error: ConfigError | OSError) -> None:
        """A job can't have its directory; the others can have theirs."""
        why = self.refused[f"#{job.number}"] = reason(error)
        self._progress.refuse(job, why)

    @signals.heard()
    def _run_together(self, jobs: Sequence[Planned]) -> bool:
        """Run jobs as one batched computation; False where they must be run one by one.

        What fails together can succeed alone, or tells there which job it is.
        """
        try:
            ended = self._batch(jobs)
        except (Exception, SystemExit) as error:
            if ends_sweep(error):
                raise
            self._progress.again(len(jobs), reason(error))
            return False
        # What can't be shown is no failure of the jobs.
        for job, _ in ended:
            self._progress.end(job, self._directory.path / job.directory)
        self._stop_if(sum(complete for _, complete in ended) < len(jobs))
        return True

    def _batch(self, jobs: Sequence[Planned]) -> list[tuple[Planned, bool]]:
        """Run jobs as one, each in its own directory.

        Returns:
            Those that had one, and whether they are complete.
        """
        ended = []
        with ExitStack() as going, Group() as group:
            for job in jobs:
                try:
                    config, folder, where = self._set_up(job)
                    with hydra_job(config, folder) as (task_config, _):
                        log, steps = handlers(), self._progress.steps(job)
                        execution = self._worker.begin(task_config, folder, where, going, steps)
                except ConfigError as error:
                    self._refuse(job, error)
                    continue
                if execution is None:
                    ended.append((job, False))
                else:
                    group.add(job, execution, log)
            outcomes = group.run() if group.members else []
            for one, outcome in zip(group.members, outcomes, strict=True):
                with logged_by(one.log):
                    ended.append((one.job, self._worker.finish(one.execution, outcome)))
        return ended

    def _set_up(self, job: Planned) -> tuple[DictConfig, Path, Origin]:
        """A job's config, its directory, and where it comes from.

        Raises:
            ConfigError: it can't have that directory.
        """
        config, folder = self._composed(job), self._claimed(job)
        where = self._worker.origin(self._loader, config, job.overrides, job.number, job.key)
        self.begun = True
        self._progress.begin(job)
        return config, folder, where

    def _composed(self, job: Planned) -> DictConfig:
        """A job's config, from the draft that was made of it when it was checked.

        Raises:
            ConfigError: it can't be composed; the jobs of a search are not checked beforehand.
        """
        words, draft = hydra_words(self._directory), self._drafts.pop(job.overrides, None)
        if draft is not None:
            return self._composer.finish(draft, words, job.number)
        composed = self._composer.compose([*words, *job.overrides], number=job.number)
        if composed.problems:
            raise ConfigError(*composed.problems)
        return composed.config

    def _claimed(self, job: Planned) -> Path:
        """The directory of a job; it is there.

        Raises:
            ConfigError: a file is in its place, or it is elsewhere.
            OSError: the sweep's directory is gone.
        """
        self._directory.check()
        root = self._directory.path
        folder = root / job.directory
        found = f"'{job.directory}', "
        # A link may lead anywhere.
        if not (is_inside(job.directory) and folder.resolve().is_relative_to(root.resolve())):
            raise problem(SUBDIR, "a directory within the sweep's", f"{found}which is elsewhere")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            found += "where a file is"
            raise problem(SUBDIR, "a directory for each job", found, "Move the file.") from None
        return folder

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
