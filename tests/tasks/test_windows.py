"""Single windows picked by index arithmetic, against torch's convolution and pooling of it all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from runner import conv2d, pool2d
from runner.geometry import ConvGeometry, PoolGeometry
from runner.tasks._windows import ConvStep, conv_step, picked, pool_step


def layer(draw: np.random.Generator) -> tuple[ConvGeometry, str]:
    """A random convolution that fits a 7×9 input."""
    kernel, stride = draw.integers(1, 4, 2), draw.integers(1, 4, 2)
    dilation, padding = draw.integers(1, 3, 2), draw.integers(0, 4, 4)
    pad_mode = str(draw.choice(["zeros", "reflect", "replicate", "circular"]))
    pairs: list[Any] = [tuple(map(int, sizes)) for sizes in (kernel, stride, padding, dilation)]
    return ConvGeometry(*pairs, groups=int(draw.choice([1, 2]))), pad_mode


@pytest.mark.parametrize("seed", range(60))
def test_random_convolutions(seed: int) -> None:
    draw = np.random.default_rng(seed)
    geometry, pad_mode = layer(draw)
    x = draw.normal(size=(4, 7, 9))
    weight = draw.normal(size=(6, 4 // geometry.groups, *geometry.kernel))
    bias = draw.normal(size=6)
    y = conv2d(
        torch.from_numpy(x)[None], torch.from_numpy(weight), torch.from_numpy(bias),
        stride=geometry.stride, padding=geometry.padding, dilation=geometry.dilation,
        groups=geometry.groups, pad_mode=pad_mode,
    )[0].numpy()  # fmt: skip
    for channel, row, column in np.ndindex(*y.shape):
        step = conv_step(x, weight, bias, geometry, pad_mode, (row, column), channel)
        assert step.value == pytest.approx(y[channel, row, column], abs=1e-12)
        assert len(step.parts) == 4 // geometry.groups


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("mode", ["max", "min", "avg"])
def test_random_pooling(seed: int, mode: str) -> None:
    draw = np.random.default_rng(seed)
    kernel = draw.integers(1, 5, 2)
    padding = [int(draw.integers(0, k)) for k in np.repeat(kernel, 2)]
    pairs: list[Any] = [tuple(map(int, sizes)) for sizes in (kernel, draw.integers(1, 4, 2))]
    ceil_mode, counted = bool(draw.integers(2)), bool(draw.integers(2))
    geometry = PoolGeometry(*pairs, tuple(padding), ceil_mode, counted)  # type: ignore[arg-type]  # four
    x = draw.normal(size=(2, 7, 9))
    y = pool2d(
        torch.from_numpy(x)[None], geometry.kernel, mode, stride=geometry.stride,
        padding=geometry.padding, ceil_mode=ceil_mode, count_include_pad=counted,
    )[0].numpy()  # fmt: skip
    for channel, row, column in np.ndindex(*y.shape):
        step = pool_step(x, mode, geometry, (row, column), channel)
        assert step.value == pytest.approx(y[channel, row, column], abs=1e-12)
        if mode != "avg":
            assert x[channel][step.winner_in_input] == y[channel, row, column]


def test_adaptive_windows() -> None:
    x = np.arange(35.0).reshape(1, 5, 7)
    y = pool2d(torch.from_numpy(x)[None], mode="avg", output_size=(3, 2))[0].numpy()
    geometry = PoolGeometry(output=(3, 2))
    for row, column in np.ndindex(3, 2):
        step = pool_step(x, "avg", geometry, (row, column), 0)
        assert step.value == pytest.approx(y[0, row, column], abs=1e-12)
    assert step.rows == (3, 4)  # ⌊2·5/3⌋ to ⌈3·5/3⌉
    assert step.columns == (3, 4, 5, 6)


def test_what_lies_outside() -> None:
    x = np.arange(6.0).reshape(1, 2, 3)
    values, padded = picked(x, [-1, 0], [0, 3])
    assert np.isnan(values[0, 0]).all()
    assert np.isnan(values[0, 1, 1])
    assert values[0, 1, 0] == 0
    assert padded.tolist() == [[True, True], [False, True]]
    assert picked(x, [-1, 0], [0, 3], "zeros")[0].tolist() == [[[0, 0], [0, 0]]]
    assert picked(x, [-1], [-2, 3], "reflect")[0].tolist() == [[[5, 4]]]
    assert picked(x, [-1], [-2, 3], "circular")[0].tolist() == [[[4, 3]]]
    assert picked(x, [-1], [-2, 3], "replicate")[0].tolist() == [[[0, 2]]]


def test_magnitudes_for_rounding() -> None:
    x, weight = np.array([[[1.0, -2.0]]]), np.array([[[[3.0, 4.0]]]])
    step = conv_step(x, weight, np.array([-5.0]), ConvGeometry((1, 2)), "zeros", (0, 0), 0)
    assert isinstance(step, ConvStep)
    assert (step.value, step.magnitude) == (3 - 8 - 5, 3 + 8 + 5)
    mean = pool_step(x, "avg", PoolGeometry((1, 2), (1, 2)), (0, 0), 0)
    assert (mean.value, mean.magnitude, mean.total) == (-0.5, 1.5, -1)
