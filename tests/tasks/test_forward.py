"""The forward task: numbers of the book, what is kept and what is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runner

X = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
K = [[0, 1], [2, 3]]


def forward(*words: str) -> Any:
    return runner.run("task=forward", "stack=kernel", "data=tensor", *words)


@pytest.mark.parametrize("ops", ["loops", "native"])
@pytest.mark.parametrize(
    ("mode", "output"),
    [
        # 0·0 + 1·1 + 3·2 + 4·3 = 19, … (6.2.1)
        ("correlation", [[19, 25], [37, 43]]),
        # Flipped, [[3, 2], [1, 0]]: 0·3 + 1·2 + 3·1 + 4·0 = 5, … (6.2.5)
        ("convolution", [[5, 11], [23, 29]]),
    ],
)
def test_one_channel(ops: str, mode: str, output: list[list[int]], workplace: Path) -> None:
    words = [f"stack.layers.conv.weight={K}", f"data.values={X}", f"stack.layers.conv.mode={mode}"]
    result = forward(*words, f"ops={ops}")
    assert result.metrics["output"] == output
    assert result.metrics["output_shape"] == [1, 1, 2, 2]
    assert result.metrics["mean"] == pytest.approx(sum(map(sum, output)) / 4)
    # 19, 25, 37, 43 and 5, 11, 23, 29 have the same spread: deviations −12, −6, 6, 12.
    assert result.metrics["std"] == pytest.approx(((144 + 36) / 2) ** 0.5)
    assert result.metrics["shapes"] == {"conv": [1, 2, 2]}


def test_bias_is_added(workplace: Path) -> None:
    result = forward(f"stack.layers.conv.weight={K}", "stack.layers.conv.bias=0.5")
    assert result.metrics["output"] == [[19.5, 25.5], [37.5, 43.5]]


def test_channels(workplace: Path) -> None:
    """6.4.1 and 6.4.2: two input channels X and X + 1; kernels (K, K + 1), each plus 0, 1, 2."""

    def plus(rows: list[list[int]], n: int) -> list[list[int]]:
        return [[value + n for value in row] for row in rows]

    weight = [[plus(K, n), plus(K, n + 1)] for n in range(3)]
    data = f"data.values={[X, plus(X, 1)]}"
    result = forward(f"stack.layers.conv.weight={weight}", data)
    assert result.metrics["output"] == [
        [[56, 72], [104, 120]],
        [[76, 100], [148, 172]],
        [[96, 128], [192, 224]],
    ]
    assert forward(f"stack.layers.conv.weight={weight[:1]}", data).metrics["output"] == [
        [56, 72],
        [104, 120],
    ]


def test_batch_keeps_its_brackets(workplace: Path) -> None:
    result = forward(f"stack.layers.conv.weight={K}", f"data.values={[[X], [X]]}")
    assert result.metrics["output"] == [[[[19, 25], [37, 43]]]] * 2


def test_large_outputs_are_files_not_metrics(workplace: Path) -> None:
    small = runner.run(
        "task=forward", "stack=empty", "data=blank", "data.height=32", "data.width=32"
    )
    assert len(small.metrics["output"]) == 32
    large = runner.run(
        "task=forward", "stack=empty", "data=blank", "data.height=32", "data.width=33"
    )
    assert "output" not in large.metrics
    assert large.metrics["output_shape"] == [1, 1, 32, 33]


def test_every_layer_is_kept_in_order(workplace: Path) -> None:
    result = runner.run(
        "task=forward", "stack=lenet", "data=blank", "data.value=1.0", "data.images=2"
    )
    names = ["conv1", "act1", "pool1", "conv2", "act2", "pool2", "flatten"]
    names += ["fc1", "act3", "fc2", "act4", "fc3"]
    assert list(result.outputs) == names
    shapes = {name: y.shape for name, y in result.outputs.items()}
    assert shapes["pool1"] == (2, 6, 14, 14)
    assert shapes["fc3"] == (2, 10)
    with np.load(result.directory / "outputs.npz", allow_pickle=False) as saved:
        assert list(saved) == names
        for name in names:
            np.testing.assert_array_equal(saved[name], result.outputs[name])
    # Each layer's output is the next one's input.
    np.testing.assert_allclose(
        result.outputs["act1"], 1 / (1 + np.exp(-result.outputs["conv1"])), rtol=1e-6
    )
    np.testing.assert_array_equal(
        result.outputs["flatten"], result.outputs["pool2"].reshape(2, 400)
    )


def test_seed_draws_the_weights(workplace: Path) -> None:
    def output(seed: int) -> Any:
        words = ["stack=kernel_3x3", "data=checkerboard", "data.height=8", "data.width=8"]
        return runner.run("task=forward", *words, f"seed={seed}").metrics["output"]

    assert output(1) == output(1)
    assert output(1) != output(2)


def test_as_many_pictures_as_asked_for(workplace: Path) -> None:
    result = runner.run(
        "task=forward", "stack=detectors", "data=shapes", "data.images=3", "task.images=2"
    )
    pictures = {p.name for p in (result.directory / "images").iterdir()}
    assert pictures == {
        "input_0.png", "input_1.png", "output_detectors_0.png", "output_detectors_1.png",
        "overview_0.png", "overview_1.png",
    }  # fmt: skip


def test_nothing_is_dropped_out(workplace: Path) -> None:
    layer = "+stack.layers.drop={kind: dropout, p: 0.9}"
    result = runner.run("task=forward", "stack=empty", layer, "data=tensor")
    assert result.metrics["output"] == X


def test_numbers_keep_the_digits_of_float64(workplace: Path) -> None:
    third = 1 / 3
    result = forward("stack.layers.conv.weight=[[1]]", f"data.values=[[{third}]]", "dtype=float64")
    assert result.metrics["output"] == [[third]]
    result = forward("stack.layers.conv.weight=[[1]]", f"data.values=[[{third}]]")
    assert result.metrics["output"] != [[third]]
    assert result.metrics["output"][0][0] == pytest.approx(third, rel=1e-7)


def test_strongest_channel_of_each_image(workplace: Path) -> None:
    """A bright and a dark spot: kernels 1 and −1 answer with 5 and −5, and the other way round."""
    spots = [[[[0, 5]]], [[[0, -5]]]]
    words = ["stack.layers.conv.weight=[[[[1]]], [[[-1]]]]", f"data.values={spots}"]
    assert forward(*words).metrics["strongest"] == [0, 1]
    assert "strongest" not in forward(f"data.values={X}", f"stack.layers.conv.weight={K}").metrics


def test_what_the_plan_says(workplace: Path) -> None:
    result = forward(f"stack.layers.conv.weight={K}", f"data.values={X}")
    # Four outputs of four products.
    assert result.metrics["multiply_adds"] == 16
    assert result.metrics["parameters"] == 4
    assert result.metrics["receptive_field"] == [2, 2]


BLOCK = "+stack.layers.b={kind: repeat, times: 2, layers: {c: {kind: conv, weight: [[1, 1]]}}}"


def test_depth_opens_containers(workplace: Path) -> None:
    """Sums of neighbours twice: 1, 2, 4 becomes 3, 6 and then 9."""
    words = ["task=forward", "stack=empty", "data=tensor", "data.values=[[1, 2, 4]]", BLOCK]
    shut, opened = runner.run(*words), runner.run(*words, "task.depth=3")
    assert list(shut.outputs) == ["b"]
    assert {name: y.tolist() for name, y in opened.outputs.items()} == {
        "b.1.c": [[[[3, 6]]]], "b.1": [[[[3, 6]]]], "b.2.c": [[[[9]]]], "b.2": [[[[9]]]],
        "b": [[[[9]]]],
    }  # fmt: skip
    assert opened.metrics["output"] == [[9]]
    with np.load(opened.directory / "outputs.npz") as saved:
        assert list(saved) == list(opened.outputs)
    pictures = {p.name for p in (opened.directory / "images").iterdir()}
    assert "output_b_1_c.png" in pictures
