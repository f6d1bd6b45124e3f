"""Run a sweep: check every job, claim or take up a directory, run what is missing, summarise."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from hydra._internal.hydra import Hydra
from omegaconf import read_write
from omegaconf.errors import OmegaConfBaseException

from runner.config.compose import CONFIG_NAME, Composer
from runner.config.errors import ConfigError, Problem, SweepFailed, first_line, problem
from runner.config.globs import without_globs
from runner.config.process import refer_to
from runner.config.recorded import check_recorded
from runner.launch import command_line
from runner.sweep import engines, plugins
from runner.sweep import manifest as manifests
from runner.sweep.composition import SweepComposer
from runner.sweep.conductor import Conductor, Stopped, hydra_words, quoted, usable
from runner.sweep.ending import RESUME, all_complete, finish, go_on
from runner.sweep.manifest import Manifest, Planned, SweepDirectory
from runner.sweep.preflight import Checks, check_count, preflight
from runner.sweep.progress import Progress
from runner.sweep.records import FAILS, Record
from runner.sweep.settled import settled
from runner.sweep.worker import Worker, fresh_images
from runner.terminal import Terminal

DIR = "hydra.sweep.dir"
PLACES = (RESUME, DIR)
"""What says where a sweep is; it is no part of what its jobs are."""

HOW = ("sweep.", "hydra/launcher", "hydra.launcher.", "hydra.sweeper.")
"""What overrides begin with that say how a sweep is run, and nothing of what its jobs are."""

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
    the others alone. In the directory of an earlier try, only what is missing is run; it needs no
    overrides, and those that say how to run it are added to the recorded ones.

    Raises:
        ConfigError: a job's config is wrong, or the directory is another sweep's; nothing was run.
        SweepFailed: some jobs failed; the others ran.
        KeyboardInterrupt: and SystemExit by SIGTERM: what is done is kept and summarised.
    """
    where = [word for word in overrides if _key(word) in PLACES]
    words = [word for word in overrides if word not in where]
    resumed = _resumed(where)
    further = any(not _key(word).startswith(HOW) for word in words)
    if resumed is not None and not further:
        earlier = _recorded(resumed)
        folder = None if config_dir else earlier.config_dir
        record = Path(resumed).expanduser() / manifests.MANIFEST
        hint = f"If you trust it, run its own command again, with {DIR}={shlex.quote(resumed)}."
        check_recorded(earlier.overrides, folder, earlier.config_name, record, hint)
        words, config_name = _told_again(earlier.overrides, words), earlier.config_name
        config_dir = config_dir or earlier.config_dir
    terminal = Terminal()
    plugins.register()
    with settled(), fresh_images(), Composer(config_dir, config_name) as composer:
        jobs_composer = SweepComposer(composer)
        words = without_globs(words, composer.options)
        first = jobs_composer.compose(composer.jobs_of_sweep(words, grid=False)[0]).config
        engines.check_chosen(first)
        grid = first.hydra.runtime.choices["hydra/sweeper"] in GRIDS
        if grid:
            check_count(words)
        jobs = composer.jobs_of_sweep(words, grid=grid)
        engines.check(first, words)
        with terminal.progress(len(jobs), "checking") as advance:
            checks = preflight(jobs_composer, jobs, advance)
        assert checks.first is not None
        resumed = checks.first[0].sweep.resume if resumed is None else resumed
        if resumed is not None:
            _recorded(resumed)
        wanted = resumed or _wanted(jobs_composer, checks, where)
        named = bool(resumed) or any("${now" not in word for word in where if _key(word) == DIR)
        place = RESUME if resumed else DIR
        with _blaming(place):
            opened = manifests.open_directory(wanted, named=named)
        with opened as directory:
            with _blaming(place, "Without other words, it runs what is missing." * further):
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
    progress = Progress(terminal, directory.path, manifest, missing)
    conductor = Conductor(
        hydra.config_loader,
        composer,
        directory,
        worker,
        missing,
        progress,
        mended=checks.mended,
        overrides=manifest.overrides,
        stop_on_error=job.sweep.on_error == "stop",
        kin={one.number: one.kin for one in checks.good},
        drafts={one.overrides: one.draft for one in checks.good if one.draft},
        computes=job.task.needs_torch,
    )
    stop: BaseException | None = None
    try:
        if missing or not manifest.jobs:
            elsewhere = checks.first[1].config.hydra.runtime.choices["hydra/launcher"] != "runner"
            with progress.shown(), progress.watch() if elsewhere else nullcontext():
                hydra.multirun(
                    config_name=manifest.config_name,
                    task_function=conductor,
                    overrides=[*usable(words, checks.mended), *hydra_words(directory)],
                )
            directory.check()
    except Stopped:
        pass
    except ConfigError as error:
        # "Nothing was run" is what a bad config says otherwise.
        stop = SweepFailed(str(error)) if conductor.begun else error
    except BaseException as error:
        stop = error
    records = None
    try:
        if directory.there():
            records = finish(directory.path, terminal, experiments=checks.experiments)
    except KeyboardInterrupt as again:
        stop = again
    if isinstance(stop, KeyboardInterrupt | SystemExit | OSError):
        # Of the job that was interrupted, they tell how to take up that one.
        if directory.there():
            stop.__notes__ = [f"What is done is kept in {directory.path}.", go_on(directory.path)]
        else:
            stop.__notes__ = [f"The sweep's directory, {directory.path}, was removed or moved."]
    if stop is not None:
        raise stop
    return Swept(directory.path, tuple(all_complete(records, directory.path, conductor.refused)))


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
        names |= {one.key: one.directory for one in earlier.jobs}
    keys = manifests.keys(one.digest for one in checks.good)
    wanted = [(key, one.wanted) for key, one in zip(keys, checks.good, strict=True)]
    places = manifests.places(names, wanted, directory.path)
    grid = composed.config.hydra.runtime.choices["hydra/sweeper"] in GRIDS
    jobs = tuple(
        Planned(one.number, key, one.overrides, place)
        for one, key, place in zip(checks.good, keys, places, strict=True)
    )
    objective = job.objective()
    place = str(directory.path)
    place = place if re.fullmatch(r"[\w./-]+", place) else quoted(place)
    manifest = Manifest(
        command_line(["-m", *words, f"{DIR}={place}"], config_dir, config_name),
        tuple(words),
        None if config_dir is None else str(Path(config_dir).expanduser().absolute()),
        config_name,
        job.task.kind if len(checks.tasks) == 1 else "experiments",
        None if objective is None else asdict(objective),
        earlier.started if earlier is not None else datetime.now(UTC).isoformat(timespec="seconds"),
        jobs if grid else (),
        tuple(checks.bad) if grid else (),  # a search checks values, not trials
    )
    if earlier is not None:
        manifests.check_same(directory.path, earlier, manifest)
    return manifest


def _wanted(composer: SweepComposer, checks: Checks, where: Sequence[str]) -> str:
    """Where the results shall go; a sweep over several tasks is named after none of them.

    Raises:
        ConfigError: what says so can't be read.
    """
    composed = composer.compose([*checks.good[0].overrides, *where])
    if composed.problems:
        # Its hint to sweep over the values would be no help here.
        raise ConfigError(*(Problem(one.path, one.expected, one.got) for one in composed.problems))
    config = composed.config
    if len(checks.tasks) > 1:
        with read_write(config.hydra):
            config.hydra.runtime.choices.task = "experiments"
    refer_to(config)
    try:
        return str(config.hydra.sweep.dir)
    except OmegaConfBaseException as error:
        raise problem(DIR, "a directory's name", first_line(error)) from None


def _resumed(where: Sequence[str]) -> str | None:
    """The directory that `sweep.resume` names.

    Raises:
        ConfigError: something else names another one.
    """
    found = [word.partition("=")[2] for word in where if _key(word) == RESUME]
    if not found or found[-1] == "null":
        return None
    if others := [word for word in where if _key(word) != RESUME]:
        raise problem(RESUME, f"no {DIR} besides", f"'{others[0]}'", "Leave one of them out.")
    return found[-1].strip("'\"")


def _told_again(recorded: Sequence[str], words: Sequence[str]) -> list[str]:
    """What a sweep was told, and words to add, which replace what it was told of the same."""

    def dotted(word: str) -> str:
        return f"{_key(word).replace('/', '.')}."

    replaced = tuple(map(dotted, words))
    return [*(word for word in recorded if not dotted(word).startswith(replaced)), *words]


@contextmanager
def _blaming(key: str, hint: str = "") -> Iterator[None]:
    """What is wrong with the sweep's directory is told of the key that the user gave.

    Args:
        key: that one.
        hint: what else to say, where it is `RESUME`.
    """
    try:
        yield
    except ConfigError as error:
        if key == DIR or error.problems[0].path != DIR:
            raise
        told = ConfigError(*(replace(one, path=key) for one in error.problems))
        raise (told.noting(hint) if hint else told) from None


def _recorded(directory: str) -> Manifest:
    path = Path(directory).expanduser()
    found = manifests.read(path) if directory and path.is_dir() else None
    if found is None:
        raise problem(RESUME, "a sweep's directory", f"'{directory}', which is none")
    return found


def _key(word: str) -> str:
    return word.lstrip("+").partition("=")[0]
