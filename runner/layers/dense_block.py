"""Dense block: every repetition sees what all before it gave (DenseNet; Huang et al. 2017)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.config.errors import problem, under
from runner.geometry import AnyShape, Features, Field, Shape, elements
from runner.layers import maps
from runner.layers._container import Inside, Repeated
from runner.ops import Ops

if TYPE_CHECKING:
    from torch import nn


class DenseBlock(Repeated):
    """Each repetition's output is concatenated to its input, and both go to the next.

    With `times` repetitions of `g` output channels, c channels become c + times · g; the book and
    the paper call g the growth rate.
    """

    def inside(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Inside:
        """Every repetition on all that came before it."""
        with under(path):
            x = maps(x, "dense_block")
        rows, held = [], 0
        for number in range(1, len(self.children()) + 1):
            row = self.repetition(number, name, path, x, field, ops)
            y = row.output
            if isinstance(y, Features) or y.size != x.size:
                raise problem(
                    f"{path}.layers",
                    f"layers that keep the size {x.height}×{x.width}, to be concatenated",
                    f"an output of {y}",
                    "Pad so that height and width stay.",
                )
            rows.append(row)
            field = Field.union((field, row.field), x.size)
            x = Shape(x.channels + y.channels, *x.size)
            held += elements(x)
        return Inside(tuple(rows), x, field, held)

    def joiner(self) -> nn.Sequential:
        """A `runner.modules.DenseBlock`."""
        from runner import modules

        return modules.DenseBlock()
