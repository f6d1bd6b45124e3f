"""Dropout: during training, numbers are set to zero at random and the rest scaled up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field as Limited

from runner.geometry import AnyShape
from runner.layers import Layer
from runner.ops import Ops

if TYPE_CHECKING:
    import torch
    from torch import nn


class Dropout(Layer):
    """Srivastava et al. 2014; does nothing in evaluation.

    Attributes:
        p: the probability that a number is set to zero.
    """

    p: Annotated[float, Limited(ge=0, lt=1)] = 0.5

    def output_shape(self, x: AnyShape) -> AnyShape:
        """The input's."""
        return x

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `torch.nn.Dropout`."""
        from torch import nn

        return nn.Dropout(self.p)
