"""Run a sweep: check every job, claim or take up a directory, run what is missing, summarise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from hydra._internal.hydra import Hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import read_write

from runner import report
from runner.config.compose import CONFIG_NAME, Composer
from runner.config.errors import ConfigError, SweepFailed, problem
from runner.config.globs import without_globs
from runner.launch import command_line
from runner.sweep import manifest as manifests
from runner.sweep import plugins
from runner.sweep.composition import SweepComposer
from runner.sweep.conductor import Conductor, Stopped, hydra_words
from runner.sweep.manifest import Manifest, Planned, SweepDirectory
from runner.sweep.preflight import Checks, preflight
from runner.sweep.progress import Progress
from runner.sweep.records import COMPLETED, FAILS, SKIPPED, Record
from runner.sweep.summary import show, summarize, write
from runner.sweep.worker import Worker
from runner.terminal import Terminal

PLACES = ("sweep.resume", "hydra.sweep.dir")
"""What says where a sweep is; it is no part of what its jobs are."""

GRIDS = ("runner", "basic")
"""Sweepers that run every combination of the listed values, which is known before the first."""


@dataclass(frozen=True)
class Swept:
    """What a sweep gave.

    Attributes:
        directory: of the sweep; the jobs' own are in it.
        records: of every job, by number.
    """

    directory: Path
    records: tuple[Record, ...]

    @property
    def holds(self) -> bool:
        """Whether no expectation of a job fails."""
        return all(record.state != FAILS for record in self.records)


def sweep(
    overrides: Sequence[str],
    *,
    config_dir: str | Path | None = None,
    config_name: str = CONFIG_NAME,
) -> Swept:
    """Run the jobs of a sweep.

    Every job is composed, validated and planned before the first starts; a job that fails leaves
    the others alone. In the directory of an earlier try, only what is missing is run.

    Raises:
        ConfigError: a job's config is wrong, or the directory is another sweep's; nothing was run.
        SweepFailed: some jobs failed; the others ran.
    """
    where = [word for word in overrides if _key(word) in PLACES]
    words = [word for word in overrides if word not in where]
    resumed = _resumed(where)
    if resumed is not None and not words:
        earlier = _recorded(resumed)
        words, config_dir, config_name = (
            list(earlier.overrides), earlier.config_dir, earlier.config_name,
        )  # fmt: skip
    terminal = Terminal()
    plugins.register()
    with Composer(config_dir, config_name) as composer:
        jobs_composer = SweepComposer(composer)
        words = without_globs(words, composer.options)
        jobs = composer.jobs_of_sweep(words)
        with terminal.progress(len(jobs), "checking") as advance:
            checks = preflight(jobs_composer, jobs, advance)
        wanted = resumed or _wanted(jobs_composer, checks, where)
        named = any("${now" not in word for word in where)
        with manifests.open_directory(wanted, named=named) as directory:
            manifest = _manifest(directory, checks, words, config_dir, config_name)
            directory.write(manifest)
            return _run(composer.hydra, jobs_composer, directory, manifest, checks, words, terminal)


def _run(
    hydra: Hydra,
    composer: SweepComposer,
    directory: SweepDirectory,
    manifest: Manifest,
    checks: Checks,
    words: Sequence[str],
    terminal: Terminal,
) -> Swept:
    """Run the jobs that aren't complete, and say how all of them went."""
    assert checks.first is not None
    job = checks.first[0]
    missing = [one for one in manifest.jobs if not directory.finished(one)]
    if done := len(manifest.jobs) - len(missing):
        terminal.line(f"{done} of {len(manifest.jobs)} jobs are complete already")
    worker = Worker(
        directory.path,
        manifest.config_dir,
        manifest.config_name,
        checks.columns.found(),
        job.objective(),
    )
    conductor = Conductor(
        hydra.config_loader,
        composer,
        directory,
        worker,
        missing,
        Progress(terminal, directory.path, manifest.jobs),
        stop_on_error=job.sweep.on_error == "stop",
        kin={one.number: one.kin for one in checks.good},
    )
    usable = [f"++{word}" if _key(word) in checks.mended else word for word in words]
    try:
        if missing or not manifest.jobs:
            hydra.multirun(
                config_name=manifest.config_name,
                task_function=conductor,
                overrides=[*usable, *hydra_words(directory)],
            )
    except Stopped:
        pass
    finally:
        records = _finish(directory.path, terminal, experiments=checks.experiments)
    failed = [record for record in records if record.state not in (COMPLETED, FAILS, SKIPPED)]
    if failed:
        shown = [f"{record.name} {record.reason or record.state}" for record in failed[:10]]
        more = [f"… and {len(failed) - 10} more, in summary.csv"] if len(failed) > 10 else []
        head = f"{len(failed)} of {len(records)} jobs failed:"
        raise SweepFailed("\n  ".join([head, *shown, *more]))
    return Swept(directory.path, tuple(records))


def _finish(directory: Path, terminal: Terminal, *, experiments: bool) -> list[Record]:
    """Summarise what is there, whatever ended the sweep."""
    found = summarize(directory)
    write(found, directory)
    page = None
    if experiments:
        gathered = report.gather(directory)
        page = report.write(gathered, directory)
        terminal.report(gathered)
    else:
        show(found, terminal)
    terminal.where(directory, any(True for _ in directory.glob("*/events.out.*")), page)
    return list(found.records)


def _manifest(
    directory: SweepDirectory,
    checks: Checks,
    words: Sequence[str],
    config_dir: str | Path | None,
    config_name: str,
) -> Manifest:
    """What the sweep is, with a directory's name for every job.

    Raises:
        ConfigError: the directory is another sweep's.
    """
    assert checks.first is not None
    job, composed = checks.first
    earlier = manifests.read(directory.path)
    names = directory.recorded()
    if earlier is not None:
        names = {one.key: one.directory for one in earlier.jobs} | names
    keys = manifests.keys(one.digest for one in checks.good)
    wanted = [(key, one.wanted) for key, one in zip(keys, checks.good, strict=True)]
    places = manifests.places(names, wanted)
    grid = composed.config.hydra.runtime.choices["hydra/sweeper"] in GRIDS
    jobs = tuple(
        Planned(one.number, key, one.overrides, place)
        for one, key, place in zip(checks.good, keys, places, strict=True)
    )
    if earlier is not None:
        manifests.check_same(directory.path, earlier, jobs)
    objective = job.objective()
    return Manifest(
        command_line(["-m", *words, f"hydra.sweep.dir={directory.path}"], config_dir, config_name),
        tuple(words),
        None if config_dir is None else str(Path(config_dir).expanduser().absolute()),
        config_name,
        job.task.kind if len(checks.tasks) == 1 else "experiments",
        None if objective is None else asdict(objective),
        earlier.started if earlier is not None else datetime.now(UTC).isoformat(timespec="seconds"),
        jobs if grid else (),
        tuple(checks.bad),
    )


def _wanted(composer: SweepComposer, checks: Checks, where: Sequence[str]) -> str:
    """Where the results shall go; a sweep over several tasks is named after none of them.

    Raises:
        ConfigError: what says so can't be read.
    """
    composed = composer.compose([*checks.good[0].overrides, *where])
    if composed.problems:
        raise ConfigError(*composed.problems)
    config = composed.config
    if len(checks.tasks) > 1:
        with read_write(config.hydra):
            config.hydra.runtime.choices.task = "experiments"
    HydraConfig.instance().set_config(config)  # what ${hydra:…} refers to
    return str(config.hydra.sweep.dir)


def _resumed(where: Sequence[str]) -> str | None:
    """The directory that `sweep.resume` names."""
    found = [word.partition("=")[2] for word in where if _key(word) == "sweep.resume"]
    return found[-1].strip("'\"") if found and found[-1] not in ("", "null") else None


def _recorded(directory: str) -> Manifest:
    path = Path(directory).expanduser()
    found = manifests.read(path) if path.is_dir() else None
    if found is None:
        raise problem("sweep.resume", "a sweep's directory", f"'{directory}', which is none")
    return found


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]
