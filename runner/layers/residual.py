"""Residual: what the layers give is added to their input (ResNet; He et al. 2016)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

from pydantic import model_validator

from runner.chain import plan_chain
from runner.config.errors import join, problem
from runner.config.spec import Menu, check_kind
from runner.geometry import AnyShape, Features, Field, Shape, elements
from runner.layers import Layer
from runner.layers._container import Container, Inside, some
from runner.ops import Ops
from runner.plan import Row

if TYPE_CHECKING:
    from torch import nn


class Residual(Container):
    """y = layers(x) + shortcut(x).

    Attributes:
        layers: names to layers, in order.
        shortcut: a layer on the other way. Left out, the input itself is added where the shapes
            agree, and otherwise its projection: a 1×1 convolution to the channels needed, with
            the stride that gives the size.
    """

    layers: Annotated[dict[str, Layer], Menu("runner.layers", named=True)]
    shortcut: Annotated[Layer | None, Menu("runner.layers")] = None

    @model_validator(mode="after")
    def _not_empty(self) -> Residual:
        some(self.layers, "layers")
        if "shortcut" in self.layers:
            raise problem("layers.shortcut", "another name", "'shortcut'", "Call it 'shortcut1'.")
        return self

    def children(self) -> list[Layer]:
        """The layers, and the shortcut if it is given."""
        return [*self.layers.values(), *filter(None, [self.shortcut])]

    def inside(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Inside:
        """The layers, and the shortcut if it is more than the input itself."""
        rows = plan_chain(self.layers, name, join(path, "layers"), x, field, ops)
        output, seen = rows[-1].output, rows[-1].field
        layer = self.shortcut
        if layer is None and output != x:
            layer = _projection(x, output, path)
        if layer is not None:
            around = layer.row(join(name, "shortcut"), join(path, "shortcut"), x, field, ops)
            _check_sum(around, output)
            rows, field = (*rows, around), around.field
        size = (1, 1) if isinstance(output, Features) else output.size
        return Inside(rows, output, Field.union((seen, field), size), elements(output))

    def joiner(self) -> nn.Sequential:
        """A `runner.modules.Residual`."""
        from runner import modules

        return modules.Residual()


def _projection(x: AnyShape, y: AnyShape, path: str) -> Layer:
    """A 1×1 convolution from shape `x` to shape `y`.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(x, Features) or isinstance(y, Features):
        raise problem(
            join(path, "layers"),
            f"an output like the input, {x}, to be added to it",
            f"{y}",
            "Change the layers, or give shortcut a layer that leads from the one to the other.",
        )
    strides = _strides(x, y)
    if strides is None:
        raise problem(
            join(path, "layers"),
            f"an output of the input's size, {x.height}×{x.width}, or one that a stride leads to, "
            "to be added to it",
            f"{y.height}×{y.width}",
            "Pad so that no row or column is lost, or give shortcut a layer that fits.",
        )
    raw = {"kind": "conv", "channels": y.channels, "kernel": 1, "stride": strides}
    return cast(Layer, check_kind("runner.layers", raw, "")[0])


def _strides(x: Shape, y: Shape) -> list[int] | None:
    """The least strides with which a window of one pixel leads from one size to another."""
    # ⌈n / s⌉ = m: s is at least n / m, and the least such integer is the only candidate.
    found = [-(-n // m) for n, m in zip(x.size, y.size, strict=True)]
    reached = tuple(-(-n // s) for n, s in zip(x.size, found, strict=True))
    return found if reached == y.size else None


def _check_sum(around: Row, y: AnyShape) -> None:
    if around.output == y:
        return
    x = around.input
    projects = isinstance(x, Shape) and isinstance(y, Shape) and _strides(x, y) is not None
    raise problem(
        around.path,
        f"a layer that gives {y}, as the layers do",
        f"{around.output}",
        "Leave shortcut out for a 1×1 convolution that fits."
        if projects
        else "Change the one or the other.",
    )
