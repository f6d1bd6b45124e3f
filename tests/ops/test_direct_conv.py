"""What the operators' common tests are too small to reach: every path of the compiled loops.

The yardstick is torch in float64, an independent implementation.
"""

import pytest
import torch
from checker import Conv, assert_close_to_reference, integers, normal

from runner.geometry import ConvGeometry, Shape
from runner.ops import conv_op
from runner.ops.direct import bands, numba_conv

direct, native = conv_op("direct"), conv_op("native")


def results(op, x, weight, bias, grad, geometry):
    """The output and both gradients."""
    return (
        op.forward(x, weight, bias, geometry),
        op.input_gradient(grad, weight, tuple(x.shape[2:]), geometry),
        op.weight_gradient(grad, x, geometry),
    )


def tensors(x, c_out, geometry, draw=normal, dtype=torch.float64):
    weight = (c_out, x[1] // geometry.groups, *geometry.kernel)
    grad = (x[0], c_out, *geometry.output_size(x[2:]))
    drawn = draw(*x, seed=1), draw(*weight, seed=2), draw(c_out, seed=3), draw(*grad, seed=4)
    return [t.to(dtype) for t in drawn]


def check(x, c_out, geometry, dtype=torch.float32):
    given = tensors(x, c_out, geometry, dtype=dtype)
    expected = results(native, *(t.double() for t in given), geometry)
    for mine, reference in zip(results(direct, *given, geometry), expected, strict=True):
        assert mine.dtype == dtype
        assert mine.is_contiguous()
        assert_close_to_reference(mine, reference)


@pytest.fixture
def short_bands(monkeypatch):
    """So little input to a band that a small image has many."""
    monkeypatch.setattr(bands, "BAND", 200)


@pytest.mark.parametrize("kernel", [*sorted(bands.UNROLLED), (4, 3)], ids=str)
@pytest.mark.parametrize("width", [17, 100], ids=["narrow", "wide"])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 0, 2, 3)], ids=["valid", "padded"])
def test_kernels(kernel, width, padding):
    check((2, 2, 13, width), 3, ConvGeometry(kernel, padding=padding))


@pytest.mark.parametrize("kernel", sorted(bands.UNROLLED), ids=str)
@pytest.mark.parametrize("channels", [(1, 1), (1, 2), (2, 5)], ids=str)
@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (9, 8, 9, 10)], ids=["same", "beyond"])
def test_borders_around_wide_rows(kernel, channels, padding):
    """One row or two and one channel or two at a time, and what reaches into padding by itself."""
    window, (c_in, c_out) = ConvGeometry(kernel, padding=padding), channels
    for height in (7, 8):
        given = tensors((1, c_in, height, 110), c_out, window, integers)
        expected = native.forward(*given[:3], window)
        assert torch.equal(direct.forward(*given[:3], window), expected)


def test_an_image_narrower_than_the_kernel_in_wide_padding():
    check((1, 2, 9, 2), 2, ConvGeometry((3, 3), padding=(1, 1, 70, 70)))


def test_an_infinite_weight_makes_nan_of_every_zero_that_it_meets():
    weight = torch.ones(1, 1, 3, 3)
    weight[0, 0, 0, 2] = float("inf")
    window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
    y = direct.forward(torch.ones(1, 1, 5, 100), weight, None, window)[0, 0]
    # It meets the zeros above the first row and right of the last column.
    expected = torch.zeros(5, 100, dtype=torch.bool)
    expected[0] = expected[:, -1] = True
    assert torch.equal(y.isnan(), expected)


@pytest.mark.usefixtures("short_bands")
@pytest.mark.parametrize("width", [17, 100], ids=["narrow", "wide"])
@pytest.mark.parametrize(
    "window",
    [
        ConvGeometry((3, 3)),
        ConvGeometry((3, 3), padding=(1, 1, 1, 1)),
        ConvGeometry((5, 5), padding=(5, 0, 6, 1), groups=2),
        ConvGeometry((3, 4), (2, 3), (2, 1, 0, 2), (1, 2)),
    ],
    ids=["valid", "padded", "grouped", "strided"],
)
def test_bands(window, width):
    x, y = (2, 2, 31, width), window.output_size((31, width))
    assert bands.rows(2 // window.groups, *y, window) < y[0] // 2
    check(x, 4, window)


@pytest.mark.parametrize("side", [0, 1, 2, 3])
def test_padding_that_no_input_reaches(side):
    """Windows that see zeros only; their rows and columns are the bias."""
    padding = tuple(7 if i == side else 0 for i in range(4))
    check((1, 1, 4, 5), 2, ConvGeometry((3, 3), padding=padding))


@pytest.mark.parametrize("width", [20, 120], ids=["narrow", "wide"])
def test_every_width_at_the_end_of_a_vector(width):
    for w in range(width, width + 17):
        window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
        given = tensors((1, 1, 5, w), 1, window, integers)
        expected = results(native, *given, window)
        for mine, right in zip(results(direct, *given, window), expected, strict=True):
            assert torch.equal(mine, right), w


@pytest.mark.parametrize(
    ("x", "c_out", "window"),
    [
        ((1, 1, 300, 260), 1, ConvGeometry((3, 3), padding=(1, 1, 1, 1))),
        ((8, 6, 14, 14), 16, ConvGeometry((5, 5))),
        ((2, 3, 40, 40), 4, ConvGeometry((3, 2), (2, 3), dilation=(2, 1))),
    ],
    ids=["one_channel", "narrow", "strided"],
)
def test_the_same_bits_on_any_number_of_threads(x, c_out, window):
    given, before = tensors(x, c_out, window, dtype=torch.float32), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            found.append(results(direct, *given, window))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_sums_of_large_images_stay_exact():
    """A million products of one sign: added up one by one, float32 would lose four digits."""
    x = 1 + normal(1, 1, 1026, 1026).float() / 4
    grad = 1 + normal(1, 1, 1024, 1024, seed=1).float() / 4
    window = ConvGeometry((3, 3))
    mine = direct.weight_gradient(grad, x, window)
    products = x.double().unfold(2, 1024, 1).unfold(3, 1024, 1)[0, 0]
    expected = torch.einsum("abij,ij->ab", products, grad.double()[0, 0])
    assert_close_to_reference(mine[0, 0], expected)


@pytest.mark.parametrize("kernel", [(3, 3), (4, 4)], ids=["unrolled", "generic"])
@pytest.mark.parametrize("channels", [bands.MOST_CHANNELS, 1000])
def test_sums_over_many_channels_stay_exact(kernel, channels):
    window = ConvGeometry(kernel)
    x, weight = (1 + normal(*s).float() / 4 for s in ((1, channels, 8, 9), (2, channels, *kernel)))
    expected = native.forward(x.double(), weight.double(), None, window)
    assert_close_to_reference(direct.forward(x, weight, None, window), expected)


@pytest.mark.parametrize("width", [6, 120], ids=["narrow", "wide"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_reaches_only_the_weights_that_saw_it(width, value):
    """The last column is seen by a kernel's last column alone, the first by its first."""
    window = ConvGeometry((3, 3))
    x, grad = torch.ones(1, 1, 9, width), torch.ones(1, 1, 7, width - 2)
    for column, seen in ((width - 1, 2), (0, 0)):
        hurt = x.clone()
        hurt[0, 0, 4, column] = value
        found = direct.weight_gradient(grad, hurt, window)[0, 0]
        expected = torch.full((3, 3), 7.0 * (width - 2))
        expected[:, seen] = value
        assert torch.equal(found.nan_to_num(nan=-1), expected.nan_to_num(nan=-1))


@pytest.mark.parametrize("width", [6, 120], ids=["narrow", "wide"])
def test_nan_reaches_only_the_windows_it_is_in(width):
    """At a row's end, whose neighbour in memory is the next row."""
    x = torch.zeros(1, 2, 6, width)
    x[0, 1, 2, width - 1] = float("nan")
    y = direct.forward(x, torch.ones(1, 2, 3, 3), None, ConvGeometry((3, 3)))
    expected = torch.zeros(4, width - 2, dtype=torch.bool)
    expected[:3, -1] = True
    assert torch.equal(y[0, 0].isnan(), expected)


def test_half_precision_is_refused():
    reasons = direct.unsupported(ConvGeometry((3, 3)), "bfloat16", "cpu")
    assert reasons == ["Numba, which compiles it for the CPU, has no bfloat16"]
    assert not Conv(direct).can(ConvGeometry((3, 3)), "float16")


class TestWhatItHolds:
    def test_nothing_but_a_row_without_padding(self):
        # in bands of all 98 rows, each as wide as the input
        assert (
            direct.scratch(Shape(1, 100, 200), Shape(1, 98, 198), ConvGeometry((3, 3))) == 98 * 200
        )
        assert direct.workspace(Shape(1, 9, 9), Shape(1, 7, 7), ConvGeometry((3, 3))) == 0

    def test_a_band_with_padding(self):
        # 2¹⁵ numbers are 16 rows of 2048 + 2, rounded down to 15; they see 17 rows
        window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
        held = direct.scratch(Shape(1, 2048, 2048), Shape(1, 2048, 2048), window)
        assert held == 17 * 2050 + 15 * 2050

    def test_far_less_than_a_padded_copy_of_a_large_image(self):
        window = ConvGeometry((5, 5), padding=(2, 2, 2, 2))
        shape = Shape(1, 4096, 4096)
        assert direct.scratch(shape, shape, window) < 4096 * 4096 / 100


def test_an_estimate_grows_with_the_work():
    small, large = Shape(1, 100, 100), Shape(1, 200, 200)
    window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
    ratio = direct.estimate(large, large, window) / direct.estimate(small, small, window)
    assert ratio == pytest.approx(4)
    assert direct.estimate(small, small, ConvGeometry((4, 4))) > direct.estimate(
        small, small, window
    )


def test_many_weights_are_summed_in_one_part():
    """512 × 512 kernels have more sums than may be held in several."""
    assert numba_conv.MOST_SUMS < 512 * 512 * 9
    check((1, 512, 3, 3), 512, ConvGeometry((3, 3)))
