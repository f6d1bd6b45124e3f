"""Minimal filtering: where its matrices come from, its reference, its blocks, its refusals."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from checker import (
    Conv,
    ConvCase,
    assert_close_to_reference,
    conv_gradients,
    conv_loops,
    conv_small_integers,
    integers,
    normal,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.geometry import ConvGeometry, Shape
from runner.ops import conv_op
from runner.ops._winograd import reference, strips
from runner.ops._winograd.matrices import MATRICES

NAMES = {4: "winograd", 2: "winograd_2x2"}
POINTS = {2: [0, 1, -1], 4: [0, 1, -1, 2, -2]}


@pytest.fixture(params=[4, 2], ids=NAMES.get)
def m(request):
    return request.param


def exact(matrix):
    return [[Fraction(v).limit_denominator(100) for v in row] for row in matrix]


class TestMatrices:
    def test_they_filter_exactly(self, m):
        # bilinear: on every pair of unit vectors, y_i is 1 where i + k = j, d_j and g_k being ones
        b, g, a = map(exact, MATRICES[m])
        for i, k, j in product(range(m), range(3), range(m + 2)):
            y = sum(a[i][e] * g[e][k] * b[e][j] for e in range(m + 2))
            assert y == (i + k == j)

    def test_the_output_is_a_polynomial_at_the_points(self, m):
        # A's rows are (1, p, p² …), and the leading coefficient for ∞, up to its sign
        a = list(zip(*exact(MATRICES[m].output), strict=True))
        for row, p in zip(a, POINTS[m], strict=False):
            assert list(row) == [p**i for i in range(m)]
        assert [abs(v) for v in a[-1]] == [0] * (m - 1) + [1]


class TestReference:
    @pytest.mark.parametrize("groups", [1, 2])
    def test_agrees_with_loops_and_the_strips(self, m, groups):
        window = ConvGeometry((3, 3), padding=(0, 1, 3, 2), groups=groups)
        case = ConvCase("", (2, 4, 7, 9), 6, window)
        x, weight, bias = case.tensors()
        expected = conv_loops(x, weight, bias, window)
        args = (x, weight, bias, (0, -3), expected.shape[2:], groups, m)
        assert_close_to_reference(reference.correlate(*args), expected)
        assert_close_to_reference(strips.correlate(*args), expected)

        grad = normal(*expected.shape, seed=5)
        right = conv_op("loops").weight_gradient(grad, x, window)
        args = (grad, x, (0, -3), groups, m)
        assert_close_to_reference(reference.weight_gradient(*args), right)
        assert_close_to_reference(strips.weight_gradient(*args), right)


class TestStrips:
    def test_many_strips_are_one(self, m):
        # 300 tiles of F(4×4), 1152 of F(2×2): several strips and blocks, cut in the middle of rows
        # and of images; a row of 80 tiles is longer than a strip
        for size in [(3, 2, 38, 38), (1, 2, 12, 80 * m)]:
            case = ConvCase("", size, 3, ConvGeometry((3, 3), padding=(1, 1, 1, 1)))
            subject = Conv(conv_op(NAMES[m]), NAMES[m])
            conv_small_integers(subject, case)
            conv_gradients(subject, case)

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_threads_change_nothing(self, m, threads):
        before = torch.get_num_threads()
        x, weight = integers(2, 40, 33, 34), integers(36, 40, 3, 3, seed=1)
        window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
        try:
            torch.set_num_threads(threads)
            y = conv_op(NAMES[m]).forward(x, weight, None, window)
        finally:
            torch.set_num_threads(before)
        assert_close_to_reference(y, torch.nn.functional.conv2d(x, weight, padding=1))

    def test_many_channels_in_float32(self, m):
        window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
        case = ConvCase("", (2, 64, 20, 22), 48, window)
        x, weight, bias = case.tensors(dtype=torch.float32)
        grad = normal(2, 48, 20, 22, seed=5).float()
        op, right, name = conv_op(NAMES[m]), conv_op("native"), NAMES[m]
        wide = [t.double() for t in (x, weight, bias, grad)]
        assert_close_to_reference(
            op.forward(x, weight, bias, window), right.forward(*wide[:3], window), name
        )
        assert_close_to_reference(
            op.weight_gradient(grad, x, window),
            right.weight_gradient(wide[3], wide[0], window),
            name,
        )
        assert_close_to_reference(
            op.input_gradient(grad, weight, (20, 22), window),
            right.input_gradient(wide[3], wide[1], (20, 22), window),
            name,
        )


@st.composite
def cases(draw):
    groups, ins, outs = (draw(st.integers(1, 3)) for _ in range(3))
    padding = tuple(draw(st.integers(0, 5)) for _ in range(4))
    h = draw(st.integers(max(1, 3 - padding[0] - padding[1]), 12))
    w = draw(st.integers(max(1, 3 - padding[2] - padding[3]), 12))
    window = ConvGeometry((3, 3), padding=padding, groups=groups)
    return ConvCase("random", (draw(st.integers(0, 2)), groups * ins, h, w), groups * outs, window)


@pytest.mark.parametrize("name", NAMES.values())
@given(case=cases())
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
def test_random_geometries(name, case):
    subject = Conv(conv_op(name), name)
    conv_small_integers(subject, case)
    conv_gradients(subject, case)


def test_small_integers_are_exact_in_float32():
    # F(2×2) halves sums of integers: all of it is exact below 2²⁴
    window = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
    x, weight = integers(2, 40, 17, 18), integers(33, 40, 3, 3, seed=1)
    y = conv_op("winograd_2x2").forward(x.float(), weight.float(), None, window)
    assert torch.equal(y.double(), torch.nn.functional.conv2d(x, weight, padding=1))


def test_a_weight_that_changed_is_seen():
    # by torch, behind its back, and replaced
    window, op = ConvGeometry((3, 3)), conv_op("winograd")
    x, weight = integers(1, 2, 6, 6), integers(2, 2, 3, 3)
    before = op.forward(x, weight, None, window)
    weight.numpy()[:] *= 2
    assert_close_to_reference(op.forward(x, weight, None, window), 2 * before)


def test_nan_stays_in_its_tiles():
    # 4 × 4 outputs of the first tile; its neighbours' windows don't reach the corner
    x = torch.ones(1, 1, 10, 10).double()
    x[0, 0, 0, 0] = float("nan")
    y = conv_op("winograd").forward(x, torch.ones(1, 1, 3, 3).double(), None, ConvGeometry((3, 3)))
    assert y[0, 0, 0, 0].isnan()
    assert not y[..., 4:, :].isnan().any()
    assert not y[..., :, 4:].isnan().any()


@pytest.mark.parametrize(
    ("geometry", "dtype", "device", "reason"),
    [
        (ConvGeometry((5, 5)), "float32", "cpu", "the kernel is 5×5"),
        (ConvGeometry((3, 3), (2, 2)), "float32", "cpu", "stride is 2×2"),
        (ConvGeometry((3, 3), dilation=(1, 2)), "float32", "cpu", "dilation is 1×2"),
        (ConvGeometry((3, 3)), "bfloat16", "cpu", "too much for bfloat16"),
        (ConvGeometry((3, 3)), "float32", "cuda", "not for cuda"),
    ],
)
def test_it_says_why_it_cannot(m, geometry, dtype, device, reason):
    (found,) = conv_op(NAMES[m]).unsupported(geometry, dtype, device)
    assert reason in found


def test_what_it_holds():
    # F(4×4), 8×8 outputs: 4 tiles of 36 numbers, 36 for every kernel; 32 channels each, filled up
    x, y, window = Shape(3, 8, 8), Shape(5, 8, 8), ConvGeometry((3, 3), padding=(1, 1, 1, 1))
    assert conv_op("winograd").scratch(x, y, window) == 36 * (32 * 32 + 4 * 64)
    # F(2×2): 16 tiles of 16 numbers
    assert conv_op("winograd_2x2").scratch(x, y, window) == 16 * (32 * 32 + 16 * 64)
    # a block of 128 tiles is held at a time, of however many
    x, y = Shape(64, 400, 400), Shape(32, 400, 400)
    assert conv_op("winograd").scratch(x, y, window) == 36 * (64 * 32 + 128 * 96)
