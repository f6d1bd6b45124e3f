"""One file (or folder) per operator implementation; this file is the contract they fulfil.

An operator is named after its algorithm. Its file defines a `ConvOp`, a `PoolOp`, or both. Input
arrives valid and resolved: zero padding only, integers, shapes that fit; the plan of a stack, or
`runner.functional`, sees to that. Importing an operator's file doesn't import torch, so that a plan
can ask what it supports; the computation may. `runner.autograd` makes them differentiable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, NoReturn, Self, TypeVar
from weakref import WeakValueDictionary

from pydantic import AfterValidator, BeforeValidator
from pydantic import Field as Limited

from runner import menu
from runner.config.errors import describe, did_you_mean, problem
from runner.config.fields import refuse
from runner.config.spec import Spec
from runner.geometry import ConvGeometry, Pair, PoolGeometry, Shape

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


def _several(value: object) -> tuple[object, ...]:
    expected = "a list of operators, without auto itself, or null for all but loops"
    if not isinstance(value, list | tuple) or not value or "auto" in value:
        refuse(expected, describe(value))
    return tuple(value)


class Auto(Spec):
    """How `auto` chooses.

    Attributes:
        allow: the operators it may take; null for all but `loops`.
        accuracy: the largest ‖e‖ / ‖reference‖ that an operator may have in float32, by its gate;
            no less than plain summation's.
            In other types every operator that is as good as plain summation is allowed.
        measure_from: multiply-adds of a call (numbers looked at, for pooling) from which on
            candidates are timed, once per case; below, a rule decides.
    """

    allow: Annotated[tuple[OpName, ...], BeforeValidator(_several)] | None = None
    accuracy: Annotated[float, Limited(ge=1e-6)] = 2e-6
    measure_from: Annotated[int, Limited(ge=0)] = 1_000_000


class Ops(Spec):
    """Which operators compute a stack.

    Attributes:
        conv: for convolution layers.
        pool: for pooling layers.
        auto: how `auto` chooses, where it is one of them.
    """

    conv: OpName = "native"
    pool: OpName = "native"
    auto: Auto = Auto()


class Gate(NamedTuple):
    """How far from float64 `loops` an operator may be, e being the difference.

    Attributes:
        relative: of ‖e‖ / ‖reference‖.
        largest: of max|e| / max|reference|; one wrong pixel barely moves the other.
    """

    relative: float
    largest: float


_NUMBERS = count()
BY_HANDLE: WeakValueDictionary[str, Operator] = WeakValueDictionary()
"""Operators that the menu's name alone doesn't make; torch's dispatcher passes only text."""


class Operator:
    """What convolutions and poolings have in common.

    Attributes:
        handle: what torch's dispatcher passes; the name on the menu, where that alone makes it.
        origin: the call that made it, where it was made from the menu.
        own_gradient: autograd differentiates `forward` by itself, and the gradient methods are
            called only by name.
        sums: each output is a sum of its window's products, in some order: nothing outside the
            window can touch it, and the bounds of such sums hold. Of transforms they don't.
        gates: the largest errors by type of number, three to five times what was measured.
    """

    handle: str
    origin: tuple[Any, ...] = ()
    own_gradient: ClassVar[bool] = False
    sums: bool = True
    gates: ClassVar[dict[str, Gate]] = {
        "float64": Gate(1e-12, 1e-12),
        "float32": Gate(1e-6, 2e-6),
        "bfloat16": Gate(1e-2, 2e-2),
        "float16": Gate(2e-3, 4e-3),
    }

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Every operator can be found by its handle, from the start: tracing sees no change."""
        operator = super().__new__(cls)
        operator.handle = f"{cls.__name__} {next(_NUMBERS)}"
        BY_HANDLE[operator.handle] = operator
        return operator

    @classmethod
    def made(cls, auto: Auto) -> Self:  # noqa: ARG003  # most have nothing to choose
        """An operator; `auto` alone looks at how it shall choose."""
        return cls()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """A copy of a model computes with the same operator: it holds nothing of the model's."""
        return self

    def __reduce__(self) -> Any:
        """A stored model finds its operator again by what made it."""
        return self.origin or super().__reduce__()

    def _by_autograd(self, compute: Callable[[Tensor], Tensor], at: Tensor, grad: Tensor) -> Tensor:
        if not self.own_gradient:
            raise NotImplementedError(f"{type(self).__name__} has no gradient of its own")
        import torch

        with torch.enable_grad():
            at = at.detach().requires_grad_()
            return torch.autograd.grad(compute(at), at, grad)[0]


class ConvOp(Operator, ABC):
    """A way to compute two-dimensional cross-correlation and its two gradients."""

    def unsupported(self, geometry: ConvGeometry, dtype: str, device: str) -> list[str]:
        """Why this operator can't compute this case; empty when it can."""
        return []

    def workspace(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """Numbers held besides input, output and weights, per example."""
        return 0

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """Numbers held per example only while computing, freed before the next layer."""
        return 0

    def estimate(self, x: Shape, y: Shape, geometry: ConvGeometry) -> float:
        """About how many seconds one core takes per example, forward.

        `auto` doesn't try what can't win; 0 says that nothing is known, so that it is tried.
        """
        return 0

    def pick(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> ConvOp:
        """The operator that computes this call; `auto` alone answers with another."""
        return self

    @abstractmethod
    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """Cross-correlate.

        Args:
            x: n × c_in × h × w, of any strides.
            weight: c_out × c_in / groups × kh × kw.
            bias: c_out, or None.
            geometry: the window; its padding is filled with zeros.

        Returns:
            n × c_out × oh × ow, a new tensor.
        """

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """The gradient with respect to the input; with `own_gradient`, by autograd if left out.

        Args:
            grad: n × c_out × oh × ow, the gradient with respect to the output.
            weight: c_out × c_in / groups × kh × kw.
            size: h and w of the input; the windows may leave some of its end out.
            geometry: the window.

        Returns:
            n × c_in × h × w.
        """
        x = grad.new_zeros(grad.shape[0], weight.shape[1] * geometry.groups, *size)
        return self._by_autograd(lambda x: self.forward(x, weight, None, geometry), x, grad)

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """The gradient with respect to the weight; with `own_gradient`, by autograd if left out.

        Args:
            grad: n × c_out × oh × ow, the gradient with respect to the output.
            x: n × c_in × h × w.
            geometry: the window.

        Returns:
            c_out × c_in / groups × kh × kw.
        """
        weight = grad.new_zeros(grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel)
        return self._by_autograd(
            lambda weight: self.forward(x, weight, None, geometry), weight, grad
        )


class PoolOp(Operator, ABC):
    """A way to compute two-dimensional pooling and its gradient."""

    def unsupported(self, geometry: PoolGeometry, mode: str, dtype: str, device: str) -> list[str]:
        """Why this operator can't compute this case; empty when it can."""
        return []

    def workspace(self, x: Shape, y: Shape, geometry: PoolGeometry) -> int:
        """Numbers held besides input and output, per example."""
        return 0

    def estimate(self, x: Shape, y: Shape, geometry: PoolGeometry) -> float:
        """About how many seconds one core takes per example, forward; 0 for unknown."""
        return 0

    def indices(self, mode: str, geometry: PoolGeometry) -> str | None:
        """The type of the indices that `forward_with_indices` gives, if the gradient needs any."""
        return None

    def pick(self, x: Tensor, mode: str, geometry: PoolGeometry) -> PoolOp:
        """The operator that computes this call and its gradient; `auto` alone answers otherwise."""
        return self

    @abstractmethod
    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """Pool every channel separately.

        Args:
            x: n × c × h × w, of any strides.
            mode: ``max``, ``avg`` or ``min``.
            geometry: the windows.

        Returns:
            n × c × oh × ow, a new tensor.
        """

    def forward_with_indices(
        self, x: Tensor, mode: str, geometry: PoolGeometry
    ) -> tuple[Tensor, Tensor]:
        """Pool, and say where in its window each extreme was found, for the gradient.

        Called only where `indices` names a type.

        Returns:
            The output, and indices of its shape whose meaning is the operator's own.
        """
        raise NotImplementedError

    def input_gradient(
        self,
        grad: Tensor,
        x: Tensor | None,
        indices: Tensor | None,
        size: Pair,
        mode: str,
        geometry: PoolGeometry,
    ) -> Tensor:
        """The gradient with respect to the input; with `own_gradient`, by autograd if left out.

        The first of equal extremes gets all of it. So does one that is not a number; of several
        in a window, whichever the operator looks at first or last.

        Args:
            grad: n × c × oh × ow, the gradient with respect to the output.
            x: n × c × h × w; None for averages, and where there are indices.
            indices: those of `forward_with_indices`, if it gives any.
            size: h and w of the input.
            mode: ``max``, ``avg`` or ``min``.
            geometry: the windows.

        Returns:
            n × c × h × w.
        """
        x = grad.new_zeros(*grad.shape[:2], *size) if x is None else x
        return self._by_autograd(lambda x: self.forward(x, mode, geometry), x, grad)


T = TypeVar("T", bound=Operator)


def conv_op(name: str, auto: Auto | None = None) -> ConvOp:
    """The convolution of an operator implementation.

    Args:
        name: of the implementation.
        auto: how `auto` chooses.

    Raises:
        ConfigError: it has none; the answer lists those that do.
    """
    return _made(name, ConvOp, auto) or _lacks(name, "convolution", ConvOp)  # type: ignore[type-abstract]  # a contract


def pool_op(name: str, auto: Auto | None = None) -> PoolOp:
    """The pooling of an operator implementation; as `conv_op`."""
    return _made(name, PoolOp, auto) or _lacks(name, "pooling", PoolOp)  # type: ignore[type-abstract]  # as above


def _made(name: str, contract: type[T], auto: Auto | None) -> T | None:
    found = menu.find(PACKAGE, name, contract)
    return None if found is None else _one(found, name, auto or Auto())  # type: ignore[arg-type]  # a class is hashable


@cache
def _one(kind: type[T], name: str, auto: Auto) -> T:
    operator = kind.made(auto)
    operator.origin = (conv_op if issubclass(kind, ConvOp) else pool_op, (name, auto))
    if auto == Auto():
        operator.handle = name
    return operator


def _lacks(name: str, what: str, contract: type) -> NoReturn:
    able = [other for other in menu.names(PACKAGE) if menu.find(PACKAGE, other, contract)]
    raise problem("ops", f"an operator with {what} (" + ", ".join(able) + ")", f"'{name}'")
