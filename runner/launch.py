"""Launch one run, for the command line and for Python: compose, validate, plan, claim, run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from runner.config.compose import CONFIG_NAME, Composer, plain
from runner.config.errors import ConfigError, Problem
from runner.execute import Result, execute, prepare
from runner.job import Job
from runner.plan import Plan
from runner.terminal import Terminal
from runner.tracking.directory import claim


def launch(
    overrides: Sequence[str],
    *,
    config_dir: str | Path | None = None,
    config_name: str = CONFIG_NAME,
    quiet: bool = False,
) -> Result:
    """Run the job that the overrides describe, in a new directory of its own.

    Raises:
        ConfigError: the config is wrong; nothing was run.
        Exception: whatever the task raises; its directory says so.
    """
    with Composer(config_dir, config_name) as composer:
        config, job = _compose(composer, overrides)
        prepared = prepare(job)
        directory = claim(Path(str(config.hydra.run.dir)).absolute())
        with read_write(config.hydra.run):
            config.hydra.run.dir = str(directory)
        command = command_line(overrides, config_dir, config_name)

        def job_of_hydra(task_config: DictConfig) -> Result:
            return execute(
                prepared,
                directory,
                config=OmegaConf.to_yaml(task_config),
                parameters=parameters(task_config),
                command=command,
                terminal=Terminal(quiet),
            )

        callbacks = Callbacks(config)
        callbacks.on_run_start(config=config, config_name=config_name)
        done = run_job(
            task_function=job_of_hydra,
            config=config,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(composer.hydra.config_loader, callbacks),
        )
        callbacks.on_run_end(config=config, config_name=config_name, job_return=done)
        result: Result = done.return_value  # raises what the job raised
        return result


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


def _compose(composer: Composer, overrides: Sequence[str]) -> tuple[DictConfig, Job]:
    """The config and the validated job.

    Raises:
        ConfigError: every problem of composition and of validation together.
    """
    config, problems = composer.compose(overrides)
    try:
        job = Job.parse(plain(config))
    except ConfigError as error:
        raise ConfigError(*_once([*problems, *error.problems])) from None
    if problems:
        raise ConfigError(*problems)
    return config, job


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Each path's first problem: one mistake is one complaint."""
    by_path: dict[str, Problem] = {}
    for found in problems:
        by_path.setdefault(found.path, found)
    return list(by_path.values())


def parameters(config: DictConfig) -> dict[str, Any]:
    """Every value of the config by its dotted name, as written: what the HParams page compares."""
    flat: dict[str, Any] = {}

    def visit(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(value, f"{path}.{key}" if path else str(key))
        elif node is not None:
            flat[path] = node

    visit(OmegaConf.to_container(config, resolve=False), "")
    return {key: value for key, value in flat.items() if not key.startswith("expect.")}


def command_line(overrides: Sequence[str], config_dir: str | Path | None, config_name: str) -> str:
    """The command that runs this again."""
    words = ["python", "-m", "runner"]
    if config_dir is not None:
        words += ["--config-dir", str(config_dir)]
    if config_name != CONFIG_NAME:
        words += ["--config-name", config_name]
    return shlex.join([*words, *overrides])
