"""Runs one job of a sweep, in whatever process a launcher calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from runner.config.compose import Composer
from runner.config.plain import plain
from runner.config.yaml_text import to_yaml
from runner.data import Data, Images
from runner.execute import (
    TERMINATED,
    Execution,
    Origin,
    Result,
    host_settings,
    prepare,
    record_failure,
)
from runner.job import Job
from runner.launch import origin, parameters
from runner.resume import Recorded, recorded
from runner.sweep.manifest import Planned, digest, read
from runner.tasks import Objective, load
from runner.terminal import Terminal
from runner.tracking.columns import Column
from runner.tracking.directory import STATUS


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
        """
        hydra = HydraConfig.get()
        folder = Path(hydra.runtime.output_dir)
        job = _jobs(self.root).get(folder.relative_to(self.root).as_posix())
        raw = plain(task_config)
        number, key = (hydra.job.num, digest(raw)) if job is None else (job.number, job.key)
        words = tuple(hydra.overrides.task) if job is None else job.overrides
        with Composer(self.config_dir, self.config_name) as composer:
            whole = HydraConfig.instance().cfg
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

    def run(self, task_config: DictConfig, folder: Path, where: Origin) -> Result | None:
        """Run a job in its directory; of one that fails, nothing comes back.

        Raises:
            KeyboardInterrupt: and SystemExit by SIGTERM: the job is recorded as INTERRUPTED.
        """
        try:
            job = Job.parse(plain(task_config))
            with (
                host_settings(job),  # one job's threads are not the next one's
                self._execution(job, task_config, folder, where) as execution,
            ):
                result = execution.complete(job.task.run(execution.prepared.run))
        except SystemExit as stop:
            if stop.code == TERMINATED:
                raise
            return None  # the job ended itself, and its directory says so
        except Exception as error:
            record_failure(folder, error, where)
            return None
        # Outputs are in files; here they would pile up.
        return replace(result, outputs={})

    def begin(
        self, task_config: DictConfig, folder: Path, where: Origin, going: ExitStack
    ) -> Execution | None:
        """Make ready a job that is run together with others; one that can't be run is recorded.

        Args:
            task_config: of the job.
            folder: its directory.
            where: it comes from.
            going: ends the job when all are done, or something ends them all.
        """
        try:
            job = Job.parse(plain(task_config))
            going.enter_context(host_settings(job))
            return going.enter_context(self._execution(job, task_config, folder, where))
        except Exception as error:
            record_failure(folder, error, where)
            return None

    def finish(self, execution: Execution, outcome: dict[str, Any] | Exception) -> bool:
        """Record what came of a job that was run together with others.

        Returns:
            Whether it is complete.
        """
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

    def _execution(
        self, job: Job, task_config: DictConfig, folder: Path, where: Origin
    ) -> Execution:
        """Prepare a job, and make its directory ready.

        Raises:
            ConfigError: the job can't run, or its directory isn't free.
        """
        earlier = begun(folder)
        return Execution(
            prepare(job, job.plan(), _shared_images(job)),
            folder,
            config=to_yaml(task_config),
            parameters=parameters(task_config),
            origin=where,
            terminal=Terminal(quiet=True),
            earlier=earlier,
            columns=self.columns,
        )

    def value(self, result: Result | None) -> float | None:
        """The metric that ranks the jobs."""
        if self.objective is None:
            return None
        found = None if result is None else self.objective.of(result.metrics)
        return float("nan") if found is None else found


def begun(folder: Path) -> Recorded | None:
    """What a job's directory says of an earlier try, if that can be taken up again.

    Raises:
        ConfigError: it is complete, or going on in another process.
    """
    return recorded(folder, ()) if (folder / STATUS).exists() else None


_last: list[tuple[Data, Images]] = []
"""The images of the last job; those of the next one mostly come from the same source."""


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


@lru_cache(maxsize=1)
def _jobs(root: Path) -> dict[str, Planned]:
    """The jobs that `sweep.json` names, by directory."""
    manifest = read(root)
    return {} if manifest is None else {job.directory: job for job in manifest.jobs}
