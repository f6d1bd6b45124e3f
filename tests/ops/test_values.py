"""Numbers at the ends of what a type holds: NaN, infinities, the largest, the smallest, −0.

What operators promise of them: sums look at their windows alone; transforms (`fft`, Winograd's)
smear what isn't finite, and the rounding of large values, over a tile of known size and no farther.
"""

from __future__ import annotations

import sys
from math import inf, nan

import pytest
import torch
import torch.nn.functional as F
from checker import MODES, Conv, Pool, conv_loops, conv_ops, label, normal, pool_loops, pool_ops
from torch import Tensor

from runner.geometry import ConvGeometry, PoolGeometry

SAME = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
TILES = {"winograd": 4, "winograd_2x2": 2}
"""Outputs of a tile along one axis."""

SMALLEST = 2.0**-149
"""The smallest number above zero in single precision."""


@pytest.fixture(params=[op for op in conv_ops() if op.device == "cpu"], ids=label)
def conv(request: pytest.FixtureRequest) -> Conv:
    return request.param


@pytest.fixture(params=[op for op in pool_ops() if op.device == "cpu"], ids=label)
def pool(request: pytest.FixtureRequest) -> Pool:
    return request.param


def numbers(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Two images of three channels, and four kernels."""
    return normal(2, 3, 12, 12, seed=1).to(dtype), normal(4, 3, 3, 3, seed=2).to(dtype)


def reach(conv: Conv, i: int, j: int) -> Tensor:
    """Which outputs a pixel may spoil: those whose window it is in, and their tiles."""
    seen = torch.zeros(12, 12, dtype=torch.bool)
    seen[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = True
    if conv.op.sums:
        return seen
    m = TILES.get(conv.name, 12)  # of fft, the whole of so small an image
    # A tile has the pixels around its outputs, too.
    tiles = F.max_pool2d(seen[None].float(), m, m)
    return tiles.repeat_interleave(m, 1).repeat_interleave(m, 2)[0].bool()


class TestConvolution:
    @pytest.mark.parametrize("bad", [nan, inf, -inf])
    def test_what_is_not_finite_stays_where_it_is_seen(self, conv, bad):
        windows = torch.zeros(12, 12, dtype=torch.bool)
        for i, j in [(0, 0), (5, 6), (11, 3), (4, 11), (7, 7), (8, 8)]:
            x, weight = numbers()
            x[0, 1, i, j] = bad
            y = conv(x, weight, None, SAME)
            windows[:] = False
            windows[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = True
            spoilt = ~y[0].isfinite()
            assert (spoilt | ~windows).all(), "hidden"
            assert not (spoilt & ~reach(conv, i, j)).any(), "smeared"
            assert y[1].isfinite().all(), "in another example"

    def test_an_infinity_is_one_where_sums_are(self, conv):
        if not conv.op.sums or conv.name == "auto":
            pytest.skip("transforms make NaN of it")
        x, weight = numbers()
        x[0, 1, 5, 6] = inf
        y = conv(x, weight, None, SAME)[0, :, 4:7, 5:8]
        assert torch.equal(y, weight[:, 1].flip(1, 2).sign() * inf)

    def test_opposite_infinities_are_not_a_number(self, conv):
        x, weight = torch.zeros(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
        x[..., 0, 0], x[..., 2, 2] = inf, -inf
        assert conv(x, weight, None, ConvGeometry((3, 3))).isnan().all()

    @pytest.mark.parametrize("bad", [nan, inf])
    def test_a_bad_weight_spoils_its_channel_alone(self, conv, bad):
        x, weight = numbers()
        weight[2, 1, 0, 2] = bad
        finite = conv(x, weight, None, SAME).isfinite()
        assert not finite[:, 2, 1:, :-1].any()  # where that weight meets a pixel
        assert finite[:, [0, 1, 3]].all()

    @pytest.mark.parametrize("bad", [nan, inf])
    def test_gradients_are_not_hidden_either(self, conv, bad):
        x, weight = (t.requires_grad_() for t in numbers())
        y = conv(x, weight, None, SAME)
        grad = torch.ones_like(y)
        grad[0, 0, 5, 6] = bad
        for_x, for_weight = torch.autograd.grad(y, (x, weight), grad)
        assert not for_x[0, :, 4:7, 5:8].isfinite().any()
        assert for_x[1].isfinite().all()
        assert not for_weight[0].isfinite().any()
        assert for_weight[1:].isfinite().all()

    def test_a_large_value_costs_digits_where_it_is_seen(self, conv):
        """10³⁰ leaves nothing of ordinary numbers beside it; of those elsewhere, all."""
        x, weight = numbers()
        x[0, 1, 5, 6] = 1e30
        y, right = conv(x, weight, None, SAME), conv_loops(x, weight, None, SAME)
        off = ((y - right).abs() > 1e-4 * right.abs().clamp(min=0.1)).any(1)
        assert not (off[0] & ~reach(conv, 5, 6)).any()
        assert not off[1].any()

    def test_the_largest_numbers(self, conv):
        """Sums of up to 2¹²⁷; transforms add up more than a window, and so reach less far."""
        x, weight = numbers()
        largest = float(conv_loops(x, weight, None, SAME).abs().max())
        room = {"fft": 2**-10, "winograd": 2**-6, "winograd_2x2": 2**-2}.get(conv.name, 1)
        x *= 2.0**127 / largest * room
        y, right = conv(x, weight, None, SAME), conv_loops(x, weight, None, SAME)
        assert y.isfinite().all()
        assert (y - right).abs().max() <= 6e-5 * right.abs().max()

    def test_what_exceeds_the_type_is_infinite(self, conv):
        y = conv(torch.full((1, 1, 8, 8), 3e38), torch.ones(1, 1, 3, 3), None, ConvGeometry((3, 3)))
        assert not y.isfinite().any()
        if conv.op.sums:
            assert (y == inf).all()

    @pytest.mark.parametrize(("of_x", "of_weight"), [(1e-38, 1), (1e-40, 1), (1, 1e-40)])
    def test_numbers_too_small_for_all_their_digits(self, conv, of_x, of_weight):
        """They don't become zero: an error is a few of the smallest steps, not all of the number.

        A transformed kernel is multiplied by inputs that transforms enlarge, rounding and all.
        """
        x, weight = numbers()
        x, weight = x * of_x, weight * of_weight
        y, right = conv(x, weight, None, SAME), conv_loops(x, weight, None, SAME)
        steps = {"winograd": 5000, "winograd_2x2": 50, "fft": 50}.get(conv.name, 30)
        assert (y - right).abs().max() <= steps * SMALLEST + 6e-5 * right.abs().max()
        assert (y != 0).float().mean() > 0.99

    def test_numbers_too_small_in_double(self, conv):
        x, weight = numbers(torch.float64)
        y = conv(x * 1e-310, weight, None, SAME)
        right = conv_loops(x * 1e-310, weight, None, SAME)
        tiny = sys.float_info.min * sys.float_info.epsilon  # 2⁻¹⁰⁷⁴
        assert (y - right).abs().max() <= 1e-12 * right.abs().max() + 2000 * tiny
        assert (y != 0).all()

    def test_minus_zero_is_zero(self, conv):
        x, weight = -torch.zeros(1, 2, 6, 6), normal(3, 2, 3, 3).float()
        assert (conv(x, weight, None, SAME) == 0).all()
        assert (conv(x + 1, -torch.zeros_like(weight), -torch.zeros(3), SAME) == 0).all()


WINDOWS = [
    PoolGeometry((2, 2), (2, 2)),
    PoolGeometry((3, 3), (1, 1), (1, 1, 1, 1)),
    PoolGeometry((3, 2), (2, 1), (2, 0, 1, 1), True),
    PoolGeometry((2, 3), (1, 2), (0, 1, 0, 2), False, False),
    PoolGeometry(output=(3, 2)),
]


def ends(seed: int) -> Tensor:
    """Infinities of both signs, zeros of both signs, the largest numbers, and ties among them."""
    choice = torch.tensor([-inf, inf, 0.0, -0.0, 3.4e38, -3.4e38, 1e-45, -1e-45, 1.0])
    return choice[torch.randint(9, (2, 5, 6, 7), generator=torch.Generator().manual_seed(seed))]


@pytest.mark.parametrize("window", WINDOWS, ids=str)
class TestPooling:
    @pytest.mark.parametrize("mode", ["max", "min"])
    @pytest.mark.parametrize("seed", range(8))
    def test_extremes_and_their_gradients(self, pool, window, mode, seed):
        x, wide = ends(seed).requires_grad_(), ends(seed).double().requires_grad_()
        y, right = pool(x, mode, window), pool_loops(wide, mode, window)
        assert torch.equal(y.double(), right)
        (mine,) = torch.autograd.grad(y.sum(), x)
        (expected,) = torch.autograd.grad(right.sum(), wide)
        assert torch.equal(mine.double(), expected)

    @pytest.mark.parametrize("mode", MODES)
    def test_not_a_number_is_seen_and_no_more(self, pool, window, mode):
        x = normal(2, 3, 6, 7).float()
        x[0, 1, 2, 3] = nan
        y, right = pool(x, mode, window), pool_loops(x, mode, window)
        assert torch.equal(y.isnan(), right.isnan())
        assert y.isnan().any()
        assert not y[1].isnan().any()

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_the_gradient_goes_to_what_is_not_a_number(self, pool, window, mode):
        x = ends(0)
        # One: of several in a window torch takes the last, and the others the first.
        x[0, 1, 2, 3] = nan
        x.requires_grad_()
        (mine,) = torch.autograd.grad(pool(x, mode, window).sum(), x)
        wide = x.detach().double().requires_grad_()
        (right,) = torch.autograd.grad(pool_loops(wide, mode, window).sum(), wide)
        assert torch.equal(mine.double(), right)
        assert mine[0, 1, 2, 3] >= 1

    def test_averages_of_infinities(self, pool, window):
        x = torch.ones(1, 2, 6, 7)
        x[0, 0, 3, 3], x[0, 1, 3, 3], x[0, 1, 2, 3] = inf, inf, -inf
        y, right = pool(x, "avg", window), pool_loops(x, "avg", window)
        assert torch.equal(y.isinf(), right.isinf())
        assert torch.equal(y.isnan(), right.isnan())


@pytest.mark.parametrize("geometry", WINDOWS[:2], ids=str)
def test_maxima_are_torchs(geometry):
    """The definition itself, where torch has the same windows: values, and who wins a tie."""
    (kernel, stride, (top, _, left, _)) = geometry.kernel, geometry.stride, geometry.padding
    for seed in range(20):
        for x in (ends(seed), normal(2, 5, 6, 7, seed=seed).float().round()):
            mine, torchs = x.clone().requires_grad_(), x.clone().requires_grad_()
            y = pool_loops(mine, "max", geometry)
            right = F.max_pool2d(torchs, kernel, stride, (top, left))
            assert torch.equal(y.float(), right)
            y.sum().backward()
            right.sum().backward()
            assert torch.equal(mine.grad, torchs.grad)
