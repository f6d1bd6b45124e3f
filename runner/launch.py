"""Launch one run, for the command line and for Python: compose, validate, plan, claim, run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, read_write

from runner import report
from runner.config.compose import CONFIG_NAME, Composed, Composer
from runner.config.errors import ConfigError, Problem, SweepFailed
from runner.config.globs import without_globs
from runner.config.headers import header
from runner.config.plain import flat, plain
from runner.execute import (
    Origin,
    Prepared,
    Result,
    build,
    execute,
    host_settings,
    inspect,
    prepare,
    record_failure,
)
from runner.job import Job
from runner.plan import Plan
from runner.report.gather import FAILED, Entry
from runner.resume import Recorded, recorded
from runner.tasks import Advance
from runner.terminal import Terminal
from runner.tracking.directory import claim


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
        overrides, config_dir = earlier.overrides, earlier.config_dir
        config_name = earlier.config_name
    with Composer(config_dir, config_name) as composer:
        composed, job = _compose(composer, overrides)
        config, plan = composed.config, job.plan()
        if earlier is not None:
            earlier.check(config)
        prepared = inspect(job, plan)
        with host_settings(job):
            # Importing torch takes seconds; who is killed in them leaves nothing behind.
            build(prepared)
            if earlier is not None:
                directory = earlier.directory
            else:
                directory = claim(str(config.hydra.run.dir), "hydra.run.dir")
            with read_write(config.hydra):
                config.hydra.run.dir = str(directory)
                if earlier is not None:
                    config.hydra.output_subdir = None  # .hydra is there, and says the same
            choices = config.hydra.runtime.choices
            origin = _origin(composer, choices, overrides, config_dir)
            results: list[Result] = []
            failures: list[Exception] = []

            def task(task_config: DictConfig) -> None:
                terminal = Terminal(quiet)
                try:
                    results.append(
                        _execute(prepared, directory, task_config, origin, terminal, earlier)
                    )
                except Exception as error:
                    # Hydra keeps what a job raises, and prints about it; this one is raised below.
                    failures.append(error)

            callbacks = Callbacks(config)
            callbacks.on_run_start(config=config, config_name=config_name)
            done = run_job(
                task_function=task,
                config=config,
                job_dir_key="hydra.run.dir",
                job_subdir_key=None,
                hydra_context=HydraContext(composer.hydra.config_loader, callbacks),
            )
            callbacks.on_run_end(config=config, config_name=config_name, job_return=done)
            if failures:
                raise failures[0]
            return results[0]


def launch_sweep(
    overrides: Sequence[str],
    *,
    config_dir: str | Path | None = None,
    config_name: str = CONFIG_NAME,
) -> list[Result]:
    """Run the jobs of a sweep with Hydra's sweeper and launcher, in a new directory.

    Every job is composed, validated and planned before the first starts; a job that fails leaves
    the others alone. Where jobs choose experiments, a report is written into the directory.

    Raises:
        ConfigError: a job's config is wrong; nothing was run.
        SweepFailed: some jobs failed; the others ran.
    """
    results: list[Result] = []
    entries: list[Entry] = []

    def task(task_config: DictConfig) -> None:
        hydra = HydraConfig.get()
        words, folder = list(hydra.overrides.task), Path(hydra.runtime.output_dir)
        origin = _origin(composer, hydra.runtime.choices, words, config_dir)
        # Hydra writes some overrides its own way; as they were written, they can be compared.
        label = _label(jobs[hydra.job.num] if len(jobs) > 1 else words, jobs)
        terminal.job(hydra.job.num, label)
        metrics: dict[str, Any] = {}
        try:
            job = Job.parse(plain(task_config))
            with host_settings(job):  # one job's threads are not the next one's
                prepared = prepare(job, job.plan())
                result = _execute(prepared, folder, task_config, origin, Terminal(quiet=True))
        except Exception as error:
            record_failure(folder, error, origin)
        else:
            # Outputs are in files; here they would pile up.
            results.append(replace(result, outputs={}))
            metrics = result.metrics
        entries.append(report.read(folder, directory))
        # An experiment's numbers are in the report; of other sweeps they are the point.
        terminal.verdict(entries[-1], {} if entries[-1].experiment else metrics)

    terminal = Terminal()
    with Composer(config_dir, config_name) as composer:
        overrides = without_globs(overrides, composer.options)
        jobs = composer.jobs_of_sweep(overrides)
        with terminal.progress(len(jobs), "checking") as advance:
            composed = _preflight(composer, jobs, advance)
        mended = {text.lstrip("+").partition("=")[0] for one in composed for text in one.mended}
        usable = [f"++{o}" if o.partition("=")[0] in mended else o for o in overrides]
        directory = claim(_sweep_directory(composed), "hydra.sweep.dir")
        usable += [f"hydra.sweep.dir={_quoted(str(directory))}", "hydra.mode=MULTIRUN"]
        try:
            composer.hydra.multirun(config_name=config_name, task_function=task, overrides=usable)
        finally:
            page = None
            if any(entry.experiment for entry in entries):
                found = report.gather(directory)
                page = report.write(found, directory)
                terminal.report(found)
            terminal.where(directory, any(result.events for result in results), page)
    failed = [f"#{i} {e.reason}" for i, e in enumerate(entries) if e.verdict == FAILED]
    if failed:
        raise SweepFailed("\n  ".join([f"{len(failed)} of {len(entries)} jobs failed:", *failed]))
    return results


def _sweep_directory(composed: Sequence[Composed]) -> str:
    """Where the results shall go; a sweep over several tasks is named after none of them."""
    config = composed[0].config
    if len({one.config.hydra.runtime.choices.task for one in composed}) > 1:
        with read_write(config.hydra):
            config.hydra.runtime.choices.task = "experiments"
    HydraConfig.instance().set_config(config)  # what ${hydra:…} refers to
    return str(config.hydra.sweep.dir)


def _label(words: Sequence[str], jobs: Sequence[Sequence[str]]) -> str:
    """What sets a job apart from the others, or for the only one, all of it."""
    others = set.intersection(*map(set, jobs))
    varied = [word for word in words if word not in others] or words
    return " ".join(word.removeprefix("experiment=") for word in varied)


def _preflight(
    composer: Composer, jobs: Sequence[Sequence[str]], advance: Advance
) -> list[Composed]:
    """Compose, validate and plan every job.

    Raises:
        ConfigError: with every job's problems; one that all jobs share is told once.
    """
    good: list[Composed] = []
    found: dict[Problem, list[int]] = {}
    for number, words in enumerate(jobs):
        try:
            composed, job = _compose(composer, words)
            job.plan()
            good.append(composed)
        except ConfigError as error:
            for one in error.problems:
                found.setdefault(one, []).append(number)
        advance("")
    if not found:
        return good
    raise ConfigError(
        *(
            one
            if len(numbers) == len(jobs)
            else replace(one, path=f"job {', '.join(f'#{n}' for n in numbers[:5])}: {one.path}")
            for one, numbers in found.items()
        )
    )


def _execute(
    prepared: Prepared,
    directory: Path,
    config: DictConfig,
    origin: Origin,
    terminal: Terminal,
    earlier: Recorded | None = None,
) -> Result:
    return execute(
        prepared,
        directory,
        config=OmegaConf.to_yaml(config),
        parameters=parameters(config),
        origin=origin,
        terminal=terminal,
        earlier=earlier,
    )


def _origin(
    composer: Composer,
    choices: Mapping[Any, Any],
    overrides: Sequence[str],
    config_dir: str | Path | None,
) -> Origin:
    experiment = choices.get("experiment")
    about = header(composer.hydra.config_loader, f"experiment/{experiment}") if experiment else None
    return Origin(
        command_line(overrides, config_dir, composer.name),
        tuple(overrides),
        None if config_dir is None else str(Path(config_dir).expanduser().absolute()),
        composer.name,
        experiment,
        about,
    )


def _quoted(value: str) -> str:
    """A value that Hydra's grammar reads as this very text."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


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
    """The config and the validated job.

    Raises:
        ConfigError: every problem of composition and of validation together.
    """
    composed = composer.compose(overrides)
    try:
        job = Job.parse(plain(composed.config))
    except ConfigError as error:
        raise ConfigError(*_once([*composed.problems, *error.problems])) from None
    if composed.problems:
        raise ConfigError(*composed.problems)
    return composed, job


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
        if value is not None and value != {} and not key.startswith("expect.")
    }


def command_line(overrides: Sequence[str], config_dir: str | Path | None, config_name: str) -> str:
    """The command that runs this again."""
    words = ["python", "-m", "runner"]
    if config_dir is not None:
        words += ["--config-dir", str(config_dir)]
    if config_name != CONFIG_NAME:
        words += ["--config-name", config_name]
    return shlex.join([*words, *overrides])
