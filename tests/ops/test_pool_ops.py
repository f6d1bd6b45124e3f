"""Every pooling operator of the menu, against numbers worked out by hand and the laws."""

import pytest
import torch
from checker import (
    MODES,
    POOL_CASES,
    POOL_CHECKS,
    Pool,
    assert_close_to_reference,
    assert_exact,
    integers,
    label,
    normal,
    pool_gradcheck,
    pool_gradients,
    pool_loops,
    pool_ops,
    pool_reference,
    skip_unless,
)
from torch import Tensor

from runner.autograd import convolve
from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import conv_op, pool_op


@pytest.fixture(params=pool_ops(), ids=label)
def subject(request: pytest.FixtureRequest) -> Pool:
    return request.param


def run(subject: Pool, x: object, mode: str, *args: object, **kwargs: object) -> list:
    x = torch.as_tensor(x, dtype=torch.float64)
    window = PoolGeometry(*args, **kwargs)
    skip_unless(subject.can(window, mode))
    return subject(x[(None,) * (4 - x.dim())], mode, window)[0].tolist()


X = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
SIXTEEN = torch.arange(16.0).reshape(4, 4)


class TestByHand:
    def test_the_books_first(self, subject):
        assert run(subject, X, "max", (2, 2)) == [[[4, 5], [7, 8]]]
        assert run(subject, X, "avg", (2, 2)) == [[[2, 3], [5, 6]]]
        assert run(subject, X, "min", (2, 2)) == [[[0, 1], [3, 4]]]

    def test_stride(self, subject):
        assert run(subject, SIXTEEN, "max", (3, 3), (3, 3)) == [[[10]]]
        # (0 + 1 + 4 + 5) / 4 = 2.5, and so on two columns and two rows further
        assert run(subject, SIXTEEN, "avg", (2, 2), (2, 2)) == [[[2.5, 4.5], [10.5, 12.5]]]

    def test_padding_and_stride(self, subject):
        assert run(subject, SIXTEEN, "max", (3, 3), (2, 2), (1,) * 4) == [[[5, 7], [13, 15]]]
        y = run(subject, SIXTEEN, "max", (2, 3), (2, 3), (0, 0, 1, 1))
        assert y == [[[5, 7], [13, 15]]]

    def test_channels_are_pooled_separately(self, subject):
        both = torch.stack([SIXTEEN, SIXTEEN + 1])
        y = run(subject, both, "max", (3, 3), (2, 2), (1,) * 4)
        assert y == [[[5, 7], [13, 15]], [[6, 8], [14, 16]]]

    def test_what_an_average_divides_by(self, subject):
        # The first window sees 0, 1, 3, 4: their sum 8 over its 9 positions, or over those 4.
        counted = run(subject, X, "avg", (3, 3), (2, 2), (1,) * 4)
        assert counted[0][0][0] == pytest.approx(8 / 9, rel=1e-15)
        assert run(subject, X, "avg", (3, 3), (2, 2), (1,) * 4, count_include_pad=False) == [
            [[2, 3], [5, 6]]
        ]

    def test_what_hangs_over_is_never_counted(self, subject):
        # 2×2 windows, step 2, on 3×3: the last ones see 2, 5 / 6, 7 / 8 and divide by those.
        y = run(subject, X, "avg", (2, 2), (2, 2), ceil_mode=True)
        assert y == [[[2, 3.5], [6.5, 8]]]

    def test_hanging_over_the_padding(self, subject):
        # k3 s3 p1 on four numbers: starts −1 and 2; the second covers 2, 3 and one padded zero.
        # k2 s2 p1 on the same: starts −1, 1, 3; the last covers 3 and one padded zero.
        row = [[1, 2, 4, 8]]
        args = ((1, 3), (1, 3), (0, 0, 1, 1), True)
        assert run(subject, row, "avg", *args) == [[[1, 4]]]
        assert run(subject, row, "avg", *args, False) == [[[1.5, 6]]]
        # one more column: 1 2 4 8 16, starts −1, 2, 5; 5 ≥ n, so the last window is dropped
        # at s3, and at s2 starts −1, 1, 3: (1+2)/3, (2+4+8)/3, (8+16+0)/3
        y = run(subject, [[1, 2, 4, 8, 16]], "avg", (1, 3), (1, 2), (0, 0, 1, 1), True)
        assert y[0][0] == pytest.approx([1, 14 / 3, 8], rel=1e-15)
        assert run(subject, [[1, 2, 4, 8, 16]], "max", (1, 3), (1, 4), (0, 0, 1, 1), True) == [
            [[2, 16]]
        ]

    def test_uneven_padding(self, subject):
        # one column on the left only: starts −1, 1; (0 + 1) / 2 and (2 + 4) / 2
        row = [[1, 2, 4]]
        assert run(subject, row, "avg", (1, 2), (1, 2), (0, 0, 1, 0)) == [[[0.5, 3]]]
        assert run(subject, row, "avg", (1, 2), (1, 2), (0, 0, 1, 0), False, False) == [[[1, 3]]]
        assert run(subject, row, "max", (1, 2), (1, 2), (0, 0, 0, 1)) == [[[2, 4]]]
        assert run(subject, row, "min", (1, 2), (1, 2), (0, 0, 0, 1)) == [[[1, 4]]]

    def test_adaptive_windows_that_overlap(self, subject):
        # five numbers to three: [0, 2), [1, 4), [3, 5)
        row = [[1, 2, 4, 8, 16]]
        assert run(subject, row, "max", output=(1, 3)) == [[[2, 8, 16]]]
        assert run(subject, row, "min", output=(1, 3)) == [[[1, 2, 8]]]
        y = run(subject, row, "avg", output=(1, 3))
        assert y[0][0] == pytest.approx([1.5, 14 / 3, 12], rel=1e-15)

    def test_global(self, subject):
        assert run(subject, X, "avg", output=(1, 1)) == [[[4]]]
        assert run(subject, X, "max", output=(1, 1)) == [[[8]]]

    @pytest.mark.parametrize(
        "window",
        [
            PoolGeometry((3, 3), (2, 2), (1, 1, 1, 1)),
            PoolGeometry((3, 3), (2, 2), (2, 1, 0, 1)),
            PoolGeometry((2, 2), (2, 2), (1, 1, 1, 1), ceil_mode=True),
        ],
        ids=["even", "uneven", "ceil"],
    )
    def test_padding_never_wins(self, subject, window):
        x = -1 - integers(1, 2, 5, 6).abs()
        skip_unless(subject.can(window, "max"))
        assert (subject(x, "max", window) <= -1).all()
        assert (subject(-x, "min", window) >= 1).all()

    def test_infinities_are_numbers_too(self, subject):
        low = torch.full((2, 2), -float("inf"))
        assert run(subject, low, "max", (2, 2), (1, 1), (1, 1, 1, 1)) == [[[-float("inf")] * 3] * 3]
        assert run(subject, -low, "min", (2, 2), (1, 1), (1, 0, 1, 0)) == [[[float("inf")] * 2] * 2]

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 0, 0, 0)], ids=["even", "uneven"])
    def test_nan_is_not_hidden(self, subject, mode, padding):
        x = SIXTEEN.clone()
        x[1, 2] = float("nan")
        y = torch.tensor(run(subject, x, mode, (2, 2), (2, 2), (*padding[:2], 0, 0)))
        # 4×4 halved: row 1 is in the upper windows, with a row of padding above in the middle ones
        assert y.isnan()[0].tolist() == (
            [[False, True], [False, False]] if not any(padding) else [[False] * 2, [False, True]]
        )


class TestTies:
    """The first of equal numbers, in reading order, gets the whole gradient."""

    def gradient(self, subject: Pool, x: Tensor, mode: str, window: PoolGeometry) -> list:
        skip_unless(subject.can(window, mode))
        x = x.double()[None, None].requires_grad_()
        subject(x, mode, window).sum().backward()
        return x.grad[0, 0].tolist()

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_apart(self, subject, mode):
        found = self.gradient(subject, torch.ones(4, 4), mode, PoolGeometry((2, 2), (2, 2)))
        assert found == [[1, 0, 1, 0], [0] * 4, [1, 0, 1, 0], [0] * 4]

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_padded(self, subject, mode):
        # rows −1..1 and 1..3: the first that is not padding is 0, then 1; columns alike
        window = PoolGeometry((3, 3), (2, 2), (1, 1, 1, 1))
        found = self.gradient(subject, torch.ones(4, 4), mode, window)
        assert found == [[1, 1, 0, 0], [1, 1, 0, 0], [0] * 4, [0] * 4]

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_adaptive(self, subject, mode):
        # three to two: [0, 2) and [1, 3)
        found = self.gradient(subject, torch.ones(3, 3), mode, PoolGeometry(output=(2, 2)))
        assert found == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]

    def test_reading_order(self, subject):
        x = torch.tensor([[0.0, 7.0], [7.0, 7.0]])
        assert self.gradient(subject, x, "max", PoolGeometry((2, 2))) == [[0, 1], [0, 0]]

    def test_average_is_shared_evenly(self, subject):
        found = self.gradient(subject, torch.ones(2, 4), "avg", PoolGeometry((2, 2), (2, 2)))
        assert found == [[0.25] * 4] * 2


@pytest.mark.parametrize("check", POOL_CHECKS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", POOL_CASES, ids=label)
def test_edge_grid(subject, case, mode, check):
    skip_unless(subject.can(case.geometry, mode))
    check(subject, case, mode)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", POOL_CASES, ids=label)
def test_lower_precision(subject, case, mode, dtype):
    skip_unless(subject.can(case.geometry, mode, str(dtype).removeprefix("torch.")))
    pool_reference(subject, case, mode, dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", [c for c in POOL_CASES if c.x[0]], ids=label)
def test_gradcheck(subject, case, mode):
    skip_unless(subject.can(case.geometry, mode))
    pool_gradcheck(subject, case, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", POOL_CASES, ids=label)
def test_gradients_of_loops_are_those_of_torch(case, mode):
    pool_gradients(Pool(pool_op("loops"), "loops"), case, mode, Pool(pool_op("native")))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "x",
    [
        integers(2, 3, 6, 5).transpose(2, 3),
        integers(2, 3, 5, 12)[..., ::2],
        integers(1, 1, 5, 6).expand(3, 3, 5, 6),
        integers(2, 3, 5, 6).contiguous(memory_format=torch.channels_last),
    ],
    ids=["transposed", "every_second_column", "expanded", "channels_last"],
)
def test_memory_layouts(subject, x, mode):
    for window in (PoolGeometry((3, 2), (2, 2), (1, 1, 1, 1)), PoolGeometry(output=(2, 4))):
        skip_unless(subject.can(window, mode))
        expected = pool_loops(x.contiguous(), mode, window)
        assert_close_to_reference(subject(x, mode, window), expected, subject.name)


class TestLaws:
    def test_average_is_a_convolution(self, subject):
        # of every channel by itself with 1 / (kh · kw) (the book, 6.5 exercise 1)
        window = PoolGeometry((2, 3), (2, 1), (1, 1, 1, 1))
        skip_unless(subject.can(window, "avg"))
        x, kernel = normal(2, 3, 6, 7), torch.full((3, 1, 2, 3), 1 / 6, dtype=torch.float64)
        same = ConvGeometry((2, 3), (2, 1), (1, 1, 1, 1), groups=3)
        y = convolve(conv_op("loops"), x, kernel, None, same)
        assert_close_to_reference(subject(x, "avg", window), y, subject.name)

    def test_maximum_of_two_by_relu(self, subject):
        # max(a, b) = relu(a − b) + b
        x = integers(1, 1, 4, 2)
        skip_unless(subject.can(PoolGeometry((1, 2)), "max"))
        a, b = x[..., :1], x[..., 1:]
        assert_exact(subject(x, "max", PoolGeometry((1, 2))), torch.relu(a - b) + b)

    def test_minimum_is_the_negated_maximum(self, subject):
        window = PoolGeometry((3, 3), (2, 2), (1, 1, 1, 1))
        skip_unless(subject.can(window, "min"))
        x = integers(2, 2, 6, 6)
        assert_exact(subject(x, "min", window), -subject(-x, "max", window))

    def test_shift_by_the_stride(self, subject):
        window = PoolGeometry((3, 2), (2, 3))
        skip_unless(subject.can(window, "max"))
        x = integers(1, 2, 9, 11)
        y = subject(x, "max", window)
        assert_exact(subject(x[:, :, 2:, 3:], "max", window), y[:, :, 1:, 1:])
