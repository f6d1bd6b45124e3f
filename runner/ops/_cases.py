"""The cases that `auto` chooses for: what one call computes, and how to try operators on it.

A case that is large is tried on a part: fewer examples first, then fewer rows, so that the slowest
operator takes a fraction of a second. Times are then scaled up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any

from runner.geometry import ConvGeometry, PoolGeometry, Shape, elements

if TYPE_CHECKING:
    from torch import Tensor

MULTIPLY_ADDS, NUMBERS = 1e9, 1.6e7
"""At most so much is computed, and so many numbers are read and written, to try an operator: enough
to be larger than caches, and than what the system hands out without a page fault."""

FORWARD, INPUT, WEIGHT = "forward", "input gradient", "weight gradient"
BOTH = "forward and gradient"


@dataclass(frozen=True)
class Case(ABC):
    """What the choice depends on.

    Attributes:
        computation: `FORWARD`, `INPUT` or `WEIGHT`; of a pooling that is learned through, `BOTH`.
        batch: examples.
        x: the input's shape.
        y: the output's shape.
        geometry: the window.
        dtype: the numbers' type.
        device: where they are, as torch names it: ``cpu``, ``cuda:0``.
        threads: that torch may use on the CPU.
        channels_last: whether the input lies in memory with its channels together.
    """

    computation: str
    batch: int
    x: Shape
    y: Shape
    geometry: ConvGeometry | PoolGeometry
    dtype: str
    device: str
    threads: int
    channels_last: bool

    @property
    @abstractmethod
    def layer(self) -> str:
        """Which layer this is, without the batch."""

    @property
    @abstractmethod
    def extent(self) -> int:
        """Rows that one output sees."""

    @property
    @abstractmethod
    def work(self) -> int:
        """Multiply-adds of the call, or numbers looked at."""

    @abstractmethod
    def part(self, batch: int, rows: int) -> Case:
        """The same with so many examples and input rows."""

    @abstractmethod
    def call(self, op: Any) -> Callable[[], object]:
        """Compute it by an operator, on numbers made up; their making is not part of the call."""

    def estimate(self, op: Any) -> float:
        """About how many seconds one core takes, forward; 0 for unknown."""
        found: float = op.estimate(self.x, self.y, self.geometry)
        return self.batch * found

    def within_reach(self, share: float = 1) -> Case:
        """A part that takes this share of the time that is spent; the case itself, if it does."""
        numbers = self.batch * (elements(self.x) + elements(self.y))
        excess = max(self.work / MULTIPLY_ADDS, numbers / NUMBERS) / share
        if excess <= 1:
            return self
        # Threads may share a batch out; with fewer examples than threads they couldn't.
        batch = min(self.batch, max(self.threads, int(self.batch / excess)))
        rows = ceil(self.x.height * self.batch / (batch * excess))
        return self.part(batch, min(max(rows, 2 * self.extent, 16), self.x.height))

    def __str__(self) -> str:
        last = ", channels last" if self.channels_last else ""
        return f"{self.layer}, batch {self.batch}, {self.dtype}{last}, {self.computation}"

    def _numbers(self, *shape: int, like_input: bool = False) -> Tensor:
        """Numbers that repeat seldom and owe nothing to the run's randomness."""
        import torch

        count = torch.Size(shape).numel()
        found = torch.arange(count, device=self.device).remainder(9973).mul(0.618).frac().sub(0.5)
        found = found.to(getattr(torch, self.dtype)).reshape(shape)
        last = like_input and self.channels_last
        return found.contiguous(memory_format=torch.channels_last) if last else found


@dataclass(frozen=True)
class ConvCase(Case):
    """A convolution or one of its gradients."""

    geometry: ConvGeometry

    @property
    def layer(self) -> str:
        """As `Case`."""
        g, c = self.geometry, self.x.channels
        parts = [f"conv {self.x} → {self.y.channels}", _by(g.kernel)]
        parts += [f"stride {_by(g.stride)}"] * (g.stride != (1, 1))
        parts += [f"padding {_sides(g.padding)}"] * any(g.padding)
        parts += [f"dilation {_by(g.dilation)}"] * (g.dilation != (1, 1))
        parts += ["depthwise" if g.groups == c else f"groups {g.groups}"] * (g.groups > 1)
        return ", ".join(parts)

    @property
    def extent(self) -> int:
        """As `Case`."""
        return self.geometry.extent[0]

    @property
    def work(self) -> int:
        """Multiply-adds."""
        (kh, kw), groups = self.geometry.kernel, self.geometry.groups
        return self.batch * elements(self.y) * (self.x.channels // groups) * kh * kw

    def part(self, batch: int, rows: int) -> ConvCase:
        """As `Case`."""
        x = replace(self.x, height=rows)
        y = Shape(self.y.channels, *self.geometry.output_size(x.size))
        return replace(self, batch=batch, x=x, y=y)

    def call(self, op: Any) -> Callable[[], object]:
        """As `Case`."""
        g = self.geometry
        weight = self._numbers(self.y.channels, self.x.channels // g.groups, *g.kernel)
        if self.computation == INPUT:
            grad = self._numbers(self.batch, *self.y.dims)
            return lambda: op.input_gradient(grad, weight, self.x.size, g)
        x = self._numbers(self.batch, *self.x.dims, like_input=True)
        if self.computation == FORWARD:
            return lambda: op.forward(x, weight, None, g)
        grad = self._numbers(self.batch, *self.y.dims)
        return lambda: op.weight_gradient(grad, x, g)


@dataclass(frozen=True)
class PoolCase(Case):
    """A pooling, with its gradient where that will be wanted."""

    geometry: PoolGeometry
    mode: str

    @property
    def layer(self) -> str:
        """As `Case`."""
        g, head = self.geometry, f"{self.mode} pool {self.x}"
        if g.output is not None:
            return f"{head} → {_by(g.output)}"
        parts = [head, _by(g.kernel)]
        parts += [f"stride {_by(g.stride)}"] * (g.stride != g.kernel)
        parts += [f"padding {_sides(g.padding)}"] * any(g.padding)
        parts += ["ceil"] * g.ceil_mode
        parts += ["padding not counted"] * (any(g.padding) and not g.count_include_pad)
        return ", ".join(parts)

    @property
    def extent(self) -> int:
        """As `Case`; of adaptive windows all rows, so that none is left out."""
        return self.x.height if self.geometry.output else self.geometry.kernel[0]

    @property
    def work(self) -> int:
        """Numbers looked at."""
        if self.geometry.output is not None:
            return self.batch * elements(self.x)
        return self.batch * elements(self.y) * self.geometry.kernel[0] * self.geometry.kernel[1]

    def part(self, batch: int, rows: int) -> PoolCase:
        """As `Case`."""
        x = replace(self.x, height=rows)
        return replace(self, batch=batch, x=x, y=Shape(x.channels, *self._output_size(x)))

    def _output_size(self, x: Shape) -> tuple[int, int]:
        return self.geometry.output or self.geometry.output_size(x.size)

    def call(self, op: Any) -> Callable[[], object]:
        """As `Case`."""
        mode, g = self.mode, self.geometry
        x = self._numbers(self.batch, *self.x.dims, like_input=True)
        if self.computation == FORWARD:
            return lambda: op.forward(x, mode, g)
        grad = self._numbers(self.batch, *self.y.dims)

        def both() -> object:
            if op.indices(mode, g):
                _, indices = op.forward_with_indices(x, mode, g)
                return op.input_gradient(grad, None, indices, self.x.size, mode, g)
            op.forward(x, mode, g)
            seen = None if mode == "avg" else x
            return op.input_gradient(grad, seen, None, self.x.size, mode, g)

        return both


def place(x: Tensor) -> dict[str, Any]:
    """The part of a case that every tensor of a call tells."""
    import torch

    return {
        "dtype": str(x.dtype).removeprefix("torch."),
        "device": str(x.device),
        "threads": 1 if x.is_cuda else torch.get_num_threads(),
        "channels_last": _channels_last(x),
    }


def _channels_last(x: Tensor) -> bool:
    import torch

    return not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}×{pair[1]}"


def _sides(sides: tuple[int, int, int, int]) -> str:
    return str(sides[0]) if len(set(sides)) == 1 else " ".join(map(str, sides))
