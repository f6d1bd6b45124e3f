"""Receptive fields: by arithmetic done by hand, and by gradients of weights that are known."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from bare_run import bare_run

import runner
from runner.config.errors import ConfigError
from runner.tasks.receptive_field import Interval


def measure(
    layers: dict[str, Any], data: dict[str, Any] | None = None, *, seed: int = 0, **fields: Any
) -> dict[str, Any]:
    """The task's metrics, without a directory."""
    task = {"kind": "receptive_field", "samples": 2, **fields}
    spec, run = bare_run(task, layers, {"kind": "blank", **(data or {})}, seed=seed)
    return spec.run(run)


@pytest.mark.parametrize(
    ("weights", "start", "stop"),
    [
        ([0, 0, 5, 0], 2, 3),
        ([1, 1, 1], 0, 3),  # two of three hold two thirds
        ([1, 96, 3], 1, 2),  # 96 % are enough
        ([1, 95, 4], 1, 3),  # 95 % are not; with the 4 on the right they are, with the 1 also …
        ([4, 95, 1], 0, 2),  # … but the heavier side wins
        ([2, 48, 48, 2], 1, 3),  # 96 %
        ([3, 47, 47, 3], 0, 3),  # 94 %, and 97 % with either end: the first
        ([0, 0], 0, 0),
        ([float("nan"), 1], 0, 0),
    ],
)
def test_shortest_run_with_95_45_percent(weights: list[float], start: int, stop: int) -> None:
    assert Interval.shortest(np.array(weights, dtype=float)) == Interval(start, stop)


def test_a_run_holds_what_lies_in_it() -> None:
    assert Interval(-1, 3).holds(Interval(0, 3))
    assert not Interval(0, 3).holds(Interval(-1, 2))
    assert not Interval(0, 3).holds(Interval(1, 4))
    assert Interval(5, 6).holds(Interval())  # nothing lies everywhere


def test_the_books_two_by_two_kernels(workplace: Path) -> None:
    data = ("data=blank", "data.height=8", "data.width=8")
    result = runner.run("task=receptive_field", "stack=pair", *data)
    # Outputs are 6×6; that at 3, 3 sees rows and columns 3 to 5.
    assert result.metrics["position"] == [3, 3]
    assert result.metrics["theoretical"] == [3, 3]
    assert result.metrics["support"] == [3, 3]
    assert result.metrics["centre"] == [4, 4]
    assert result.metrics["fields"] == {"conv1": [2, 2], "conv2": [3, 3]}
    gradient = result.outputs["receptive_field/gradient"]
    assert np.argwhere(gradient).min() == 3
    assert np.argwhere(gradient).max() == 5
    result = runner.run("task=receptive_field", "stack=pair", *data, "task.layer=conv1")
    assert result.metrics["theoretical"] == [2, 2]
    pictures = {path.name for path in (result.directory / "images").iterdir()}
    assert "receptive_field_overview.png" in pictures


def test_gradient_of_known_weights(undrawn: None) -> None:
    # d(y)/d(x) of one linear kernel is the kernel; of two in a row, their full convolution:
    # [1, 2] with [1, 3] is [1, 3 + 2, 6]. Magnitudes, so a minus leaves no trace.
    layers = {
        "one": {"kind": "conv", "weight": [[1, -2]]},
        "two": {"kind": "conv", "weight": [[1, -3]]},
    }
    metrics = measure(layers=layers, data={"height": 1, "width": 9}, position=[0, 2])
    assert metrics["support"] == [1, 3]
    assert metrics["theoretical"] == [1, 3]
    # Of 12, the 11 in the last two pixels are 91.7 %: all three are needed.
    assert metrics["effective"] == [1, 3]
    heavier = {**layers, "two": {"kind": "conv", "weight": [[1, -30]]}}
    # [1, 30 + 2, 60]: of 93, the last two hold 98.9 %.
    metrics = measure(layers=heavier, data={"height": 1, "width": 9}, position=[0, 2])
    assert metrics["effective"] == [1, 2]


def test_ten_means_are_nearly_a_bell(undrawn: None) -> None:
    # The profile is (1 + z + z²)^10 / 3^10, the central trinomial coefficients: 8953 in the middle,
    # then 8350, 6765, 4740, 2850, 1452, 615 … of 59049. The middle eleven hold 57267 = 96.98 %, ten
    # of them 55815 = 94.52 %.
    layers = {
        "ten": {"kind": "repeat", "times": 10, "layers": {"c": {"kind": "conv", "weight": "box"}}}
    }
    metrics = measure(layers=layers)
    assert metrics["theoretical"] == [21, 21]
    assert metrics["support"] == [21, 21]
    assert metrics["effective"] == [11, 11]
    # Inside the container by name: three layers see 7×7.
    metrics = measure(layers=layers, layer="ten.3.c")
    assert metrics["theoretical"] == [7, 7]
    assert metrics["support"] == [7, 7]


def test_lenet_sees_16_pixels(workplace: Path, undrawn: None) -> None:
    # 5; 5 + 1 = 6, jump 2; 6 + 4 · 2 = 14; 14 + 1 · 2 = 16, jump 4. The first output's field starts
    # at −2, for the padding of 2; the third's, eight pixels on, at 6: centre 6 + 7.5.
    metrics = runner.run("task=receptive_field", "stack=lenet", "data=blank").metrics
    assert metrics["layer"] == "pool2"
    assert metrics["position"] == [2, 2]
    assert metrics["theoretical"] == metrics["support"] == [16, 16]
    assert metrics["effective_stride"] == [4, 4]
    assert metrics["centre"] == [13.5, 13.5]


@pytest.mark.parametrize("seed", range(200))
def test_generic_weights_reach_all_of_the_field(seed: int, undrawn: None) -> None:
    draw = Random(seed)
    layers: dict[str, Any] = {}
    field, jump = 1, 1
    for i in range(draw.randint(1, 3)):
        if draw.random() < 0.3:
            kernel, stride, dilation = draw.randint(1, 3), draw.randint(1, 2), 1
            layers[f"l{i}"] = {"kind": "pool", "mode": "avg", "kernel": kernel, "stride": stride}
        else:
            kernel, stride, dilation = (draw.randint(1, n) for n in (3, 2, 2))
            padding = draw.choice([0, 1, "same", "same_lower"])
            layers[f"l{i}"] = {
                "kind": "conv", "channels": draw.randint(1, 3), "kernel": kernel, "stride": stride,
                "dilation": dilation, "padding": padding,
            }  # fmt: skip
        # Dumoulin & Visin 2016: r ← r + (d · (k − 1)) · j, j ← j · s.
        field, jump = field + dilation * (kernel - 1) * jump, jump * stride
    # The largest field is 1 + 4 · (1 + 2 + 4) = 29, so the middle of 64 pixels holds it.
    metrics = measure(layers=layers, data={"height": 64, "width": 64}, seed=seed, samples=1)
    assert metrics["theoretical"] == [field, field]
    assert metrics["effective_stride"] == [jump, jump]
    assert metrics["support"] == [field, field]
    assert metrics["inside"]
    assert all(effective <= field for effective in metrics["effective"])


def test_at_the_border_the_field_is_cut_off(undrawn: None) -> None:
    layers = {"c": {"kind": "conv", "channels": 1, "kernel": 5, "padding": 2}}
    for position, support in (([0, 0], [3, 3]), ([1, 13], [4, 5]), ([27, 27], [3, 3])):
        metrics = measure(layers=layers, position=position)
        assert metrics["theoretical"] == [5, 5]
        assert metrics["support"] == support
        assert metrics["inside"]


def test_a_field_that_reaches_out_is_said(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("task=receptive_field", "stack=kernel", "stack.layers.conv.padding=1", "data=blank")
    runner.run(*words, "task.position=[0, 27]", quiet=False)
    said = "The field reaches beyond the 28×28 image: it covers rows -1 to 1 and columns 26 to 28."
    assert said in capsys.readouterr().out
    runner.run(*words, "task.position=[1, 26]", quiet=False)
    assert "reaches beyond" not in capsys.readouterr().out


def test_branches_see_what_the_widest_sees(undrawn: None) -> None:
    # A 1×1 beside a 5×5: together 5×5; the gradient is largest in the middle.
    branches = {
        "small": {"kind": "conv", "channels": 1, "kernel": 1},
        "large": {"kind": "conv", "channels": 1, "kernel": 5, "padding": 2},
    }
    layers = {"both": {"kind": "parallel", "branches": branches}}
    metrics = measure(layers=layers)
    assert metrics["theoretical"] == [5, 5]
    assert metrics["support"] == [5, 5]


def test_dead_outputs_have_no_support(undrawn: None) -> None:
    zero = {"kind": "conv", "channels": 1, "kernel": 3, "weight": "zeros", "bias": False}
    metrics = measure(layers={"c": zero})
    assert metrics["theoretical"] == [3, 3]
    assert metrics["support"] == [0, 0]
    assert metrics["effective"] == [0, 0]
    assert metrics["inside"]


def test_inputs_matter_only_behind_nonlinearities(undrawn: None) -> None:
    # A relu after a kernel of ones passes the gradient where the sum is positive: everywhere on
    # an image of ones, nowhere on one of minus ones.
    layers: dict[str, Any] = {
        "c": {"kind": "conv", "weight": [[1, 1]]},
        "r": {"kind": "activation", "function": "relu"},
    }
    for value, support in ((1.0, [1, 2]), (-1.0, [0, 0])):
        metrics = measure(layers=layers, data={"value": value}, inputs="data")
        assert metrics["support"] == support
    # Of sixteen noises, 2⁻¹⁶ of all seeds would be unlucky.
    assert measure(layers=layers, samples=16)["support"] == [1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["task.layer=pol2"],
            "task.layer: expected a layer that gives feature maps (conv1, act1, pool1, conv2, "
            "act2, pool2), got 'pol2'. Did you mean 'pool2'?",
        ),
        (
            ["task.layer=fc1"],
            "task.layer: expected a layer that gives feature maps (conv1, act1, pool1, conv2, "
            "act2, pool2), got 'fc1', of kind linear.",
        ),
        (
            ["task.position=[5, 0]"],
            "task.position: expected [row, column] within the 5×5 output of 'pool2', got [5, 0]. "
            "Rows and columns count from 0; the nearest is [4, 0].",
        ),
        (["task.position=2"], "task.position: expected two integers: [row, column], got 2."),
        (
            ["task.position=[-1, 0]"],
            "task.position: expected [row, column] within the 5×5 output of 'pool2', got [-1, 0]. "
            "Rows and columns count from 0; the nearest is [0, 0].",
        ),
        (
            ["stack=empty"],
            "stack.layers: expected a layer that gives feature maps, got none. "
            "Add a conv layer such as {kind: conv, channels: 1, kernel: 3}.",
        ),
        (
            ["stack=empty", "+stack.layers.flat={kind: flatten}"],
            "stack.layers: expected a layer that gives feature maps, got 'flat' first. "
            "Add a conv layer such as {kind: conv, channels: 1, kernel: 3}.",
        ),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=receptive_field", "data=blank", *words)
    assert str(caught.value) == message


@pytest.mark.parametrize("op", ["fft", "winograd", "winograd_2x2"])
@pytest.mark.parametrize("seed", range(5))
def test_what_transforms_leave_is_no_support(op: str, seed: int, undrawn: None) -> None:
    three = {"kind": "conv", "channels": 6, "kernel": 3, "ops": op}
    relu = {"kind": "activation", "function": "relu"}
    layers = {"one": three, "a": relu, "two": three, "b": relu, "three": three}
    task = {"kind": "receptive_field", "samples": 4}
    spec, run = bare_run(task, layers, {"kind": "blank", "height": 40, "width": 40}, seed=seed)
    metrics = spec.run(run)
    assert metrics["support"] == metrics["theoretical"] == [7, 7]
    assert metrics["inside"]
    assert run.notes[0].startswith(f"one may be computed by transforms ({op})")
    # What is told is beside the gradient's largest, 32 roundings.
    largest = float(run.outputs["receptive_field/gradient"].max())
    assert f"up to {32 * 2**-23 * largest:.1g} count" in run.notes[0]


def test_of_sums_the_least_gradient_counts(undrawn: None) -> None:
    weight = {"kind": "conv", "weight": [[1, 1e-30]]}
    assert measure({"c": weight})["support"] == [1, 2]
    assert measure({"c": weight | {"ops": "fft"}})["support"] == [1, 1]
