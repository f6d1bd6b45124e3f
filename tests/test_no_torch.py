"""Mistakes, help and plans are answered without waiting for torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "sklearn", "tensorboard", "numba", "triton", "scipy")

WATCHED = f"""
import runpy, sys
code = None
try:
    if sys.argv[1] == "-c":
        exec(sys.argv[2])
    else:
        runpy.run_module("runner", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    code = stop.code
print("\\n@", code, *[name for name in {HEAVY} if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--cfg", "job"], 0),
        (["--info", "searchpath"], 0),
        (["stack=lenett", "seed=x", "task.treshold=1"], 2),
        (["stack.layers.conv.kernel=99"], 2),  # found only when planned
        (["task=learn_kernel", "task.target.weight=sobel_x"], 2),
        (["device=cuda", "data.height=0"], 2),
        (["memory_limit_gib=0.0000001"], 2),
        (["-m", "task=learn_kernel", "task.optimizer.lr=0.01,-1", "seed=0,x"], 2),
        (["-m", "task=classify", "seed=range(0,1000000)"], 2),
        (["task=plan"], 0),
        (["-m", "task=plan", "seed=0,1"], 0),
        (["task=plan", "stack=detectors", "ops=loops", "data=shapes"], 0),
        (["-c", "import runner; print(runner.plan, runner.ConfigError, runner.Plan)"], None),
        (["-c", "import runner; assert runner.plan('stack=lenet').parameters == 61706"], None),
        (["-c", "import runner; runner.run('task=plan')"], None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_torch_is_not_imported(words: list[str], code: int | None, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"@ {code}"


def test_the_watch_would_notice(tmp_path: Path) -> None:
    program = ["-c", "import runner; runner.conv2d"]
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1].startswith("@ None torch")
