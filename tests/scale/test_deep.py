"""Stacks of many layers, and layers within layers: planned in no time, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.config.errors import ConfigError

CONV = {"kind": "conv", "channels": 8, "kernel": 3, "padding": 1}

MEASURE = """
import json, sys, time
import runner
begun = time.process_time()
plan = runner.plan("stack=deep", "data=blank", config_dir="own")
seconds = time.process_time() - begun
layers, torch = sum(1 for _ in plan.leaves()), "torch" in sys.modules
print(json.dumps([seconds, layers, plan.parameters, plan.receptive_field, torch]))
"""


def spelled_out(count: int) -> dict[str, Any]:
    return {f"conv{i}": CONV for i in range(count)}


def repeated(count: int) -> dict[str, Any]:
    return {"deep": {"kind": "repeat", "times": count, "layers": {"conv": CONV}}}


def each(count: int) -> dict[str, Any]:
    conv = CONV | {"channels": "$channels"}
    return {"deep": {"kind": "repeat", "each": {"channels": [8] * count}, "layers": {"conv": conv}}}


def nested(kind: str, levels: int, **fields: Any) -> dict[str, Any]:
    """A layer within `levels` others of a kind."""
    layers: dict[str, Any] = {"conv": CONV | {"channels": 1}}
    for _ in range(levels):
        layers = {"inner": {"kind": kind, **fields, "layers": layers}}
    return layers


def write(folder: Path, layers: dict[str, Any]) -> None:
    (folder / "own" / "stack").mkdir(parents=True)
    (folder / "own" / "stack" / "deep.yaml").write_text(json.dumps({"layers": layers}))


@pytest.mark.parametrize("way", [spelled_out, repeated, each])
@pytest.mark.parametrize("count", [200, 1000])
def test_many_layers(way: Any, count: int, tmp_path: Path) -> None:
    """Each of 3×3, with 8·8·9 weights and 8 biases, but the first, which has 8·9 and 8.

    The limits are several times what it takes on an idle machine: 0.2 to 0.4 s, 0.3 to 1.2 s.
    """
    write(tmp_path, way(count))
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    seconds, layers, parameters, field, torch = json.loads(done.stdout)
    assert (layers, torch) == (count, False)
    assert parameters == (count - 1) * (8 * 8 * 9 + 8) + 8 * 9 + 8
    assert field == [2 * count + 1] * 2
    assert seconds < (1 if count == 200 else 5)


@pytest.mark.parametrize(
    ("layers", "leaves"),
    [
        (nested("block", 15), 1),
        (nested("residual", 15), 1),
        (nested("repeat", 10, times=2), 1024),
        (nested("dense_block", 3, times=2), 8),
    ],
)
def test_layers_within_layers(layers: dict[str, Any], leaves: int, workplace: Path) -> None:
    write(workplace, layers)
    plan = runner.plan("stack=deep", config_dir="own")
    assert sum(1 for _ in plan.leaves()) == leaves


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (spelled_out(10_000), "values"),
        (repeated(10_000), "1000"),
        (nested("repeat", 14, times=2), "at most 10,000 layers in all"),
        (nested("block", 300), "levels"),
        (nested("residual", 3000), "levels"),
    ],
)
def test_too_many_are_refused(layers: dict[str, Any], expected: str, workplace: Path) -> None:
    """By a word, not by running out of stack or memory."""
    write_deep(workplace, layers)
    with pytest.raises(ConfigError, match=expected):
        runner.plan("stack=deep", config_dir="own")


def write_deep(folder: Path, layers: dict[str, Any]) -> None:
    """As `write`, where `json` itself would run out of stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        write(folder, layers)
    finally:
        sys.setrecursionlimit(before)
