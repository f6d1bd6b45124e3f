"""Runs one job of a sweep, in whatever process a launcher calls it."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, chdir, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner import signals
from runner.config.compose import Composer
from runner.config.errors import ConfigError, problem
from runner.config.plain import plain
from runner.config.yaml_text import to_yaml
from runner.data import Data, Images
from runner.environment import environment
from runner.execute import Execution, Origin, Result, reason, show_failure
from runner.job import Job
from runner.launch import origin, parameters
from runner.prepare import host_settings, prepare
from runner.resume import Recorded, recorded
from runner.signals import HUNG_UP, TERMINATED
from runner.sweep.manifest import MANIFEST, METRICS, Planned, complete, digest, mapping, read
from runner.tasks import Objective, Progress, load, no_progress
from runner.terminal import Terminal
from runner.tracking.columns import Column
from runner.tracking.directory import STATUS, RunDirectory, json_safe, state
from runner.tracking.files import STEPS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Worker:
    """What a launcher calls with the config of a job, once Hydra has made its directory.

    It can be sent to other processes. A job that fails is recorded in its directory, and is no
    exception for the launcher: the others go on.

    Attributes:
        root: the sweep's directory.
        config_dir: the user's own config folder.
        config_name: of the primary config.
        columns: of the table that compares the jobs, by name.
        objective: what ranks the jobs, or None.
    """

    root: Path
    config_dir: str | None
    config_name: str
    columns: Mapping[str, Column]
    objective: Objective | None

    def __call__(self, task_config: DictConfig) -> float | None:
        """Run the job in its directory.

        Returns:
            The metric that ranks the jobs; not a number where the job failed or has none.

        Raises:
            ConfigError: the directory is another job's, or a link that leads out of the sweep's.
            FileNotFoundError: that of the sweep is gone.
        """
        if not (self.root / MANIFEST).exists():
            raise FileNotFoundError(errno.ENOENT, "Removed or moved", str(self.root))
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        if not folder.resolve().is_relative_to(self.root.resolve()):
            found = f"'{folder.name}', a link to {folder.resolve()}"
            raise problem("hydra.sweep.subdir", "a directory within the sweep's", found)
        job = _job(self.root, folder.relative_to(self.root).as_posix())
        raw = plain(task_config)
        number, key = (hydra.job.num, digest(raw)) if job is None else (job.number, job.key)
        words = tuple(hydra.overrides.task) if job is None else job.overrides
        if complete(folder, key):
            return self.recorded(folder)
        with Composer(self.config_dir, self.config_name) as composer:
            whole = HydraConfig.instance().cfg
            assert isinstance(whole, DictConfig)
            where = self.origin(composer.hydra.config_loader, whole, words, number, key)
        result = self.run(task_config, folder, where)
        return self.value(result)

    def origin(
        self,
        loader: ConfigLoader,
        config: DictConfig,
        overrides: Sequence[str],
        number: int,
        key: str,
    ) -> Origin:
        """Where a job comes from; `config` is whole, with its ``hydra`` node."""
        return origin(
            loader, config, overrides, self.config_dir, self.config_name, job=number, key=key
        )

    def run(
        self,
        task_config: DictConfig,
        folder: Path,
        where: Origin,
        steps: Progress = no_progress,
    ) -> Result | None:
        """Run a job in its directory; of one that fails, nothing comes back.

        Args:
            task_config: of the job.
            folder: its directory.
            where: it comes from.
            steps: opens the progress bar of its task.

        Raises:
            ConfigError: the directory is another job's.
            OSError: what happened can't be recorded.
            KeyboardInterrupt: and SystemExit by SIGTERM: the job is recorded as INTERRUPTED.
        """
        execution: Execution | None = None
        try:
            with ExitStack() as going:
                execution = self.begin(task_config, folder, where, going, steps)
                if execution is None:
                    return None
                result = execution.run()
        except (Exception, SystemExit) as error:
            told = execution is not None and execution.ended
            if ends_sweep(error) or not (told or self._removed(folder, error, where, task_config)):
                raise
            return None  # the job failed or ended itself, and its directory says so
        # Outputs are in files; here they would pile up.
        return replace(result, outputs={})

    def begin(
        self,
        task_config: DictConfig,
        folder: Path,
        where: Origin,
        going: ExitStack,
        steps: Progress,
    ) -> Execution | None:
        """Make a job and its directory ready; of one that can't be run, nothing comes back.

        Args:
            task_config: of the job.
            folder: its directory.
            where: it comes from.
            going: ends the job, when it is done or something ends it.
            steps: opens the progress bar of its task.

        Raises:
            ConfigError: the directory is another job's.
            OSError: that the job can't be run can't be recorded.
        """
        earlier = begun(folder, where.key)
        job: Job | None = None
        execution: Execution | None = None
        try:
            job = Job.parse(plain(task_config))
            going.enter_context(host_settings(job))  # one job's threads are not the next one's
            with _where_it_was_typed():
                prepared = prepare(job, job.plan(), _shared_images(job))
            told, terminal = parameters(task_config), Terminal(quiet=True)
            with signals.held():
                execution = Execution(
                    prepared, folder, told, where, terminal, earlier, self.columns
                )
                going.enter_context(execution)
            execution.begin(to_yaml(task_config))
            execution.prepared.run.progress = steps
            return execution
        except (Exception, SystemExit) as error:
            if ends_sweep(error) or not (execution is None or execution.ended):
                raise
            if execution is None:
                self._record(folder, error, where, parameters(task_config), job, earlier)
            return None

    def finish(self, execution: Execution, outcome: dict[str, Any] | Exception) -> bool:
        """Record what came of a job that was run together with others.

        Returns:
            Whether it is complete.
        """
        execution.counts(1)
        if isinstance(outcome, Exception):
            execution.stop(outcome)
            return False
        try:
            result = execution.complete(outcome)
        except Exception as error:
            execution.stop(error)
            return False
        result.outputs.clear()  # they are in files; here they would pile up
        return True

    def _record(
        self,
        folder: Path,
        error: Exception | SystemExit,
        where: Origin,
        told: Mapping[str, Any],
        job: Job | None,
        earlier: Recorded | None,
    ) -> None:
        """Mark the directory of a job that ended before it could do so itself.

        Raises:
            ConfigError: it holds links.
            OSError: it can't be written.
        """
        logger.error("failed", exc_info=error)
        facts = {"task": told.get("task.kind"), **asdict(where), **environment()}
        facts |= {"resumed": 0, "parameters": json_safe(dict(told))}
        if earlier is not None:
            facts |= {"resumed": earlier.resumed + 1, "started": earlier.started}
        try:
            home = RunDirectory(folder, facts, spent=0.0 if earlier is None else earlier.seconds)
        except ConfigError:
            known = (folder / STATUS).exists()
            if known and state(folder) == "RUNNING":  # by another process, which records it
                return
            raise
        home.mark("INTERRUPTED" if isinstance(error, SystemExit) else "FAILED", reason(error))
        home.release()
        if job is not None and isinstance(error, Exception):
            show_failure(job, folder, {**where.choices, **told}, self.columns)

    def _removed(
        self, folder: Path, error: BaseException, where: Origin, task_config: DictConfig
    ) -> bool:
        """Record in a new directory that a job's own was removed or moved while it ran.

        Returns:
            Whether it was, and the sweep's own is there.

        Raises:
            OSError: it can't be written.
        """
        if not isinstance(error, OSError) or os.path.lexists(folder):
            return False
        if not (self.root / MANIFEST).exists():
            return False
        folder.mkdir(parents=True)
        self._record(folder, error, where, parameters(task_config), None, None)
        return True

    def value(self, result: Result | None) -> float | None:
        """The metric that ranks the jobs."""
        return self._ranks({} if result is None else result.metrics)

    def recorded(self, folder: Path) -> float | None:
        """The metric that ranks a job that has completed."""
        return self._ranks(mapping(folder / METRICS))

    def _ranks(self, metrics: Mapping[str, Any]) -> float | None:
        if self.objective is None:
            return None
        found = self.objective.of(metrics)
        return float("nan") if found is None else found


def _where_it_was_typed() -> AbstractContextManager[None]:
    """Relative paths of data start there, also those of a job that runs in its own directory."""
    hydra = HydraConfig.get()
    return chdir(hydra.runtime.cwd) if hydra.job.chdir else nullcontext()


def begun(folder: Path, key: str | None) -> Recorded | None:
    """What a job's directory says of an earlier try, which will be taken up again.

    Where it is damaged, the job is done again as far as its checkpoint doesn't reach.

    Raises:
        ConfigError: the directory is another job's.
    """
    status = mapping(folder / STATUS)
    if not status and not (folder / STEPS).exists():
        return None
    if status.get("key") not in (None, key):
        found = f"'{folder.name}', which is job #{status.get('job')}'s"
        raise problem("hydra.sweep.subdir", "a directory for each job", found)
    try:
        return recorded(folder, ())
    except ConfigError:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return Recorded(folder, [], None, "", resumed=0, started=now, seconds=0.0)


def ends_sweep(error: BaseException) -> bool:
    """Whether it isn't the job that ends itself, but somebody who ends the sweep."""
    return isinstance(error, SystemExit) and error.code in (TERMINATED, HUNG_UP)


_last: list[tuple[Data, Images]] = []
"""The images of the last job; those of the next one mostly come from the same source."""


@contextmanager
def fresh_images() -> Iterator[None]:
    """Within a sweep images are shared; from one to the next, their files may change."""
    _last.clear()
    try:
        yield
    finally:
        _last.clear()


def _shared_images(job: Job) -> Images | None:
    """The images of a job that computes.

    Raises:
        ConfigError: they can't be read.
    """
    if not job.task.needs_torch:
        return None
    if not _last or _last[0][0] != job.data:
        _last[:] = [(job.data, load(job.data))]
    return _last[0][1]


def _job(root: Path, directory: str) -> Planned | None:
    """The job to which `sweep.json` gives a directory."""
    file = root / MANIFEST
    return _jobs(root, file.stat().st_mtime_ns if file.exists() else 0).get(directory)


@lru_cache(maxsize=1)
def _jobs(root: Path, _written: int) -> dict[str, Planned]:
    """The jobs that `sweep.json` names, by directory, read again when it is written again."""
    manifest = read(root)
    return {} if manifest is None else {job.directory: job for job in manifest.jobs}
