"""Search by Optuna: each job is a trial, chosen by what those before it gave.

The choices follow from the seed and from what was measured alone. So a search that is taken up
again chooses the same trials again, and takes the results of those that are complete from their
directories; and a trial that repeats another takes its result.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import chain, groupby
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hydra.core.override_parser.types import IntervalSweep, RangeSweep
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.config.errors import SweepFailed, first_line, problem
from runner.config.fields import Count
from runner.config.overrides import parse
from runner.config.plain import plain
from runner.config.spec import Spec
from runner.config.values import ends
from runner.job import Job
from runner.sweep.engines.launcher import PACKAGE, EngineLauncher, checked
from runner.sweep.findings import unmeasured
from runner.sweep.manifest import of_jobs
from runner.sweep.records import Record, collect
from runner.tasks import Objective

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import Trial

Words = tuple[str, ...]
"""Overrides of one job."""


class OptunaPreset(Spec):
    """Settings of ``hydra/sweeper=optuna``.

    Attributes:
        n_trials: how many trials there are.
        n_jobs: how many are chosen, and handed to the launcher, at once.
        seed: of the choices.
        sampler: ``tpe`` learns from earlier trials, ``random`` doesn't.
    """

    n_trials: Count = 20
    n_jobs: Count = 1
    seed: int = 0
    sampler: Literal["tpe", "random"] = "tpe"


class OptunaSweeper(Sweeper):
    """Chooses values one batch after the other, to the objective of the task."""

    __module__ = PACKAGE

    def __init__(self, **values: Any) -> None:
        self._values = values

    @staticmethod
    def check(values: Mapping[str, Any]) -> OptunaPreset:
        """Validate what YAML and overrides say.

        Raises:
            ConfigError: a setting is wrong, or Optuna isn't installed.
        """
        return checked(OptunaPreset, "optuna", "optuna", "hydra.sweeper", values)

    @staticmethod
    def check_search(config: DictConfig, overrides: Sequence[str]) -> Objective:
        """The metric to search by.

        Args:
            config: of any of the jobs.
            overrides: of the sweep.

        Raises:
            ConfigError: the job is wrong, has no metric, or there is nothing to search.
        """
        if not any(distribution(text) for text in overrides):
            hint = "Give one: task.optimizer.lr=interval(0.001,0.03)."
            raise problem("hydra/sweeper", "values to search among", "none", hint)
        job = Job.parse(plain(config))
        objective = job.objective()
        if objective is None:
            found = f"nothing, and task {job.task.kind} has none of its own"
            hint = "Give one: sweep.objective={metric: loss, goal: min}."
            raise problem("sweep.objective", "a metric to search by", found, hint)
        return objective

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what the trials need.

        Raises:
            ConfigError: a setting is wrong, or Optuna isn't installed.
        """
        self.settings = self.check(self._values)
        self._config, self._loader = config, hydra_context.config_loader
        self._directory = Path(str(config.hydra.sweep.dir))
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Search.

        Raises:
            ConfigError: there is nothing to search, or no metric to search by.
            SweepFailed: the first trials that are done lack the metric.
        """
        found = {text: distribution(text) for text in arguments}
        space = {_key(text): one for text, one in found.items() if one is not None}

        def words(values: Mapping[str, Any]) -> Words:
            return tuple(f"{k}={values[k]}" if (k := _key(t)) in space else t for t in arguments)

        first = words({key: _first(one) for key, one in space.items()})
        config = self._loader.load_sweep_config(self._config, list(first))
        objective = self.check_search(config, arguments)
        study = self._study(objective)
        trials = Trials(self._directory, objective)
        keep = self._launcher if isinstance(self._launcher, EngineLauncher) else nullcontext()
        with keep:
            for batch in self._batches():
                asked = [study.ask(space) for _ in batch]
                values = trials.run(self._launcher, [words(trial.params) for trial in asked])
                trials.check_measured()
                for trial, value in zip(asked, values, strict=True):
                    _tell(study, trial, value)
                if not all(map(isfinite, values)) and self._config.sweep.on_error == "stop":
                    return

    def _batches(self) -> Iterator[range]:
        """The numbers of the trials that are chosen at once."""
        last, size = self.settings.n_trials, self.settings.n_jobs
        return (range(first, min(first + size, last)) for first in range(0, last, size))

    def _study(self, objective: Objective) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        sampler: optuna.samplers.BaseSampler
        if self.settings.sampler == "random":
            sampler = optuna.samplers.RandomSampler(seed=self.settings.seed)
        else:
            # The trials of one batch shall not be chosen as if each were the only one.
            several = self.settings.n_jobs > 1
            sampler = optuna.samplers.TPESampler(seed=self.settings.seed, constant_liar=several)
        goal = "minimize" if objective.goal == "min" else "maximize"
        return optuna.create_study(sampler=sampler, direction=goal)


class Trials:
    """What is known of the trials, from this sweep's directory and from what is run.

    Attributes:
        values: what each has measured; one that failed, not a number.
    """

    def __init__(self, directory: Path, objective: Objective) -> None:
        """Read what an earlier try left in the sweep's directory."""
        self._directory, self._objective = directory, objective
        self.values: dict[Words, float] = {}
        self._begun: dict[Words, Record] = {}
        self._next = 0
        for record in collect(directory, {}):
            self._next = max(self._next, (record.number or 0) + 1)
            words = of_jobs(record.overrides)
            value = objective.of(record.metrics) if record.counts else None
            if value is None:
                self._begun[words] = record
            else:
                self.values[words] = value

    def run(self, launcher: Launcher, batch: Sequence[Words]) -> list[float]:
        """What the jobs of a batch measure; those that are known aren't run again."""
        told = {of_jobs(words): words for words in batch}
        numbered = [(self._number(words), words) for words in told if words not in self.values]
        # Hydra numbers the jobs that are launched together from the first one on.
        for _, together in groupby(enumerate(numbered), lambda place: place[1][0] - place[0]):
            jobs = [job for _, job in together]
            overrides = [[*told[words], *self._where(words)] for _, words in jobs]
            done = launcher.launch(overrides, jobs[0][0])
            for (_, words), one in zip(jobs, done, strict=True):
                self.values[words] = _value(one)
        return [self.values[of_jobs(words)] for words in batch]

    def check_measured(self) -> None:
        """Stop a search that has nothing to go by.

        Raises:
            SweepFailed: trials are done, and none of them has the metric.
        """
        if any(map(isfinite, self.values.values())):
            return
        done = [record.metrics for record in collect(self._directory, {}) if record.counts]
        if not done or any(self._objective.of(metrics) is not None for metrics in done):
            return
        found = unmeasured(self._objective.metric, dict.fromkeys(chain(*done)))
        objective = f"sweep.objective={{metric: …, goal: {self._objective.goal}}}"
        word = shlex.quote(f"sweep.resume={self._directory}")
        again = f"python -m runner -m {word} '{objective}'"
        raise SweepFailed(f"{found}\nWhat is done is kept. Go on by another metric: {again}")

    def _number(self, words: Words) -> int:
        """That of an earlier try, or the next one."""
        record = self._begun.get(words)
        if record is not None and record.number is not None:
            return record.number
        self._next += 1
        return self._next - 1

    def _where(self, words: Words) -> list[str]:
        """The directory of an earlier try, which is taken up again."""
        record = self._begun.get(words)
        return [] if record is None else [f"hydra.sweep.subdir='{record.directory}'"]


def distribution(text: str) -> BaseDistribution | None:
    """What an override says can be searched; None where it says one value.

    ``interval(0.1,1)`` is any number in between, ``int(interval(1,9))`` a whole one;
    ``tag(log,interval(…))`` has each order of magnitude as often; ``range(3,8,2)`` is 3, 5 or 7;
    ``a,b`` is one of these, without an order.

    Raises:
        ConfigError: Optuna refuses it.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    override = parse(text)
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            low, high, log = value.start, value.end, "log" in value.tags
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low or 0), float(high or 0), log=log)
        if isinstance(value, RangeSweep) and not value.shuffle:
            numbers = sorted(ends(value, *text.split("=", 1)))
            if not numbers:
                raise ValueError("It has none")
            step = abs(value.step)
            if all(isinstance(number, int) for number in numbers):
                return IntDistribution(numbers[0], numbers[-1], step=step)
            return FloatDistribution(numbers[0], numbers[-1], step=step)
        if override.is_sweep_override():
            return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        key, _, written = text.partition("=")
        hint = f"{first_line(error)}."
        raise problem(key, "values that can be searched", f"'{written}'", hint) from None
    return None


def _first(space: BaseDistribution) -> Any:
    """A value of a distribution, to compose a config with."""
    return space.choices[0] if hasattr(space, "choices") else space.low


def _value(done: JobReturn) -> float:
    """What a job measured; not a number where it failed."""
    given = done._return_value if done.status == JobStatus.COMPLETED else None
    return float(given) if isinstance(given, int | float) else nan


def _tell(study: Study, trial: Trial, value: float) -> None:
    from optuna.trial import TrialState

    if isfinite(value):
        study.tell(trial, value)
    else:
        study.tell(trial, state=TrialState.FAIL)


def _key(text: str) -> str:
    return text.partition("=")[0]
