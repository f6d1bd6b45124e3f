"""The table of a stack: what each layer gives and costs, known before torch is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

from runner.config.errors import problem
from runner.geometry import AnyShape, Field, Pair, Shape, elements
from runner.ops import Ops
from runner.readable import readable_bytes, readable_count

if TYPE_CHECKING:
    from runner.layers import Layer

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}

LARGEST_NUMBER = {
    "float64": (2 - 2.0**-52) * 2.0**1023,
    "float32": (2 - 2.0**-23) * 2.0**127,
    "bfloat16": (2 - 2.0**-7) * 2.0**127,
    "float16": (2 - 2.0**-10) * 2.0**15,
}
"""The largest finite number of each type."""


@dataclass(frozen=True)
class Row:
    """One layer of a planned stack.

    Attributes:
        name: of the layer in the model, dotted inside containers: ``stages.2.conv``.
        path: of the layer in the config: ``stack.layers.stages.layers.conv``.
        layer: what YAML says of it.
        input: shape of what comes in, without the batch.
        output: shape of what goes out.
        parameters: numbers that the layer holds.
        cost: multiply-adds of one forward pass over one example.
        operations: those, and the numbers that pooling compares or adds.
        workspace: numbers held besides per example; of a container, without its inner layers'.
        scratch: numbers that the operator holds per example only while it computes.
        field: what one output sees of the stack's input.
        op: the operator that computes it, or nothing.
        inner: the rows of a container's layers; its own figures include theirs.
    """

    name: str
    path: str
    layer: Layer
    input: AnyShape
    output: AnyShape
    parameters: int
    cost: int
    operations: int
    workspace: int
    scratch: int
    field: Field
    op: str = ""
    inner: tuple[Row, ...] = ()

    @property
    def kind(self) -> str:
        """Which kind of layer it is."""
        return self.layer.kind

    def walk(self) -> Iterator[Row]:
        """This row, then all inside it, in order."""
        yield self
        for row in self.inner:
            yield from row.walk()

    @property
    def receptive_field(self) -> tuple[int, int] | None:
        """Height and width of the input that one output sees; None for all of it."""
        rows, columns = self.field.axes()
        return (rows.size, columns.size) if rows and columns else None

    @property
    def effective_stride(self) -> tuple[Fraction, Fraction] | None:
        """Input pixels between neighbouring outputs, down and across; None after flatten."""
        rows, columns = self.field.axes()
        return (rows.jump, columns.jump) if rows and columns else None


@dataclass(frozen=True)
class Plan:
    """A stack on an input.

    Attributes:
        input: shape of one example.
        rows: the layers.
        batch: examples per pass.
        dtype: the numbers' type.
    """

    input: Shape
    rows: tuple[Row, ...]
    batch: int = 1
    dtype: str = "float32"

    def walk(self) -> Iterator[Row]:
        """Every row, a container before what is inside it."""
        for row in self.rows:
            yield from row.walk()

    def leaves(self) -> Iterator[Row]:
        """The layers that compute: every row but the containers'."""
        return (row for row in self.walk() if not row.inner)

    @property
    def output(self) -> AnyShape:
        """Shape of what the stack gives for one example."""
        return self.rows[-1].output if self.rows else self.input

    @property
    def parameters(self) -> int:
        """Numbers that the stack holds."""
        return sum(row.parameters for row in self.rows)

    @property
    def cost(self) -> int:
        """Multiply-adds of one forward pass over one example."""
        return sum(row.cost for row in self.rows)

    @property
    def operations(self) -> int:
        """Multiply-adds, and the numbers that pooling compares or adds, for one example."""
        return sum(row.operations for row in self.rows)

    @property
    def field(self) -> Field:
        """What one output of the whole stack sees of its input."""
        return self.rows[-1].field if self.rows else Field()

    @property
    def receptive_field(self) -> tuple[int, int] | None:
        """Of the last layer that has positions: a head that sees everything says nothing of it."""
        return _last_field(self.rows) or (1, 1)

    def bytes(self, row: Row) -> int:
        """Memory of a layer: its output for the whole batch, its parameters, its workspace.

        Of a container: that of the layers inside, and what joining them takes.
        """
        held, once = row.workspace, 0
        if not row.inner:
            held, once = held + elements(row.output), row.parameters
        own = ITEM_BYTES[self.dtype] * (self.batch * held + once)
        return own + sum(map(self.bytes, row.inner))

    @property
    def memory(self) -> int:
        """Bytes of the input and of every layer, all outputs kept, as every task keeps them."""
        return self.input_bytes + sum(map(self.bytes, self.rows))

    @property
    def input_bytes(self) -> int:
        """Memory of the input for the whole batch."""
        return ITEM_BYTES[self.dtype] * self.batch * elements(self.input)

    def needed(self, images: int = 1, factor: int = 1, overhead: int = 0) -> int:
        """Bytes that the work takes.

        Counted are the plan's own memory, the images as they are loaded (double precision, with
        their regions), the largest operator's scratch, and what the task adds.

        Args:
            images: how many the data have; all are loaded, at most `batch` are computed at once.
            factor: copies of everything that the task holds; learning holds gradients too.
            overhead: bytes that the task needs besides.
        """
        loaded = 16 * max(images, self.batch) * elements(self.input)
        scratch = max((row.scratch for row in self.leaves()), default=0)
        scratch *= ITEM_BYTES[self.dtype] * self.batch
        return factor * (self.memory + scratch) + loaded + overhead

    def check_memory(self, limit: int, images: int = 1, factor: int = 1, overhead: int = 0) -> None:
        """Refuse work that takes more than `limit` bytes, before anything is allocated.

        Raises:
            ConfigError: the largest layer, its numbers, and the fix; where an operator takes the
                memory and others don't, those.
        """
        needed = self.needed(images, factor, overhead)
        if needed <= limit:
            return
        if 2 * overhead > needed:
            raise problem(
                "data",
                f"an input for which the task fits into memory_limit_gib ({readable_bytes(limit)})",
                f"{readable_bytes(needed)}, most of it the task's own, for inputs of {self.input}",
                "Use smaller sizes, or raise memory_limit_gib.",
            )
        self._check_operators(needed, limit, factor)
        many = f" × batch {self.batch}" if self.batch > 1 else ""
        path, held, what = "data", "", f"{self.input} inputs"
        largest = max(self.leaves(), key=self.bytes, default=None)
        # Where the input is about as large as any layer, it is what makes them so.
        if largest is not None and self.bytes(largest) > 4 * self.input_bytes:
            path, what = largest.path, f"{largest.output} outputs"
            held = f"{largest.parameters:,} parameters, "
        kept = f", {factor} copies" if factor > 1 else ""
        raise problem(
            path,
            f"a stack that fits into memory_limit_gib ({readable_bytes(limit)})",
            f"{readable_bytes(needed)}{kept}, most of it here ({held}{what}{many})",
            "Use smaller sizes, or raise memory_limit_gib.",
        )

    def _check_operators(self, needed: int, limit: int, factor: int) -> None:
        """Refuse an operator whose own memory is too much, if others can do with less."""
        row = max(self.leaves(), key=self.operator_bytes, default=None)
        if row is None or not row.op:
            return
        own = self.operator_bytes(row)
        fitting = [
            name
            for name, layer in row.layer.operators(row.input, Ops(), self.dtype, "cpu")
            if needed - factor * (own - self._held_bytes(layer, row.input)) <= limit
        ]
        if fitting:
            raise problem(
                f"{row.path}.ops",
                f"an operator that fits into memory_limit_gib ({readable_bytes(limit)}): "
                + ", ".join(fitting),
                f"'{row.op}', which holds {readable_bytes(own)} besides input and output",
                "Or use smaller sizes, or raise memory_limit_gib.",
            )

    def operator_bytes(self, row: Row) -> int:
        """What a layer's operator holds besides input, output and parameters, for the batch."""
        return ITEM_BYTES[self.dtype] * self.batch * (row.workspace + row.scratch)

    def _held_bytes(self, layer: Layer, x: AnyShape) -> int:
        numbers = layer.workspace(x, Ops()) + layer.scratch(x, Ops())
        return ITEM_BYTES[self.dtype] * self.batch * numbers

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for plan.json and metrics."""
        return {
            "input": list(self.input.dims),
            "output": list(self.output.dims),
            "batch": self.batch,
            "dtype": self.dtype,
            "parameters": self.parameters,
            "multiply_adds": self.cost,
            "receptive_field": _listed(self.receptive_field),
            "memory_bytes": self.memory,
            "operations": self.operations,
            "layers": [self._to_dict(row) for row in self.rows],
        }

    def _to_dict(self, row: Row) -> dict[str, Any]:
        inner = {"layers": [self._to_dict(one) for one in row.inner]} if row.inner else {}
        return {
            "name": row.name,
            "kind": row.kind,
            "input": list(row.input.dims),
            "output": list(row.output.dims),
            "parameters": row.parameters,
            "multiply_adds": row.cost,
            "receptive_field": _listed(row.receptive_field),
            "effective_stride": _listed(row.effective_stride),
            "memory_bytes": self.bytes(row),
            "op": row.op or None,
            "operator_bytes": self.operator_bytes(row),
            **inner,
        }

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        rows = [HEADINGS, *columns(self)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if heading in LEFT else cell.rjust(width)
                for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
            ).rstrip()
            for row in rows
        )


def hungry(plan: Plan) -> list[str]:
    """What operators hold besides input and output, where that is a lot more than those."""
    lines = []
    for row in plan.leaves():
        held, plain = plan.operator_bytes(row), elements(row.input) + elements(row.output)
        if held >= max(4 * plan.batch * ITEM_BYTES[plan.dtype] * plain, 2**20):
            lines.append(f"{row.name}: {row.op} holds {readable_bytes(held)} while it computes")
    return lines


HEADINGS = ("layer", "kind", "output", "params", "mult-adds", "field", "stride", "memory", "op")
LEFT = ("layer", "kind", "op")
"""Columns of words; the others are numbers, and set to the right."""


def columns(plan: Plan, lines: int | None = None) -> list[tuple[str, ...]]:
    """The plan as text cells under `HEADINGS`: the input, a line per layer, the totals.

    Args:
        plan: the plan.
        lines: show containers as one line where the table would have more lines than this.
    """
    memory = readable_bytes(plan.input_bytes)
    first = ("input", "", str(plan.input), "", "", "", "", memory, "")
    rows = list(_indented(plan.rows))
    deepest = max((depth for depth, _ in rows), default=0)
    while lines is not None and len(rows) > lines and deepest:
        deepest -= 1
        rows = [(depth, row) for depth, row in rows if depth <= deepest]
    shown = [
        (
            "  " * depth + row.name.rpartition(".")[2],
            row.kind,
            str(row.output),
            f"{row.parameters:,}" if row.parameters else "",
            readable_count(row.cost) if row.cost else "",
            _by(row.receptive_field),
            _by(row.effective_stride),
            readable_bytes(plan.bytes(row)),
            row.op,
        )
        for depth, row in rows
    ]
    last = (
        "total",
        "",
        str(plan.output),
        f"{plan.parameters:,}",
        readable_count(plan.cost),
        _by(plan.receptive_field),
        "",
        readable_bytes(plan.memory),
        "",
    )
    return [first, *shown, last]


def _indented(rows: Sequence[Row], depth: int = 0) -> Iterator[tuple[int, Row]]:
    for row in rows:
        yield depth, row
        yield from _indented(row.inner, depth + 1)


def _last_field(rows: Sequence[Row]) -> Pair | None:
    """The field of the last row that has positions, a container before what is inside it."""
    for row in reversed(rows):
        found = row.receptive_field or _last_field(row.inner)
        if found:
            return found
    return None


def _by(pair: tuple[int, int] | tuple[Fraction, Fraction] | None) -> str:
    if pair is None:
        return "all"
    texts = [str(n) if n == int(n) else f"{float(n):.2f}" for n in pair]
    return "×".join(texts)


def _listed(pair: tuple[int, int] | tuple[Fraction, Fraction] | None) -> list[float] | None:
    return None if pair is None else [int(n) if n == int(n) else float(n) for n in pair]
