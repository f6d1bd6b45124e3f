"""The matrix of windows, its transposed map, and the memory that they take."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from checker import assert_close_to_reference, integers, normal
from memory import peak

from runner.geometry import ConvGeometry, Shape
from runner.ops import conv_op
from runner.ops.im2col import columns, fold

X = torch.arange(9.0).reshape(1, 1, 3, 3)
GEOMETRIES = [
    ConvGeometry((3, 2)),
    ConvGeometry((3, 2), (2, 3), (1, 0, 2, 3), (2, 1)),
    ConvGeometry((2, 2), (3, 4), (0, 1, 0, 0)),
    ConvGeometry((1, 1), (2, 2)),
]


class TestColumns:
    def test_of_the_books_image(self):
        # the windows of 0 to 8 under a 2×2 kernel, each read row by row, each a column
        windows = [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
        found = columns(X, ConvGeometry((2, 2)))
        assert found.tolist() == [np.transpose(windows).tolist()]
        # times the kernel: 1·1 + 3·2 + 4·3 = 19 (the book, 6.2.1)
        assert (torch.tensor([0.0, 1, 2, 3]) @ found[0]).tolist() == [19, 25, 37, 43]

    def test_beside_the_matrix_of_the_linear_map(self):
        # Pushing a single one through gives a column of the exercise's 4×9 matrix (6.2).
        ones = torch.eye(9).reshape(9, 1, 3, 3)
        matrix = (torch.tensor([1.0, 2, 3, 4]) @ columns(ones, ConvGeometry((2, 2)))[0]).view(9, 4)
        assert matrix.T.tolist() == [
            [1, 2, 0, 3, 4, 0, 0, 0, 0],
            [0, 1, 2, 0, 3, 4, 0, 0, 0],
            [0, 0, 0, 1, 2, 0, 3, 4, 0],
            [0, 0, 0, 0, 1, 2, 0, 3, 4],
        ]

    def test_padding_stride_and_dilation(self):
        # One row 0 1 2 with a zero before it and two after: 0 0 1 2 0 0. Elements 2 apart see
        # (0, 1), and 3 further (2, 0).
        window = ConvGeometry((1, 2), (1, 3), (0, 0, 1, 2), (1, 2))
        assert columns(X[:, :, :1], window).tolist() == [[[0, 2], [1, 0]]]

    def test_groups_and_examples(self):
        # Pixels themselves: a matrix for each group, a row for each of its channels, and the
        # examples one after the other.
        x = torch.arange(8.0).reshape(2, 2, 1, 2)
        assert columns(x, ConvGeometry((1, 1))).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7]]]
        grouped = columns(x, ConvGeometry((1, 1), groups=2))
        assert grouped.tolist() == [[[0, 1, 4, 5]], [[2, 3, 6, 7]]]

    @pytest.mark.parametrize("stride", [1, 2])
    @pytest.mark.parametrize("dilation", [1, 2])
    def test_as_torch_unfolds(self, stride, dilation):
        x, two = normal(2, 3, 7, 8), (2, 2)
        window = ConvGeometry((3, 2), (stride, 1), (1, 1, 2, 2), (1, dilation))
        theirs = F.unfold(x, (3, 2), (1, dilation), (1, 2), (stride, 1))
        assert torch.equal(columns(x, window), theirs.permute(1, 0, 2).reshape(1, 18, -1))
        assert columns(x[:0], ConvGeometry(two)).shape == (1, 12, 0)


class TestFold:
    def test_counts_the_windows_of_each_pixel(self):
        ones = torch.ones(1, 4, 4)
        found = fold(ones, (3, 3), ConvGeometry((2, 2)), 1)
        assert found.tolist() == [[[[1, 2, 1], [2, 4, 2], [1, 2, 1]]]]

    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_is_the_transposed_map(self, geometry):
        # ⟨columns(x), m⟩ = ⟨x, fold(m)⟩, exactly in integers
        x = integers(2, 3, 8, 9)
        matrix = columns(x, geometry)
        m = integers(*matrix.shape, seed=1)
        assert (matrix * m).sum() == (x * fold(m, (8, 9), geometry, 2)).sum()

    def test_sums_half_precision_in_single(self):
        # Five windows share the middle one of nine pixels: 2048 + 4 · 1; in half precision, where
        # neighbours of 2048 are 2 apart, adding 1 changes nothing.
        m = torch.zeros(1, 5, 5, dtype=torch.float16)
        for element, window in enumerate([4, 3, 2, 1, 0]):
            m[0, element, window] = 1
        m[0, 0, 4] = 2048
        found = fold(m, (1, 9), ConvGeometry((1, 5)), 1)
        assert found.dtype == torch.float16
        assert found[0, 0, 0, 4] == 2052


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_of_half_precision_are_summed_in_single(dtype):
    # 64 · 64 ones; summed one by one in half precision they'd stop at 2048 or 256.
    ones = torch.ones(1, 1, 64, 64, dtype=dtype)
    found = conv_op("im2col").weight_gradient(ones, ones, ConvGeometry((1, 1)))
    assert found.tolist() == [[[[4096]]]]


@pytest.mark.parametrize("geometry", [*GEOMETRIES, ConvGeometry((29, 28))])
def test_scratch_is_what_is_allocated(geometry):
    op, x = conv_op("im2col"), torch.randn(3, 4, 60, 50)
    weight = torch.randn(8, 4, *geometry.kernel)
    y = op.forward(x, weight, None, geometry)
    said = 3 * op.scratch(Shape(4, 60, 50), Shape(*y.shape[1:]), geometry)
    assert 0.6 * said <= peak(lambda: op.forward(x, weight, None, geometry)) / 4 - y.numel() <= said
    grad = torch.randn_like(y)
    for call in (
        lambda: op.input_gradient(grad, weight, (60, 50), geometry),
        lambda: op.weight_gradient(grad, x, geometry),
    ):
        # The weight's is added up in parts, which don't grow with the examples.
        assert peak(call) / 4 - call().numel() <= said + 4 * weight.numel()


def test_scratch_by_hand():
    # 4 windows of 4 numbers, and 4 outputs; with a zero on each side 16 windows in 5×5, 16 outputs
    op = conv_op("im2col")
    assert op.scratch(Shape(1, 3, 3), Shape(1, 2, 2), ConvGeometry((2, 2))) == 16 + 4
    padded = ConvGeometry((2, 2), padding=(1, 1, 1, 1))
    assert op.scratch(Shape(1, 3, 3), Shape(1, 4, 4), padded) == 64 + 25 + 16
    # One window of 100 · 100 numbers, whose 10,000 products are added in parts: for each of two
    # outputs a part's sum, and, twice as large, that and the total in double precision; less one
    # that the output takes the place of.
    large = ConvGeometry((100, 100))
    assert op.scratch(Shape(1, 100, 100), Shape(2, 1, 1), large) == 10000 + 2 * (1 + 2 + 2 - 1)


def test_many_channels_in_single_precision():
    x, weight = normal(2, 128, 14, 14), normal(32, 128, 3, 3, seed=1)
    window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
    found = conv_op("im2col").forward(x.float(), weight.float(), None, window)
    expected = F.conv2d(x.float().double(), weight.float().double(), padding=1)
    assert_close_to_reference(found, expected, "im2col")


@pytest.mark.parametrize("draw", [torch.randn, torch.rand], ids=["signed", "positive"])
class TestLongSums:
    """In small results, whose numbers a matrix product would add one after the other."""

    def test_over_an_image(self, draw):
        torch.manual_seed(0)
        x, grad = draw(1, 2, 500, 500), draw(1, 4, 498, 498)
        window = ConvGeometry((3, 3), groups=2)
        found = conv_op("im2col").weight_gradient(grad, x, window)
        expected = conv_op("native").weight_gradient(grad.double(), x.double(), window)
        assert_close_to_reference(found, expected, "im2col")

    def test_over_channels_and_kernel(self, draw):
        torch.manual_seed(0)
        x, weight = draw(1, 4000, 5, 5), draw(2, 4000, 3, 3)
        found = conv_op("im2col").forward(x, weight, None, ConvGeometry((3, 3)))
        assert_close_to_reference(found, F.conv2d(x.double(), weight.double()), "im2col")
