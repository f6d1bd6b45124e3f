"""What a run ran on, as its ``status.json`` records it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from runner.machine import processor

RECORDED = ("runner", "torch", "numpy", "numba")
"""Packages that results depend on."""

ROOT = Path(__file__).parents[1]
"""The project's checkout, where it is one; otherwise the folder it is installed into."""

WATCHED = ("runner", "configs")
"""Of a checkout, what decides what a run does."""


def environment() -> dict[str, Any]:
    """Where and with what a run is done; torch isn't imported for it.

    Returns:
        versions: of Python and of what results depend on.
        git_commit: of the project's own checkout; None when it is installed without one, and
            where git can't tell.
        git_changed: whether code or configs differ from that commit, or aren't in it.
        cpu: the processor's name.
        pid: of this process.
    """
    commit, changed = _checkout(ROOT)
    return {
        "versions": _versions(),
        "git_commit": commit,
        "git_changed": changed,
        "cpu": processor(),
        "pid": os.getpid(),
    }


def computing(device: str) -> dict[str, Any]:
    """What a run computes with, besides.

    Args:
        device: as torch names it.

    Returns:
        device: the same.
        device_name: of a GPU; None for others.
        threads: of torch on the CPU.
        exactness: torch's settings that decide the bits of a result (`runner.exactness`).
    """
    import torch

    from runner import exactness

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else None
    return {
        "device": device,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "exactness": exactness.recorded(),
    }


@cache
def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in RECORDED:
        with suppress(metadata.PackageNotFoundError):  # a plan needs no torch
            found[name] = metadata.version(name)
    return found


@cache
def _checkout(root: Path) -> tuple[str | None, bool | None]:
    """The commit that is checked out, and whether what is watched differs from it."""
    if not (root / ".git").exists():
        return None, None
    # Variables such as GIT_DIR, which git sets for its hooks, would lead to another repository,
    # and so would the folders above a damaged one.
    others = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = [
        "git", "--no-optional-locks", "-c", "core.fsmonitor=false",
        "status", "--porcelain=v2", "--branch", "--untracked-files=normal", "--", *WATCHED,
    ]  # fmt: skip
    try:
        done = subprocess.run(
            command,
            cwd=root,
            env=others | {"GIT_CEILING_DIRECTORIES": str(root.parent)},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None, None
    lines = done.stdout.splitlines()
    head = next((line.split()[-1] for line in lines if line.startswith("# branch.oid ")), "")
    if done.returncode or not head or head == "(initial)":
        return None, None
    return head, any(not line.startswith("#") for line in lines)
