"""What the doctor checks of the compilers and of every operator: that they compute as `loops`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from math import inf, isfinite
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from runner import installation, menu
from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import PACKAGE, ConvOp, PoolOp, conv_op, pool_op
from runner.tasks._doctor_finding import OK, WARNING, WRONG, Finding
from runner.tasks._doctor_folders import tried
from runner.tasks._doctor_libraries import broken

if TYPE_CHECKING:
    from torch import Tensor

CONV, POOL = ConvGeometry((3, 3), padding=(1, 1, 1, 1)), PoolGeometry((2, 2), (2, 2))
"""What every operator is tried on, unless it says that it can't."""


def numba(_: str) -> list[Finding]:
    """Whether it compiles, and keeps what it compiled."""
    try:
        from runner.ops._compiled import inlined
    except BaseException as error:
        return [broken("numba", error)]
    import numpy as np

    begun = perf_counter()
    total = inlined(_squares)(np.arange(5.0))
    found = f"compiles, in {perf_counter() - begun:.1f} s"
    if total != 30:
        command = installation.mending("--force-reinstall", "numba", "llvmlite")
        return [Finding("numba", WRONG, "compiles a sum wrongly", "Install it anew.", command)]
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        mend, command = "Loops run as slow Python.", "unset NUMBA_DISABLE_JIT"
        return [Finding("numba", WARNING, "is told not to compile", mend, command)]
    return [Finding("numba", OK, found), _kept_by_numba()]


def _squares(numbers: Any) -> float:
    """0 + 1 + 4 + 9 + 16 = 30 of the first five; no more than Numba's simplest."""
    total = 0.0
    for i in range(numbers.shape[0]):
        total += numbers[i] * numbers[i]
    return total


def _kept_by_numba() -> Finding:
    """Where compiled loops are kept."""
    from runner.ops.direct import numba_pool_kernels

    title, command = "numba's cache", "export NUMBA_CACHE_DIR=/path/to/folder"
    mend = "Every process compiles anew, which takes seconds. Name a folder that can be written."
    compiled: Any = numba_pool_kernels.means
    where = compiled.stats.cache_path
    if where is None:
        return Finding(title, WARNING, "no folder can be written", mend, command)
    return tried(title, Path(where), WARNING, mend, command)


def remembered(_: str) -> list[Finding]:
    """Where `auto` remembers what it measured."""
    from runner.ops._tuning import folder

    title, command = "auto's memory", "export RUNNER_CACHE=/path/to/folder"
    mend = "auto measures anew in every run. Name a folder that can be written."
    try:
        return [tried(title, folder(), WARNING, mend, command)]
    except RuntimeError as error:  # no home
        return [Finding(title, WARNING, str(error).lower(), mend, command)]


def triton(_: str) -> list[Finding]:
    """Whether it computes: on CUDA; without a GPU, in its interpreter, which compiles nothing."""
    import torch

    gpu = torch.cuda.is_available()
    if installation.version("triton") is None:
        if not gpu:
            return [Finding("triton", OK, "not installed; only CUDA needs it")]
        (library,) = (one for one in installation.libraries() if one.name == "triton")
        mend, command = "direct needs it on CUDA.", installation.mending(str(library))
        return [Finding("triton", WARNING, "not installed", mend, command)]
    if not gpu:
        os.environ["TRITON_INTERPRET"] = "1"  # read when it is imported
    try:
        from runner.ops.direct import triton_conv
    except BaseException as error:
        return [broken("triton", error)]
    x, weight = _drawn((1, 2, 4, 5), (2, 2, 3, 3))
    where = "cuda" if gpu else "cpu"
    found = triton_conv.forward(x.to(where), weight.to(where), None, CONV).cpu().double()
    reference = conv_op("loops").forward(x.double(), weight.double(), None, CONV)
    how = "compiles for the GPU" if gpu else "in its interpreter, as there is no GPU"
    relative = ((found - reference).norm() / reference.norm()).item()
    if not relative <= conv_op("direct").gates["float32"].relative:
        command = installation.mending("--force-reinstall", "triton")
        wrong = f"{how}: a convolution is off by {relative:.1e}"
        return [Finding("triton", WRONG, wrong, "Install it anew.", command)]
    right = Finding("triton", OK, f"agrees with loops, {how}")
    return [right, _kept_by_triton()] if gpu else [right]


def _kept_by_triton() -> Finding:
    """Where kernels are kept."""
    given = os.environ.get("TRITON_CACHE_DIR")
    where = Path(given or Path(os.environ.get("TRITON_HOME") or Path.home(), ".triton/cache"))
    mend = "Every process compiles anew, which takes seconds. Name a folder that can be written."
    return tried("triton's cache", where, WARNING, mend, "export TRITON_CACHE_DIR=/path/to/folder")


def operators() -> list[str]:
    """The names of those that are held against `loops`."""
    return [name for name in menu.names(PACKAGE) if name != "loops"]


def operator(name: str) -> list[Finding]:
    """Whether an operator agrees with `loops` in double precision, its gradients too.

    Args:
        name: of the operator. It is tried on the CPU, and on a GPU where there is one.
    """
    import torch

    told, wrong = [], []
    for device in ("cpu", "cuda")[: 1 + torch.cuda.is_available()]:
        for what, trial in (("convolution", _convolution), ("pooling", _pooling)):
            outcome = trial(name, device)
            if outcome is not None:
                error, gate = outcome
                told.append(f"{what} on {device}")
                if error > gate:
                    wrong.append(f"{what} on {device} is off by {error:.1e}, not {gate:.0e}")
    if wrong:
        mend = "What it computes can't be trusted here. This tells more:"
        command = f"python -m runner task=verify ops={name}"
        return [Finding(f"ops {name}", WRONG, "; ".join(wrong), mend, command)]
    return [Finding(f"ops {name}", OK, f"agrees with loops: {', '.join(told) or 'nothing to do'}")]


def _convolution(name: str, device: str) -> tuple[float, float] | None:
    """The error of a small convolution and the operator's gate; None if it can't compute it."""
    from runner.functional import conv2d

    if menu.find(PACKAGE, name, ConvOp) is None:  # type: ignore[type-abstract]  # a contract
        return None
    op = conv_op(name)
    if op.unsupported(CONV, "float32", device):
        return None

    def compute(op: str, x: Tensor, weight: Tensor) -> Tensor:
        return conv2d(x, weight, padding=CONV.padding, op=op)

    given = _drawn((2, 3, 9, 8), (4, 3, 3, 3))
    return _error(compute, name, device, given), op.gates["float32"].relative


def _pooling(name: str, device: str) -> tuple[float, float] | None:
    """As `_convolution`."""
    from runner.functional import pool2d

    if menu.find(PACKAGE, name, PoolOp) is None:  # type: ignore[type-abstract]  # a contract
        return None
    op = pool_op(name)
    if op.unsupported(POOL, "max", "float32", device):
        return None

    def compute(op: str, x: Tensor) -> Tensor:
        return pool2d(x, POOL.kernel, "max", op=op) + pool2d(x, POOL.kernel, "avg", op=op)

    return _error(compute, name, device, _drawn((2, 3, 8, 6))), op.gates["float32"].relative


def _drawn(*shapes: tuple[int, ...]) -> list[Tensor]:
    """Numbers from a normal distribution, always the same ones."""
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def _error(
    compute: Callable[..., Tensor], name: str, device: str, given: Sequence[Tensor]
) -> float:
    """The largest ‖e‖ / ‖reference‖ of output and gradients, e being the difference.

    Args:
        compute: from an operator's name and its arguments to an output.
        name: of the operator, which computes in float32.
        device: where it does.
        given: the arguments; `loops` gives the reference in float64 on the CPU.
    """
    import torch

    def results(op: str, arguments: list[Tensor]) -> list[Tensor]:
        y = compute(op, *(argument.requires_grad_() for argument in arguments))
        return [y, *torch.autograd.grad(y.sin().sum(), arguments)]

    found = results(name, [x.to(device, copy=True) for x in given])
    reference = results("loops", [x.double() for x in given])
    errors = [
        ((mine.detach().cpu().double() - right).norm() / right.norm()).item()
        for mine, right in zip(found, reference, strict=True)
    ]
    return max(errors) if all(map(isfinite, errors)) else inf  # NaN compares with nothing
