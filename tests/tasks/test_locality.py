"""Locality: matrices worked out by hand, and the book's budgets."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from bare_run import bare_run

import runner
from runner.config.errors import ConfigError
from runner.tasks._dense import Layout, Weights
from runner.tasks.locality import Budget

NOISE = {"kind": "noise", "height": 8, "width": 9, "images": 2}


def measure(
    layers: dict[str, Any], data: dict[str, Any] | None = None, **options: Any
) -> dict[str, Any]:
    """The task's metrics, without a directory."""
    task, run = bare_run({"kind": "locality"}, layers, data or NOISE, **options)
    return task.run(run)


def conv(**fields: Any) -> dict[str, Any]:
    """A stack of one conv layer."""
    return {"conv": {"kind": "conv", **fields}}


def row(width: int = 4) -> dict[str, Any]:
    """One image of one row."""
    return {"kind": "tensor", "values": [list(range(1, width + 1))]}


def test_the_four_by_nine_matrix(workplace: Path) -> None:
    # Output (0, 0) is 1·x00 + 2·x01 + 3·x10 + 4·x11, with x flat: columns 0, 1, 3, 4. The next
    # output's weights stand one column on, those of the next row three.
    result = runner.run("task=locality", "data=tensor", "stack.layers.conv.weight=[[1, 2], [3, 4]]")
    assert result.metrics["matrix"] == [
        [1, 2, 0, 3, 4, 0, 0, 0, 0],
        [0, 1, 2, 0, 3, 4, 0, 0, 0],
        [0, 0, 0, 1, 2, 0, 3, 4, 0],
        [0, 0, 0, 0, 1, 2, 0, 3, 4],
    ]
    assert result.metrics["matrix_shape"] == [4, 9]
    assert result.metrics["affine"]
    assert result.metrics["agrees"]
    assert result.metrics["dense_error"] == 0
    assert result.metrics["window"] == [2, 2]
    assert result.metrics["radius"] == 1
    assert result.metrics["parameters"] == {"dense": 36, "nonzero": 16, "free": 4}
    pictures = {path.name for path in (result.directory / "images").iterdir()}
    assert pictures == {"locality_matrix.png", "locality_blocks.png"}
    assert "budget" not in result.metrics


@pytest.mark.parametrize(
    ("fields", "matrix"),
    [
        # [1, 2] on four pixels, in a row.
        ({}, [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2]]),
        ({"mode": "convolution"}, [[2, 1, 0, 0], [0, 2, 1, 0], [0, 0, 2, 1]]),
        ({"stride": [1, 2]}, [[1, 2, 0, 0], [0, 0, 1, 2]]),
        ({"dilation": [1, 2]}, [[1, 0, 2, 0], [0, 1, 0, 2]]),
        (
            {"padding": [0, 1]},
            [[2, 0, 0, 0], [1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2], [0, 0, 0, 1]],
        ),
        # What is added at the right is the left pixel, or the last one again.
        (
            {"padding": "same", "pad_mode": "circular"},
            [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2], [2, 0, 0, 1]],
        ),
        (
            {"padding": "same", "pad_mode": "replicate"},
            [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2], [0, 0, 0, 3]],
        ),
        # A constant that is added is no weight.
        ({"bias": [5.0]}, [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2]]),
    ],
)
def test_matrices_of_one_row(
    fields: dict[str, Any], matrix: list[list[int]], undrawn: None
) -> None:
    metrics = measure(conv(weight=[[1, 2]], **fields), row())
    assert metrics["matrix"] == matrix
    assert metrics["agrees"]
    assert metrics["translation_invariant"]
    assert metrics["deviation"] == 0
    dilation = fields.get("dilation", [1, 1])[1]
    assert metrics["window"] == [1, 1 + dilation]


def test_channels_are_side_by_side(undrawn: None) -> None:
    # Two channels of two pixels, and two outputs: sum, and first minus second. A 1×1 kernel.
    weight = [[[[1]], [[1]]], [[[1]], [[-1]]]]
    data = {"kind": "tensor", "values": [[[1, 2]], [[3, 4]]]}
    metrics = measure(conv(weight=weight), data)
    assert metrics["matrix"] == [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, -1, 0], [0, 1, 0, -1]]
    assert metrics["window"] == [1, 1]
    assert metrics["parameters"] == {"dense": 16, "nonzero": 8, "free": 4}


@pytest.mark.parametrize(
    ("layer", "channels", "free"),
    [
        # A kernel with holes has as many weights as one without.
        ({"kind": "conv", "channels": 1, "kernel": 3, "dilation": 2}, 1, 9),
        # In groups, each of 4 outputs sees 2 of 4 channels, through 3×3 windows.
        ({"kind": "conv", "channels": 4, "kernel": 3, "groups": 2}, 4, 72),
        ({"kind": "conv", "channels": 3, "kernel": [2, 3], "groups": 3}, 3, 18),
        # Pooling: every channel its own 2×2 window.
        ({"kind": "pool", "mode": "avg", "kernel": 2}, 3, 12),
        ({"kind": "pool", "mode": "avg", "kernel": 2, "stride": 1}, 3, 12),
        ({"kind": "conv", "channels": 5, "kernel": 3, "padding": 1, "stride": 2}, 2, 90),
        # A weight that is zero is none.
        ({"kind": "conv", "weight": [[1, 0], [0, 1]]}, 1, 2),
    ],
)
def test_free_weights(layer: dict[str, Any], channels: int, free: int, undrawn: None) -> None:
    metrics = measure({"one": layer}, {**NOISE, "channels": channels})
    assert metrics["translation_invariant"]
    assert metrics["parameters"]["free"] == free


def test_a_dense_layer_is_neither_invariant_nor_local(undrawn: None) -> None:
    layers = {"flat": {"kind": "flatten"}, "dense": {"kind": "linear", "features": 72}}
    metrics = measure(layers)
    assert metrics["affine"]
    assert metrics["agrees"]
    assert not metrics["translation_invariant"]
    assert metrics["deviation"] > 0.5
    assert not metrics["local"]
    assert metrics["window"] == [15, 17]  # offsets −7 to 7 and −8 to 8
    assert metrics["radius"] == 8
    assert metrics["parameters"]["dense"] == 72 * 72
    assert metrics["parameters"]["free"] == metrics["parameters"]["nonzero"]
    assert "receptive_field" not in metrics


def test_one_position_that_differs_is_not_invariant() -> None:
    # Three outputs of a row, [1, 2] each, but the last one's second weight is 2.5: V differs by 0.5
    # at offset 1, a fifth of the largest weight.
    places = places_of_a_row()
    matrix = np.array([[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2.5]])
    metrics = Weights(matrix, places, zero=1e-6, noise=1e-6).metrics()
    assert not metrics["translation_invariant"]
    assert metrics["deviation"] == pytest.approx(0.2)
    assert metrics["parameters"] == {"dense": 12, "nonzero": 6, "free": 6}
    # A weight beside its window makes the window larger: offsets 0 to 2. The next output has none.
    matrix = np.array([[1, 2, 1, 0], [0, 1, 2, 0], [0, 0, 1, 2.0]])
    metrics = Weights(matrix, places, zero=1e-6, noise=1e-6).metrics()
    assert metrics["window"] == [1, 3]
    assert not metrics["translation_invariant"]
    # At offset 3 only the first output has a pixel: there is none to differ from.
    matrix = np.array([[1, 2, 0, 1], [0, 1, 2, 0], [0, 0, 1, 2.0]])
    metrics = Weights(matrix, places, zero=1e-6, noise=1e-6).metrics()
    assert metrics["window"] == [1, 4]
    assert metrics["translation_invariant"]
    assert not metrics["local"]


def places_of_a_row() -> Layout:
    """Three outputs of a 1×2 kernel on a row of four."""
    return Layout.of(runner.plan("task=locality", "stack=edge_vertical", *blank_row()))


def blank_row() -> list[str]:
    return ["data=blank", "data.height=1", "data.width=4"]


def test_blocks_show_each_outputs_weights_at_its_place() -> None:
    matrix = np.array([[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2.0]])
    picture = Weights(matrix, places_of_a_row(), zero=0, noise=0).blocks()
    # Three blocks of four pixels, each pixel 480 / 12 = 40 wide, with lines between them.
    assert picture.shape == (40, 3 * 160 + 2)
    assert np.flatnonzero(np.isnan(picture[0])).tolist() == [160, 321]
    for block in range(3):
        left = block * 161
        assert picture[0, left : left + 160 : 40].tolist() == matrix[block].tolist()


@pytest.mark.parametrize("seed", range(200))
def test_any_convolution_is_a_dense_layer_with_few_weights(seed: int, undrawn: None) -> None:
    draw = Random(seed)
    height, width = draw.randint(7, 8), draw.randint(7, 9)
    c_in, c_out = draw.randint(1, 2), draw.randint(1, 2)
    kernel, dilation = (draw.randint(1, 3), draw.randint(1, 3)), draw.randint(1, 2)
    fields = {
        "channels": c_out, "kernel": list(kernel), "dilation": dilation,
        "stride": draw.randint(1, 2), "padding": draw.choice([0, 1, "same", "same_lower"]),
        "bias": draw.random() < 0.5, "mode": draw.choice(["correlation", "convolution"]),
    }  # fmt: skip
    data = {"kind": "noise", "channels": c_in, "height": height, "width": width, "seed": seed}
    metrics = measure(conv(**fields), data, seed=seed)
    window = [dilation * (k - 1) + 1 for k in kernel]
    assert metrics["affine"]
    assert metrics["agrees"]
    assert metrics["dense_error"] < 1e-5
    assert metrics["window"] == metrics["receptive_field"] == window
    assert metrics.get("translation_invariant", True)


@pytest.mark.parametrize("seed", range(100))
def test_deep_affine_stacks_agree_too(seed: int, undrawn: None) -> None:
    layers = {
        "one": {"kind": "conv", "channels": 3, "kernel": 3, "padding": 1},
        "pool": {"kind": "pool", "mode": "avg", "kernel": 2},
        "norm": {"kind": "batchnorm"},
        "two": {"kind": "conv", "channels": 2, "kernel": 2},
        "flat": {"kind": "flatten"},
        "three": {"kind": "linear", "features": 72},
    }
    metrics = measure(layers, NOISE, seed=seed)
    assert metrics["affine"]
    assert metrics["agrees"]
    # Weights are differences to the constant: where it is larger than they are, digits are lost.
    assert metrics["dense_error"] < 1e-4


@pytest.mark.parametrize("op", ["fft", "winograd", "winograd_2x2"])
@pytest.mark.parametrize("seed", range(5))
def test_what_transforms_leave_is_no_weight(op: str, seed: int, undrawn: None) -> None:
    three = {"kind": "conv", "channels": 2, "kernel": 3, "padding": 1, "ops": op}
    metrics = measure({"one": three, "two": three}, NOISE, seed=seed)
    assert metrics["window"] == [5, 5]
    assert metrics["affine"]
    assert metrics["agrees"]
    assert metrics["translation_invariant"]


def test_zeros_from_padding_between_layers_leave_the_inside_invariant(undrawn: None) -> None:
    layers = {
        "one": {"kind": "conv", "weight": "box", "padding": 1},
        "two": {"kind": "conv", "weight": "box", "padding": 1},
    }
    metrics = measure(layers)
    # Inside, [1 1 1] twice is [1 2 3 2 1]; at the border sums of the first layer are missing.
    assert metrics["translation_invariant"]
    assert metrics["window"] == [5, 5]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_every_precision(dtype: str, undrawn: None) -> None:
    metrics = measure(conv(channels=2, kernel=3, padding=1), dtype=dtype, seed=3)
    assert metrics["affine"]
    assert metrics["agrees"]
    assert metrics["window"] == [3, 3]
    assert metrics["translation_invariant"]


@pytest.mark.parametrize(
    "layer",
    [
        {"kind": "activation", "function": "relu"},
        {"kind": "activation", "function": "sigmoid"},
        {"kind": "pool", "kernel": 2},
        {"kind": "pool", "mode": "min", "kernel": 2},
    ],
)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_not_affine_has_no_matrix(layer: dict[str, Any], seed: int, undrawn: None) -> None:
    task, run = bare_run(
        {"kind": "locality"}, {**conv(channels=1, kernel=2), "bend": layer}, NOISE, seed=seed
    )
    metrics = task.run(run)
    assert not metrics["affine"]
    assert not {"agrees", "matrix", "window", "translation_invariant"} & set(metrics)
    assert "not affine" in run.notes[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "bend",
    [{"kind": "activation", "function": "relu"}, {"kind": "pool", "kernel": 1, "mode": "max"}],
)
def test_branches_dont_excuse_each_other(bend: dict[str, Any], seed: int, undrawn: None) -> None:
    # Weights as large as these in four branches, all multiplied, would explain everything.
    wide = {"kind": "conv", "channels": 32, "kernel": 3, "padding": 1, "weight": "normal"}
    branch = {"kind": "block", "layers": {"c1": wide, "bend": bend, "c2": wide}}
    layers = {"p": {"kind": "parallel", "branches": dict.fromkeys("abcd", branch)}}
    image = {"kind": "noise", "height": 4, "width": 4}
    metrics = measure(layers, image, seed=seed)
    if bend["kind"] == "activation":
        assert not metrics["affine"]
        assert "agrees" not in metrics
    else:  # the maximum of one pixel is that pixel
        assert metrics["affine"]
        assert metrics["agrees"]


@pytest.mark.parametrize("seed", range(10))
def test_affine_containers_have_a_matrix(seed: int, undrawn: None) -> None:
    one = {"kind": "conv", "channels": 2, "kernel": 3, "padding": 1}
    layers = {
        "residual": {"kind": "residual", "layers": {"a": one, "b": one}},
        "parallel": {"kind": "parallel", "branches": {"a": one, "b": {**one, "bias": False}}},
        "dense": {"kind": "dense_block", "times": 2, "layers": {"a": one}},
        "repeat": {"kind": "repeat", "times": 2, "layers": {"a": one}},
    }
    metrics = measure(layers, NOISE, seed=seed)
    assert metrics["affine"]
    assert metrics["agrees"]
    assert metrics["dense_error"] < 1e-4


def test_no_verdict_where_rounding_explains_too_much(undrawn: None) -> None:
    # Bent by a tenth: as much as four layers of 8 bits may be wrong.
    deep = {f"c{i}": {"kind": "conv", "channels": 4, "kernel": 3, "padding": 1} for i in range(4)}
    deep["bend"] = {"kind": "activation", "function": "leaky_relu", "slope": 0.8}
    task, run = bare_run({"kind": "locality"}, deep, NOISE, dtype="bfloat16")
    metrics = task.run(run)
    assert not {"affine", "agrees", "window", "matrix"} & set(metrics)
    assert run.notes[0].startswith("Whether the stack is affine can't be told: rounding may")
    assert run.notes[0].endswith("With dtype=float64 it may.")
    assert measure(deep, NOISE, dtype="float64")["affine"] is False


def test_invariance_that_cannot_be_told_is_left_out() -> None:
    # As above, off by 0.5 of 2.5; where rounding explains 0.6, a quarter, nobody knows.
    matrix = np.array([[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2.5]])
    metrics = Weights(matrix, places_of_a_row(), zero=1e-6, noise=0.6).metrics()
    assert "translation_invariant" not in metrics
    assert metrics["deviation"] == pytest.approx(0.2)
    assert metrics["parameters"] == {"dense": 12, "nonzero": 6}


def test_images_that_the_matrix_doesnt_explain_are_noticed(
    undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from runner.tasks import locality

    built = locality.dense

    def off(run: Any) -> Any:
        matrix, constant = built(run)
        matrix[0, 0] += 1e-3
        return matrix, constant

    monkeypatch.setattr(locality, "dense", off)
    assert not measure(conv(weight="box"))["agrees"]


def test_nothing_is_claimed_of_a_single_output(undrawn: None) -> None:
    task, run = bare_run({"kind": "locality"}, conv(weight=[[1, 2, 3, 4]]), row())
    metrics = task.run(run)
    assert "translation_invariant" not in metrics
    assert not metrics["local"]
    assert run.notes == ["Only one output sees no padding: there is none to compare it with."]


def test_the_books_budgets() -> None:
    # 10⁶ pixels: · 1000 units; · 10⁶ pixels; offsets from −1000 to 1000 both ways, in the book's
    # rounding 2000²; 2Δ each way.
    assert Budget().weights() == {
        "dense": 10**9,
        "image_to_image": 10**12,
        "translation_invariant": 4 * 10**6,
        "local": 400,
    }
    assert Budget(height=2, width=3, units=5, radius=1).weights() == {
        "dense": 30,
        "image_to_image": 36,
        "translation_invariant": 24,
        "local": 4,
    }


def test_a_budget_is_counted_and_drawn_where_it_is_asked_for(workplace: Path) -> None:
    result = runner.run("task=locality", "data=tensor", "task.budget={height: 2, width: 3}")
    assert result.metrics["budget"]["dense"] == 2 * 3 * 1000
    assert (result.directory / "images/locality_budget.png").exists()


def test_a_budget_has_a_bar_for_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("runner.tracking.charts.bars", lambda *given, **_: drawn.extend(given))
    Budget(height=2, width=3, units=5, radius=1).chart()
    assert list(drawn[0].values()) == [30, 36, 24, 4]
    assert drawn[1] == "Weights of a layer from\nan image of 2×3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["stack=lenet", "data=blank"],
            "stack.layers.fc3: expected feature maps, or features for an image like the input: a "
            "multiple of 28·28 = 784, got 10 features. "
            "Give the last layer 784 features, or remove flatten and what follows it.",
        ),
        (
            ["stack=empty", "+stack.layers.p={kind: pool, mode: avg, output_size: 3}"],
            "stack.layers.p: expected outputs that lie a whole number of pixels apart, got 2.667 "
            "down, 2.667 across. Give adaptive pooling an output_size that divides the input's.",
        ),
        (
            # 425·638 outputs · 427·640 pixels · 8 bytes · 4 = 2.157 TiB
            ["data=photo"],
            "data: expected an input for which the task fits into memory_limit_gib (4.0 GiB), got "
            "2.2 TiB, most of it the task's own, for inputs of 1×427×640. "
            "Use smaller sizes, or raise memory_limit_gib.",
        ),
        (["task.budget={units: 0}"], "task.budget.units: expected at least 1, got 0."),
    ],
)
def test_mistakes(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=locality", *words)
    assert str(caught.value).startswith(message)
