"""Parallel: branches that all see the same input, their channels concatenated (GoogLeNet)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import model_validator

from runner.chain import plan_chain
from runner.config.errors import join, problem
from runner.config.spec import Menu
from runner.geometry import AnyShape, Features, Field, Shape, elements
from runner.layers import Layer
from runner.layers._container import Container, Inside, some
from runner.ops import Ops

if TYPE_CHECKING:
    from torch import nn


class Parallel(Container):
    """Szegedy et al. 2015: the inception block.

    Attributes:
        branches: names to layers, in the order of their channels in the output. A branch of
            several layers is a ``block``; one that passes its input on is
            ``{kind: activation, function: identity}``.
    """

    branches: Annotated[dict[str, Layer], Menu("runner.layers", named=True)]

    @model_validator(mode="after")
    def _not_empty(self) -> Parallel:
        some(self.branches, "branches")
        return self

    def children(self) -> list[Layer]:
        """The branches."""
        return list(self.branches.values())

    def inside(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Inside:
        """Every branch on the same input."""
        where = join(path, "branches")
        rows = [
            plan_chain({key: layer}, name, where, x, field, ops)[0]
            for key, layer in self.branches.items()
        ]
        first, *others = (row.output for row in rows)
        for row, y in zip(rows[1:], others, strict=True):
            alike = isinstance(y, Features) == isinstance(first, Features)
            if alike and y.dims[1:] == first.dims[1:]:
                continue
            raise problem(
                row.path,
                f"an output as large as that of branch '{next(iter(self.branches))}', "
                + _size(first),
                _size(y),
                "Set its padding and stride so that height and width agree.",
            )
        total = sum(y.dims[0] for y in (first, *others))
        fields = [row.field for row in rows]
        if isinstance(first, Features):
            output: AnyShape = Features(total)
            seen = Field.union(fields, (1, 1))
        else:
            output = Shape(total, *first.size)
            seen = Field.union(fields, first.size)
        return Inside(tuple(rows), output, seen, elements(output))

    def joiner(self) -> nn.Sequential:
        """A `runner.modules.Parallel`."""
        from runner import modules

        return modules.Parallel()


def _size(y: AnyShape) -> str:
    return f"{y} features" if isinstance(y, Features) else f"{y.height}×{y.width}"
