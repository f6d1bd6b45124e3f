"""Batch normalisation: each channel shifted and scaled to mean 0, variance 1 over the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field as Limited

from runner.geometry import AnyShape, Features, elements
from runner.layers import Layer
from runner.ops import Ops

if TYPE_CHECKING:
    import torch
    from torch import nn


class BatchNorm(Layer):
    """Ioffe & Szegedy 2015; over n, h, w of feature maps, over n of a vector.

    Attributes:
        eps: added to the variance, so that a constant channel doesn't divide by zero.
        momentum: weight of the newest batch in the running statistics used for evaluation.
        affine: whether a learnable scale and shift follow.
        trainable: whether learning may change them.
    """

    eps: Annotated[float, Limited(gt=0)] = 1e-5
    momentum: Annotated[float, Limited(gt=0, le=1)] = 0.1
    affine: bool = True
    trainable: bool = True

    def output_shape(self, x: AnyShape) -> AnyShape:
        """The input's."""
        return x

    def parameters(self, x: AnyShape) -> int:
        """A scale and a shift per channel; the running statistics are not parameters."""
        return 2 * self._channels(x) * self.affine

    def cost(self, x: AnyShape) -> int:
        """One multiply-add per number, once mean and variance are known."""
        return elements(x)

    def _channels(self, x: AnyShape) -> int:
        return x.size if isinstance(x, Features) else x.channels

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `torch.nn.BatchNorm2d` or, on vectors, `BatchNorm1d`."""
        from torch import nn

        kind = nn.BatchNorm1d if isinstance(x, Features) else nn.BatchNorm2d
        module = kind(self._channels(x), self.eps, self.momentum, self.affine)
        return module.requires_grad_(self.trainable)
