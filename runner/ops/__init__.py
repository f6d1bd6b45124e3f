"""One file (or folder) per operator implementation; this file is the contract they fulfil.

An operator is named after its algorithm. Its file defines a `ConvOp`, a `PoolOp`, or both. Input
arrives valid and resolved: zero padding only, integers, shapes that fit; the plan of a stack, or
`runner.functional`, sees to that. Importing an operator's file doesn't import torch, so that a plan
can ask what it supports; the computation may.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, NoReturn

from pydantic import AfterValidator

from runner import menu
from runner.config.errors import did_you_mean, problem
from runner.config.spec import Spec, refuse
from runner.geometry import ConvGeometry, PoolGeometry, Shape

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "runner.ops"


def _known(name: str) -> str:
    options = menu.names(PACKAGE)
    if name not in options:
        refuse("one of " + ", ".join(options), f"'{name}'", did_you_mean(name, options))
    return name


OpName = Annotated[str, AfterValidator(_known)]
"""The name of an operator implementation."""


class Ops(Spec):
    """Which operators compute a stack.

    Attributes:
        conv: for convolution layers.
        pool: for pooling layers.
    """

    conv: OpName = "native"
    pool: OpName = "native"


class ConvOp(ABC):
    """A way to compute two-dimensional cross-correlation.

    Attributes:
        own_gradient: autograd differentiates `forward` by itself, and the two gradient methods
            are never called.
    """

    own_gradient = False

    def unsupported(self, geometry: ConvGeometry, dtype: str, device: str) -> list[str]:
        """Why this operator can't compute this case; empty when it can."""
        return []

    def workspace(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """Numbers held besides input, output and weights, per example."""
        return 0

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """Numbers held per example only while computing, freed before the next layer."""
        return 0

    @abstractmethod
    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """Cross-correlate.

        Args:
            x: n × c_in × h × w.
            weight: c_out × c_in / groups × kh × kw.
            bias: c_out, or None.
            geometry: the window; its padding is filled with zeros.

        Returns:
            n × c_out × oh × ow.
        """

    def input_gradient(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry
    ) -> Tensor:
        """The gradient with respect to `x`, given the one with respect to the output."""
        raise NotImplementedError

    def weight_gradient(
        self, grad: Tensor, x: Tensor, weight: Tensor, geometry: ConvGeometry
    ) -> Tensor:
        """The gradient with respect to `weight`, given the one with respect to the output."""
        raise NotImplementedError


class PoolOp(ABC):
    """A way to compute two-dimensional pooling.

    Attributes:
        own_gradient: autograd differentiates `forward` by itself.
    """

    own_gradient = False

    def unsupported(self, geometry: PoolGeometry, mode: str, dtype: str, device: str) -> list[str]:
        """Why this operator can't compute this case; empty when it can."""
        return []

    def workspace(self, x: Shape, y: Shape, geometry: PoolGeometry) -> int:
        """Numbers held besides input and output, per example."""
        return 0

    @abstractmethod
    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """Pool every channel separately.

        Args:
            x: n × c × h × w.
            mode: ``max``, ``avg`` or ``min``.
            geometry: the windows.

        Returns:
            n × c × oh × ow.
        """

    def input_gradient(self, grad: Tensor, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """The gradient with respect to `x`; the first of equal extremes gets all of it."""
        raise NotImplementedError


def conv_op(name: str) -> ConvOp:
    """The convolution of an operator implementation.

    Raises:
        ConfigError: it has none; the answer lists those that do.
    """
    found = menu.find(PACKAGE, name, ConvOp)  # type: ignore[type-abstract]  # a contract
    return found() if found else _lacks(name, "convolution", ConvOp)


def pool_op(name: str) -> PoolOp:
    """The pooling of an operator implementation.

    Raises:
        ConfigError: it has none; the answer lists those that do.
    """
    found = menu.find(PACKAGE, name, PoolOp)  # type: ignore[type-abstract]  # a contract
    return found() if found else _lacks(name, "pooling", PoolOp)


def _lacks(name: str, what: str, contract: type) -> NoReturn:
    able = [other for other in menu.names(PACKAGE) if menu.find(PACKAGE, other, contract)]
    raise problem("ops", f"an operator with {what} (" + ", ".join(able) + ")", f"'{name}'")
