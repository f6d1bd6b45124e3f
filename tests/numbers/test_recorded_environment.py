"""What status.json says a run was done with is what it was done with."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from many import Ran, finish, start

import runner

ROOT = Path(runner.__file__).parents[1]

COMMANDS = [
    ("task=edge", "threads=2", "seed=5", "dtype=float64"),
    ("task=plan", "seed=5"),
    ("-m", "task=learn_kernel", "task.steps=2", "seed=7,8", "threads=1"),
    # Job 0 diverges.
    ("-m", "task=learn_kernel", "task.steps=300", "task.optimizer.lr=9,0.01", "threads=1"),
]
VARIABLES = {"NVIDIA_TF32_OVERRIDE": "0", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> list[Ran]:
    folder = tmp_path_factory.mktemp("recorded") / "runs"
    return finish(start(folder, COMMANDS, VARIABLES), folder)


def status(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / "status.json").read_text())
    return found


def test_of_a_single_run(ran: list[Ran]) -> None:
    facts = status(ran[0].directory)
    assert (facts["device"], facts["device_name"], facts["threads"]) == ("cpu", None, 2)
    assert (facts["parameters"]["seed"], facts["parameters"]["dtype"]) == (5, "float64")
    assert facts["versions"] == {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("runner", "torch", "numpy", "numba")},
    }
    assert facts["versions"]["torch"] == str(torch.__version__)
    assert facts["cpu"]


def test_every_shortcut_is_off(ran: list[Ran]) -> None:
    """And what libraries read of the environment is there to be seen."""
    said = status(ran[0].directory)["exactness"]
    off = ("tf32", "bf16", "half_sums", "benchmark", "flush_denormal", "deterministic_algorithms")
    assert {name: said[name] for name in off} == dict.fromkeys(off, False)
    assert said["deterministic"] is True
    assert said["vectors"] == torch.backends.cpu.get_cpu_capability()
    assert {name: said["variables"][name] for name in VARIABLES} == VARIABLES


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a checkout")
def test_the_commit(ran: list[Ran]) -> None:
    facts = status(ran[0].directory)
    known = subprocess.run(
        ["git", "cat-file", "-t", facts["git_commit"]], cwd=ROOT, capture_output=True, text=True
    )
    assert known.stdout.strip() == "commit"
    assert isinstance(facts["git_changed"], bool)


def test_of_a_run_that_computes_nothing(ran: list[Ran]) -> None:
    facts = status(ran[1].directory)
    assert (facts["device"], facts["threads"], facts.get("exactness")) == (None, None, None)
    assert facts["parameters"]["seed"] == 5
    assert facts["cpu"] == status(ran[0].directory)["cpu"]


@pytest.mark.parametrize("sweep", [2, 3])
def test_of_every_job_of_a_sweep(ran: list[Ran], sweep: int) -> None:
    folders = sorted(path.parent for path in ran[sweep].directory.glob("*/status.json"))
    assert len(folders) == 2
    first = status(folders[0])
    assert first["state"] == ("FAILED" if sweep == 3 else "COMPLETED")
    for folder in folders:
        facts = status(folder)
        assert facts["threads"] == 1
        assert facts["exactness"]["tf32"] is False
        same = ("versions", "git_commit", "git_changed", "cpu", "exactness")
        assert {name: facts[name] for name in same} == {name: first[name] for name in same}
    if sweep == 2:
        assert [status(folder)["parameters"]["seed"] for folder in folders] == [7, 8]
        assert os.path.commonpath(folders) == str(ran[2].directory)
