"""Prepare a planned job: load its images, find its device, build its model; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from runner import signals
from runner.config.errors import problem
from runner.data import Images
from runner.job import Job
from runner.plan import LARGEST_NUMBER, Plan
from runner.tasks import Run
from runner.tracking import Tracker


@dataclass(frozen=True)
class Prepared:
    """A job that is known to work as far as can be known before its directory exists."""

    job: Job
    plan: Plan
    run: Run


def prepare(job: Job, plan: Plan, images: Images | None = None) -> Prepared:
    """Load a planned job's images, find its device and build its model.

    Args:
        job: what to run.
        plan: of its stack.
        images: its data, where they are loaded already.

    Raises:
        ConfigError: the job can't run; nothing was written.
    """
    prepared = inspect(job, plan, images)
    build(prepared)
    return prepared


def inspect(job: Job, plan: Plan, images: Images | None = None) -> Prepared:
    """Load a planned job's images and let its task look at them; torch isn't imported for it.

    Raises:
        ConfigError: they can't be read, or don't suit the task.
    """
    run = Run(
        stack=job.stack,
        data=job.data,
        ops=job.ops,
        plan=plan,
        device="none",
        dtype=job.dtype,
        seed=job.seed,
        tracker=Tracker(),
        directory=Path(),
    )
    if images is not None:
        run.images = images
    if job.task.needs_torch:
        _check_range(run.images, job.dtype)
        job.task.check_images(run.images, plan)
    return Prepared(job, plan, run)


def _check_range(images: Images, dtype: str) -> None:
    """Refuse images that would be infinite in the run's type of number.

    Raises:
        ConfigError: the number farthest from zero.
    """
    low, high = float(images.x.min(initial=0)), float(images.x.max(initial=0))
    farthest, most = max(low, high, key=abs), LARGEST_NUMBER[dtype]
    if isfinite(farthest) and abs(farthest) > most:
        expected = f"numbers up to {most:.6g}, the most of {dtype}"
        raise problem("data", expected, f"{farthest:g}", "Use smaller ones, or dtype=float64.")


def build(prepared: Prepared) -> None:
    """Find the device and build the model of an inspected job.

    Raises:
        ConfigError: the device is absent, or can't compute it.
    """
    job, plan, run = prepared.job, prepared.plan, prepared.run
    if job.task.needs_torch:
        run.device = _set_up_torch(job)
        # Planned for the CPU where the device was left open; now it is known.
        job.stack.check_ops(plan, job.ops, job.dtype, run.device.partition(":")[0])
        _ = run.model


@contextmanager
def host_settings(job: Job) -> Iterator[None]:
    """Leave torch's process-wide settings as a notebook had them before the run."""
    if not job.task.needs_torch:
        yield
        return
    with signals.held():  # importing it may swallow them
        import torch

    from runner import exactness

    threads, state, settings = torch.get_num_threads(), torch.get_rng_state(), exactness.settings()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(state)
        exactness.restore(settings)


def _set_up_torch(job: Job) -> str:
    """Set threads, seed and exactness, and find the device."""
    import torch

    from runner import exactness

    device = job.resolve_device()
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    _seed(job.seed, device)
    exactness.be_exact()
    return device


def _seed(seed: int, device: str) -> None:
    """Seed the generators that are used.

    ``torch.manual_seed`` also notes, with a traceback, the seed of every kind of device that isn't
    in use: memory that would grow with each job of a sweep.
    """
    import torch

    torch.default_generator.manual_seed(seed)
    if not device.startswith("cpu"):
        torch.manual_seed(seed)
