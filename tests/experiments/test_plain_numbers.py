"""Numbers that experiments expect and the book doesn't print, derived once more.

Each test reads what an experiment's YAML expects, and gets the same from the definition or by
algebra, with NumPy alone. That the experiments hold is tested with the other configs.
"""

from __future__ import annotations

from itertools import product
from math import factorial
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

import runner
from runner.config.compose import config_folder

COUNT = np.arange(9).reshape(3, 3)
KERNEL = np.array([[0, 1], [2, 3]])


def expected(name: str, metric: str = "output") -> Any:
    """What an experiment's YAML says a metric must be."""
    text = (config_folder() / "experiment" / f"{name}.yaml").read_text()
    found = yaml.safe_load(text)["expect"][metric]
    return found["value"] if isinstance(found, dict) else found


def corr(x: NDArray[Any], k: NDArray[Any]) -> NDArray[Any]:
    """Cross-correlation by its definition: the sum of window times kernel."""
    (h, w), (kh, kw) = x.shape, k.shape
    return np.array(
        [
            [(x[i : i + kh, j : j + kw] * k).sum() for j in range(w - kw + 1)]
            for i in range(h - kh + 1)
        ]
    )


def windows(x: NDArray[Any], size: tuple[int, int], step: tuple[int, int]) -> list[Any]:
    """Every window of an image, by rows."""
    (h, w), (kh, kw) = x.shape, size
    return [
        [x[i : i + kh, j : j + kw] for j in range(0, w - kw + 1, step[1])]
        for i in range(0, h - kh + 1, step[0])
    ]


# 6.2


def test_bias_is_added_and_gradients_are_those_of_torch() -> None:
    assert expected("6_2/bias") == (np.array([[19, 25], [37, 43]]) + 10).tolist()
    import torch

    def gradients(compute: Any) -> list[list[Any]]:
        x = torch.tensor(COUNT, dtype=torch.float64).reshape(1, 1, 3, 3).requires_grad_()
        weight = torch.tensor(KERNEL, dtype=torch.float64).reshape(1, 1, 2, 2).requires_grad_()
        bias = torch.tensor([10.0], dtype=torch.float64).requires_grad_()
        compute(x, weight, bias).sum().backward()
        return [t.grad.squeeze().tolist() for t in (x, weight, bias)]  # type: ignore[union-attr]

    # Of the sum of outputs: each weight meets the four numbers of one corner of the input, each
    # pixel those weights that ever lie on it, and the bias each of four outputs.
    by_hand = [[[0, 1, 1], [2, 6, 4], [2, 5, 3]], [[8, 12], [20, 24]], 4]
    assert gradients(torch.nn.functional.conv2d) == by_hand
    for op in ("loops", "native"):
        assert gradients(lambda x, w, b, op=op: runner.conv2d(x, w, b, op=op)) == by_hand


def test_transposing_image_and_kernel_transposes_the_edges() -> None:
    bar = np.ones((6, 8), dtype=int)
    bar[:, 2:6] = 0
    upright = np.array([[1], [-1]])
    assert expected("6_2/edge_horizontal") == corr(bar.T, upright).tolist()
    assert expected("6_2/edge_horizontal") == np.transpose(expected("6_2/edge_vertical")).tolist()


def test_diagonal_edges() -> None:
    # X[i, j] is 1 where i = j, and X[i, j + 1] where i = j + 1: below the diagonal.
    by_algebra = [[(i == j) - (i == j + 1) for j in range(5)] for i in range(6)]
    assert expected("6_2/diagonal") == by_algebra
    assert expected("6_2/diagonal_transposed") == np.transpose(by_algebra).tolist()


def test_transposed_input_is_transposed_kernel() -> None:
    # corr(Xᵀ, K)[i, j] = Σ X[j + b, i + a] K[a, b] = corr(X, Kᵀ)[j, i]
    assert expected("6_2/transposed_input") == corr(COUNT.T, KERNEL).tolist()
    # 0·0 + 2·1 + 1·3 + 3·4 = 17; 0·1 + 2·2 + 1·4 + 3·5 = 23; …
    assert expected("6_2/transposed_kernel") == [[17, 23], [35, 41]]
    assert (
        expected("6_2/transposed_input") == np.transpose(expected("6_2/transposed_kernel")).tolist()
    )


def test_blur_spreads_a_point_and_keeps_the_sum() -> None:
    spread = np.array(expected("6_2/blur"))
    assert spread.sum() == 9
    assert expected("6_2/blur", "mean") == 9 / 25
    # 1/9 of 9 reaches each pixel at most one row and one column away.
    far = np.abs(np.arange(5) - 2)
    assert spread.tolist() == ((far[:, None] <= 1) & (far <= 1)).astype(int).tolist()


def test_second_derivative_is_the_difference_of_differences() -> None:
    row = np.array([1, 1, 0, 0, 0, 0, 1, 1])
    assert np.convolve([1, -1], [1, -1]).tolist() == [1, -2, 1]
    for found in expected("6_2/second_derivative"):
        assert found == np.diff(row, 2).tolist() == [-1, 1, 0, 0, 1, -1]


def test_order_of_a_derivative_takes_one_number_more() -> None:
    third = np.array([1])
    for _ in range(3):
        third = np.convolve(third, [1, -1])
    assert third.tolist() == [1, -3, 3, -1]
    # The third difference of x³ is 3!, and one factor −1 for each of three differences.
    assert expected("6_2/derivative_order") == [[-factorial(3)] * 3, [0] * 3]
    # A kernel w of order d gives Σ w[k] kʲ = 0 for j < d. With d numbers that is a Vandermonde
    # matrix of full rank, which only zero solves; with d + 1 one kernel is left.
    for d in range(1, 8):
        powers = np.array([[k**j for k in range(d + 1)] for j in range(d)], dtype=float)
        assert np.linalg.matrix_rank(powers[:, :d]) == d
        assert np.linalg.matrix_rank(powers) == d


# 6.3


def test_same_and_same_lower_are_one_map_shifted() -> None:
    # Padded on all sides, the output is 4×4; each keeps another 3×3 corner of it.
    full = corr(np.pad(COUNT, 1), KERNEL)
    assert expected("6_3/same") == full[1:, 1:].tolist()
    assert expected("6_3/same_lower") == full[:-1, :-1].tolist()
    lower, upper = np.array(expected("6_3/same_lower")), np.array(expected("6_3/same"))
    assert (lower[1:, 1:] == upper[:-1, :-1]).all()


def test_ten_layers_take_four_rows_each() -> None:
    assert expected("6_3/shrink") == [1, 240 - 10 * (5 - 1), 240 - 10 * (5 - 1)]
    assert round(1 - 200**2 / 240**2, 3) == 0.306


def test_reflection_mirrors_the_image_at_its_border() -> None:
    mirrored = COUNT[np.ix_([1, 0, 1, 2, 1], [1, 0, 1, 2, 1])]
    assert expected("6_3/reflect") == corr(mirrored, KERNEL).tolist()
    assert np.array(expected("6_3/reflect"))[1:3, 1:3].tolist() == [[19, 25], [37, 43]]


@pytest.mark.parametrize("stride", [2, 4])
def test_stride_costs_its_square_less(stride: int) -> None:
    name = f"6_3/stride_cost_{stride}"
    assert expected(name, "multiply_adds") * stride**2 == 64 * 64 * 9
    # (64 − 3 + 2 + s) / s, rounded down
    assert expected(name) == [1, (63 + stride) // stride, (63 + stride) // stride]


def test_formula_gives_the_size_of_what_is_computed() -> None:
    import torch

    assert expected("6_3/formula", "output_shape") == [1, 1, *[(11 - 3 + 2 + 2) // 2] * 2]
    tried = 0
    grid = product(range(1, 10), range(1, 6), range(4), range(1, 5), range(1, 4))
    for n, k, p, s, d in grid:
        reach = (k - 1) * d + 1
        if reach > n + 2 * p:
            continue
        size = (n - reach + 2 * p + s) // s
        x, weight = torch.ones(1, 1, n, 1), torch.ones(1, 1, k, 1)
        words = {"padding": (p, 0), "stride": (s, 1), "dilation": (d, 1)}
        for op in ("native", "loops") if n == 4 else ("native",):
            assert runner.conv2d(x, weight, op=op, **words).shape == (1, 1, size, 1)  # type: ignore[arg-type]
        tried += 1
    assert tried > 1000


# 6.4


def test_channels_are_added_and_outputs_stand_side_by_side() -> None:
    image = [COUNT, COUNT + 1]
    first = [KERNEL, KERNEL + 1]
    maps = [sum(corr(x, k + more) for x, k in zip(image, first, strict=True)) for more in range(3)]
    assert expected("6_4/two_channels") == maps[0].tolist()  # type: ignore[union-attr]
    assert expected("6_4/three_outputs") == [y.tolist() for y in maps]  # type: ignore[union-attr]


def test_cost_is_a_product_of_six() -> None:
    # A power of two but for the kernel: 2^7 · 2^7 · 25 · 2^8 · 2^8.
    assert expected("6_4/cost", "multiply_adds") == 25 * 2**30
    assert 2 * expected("6_4/cost", "multiply_adds") == 53_687_091_200
    assert expected("6_4/cost", "parameters") == 25 * 2**14
    for metric in ("multiply_adds", "parameters"):
        assert expected("6_4/cost_doubled", metric) == 4 * expected("6_4/cost", metric)


def test_detectors_find_their_patterns_wherever_they_are(workplace: Any) -> None:
    """Not by luck of one place: rolled by a pixel in any direction, each still finds its own."""
    text = (config_folder() / "experiment" / "6_4" / "detectors.yaml").read_text()
    patterns = np.array(yaml.safe_load(text)["data"]["values"])
    assert patterns.shape == (6, 1, 9, 9)
    vertical, horizontal, rising, falling, ring, spot = patterns[:, 0]
    assert (vertical == horizontal.T).all()
    assert (rising == falling[:, ::-1]).all()
    for round_one in (ring, spot):  # the same turned by a right angle
        assert (round_one == np.rot90(round_one)).all()
    moved = [np.roll(patterns[[0, 1, 4, 5]], m, axis=(2, 3)) for m in product((-1, 0, 1), repeat=2)]
    values = np.concatenate(moved).tolist()
    result = runner.run("task=forward", "stack=detectors", "data=tensor", f"data.values={values}")
    assert result.metrics["strongest"] == [0, 1, 4, 5] * 9


# 6.5


def test_pooling_sizes_of_the_book() -> None:
    image = np.arange(16).reshape(4, 4)
    low = np.iinfo(image.dtype).min  # padding never wins
    cases = [
        ("6_5/pool_size", image, (3, 3), (3, 3)),
        ("6_5/pool_rect", np.pad(image, ((0, 0), (1, 1)), constant_values=low), (2, 3), (2, 3)),
        ("6_5/pool_pad_stride", np.pad(image, 1, constant_values=low), (3, 3), (2, 2)),
    ]
    for name, x, size, step in cases:
        found = [[int(window.max()) for window in row] for row in windows(x, size, step)]
        assert expected(name) == found, name
    first, second = np.array(expected("6_5/pool_channels"))
    assert first.tolist() == expected("6_5/pool_pad_stride")
    assert (second == first + 1).all()  # a maximum of numbers plus one


def test_minimum_is_a_maximum_of_the_negative() -> None:
    found = [[int(window.min()) for window in row] for row in windows(COUNT, (2, 2), (1, 1))]
    assert expected("6_5/pool_min") == found
    assert expected("6_5/pool_min_by_max") == found


def test_pooling_looks_at_every_number_of_every_window() -> None:
    seen = [w.size for row in windows(np.zeros((28, 28)), (2, 2), (2, 2)) for w in row]
    assert expected("6_5/pool_cost", "operations") == 6 * sum(seen)
    assert expected("6_5/pool_cost") == [6, 14, 14]
