"""The cases of a benchmark: one conv or pool layer each, on an input of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator

from runner import menu
from runner.config.errors import ConfigError, Problem, describe, did_you_mean, one_of, problem
from runner.config.fields import integers, refuse
from runner.config.spec import Menu, Spec, check
from runner.geometry import AnyShape, Field, Shape, elements
from runner.layers import Layer
from runner.ops import PACKAGE, Ops
from runner.plan import ITEM_BYTES, Plan, Row
from runner.readable import readable_bytes, readable_count

KINDS = ("conv", "pool")
"""Layers that operators compute."""
DOUBLE = ITEM_BYTES["float64"]


def _input(value: object) -> tuple[int, ...]:
    expected = "[examples, channels, height, width]"
    if not isinstance(value, list | tuple):
        refuse(expected, describe(value))
    return tuple(integers(value, (4,), 1, expected))


class Given(Spec):
    """A case as YAML describes it.

    Attributes:
        input: examples, channels, height and width.
        layer: a conv or pool layer, with the fields that it has in a stack.
    """

    input: Annotated[tuple[int, int, int, int], BeforeValidator(_input)]
    layer: Annotated[Layer, Menu("runner.layers")]


def _given(value: object) -> object:
    """Read the cases one by one, so that a problem is told by its case's path."""
    if value is None:
        return None
    if not isinstance(value, dict) or not value:
        got = "none" if value == {} else describe(value)
        raise problem("", "a mapping from names to cases, or null for the stack's layers", got)
    cases: dict[str, Given] = {}
    problems: list[Problem] = []
    for name, raw in value.items():
        if not (isinstance(name, str) and re.fullmatch(r"\w[\w-]*", name)):
            rule = "a name of letters, digits, _ and -"
            problems.append(Problem(str(name), rule, describe(name)))
            continue
        case, found = check(Given, raw, name)
        problems += found
        if case is None:
            continue
        if case.layer.kind not in KINDS:
            problems.append(Problem(f"{name}.layer.kind", one_of(KINDS), f"'{case.layer.kind}'"))
        elif getattr(case.layer, "ops", None) is not None:
            hint = "task.ops says which operators are measured."
            problems.append(Problem(f"{name}.layer.ops", "nothing", "an operator", hint))
        else:
            cases[name] = case
    if problems:
        raise ConfigError(*problems)
    return cases


Cases = Annotated[dict[str, Given] | None, BeforeValidator(_given)]
"""``{edge: {input: [1, 1, 512, 512], layer: {kind: conv, channels: 1, kernel: 3}}}``."""


@dataclass(frozen=True)
class Case:
    """One layer on one input.

    Attributes:
        name: what it is called.
        path: of the layer in the config.
        batch: examples in the input.
        layer: the layer; its own choice of an operator is not asked for.
        x: shape of one example.
        y: shape of one output.
        dtype: of all numbers.
    """

    name: str
    path: str
    batch: int
    layer: Layer
    x: Shape
    y: Shape
    dtype: str

    def planned(self, op: str, ops: Ops) -> Row:
        """The layer as it would be in a stack, computed by an operator.

        Raises:
            ConfigError: the operator has no such computation at all.
        """
        return self.with_op(op).row(self.name, self.path, self.x, Field(), ops)

    def with_op(self, op: str) -> Layer:
        """The layer, computed by an operator."""
        return self.layer.model_copy(update={"ops": op})

    def unsupported(self, op: str, ops: Ops, device: str) -> list[str]:
        """Why an operator can't compute it; empty when it can."""
        try:
            return self.with_op(op).unsupported(self.x, ops, self.dtype, device)
        except ConfigError:  # poolings have no fft
            return [f"it has no {'pooling' if self.layer.kind == 'pool' else 'convolution'}"]

    @property
    def geometry(self) -> Any:
        """The layer's window."""
        layer: Any = self.layer  # conv or pool
        return layer.geometry(self.x)

    @property
    def parameters(self) -> int:
        """Numbers that the layer holds."""
        return self.layer.parameters(self.x)

    @property
    def numbers(self) -> int:
        """Of input, weights and output, each read or written once."""
        return self.batch * (elements(self.x) + elements(self.y)) + self.parameters

    @property
    def operations(self) -> int:
        """Additions and multiplications of a forward pass; of pooling, numbers looked at."""
        cost = 2 * self.layer.cost(self.x) or self.layer.operations(self.x)
        return self.batch * cost

    def bytes(self, op: str, ops: Ops) -> int:
        """Memory that measuring an operator may take.

        Input, output and both gradients, those again in double precision twice, to compare with,
        and what the operator holds.
        """
        row = self.planned(op, ops)
        held = self.numbers * (2 * ITEM_BYTES[self.dtype] + 4 * DOUBLE)
        return held + self.workspace(row)

    def workspace(self, row: Row) -> int:
        """Bytes that an operator says it needs besides input and output."""
        return self.batch * (row.workspace + row.scratch) * ITEM_BYTES[self.dtype]

    def __str__(self) -> str:
        """``conv 3×3 padding 1 · 1×1×512×512 → 1×512×512 · 2.4 M mult-adds``."""
        cost = self.layer.cost(self.x)
        work = f"{readable_count(self.batch * cost)} mult-adds" if cost else self._looked_at()
        return f"{self.window} · {self.batch}×{self.x} → {self.y} · {work}"

    def _looked_at(self) -> str:
        return f"{readable_count(self.operations)} numbers looked at"

    @property
    def window(self) -> str:
        """``conv 3×3 stride 2 padding 1``."""
        layer: Any = self.layer
        geometry = self.geometry
        words = [layer.kind]
        if layer.kind == "pool":
            words = [f"{layer.mode} pool"]
            if geometry.output is not None:
                return f"{words[0]} to {_by(geometry.output)}"
        words.append(_by(geometry.kernel))
        stride = (1, 1) if layer.kind == "conv" else geometry.kernel
        if geometry.stride != stride:
            words.append(f"stride {_by(geometry.stride)}")
        if any(geometry.padding):
            sides = geometry.padding
            words.append("padding " + ",".join(map(str, sides[: 1 if len(set(sides)) == 1 else 4])))
        if getattr(geometry, "dilation", (1, 1)) != (1, 1):
            words.append(f"dilation {_by(geometry.dilation)}")
        if (groups := getattr(geometry, "groups", 1)) > 1:
            words.append("depthwise" if groups == self.x.channels else f"groups {groups}")
        return " ".join(words)


def _by(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def cases(given: Mapping[str, Given] | None, plan: Plan, only: Sequence[str] | None) -> list[Case]:
    """The cases to measure.

    Args:
        given: those of the task; None for the stack's layers.
        plan: of the stack.
        only: patterns of names, ``edge-*``; None for all.

    Raises:
        ConfigError: none is there, a pattern matches none, or a layer doesn't fit its input.
    """
    found = list(_from_stack(plan) if given is None else _from_task(given, plan.dtype))
    if not found:
        raise problem(
            "stack.layers",
            "a conv or pool layer, which operators compute",
            "none",
            "Choose a stack, as in stack=lenet, or give task.cases.",
        )
    if only is None:
        return found
    names = [case.name for case in found]
    problems = [
        Problem(
            f"task.only[{i}]",
            f"a name or a pattern that matches {one_of(names)}",
            f"'{pattern}'",
            did_you_mean(pattern.strip("*"), names),
        )
        for i, pattern in enumerate(only)
        if not any(fnmatchcase(name, pattern) for name in names)
    ]
    if problems:
        raise ConfigError(*problems)
    return [case for case in found if any(fnmatchcase(case.name, one) for one in only)]


def _from_stack(plan: Plan) -> Iterator[Case]:
    for row in plan.leaves():
        if row.kind in KINDS and isinstance(row.input, Shape):
            yield _case(row.name, row.path, plan.batch, row.layer, row.input, row.output, plan)


def _from_task(given: Mapping[str, Given], dtype: str) -> Iterator[Case]:
    problems: list[Problem] = []
    for name, one in given.items():
        n, *sizes = one.input
        x, path = Shape(*sizes), f"task.cases.{name}.layer"
        try:
            row = one.layer.row(name, path, x, Field(), Ops())
        except ConfigError as error:
            problems += error.problems
            continue
        yield _case(name, path, n, one.layer, x, row.output, Plan(x, (), n, dtype))
    if problems:
        raise ConfigError(*problems)


def _case(
    name: str, path: str, batch: int, layer: Layer, x: Shape, y: AnyShape, plan: Plan
) -> Case:
    assert isinstance(y, Shape)  # of conv and pool layers
    return Case(name, path, batch, layer, x, y, plan.dtype)


def contenders(
    case: Case, asked: Sequence[str] | None, ops: Ops, device: str, limit: int
) -> tuple[list[str], dict[str, str]]:
    """Which operators to measure on a case; native, the yardstick, is always the first.

    Args:
        case: the case.
        asked: operators by name; None for all but `loops`, which would take hours.
        ops: the run's operators.
        device: ``cpu``, ``cuda`` …
        limit: bytes that measuring one may take.

    Returns:
        Their names, and why others are left out that were asked for, or that could but for memory.
    """
    names = [name for name in menu.names(PACKAGE) if name != "loops"] if asked is None else asked
    able: list[str] = ["native"]
    left_out: dict[str, str] = {}
    for name in names:
        if name == "native":
            continue
        if reasons := case.unsupported(name, ops, device):
            left_out |= {name: "; ".join(reasons)} if asked else {}
        elif (needed := case.bytes(name, ops)) > limit:
            left_out[name] = f"measuring it may take {readable_bytes(needed)}"
        else:
            able.append(name)
    return able, left_out
