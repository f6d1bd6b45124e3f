"""The plan task: what the book says about shapes, parameters and cost."""

from __future__ import annotations

import json
from pathlib import Path

import runner


def test_lenet(workplace: Path) -> None:
    """6.6. Parameters: 6·25+6, 16·6·25+16, 400·120+120, 120·84+84, 84·10+10."""
    result = runner.run("task=plan")
    metrics = result.metrics
    assert metrics["parameters"] == 156 + 2416 + 48_120 + 10_164 + 850 == 61_706
    # 6·25·28·28 + 16·6·25·10·10 + 400·120 + 120·84 + 84·10
    assert metrics["multiply_adds"] == 117_600 + 240_000 + 48_000 + 10_080 + 840 == 416_520
    assert metrics["input"] == [1, 28, 28]
    assert metrics["output"] == [10]
    assert metrics["receptive_field"] == [16, 16]  # before the head, which sees everything
    shapes = metrics["shapes"]
    assert [shapes[name] for name in ("conv1", "pool1", "conv2", "pool2", "flatten")] == [
        [6, 28, 28], [6, 14, 14], [16, 10, 10], [16, 5, 5], [400]
    ]  # fmt: skip
    assert [shapes[name] for name in ("fc1", "fc2", "fc3")] == [[120], [84], [10]]
    (pool2,) = [row for row in result.plan.rows if row.name == "pool2"]
    assert pool2.receptive_field == (16, 16)


def test_plan_computes_nothing(workplace: Path) -> None:
    result = runner.run("task=plan")
    assert result.outputs == {}
    assert not result.events
    status = json.loads((result.directory / "status.json").read_text())
    assert status["state"] == "COMPLETED"
    assert status["device"] is None
    planned = json.loads((result.directory / "plan.json").read_text())
    assert planned["parameters"] == 61_706
    assert [layer["name"] for layer in planned["layers"]][:2] == ["conv1", "act1"]
    assert not (result.directory / "images").exists()


def test_two_small_kernels_see_as_far_as_one_large() -> None:
    """6.2.6: one 2×2 sees 2, two see 3×3."""
    assert runner.plan("stack=pair").receptive_field == (3, 3)
    assert runner.plan("stack=pair", "~stack.layers.conv2").receptive_field == (2, 2)


def test_ten_layers_of_5x5_take_240_to_200() -> None:
    """6.3.1: each of them takes four rows and columns."""
    layers = [f"+stack.layers.c{i}={{kind: conv, channels: 1, kernel: 5}}" for i in range(10)]
    plan = runner.plan("stack=empty", *layers, "data.height=240", "data.width=240")
    assert plan.output.dims == (1, 200, 200)
    assert plan.receptive_field == (41, 41)


def test_cost_of_a_convolution() -> None:
    """6.4 exercise: c_o·c_i·k_h·k_w·o_h·o_w = 128·128·5·5·256·256 multiply-adds."""
    layer = "+stack.layers.c={kind: conv, channels: 128, kernel: 5, padding: same}"
    size = ["data.channels=128", "data.height=256", "data.width=256"]
    plan = runner.plan("stack=empty", layer, *size)
    assert 2 * plan.cost == 53_687_091_200  # the book: over 53 billion operations
    doubled = runner.plan(
        "stack=empty", layer.replace("128", "256"), "data.channels=256", *size[1:]
    )
    assert doubled.cost == 4 * plan.cost
    strided = runner.plan("stack=empty", layer.replace("same", "2, stride: 2"), *size)
    assert strided.cost * 4 == plan.cost
