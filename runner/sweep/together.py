"""Which jobs of a sweep are done together, as one batched computation.

Jobs belong together when all that differs between them are numbers that their task takes run by
run (`Task.per_run`): seeds, learning rates, initial weights. What they are told is compared after
validation, when interpolations are resolved and defaults filled in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from math import ceil

from runner.config.errors import join
from runner.config.spec import Spec
from runner.job import GIB, Job
from runner.plan import Plan

MOST = 128
"""Jobs in a group: each holds up to four open files, and systems allow as few as 1024."""

FEW = 8
"""Jobs in a group, at least: a step for several takes as long as one for five by themselves."""

FREE = ("seed", "expect", "expect.*")
"""What may always differ: every run has its own generators, and is judged by itself."""


@dataclass(frozen=True)
class Kin:
    """What says which jobs a job can be done together with.

    Attributes:
        key: equal for such jobs: a hash of what they share.
        most: how many of them may be done at once.
        on_gpu: whether they are done together on a GPU only, and ``auto`` may find one.
    """

    key: str
    most: int
    on_gpu: bool = False


def kin(job: Job, plan: Plan) -> Kin | None:
    """What a job shares with those that it can be done together with; None: it is done alone."""
    if not (job.sweep.vectorize and job.task.per_run):
        return None
    # What `auto` finds, torch alone can tell, and here it isn't imported yet.
    auto = job.device == "auto"
    on_gpu = bool(job.task.apart(plan, job.stack, job.ops, "cpu" if auto else job.device))
    if on_gpu and (not auto or job.task.apart(plan, job.stack, job.ops, "cuda")):
        return None
    overhead = job.task.overhead(plan, job.stack, job.ops)
    each = plan.needed(job.data.count(), job.task.memory_factor, overhead)
    fitting = int(job.memory_limit_gib * GIB) // each
    return Kin(_key(job, plan), max(1, min(MOST, fitting)), on_gpu)


def groups(jobs: Sequence[Kin | None]) -> list[list[int]]:
    """Which jobs to do together; torch is imported where it matters whether there is a GPU.

    Args:
        jobs: of each what `kin` says.

    Returns:
        Lists of positions, each ascending, ordered by their first; a job that is alone in its
        list is run by itself.
    """
    found: dict[Kin | int, list[int]] = {}
    gpu = any(one is not None and one.on_gpu for one in jobs) and _gpu()
    for i, one in enumerate(jobs):
        key = i if one is None or (one.on_gpu and not gpu) else one
        found.setdefault(key, []).append(i)
    split = (
        part
        for one, alike in found.items()
        for part in _parts(one.most if isinstance(one, Kin) else 1, alike)
    )
    return sorted(split, key=lambda part: part[0])


def _gpu() -> bool:
    import torch

    return torch.cuda.device_count() > 0


def _parts(most: int, alike: Sequence[int]) -> Iterator[list[int]]:
    """The same jobs in groups of at most so many, as equal as can be; few, one by one."""
    count = ceil(len(alike) / most)
    sizes = [len(alike) // count + (i < len(alike) % count) for i in range(count)]
    if sizes[-1] < FEW:  # rather full groups, and a few jobs that are left
        sizes = [most] * (len(alike) // most) + [len(alike) % most]
    rest = iter(alike)
    for size in sizes:
        part = list(islice(rest, size))
        yield from [part] if size >= FEW else ([i] for i in part)


def _key(job: Job, plan: Plan) -> str:
    """A hash of what jobs share, and of how their stacks are made."""
    shared = {
        path: value
        for path, value in _values(job, "")
        if not any(fnmatchcase(path, free) for free in (*FREE, *job.task.per_run))
    }
    # Weights that are given or drawn may come with a bias or without one.
    made = [(row.name, row.op, row.parameters, row.output) for row in plan.walk()]
    text = repr((type(job.task), plan.input, plan.batch, shared, made))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _values(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Every value of a spec by its dotted name.

    Names that the user gave, such as a layer's, are in angle brackets: no pattern shall take the
    layer ``weighted`` for a weight.
    """
    if isinstance(value, Spec):
        for field in type(value).model_fields:
            yield from _values(getattr(value, field), join(path, field))
    elif isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _values(inner, join(path, f"<{name}>"))
    else:
        yield path, value
