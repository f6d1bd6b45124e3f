"""Compose, validate and plan every job of a sweep before the first starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, inf, prod
from pathlib import PurePath

from hydra.core.override_parser.types import ChoiceSweep, RangeSweep
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.compose import Composed
from runner.config.errors import ConfigError, Problem, describe, first_line, problem
from runner.config.nodes import node_at, read
from runner.config.overrides import parse
from runner.config.spec import Spec
from runner.config.yaml_text import written
from runner.job import Job, Sweep
from runner.launch import choices, parameters, valid
from runner.sweep.composition import SweepComposer
from runner.sweep.manifest import Skipped, digest, is_inside
from runner.sweep.together import Kin, kin
from runner.tasks import Advance
from runner.tracking.columns import Columns

MOST = 100_000
"""Jobs of a sweep; the names alone of more than that are a burden to any file system."""

ALIKE = 200
"""Wrong jobs, one after the other and nothing else, that have nothing new to say."""

HERE = ("runner", "basic", "joblib", "submitit_local")
"""Launchers whose jobs have the devices of this machine."""

SUBDIR = "hydra.sweep.subdir"

DRAFTS = 4096
"""Drafts of configs that are kept, at some 15 KB each; later jobs are composed again."""

VALUES = 4
"""Wrong values of one key that are told one by one."""

LONGEST = 255
"""Bytes of a directory's name."""


@dataclass(frozen=True)
class Checked:
    """A valid job.

    Attributes:
        number: its place in the order of the command.
        digest: of its config.
        overrides: that describe it.
        wanted: the directory's name that its config asks for.
        kin: what says which jobs it can be done together with.
        draft: of its config, where there can be one; the others are composed when they start.
    """

    number: int
    digest: str
    overrides: tuple[str, ...]
    wanted: str
    kin: Kin | None
    draft: Composed | None = field(repr=False)


@dataclass
class Checks:
    """What was found before the first job starts.

    Attributes:
        good: the valid jobs.
        bad: the others.
        columns: of the table that compares the jobs.
        mended: keys that YAML doesn't spell out, which Hydra wants a ``++`` for.
        tasks: kinds of the jobs' tasks, as an ordered set.
        first: the first valid job and its config.
        skip: whether wrong jobs are skipped.
        told: what the jobs say of the sweep, with the first number that does; it must be one.
        experiments: whether a job is an experiment.
    """

    good: list[Checked] = field(default_factory=list)
    bad: list[Skipped] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    mended: set[str] = field(default_factory=set)
    tasks: dict[str, None] = field(default_factory=dict)
    first: tuple[Job, Composed] | None = None
    skip: bool = False
    told: dict[Sweep, int] = field(default_factory=dict)
    experiments: bool = False


def check_count(overrides: Sequence[str]) -> None:
    """Refuse a sweep of too many jobs before they are listed.

    Args:
        overrides: as on the command line, without globs.

    Raises:
        ConfigError: how many there would be.
    """
    counts: dict[str, float] = {}
    for text in overrides:
        try:
            override = parse(text)
        except OverrideParseException:
            continue  # who lists the jobs tells of it
        if override.is_sweep_override():
            counts[text.partition("=")[0]] = _count(override.value(), text)
    if prod(counts.values()) > MOST:
        told = {key: f"{n:,}" if n < 1e12 else "countless" for key, n in counts.items() if n > 1}
        many = " × ".join(f"{key} {count}" for key, count in told.items())
        raise problem("sweep", f"at most {MOST:,} jobs", many, "Split it into several.")


def _count(values: object, text: str) -> float:
    """How many values there are, without listing them."""
    if isinstance(values, ChoiceSweep):
        return len(values.list)
    if not isinstance(values, RangeSweep):
        return len(values) if isinstance(values, list) else 1
    key, _, written = text.partition("=")
    if values.step == 0:
        raise problem(key, "a step other than 0", f"'{written}'")
    try:
        return max(0, ceil(((values.stop or 0) - (values.start or 0)) / values.step))
    except (OverflowError, ValueError):
        return inf


def preflight(composer: SweepComposer, jobs: Sequence[Sequence[str]], advance: Advance) -> Checks:
    """Check every job.

    Raises:
        ConfigError: some are wrong, and the sweep doesn't say that they shall be skipped: every
            job's problems, one that several jobs share told once; or there is no valid one; or
            jobs say different things of the sweep.
    """
    checks, found, alike = Checks(), _Found(), 0
    for number, words in enumerate(jobs):
        try:
            _check(checks, composer, number, words)
        except ConfigError as error:
            checks.bad.append(Skipped(number, tuple(words), tuple(map(str, error.problems))))
            alike = 0 if found.add(error.problems, number) else alike + 1
        advance("")
        if alike == ALIKE and not (checks.good or checks.skip):
            break  # it may be said now, not only after thousands more
    problems = _differences(checks.told)
    if not (checks.skip and checks.good):
        problems += found.problems(len(checks.good) + len(checks.bad))
    if problems:
        refusal, left = ConfigError(*problems), len(jobs) - len(checks.good) - len(checks.bad)
        raise refusal.noting(f"The other {left:,} jobs were not checked.") if left else refusal
    return checks


class _Found:
    """The problems of many jobs."""

    def __init__(self) -> None:
        self._jobs: dict[tuple[str, str, str], dict[str, list[int]]] = {}

    def add(self, problems: Sequence[Problem], number: int) -> bool:
        """Note those of one job; whether there was something new."""
        before = len(self._jobs)
        for one in problems:
            found = self._jobs.setdefault((one.path, one.expected, one.hint), {})
            found.setdefault(one.got, []).append(number)
        return len(self._jobs) > before

    def problems(self, count: int) -> list[Problem]:
        """Each once, with the numbers of its jobs if it isn't that of all `count`."""
        told = []
        for (path, expected, hint), found in self._jobs.items():
            if len(found) > VALUES:
                some = ", ".join(list(found)[:VALUES])
                numbers = sorted({number for jobs in found.values() for number in jobs})
                found = {f"{some} and {len(found) - VALUES:,} other values": numbers}
            for got, numbers in found.items():
                place = path if len(numbers) == count else f"{_numbers(numbers)}: {path}"
                told.append(Problem(place, expected, got, hint))
        return told


def _check(checks: Checks, composer: SweepComposer, number: int, words: Sequence[str]) -> None:
    composed = composer.compose(words, number=number, draft=True)
    checks.skip |= read(composed.config, "sweep.on_invalid") == "skip"
    job, raw = valid(composed)
    plan = job.plan()
    config = composed.config
    chosen = written(node_at(config, "hydra.runtime.choices"))
    needed = job.task.needs_torch and job.device not in ("auto", "cpu")
    if needed and chosen["hydra/launcher"] in HERE:
        job.resolve_device()  # imports torch, so it comes last
    if node_at(config, SUBDIR)._value() == "${hydra.job.num}":
        wanted = str(number)  # the default
    else:
        wanted = _subdir(composer.compose(words, number=number).config)
    checks.first = checks.first or (job, composed)
    checks.told.setdefault(job.sweep, number)
    checks.experiments |= chosen.get("experiment") is not None
    asked = [word.lstrip("+~").partition("=")[0] for word in words]
    checks.columns.add({**choices(config), **parameters(config)}, asked)
    checks.tasks[job.task.kind] = None
    checks.mended |= {text.lstrip("+").partition("=")[0] for text in composed.mended}
    # Jobs that change the process's folder or environment have it for themselves.
    alone = read(config, "hydra.job.chdir") or read(config, "hydra.job.env_set")
    relatives = None if alone else kin(job, plan)
    draft = composed if composed.draft and len(checks.good) < DRAFTS else None
    checks.good.append(Checked(number, digest(raw), tuple(words), wanted, relatives, draft))


def _subdir(config: DictConfig) -> str:
    """The name of a job's directory within the sweep's.

    Raises:
        ConfigError: it is no such name.
    """
    try:
        name = str(OmegaConf.select(config, SUBDIR))
    except OmegaConfBaseException as error:
        raise problem(SUBDIR, "a directory's name", first_line(error)) from None
    if not is_inside(name):
        expected = "a directory within the sweep's, named like none of its files"
        raise problem(SUBDIR, expected, f"'{name}'")
    if any(len(part.encode()) > LONGEST for part in PurePath(name).parts):
        raise problem(SUBDIR, f"names of at most {LONGEST} bytes", describe(name))
    return name


def _differences(told: dict[Sweep, int]) -> list[Problem]:
    """What jobs say of the sweep must be the same."""
    (first, place), *others = told.items() or [(Sweep(), 0)]
    found: dict[str, Problem] = {}
    for other, number in others:
        for name in Sweep.model_fields:
            here, there = getattr(first, name), getattr(other, name)
            if here != there:
                got = f"{_written_out(here)} for job #{place} and {_written_out(there)} for job "
                got += f"#{number}"
                path = f"sweep.{name}"
                found.setdefault(path, Problem(path, "the same for all jobs of a sweep", got))
    return list(found.values())


def _written_out(value: object) -> str:
    """A value of the sweep as YAML says it."""
    if not isinstance(value, Spec):
        return describe(value)
    return f"{{{', '.join(f'{key}: {entry}' for key, entry in value.model_dump().items())}}}"


def _numbers(numbers: Sequence[int]) -> str:
    more = f" and {len(numbers) - 5:,} more" if len(numbers) > 5 else ""
    return f"job {', '.join(f'#{n}' for n in numbers[:5])}{more}"
