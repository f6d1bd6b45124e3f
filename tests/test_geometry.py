"""Shapes, paddings, fields: against numbers of the book, torch, and plain counting."""

from fractions import Fraction
from itertools import pairwise, product

import pytest
import torch
import torch.nn.functional as F

from runner.geometry import (
    WHOLE,
    Axis,
    ConvGeometry,
    Features,
    Field,
    PoolGeometry,
    Shape,
    adaptive_extent,
    adaptive_total,
    elements,
    extent,
    output_size,
    resolve_padding,
)
from runner.layers.pool import Pool


def test_shapes():
    assert str(Shape(6, 28, 28)) == "6×28×28"
    assert Shape(6, 28, 14).dims == (6, 28, 14)
    assert Shape(6, 28, 14).size == (28, 14)
    assert elements(Shape(2, 3, 4)) == 24
    assert (str(Features(84)), Features(84).dims, elements(Features(84))) == ("84", (84,), 84)


@pytest.mark.parametrize(("kernel", "dilation", "spans"), [(3, 1, 3), (3, 2, 5), (1, 7, 1)])
def test_extent(kernel, dilation, spans):
    assert extent(kernel, dilation) == spans


@pytest.mark.parametrize(
    ("n", "kernel", "stride", "padding", "expected"),
    [
        (8, 3, 1, 2, 8),  # the book, 6.3.1: p counts both sides
        (8, 5, 1, 4, 8),
        (8, 3, 2, 2, 4),  # 6.3.2
        (8, 3, 3, 0, 2),
        (8, 5, 4, 2, 2),
        (3, 2, 1, 0, 2),
        (3, 2, 3, 2, 2),
        (4, 5, 1, 0, 0),
        (3, 5, 1, 0, -1),
    ],
)
def test_output_size(n, kernel, stride, padding, expected):
    assert output_size(n, kernel, stride, padding) == expected


SWEEP = list(product(range(1, 9), range(1, 5), range(4), range(1, 4), range(1, 3)))


def test_output_size_is_torchs_and_the_books_for_every_combination():
    for n, k, p, s, d in SWEEP:
        mine = output_size(n, k, s, 2 * p, d)
        try:
            theirs = F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, k), None, s, p, d).shape[2]
        except RuntimeError:
            theirs = 0
        assert max(mine, 0) == theirs, (n, k, p, s, d)
        if d == 1:
            assert mine == (n - k + 2 * p + s) // s, (n, k, p, s)


def test_pooling_sizes_are_torchs_for_every_combination():
    for n, k, p, s, ceil in product(range(1, 9), range(1, 5), range(3), range(1, 5), (0, 1)):
        if 2 * p > k or n + 2 * p < k:
            continue
        window = PoolGeometry((k, 1), (s, 1), (p, p, 0, 0), bool(ceil))
        x = torch.zeros(1, 1, n, 1)
        theirs = F.max_pool2d(x, (k, 1), (s, 1), (p, 0), ceil_mode=bool(ceil)).shape[2]
        assert window.output_size((n, 1)) == (theirs, 1), (n, k, p, s, ceil)
        assert len(window.windows((n, 1), 0)) == theirs


def test_the_axes_are_not_mixed_up():
    # rows: (8 + 0 + 1 − 3) // 2 + 1 = 4; columns: (9 + 2 + 3 − (2·3 + 1)) // 1 + 1 = 8
    window = ConvGeometry((3, 4), (2, 1), (0, 1, 2, 3), (1, 2))
    assert window.extent == (3, 7)
    assert window.output_size((8, 9)) == (4, 8)
    # rows: (8 + 1 − 3) // 2 + 1 = 4; columns: (9 + 5 − 4) // 1 + 1 = 11
    assert PoolGeometry((3, 4), (2, 1), (0, 1, 2, 3)).output_size((8, 9)) == (4, 11)


def test_sizes_beyond_machine_integers():
    assert output_size(2**61, 3, 1, 2**62) == 2**61 + 2**62 - 2
    huge = PoolGeometry((1, 1), (1, 1))
    assert huge.output_size((2**70, 5)) == (2**70, 5)


class TestPadding:
    @pytest.mark.parametrize(
        ("rule", "kernel", "dilation", "expected"),
        [
            ("valid", (3, 5), (1, 1), (0, 0, 0, 0)),
            ("same", (3, 5), (1, 1), (1, 1, 2, 2)),
            ("same", (2, 4), (1, 1), (0, 1, 1, 2)),  # torch: the odd one at the bottom and right
            ("same_lower", (2, 4), (1, 1), (1, 0, 2, 1)),  # the book: ⌈p/2⌉ above and left
            ("same_lower", (3, 3), (1, 1), (1, 1, 1, 1)),
            ("same", (2, 3), (3, 2), (1, 2, 2, 2)),  # d·(k − 1): 3 and 4
            ((0, 1, 2, 3), (9, 9), (1, 1), (0, 1, 2, 3)),
        ],
    )
    def test_rules(self, rule, kernel, dilation, expected):
        assert resolve_padding(rule, kernel, dilation) == expected

    @pytest.mark.parametrize("rule", ["same", "same_lower"])
    def test_same_keeps_the_size_at_stride_one(self, rule):
        for kernel, dilation in product(product(range(1, 6), repeat=2), product((1, 2), repeat=2)):
            padding = resolve_padding(rule, kernel, dilation)
            window = ConvGeometry(kernel, padding=padding, dilation=dilation)
            assert window.output_size((7, 8)) == (7, 8)


class TestWindows:
    def test_clipped_to_the_input(self):
        # start −1, 1, 3 of three positions on five; the first counts its padded position or not
        counted = PoolGeometry((3, 3), (2, 2), (1, 1, 0, 0))
        assert counted.windows((5, 5), 0) == [(0, 2, 3), (1, 4, 3), (3, 5, 3)]
        assert counted.windows((5, 5), 1) == [(0, 3, 3), (2, 5, 3)]
        inside = PoolGeometry((3, 3), (2, 2), (1, 1, 0, 0), count_include_pad=False)
        assert inside.windows((5, 5), 0) == [(0, 2, 2), (1, 4, 3), (3, 5, 2)]

    def test_ceil_mode(self):
        # five by twos: a third window that hangs over by one, which is never counted
        assert PoolGeometry((2, 2), (2, 2), ceil_mode=True).windows((5, 5), 0) == [
            (0, 2, 2),
            (2, 4, 2),
            (4, 5, 1),
        ]

    def test_adaptive(self):
        # ⌊i·5/3⌋ to ⌈(i + 1)·5/3⌉
        spans = PoolGeometry(output=(3, 1)).windows((5, 4), 0)
        assert spans == [(0, 2, 2), (1, 4, 3), (3, 5, 2)]
        assert PoolGeometry(output=(3, 1)).windows((5, 4), 1) == [(0, 4, 4)]

    def test_widest_adaptive_window(self):
        for n, m in product(range(1, 20), repeat=2):
            if m <= n:
                windows = PoolGeometry(output=(m, 1)).windows((n, 1), 0)
                assert adaptive_extent(n, m) == max(stop - start for start, stop, _ in windows)
        assert adaptive_extent(2**70, 2**31) == 2**39


class TestReceptiveField:
    def test_two_stacked_two_by_twos_see_three(self):
        axis = Axis().through(2, 1, 0).through(2, 1, 0)
        assert (axis.size, axis.jump) == (3, 1)
        assert axis.start == 1  # centred on the second pixel

    def test_lenet(self):
        # conv 5 p2: 5; pool 2 s2: 5 + 1 = 6, jump 2; conv 5: 6 + 4·2 = 14; pool: 14 + 2 = 16
        sizes, axis = [], Axis()
        for kernel, stride, before in ((5, 1, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0)):
            axis = axis.through(kernel, stride, before)
            sizes.append((axis.size, axis.jump))
        assert sizes == [(5, 1), (6, 2), (14, 2), (16, 4)]
        # 2 − 2 = 0; + 1/2; + 2·2; + 1/2 · 2
        assert axis.start == Fraction(11, 2)

    def test_axes_are_separate(self):
        field = Field().through((3, 5), (2, 1), (1, 0))
        assert field.rows == Axis(3, Fraction(2), Fraction(0))
        assert field.columns == Axis(5, Fraction(1), Fraction(2))

    def test_whole_stays_whole(self):
        assert WHOLE.through((3, 3), (1, 1), (0, 0)) == WHOLE


class TestAdaptiveField:
    @pytest.mark.parametrize(("n", "m"), [(29, 27), (10, 4), (64, 57), (7, 7), (9, 2)])
    def test_outputs_are_centred_where_their_windows_are(self, n, m):
        layer = Pool(kind="pool", output_size=(m, m))
        axis = layer.field(Shape(1, n, n), Field()).rows
        windows = layer.geometry(Shape(1, n, n)).windows((n, n), 0)
        for i, (start, stop, _) in enumerate(windows):
            # Windows snap to whole pixels, so half a pixel is as near as a formula comes.
            assert abs(axis.start + i * axis.jump - Fraction(start + stop - 1, 2)) <= Fraction(1, 2)

    def test_the_field_is_never_too_small(self):
        for n in range(2, 30):
            for m in range(2, n + 1):
                shape = Shape(1, n, n)
                pool = Pool(kind="pool", output_size=(m, m))
                then = Pool(kind="pool", kernel=(2, 2), stride=(1, 1))
                field = then.field(Shape(1, m, m), pool.field(shape, Field()))
                windows = pool.geometry(shape).windows((n, n), 0)
                widest = max(b[1] - a[0] for a, b in pairwise(windows))
                assert field.rows.size >= widest

    def test_windows_together(self):
        """Five positions for two windows, 0–3 and 2–5: six in all; for three, 0–2, 1–4, 3–5: 7."""
        assert (adaptive_total(5, 2), adaptive_total(5, 3)) == (6, 7)
        for n in range(1, 30):
            for m in range(1, n + 1):
                windows = PoolGeometry(output=(m, m)).windows((n, n), 0)
                assert adaptive_total(n, m) == sum(stop - start for start, stop, _ in windows)


class TestUnion:
    def test_one_branch_is_itself(self):
        field = Field().through((5, 3), (2, 3), (1, 0))
        assert Field.union([field], (7, 9)) == field

    def test_the_widest_counts_where_all_are_centred_alike(self):
        narrow = Field().through((1, 1), (2, 2), (0, 0))
        wide = Field().through((5, 3), (2, 2), (2, 1))
        assert Field.union([narrow, wide], (4, 4)) == wide

    def test_an_even_kernel_beside_the_input(self):
        # Pixels 0 and 1 beside pixel 0: still 0 and 1.
        even = Field().through((2, 2), (1, 1), (0, 0))
        assert Field.union([Field(), even], (5, 5)) == even

    def test_other_steps_spread_with_the_outputs(self):
        """Steps of 1 and 2 over three outputs: pixels 0, 1, 2 beside 0, 2, 4; at last 2 apart."""
        rows = Field.union([Field(), Field().through((1, 1), (2, 2), (0, 0))], (3, 3)).rows
        # Spans 0–0 and 2–4: at most 3 pixels; centred at 0 and 3, so 3/2 apart.
        assert rows == Axis(3, Fraction(3, 2), Fraction(0))

    def test_of_something_that_sees_everything(self):
        assert Field.union([Field(), WHOLE], (2, 2)) == WHOLE
