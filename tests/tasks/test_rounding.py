"""Bounds on rounding: real errors stay within them, real differences don't."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest
import torch
from torch import nn

from runner.tasks._rounding import estimates


def outputs(model: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    """What each layer gives."""
    found = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            found.append(x)
    return found


def peaks(ys: list[torch.Tensor]) -> list[float]:
    """The largest magnitude of each."""
    return [float(y.abs().max()) for y in ys]


@pytest.mark.parametrize("seed", range(200))
def test_errors_of_float32_stay_within(seed: int) -> None:
    draw = Random(seed)
    torch.manual_seed(seed)
    c, k = draw.randint(1, 8), draw.choice([1, 3, 5])
    layers: list[nn.Module] = [nn.Conv2d(2, c, k), nn.ReLU(), nn.Conv2d(c, c, 3), nn.MaxPool2d(2)]
    if draw.random() < 0.5:
        norm = nn.BatchNorm2d(c)
        assert norm.running_var is not None
        norm.running_var.uniform_(1e-3, 4)
        layers.insert(1, norm)
    model = nn.Sequential(*layers).eval()
    # A large constant, differences of which are small: much is lost to rounding.
    x = torch.rand(2, 2, 16, 16) + draw.choice([0, 0, 100])
    ys = outputs(model, x)
    allowed = estimates(model, x, peaks(ys))
    exact = outputs(deepcopy(model).double(), x.double())
    for y, truth, limit in zip(ys, exact, allowed[1:], strict=True):
        assert float((y.double() - truth).abs().max()) <= limit
        # … and what is as large as a thousandth of the output is not explained away.
        assert limit < 1e-3 * max(1.0, float(x.abs().max())) * max(1.0, float(truth.abs().max()))


def test_an_input_alone_has_the_rounding_of_its_numbers() -> None:
    x = torch.tensor([[[[3.0, -8.0]]]])
    # Four times the spacing of numbers from 1 to 2, times the largest.
    assert estimates(nn.Sequential(), x, []) == [4 * 2**-23 * 8]
    assert estimates(nn.Sequential(), x.double(), []) == [4 * 2**-52 * 8]


def test_zeros_are_exact_until_a_bias() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU())
    x = torch.zeros(1, 1, 4, 4)
    assert estimates(model, x, [0.0, 0.0]) == [0, 0, 0]
    assert estimates(model, x, [0.5, 0.5])[1] == pytest.approx(4 * 2**-23 * 0.5)
