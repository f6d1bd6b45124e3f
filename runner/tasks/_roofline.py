"""The two roofs under which every operator works: how fast this machine copies, and multiplies.

After Williams, Waterman and Patterson, *Roofline: an insightful visual performance model for
multicore architectures* (2009): an operator can't be faster than its arithmetic allows, nor than
its data can be moved. Both roofs are measured in the same process, on the same threads and in
between the cases, so that they show too how steady the machine was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from runner.tasks._benchmark_timing import clock

if TYPE_CHECKING:
    from torch import Tensor

COPIED = {"cpu": 2**27, "cuda": 2**29}
"""Bytes of what is copied, far more than caches hold."""
SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied."""
TIMES = 3
"""How often each is measured at a time."""


def allocated(device: str) -> int:
    """Bytes that measuring the roofs takes: a tensor and its copy; the matrices are small."""
    return 2 * COPIED.get(device, COPIED["cpu"])


@dataclass
class Roofs:
    """A copy and a matrix product, measured again and again.

    Attributes:
        device: ``cpu``, ``cuda:0`` …
        dtype: name of the numbers' type.
        copies: bytes read and written per second, of each measurement.
        products: multiplications and additions per second, likewise.
    """

    device: str
    dtype: str
    copies: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)

    def measure(self) -> None:
        """Measure both, in turns."""
        import torch

        seconds = clock(self.device)
        kind, dtype = self.device.partition(":")[0], getattr(torch, self.dtype)
        count = COPIED.get(kind, COPIED["cpu"]) // dtype.itemsize
        # Few processors multiply half-precision numbers, and without, it takes hundreds of times
        # as long.
        slow = (kind, self.dtype) == ("cpu", "float16")
        side = SIDE.get(kind, SIDE["cpu"]) // (4 if slow else 1)
        x = torch.ones(count, device=self.device, dtype=dtype)
        a, b = (torch.ones(side, side, device=self.device, dtype=dtype) for _ in range(2))
        for _ in range(TIMES):
            self.copies.append(2 * count * dtype.itemsize / seconds(x.clone))
            self.products.append(2 * side**3 / seconds(_product(a, b)))

    @property
    def copy(self) -> float:
        """Bytes per second, read and written; the median."""
        return median(self.copies)

    @property
    def product(self) -> float:
        """Multiplications and additions per second; the median."""
        return median(self.products)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: medians, and how steady they were."""
        return {
            "copy_gb_per_s": self.copy / 1e9,
            "product_gflop_per_s": self.product / 1e9,
            "copy_range": [min(self.copies) / 1e9, max(self.copies) / 1e9],
            "product_range": [min(self.products) / 1e9, max(self.products) / 1e9],
        }

    def fraction(self, operations: float, moved: float, seconds: float) -> float:
        """How much of what the lower roof allows was reached.

        More than 1 where the data stay in a cache, which is faster than the memory, or where an
        algorithm needs fewer multiplications than the definition.
        """
        return max(operations / self.product, moved / self.copy) / seconds


def _product(a: Tensor, b: Tensor) -> Callable[[], Tensor]:
    return lambda: a @ b
