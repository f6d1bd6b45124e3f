"""Execute a planned job in its directory: run its task, check what was expected, log it all."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from runner import signals
from runner.choices import choices
from runner.config.errors import ConfigError
from runner.environment import computing, environment
from runner.expect import Outcome, compare
from runner.job import GIB, Job
from runner.plan import Plan
from runner.prepare import Prepared
from runner.readable import readable_bytes
from runner.signals import HUNG_UP, TERMINATED
from runner.tasks import Run
from runner.terminal import Terminal
from runner.tracking import Tracker, Trackers
from runner.tracking.columns import Column
from runner.tracking.directory import RunDirectory, json_safe, write_json
from runner.tracking.files import Files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runner.resume import Recorded

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
        metrics: names to numbers, nested lists, text or truths.
        outputs: what the task computed, by layer name, as NumPy arrays.
        outcomes: every expectation against what was measured.
        directory: where everything is written; where that can't be, it isn't there, and the task
            is one that can do without.
        plan: the stack's plan.
        events: whether there is an event file for TensorBoard.
    """

    metrics: dict[str, Any]
    outputs: dict[str, NDArray[Any]] = field(repr=False)
    outcomes: list[Outcome]
    directory: Path
    plan: Plan = field(repr=False)
    events: bool

    @property
    def holds(self) -> bool:
        """Whether every expectation is met."""
        return all(outcome.holds for outcome in self.outcomes)


@dataclass(frozen=True)
class Origin:
    """Where a run comes from, as its status.json says.

    Attributes:
        command: how to run it again.
        overrides: the command's, with which it can be resumed.
        config_dir: the user's own config folder, absolute, or None.
        config_name: of the primary config.
        experiment: the name of the experiment, if one was chosen.
        about: what that experiment asks and answers, from the head of its YAML.
        choices: the option of each config group.
        job: the number of a sweep's job, or None.
        key: what tells that job's config from all others, or None.
    """

    command: str
    overrides: tuple[str, ...]
    config_dir: str | None
    config_name: str
    experiment: str | None = None
    about: str | None = None
    choices: dict[str, str] = field(default_factory=dict)
    job: int | None = None
    key: str | None = None


class Execution:
    """A prepared job in its own directory, from RUNNING to its end; used in a ``with`` statement.

    Within it, the run will `begin`, then the task runs, and `complete` takes its metrics. An
    exception that leaves the ``with`` is recorded as FAILED or INTERRUPTED with its reason.

    Attributes:
        prepared: the job.
        directory: that belongs to this run alone.
        result: what the run gave, once it is complete.
        ended: whether the directory says how the run ended.
        together: with how many runs, itself included, it is computed.
    """

    def __init__(
        self,
        prepared: Prepared,
        directory: Path,
        parameters: Mapping[str, Any],
        origin: Origin,
        terminal: Terminal,
        earlier: Recorded | None = None,
        columns: Mapping[str, Column] | None = None,
    ) -> None:
        """Lock the directory and mark it RUNNING.

        Args:
            prepared: the job.
            directory: an existing directory that belongs to this run alone.
            parameters: the config's values by dotted name, for the HParams page.
            origin: where the run comes from.
            terminal: where to show it.
            earlier: what the directory says of a run that is taken up again.
            columns: of the HParams page, where the run is a job of a sweep.

        Raises:
            ConfigError: another process has resumed the run.
        """
        self.prepared, self.directory = prepared, directory
        self.result: Result | None = None
        self._origin, self._terminal = origin, terminal
        self._earlier = earlier
        self._parameters, self._columns = {**origin.choices, **parameters}, columns or {}
        self._tracker: Trackers | None = None
        self.ended, self.together, self._stopped = False, 1, False
        self._begun = False  # until then it has no log
        self._seconds = 0.0 if earlier is None else earlier.seconds
        self._since, self._part = monotonic(), 1.0
        job, run = prepared.job, prepared.run
        facts = {"task": job.task.kind, **asdict(origin), **_place(run, job), **environment()}
        facts["parameters"] = json_safe(dict(parameters))
        if earlier is None:
            self._home = RunDirectory(directory, facts | {"resumed": 0})
        else:
            facts |= {"resumed": earlier.resumed + 1, "started": earlier.started}
            self._home = RunDirectory(directory, facts, spent=earlier.seconds)

    def __enter__(self) -> Execution:
        return self

    def begin(self, config: str) -> None:
        """Record the plan and show it, now that the run has its log.

        Args:
            config: composed, as YAML, for TensorBoard.
        """
        self._begun = True
        try:
            self._begin(config)
        except BaseException as error:
            self.stop(error)
            raise

    def _begin(self, config: str) -> None:
        job, plan, run = self.prepared.job, self.prepared.plan, self.prepared.run
        write_json(self.directory / "plan.json", plan.to_dict(), sync=False)
        self._tracker = tracker = _trackers(job, self.directory)
        if self._earlier is not None:
            step = job.task.reached(self.directory)
            tracker.rewind(step)
            logger.info("resumed: %s", f"goes on after step {step}" if step else "starts anew")
        run.tracker, run.directory = tracker, self.directory
        run.progress, run.say = self._terminal.progress, self._terminal.line
        _show_head(self._terminal, job, run)
        logger.info("%s\n%s", _title(job, run), plan)
        _log_head(tracker, config, plan, self._origin.command)
        tracker.hparams(self._parameters, self._columns)
        choices.begin()

    def counts(self, part: float) -> None:
        """From now on, this part of the time is the run's; the rest is that of other runs."""
        now = monotonic()
        self._seconds += self._part * (now - self._since)
        self._since, self._part = now, part

    def run(self) -> Result:
        """Do the task, and record what it measures."""
        with signals.heard():  # what a task imports may swallow it
            metrics = self.prepared.job.task.run(self.prepared.run)
        return self.complete(metrics)

    def complete(self, metrics: dict[str, Any]) -> Result:
        """Record the metrics, compare them with what was expected, and show them."""
        job, plan, run, tracker = (
            self.prepared.job, self.prepared.plan, self.prepared.run, self._tracker,
        )  # fmt: skip
        assert tracker is not None
        picked = choices.summary()
        outcomes = compare(job.expect, metrics)
        if picked:
            tracker.text("ops", _code("\n".join(picked)))
        _log_metrics(tracker, self.directory, metrics, outcomes)
        tracker.close()
        holds = all(outcome.holds for outcome in outcomes)
        self._end("COMPLETED", None if holds else "an expectation failed")
        self._terminal.metrics(metrics)
        for note in [*run.notes, *picked]:
            self._terminal.line(note)
        self._terminal.outcomes(outcomes)
        events = bool(tracker.others)
        self.result = Result(metrics, run.outputs, outcomes, self.directory, plan, events=events)
        self._terminal.where(self.directory, events)
        return self.result

    def stop(self, error: BaseException) -> None:
        """Record what ended the run before it was complete; what was measured is kept."""
        if self.ended or self._stopped:
            return
        self._stopped = True
        where = f"The run's directory is {self.directory}"
        resume = f"Resume it: python -m runner --resume {shlex.quote(str(self.directory))}"
        try:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                if self._begun:
                    logger.warning("interrupted: %s", reason(error))
                self._end("INTERRUPTED", reason(error))
                error.add_note(f"{where}; what was measured is kept.")
                error.add_note(resume)
            else:
                if self._begun:
                    logger.error("failed", exc_info=error)
                    where += "; run.log has the traceback"
                self._end("FAILED", reason(error))
                if self._tracker is not None:
                    self._tracker.outcome(None)
                error.add_note(f"{where}.")
                if isinstance(error, OSError):  # there may be room, or a right, by then
                    error.add_note(resume)
        except OSError as unrecorded:
            unrecorded.add_note(f"{self._whereabouts()} says how the run ended: {reason(error)}")
            raise
        finally:
            if self._tracker is not None:
                with suppress(OSError):  # what it still holds back couldn't be written before
                    self._tracker.close()
            self._home.release()

    def _whereabouts(self) -> str:
        """Where nothing was recorded."""
        try:
            self._home.check()
        except OSError:
            gone = "was removed, moved or replaced while it ran"
            return f"The run's directory, {self.directory}, {gone}; nothing"
        return f"The run's directory is {self.directory}; nothing there"

    def _end(self, state: str, reason: str | None) -> None:
        self.counts(0)
        # Of runs that are computed together, each has its part of the time, so that sums are right.
        shared = {"seconds": round(self._seconds, 3), "together": self.together}
        self._home.mark(state, reason, **(shared if self.together > 1 else {}))
        self._home.release()
        self.ended = True

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self.stop(error)


def unrecorded(prepared: Prepared, wanted: Path, terminal: Terminal, why: Exception) -> Result:
    """Do a task that can do without a directory, where none can be written; it is shown alone.

    Args:
        prepared: the job.
        wanted: the directory that it would have had.
        terminal: where to show it.
        why: what kept it from being written.
    """
    job, run = prepared.job, prepared.run
    run.progress, run.say = terminal.progress, terminal.line
    _show_head(terminal, job, run)
    metrics = job.task.run(run)
    outcomes = compare(job.expect, metrics)
    terminal.metrics(metrics)
    for note in run.notes:
        terminal.line(note)
    terminal.outcomes(outcomes)
    terminal.line()
    terminal.line(f"Nothing of this is recorded. {reason(why)}")
    return Result(metrics, run.outputs, outcomes, wanted, run.plan, events=False)


def _show_head(terminal: Terminal, job: Job, run: Run) -> None:
    """The title, and the plan: whole where it is what the task is about."""
    whole = job.task.uses_data and not job.task.needs_torch
    terminal.plan(_title(job, run), run.plan, whole=whole)
    if job.task.needs_torch and (needed := job.memory(run.plan)) >= GIB:
        limit = f"memory_limit_gib is {job.memory_limit_gib:g}"
        terminal.line(f"takes about {readable_bytes(needed)} of memory ({limit})", "dim")


def _place(run: Run, job: Job) -> dict[str, Any]:
    if not job.task.needs_torch:
        return {"device": None, "threads": None}
    return computing(run.device)


def show_failure(
    job: Job, directory: Path, parameters: Mapping[str, Any], columns: Mapping[str, Column]
) -> None:
    """Show on the HParams page a job of a sweep that failed before it could begin."""
    tracker = _trackers(job, directory)
    tracker.hparams(parameters, columns)
    tracker.outcome(None)
    tracker.close()


def _trackers(job: Job, directory: Path) -> Trackers:
    vital, others = Files(directory), list[Tracker]()
    if job.tensorboard and job.task.needs_torch:
        from runner.tracking.tensorboard import TensorBoard

        try:
            others.append(TensorBoard(directory))
        except OSError as error:
            logger.warning("no event file: %s", error)
    return Trackers(vital, others)


def _title(job: Job, run: Run) -> str:
    count = job.data.count()
    many = f"{count} × " if count > 1 else ""
    parts = [job.task.kind]
    if job.task.uses_data:
        parts.append(f"{job.data.kind} {many}{run.plan.input}")
    if job.task.needs_torch:
        asked = " (auto)" if job.device == "auto" else ""
        parts.append(f"{run.device}{asked} {job.dtype}")
    return " · ".join([*parts, f"seed {job.seed}"])


def _log_head(tracker: Tracker, config: str, plan: Plan, command: str) -> None:
    tracker.text("command", f"    {command}")
    tracker.text("config", _code(config))
    tracker.text("plan", _code(str(plan)))


def _code(text: str) -> str:
    """Markdown that keeps lines and spaces as they are."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _log_metrics(
    tracker: Tracker,
    directory: Path,
    metrics: Mapping[str, Any],
    outcomes: Sequence[Outcome],
) -> None:
    expectations = [outcome.to_dict() for outcome in outcomes]
    write_json(directory / "metrics.json", {**metrics, "expectations": expectations})
    single = {
        f"metric/{name}": float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float)
    }
    tracker.scalars(single, 0)
    tracker.outcome(single)
    logger.info("metrics %s", json.dumps(list(metrics)))
    for outcome in outcomes:
        logger.info(
            "%s: expected %s: %s", outcome.metric, outcome.expected, outcome.failure or "holds"
        )


def reason(error: BaseException) -> str:
    """What ended a run, as its status.json says it."""
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    if isinstance(error, SystemExit):
        if error.code == HUNG_UP:
            return "SIGHUP"
        return "SIGTERM" if error.code == TERMINATED else f"exit with code {error.code}"
    if isinstance(error, ConfigError):
        return str(error)
    return f"{type(error).__name__}: {error}"
