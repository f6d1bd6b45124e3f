"""Jobs without a command line and runs without a directory: quick enough for hundreds of seeds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.config.compose import Composer
from runner.config.plain import plain
from runner.job import Job
from runner.tasks import Run, Task
from runner.tracking import Tracker


def composed(*words: str) -> Job:
    """The job that these words on the command line stand for."""
    with Composer() as composer:
        return Job.parse(plain(composer.compose(words).config))


def bare_run(
    task: dict[str, Any],
    layers: dict[str, Any],
    data: dict[str, Any],
    *,
    seed: int = 0,
    dtype: str = "float32",
) -> tuple[Task, Run]:
    """The task, and what it needs; `task.run(run)` gives the metrics.

    Raises:
        ConfigError: as a run from the command line.
    """
    raw = {"task": task, "stack": {"layers": layers}, "data": data, "seed": seed, "dtype": dtype}
    job = Job.parse(raw)
    plan = job.plan()
    run = Run(job.stack, job.data, job.ops, plan, "cpu", job.dtype, seed, Tracker(), Path())
    job.task.check_images(run.images, plan)
    return job.task, run
