"""Flatten: feature maps laid out as one vector, channel by channel, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.geometry import WHOLE, AnyShape, Features, Field, elements
from runner.layers import Layer
from runner.ops import Ops

if TYPE_CHECKING:
    import torch
    from torch import nn


class Flatten(Layer):
    """From feature maps to the vector that a linear layer takes."""

    def output_shape(self, x: AnyShape) -> Features:
        """As many features as the input has numbers."""
        return Features(elements(x))

    def field(self, x: AnyShape, field: Field) -> Field:
        """The whole input: a vector has no positions."""
        return WHOLE

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `torch.nn.Flatten`."""
        from torch import nn

        return nn.Flatten()
