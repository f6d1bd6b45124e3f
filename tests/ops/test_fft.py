"""Phases, tiles and lengths of transforms, and the memory that they take."""

import time

import pytest
import torch
import torch.nn.functional as F
from checker import (
    CONV_CASES,
    Conv,
    assert_close_to_reference,
    conv_gradients,
    conv_reference,
    conv_small_integers,
    label,
    normal,
)
from memory import peak

from runner.geometry import ConvGeometry, Shape
from runner.ops import conv_op
from runner.ops.fft import spectra
from runner.ops.fft.tiles import Correlation, Phases, Tile, best_tile, fast_length

FFT = Conv(conv_op("fft"), "fft")


@pytest.fixture(params=[(0, 0, 1), (1, 2, 2), (3, 0, 1)], ids=str)
def small_tiles(request, monkeypatch):
    """Tiles that reach so much further than the kernel, and how many examples together."""
    down, across, together = request.param

    def chosen(what: Correlation, examples: int = 1) -> Tile:
        kh, kw = what.kernel
        return Tile((kh + down, kw + across), (1 + down, 1 + across), together, 0, 0.0)

    monkeypatch.setattr(spectra, "best_tile", chosen)


@pytest.mark.usefixtures("small_tiles")
@pytest.mark.parametrize("case", [c for c in CONV_CASES if c.x[1] < 10], ids=label)
class TestTiles:
    def test_output(self, case):
        conv_reference(FFT, case)
        conv_small_integers(FFT, case)

    def test_gradients(self, case):
        conv_gradients(FFT, case)


class TestChoice:
    def test_a_small_image_is_one_tile(self):
        tile = best_tile(Correlation((26, 26), (3, 3), 1, 1, 1))
        assert tile.transform == (28, 28)
        assert tile.block == (26, 26)

    def test_a_large_image_is_cut_so_that_tiles_stay_in_cache(self):
        tile = best_tile(Correlation((4096, 4096), (31, 31), 1, 1, 1))
        assert tile.transform[0] * tile.transform[1] <= 2**18
        # a block of output is what the tile's reach leaves
        assert tile.block == (tile.transform[0] - 30, tile.transform[1] - 30)

    def test_a_large_image_comes_out_right(self):
        x, weight = normal(1, 2, 1100, 900), normal(2, 2, 5, 4, seed=1)
        window = ConvGeometry((5, 4), padding=(2, 1, 0, 3))
        tile = best_tile(Correlation((1099, 900), (5, 4), 2, 2, 1))
        assert tile.block[0] < 1099 or tile.block[1] < 900
        expected = F.conv2d(F.pad(x, (0, 3, 2, 1)), weight)
        assert_close_to_reference(FFT(x, weight, None, window), expected, "fft")

    @pytest.mark.parametrize(
        ("n", "length"),
        # 28 = 4·7; 32 = 2⁵; 29 to 31 are no multiples of 4; 528, 532, 536 = 4·132, 4·133, 4·134
        # have the factors 11, 19, 67; 540 = 4·135 = 4·3³·5
        [(1, 4), (28, 28), (29, 32), (527, 540), (540, 540)],
    )
    def test_lengths(self, n, length):
        assert fast_length(n) == length

    def test_an_image_that_is_one_window(self):
        assert best_tile(Correlation((1, 1), (500, 500), 1, 1, 1)).block[0] >= 1


class TestPhases:
    def test_of_stride_two(self):
        # Of 0 … 6 under [1, 2, 3], every second window: 0 + 2 + 6 = 8, 2 + 6 + 12 = 20 and
        # 4 + 10 + 18 = 32. Even pixels 0 2 4 6 meet [1, 3], odd ones 1 3 5 (and none) meet [2, 0].
        window = ConvGeometry((1, 3), (1, 2))
        assert Phases.of(window, (1, 7))[:4] == ((1, 2), (1, 2), (1, 2), (1, 4))
        x = torch.arange(7.0).reshape(1, 1, 1, 7)
        y = FFT(x, torch.tensor([[[[1.0, 2, 3]]]]), None, window)
        assert y.round().flatten().tolist() == [8, 20, 32]

    def test_what_of_each_phase_is_image(self):
        # 3 pixels after 5 zeros are the padded input's pixels 5 to 7: of every second one, from
        # the third on (pixels 4 and 5), up to the fourth.
        phases = Phases.of(ConvGeometry((1, 1), (1, 2), (0, 0, 5, 0)), (1, 3))
        assert (phases.first, phases.stop, phases.padded) == ((0, 2), (1, 4), (1, 8))

    def test_an_image_that_no_window_sees(self):
        # Of 0 0 x, windows of 2 with a stride of 2 see the zeros only.
        window = ConvGeometry((1, 2), (1, 2), (0, 0, 2, 0))
        x = torch.ones(1, 1, 1, 1, requires_grad=True)
        y = FFT(x, torch.ones(1, 1, 1, 2), None, window)
        y.sum().backward()
        assert (y.tolist(), x.grad.tolist()) == ([[[[0]]]], [[[[0]]]])

    def test_a_kernel_shorter_than_the_stride_sees_few_phases(self):
        assert Phases.of(ConvGeometry((2, 2), (3, 5)), (9, 12)).number == (2, 2)


class TestPrecision:
    def test_large_kernels_in_single(self):
        x, weight = normal(1, 1, 300, 280), normal(1, 1, 31, 31, seed=1)
        window = ConvGeometry((31, 31), padding=(15, 15, 15, 15))
        found = FFT(x.float(), weight.float(), None, window)
        expected = F.conv2d(x.float().double(), weight.float().double(), padding=15)
        assert_close_to_reference(found, expected, "fft")

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_is_computed_in_single(self, dtype):
        x, weight = normal(2, 3, 9, 8).to(dtype), normal(4, 3, 3, 3, seed=1).to(dtype)
        found = FFT(x, weight)
        assert found.dtype == dtype
        assert torch.equal(found, FFT(x.float(), weight.float()).to(dtype))
        # 64 · 64 ones; summed one by one in half precision they'd stop at 2048 or 256
        ones = torch.ones(1, 1, 64, 64, dtype=dtype)
        assert FFT.op.weight_gradient(ones, ones, ConvGeometry((1, 1))).tolist() == [[[[4096]]]]

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_not_finite_spoils_its_tiles_and_no_other(self, bad, monkeypatch):
        # Tiles of 8 columns under a kernel of 3 give 6 outputs each: 0 to 5 see pixels 0 to 7,
        # 6 to 11 see 6 to 13, 12 to 17 see 12 to 19. Pixel 9 is the middle one's alone.
        tile = Tile((1, 8), (1, 6), 1, 0, 0.0)
        monkeypatch.setattr(spectra, "best_tile", lambda *_: tile)
        x = torch.ones(1, 1, 1, 20)
        x[..., 9] = bad
        y = FFT(x, torch.ones(1, 1, 1, 3)).flatten()
        assert y[6:12].isnan().all()
        others = torch.cat([y[:6], y[12:]])
        assert torch.allclose(others, torch.full((12,), 3.0), rtol=1e-6)


def test_other_devices_are_refused():
    window = ConvGeometry((3, 3))
    assert FFT.op.unsupported(window, "float32", "mps") == [
        "it is made for cpu and cuda, not for mps"
    ]
    assert FFT.op.unsupported(window, "float32", "cuda") == []


@pytest.mark.parametrize(
    ("x", "c_out", "geometry"),
    [
        ((1, 1, 400, 300), 1, ConvGeometry((31, 21), padding=(15, 15, 10, 10))),
        ((2, 8, 40, 40), 8, ConvGeometry((3, 3), padding=(1, 1, 1, 1), groups=8)),
        ((1, 3, 200, 150), 6, ConvGeometry((5, 7), (2, 3), (1, 0, 2, 3), (2, 1))),
        ((1, 32, 32, 32), 32, ConvGeometry((5, 5))),
    ],
)
def test_scratch_is_at_least_what_is_allocated(x, c_out, geometry):
    given = torch.randn(x), torch.randn(c_out, x[1] // geometry.groups, *geometry.kernel)
    y = FFT.op.forward(*given, None, geometry)
    said = x[0] * FFT.op.scratch(Shape(*x[1:]), Shape(*y.shape[1:]), geometry)
    besides = peak(lambda: FFT.op.forward(*given, None, geometry)) / 4 - y.numel()
    assert 0.4 * said <= besides <= said


def test_large_kernels_are_faster_than_native():
    # measured: 30 to 40 times
    x, weight = torch.randn(1, 1, 512, 512), torch.randn(1, 1, 31, 31)
    window = ConvGeometry((31, 31), padding=(15, 15, 15, 15))
    seconds = {"native": [], "fft": []}
    for _ in range(5):
        for name, measured in seconds.items():
            begun = time.perf_counter()
            conv_op(name).forward(x, weight, None, window)
            measured.append(time.perf_counter() - begun)
    assert min(seconds["native"]) > 3 * min(seconds["fft"])


def test_estimates_follow_the_work():
    def estimate(size: int, kernel: int) -> float:
        x, window = Shape(1, size, size), ConvGeometry((kernel, kernel))
        out = Shape(1, *window.output_size(x.size))
        return FFT.op.estimate(x, out, window)

    assert 0 < estimate(64, 3) < estimate(512, 31) < estimate(2048, 31)
    # three times as large a kernel, 9 times the products: hardly any difference
    assert estimate(512, 93) < 2 * estimate(512, 31)
