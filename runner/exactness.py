"""Torch's process-wide settings that decide the bits of a result: set for a run, and recorded.

Torch can trade digits for speed (TensorFloat-32, bfloat16 in place of float32, sums kept in half
precision) and a fixed order of additions for speed too. A run does neither, whatever the program
that it is part of, such as a notebook, has chosen; afterwards that has its settings back.

Torch's newer names for some of these (``fp32_precision``) live beside its older ones
(``allow_tf32``), and reading an older one fails once a newer one says something else. So newer
names are read and set where torch has them.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch

SWITCHES = {
    "cuda.matmul.allow_bf16_reduced_precision_reduction": False,
    "cuda.matmul.allow_fp16_reduced_precision_reduction": False,
    "cuda.matmul.allow_fp16_accumulation": False,
    "cudnn.deterministic": True,
    "cudnn.benchmark": False,
}
"""Settings under `torch.backends`, and what they are in a run."""

FLOAT32 = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)
"""What computes in float32, under `torch.backends`; each may be allowed to use fewer digits."""

EXACT = ("ieee", "none")
"""Values of ``fp32_precision`` that mean all digits; the second is the default's."""

VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "MKL_CBWR",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)
"""Of the environment: what libraries read by themselves, and nobody can take back."""


class Settings(NamedTuple):
    """Those of a process, to be restored.

    Attributes:
        switches: by name.
        float32: the precision of each of `FLOAT32`, by torch's newer name for it.
        matmul: of float32 by the older name; None where torch doesn't tell.
        cudnn: whether it may use TensorFloat-32, by the older name; None as above.
        dtype: of tensors whose maker names none.
    """

    switches: dict[str, bool]
    float32: dict[str, str]
    matmul: str | None
    cudnn: bool | None
    dtype: torch.dtype


def settings() -> Settings:
    """Those in force."""
    found: dict[str, Any] = {name: _get(name) for name in SWITCHES}
    precisions: dict[str, Any] = {name: _get(f"{name}.fp32_precision") for name in FLOAT32}
    return Settings(
        {name: value for name, value in found.items() if value is not None},
        {name: value for name, value in precisions.items() if value is not None},
        _older(torch.get_float32_matmul_precision),
        _older(lambda: torch.backends.cudnn.allow_tf32),
        torch.get_default_dtype(),
    )


def be_exact() -> None:
    """All digits of every type, the same bits each time, and float32 where nothing is said."""
    now = settings()
    restore(
        Settings(
            {name: SWITCHES[name] for name in now.switches},
            dict.fromkeys(now.float32, EXACT[0]),
            "highest",
            False,
            torch.float32,
        )
    )


def restore(wanted: Settings) -> None:
    """Bring settings back."""
    # The older names first: they set newer ones too, and may be read only where both agree.
    if wanted.matmul is not None:
        torch.set_float32_matmul_precision(wanted.matmul)
    if wanted.cudnn is not None:
        torch.backends.cudnn.allow_tf32 = wanted.cudnn
    for name, value in wanted.float32.items():
        if _get(f"{name}.fp32_precision") != value:
            # With nothing of its own, each follows what is said for all.
            _set(f"{name}.fp32_precision", "none")
        if _get(f"{name}.fp32_precision") != value:
            _set(f"{name}.fp32_precision", value)
    for name, on in wanted.switches.items():
        _set(name, on)
    torch.set_default_dtype(wanted.dtype)


def recorded() -> dict[str, Any]:
    """The settings in force as ``status.json`` has them.

    Returns:
        tf32: whether TensorFloat-32 may stand for float32 anywhere.
        bf16: whether bfloat16 may.
        half_sums: whether products of half-precision matrices may be added up in half precision.
        deterministic: whether cuDNN is held to algorithms that give the same bits each time.
        deterministic_algorithms: whether all of torch is.
        benchmark: whether cuDNN picks its algorithms by timing them.
        flush_denormal: whether numbers too small for all their digits count as zero.
        vectors: the instructions that torch's loops on the CPU use.
        variables: of the environment, those of `VARIABLES` that are set.
    """
    now = settings()
    older = (now.matmul not in (None, "highest"), bool(now.cudnn))
    precisions = now.float32.values()
    return {
        "tf32": "tf32" in precisions if now.float32 else any(older),
        "bf16": "bf16" in precisions if now.float32 else now.matmul == "medium",
        "half_sums": any(on for name, on in now.switches.items() if name.startswith("cuda.")),
        "deterministic": now.switches["cudnn.deterministic"],
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "benchmark": now.switches["cudnn.benchmark"],
        "flush_denormal": not bool(torch.tensor([2.0**-149]) * 1),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def _older(read: Any) -> Any:
    """An older setting; None where newer ones have been set apart from it."""
    try:
        return read()
    except RuntimeError:
        return None


def _get(name: str) -> Any:
    """A setting, by its dotted name under `torch.backends`; None where torch has no such."""
    found: Any = torch.backends
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _set(name: str, value: Any) -> None:
    """Set it; of a torch that lacks it, nothing."""
    where, _, what = name.rpartition(".")
    if _get(name) is not None:
        setattr(_get(where), what, value)
