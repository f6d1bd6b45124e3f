"""Bounds on rounding: real errors stay within them, real differences don't."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from random import Random

import pytest
import torch
from bare_run import composed
from torch import nn

from runner.geometry import ConvGeometry
from runner.modules import Conv2d, DenseBlock, Parallel, Residual
from runner.ops import Auto
from runner.tasks._rounding import coarseness, estimates, same, transformed, untold


def outputs(model: nn.Sequential, x: torch.Tensor) -> list[torch.Tensor]:
    """What each layer gives."""
    found = []
    with torch.no_grad():
        for layer in model:
            x = layer(x)
            found.append(x)
    return found


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
    allowed = estimates(model, x)
    exact = outputs(deepcopy(model).double(), x.double())
    assert list(allowed) == [*map(str, range(len(ys))), ""]
    for y, truth, limit in zip(ys, exact, allowed.values(), strict=False):
        assert float((y.double() - truth).abs().max()) <= limit
        # … and what is as large as a thousandth of the output is not explained away.
        assert limit < 1e-3 * max(1.0, float(x.abs().max())) * max(1.0, float(truth.abs().max()))


def test_an_input_alone_has_the_rounding_of_its_numbers() -> None:
    x = torch.tensor([[[[3.0, -8.0]]]])
    # Four times the spacing of numbers from 1 to 2, times the largest.
    assert estimates(nn.Sequential(), x) == {"": 4 * 2**-23 * 8}
    assert estimates(nn.Sequential(), x.double()) == {"": 4 * 2**-52 * 8}


def test_zeros_are_exact_until_a_bias() -> None:
    conv = nn.Conv2d(1, 1, 3, bias=False)
    x = torch.zeros(1, 1, 4, 4)
    assert estimates(nn.Sequential(conv, nn.ReLU()), x) == {"0": 0, "1": 0, "": 0}
    conv.bias = nn.Parameter(torch.tensor([0.5]))
    assert estimates(nn.Sequential(conv), x)["0"] == pytest.approx(4 * 2**-23 * 0.5)


def times(factor: float) -> nn.Conv2d:
    """A layer of one weight."""
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(conv.weight, factor)
    return conv


# In units of 4 · 2⁻²³, for an input of 1, which is off by 1: `times(w)` gives w, and takes an error
# e to w · (e + √2) + w, the √2 for one product and one rounding of it.
ROOT = 2**0.5
TWICE = 2 * (1 + ROOT) + 2
THRICE = 3 * (1 + ROOT) + 3


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        # In a chain factors multiply: 3 on what 2 left, whose magnitude is 2.
        (nn.Sequential(times(2), times(3)), 3 * (TWICE + 2 * ROOT) + 6),
        # Side by side they don't.
        (Parallel(times(2), times(3), times(2)), THRICE),
        (Parallel(nn.Sequential(times(3)), times(2)), THRICE),
        # Of a sum, here 1 + 2 and 2 + 3, both errors, and its own rounding.
        (Residual(times(2)), TWICE + 1 + 3),
        (Residual(OrderedDict(a=times(2), shortcut=times(3))), TWICE + THRICE + 5),
        # What was concatenated stays as it is; the largest error goes into the next.
        (DenseBlock(times(2)), TWICE),
    ],
)
def test_containers(layer: nn.Module, error: float) -> None:
    found = estimates(nn.Sequential(layer), torch.ones(1, 1, 1, 1))
    assert found["0"] == found[""] == pytest.approx(4 * 2**-23 * error)


def test_a_dense_block_accumulates() -> None:
    # The second layer sees 1 and 2: weights 3 and 4 give 11, √3 for two products. It is more wrong
    # by its norm, 5, or by as much as its numbers are larger: 11 / 2.
    both = nn.Conv2d(2, 1, 1, bias=False)
    both.weight.data = torch.tensor([3.0, 4]).view(1, 2, 1, 1)
    found = estimates(nn.Sequential(DenseBlock(times(2), both)), torch.ones(1, 1, 1, 1))
    expected = 5.5 * (TWICE + 2 * 3**0.5) + 11
    assert found["0"] == found["0.1"] == pytest.approx(4 * 2**-23 * expected)


def test_what_is_small_after_a_relu_is_as_wrong_as_before() -> None:
    x = torch.tensor([[[[-1000.0, 1]]]])
    assert estimates(nn.Sequential(nn.ReLU()), x)["0"] >= 4 * 2**-23 * 1000


def test_batch_normalization_magnifies_errors() -> None:
    # Deviation 1/100: an input of 5 that was off by 5 units is off by 500.
    norm = nn.BatchNorm2d(1, eps=0)
    norm.running_mean, norm.running_var = torch.tensor([5.0]), torch.tensor([1e-4])
    found = estimates(nn.Sequential(norm), torch.full((1, 1, 1, 1), 5.0))
    assert found["0"] == pytest.approx(4 * 2**-23 * 100 * (5 + 5))


@pytest.mark.parametrize(
    ("difference", "allowed", "answer"),
    [
        (0.1, 0.05, False),
        (0.5, 0.3, False),
        (0.005, 0.006, True),
        # What explains a tenth of the largest output would explain real differences.
        (0.05, 0.1, None),
        (1e-7, 0.1, True),
        (float("nan"), 0.1, False),
    ],
)
def test_verdicts(difference: float, allowed: float, answer: bool | None) -> None:
    assert same(difference, allowed, 1.0, 1e-6) is answer


def test_a_note_says_why_there_is_no_verdict() -> None:
    assert untold("it fits", 3.0, 10.0, "float32") == (
        "Whether it fits can't be told: rounding may make a difference of 0.3 of the largest "
        "output. With dtype=float64 it may."
    )
    assert untold("it fits", 3.0, 0.0, "float64").endswith("a difference of 3.")


@pytest.mark.parametrize("op", ["fft", "winograd", "winograd_2x2", "direct", "auto"])
@pytest.mark.parametrize("seed", range(20))
def test_errors_of_every_operator_stay_within(op: str, seed: int) -> None:
    torch.manual_seed(seed)
    low = Random(seed).choice([0, -1])

    def layer(c_in: int, c_out: int) -> Conv2d:
        weight, window = torch.randn(c_out, c_in, 3, 3), ConvGeometry((3, 3))
        options = {"pad_mode": "zeros", "flip": False, "trainable": False}
        return Conv2d(weight, torch.randn(c_out), geometry=window, op=op, **options)

    model = nn.Sequential(layer(2, 16), nn.ReLU(), layer(16, 16), layer(16, 2)).eval()
    x = low + (1 - low) * torch.rand(1, 2, 20, 20)
    allowed = estimates(model, x)
    exact = outputs(deepcopy(model).double(), x.double())
    for y, truth, limit in zip(outputs(model, x), exact, allowed.values(), strict=False):
        assert float((y.double() - truth).abs().max()) <= limit


def test_how_coarse_operators_are() -> None:
    # By their gates for the largest error in single precision: 2e-6 of plain sums.
    def coarse(op: str, auto: Auto | None = None) -> float:
        layer = Conv2d(
            torch.ones(1, 1, 3, 3), None, geometry=ConvGeometry((3, 3)), pad_mode="zeros",
            flip=False, op=op, trainable=False, auto=auto,
        )  # fmt: skip
        return coarseness(layer)

    assert coarse("native") == coarse("direct") == 1
    assert coarse("winograd") == pytest.approx(6e-5 / 2e-6)
    assert coarse("winograd_2x2") == pytest.approx(3e-6 / 2e-6)
    assert coarse("auto", Auto(accuracy=1)) == coarse("winograd")
    assert coarseness(nn.ReLU()) == 1


def test_which_layers_may_be_transformed() -> None:
    words = ["stack=lenet", "data=blank", "data.height=28", "data.width=28"]

    def found(*more: str) -> list[str]:
        job = composed("task=plan", *words, *more)
        return [row.name for row in transformed(job.plan(), job.ops)]

    assert found("ops=native") == found("ops=direct") == found("ops=loops") == []
    assert found("ops=fft") == found("ops=auto") == ["conv1", "conv2"]
    assert found("ops=auto", "ops.auto.allow=[native,direct]") == []
    assert found("stack.layers.conv2.ops=fft") == ["conv2"]
