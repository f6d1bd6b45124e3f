"""The two roofs under which every operator works: how fast this machine copies, and multiplies.

After Williams, Waterman and Patterson, *Roofline: an insightful visual performance model for
multicore architectures* (2009): an operator can't be faster than its arithmetic allows, nor than
its data can be moved. Both roofs are measured in the same process, on the same threads and in
between the cases. What else the machine does can only make them slower, so that the best counts.

How fast data move depends on how many there are: what fits a cache needn't come from memory. So
copies of several sizes are measured, and a case is held against those that move at least as many
bytes as it does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.tasks._benchmark_timing import clock

if TYPE_CHECKING:
    from torch import Tensor

COPIED = {"cpu": 2**27, "cuda": 2**29}
"""Bytes of the largest copy, far more than caches hold: the memory's roof."""
LEAST = 2**17
"""Bytes of the smallest: of fewer, the call itself takes longer than moving them."""
CHANNELS, IMAGE = 64, 28
"""Of the convolution with a kernel of 3×3 that is computed by torch's own operator."""
SIDE = {"cpu": 512, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied: the fewer, the likelier that nothing
interrupts one product."""
TIMES, OFTEN = 3, 5
"""How often the largest copy is measured at a time, and for each, what takes less time."""


def allocated(device: str) -> int:
    """Bytes that measuring the roofs takes: a tensor and its copy; the matrices are small."""
    return 2 * COPIED.get(device, COPIED["cpu"])


@dataclass
class Roofs:
    """Copies and a matrix product, measured again and again.

    Attributes:
        device: ``cpu``, ``cuda:0`` …
        dtype: name of the numbers' type.
        copies: by how many bytes are copied, the bytes read and written per second, of each
            measurement. The copy's memory is there beforehand: getting it would take as long.
        products: multiplications and additions per second of a matrix product, likewise.
        convolutions: of torch's convolution with many channels, on the CPU: that comes from another
            library, which may know the processor better.
    """

    device: str
    dtype: str
    copies: dict[int, list[float]] = field(default_factory=dict)
    products: list[float] = field(default_factory=list)
    convolutions: list[float] = field(default_factory=list)

    def measure(self, footprint: int) -> None:
        """Measure the largest copy, one of a case's size, and arithmetic, in turns.

        Args:
            footprint: bytes that the case reads and writes in a forward pass.
        """
        import torch

        seconds = clock(self.device)
        kind, dtype = self.device.partition(":")[0], getattr(torch, self.dtype)
        # Few processors multiply half-precision numbers, and without, it takes hundreds of times
        # as long.
        slow = (kind, self.dtype) == ("cpu", "float16")
        side = SIDE.get(kind, SIDE["cpu"]) // (4 if slow else 1)
        x = torch.ones(self._largest // dtype.itemsize, device=self.device, dtype=dtype)
        y = torch.ones_like(x)
        a, b = (torch.ones(side, side, device=self.device, dtype=dtype) for _ in range(2))
        image = torch.ones(1, CHANNELS, IMAGE, IMAGE, dtype=dtype)
        kernels = torch.ones(CHANNELS, CHANNELS, 3, 3, dtype=dtype)
        for _ in range(TIMES):
            self._copied(self._largest, seconds(_copy(x, y)))
            for _ in range(OFTEN):
                size = self._size(footprint)
                count = size // dtype.itemsize
                self._copied(size, seconds(_copy(x[:count], y[:count])))
                self.products.append(2 * side**3 / seconds(_product(a, b)))
                if kind == "cpu" and not slow:
                    operations = 2 * 9 * CHANNELS**2 * IMAGE**2
                    taken = seconds(_convolution(image, kernels))
                    self.convolutions.append(operations / taken)

    def _copied(self, size: int, seconds: float) -> None:
        self.copies.setdefault(size, []).append(2 * size / seconds)

    @property
    def _largest(self) -> int:
        return COPIED.get(self.device.partition(":")[0], COPIED["cpu"])

    def _size(self, footprint: int) -> int:
        """Bytes of the copy that reads and writes about as many: a power of 2."""
        half = max(footprint // 2, 1)
        return int(min(max(2 ** (half.bit_length() - 1), LEAST), self._largest))

    def bandwidth(self, footprint: int) -> float:
        """Bytes per second that a case could move: the best copy of its size, or of a larger."""
        size = self._size(footprint)
        return max(max(speeds) for copied, speeds in self.copies.items() if copied >= size)

    @property
    def memory(self) -> float:
        """Bytes per second, read and written, of a copy far larger than caches; the best."""
        return self.bandwidth(2 * self._largest)

    @property
    def cache(self) -> float:
        """Of a copy of any size; the best."""
        return self.bandwidth(0)

    @property
    def arithmetic(self) -> float:
        """Multiplications and additions per second; the best."""
        return max(self.products + self.convolutions)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: the best, and how steady they were."""
        largest = self.copies[max(self.copies)]
        return {
            "copy_gb_per_s": self.memory / 1e9,
            "cached_copy_gb_per_s": self.cache / 1e9,
            "arithmetic_gflop_per_s": self.arithmetic / 1e9,
            "product_gflop_per_s": max(self.products) / 1e9,
            "copy_range": [min(largest) / 1e9, max(largest) / 1e9],
            "product_range": [min(self.products) / 1e9, max(self.products) / 1e9],
            "copies_gb_per_s": {
                str(size): max(speeds) / 1e9 for size, speeds in sorted(self.copies.items())
            },
        }

    def fraction(self, operations: float, moved: float, seconds: float, footprint: int) -> float:
        """How much of what the lower roof allows was reached.

        More than 1 where an algorithm needs fewer multiplications than the definition, and by a
        little where more is read than written: a copy writes as much as it reads, and writing
        takes longer.
        """
        return max(operations / self.arithmetic, moved / self.bandwidth(footprint)) / seconds


def _copy(x: Tensor, y: Tensor) -> Callable[[], Tensor]:
    return lambda: y.copy_(x)


def _convolution(x: Tensor, weight: Tensor) -> Callable[[], Tensor]:
    from torch.nn.functional import conv2d

    return lambda: conv2d(x, weight, padding=1)


def _product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    return lambda: a @ b
