"""What the launchers of all engines have in common: jobs go out, results come in.

Hydra has launchers of its own for these engines. They end the sweep with the first process that
dies, start as many jobs as there are, or want years-old releases of the engine; so here is a thin
one of our own for each, on what the engines themselves offer today.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import islice
from typing import Any, ClassVar, Self

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from runner.config.errors import ConfigError, problem
from runner.config.spec import Spec, SpecT, check
from runner.sweep.engines.process import COMPLETED, LOST, Call, Ended, Place, threads

PACKAGE = "hydra_plugins.runner"
"""Where these say they are: Hydra takes plugins from the package `hydra_plugins` alone."""

UNLIMITED = 2**31


class Pool(ABC):
    """Worker processes, or a way to get them.

    Attributes:
        threads: that each worker has for its libraries.
        survives: whether jobs go on when the launcher's process has ended.
    """

    threads: int
    survives: ClassVar[bool] = False

    @abstractmethod
    def room(self) -> int:
        """How many more calls it takes now."""

    @abstractmethod
    def submit(self, calls: Sequence[Call]) -> None:
        """Take calls, at most as many as there is room for."""

    @abstractmethod
    def wait(self) -> list[Ended]:
        """Wait until a call has ended, and tell which have."""

    def withdraw(self) -> None:  # noqa: B027  # most pools take only what they start
        """Give up the calls that haven't started."""

    @abstractmethod
    def close(self) -> None:
        """End whatever still runs, within seconds; it can still say that it is interrupted."""


class EngineLauncher(Launcher, ABC):
    """Runs jobs in other processes.

    Within a ``with`` statement, the processes are kept for the next launch.

    Attributes:
        package: that must be installed.
        extra: of this project, that installs it.
        preset: the settings that the launcher's YAML may have.
    """

    package: ClassVar[str]
    extra: ClassVar[str]
    preset: ClassVar[type[Spec]]

    def __init__(self, **values: Any) -> None:
        self._values = values
        self._pool: Pool | None = None
        self._kept = False

    @classmethod
    def check(cls, values: Mapping[str, Any]) -> Any:
        """Validate what YAML and overrides say.

        Raises:
            ConfigError: they are wrong, or the engine isn't installed.
        """
        return checked(cls.preset, cls.package, cls.extra, "hydra.launcher", values)

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what the jobs need.

        Raises:
            ConfigError: as `check`.
        """
        self.settings = self.check(self._values)
        self._context, self._function, self._config = hydra_context, task_function, config

    def __enter__(self) -> Self:
        self._kept = True
        return self

    def __exit__(self, *_: object) -> None:
        self._kept = False
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    @abstractmethod
    def open(self, jobs: int, folder: str) -> Pool:
        """Start workers.

        Args:
            jobs: how many there are to do.
            folder: of the sweep.
        """

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs.

        Returns:
            For each job what Hydra wants to know: its status is UNKNOWN where it never ran, and
            FAILED where its process died.
        """
        ended: dict[int, Ended] = {}
        try:
            if self._pool is None:
                self._pool = self.open(len(job_overrides), str(self._config.hydra.sweep.dir))
            calls = self._calls(job_overrides, initial_job_idx, self._pool)
            for one in self._run(calls, self._pool):
                ended[one.number] = one
        except BaseException:
            self._close()
            raise
        if not self._kept:
            self._close()
        return [_returned(ended.get(initial_job_idx + i)) for i in range(len(job_overrides))]

    def _run(self, calls: Iterator[Call], pool: Pool) -> Iterator[Ended]:
        stops = OmegaConf.select(self._config, "sweep.on_error") == "stop"
        running = 0
        while True:
            batch = list(islice(calls, pool.room()))
            if batch:
                pool.submit(batch)
            running += len(batch)
            if not running:
                return
            for one in pool.wait():
                running -= 1
                yield one
                if stops and one.state != COMPLETED:
                    calls = iter(())
                    pool.withdraw()

    def _calls(
        self, job_overrides: Sequence[Sequence[str]], first: int, pool: Pool
    ) -> Iterator[Call]:
        """Composed when there is room for them: who waits for the first job doesn't for all."""
        launcher = None if pool.survives else Place.here()
        for number, overrides in enumerate(job_overrides, first):
            config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
            with open_dict(config.hydra.job):
                config.hydra.job.num = number
                config.hydra.job.id = f"{config.hydra.job.name}_{number}"
            HydraConfig.instance().set_config(config)  # what ${hydra:…} refers to
            environment = threads(pool.threads)
            yield Call(
                number, config, self._function, self._context.callbacks, environment, launcher
            )


def _returned(ended: Ended | None) -> JobReturn:
    done = JobReturn()
    if ended is None:
        return done
    if ended.state == LOST:
        done.return_value, done.status = RuntimeError(ended.reason), JobStatus.FAILED
    else:
        done.return_value, done.status = ended.value, JobStatus.COMPLETED
    return done


def shared_cores(wanted: int | None, jobs: int) -> tuple[int, int]:
    """How many workers to have on this machine, and how many threads each.

    Args:
        wanted: workers at once; None is one for each core.
        jobs: how many there are to do.
    """
    from joblib import cpu_count

    cores = cpu_count()
    workers = min(wanted or cores, jobs)
    return workers, max(cores // workers, 1)


def checked(
    preset: type[SpecT], package: str, extra: str, path: str, values: Mapping[str, Any]
) -> SpecT:
    """The validated settings of an engine.

    Args:
        preset: the settings that there are.
        package: that must be installed.
        extra: of this project, that installs it.
        path: of the config, where the settings stand.
        values: the settings.

    Raises:
        ConfigError: they are wrong, or the engine isn't installed.
    """
    spec = find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name isn't the package
        hint = f"Install it: pip install 'runner[{extra}]'."
        raise problem(path, f"the package {package}", "a Python without it", hint)
    raw = {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in values.items()
        if key != "_target_"
    }
    settings, problems = check(preset, raw, path)
    if settings is None:
        raise ConfigError(*problems)
    return settings
