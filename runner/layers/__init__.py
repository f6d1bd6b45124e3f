"""One file per layer kind; this file is the contract they fulfil.

A layer is a spec (its YAML fields) that can answer questions about shapes and costs without
torch, and build itself with it. To add a kind, add a file that defines one `Layer`: ``kind: name``
finds ``runner/layers/name.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from runner import menu
from runner.config.errors import ConfigError, one_of, problem, under
from runner.config.spec import Kind
from runner.geometry import AnyShape, Features, Field, Pair, Shape, Sides
from runner.ops import PACKAGE, Ops
from runner.plan import Row

if TYPE_CHECKING:
    import torch
    from torch import nn


class Layer(Kind, ABC):
    """One layer of a stack, as YAML describes it.

    Shapes are without the batch. Input channels and sizes come from the layer before.
    """

    @abstractmethod
    def output_shape(self, x: AnyShape) -> AnyShape:
        """The shape of the output for an input of shape `x`.

        Raises:
            ConfigError: such an input doesn't fit; paths are relative to the layer.
        """

    def parameters(self, x: AnyShape) -> int:
        """How many numbers the layer holds, trainable or not."""
        return 0

    def cost(self, x: AnyShape) -> int:
        """Multiply-adds of one forward pass over one example."""
        return 0

    def operations(self, x: AnyShape) -> int:
        """Multiply-adds, or the numbers that pooling compares or adds, for one example."""
        return self.cost(x)

    def workspace(self, x: AnyShape, ops: Ops) -> int:
        """Numbers that the operator holds besides input, output and parameters, per example."""
        return 0

    def scratch(self, x: AnyShape, ops: Ops) -> int:
        """Numbers that the operator holds per example only while it computes."""
        return 0

    def given(self) -> Mapping[str, float]:
        """Of each field that holds numbers of the model, the one farthest from zero."""
        return {}

    def field(self, x: AnyShape, field: Field) -> Field:
        """What one output sees of the stack's input, given what one input of the layer sees."""
        return field

    def operator(self, ops: Ops) -> str:
        """The name of the operator that will compute this layer, or nothing."""
        return ""

    def unsupported(self, x: AnyShape, ops: Ops, dtype: str, device: str) -> list[str]:
        """Why the chosen operator can't compute this layer; empty when it can."""
        return []

    def check_operator(self, x: AnyShape, ops: Ops, dtype: str, device: str, path: str) -> None:
        """Check that the chosen operator can compute this layer.

        Raises:
            ConfigError: it can't: why, and which operators can.
        """
        reasons = self.unsupported(x, ops, dtype, device)
        if not reasons:
            return
        able = [name for name, _ in self.operators(x, ops, dtype, device)]
        allowed = ops.auto.allow if self.operator(ops) == "auto" else None
        others = [name for name in able if name not in (allowed or able)]
        if allowed and others:
            layer = path.removesuffix(".ops")
            raise problem(
                "ops.auto.allow",
                f"also an operator that can compute {layer} ({', '.join(others)})",
                f"[{','.join(allowed)}], which can't: " + "; ".join(reasons),
                f"Add {'native' if 'native' in others else others[0]}.",
            )
        raise problem(
            path,
            one_of(able) if able else "a case that some operator can compute",
            f"'{self.operator(ops)}', which can't: " + "; ".join(reasons),
        )

    def operators(
        self, x: AnyShape, ops: Ops, dtype: str, device: str
    ) -> Iterator[tuple[str, Layer]]:
        """Every operator that can compute this layer, and the layer with it."""
        for name in menu.names(PACKAGE):
            # An operator without this computation at all answers with a ConfigError.
            with suppress(ConfigError):
                other = self.model_copy(update={"ops": name})
                if not other.unsupported(x, ops, dtype, device):
                    yield name, other

    def row(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Row:
        """Everything above for one place in a stack.

        Args:
            name: the layer's name in the model.
            path: the layer's place in the config.
            x: shape of the input.
            field: what one input sees of the stack's input.
            ops: the operators that compute.

        Raises:
            ConfigError: such an input doesn't fit; paths start with `path`.
        """
        with under(path):
            return Row(
                name=name,
                path=path,
                layer=self,
                input=x,
                output=self.output_shape(x),
                parameters=self.parameters(x),
                cost=self.cost(x),
                operations=self.operations(x),
                workspace=self.workspace(x, ops),
                scratch=self.scratch(x, ops),
                field=self.field(x, field),
                op=self.operator(ops),
            )

    @abstractmethod
    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """The torch module for an input of shape `x`, its weights drawn from `generator`."""


def maps(x: AnyShape, kind: str) -> Shape:
    """The input as feature maps.

    Raises:
        ConfigError: it is a flat vector.
    """
    if isinstance(x, Features):
        hint = f"Move the {kind} layer before flatten."
        raise problem(
            "",
            f"feature maps (channels×height×width) as input of a {kind} layer",
            f"a flat vector of {x}",
            hint,
        )
    return x


def check_window(x: Shape, kernel: Pair, extent: Pair, padding: Sides, stride: Pair) -> None:
    """Check that a window fits into the padded input at least once.

    Raises:
        ConfigError: it doesn't; with the formula, the numbers and the nearest fix.
    """
    top, bottom, left, right = padding
    axes = (("height", x.height, top + bottom), ("width", x.width, left + right))
    for (axis, n, pad), k, span, step in zip(axes, kernel, extent, stride, strict=True):
        if span <= n + pad:
            continue
        dilated = f", which spans {span} when dilated" if span != k else ""
        short = span - n - pad
        raise problem(
            "kernel",
            f"{axis} at most {n + pad} (input {n} + padding {pad})",
            f"{k}{dilated}",
            f"The output would have {axis} ⌊({n} + {pad} − {span}) / {step}⌋ + 1 < 1. "
            f"Use a smaller kernel, {short} more padding in total, or larger images.",
        )
