"""What all kernels compiled with Triton need: to be launched, and the types of their sums."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


def launch(kernel: Any, programs: int, first: Tensor, *args: Any, **constants: Any) -> None:
    """Start that many programs of a kernel on the GPU that holds the first argument.

    Args:
        kernel: compiled when it is first called with such types and constants; cached on disk.
        programs: how many; without any, nothing is started.
        first: the first argument.
        args: the others; tensors become pointers.
        constants: what is known at compile time, and `num_warps`: groups of 32 threads a program.

    Raises:
        ValueError: more programs than CUDA can number.
    """
    if programs >= 1 << 31:
        raise ValueError(f"{programs} blocks of output are more than CUDA's 2,147,483,647")
    if programs:
        # Triton launches on torch's current device, which need not be the tensors'.
        with torch.cuda.device_of(first):  # type: ignore[no-untyped-call]  # torch's
            kernel[(programs,)](first, *args, **constants, enable_fp_fusion=True)


def number(dtype: torch.dtype) -> Any:
    """The type that sums are kept in: at least 32 bits."""
    return tl.float64 if dtype == torch.float64 else tl.float32


def power_of_two(n: int) -> int:
    """The smallest that is at least n: the size of a block that holds n numbers."""
    return int(triton.next_power_of_2(max(n, 1)))
