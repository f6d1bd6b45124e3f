"""Weights as they are drawn, and the modules that hold them."""

from math import sqrt

import pytest
import torch
from torch import nn

from runner.geometry import ConvGeometry, PoolGeometry
from runner.modules import Conv2d, Pool2d, draw, draw_bias
from runner.weights import INITIALIZERS, parse

SHAPE = (64, 32, 5, 5)  # 51,200 numbers; fan in 32 · 25 = 800, fan out 64 · 25 = 1600


def drawn(weight, shape=SHAPE, seed=0):
    return draw(parse(weight), shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_every_initializer_draws_what_is_asked_for(name):
    found = drawn(name, (4, 3, 2, 2))
    assert found.shape == (4, 3, 2, 2)
    assert found.dtype == torch.float32
    assert torch.equal(found, drawn(name, (4, 3, 2, 2)))
    constant = name in ("constant", "zeros", "ones")
    assert torch.equal(found, drawn(name, (4, 3, 2, 2), seed=1)) is constant


@pytest.mark.parametrize("name", INITIALIZERS)
def test_the_global_stream_is_left_alone(name):
    before = torch.get_rng_state()
    drawn(name, (4, 3, 2, 2))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("weight", "low", "high"),
    [
        ("default", -1 / sqrt(800), 1 / sqrt(800)),
        ("uniform", -1, 1),
        ({"initializer": "uniform", "low": 2, "high": 5}, 2, 5),
        ("xavier_uniform", -sqrt(6 / 2400), sqrt(6 / 2400)),  # ±√(6 / (fan in + fan out))
        ({"initializer": "xavier_uniform", "gain": 3}, -3 * sqrt(6 / 2400), 3 * sqrt(6 / 2400)),
        ("kaiming_uniform", -sqrt(6 / 800), sqrt(6 / 800)),
        # a leaky slope of 2: √(6 / ((1 + 2²) · 800))
        ({"initializer": "kaiming_uniform", "a": 2}, -sqrt(6 / 4000), sqrt(6 / 4000)),
    ],
    ids=str,
)
def test_uniform(weight, low, high):
    w = drawn(weight).double()
    slack = 1e-6 * (high - low)
    assert low - slack <= w.min() < low + 0.001 * (high - low)
    assert high - 0.001 * (high - low) < w.max() <= high + slack
    # the mean's standard error is width / √(12 · 51200), about width / 784
    assert abs(w.mean() - (low + high) / 2) < 4 * (high - low) / 784
    assert w.std() == pytest.approx((high - low) / sqrt(12), rel=0.01)


@pytest.mark.parametrize(
    ("weight", "mean", "std"),
    [
        ("normal", 0, 1),
        ({"initializer": "normal", "mean": 3, "std": 0.01}, 3, 0.01),
        ("xavier_normal", 0, sqrt(2 / 2400)),
        ("kaiming_normal", 0, sqrt(2 / 800)),
        ({"initializer": "kaiming_normal", "a": 1}, 0, sqrt(1 / 800)),
    ],
    ids=str,
)
def test_normal(weight, mean, std):
    w = drawn(weight).double()
    assert abs(w.mean() - mean) < 4 * std / sqrt(51200)
    assert w.std() == pytest.approx(std, rel=0.02)  # standard error 1 / √(2 · 51200) = 0.3 %
    # a normal distribution has 4.55 % beyond two standard deviations, a uniform one none
    assert ((w - mean).abs() > 2 * std).double().mean() == pytest.approx(0.0455, abs=0.005)


def test_constants():
    assert (drawn("zeros") == 0).all()
    assert (drawn("ones") == 1).all()
    assert (drawn({"initializer": "constant", "value": -2.5}) == -2.5).all()


def test_orthogonal():
    rows = drawn({"initializer": "orthogonal", "gain": 2}, (8, 3, 2, 2)).flatten(1).double()
    torch.testing.assert_close(rows @ rows.T, 4 * torch.eye(8).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("c_in", "c_out", "groups"), [(3, 8, 1), (4, 6, 2)])
def test_default_is_torchs_convolution_from_the_same_seed(c_in, c_out, groups):
    torch.manual_seed(7)
    theirs = nn.Conv2d(c_in, c_out, (3, 2), groups=groups)
    generator = torch.Generator().manual_seed(7)
    weight = draw(parse("default"), (c_out, c_in // groups, 3, 2), generator)
    torch.testing.assert_close(weight, theirs.weight.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        draw_bias(None, weight, generator), theirs.bias.detach(), rtol=1e-6, atol=0
    )


def test_default_is_torchs_dense_layer_from_the_same_seed():
    torch.manual_seed(7)
    theirs = nn.Linear(20, 6)
    generator = torch.Generator().manual_seed(7)
    weight = draw(parse("default"), (6, 20), generator)
    torch.testing.assert_close(weight, theirs.weight.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        draw_bias(None, weight, generator), theirs.bias.detach(), rtol=1e-6, atol=0
    )


class TestGivenKernels:
    def test_laid_on_every_input_channel(self):
        w = drawn([[1, -1]], (1, 3, 1, 2))
        assert w.tolist() == [[[[1, -1]], [[1, -1]], [[1, -1]]]]

    def test_laid_on_every_group(self):
        # two kernels on two groups: each group's outputs are both kernels, in order
        w = drawn([[[1, 2]], [[3, 4]]], (4, 1, 1, 2))
        assert w[:, 0, 0].tolist() == [[1, 2], [3, 4], [1, 2], [3, 4]]

    def test_all_numbers(self):
        given = [[[[0, 1]], [[2, 3]]], [[[4, 5]], [[6, 7]]]]
        assert drawn(given, (2, 2, 1, 2)).tolist() == given

    def test_changing_one_output_leaves_the_others(self):
        w = drawn("edge_vertical", (1, 2, 1, 2))
        w[0, 0] = 9
        assert w[0, 1, 0].tolist() == [1, -1]


class TestBias:
    WEIGHT = torch.zeros(3, 4, 2, 2)  # fan in 16

    def test_drawn_within_one_over_the_root_of_fan_in(self):
        bias = draw_bias(None, torch.zeros(4000, 4, 2, 2), torch.Generator().manual_seed(0))
        assert -0.25 <= bias.min() < -0.249
        assert 0.249 < bias.max() <= 0.25

    def test_given(self):
        generator = torch.Generator()
        assert draw_bias((1.0, 2.0, 3.0), self.WEIGHT, generator).tolist() == [1, 2, 3]
        same = draw_bias((5.0,), self.WEIGHT, generator)
        assert same.tolist() == [5, 5, 5]
        same[0] = 1
        assert same.tolist() == [1, 5, 5]


class TestConv2d:
    def module(self, **changes):
        options = {"geometry": ConvGeometry((2, 2)), "pad_mode": "zeros", "flip": False}
        options |= {"op": "native", "trainable": True} | changes
        weight = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]])
        return Conv2d(weight, torch.tensor([10.0]), **options)

    X = torch.arange(9.0).reshape(1, 1, 3, 3)

    def test_forward(self):
        assert self.module()(self.X).tolist() == [[[[29, 35], [47, 53]]]]
        assert self.module(op="loops")(self.X).tolist() == [[[[29, 35], [47, 53]]]]

    def test_flipped(self):
        flipped = self.module(flip=True)
        assert flipped(self.X).tolist() == [[[[15, 21], [33, 39]]]]
        assert flipped.effective_kernel().tolist() == [[[[3, 2], [1, 0]]]]
        assert self.module().effective_kernel().tolist() == [[[[0, 1], [2, 3]]]]

    def test_gradient_of_a_flipped_kernel_lands_where_it_was_written(self):
        flipped = self.module(flip=True)
        flipped(self.X).sum().backward()
        # sums of the windows 0 1 3 4, 1 2 4 5, 3 4 6 7, 4 5 7 8, turned around
        assert flipped.weight.grad.tolist() == [[[[24, 20], [12, 8]]]]
        assert flipped.bias.grad.tolist() == [4]

    def test_trainable(self):
        assert [p.requires_grad for p in self.module().parameters()] == [True, True]
        assert [p.requires_grad for p in self.module(trainable=False).parameters()] == [False] * 2

    def test_padding_beyond_zeros(self):
        window = ConvGeometry((2, 2), padding=(0, 0, 1, 0))
        y = self.module(geometry=window, pad_mode="circular")(self.X)
        # the last column comes before the first: 2 0 / 5 3 → 0 + 2·5 + 3·3 + 10 = 29
        assert y[0, 0, :, 0].tolist() == [29, 10 + 3 + 2 * 8 + 3 * 6]

    def test_named_in_print(self):
        assert "op=native" in repr(self.module())
        assert "(1, 1, 2, 2)" in repr(self.module())

    def test_state_is_weight_and_bias(self):
        assert list(self.module().state_dict()) == ["weight", "bias"]


def test_pool2d():
    pool = Pool2d("max", PoolGeometry((2, 2), (1, 1)), "loops")
    assert pool(TestConv2d.X).tolist() == [[[[4, 5], [7, 8]]]]
    assert "max, op=loops" in repr(pool)
    assert list(pool.parameters()) == []
