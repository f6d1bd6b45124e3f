"""One file per task; this file is the contract they fulfil.

A task is a spec that says what to do with a stack and data. Everything it needs comes in one
object, a `Run`, which makes things when they are first asked for: a task that never asks for the
model never waits for torch. To add a task, add a file that defines one `Task`: ``kind: name``
finds ``runner/tasks/name.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from runner.config.errors import under
from runner.config.spec import Kind
from runner.data import Data, Images
from runner.ops import Ops
from runner.plan import Plan
from runner.stack import Stack
from runner.tracking import Tracker

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

Advance = Callable[[str], None]
"""Tells the progress bar that one more step is done, and what to show beside it."""


class Progress(Protocol):
    """Opens a progress bar: ``with run.progress(total, label) as advance``."""

    def __call__(self, total: int, label: str, done: int = 0, /) -> AbstractContextManager[Advance]:
        """A bar of `total` steps, `done` of which are."""


def no_progress(_total: int, _label: str, _done: int = 0, /) -> AbstractContextManager[Advance]:
    """The progress bar of a run that nobody watches."""
    return nullcontext(lambda _: None)


def unheard(_line: str, /) -> None:
    """What a run says that nobody watches."""


@dataclass
class Run:
    """Everything a task needs.

    Attributes:
        stack: the layers.
        data: where input comes from.
        ops: which operators compute.
        plan: the stack on the data's shape.
        device: where tensors live: ``cpu``, ``cuda:0`` …
        dtype: name of the numbers' type: ``float32`` …
        seed: of everything random.
        tracker: takes scalars, pictures and text.
        directory: where the task may write files.
        progress: opens a progress bar.
        say: shows a line at once.
        outputs: what the task leaves for the Python API, by layer name.
        notes: lines for the terminal at the end, in order.
    """

    stack: Stack
    data: Data
    ops: Ops
    plan: Plan
    device: str
    dtype: str
    seed: int
    tracker: Tracker
    directory: Path
    progress: Progress = no_progress
    say: Callable[[str], None] = unheard
    outputs: dict[str, NDArray[Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def images(self) -> Images:
        """The data as NumPy arrays.

        Raises:
            ConfigError: as `Data.load`, with the path ``data``.
        """
        return load(self.data)

    @cached_property
    def x(self) -> torch.Tensor:
        """The images as a tensor, n × c × h × w, on the run's device."""
        return self.tensor(self.images.x)

    def tensor(self, x: NDArray[Any]) -> torch.Tensor:
        """An array as a tensor, on the run's device and of its type."""
        import torch

        return torch.from_numpy(x).to(self.device, getattr(torch, self.dtype))

    @cached_property
    def generator(self) -> torch.Generator:
        """The source of all randomness; it draws on the CPU, so that devices agree."""
        import torch

        return torch.Generator().manual_seed(self.seed)

    @cached_property
    def model(self) -> nn.Sequential:
        """The stack as a torch module on the run's device."""
        import torch

        model = self.stack.build(self.plan, self.ops, self.generator)
        return model.to(self.device, getattr(torch, self.dtype))


@dataclass(frozen=True)
class Objective:
    """What ranks the runs of a sweep.

    Attributes:
        metric: its name.
        goal: whether less or more of it is better.
        otherwise: the metric to take, to the same goal, where a run doesn't have the first.
    """

    metric: str
    goal: Literal["min", "max"]
    otherwise: str | None = None

    def of(self, metrics: Mapping[str, Any]) -> float | None:
        """The number that ranks a run, if the run has it."""
        for name in (self.metric, self.otherwise):
            value = metrics.get(name) if name is not None else None
            if isinstance(value, int | float):
                return float(value)
        return None


def load(data: Data) -> Images:
    """A source's images; its problems are given the path ``data``."""
    with under("data"):
        return data.load()


class Task(Kind, ABC):
    """What to do, as YAML describes it.

    A run asks in this order: `batch` (to plan), `overhead`, `check` (nothing is made yet),
    `check_images` (these are loaded, torch and the directory aren't), `run`; one that is resumed,
    `reached` before `run`. Only `run` must be written.

    Attributes:
        needs_torch: whether the task computes; one that only plans is done before torch loads.
        needs_directory: whether the task has no use where nothing can be written; one without is
            done even there, and only shown.
        memory_factor: copies of everything planned that the task holds; learning keeps gradients.
        measures: names of all metrics that the task can have, between spaces; which of them it has
            may depend on the run. Empty: nobody knows before.
        picks_operators: whether the task computes by other operators than those of the run.
        showcase: tags of the pictures that say the most, best first; a report shows them. A tag
            that ends in ``/`` stands for all that begin with it.
        objective: what ranks the runs of a sweep, where the task has something like that.
        per_run: dotted names of the config, or patterns of them as in file names, in which runs
            that are done together may differ, besides ``seed``; a name that the user gave, such
            as a layer's, is in angle brackets there. Empty: each run by itself.
    """

    needs_torch: ClassVar[bool] = True
    needs_directory: ClassVar[bool] = True
    memory_factor: ClassVar[int] = 1
    measures: ClassVar[str] = ""
    picks_operators: ClassVar[bool] = False
    showcase: ClassVar[tuple[str, ...]] = ()
    objective: ClassVar[Objective | None] = None
    per_run: ClassVar[tuple[str, ...]] = ()

    @property
    def uses_data(self) -> bool:
        """Whether the data matter; the head of a run doesn't name data that don't."""
        return True

    def batch(self, count: int) -> int:
        """How many of the data's `count` images go through the stack at once."""
        return count

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """Bytes that the task needs besides what is planned; asked for before `check`.

        Raises:
            ConfigError: as `check`, where there is no answer.
        """
        return 0

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """Check what can be known from the plan alone, before anything is made.

        Raises:
            ConfigError: the stack or the data don't suit the task; paths are those of the config.
        """

    def check_images(self, images: Images, plan: Plan) -> None:
        """Check what can be known from the images, before torch is imported and anything written.

        Raises:
            ConfigError: the images don't suit the task; paths are those of the config.
        """

    def reached(self, directory: Path) -> int:
        """The step up to which a checkpoint in a run's directory goes, when that run is resumed.

        Returns:
            The step, or 0 when there is no checkpoint and the task will start anew.

        Raises:
            ConfigError: the checkpoint is damaged.
        """
        return 0

    @abstractmethod
    def run(self, run: Run) -> dict[str, Any]:
        """Do it.

        Returns:
            The metrics: names to numbers, nested lists of numbers, text, truths, or mappings of
            these. `expect` compares them, and single numbers are logged as ``metric/name``.
        """

    def apart(self, plan: Plan, stack: Stack, ops: Ops, device: str) -> list[str]:
        """Why runs of this task can't be done together, in plain words; empty when they can.

        Args:
            plan: the stack on the data's shape.
            stack: the layers.
            ops: which operators compute.
            device: as the config names it; where that is ``auto``, ``cpu`` is asked about, and
                ``cuda`` where that has reasons.
        """
        return ["this task does one run at a time"]

    @classmethod
    def run_together(
        cls, tasks: Sequence[Self], runs: Sequence[Run]
    ) -> list[dict[str, Any] | Exception]:
        """Do several runs in one batched computation; each gets all that it gets alone.

        Args:
            tasks: one per run; they and the runs differ in `per_run` and in the seed alone, and
                have no reason to be `apart`.
            runs: as `run` gets them, each with its own model, tracker and directory.

        Returns:
            Of each run its metrics, or what stopped it without stopping the others.

        Raises:
            KeyboardInterrupt: and SystemExit: after what was measured is written for every run.
        """
        raise NotImplementedError(f"{cls.__name__} does one run at a time")
