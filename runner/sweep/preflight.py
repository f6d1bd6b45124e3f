"""Compose, validate and plan every job of a sweep before the first starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from omegaconf import OmegaConf

from runner.config.compose import Composed
from runner.config.errors import ConfigError, Problem, problem
from runner.job import Job, Sweep
from runner.launch import choices, parameters, valid
from runner.sweep.composition import SweepComposer
from runner.sweep.manifest import Skipped, digest
from runner.sweep.together import Kin, kin
from runner.tasks import Advance
from runner.tracking.columns import Columns


@dataclass(frozen=True)
class Checked:
    """A valid job.

    Attributes:
        number: its place in the order of the command.
        digest: of its config.
        overrides: that describe it.
        wanted: the directory's name that its config asks for.
        kin: what says which jobs it can be done together with.
    """

    number: int
    digest: str
    overrides: tuple[str, ...]
    wanted: str
    kin: Kin | None


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
        experiments: whether a job is an experiment.
    """

    good: list[Checked] = field(default_factory=list)
    bad: list[Skipped] = field(default_factory=list)
    columns: Columns = field(default_factory=Columns)
    mended: set[str] = field(default_factory=set)
    tasks: dict[str, None] = field(default_factory=dict)
    first: tuple[Job, Composed] | None = None
    experiments: bool = False


def preflight(composer: SweepComposer, jobs: Sequence[Sequence[str]], advance: Advance) -> Checks:
    """Check every job.

    Raises:
        ConfigError: some are wrong, and the sweep doesn't say that they shall be skipped: every
            job's problems, one that several jobs share told once; or there is no valid one.
    """
    checks = Checks()
    found: dict[Problem, list[int]] = {}
    skip = False
    for number, words in enumerate(jobs):
        try:
            job = _check(checks, composer, number, words)
            skip = skip or job.on_invalid == "skip"
        except ConfigError as error:
            checks.bad.append(Skipped(number, tuple(words), tuple(map(str, error.problems))))
            for one in error.problems:
                found.setdefault(one, []).append(number)
        advance("")
    if found and not (skip and checks.good):
        raise ConfigError(
            *(
                one if len(numbers) == len(jobs) else replace(one, path=_where(one, numbers))
                for one, numbers in found.items()
            )
        )
    return checks


def _check(checks: Checks, composer: SweepComposer, number: int, words: Sequence[str]) -> Sweep:
    composed = composer.compose(words, number=number)
    job, raw = valid(composed)
    plan = job.plan()
    config = composed.config
    wanted = str(OmegaConf.select(config, "hydra.sweep.subdir"))
    if checks.first is None:
        checks.first = job, composed
    elif job.sweep != checks.first[0].sweep:
        raise problem("sweep", "the same for all jobs of a sweep", "values that differ")
    checks.experiments |= config.hydra.runtime.choices.get("experiment") is not None
    asked = [word.lstrip("+~").partition("=")[0] for word in words]
    checks.columns.add({**choices(config), **parameters(config)}, asked)
    checks.tasks[job.task.kind] = None
    checks.mended |= {text.lstrip("+").partition("=")[0] for text in composed.mended}
    checks.good.append(Checked(number, digest(raw), tuple(words), wanted, kin(job, plan)))
    return job.sweep


def _where(found: Problem, numbers: Sequence[int]) -> str:
    more = " …" if len(numbers) > 5 else ""
    return f"job {', '.join(f'#{n}' for n in numbers[:5])}{more}: {found.path}"
