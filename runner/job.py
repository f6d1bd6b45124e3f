"""A job: one validated run, from the composed config to the plan; nothing is computed yet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, model_validator
from pydantic import Field as Limited

from runner.config.errors import (
    ConfigError,
    Problem,
    did_you_mean,
    join,
    one_of,
    problem,
    under,
)
from runner.config.fields import refuse
from runner.config.spec import Menu, Spec, check
from runner.data import Data
from runner.expect import Expect
from runner.ops import Auto, Ops
from runner.plan import LARGEST_NUMBER, Plan
from runner.stack import Stack
from runner.tasks import Objective, Task

GIB = 2**30


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", name):
        hint = did_you_mean(name, ("auto", "cpu", "cuda", "mps"))
        refuse("auto, cpu, cuda, cuda:0 (1, 2 …) or mps", f"'{name}'", hint)
    return name


class Ranking(Spec):
    """What ranks the jobs of a sweep, as YAML says it: the fields of `Objective`."""

    metric: str
    goal: Literal["min", "max"]


class Sweep(Spec):
    """How the jobs of a sweep are run; a single run has no use for it.

    Attributes:
        vectorize: learn jobs that differ only in numbers together, where that is faster.
        on_invalid: what to do about jobs whose config is wrong: start none, or skip them. Those
            that are skipped don't change the exit code.
        on_error: whether other jobs start when one has failed. Jobs that are being learned
            together with it are finished.
        resume: the directory of a sweep to take up again.
        objective: what ranks the jobs; default: what the task says.
    """

    vectorize: bool = True
    on_invalid: Literal["refuse", "skip"] = "refuse"
    on_error: Literal["continue", "stop"] = "continue"
    resume: str | None = None
    objective: Ranking | None = None


class Job(Spec):
    """Everything a run is told.

    Attributes:
        task: what to do.
        stack: the layers.
        data: where input comes from.
        ops: which operators compute.
        device: ``auto`` (the best there is), ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: type of all numbers.
        seed: of everything random.
        threads: of torch on the CPU; null is torch's own choice.
        memory_limit_gib: what the plan may need, in GiB; more is refused.
        tensorboard: whether an event file is written.
        expect: what the metrics must be.
        sweep: how a sweep is run.
    """

    task: Annotated[Task, Menu("runner.tasks")]
    stack: Stack
    data: Annotated[Data, Menu("runner.data")]
    ops: Ops = Ops()
    device: Annotated[str, AfterValidator(_device)] = "auto"
    dtype: Literal["float32", "float64", "bfloat16", "float16"] = "float32"
    seed: Annotated[int, Limited(ge=0, lt=2**63)] = 0
    threads: Annotated[int, Limited(ge=1, le=1024)] | None = None
    memory_limit_gib: Annotated[float, Limited(gt=0, le=2**20)] = 4.0
    tensorboard: bool = True
    expect: Expect = Limited(default_factory=dict)
    sweep: Sweep = Sweep()

    @model_validator(mode="after")
    def _measures_what_is_expected(self) -> Job:
        self._check_measured({f"expect.{name}": name for name in self.expect})
        return self

    def _check_measured(self, asked: Mapping[str, str]) -> None:
        """Refuse names of metrics that the task can't have.

        Raises:
            ConfigError: which, by their paths.
        """
        known = self.task.measures.split()
        problems = [
            Problem(path, one_of(known), f"'{name}'", did_you_mean(name, known))
            for path, name in asked.items()
            if known and name not in known
        ]
        if problems:
            raise ConfigError(*problems)

    @staticmethod
    def parse(raw: dict[str, Any]) -> Job:
        """Validate a composed config.

        Raises:
            ConfigError: with every problem there is.
        """
        job, problems = check(Job, raw)
        if job is None:
            raise ConfigError(*problems)
        return job

    def objective(self) -> Objective | None:
        """What ranks this job among others: what the config says, or else the task."""
        asked = self.sweep.objective
        return self.task.objective if asked is None else Objective(asked.metric, asked.goal)

    def plan(self) -> Plan:
        """Plan the stack on the data, and check all that can be known without torch.

        Raises:
            ConfigError: shapes that don't fit, too much memory, data that isn't there.
        """
        with under("data"):
            shape, count = self.data.shape(), self.data.count()
        plan = self.stack.plan(shape, self.ops, self.task.batch(count), self.dtype)
        if self.sweep.objective is not None:
            self._check_measured({"sweep.objective.metric": self.sweep.objective.metric})
        self._check_auto(plan)
        self._check_range(plan)
        limit = int(self.memory_limit_gib * GIB)
        overhead = self.task.overhead(plan, self.stack, self.ops)
        plan.check_memory(limit, count, self.task.memory_factor, overhead)
        device = "cpu" if self.device == "auto" else self.device.partition(":")[0]
        self.stack.check_ops(plan, self.ops, self.dtype, device)
        self.task.check(plan, self.stack, self.ops)
        return plan

    def memory(self, plan: Plan) -> int:
        """Bytes that the run takes, besides those of Python and its libraries."""
        overhead = self.task.overhead(plan, self.stack, self.ops)
        return plan.needed(self.data.count(), self.task.memory_factor, overhead)

    def _check_auto(self, plan: Plan) -> None:
        """Refuse settings of `auto` where nothing is computed by it.

        Raises:
            ConfigError: which setting.
        """
        used = {self.ops.conv, self.ops.pool, *(row.op for row in plan.leaves())}
        set_to = {k: v for k, v in self.ops.auto if v != getattr(Auto(), k)}
        if set_to and "auto" not in used and not self.task.picks_operators:
            path = f"ops.auto.{next(iter(set_to))}"
            hint = "Choose it: ops=auto, or ops: auto in a layer."
            raise problem(path, "the operator auto to be in use", ", ".join(sorted(used)), hint)

    def _check_range(self, plan: Plan) -> None:
        """Refuse given weights that would be infinite in the run's type of number.

        Raises:
            ConfigError: of which layer.
        """
        most = LARGEST_NUMBER[self.dtype]
        for row in plan.leaves():
            for name, number in row.layer.given().items():
                if abs(number) > most:
                    expected = f"numbers up to {most:.6g}, the most of {self.dtype}"
                    hint = "Use smaller ones, or dtype=float64."
                    raise problem(join(row.path, name), expected, f"{number:g}", hint)

    def resolve_device(self) -> str:
        """The device that is there: ``auto`` becomes the best one.

        Raises:
            ConfigError: the device asked for is absent; the answer lists those that are there.
        """
        import torch

        present = ["cpu"]
        if torch.backends.mps.is_available():
            present.insert(0, "mps")
        present[:0] = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        if self.device == "auto":
            # Apple's devices lack double precision.
            return present[0] if (present[0], self.dtype) != ("mps", "float64") else "cpu"
        if (self.device, self.dtype) == ("mps", "float64"):
            raise problem("dtype", "float32 or narrower on mps", "'float64'", "Use device=cpu.")
        wanted = "cuda:0" if self.device == "cuda" else self.device
        if wanted not in present:
            raise problem(
                "device",
                "a device of this machine (" + ", ".join(present) + ")",
                f"'{self.device}'",
                "device=auto takes the best one.",
            )
        return wanted
