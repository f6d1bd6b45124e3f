"""Which jobs of a sweep are done together, as one batched computation.

Jobs belong together when all that differs between them are numbers that their task takes run by
run (`Task.per_run`): seeds, learning rates, initial weights. What they are told is compared after
validation, when interpolations are resolved and defaults filled in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from math import ceil
from typing import Any

from runner.config.plain import join
from runner.config.spec import Spec
from runner.job import GIB, Job
from runner.plan import Plan

MOST = 128
"""Jobs in a group: each holds three open files, and systems allow as few as 1024."""

FREE = ("seed", "expect")
"""What may always differ: every run has its own generators, and is judged by itself."""

Key = tuple[Any, ...]


def groups(jobs: Sequence[Job], plans: Sequence[Plan]) -> list[list[int]]:
    """Which jobs to do together.

    Args:
        jobs: the jobs, validated.
        plans: one per job.

    Returns:
        Lists of positions, each ascending, ordered by their first; a job that is alone in its
        list is run by itself.
    """
    found: dict[Key, list[int]] = {}
    for i, (job, plan) in enumerate(zip(jobs, plans, strict=True)):
        key = _key(job, plan) if job.sweep.vectorize and job.task.per_run else (i,)
        found.setdefault(key, []).append(i)
    split = (part for alike in found.values() for part in _parts(jobs, plans, alike))
    return sorted(split, key=lambda part: part[0])


def _key(job: Job, plan: Plan) -> Key:
    """Equal for jobs that may be done together: what they share, and how their stacks are made."""
    shared = {
        path: value
        for path, value in _values(job, "")
        if not any(fnmatchcase(path, free) for free in (*FREE, *job.task.per_run))
    }
    # Weights that are given or drawn may come with a bias or without one.
    made = [(row.name, row.op, row.parameters, row.output) for row in plan.walk()]
    return (type(job.task), plan.input, plan.batch, repr(shared), repr(made))


def _values(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every value of a spec by its dotted name."""
    if isinstance(value, Spec):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _values(inner, join(path, str(name)))
    else:
        yield path, value


def _parts(jobs: Sequence[Job], plans: Sequence[Plan], alike: Sequence[int]) -> Iterator[list[int]]:
    """The same jobs in groups that are small enough, and as equal as can be."""
    count = ceil(len(alike) / _most(jobs[alike[0]], plans[alike[0]])) if len(alike) > 1 else 1
    size = ceil(len(alike) / count)
    for start in range(0, len(alike), size):
        yield list(alike[start : start + size])


def _most(job: Job, plan: Plan) -> int:
    """How many such jobs are done together, at most; 1 where they are better done one by one."""
    if job.task.apart(plan, job.stack, job.ops, job.device):
        return 1
    overhead = job.task.overhead(plan, job.stack, job.ops)
    each = plan.needed(job.data.count(), job.task.memory_factor, overhead)
    fitting = int(job.memory_limit_gib * GIB) // each
    return max(1, min(MOST, fitting))
