"""Launch one run, for the command line and for Python: compose, validate, plan, claim, run."""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, read_write

from runner import signals
from runner.config.compose import CONFIG_NAME, Composed, Composer
from runner.config.errors import ConfigError, Problem, problem
from runner.config.headers import header
from runner.config.hydra_job import hydra_job
from runner.config.nodes import node_at
from runner.config.plain import flat, plain
from runner.config.recorded import record_folder
from runner.config.yaml_text import to_yaml, written
from runner.environment import environment
from runner.execute import Execution, Origin, Result, unrecorded
from runner.job import Job
from runner.plan import Plan
from runner.prepare import build, host_settings, inspect
from runner.resume import FLAG as RESUME
from runner.resume import recorded
from runner.terminal import Terminal
from runner.tracking.directory import LOCK, claim

SWEEPING = ("hydra/launcher", "hydra.launcher", "hydra/sweeper", "hydra.sweeper", "hydra.sweep.")
"""What overrides begin with that say how a sweep runs its jobs, of which one alone has no use."""

NO_ROOM_OR_RIGHT = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)
"""Why a directory can't be written that is whole."""


def launch(
    overrides: Sequence[str],
    *,
    config_dir: str | Path | None = None,
    config_name: str = CONFIG_NAME,
    quiet: bool = False,
    resume: str | Path | None = None,
) -> Result:
    """Run the job that the overrides describe, in a new directory of its own.

    Args:
        overrides: as on the command line.
        config_dir: a folder of the user's own configs.
        config_name: of the primary config.
        quiet: print nothing.
        resume: the directory of a run to take up again, with all that it was told; there must be
            no overrides.

    Raises:
        ConfigError: the config is wrong, or the run can't be resumed; nothing was run.
        Exception: whatever the task raises; its directory says so.
    """
    earlier = None if resume is None else recorded(resume, overrides)
    if earlier is not None:
        earlier.check_words()
        overrides, config_dir = earlier.overrides, earlier.config_dir
        config_name = earlier.config_name
    with Composer(config_dir, config_name) as composer:
        composed, job = _compose(composer, overrides)
        config, plan = composed.config, job.plan()
        if earlier is not None:
            earlier.check(config)
        elif job.sweep.resume is not None:
            hint = "Take up a sweep with -m, a single run with --resume DIR."
            raise problem("sweep.resume", "--multirun beside it", "a single run", hint)
        prepared = inspect(job, plan)
        if job.task.needs_torch:
            with signals.ending(at_once=True):
                import torch  # noqa: F401  # takes seconds, in which nothing is there yet
        with host_settings(job):
            build(prepared)
            about = origin(
                composer.hydra.config_loader,
                config,
                overrides,
                config_dir,
                config_name,
                job=earlier and earlier.job,
                key=earlier and earlier.key,
            )
            told, terminal = parameters(config), Terminal(quiet)
            environment()  # is remembered: a directory shall not wait for it to get its status
            wanted, begun = str(config.hydra.run.dir), False
            try:
                with ExitStack() as going:
                    with signals.held():
                        if earlier is not None:
                            directory = earlier.directory
                        else:
                            directory = claim(wanted, "hydra.run.dir")
                        with _writable(directory, new=earlier is None):
                            execution = Execution(
                                prepared, directory, told, about, terminal, earlier
                            )
                        going.enter_context(execution)
                    with read_write(config.hydra):
                        config.hydra.run.dir = str(directory)
                    callbacks = Callbacks(config)
                    callbacks.on_run_start(config=config, config_name=config_name)
                    new = earlier is None or not earlier.measured
                    with hydra_job(config, directory, callbacks, record=new) as (task, done):
                        try:
                            with execution:  # callbacks find its end recorded
                                execution.begin(to_yaml(task))
                                begun = True
                                return execution.run()
                        finally:
                            callbacks.on_run_end(
                                config=config, config_name=config_name, job_return=done
                            )
            except (ConfigError, OSError) as error:
                if begun or earlier is not None or job.task.needs_directory:
                    raise
                return unrecorded(prepared, Path(wanted), terminal, error)


@contextmanager
def _writable(directory: Path, *, new: bool) -> Iterator[None]:
    """Say that nothing can be begun in a directory; a new one doesn't stay behind.

    Raises:
        ConfigError: there is no room, or no right to write.
    """
    try:
        yield
    except OSError as error:
        hint = f"Make room there, or get the right to write; then {RESUME} will do."
        if new:
            hint = "Make room there, or choose another: hydra.run.dir=/path/to/run."
            with suppress(OSError):
                (directory / LOCK).unlink(missing_ok=True)
                directory.rmdir()
        if error.errno not in NO_ROOM_OR_RIGHT:
            raise
        key, got = "hydra.run.dir" if new else RESUME, f"'{directory}' ({error.strerror})"
        raise problem(key, "a directory that can be written", got, hint) from None


def origin(
    loader: ConfigLoader,
    config: DictConfig,
    overrides: Sequence[str],
    config_dir: str | Path | None,
    config_name: str,
    **facts: Any,
) -> Origin:
    """Where a run comes from.

    Args:
        loader: knows the config folders.
        config: composed, with its ``hydra`` node.
        overrides: as on the command line.
        config_dir: the user's own config folder.
        config_name: of the primary config.
        **facts: other attributes of `Origin`.
    """
    chosen = choices(config)
    experiment = chosen.get("experiment")
    about = header(loader, f"experiment/{experiment}") if experiment else None
    alone = [word for word in overrides if not word.lstrip("+~").startswith(SWEEPING)]
    return Origin(
        command_line(alone, config_dir, config_name),
        tuple(overrides),
        None if config_dir is None else str(Path(config_dir).expanduser().absolute()),
        config_name,
        experiment,
        about,
        chosen,
        **facts,
    )


def plan_only(overrides: Sequence[str], *, config_dir: str | Path | None = None) -> Plan:
    """The plan of the job that the overrides describe; nothing is run or written."""
    with Composer(config_dir) as composer:
        return _compose(composer, overrides)[1].plan()


def check(
    overrides: Sequence[str],
    *,
    config_dir: str | Path | None = None,
    config_name: str = CONFIG_NAME,
) -> None:
    """Check that the overrides compose to a valid job.

    Raises:
        ConfigError: they don't.
    """
    with Composer(config_dir, config_name) as composer:
        _compose(composer, overrides)


def _compose(composer: Composer, overrides: Sequence[str]) -> tuple[Composed, Job]:
    composed = composer.compose(overrides)
    return composed, valid(composed)[0]


def valid(composed: Composed) -> tuple[Job, dict[str, Any]]:
    """The job that a config describes, and the config as plain data.

    Raises:
        ConfigError: every problem of composition and of validation together.
    """
    try:
        raw = plain(composed.config)
        job = Job.parse(raw)
        record_folder(composed.config)
    except ConfigError as error:
        raise ConfigError(*_once([*composed.problems, *error.problems])) from None
    if composed.problems:
        raise ConfigError(*composed.problems)
    return job, raw


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Each path's first problem: one mistake is one complaint."""
    by_path: dict[str, Problem] = {}
    for found in problems:
        by_path.setdefault(found.path, found)
    return list(by_path.values())


def parameters(config: DictConfig) -> dict[str, Any]:
    """Every value of the config by its dotted name, as written: what the HParams page compares."""
    return {
        key: value
        for key, value in flat(config).items()
        if value is not None and value != {} and not key.startswith(("expect.", "sweep."))
    }


def choices(config: DictConfig) -> dict[str, str]:
    """The option of each config group, Hydra's own aside."""
    found = written(node_at(config, "hydra.runtime.choices")).items()
    return {str(k): str(v) for k, v in found if "hydra" not in str(k) and v is not None}


def command_line(overrides: Sequence[str], config_dir: str | Path | None, config_name: str) -> str:
    """The command that runs this again."""
    words = ["python", "-m", "runner"]
    if config_dir is not None:
        words += ["--config-dir", str(config_dir)]
    if config_name != CONFIG_NAME:
        words += ["--config-name", config_name]
    return shlex.join([*words, *overrides])
