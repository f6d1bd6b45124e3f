"""Jobs of a sweep that have begun and are computed together: each has its own log and time."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from runner import signals
from runner.config.hydra_job import logged_by
from runner.execute import Execution
from runner.sweep.manifest import Planned


@dataclass(frozen=True)
class Member:
    """A job that has begun.

    Attributes:
        job: which.
        execution: in its own directory.
        log: what writes its log.
    """

    job: Planned
    execution: Execution
    log: list[logging.Handler]


@dataclass
class Group:
    """Jobs that have begun; in a ``with`` statement, what ends it early ends all of them.

    Attributes:
        members: in order.
    """

    members: list[Member] = field(default_factory=list)

    def add(self, job: Planned, execution: Execution, log: list[logging.Handler]) -> None:
        """A job has begun; while others do, its time stands still."""
        execution.counts(0)
        self.members.append(Member(job, execution, log))

    def run(self) -> list[dict[str, Any] | Exception]:
        """The metrics of each, or what stopped that one alone.

        What is logged meanwhile is said of all of them, and goes to the log of each.
        """
        executions = [one.execution for one in self.members]
        tasks = [one.prepared.job.task for one in executions]
        for one in executions:
            one.together = len(executions)
            one.counts(1 / len(executions))
        with logged_by(self._logs()), signals.heard():
            outcomes = type(tasks[0]).run_together(tasks, [one.prepared.run for one in executions])
        for one in executions:
            one.counts(0)
        return outcomes

    def _logs(self) -> list[logging.Handler]:
        """All files, and once whatever else there is, such as the terminal."""
        first, *others = (one.log for one in self.members)
        files = [one for log in others for one in log if isinstance(one, logging.FileHandler)]
        return [*first, *files]

    def __enter__(self) -> Group:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            return
        for one in self.members:
            with logged_by(one.log):
                one.execution.stop(error)
