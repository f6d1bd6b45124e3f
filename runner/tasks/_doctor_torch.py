"""What the doctor checks of torch: that it computes, where, and with how many threads."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from runner import installation
from runner.readable import readable_bytes
from runner.tasks._doctor_finding import OK, WARNING, WRONG, Finding
from runner.tasks._doctor_libraries import broken
from runner.tasks._doctor_machine import may_use


def torch(_: str) -> list[Finding]:
    """Whether it can be imported, and computes."""
    try:
        import torch
    except BaseException as error:
        return [broken("torch", error)]
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU alone"
    found = f"{torch.__version__}, built for {built}"
    product = torch.arange(4.0).reshape(2, 2) @ torch.ones(2, 2)
    if product.tolist() != [[1, 1], [5, 5]]:
        mend = "Install it anew."
        command = installation.mending("--force-reinstall", "torch")
        return [Finding("torch", WRONG, f"{found}: gets a 2×2 product wrong", mend, command)]
    return [Finding("torch", OK, found)]


def devices(_: str) -> list[Finding]:
    """What there is besides the CPU; if nothing, why."""
    import torch

    if torch.backends.mps.is_available():
        return [Finding("devices", OK, "cpu, mps")]
    if torch.cuda.is_available():
        return [_device(i) for i in range(torch.cuda.device_count())]
    return [_without_cuda()]


def _device(number: int) -> Finding:
    """A GPU, and whether it computes."""
    import torch

    title, properties = f"cuda:{number}", torch.cuda.get_device_properties(number)
    capability = f"{properties.major}.{properties.minor}"
    found = f"{properties.name}, compute capability {capability}"
    try:
        free, there = torch.cuda.mem_get_info(number)
        found += f", {readable_bytes(there)}, {readable_bytes(free)} free"
        found += f", driver {driver}" if (driver := _driver()) else ""
        right = (torch.ones(64, device=title) * 2).sum().item() == 128
    except RuntimeError as error:
        known = ", ".join(torch.cuda.get_arch_list())
        mend = f"This torch is compiled for {known}; install one that knows the GPU."
        return Finding(title, WRONG, f"{found}: {str(error).splitlines()[0]}", mend)
    return Finding(title, OK if right else WRONG, found if right else f"{found}: adds up wrongly")


def _driver() -> str:
    """The version of NVIDIA's driver, or nothing where there is none."""
    with suppress(OSError):
        line = Path("/proc/driver/nvidia/version").read_text().splitlines()[0]
        return next((word for word in line.split() if word[0].isdigit() and "." in word), "there")
    return "there" if Path("/dev/nvidia0").exists() else ""


def _without_cuda() -> Finding:
    """Why there is no CUDA."""
    import torch

    driver, built = _driver(), torch.version.cuda
    if not driver:
        how = f"torch is built for CUDA {built}" if built else "torch is built for the CPU alone"
        return Finding("devices", OK, f"cpu; no NVIDIA driver, and {how}")
    if built is None:
        mend = "Install a torch that is built for CUDA."
        found = f"cpu; there is an NVIDIA driver ({driver}), but torch is built for the CPU alone"
        command = installation.mending("--force-reinstall", "torch")
        return Finding("devices", WARNING, found, mend, command)
    found = f"cpu; there is an NVIDIA driver ({driver}), but torch finds no GPU"
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        mend = "This variable says which GPUs programs see."
        found += f": CUDA_VISIBLE_DEVICES='{visible}'"
        return Finding("devices", WARNING, found, mend, "unset CUDA_VISIBLE_DEVICES")
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch's
    except (RuntimeError, AssertionError) as error:
        found += f": {str(error).splitlines()[0]}"
    return Finding("devices", WARNING, found, f"Is the driver new enough for CUDA {built}?")


def threads(_: str) -> list[Finding]:
    """Whether torch takes as many as there are cores to use."""
    import torch

    taken, usable = torch.get_num_threads(), math.ceil(may_use())
    found = f"torch takes {taken}, {usable} can work at once"
    if taken > usable:
        mend = "Threads that wait for each other take several times as long. With threads=N, or"
        command = f"export OMP_NUM_THREADS={usable}"
        return [Finding("threads", WARNING, found, mend, command)]
    if os.environ.get("OMP_NUM_THREADS") == str(taken):
        found += "; so does every worker of a sweep, by OMP_NUM_THREADS"
    return [Finding("threads", OK, found)]
