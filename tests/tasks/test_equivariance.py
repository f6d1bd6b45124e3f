"""Equivariance: maps shifted by hand, on rows of a few pixels."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from bare_run import bare_run

import runner
from runner.config.errors import ConfigError
from runner.tasks.equivariance import _zeros_as_one, distance, shifted
from runner.tracking import charts, pictures

EDGE = {"kind": "conv", "weight": [[1, -1]]}
RELU = {"kind": "activation", "function": "relu"}
POOL = {"kind": "pool", "kernel": [1, 2]}
STEP = [[1, 1, 0, 0, 0, 0, 0, 0]]


def measure(
    layers: dict[str, Any],
    data: dict[str, Any] | list[Any],
    *,
    seed: int = 0,
    dtype: str = "float32",
    **fields: Any,
) -> dict[str, Any]:
    """The task's metrics, without a directory."""
    task = {"kind": "equivariance", **fields}
    given = data if isinstance(data, dict) else {"kind": "tensor", "values": data}
    spec, run = bare_run(task, layers, given, seed=seed, dtype=dtype)
    return spec.run(run)


@pytest.mark.parametrize(
    ("by", "fill", "expected"),
    [
        ((0, 0), "zeros", [[1, 2, 3], [4, 5, 6]]),
        ((0, 1), "zeros", [[0, 1, 2], [0, 4, 5]]),
        ((0, 1), "circular", [[3, 1, 2], [6, 4, 5]]),
        ((1, 0), "zeros", [[0, 0, 0], [1, 2, 3]]),
        ((1, 2), "circular", [[5, 6, 4], [2, 3, 1]]),
        ((1, 2), "zeros", [[0, 0, 0], [0, 0, 1]]),
        ((0, 5), "zeros", [[0, 0, 0], [0, 0, 0]]),
    ],
)
def test_shifts_are_down_and_to_the_right(by: Any, fill: Any, expected: list[list[int]]) -> None:
    x = np.array([[1, 2, 3], [4, 5, 6]])
    assert shifted(x, by, fill).tolist() == expected
    assert x.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_distance_is_relative() -> None:
    assert distance(np.array([3.0, 5]), np.array([3.0, 4])) == pytest.approx(0.2)
    assert distance(np.array([3.0, 4]), np.zeros(2)) == 5
    assert distance(np.zeros(2), np.zeros(2)) == 0


def test_pooling_makes_position_matter_less(undrawn: None) -> None:
    # 1 1 0 0 0 0 0 0 has its edge at output 1: 0 1 0 0 0 0 0, shifted 0 0 1 0 0 0 0 (what comes in
    # is 0, so there is −1 at 0, which relu removes). Apart by √2, of length 1. Overlapping windows
    # give 1 1 0 0 0 0 and 0 1 1 0 0 0: apart by √2, of length √2. At a shift of 2 they don't touch.
    layers = {"edge": EDGE, "relu": RELU, "pool": {**POOL, "stride": 1}}
    metrics = measure(layers, STEP, max_shift=1)
    assert metrics["change"]["relu"] == pytest.approx(sqrt(2))
    assert metrics["change"]["pool"] == pytest.approx(1)
    assert metrics["change_ratio"]["pool"] == pytest.approx(1 / sqrt(2))
    # The input itself: 1 1 0 0 … and 0 1 1 0 …: √2 of √2. The edges: 0 1 0 … and −1 0 1 …: √3.
    assert metrics["change_ratio"]["edge"] == pytest.approx(sqrt(3))


@pytest.mark.parametrize(("edge_at", "change"), [(1, sqrt(2)), (2, 0), (3, sqrt(2)), (4, 0)])
def test_with_stride_only_what_leaves_its_window_moves(
    edge_at: int, change: float, undrawn: None
) -> None:
    # Windows are outputs 0 and 1, 2 and 3, 4 and 5: from 1 to 2 the edge leaves, from 2 to 3 not.
    image = [[1] * (edge_at + 1) + [0] * (7 - edge_at)]
    layers = {"edge": EDGE, "relu": RELU, "pool": POOL}
    assert measure(layers, image, max_shift=1)["change"]["pool"] == pytest.approx(change)


def test_zeros_of_the_padding_are_seen_at_the_border(undrawn: None) -> None:
    # Sums of three, of ones and padding: 2 3 3 3 3 2. The image shifted by one, 0 1 1 1 1 1, gives
    # 1 2 3 3 3 2; the shifted map is 0 2 3 3 3 3. Output 1 sees pixel 0, which the shift brought
    # in, and agrees by luck: the padding was zero too. Inside are outputs 2 to 4; 0 and 5 are
    # off by 1, a third of the largest.
    layers = {"sum": {"kind": "conv", "weight": [[1, 1, 1]], "padding": [0, 1]}}
    task, run = bare_run(
        {"kind": "equivariance", "max_shift": 1},
        layers,
        {"kind": "tensor", "values": [[1] * 6]},
    )
    metrics = task.run(run)
    assert metrics["equivariant"]
    assert metrics["interior_error"] == 0
    assert not metrics["border_equivariant"]
    assert metrics["border_error"] == pytest.approx(1 / 3)
    assert metrics["border_errors"] == {"sum": pytest.approx(1 / 3)}


def test_the_interior_is_what_saw_the_image_both_times(undrawn: None) -> None:
    # 3 pixels wide without padding: output i sees i to i + 2 of 6. Shifted by 2, outputs 2 and 3
    # see old pixels only; shifted by 4, none does.
    layers = {"sum": {"kind": "conv", "weight": [[1, 1, 1]]}}
    spec, run = bare_run(
        {"kind": "equivariance", "max_shift": 4}, layers, {"kind": "tensor", "values": [[1] * 6]}
    )
    drawn: list[Any] = []
    object.__setattr__(spec, "_draw", lambda _run, tracks, _change: drawn.extend(tracks))
    spec.run(run)
    assert sorted(drawn[0].interior) == [1, 2, 3]
    assert drawn[0].sample.shift == (0, 4)
    assert drawn[0].sample.inner == ([0], [])


def test_only_multiples_of_the_stride_are_compared(undrawn: None) -> None:
    layers = {"conv": {"kind": "conv", "weight": [[1, 2]], "stride": [1, 2]}}
    image = {"kind": "noise", "height": 4, "width": 16}
    # No shift below 2 is a multiple of 2.
    metrics = measure(layers, image, max_shift=1)
    assert metrics["interior_errors"] == {}
    assert "equivariant" not in metrics
    assert "border_error" not in metrics
    assert metrics["change"]["conv"] > 0
    assert measure(layers, image, max_shift=3)["equivariant"]
    # Down, the stride is 1.
    assert measure(layers, image, max_shift=1, axis="rows")["equivariant"]
    assert "equivariant" not in measure(layers, image, max_shift=1, axis="both")
    assert measure(layers, image, max_shift=2, axis="both")["equivariant"]


def test_features_have_no_position_to_be_equivariant_in(undrawn: None) -> None:
    layers = {"conv": EDGE, "flat": {"kind": "flatten"}, "fc": {"kind": "linear", "features": 3}}
    metrics = measure(layers, STEP)
    assert set(metrics["interior_errors"]) == {"conv"}
    assert set(metrics["change"]) == {"conv", "flat", "fc"}
    # Flattened or not, the numbers are the same.
    assert metrics["change"]["flat"] == metrics["change"]["conv"]


@pytest.mark.parametrize("seed", range(200))
def test_the_interior_is_equivariant_for_every_seed(seed: int, undrawn: None) -> None:
    draw = Random(seed)
    layers: dict[str, Any] = {}
    for i in range(draw.randint(1, 2)):
        layers[f"conv{i}"] = {
            "kind": "conv",
            "channels": draw.randint(1, 3),
            "kernel": [draw.randint(1, 3), draw.randint(1, 3)],
            "padding": draw.choice([0, 1, "same", "same_lower"]),
            "pad_mode": draw.choice(["zeros", "replicate"]),
            "dilation": draw.randint(1, 2),
            "stride": draw.choice([1, 1, 2]),
        }
        layers[f"act{i}"] = {"kind": "activation", "function": draw.choice(["relu", "tanh"])}
        if draw.random() < 0.5:
            mode = draw.choice(["max", "avg", "min"])
            layers[f"pool{i}"] = {"kind": "pool", "mode": mode, "kernel": 2, "stride": 1}
    image = {"kind": "noise", "height": 32, "width": 32, "seed": seed}
    fields = {"axis": draw.choice(["rows", "columns", "both"]), "max_shift": 4}
    fields["fill"] = draw.choice(["zeros", "circular"])
    metrics = measure(layers, image, seed=seed, **fields)
    assert set(metrics["interior_errors"]) == set(layers)
    assert metrics["equivariant"]
    # A stack may die of its relu; a live one is exact to a few roundings.
    assert metrics["interior_error"] < 1e-4


@pytest.mark.parametrize("op", ["fft", "winograd", "winograd_2x2"])
@pytest.mark.parametrize("seed", range(10))
def test_transforms_round_more_but_are_equivariant(op: str, seed: int, undrawn: None) -> None:
    three = {"kind": "conv", "channels": 16, "kernel": 3, "padding": 1, "ops": op}
    image = {"kind": "noise", "height": 24, "width": 24, "low": -1.0, "seed": seed}
    metrics = measure({"one": three, "two": three, "three": three}, image, seed=seed)
    assert metrics["equivariant"]
    assert not metrics["border_equivariant"]


@pytest.mark.parametrize("seed", range(200))
def test_circular_padding_is_equivariant_everywhere(seed: int, undrawn: None) -> None:
    draw = Random(seed)
    padding = {"padding": "same", "pad_mode": "circular"}
    layers = {
        "one": {"kind": "conv", "channels": 2, "kernel": draw.randint(1, 3), **padding},
        "act": {"kind": "activation", "function": "relu"},
        "pool": {"kind": "pool", "mode": "max", "kernel": 2},
        "two": {"kind": "conv", "channels": 2, "kernel": draw.randint(1, 3), **padding},
    }
    image = {"kind": "noise", "height": 12, "width": 16, "seed": seed}
    axis = draw.choice(["rows", "columns", "both"])
    metrics = measure(layers, image, seed=seed, axis=axis, fill="circular")
    assert metrics["equivariant"]
    assert metrics["border_equivariant"]
    assert metrics["border_error"] < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_every_precision(dtype: str, undrawn: None) -> None:
    layers = {"conv": {"kind": "conv", "channels": 2, "kernel": 3, "padding": 1}}
    image = {"kind": "noise", "height": 9, "width": 9}
    metrics = measure(layers, image, dtype=dtype)
    assert metrics["equivariant"]
    assert not metrics["border_equivariant"]


@pytest.mark.parametrize("seed", range(3))
def test_branches_dont_excuse_a_border(seed: int, undrawn: None) -> None:
    # Weights as large as these in four branches, all multiplied, would explain everything.
    wide = {"kind": "conv", "channels": 32, "kernel": 3, "padding": 1, "weight": "normal"}
    branch = {"kind": "block", "layers": {"c1": wide, "relu": RELU, "c2": wide}}
    layers = {"p": {"kind": "parallel", "branches": dict.fromkeys("abcd", branch)}}
    metrics = measure(layers, {"kind": "shapes", "height": 32, "width": 32}, seed=seed)
    assert metrics["equivariant"]
    assert not metrics["border_equivariant"]
    assert metrics["border_error"] > 0.01


def test_no_verdict_where_rounding_explains_too_much(
    undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # bfloat16 has 8 bits: rounding may be a tenth of the output, and a tenth is added.
    spec, run = bare_run(
        {"kind": "equivariance", "max_shift": 1},
        {"conv": {"kind": "conv", "channels": 1, "kernel": 5}},
        {"kind": "noise", "height": 12, "width": 12},
        dtype="bfloat16",
    )
    honest, calls = run.model[0].forward, []

    def off(x: torch.Tensor) -> torch.Tensor:
        y = honest(x)
        calls.append(float(y.abs().max()))
        return y + 0.1 * y.abs().max() * (len(calls) - 1 == 2)

    monkeypatch.setattr(run.model[0], "forward", off)
    metrics = spec.run(run)
    assert "equivariant" not in metrics
    assert metrics["interior_error"] == pytest.approx(0.1, rel=0.2)
    assert run.notes[0].startswith("Whether 'conv' is equivariant can't be told")


def test_a_layer_that_knows_its_place_is_found_out(
    undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    layers = {"conv": {"kind": "conv", "channels": 1, "kernel": 3}}
    image = {"kind": "noise", "height": 12, "width": 12}
    spec, run = bare_run({"kind": "equivariance"}, layers, image)
    honest = run.model[0].forward

    def placed(x: torch.Tensor) -> torch.Tensor:
        y = honest(x)
        return y + 1e-4 * torch.arange(y.shape[3])

    monkeypatch.setattr(run.model[0], "forward", placed)
    metrics = spec.run(run)
    assert not metrics["equivariant"]
    assert metrics["interior_error"] > 1e-5


def test_layers_inside_containers_are_compared_too(undrawn: None) -> None:
    # On 1 1 1 0 0 0 0 0 the inner layer, x_i − x_i+1 with a zero at the right end, gives
    # 0 0 1 0 0 0 0 0, of length 1.
    inner = {"edge": {**EDGE, "padding": [0, 0, 0, 1]}, "relu": RELU}
    layers = {
        "sum": {"kind": "residual", "layers": inner},
        "twice": {"kind": "conv", "weight": [[2]]},
    }
    image = [[1, 1, 1, 0, 0, 0, 0, 0]]
    metrics = measure(layers, image, max_shift=1)
    assert set(metrics["change"]) == {"sum", "twice"}
    metrics = measure(layers, image, max_shift=1, depth=2)
    assert list(metrics["change"]) == ["sum.edge", "sum.relu", "sum", "twice"]
    # Shifted: 0 1 1 1 0 0 0 0, so −1 0 0 1 0 0 0 0 inside, apart by √3; without the −1 by √2. The
    # sums are 1 1 2 0 … and 0 1 1 2 0 …: apart by √(1 + 0 + 1 + 4) of √6.
    assert metrics["change"]["sum.edge"] == pytest.approx(sqrt(3))
    assert metrics["change"]["sum.relu"] == pytest.approx(sqrt(2))
    assert metrics["change"]["sum"] == pytest.approx(1)
    # The input: √2 of √3. What is doubled changes as much as it did.
    ratio = 1 / (sqrt(2) / sqrt(3))
    assert metrics["change_ratio"] == {"sum": pytest.approx(ratio), "twice": pytest.approx(1)}
    assert set(metrics["interior_errors"]) == set(metrics["change"])
    assert metrics["equivariant"]


def test_curves_of_zeros_are_one() -> None:
    gap = float("nan")
    curves = {"a": [0.0, gap], "b": [0.0, 2.0], "c": [0.0, 0.0]}
    assert _zeros_as_one(curves) == {"0 everywhere:\na\nc": [0.0, 0.0], "b": [0.0, 2.0]}
    assert _zeros_as_one({"b": [1.0]}) == {"b": [1.0]}


def titles(monkeypatch: pytest.MonkeyPatch, *layers: dict[str, Any], **fields: Any) -> list[str]:
    """What is written above charts and maps."""
    found: list[str] = []
    lines, signed = charts.lines, pictures.signed

    def noted(draw: Any) -> Any:
        def drawn(what: Any, title: str, *given: Any, **named: Any) -> Any:
            found.append(title)
            return draw(what, title, *given, **named)

        return drawn

    monkeypatch.setattr(charts, "lines", noted(lines))
    monkeypatch.setattr(pictures, "signed", noted(signed))
    named = {f"layer{i}": layer for i, layer in enumerate(layers)}
    measure(named, {"kind": "noise", "height": 8, "width": 8}, **fields)
    return found


@pytest.mark.parametrize(
    ("axis", "title"),
    [
        ("rows", "f(x shifted 3 down)"),
        ("columns", "f(x shifted 3 to the right)"),
        ("both", "f(x shifted 3 down, 3 to the right)"),
    ],
)
def test_titles_say_where_to(monkeypatch: pytest.MonkeyPatch, axis: str, title: str) -> None:
    assert title in titles(monkeypatch, EDGE, axis=axis, max_shift=3)


def test_a_chart_of_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    title = "Error of equivariance: f(shifted x) − shifted f(x)"
    assert f"{title}, 0 everywhere" in titles(monkeypatch, RELU, RELU, fill="circular")
    padded = {**EDGE, "padding": 1}
    assert title in titles(monkeypatch, RELU, padded, fill="circular")


def test_pictures(workplace: Path) -> None:
    result = runner.run("task=equivariance", "stack=lenet", "data=shapes", "task.axis=both")
    pictures = {path.name for path in (result.directory / "images").iterdir()}
    assert {"equivariance_change.png", "equivariance_error.png"} < pictures
    assert {"equivariance_maps_conv1.png", "equivariance_maps_pool2.png"} < pictures
    assert "equivariance_maps_fc1.png" not in pictures


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["stack=empty"],
            "stack.layers: expected at least one layer, got none. "
            "Add a conv layer such as {kind: conv, channels: 1, kernel: 3}.",
        ),
        (
            ["data=bar", "task.axis=rows", "task.max_shift=6"],
            "task.max_shift: expected at most 5, for some of the 6×8 image to stay, got 6.",
        ),
        (
            ["data=bar", "task.axis=both", "task.max_shift=7"],
            "task.max_shift: expected at most 5, for some of the 6×8 image to stay, got 7.",
        ),
        (["task.depth=0"], "task.depth: expected at least 1, got 0."),
        (["task.max_shift=0"], "task.max_shift: expected at least 1, got 0."),
        (
            ["task.axis=row"],
            "task.axis: expected one of rows, columns, both, got 'row' (text). "
            "Did you mean 'rows'?",
        ),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=equivariance", *words)
    assert str(caught.value) == message
