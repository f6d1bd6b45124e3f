"""What a sweep's files come to: what varied, what came out for each setting, what is best.

`runner.sweep.records` reads the jobs, `runner.sweep.varied` finds what they differ in; here jobs
that differ in nothing but the seed become one setting, and the settings are ranked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import fsum, inf, isfinite, nan, sqrt
from pathlib import Path
from typing import Any

from runner import menu
from runner.config.errors import ConfigError, Problem, did_you_mean, one_of, problem
from runner.sweep.records import (
    ABSENT,
    COMPLETED,
    FAILED,
    FAILS,
    UNREADABLE,
    WORDS,
    Record,
    collect,
    read_manifest,
)
from runner.sweep.varied import SEED, assignments, identity, short_names, some, value, varied
from runner.tasks import Objective, Task

COLUMNS = ("job", "directory", "state", "jobs", "seconds", "reason")
"""Words that no parameter is called by in a table."""

TROUBLES = (FAILED, WORDS["INTERRUPTED"], WORDS["DEAD"], UNREADABLE)
"""States of jobs that have ended without metrics."""

PENDING = (ABSENT, WORDS["RUNNING"], WORDS["INTERRUPTED"])
"""States of jobs that are still to be run, or to be run again."""

FAILURE = "a job failed or was ended"


@dataclass(frozen=True)
class Statistic:
    """A metric over the jobs of a setting.

    Attributes:
        count: how many jobs have it.
        mean: of truths the share of those that are true; not finite if one of the values isn't.
        deviation: the standard deviation of the sample (divided by count − 1); None for a single
            value, for truths, and where a value isn't finite.
        truths: whether the values are true or false.
    """

    count: int
    mean: float
    deviation: float | None = None
    truths: bool = False

    @staticmethod
    def of(values: Sequence[bool | int | float]) -> Statistic | None:
        """Of these values, or None if there are none."""
        if not values:
            return None
        count, truths = len(values), all(isinstance(value, bool) for value in values)
        if not all(map(isfinite, values)):  # fsum refuses inf − inf
            return Statistic(count, float(sum(map(float, values))))
        try:
            mean = fsum(values) / count
        except OverflowError:
            return Statistic(count, inf)
        if count == 1 or truths:
            return Statistic(count, mean, truths=truths)
        # Deviations are scaled so that their squares don't overflow.
        scale = max(abs(value - mean) for value in values) or 1.0
        squares = fsum(((value - mean) / scale) ** 2 for value in values)
        return Statistic(count, mean, scale * sqrt(squares / (count - 1)))


@dataclass(frozen=True)
class Setting:
    """Jobs that have the same values, whatever their seeds.

    Attributes:
        values: by dotted path, of all that varied but the seed.
        jobs: in the sweep's order.
        lacks: whether one of them failed, or ended in another way without metrics that will come.
    """

    values: Mapping[str, Any]
    jobs: tuple[Record, ...]
    lacks: bool = False

    def over(self, metric: str) -> Statistic | None:
        """A metric over the seeds that are done."""
        return Statistic.of([job.metrics[metric] for job in self.sample if metric in job.metrics])

    @cached_property
    def done(self) -> list[Record]:
        """The jobs whose metrics are final."""
        return [job for job in self.jobs if job.counts]

    @cached_property
    def sample(self) -> list[Record]:
        """Those that differ in their seeds: to run one again tells nothing new."""
        return list({identity(value(job, SEED)): job for job in reversed(self.done)}.values())[::-1]

    def ranks(self, metric: str) -> bool:
        """Whether no job failed or gave a metric that isn't finite: means don't hide those."""
        found = self.over(metric)
        return not self.lacks and found is not None and isfinite(found.mean)


@dataclass(frozen=True)
class Summary:
    """Everything that a sweep's summary says.

    Attributes:
        command: that runs the sweep again, if it is known.
        records: one per job, by number.
        varied: dotted paths and groups that jobs differ in.
        names: short names of those that settings differ in; the seed's if nothing else varied.
        settings: in the sweep's order.
        metrics: names of the metrics, those that matter most first.
        objective: what ranks the settings, or None.
        best: the best setting, or None.
        notes: what the reader should know about the ranking and the files.
    """

    command: str
    records: tuple[Record, ...] = field(repr=False)
    varied: tuple[str, ...]
    names: dict[str, str]
    settings: tuple[Setting, ...] = field(repr=False)
    metrics: tuple[str, ...]
    objective: Objective | None
    best: Setting | None
    notes: tuple[str, ...]

    @property
    def aggregated(self) -> bool:
        """Whether some setting has several jobs."""
        return any(len(setting.jobs) > 1 for setting in self.settings)

    @property
    def best_job(self) -> Record | None:
        """The best job of the best setting."""
        if self.best is None or self.objective is None:
            return None
        metric, sign = self.objective.metric, sign_of(self.objective)
        jobs = [job for job in self.best.done if isfinite(job.metrics.get(metric, nan))]
        return min(jobs, key=lambda job: sign * job.metrics[metric])

    @property
    def tied(self) -> int:
        """How many other settings are as good as the best."""
        if self.best is None or self.objective is None:
            return 0
        metric = self.objective.metric
        ranked = [s for s in self.settings if s.ranks(metric) == self.best.ranks(metric)]
        means = [found.mean for s in ranked if (found := s.over(metric)) is not None]
        best = self.best.over(metric)
        assert best is not None
        return means.count(best.mean) - 1

    @property
    def unfinished(self) -> bool:
        """Whether some job may still change what is best."""
        return any(record.state in PENDING for record in self.records)

    @property
    def same(self) -> bool:
        """Whether nothing but the seed varied, and no metric depends on it."""
        jobs = self.records
        return (
            bool(self.metrics)
            and self.varied == (SEED,)
            and all(job.state == COMPLETED for job in jobs)
            and len({tuple(job.metrics.get(m) for m in self.metrics) for job in jobs}) == 1
        )

    @property
    def absent(self) -> list[Record]:
        """The jobs that were never started."""
        return [record for record in self.records if record.state == ABSENT]

    @property
    def troubled(self) -> list[Record]:
        """The jobs that were started and didn't complete, that couldn't be, or don't hold."""
        return [record for record in self.records if record.state not in (COMPLETED, ABSENT)]

    @property
    def tally(self) -> str:
        """``97 completed (2 of them do not hold), 2 failed, 1 interrupted``."""
        counts = Counter(record.state for record in self.records)
        wrong = counts.pop(FAILS, 0)
        done = counts.pop(COMPLETED, 0) + wrong
        hold = f" ({wrong} of them {'does' if wrong == 1 else 'do'} not hold)" if wrong else ""
        return ", ".join([f"{done} completed{hold}", *(f"{n} {s}" for s, n in counts.items())])


def summarize(directory: Path, asked: Objective | None = None) -> Summary:
    """Read what the jobs of a sweep left in its directory, or in any folder with runs.

    Args:
        directory: of the sweep.
        asked: what shall rank the settings; None: what the sweep was told, or the task says.

    Raises:
        ConfigError: there is no job, or none has the metric that was asked for.
    """
    manifest, complaint = read_manifest(directory)
    records = collect(directory, manifest)
    if not records:
        found = f"'{directory}', which " + ("has none" if directory.exists() else "does not exist")
        raise problem("--summary", "a directory with runs", found)
    notes = [complaint] if complaint else []
    names = varied(records)
    by = [name for name in names if name != SEED] or names
    grouped: dict[tuple[Hashable, ...], list[Record]] = {}
    for record in records:
        grouped.setdefault(tuple(identity(value(record, name)) for name in by), []).append(record)
    lost = _lost(records)
    settings = tuple(
        Setting(
            {name: value(jobs[0], name) for name in by},
            tuple(jobs),
            lacks=any(job.state in lost for job in jobs),
        )
        for jobs in grouped.values()
    )
    measured = {k: v for record in records if record.counts for k, v in record.metrics.items()}
    if asked is not None and asked.of(measured) is None:
        raise ConfigError(unmeasured(asked.metric, measured))
    given = manifest.get("objective") if manifest else _of_task(records)
    objective, missing = _objective(asdict(asked) if asked else given, list(measured))
    notes += missing
    metrics = _by_importance(list(measured), records, objective)
    short = short_names(by, {*metrics, *COLUMNS})
    best, unranked = _best(settings, objective, short)
    return Summary(
        command=str(manifest.get("command") or ""),
        records=tuple(records),
        varied=tuple(names),
        names=short,
        settings=settings,
        metrics=tuple(metrics),
        objective=objective,
        best=best,
        notes=(*notes, *unranked),
    )


def _lost(records: Sequence[Record]) -> Collection[str]:
    """The states of jobs whose metrics won't come.

    A sweep that was stopped in the middle has jobs that were never started, and is taken up
    again. In one that has come to its end, jobs that were killed have failed: for want of memory,
    as likely as not.
    """
    states = {record.state for record in records}
    return (FAILED,) if states & {ABSENT, WORDS["RUNNING"]} else TROUBLES


def sign_of(objective: Objective) -> int:
    """By what a metric is multiplied so that less of it is better."""
    return 1 if objective.goal == "min" else -1


def unmeasured(metric: str, measured: Iterable[str]) -> Problem:
    """What is wrong with a metric that no job has, given those that jobs have."""
    names = list(measured)
    expected = one_of(names) if names else "a metric that is a single number"
    hint = did_you_mean(metric, names)
    return Problem("sweep.objective.metric", expected, f"'{metric}', which no job has", hint)


def _objective(given: Any, measured: Sequence[str]) -> tuple[Objective | None, list[str]]:
    """What ranks the settings, and why nothing does."""
    if not isinstance(given, dict) or given.get("goal") not in ("min", "max"):
        return None, []
    for metric in (given.get("metric"), given.get("otherwise")):
        if metric in measured:
            return Objective(str(metric), given["goal"]), []
    if not measured:
        return None, []
    metric = str(given.get("metric"))
    there = f"there {'is' if len(measured) == 1 else 'are'} {', '.join(measured)}."
    hint = did_you_mean(metric, measured)
    return None, [f"No best: no job has the metric '{metric}'; {there} {hint}".rstrip()]


def _of_task(records: Sequence[Record]) -> dict[str, Any] | None:
    """The objective of the task that all jobs have."""
    tasks = {record.task for record in records if record.task}
    if len(tasks) != 1:
        return None
    try:
        task = menu.find("runner.tasks", tasks.pop(), Task)  # type: ignore[type-abstract]  # a contract
    except ConfigError:
        return None  # the task is gone
    return vars(task.objective) if task and task.objective else None


def _best(
    settings: Sequence[Setting], objective: Objective | None, names: Mapping[str, str]
) -> tuple[Setting | None, list[str]]:
    """The first of the settings with the best mean, and what was left out."""
    if objective is None or len(settings) == 1:
        return None, []
    metric = objective.metric
    means = [(s, found.mean) for s in settings if (found := s.over(metric)) is not None]
    finite = [(setting, mean) for setting, mean in means if isfinite(mean)]
    whole = [(setting, mean) for setting, mean in finite if setting.ranks(metric)]

    def unranked(those: Sequence[Setting], why: str) -> list[str]:
        told = some([assignments(names, setting.values) or "all jobs" for setting in those])
        return [f"Not ranked, as {why}: {told}"] if those else []

    without = [setting for setting in settings if setting.done and setting.over(metric) is None]
    notes = unranked(without, f"there is no {metric}")
    notes += unranked([s for s, mean in means if not isfinite(mean)], f"{metric} is not finite")
    if whole:
        notes += unranked([s for s, _ in finite if not s.ranks(metric)], FAILURE)
    elif finite:
        notes.append(f"In every setting {FAILURE}: the others' means are ranked.")
    ranked = whole or finite
    if not ranked:
        return None, notes
    return min(ranked, key=lambda pair: sign_of(objective) * pair[1])[0], notes


def _by_importance(
    measured: Sequence[str], records: Sequence[Record], objective: Objective | None
) -> list[str]:
    """The objective, what something was expected of, what differs between jobs, the rest."""
    expected = {name for record in records for name in record.expected}

    def place(metric: str) -> tuple[bool, bool, bool]:
        differs = len({r.metrics.get(metric) for r in records if r.counts}) > 1
        return objective is None or metric != objective.metric, metric not in expected, not differs

    return sorted(measured, key=place)
