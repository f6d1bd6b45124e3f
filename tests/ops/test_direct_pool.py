"""Compiled pooling where it takes other paths than on small images: rows, threads, places."""

from itertools import pairwise

import pytest
import torch
from checker import MODES, Pool, PoolCase, integers, label, pool_gradients, pool_reference
from torch import Tensor

from runner.autograd import pool
from runner.geometry import PoolGeometry, Shape
from runner.ops import pool_op
from runner.ops.direct import numba_pool

DIRECT, NATIVE = Pool(pool_op("direct"), "direct"), Pool(pool_op("native"), "native")
ALL_SIDES, NAN, INF = (1, 1, 1, 1), float("nan"), float("inf")

# Rows of 37 and 70 are more than one vector of 16 numbers, and no whole number of them.
CASES = [
    PoolCase("halves", (2, 3, 9, 37), PoolGeometry((2, 2), (2, 2))),
    PoolCase("halves_ceil", (2, 2, 9, 37), PoolGeometry((2, 2), (2, 2), ceil_mode=True)),
    PoolCase("halves_padded", (1, 2, 9, 70), PoolGeometry((2, 2), (2, 2), (1, 0, 1, 0))),
    PoolCase("pairs_overlapping_down", (1, 2, 9, 37), PoolGeometry((3, 2), (1, 2), (1, 1, 0, 1))),
    PoolCase("pairs_beyond_a_byte", (1, 2, 135, 20), PoolGeometry((130, 2), (3, 2))),
    PoolCase("three_by_two", (2, 2, 11, 70), PoolGeometry((3, 3), (2, 2), ALL_SIDES)),
    PoolCase("three_unpadded", (2, 2, 11, 37), PoolGeometry((3, 3), (2, 2))),
    PoolCase("three_by_one", (1, 2, 8, 37), PoolGeometry((3, 3), (1, 1), ALL_SIDES)),
    PoolCase("three_by_three", (1, 2, 9, 70), PoolGeometry((3, 3), (3, 3))),
    PoolCase("beyond_the_kernel", (1, 2, 12, 70), PoolGeometry((2, 3), (4, 5))),
    PoolCase("wide", (1, 2, 40, 41), PoolGeometry((17, 18), (3, 2), (8, 8, 9, 9))),
    PoolCase("adaptive", (1, 2, 12, 40), PoolGeometry(output=(4, 5))),
    PoolCase("adaptive_uneven", (1, 2, 13, 41), PoolGeometry(output=(5, 7))),
    PoolCase("global", (2, 2, 20, 37), PoolGeometry(output=(1, 1))),
]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=label)
def test_whole_rows(case, mode):
    pool_reference(DIRECT, case, mode)
    pool_reference(DIRECT, case, mode, torch.float32)
    # Torch's is checked against the definition on small windows; ties among the integers too.
    pool_gradients(DIRECT, case, mode, NATIVE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES, ids=label)
def test_threads_give_the_same(case, mode, monkeypatch):
    """However the rows are shared out, overlapping windows add up to the same bits."""
    x = integers(*case.x).requires_grad_()
    found = []
    for parts in (1, 2, 5, 64):

        def share(work, count, cost, parts=parts):
            bounds = [count * i // parts for i in range(parts + 1)]
            for start, stop in pairwise(bounds):
                work(start, stop)

        monkeypatch.setattr(numba_pool, "share", share)
        y = pool(DIRECT.op, x, mode, case.geometry)
        (gradient,) = torch.autograd.grad(y, x, integers(*y.shape, seed=1))
        found.append((y, gradient))
    for y, gradient in found[1:]:
        assert torch.equal(y, found[0][0])
        assert torch.equal(gradient, found[0][1])


def winner(x: Tensor, mode: str, geometry: PoolGeometry) -> list:
    """Where the gradient of the sum goes: rows and columns that get some."""
    x = x[None, None].requires_grad_()
    pool(DIRECT.op, x, mode, geometry).sum().backward()
    return x.grad[0, 0].nonzero().tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("mode", ["max", "min"])
@pytest.mark.parametrize(
    ("geometry", "size"),
    [
        (PoolGeometry((2, 2), (2, 2)), (2, 2)),
        (PoolGeometry((3, 3), (2, 2)), (3, 3)),
        (PoolGeometry((3, 3), (1, 1)), (3, 3)),
        (PoolGeometry((3, 3), (3, 3)), (3, 3)),
        (PoolGeometry((20, 20), (20, 20)), (20, 20)),
        (PoolGeometry(output=(1, 1)), (3, 5)),
    ],
    ids=["2x2", "3x3s2", "3x3s1", "3x3s3", "20x20", "global"],
)
class TestFirstExtreme:
    """One window that is the whole image, so that there is one winner."""

    def test_nan_beats_all(self, geometry, size, mode, dtype):
        x = torch.zeros(size, dtype=dtype)
        x[1, 1], x[0, 0] = NAN, INF if mode == "max" else -INF
        assert winner(x, mode, geometry) == [[1, 1]]

    def test_the_first_nan(self, geometry, size, mode, dtype):
        x = torch.zeros(size, dtype=dtype)
        # In reading order the end of the first row comes before the start of the second.
        x[0, size[1] - 1] = x[1, 0] = NAN
        assert winner(x, mode, geometry) == [[0, size[1] - 1]]

    def test_the_first_of_equals(self, geometry, size, mode, dtype):
        x = torch.zeros(size, dtype=dtype)
        x[0, 1] = x[1, 0] = 1 if mode == "max" else -1
        assert winner(x, mode, geometry) == [[0, 1]]

    def test_infinities_tie_too(self, geometry, size, mode, dtype):
        x = torch.full(size, -INF if mode == "max" else INF, dtype=dtype)
        assert winner(x, mode, geometry) == [[0, 0]]


def test_infinities_never_lose_to_padding():
    # 3×3 step 2 on 4×4: rows and columns −1..1 and 1..3, whose first are 0 and 1
    x = torch.full((4, 4), -INF)
    found = winner(x, "max", PoolGeometry((3, 3), (2, 2), ALL_SIDES))
    assert found == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_the_first_nan_beside_padding():
    # The windows as above: the corner's first NaN is at 0, 1, and the last window's at 3, 3.
    x = torch.zeros(4, 4)
    x[0, 1] = x[1, 0] = x[3, 3] = NAN
    y = x[None, None].requires_grad_()
    window = PoolGeometry((3, 3), (2, 2), ALL_SIDES)
    (gradient,) = torch.autograd.grad(pool(DIRECT.op, y, "max", window), y, torch.ones(1, 1, 2, 2))
    # The two other windows see one of the first two each.
    assert gradient[0, 0].tolist() == [[0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_what_no_window_covers_gets_nothing():
    # 1×2 windows, step 4, on seven numbers: 0 1 and 4 5
    x = torch.arange(7.0)[None, None, None].requires_grad_()
    window = PoolGeometry((1, 2), (1, 4))
    for mode, expected in (("max", [0, 1, 0, 0, 0, 1, 0]), ("avg", [0.5, 0.5, 0, 0] * 2)):
        y = pool(DIRECT.op, x, mode, window)
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.flatten().tolist() == expected[:7]


def test_places_take_a_byte_each_where_that_is_enough():
    # 2 × 3 × 4 outputs: 24 bytes are 6 numbers of float32, 24 places of eight bytes are 48
    y = Shape(2, 3, 4)
    op, small, large = pool_op("direct"), PoolGeometry((16, 16)), PoolGeometry((16, 17))
    assert op.indices("max", small) == "uint8"
    assert op.indices("max", large) == op.indices("min", PoolGeometry(output=(1, 1))) == "int64"
    assert op.indices("avg", small) is None
    assert op.workspace(Shape(2, 48, 64), y, small) == 6
    assert op.workspace(Shape(2, 48, 64), y, large) == 48


def test_the_input_and_the_gradient_may_be_in_any_order():
    x = integers(2, 3, 5, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    window = PoolGeometry((2, 2), (2, 2))
    y = pool(DIRECT.op, x, "max", window)
    expected = torch.autograd.grad(pool(NATIVE.op, x, "max", window).sum(), x)
    assert torch.equal(torch.autograd.grad(y.sum(), x)[0], expected[0])  # the sum's is expanded
