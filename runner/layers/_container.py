"""What layers share that are made of layers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field as Limited
from pydantic import PrivateAttr, model_validator

from runner.chain import build_chain, plan_chain
from runner.config.errors import ConfigError, describe, did_you_mean, join, one_of, problem
from runner.config.spec import Menu, check
from runner.geometry import AnyShape, Field
from runner.layers import Layer
from runner.ops import Ops
from runner.plan import Row

if TYPE_CHECKING:
    import torch
    from torch import nn

MOST = 10_000
"""Layers that a container may unfold to; more is a slip of the keyboard."""


@dataclass(frozen=True)
class Inside:
    """What a container is made of, for one input.

    Attributes:
        rows: the layers inside.
        output: what the container gives.
        field: what one of its outputs sees of the stack's input.
        held: numbers per example that joining the layers' outputs takes, the output included
            where it is not one of theirs.
    """

    rows: tuple[Row, ...]
    output: AnyShape
    field: Field
    held: int = 0


class Container(Layer):
    """A layer made of layers; its figures are the sums of theirs."""

    @abstractmethod
    def inside(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Inside:
        """Plan what is inside, as `Layer.row` does.

        Raises:
            ConfigError: layers that don't fit together; paths start with `path`.
        """

    def count(self) -> int:
        """How many layers that compute there are inside."""
        return sum(_count(layer) for layer in self.children())

    @abstractmethod
    def children(self) -> list[Layer]:
        """The layers inside."""

    def output_shape(self, x: AnyShape) -> AnyShape:
        """The last row's, or what joins them."""
        return self.inside("", "", x, Field(), Ops()).output

    def row(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Row:
        """A row with the rows of what is inside."""
        inside = self.inside(name, path, x, field, ops)
        return Row(
            name=name,
            path=path,
            layer=self,
            input=x,
            output=inside.output,
            parameters=sum(row.parameters for row in inside.rows),
            cost=sum(row.cost for row in inside.rows),
            operations=sum(row.operations for row in inside.rows),
            workspace=inside.held,
            scratch=max(row.scratch for row in inside.rows),
            field=inside.field,
            inner=inside.rows,
        )

    def joiner(self) -> nn.Sequential | None:
        """The empty module that joins what is inside, if not one after the other."""
        return None

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """What is inside, joined; the modules have the names of the rows."""
        rows = self.inside("", "", x, Field(), ops).rows
        return build_chain(rows, ops, generator, self.joiner())


def _count(layer: Layer) -> int:
    return layer.count() if isinstance(layer, Container) else 1


def some(layers: Mapping[str, Any], field: str) -> None:
    """Check that a container holds something.

    Raises:
        ConfigError: it is empty.
    """
    if not layers:
        raise problem(field, "at least one entry", describe(layers))


class Chain(Container):
    """Layers one after the other under a name of their own.

    Attributes:
        layers: names to layers, in order.
    """

    layers: Annotated[dict[str, Layer], Menu("runner.layers", named=True)]

    @model_validator(mode="after")
    def _not_empty(self) -> Chain:
        some(self.layers, "layers")
        return self

    def children(self) -> list[Layer]:
        """The layers in order."""
        return list(self.layers.values())

    def inside(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Inside:
        """One after the other."""
        rows = plan_chain(self.layers, name, join(path, "layers"), x, field, ops)
        return Inside(rows, rows[-1].output, rows[-1].field)


class Repeated(Container):
    """Layers that are unfolded several times, numbered from 1.

    Attributes:
        times: how often; left out when `each` says so by its lists.
        each: parameters by name: a list with a value for each repetition. Where a field of a layer
            inside says ``$name``, it takes that value.
        layers: names to layers, in order.
    """

    times: Annotated[int, Limited(ge=1, le=1000)] | None = None
    each: dict[str, list[Any]] | None = None
    layers: dict[str, Any]
    _blocks: tuple[Chain, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _unfold(self) -> Repeated:
        some(self.layers, "layers")
        times, each = self._times(), self.each or {}
        _check_count(times * _unfolded(self.layers))
        # Without parameters all repetitions are the same: one will do.
        distinct = times if each else 1
        values = [{name: given[i] for name, given in each.items()} for i in range(distinct)]
        blocks = []
        for number, one in enumerate(values, 1):
            block, problems = check(Chain, {"kind": "block", "layers": _filled(self.layers, one)})
            if block is None:
                error = ConfigError(*problems)
                raise error.noting(f"In repetition {number} of {times}.") if one else error
            blocks.append(block)
        for name in each.keys() - _used(self.layers):
            expected = f"a parameter that a layer inside uses, as ${name}"
            raise problem(f"each.{name}", expected, "one that none uses")
        self._blocks = tuple(blocks * (times // distinct))
        _check_count(self.count())
        return self

    def _times(self) -> int:
        if self.each is None:
            if self.times is None:
                hint = "Or give each, parameters with a value for each repetition."
                raise problem("times", "how often to repeat", "nothing", hint)
            return self.times
        some(self.each, "each")
        lengths = {name: len(values) for name, values in self.each.items()}
        (first, wanted), *_ = lengths.items()
        for name, length in lengths.items():
            if not name.isidentifier():
                raise problem(f"each.{name}", "a name of letters, digits and _", f"'{name}'")
            if not length:
                raise problem(f"each.{name}", "at least one value", "[]")
            if length != wanted:
                expected = f"{wanted} values, as {first} has"
                raise problem(f"each.{name}", expected, f"{length}")
        if self.times not in (None, wanted):
            raise problem("times", f"{wanted}, the values of each", f"{self.times}")
        return wanted

    def children(self) -> list[Layer]:
        """The repetitions."""
        return list(self._blocks)

    def repetition(
        self, number: int, name: str, path: str, x: AnyShape, field: Field, ops: Ops
    ) -> Row:
        """The row of one repetition, counted from 1."""
        try:
            block = self._blocks[number - 1]
            return block.row(join(name, str(number)), path, x, field, ops)
        except ConfigError as error:
            raise error.noting(f"In repetition {number} of {len(self._blocks)}.") from None


def _check_count(layers: int) -> None:
    if layers > MOST:
        raise problem("layers", f"at most {MOST:,} layers in all", f"{layers:,}")


def _filled(value: Any, parameters: Mapping[str, Any], path: str = "layers") -> Any:
    """A config with every ``$name`` replaced by that parameter.

    Raises:
        ConfigError: there is no such parameter.
    """
    if isinstance(value, str) and value.startswith("$"):
        name = value[1:]
        if name not in parameters:
            known = [f"${known}" for known in parameters]
            expected = one_of(known) if known else "a value; there are no parameters without each"
            raise problem(path, expected, f"'{value}'", did_you_mean(value, known))
        return parameters[name]
    if isinstance(value, list):
        return [_filled(entry, parameters, path) for entry in value]
    if isinstance(value, dict):
        # In the layers of an inner repetition, its own parameters hide those of the one around it.
        own = value.get("each")
        hidden = {name: f"${name}" for name in own} if isinstance(own, dict) else {}
        return {
            key: _filled(
                entry,
                {**parameters, **hidden} if key == "layers" else parameters,
                join(path, str(key)),
            )
            for key, entry in value.items()
        }
    return value


def _used(value: Any) -> set[str]:
    """The names that appear as ``$name`` in a config."""
    if isinstance(value, str):
        return {value[1:]} if value.startswith("$") else set()
    if isinstance(value, dict):
        value = list(value.values())
    return {name for entry in value for name in _used(entry)} if isinstance(value, list) else set()


def _unfolded(layers: Any) -> int:
    """How many layers a config will at least unfold to; what isn't known yet counts once."""
    if not isinstance(layers, dict):
        return 1
    total = 0
    for layer in layers.values():
        inside = layer.get("layers", layer.get("branches")) if isinstance(layer, dict) else None
        if inside is None:
            total += 1
            continue
        times, each = layer.get("times"), layer.get("each")
        lists = [v for v in each.values() if isinstance(v, list)] if isinstance(each, dict) else []
        times = len(lists[0]) if lists else times if isinstance(times, int) else 1
        total += max(times, 1) * _unfolded(inside)
    return total
