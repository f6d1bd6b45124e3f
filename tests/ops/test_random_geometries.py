"""Geometries that nobody thought of; found ones become cases of the edge grid.

Two ways to find them: Hypothesis, which looks for the smallest that fails, in double precision; and
trials by number (`trials.py`), many, of all sizes, types and layouts in memory. To repeat one:
``python tests/ops/trials.py 1234 1``.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from checker import (
    Conv,
    ConvCase,
    Pool,
    PoolCase,
    conv_gradients,
    conv_loops,
    conv_ops,
    conv_reference,
    conv_small_integers,
    gates,
    label,
    pool_gradients,
    pool_loops,
    pool_ops,
    pool_reference,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from trials import LAYOUT, results, trial

from runner.geometry import ConvGeometry, PoolGeometry, Shape, extent
from runner.ops import conv_op, pool_op

FEW = settings(max_examples=150, deadline=None, derandomize=True, database=None)


def sizes(least: int, most: int):
    return st.tuples(st.integers(least, most), st.integers(least, most))


@st.composite
def conv_cases(draw) -> ConvCase:
    groups, ins, outs = (draw(st.integers(1, 3)) for _ in range(3))
    (h, w), dilation = draw(sizes(1, 8)), draw(sizes(1, 3))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    room = (h + sum(padding[:2]), w + sum(padding[2:]))
    kernel = tuple(
        draw(st.integers(1, min(4, (n - 1) // d + 1))) for n, d in zip(room, dilation, strict=True)
    )
    window = ConvGeometry(kernel, draw(sizes(1, 4)), padding, dilation, groups)
    return ConvCase("random", (draw(st.integers(0, 2)), groups * ins, h, w), groups * outs, window)


@st.composite
def three_by_three_cases(draw) -> ConvCase:
    """For operators that know no other kernel, and no stride: up to a few tiles and a rest."""
    groups, ins, outs = (draw(st.integers(1, 3)) for _ in range(3))
    padding = tuple(draw(st.integers(0, 3)) for _ in range(4))
    h, w = (draw(st.integers(max(1, 3 - sum(padding[i : i + 2])), 11)) for i in (0, 2))
    window = ConvGeometry((3, 3), padding=padding, groups=groups)
    return ConvCase("random", (draw(st.integers(0, 2)), groups * ins, h, w), groups * outs, window)


@st.composite
def pool_cases(draw) -> PoolCase:
    n, c, (h, w) = draw(st.integers(0, 2)), draw(st.integers(1, 2)), draw(sizes(1, 9))
    if draw(st.booleans()):
        output = (draw(st.integers(1, h)), draw(st.integers(1, w)))
        return PoolCase("random", (n, c, h, w), PoolGeometry(output=output))
    kernel = draw(sizes(1, 4))
    padding = tuple(draw(st.integers(0, kernel[i // 2] - 1)) for i in range(4))
    flags = draw(st.booleans()), draw(st.booleans())
    window = PoolGeometry(kernel, draw(sizes(1, 4)), padding, *flags)
    assume(h + sum(padding[:2]) >= kernel[0] and w + sum(padding[2:]) >= kernel[1])
    return PoolCase("random", (n, c, h, w), window)


def check_conv(subject: Conv, case: ConvCase) -> None:
    assume(subject.can(case.geometry))
    conv_reference(subject, case)
    conv_small_integers(subject, case)
    conv_gradients(subject, case)


def check_pool(subject: Pool, case: PoolCase, mode: str) -> None:
    assume(subject.can(case.geometry, mode))
    pool_reference(subject, case, mode)
    pool_gradients(subject, case, mode)


OTHER_CONVS = [
    (op, conv_cases() if op.can(ConvGeometry((2, 1), (1, 2))) else three_by_three_cases())
    for op in conv_ops()
    if op.name != "loops" and op.can(ConvGeometry((3, 3)))
]
WINOGRAD = Conv(conv_op("winograd"), "winograd")
OTHER_POOLS = [op for op in pool_ops() if op.name != "loops"]
modes = st.sampled_from(["max", "avg", "min"])


@pytest.mark.parametrize(("subject", "cases"), OTHER_CONVS, ids=label)
@given(data=st.data())
@FEW
def test_convolution(subject, cases, data):
    check_conv(subject, data.draw(cases))


@pytest.mark.parametrize("subject", OTHER_POOLS, ids=label)
@given(case=pool_cases(), mode=modes)
@FEW
def test_pooling(subject, case, mode):
    check_pool(subject, case, mode)


# One after the other they take minutes, most of it in loops of Python; xdist shares out the parts.
MANY, PART = 10_000, 100
SAMPLE = range(24)


@pytest.mark.parametrize("number", SAMPLE)
def test_a_trial(number):
    check(number)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, MANY, PART))
def test_many_trials(first):
    for number in range(first, first + PART):
        check(number)


def check(number: int) -> None:
    """Every operator that can do a trial is within its gates."""
    what = trial(number)
    print(what)  # shown where it fails
    for found in results(what):
        relative, largest = gates(found.op, getattr(torch, what.dtype))
        assert found.finite, found
        assert found.relative <= relative, found
        assert found.largest <= largest, found


@pytest.mark.parametrize("number", [5, 11, 24, 33])
def test_the_same_call_makes_the_same_errors(number):
    """Whichever of two threads takes which part; every last bit shows in the errors."""
    what = replace(trial(number), threads=2, small=True)
    assert list(results(what)) == list(results(what))


def test_trials_repeat():
    assert [trial(n) for n in range(50)] == [trial(n) for n in range(50)]
    assert len({repr(trial(n).case) for n in range(200)}) > 195


def test_trials_cover_what_there_is():
    """Of a thousand: every type, layout and mode; sizes from none to many."""
    found = [trial(n) for n in range(1000)]
    for name in ("dtype", "whole", "threads", "mode", "small"):
        assert min(Counter(getattr(t, name) for t in found).values()) > 50
    assert {how for t in found for how in t.layouts} == set(LAYOUT)
    convs = [t.case for t in found if not t.mode]
    windows = [c.geometry for c in convs]
    assert sum(not WINOGRAD.op.unsupported(w, "float32", "cpu") for w in windows) > 150
    assert sum(w.groups > 1 for w in windows) > 150
    assert sum(w.groups == c.x[1] > 1 for w, c in zip(windows, convs, strict=True)) > 30
    assert sum(c.x[0] == 0 for c in convs) > 5
    assert sum(c.x[1] // c.geometry.groups >= 64 for c in convs) > 20
    assert sum(c.x[3] > 96 for c in convs) > 20
    assert sum(max(w.kernel) >= 11 for w in windows) > 5
    assert sum(max(w.stride) > max(w.kernel) for w in windows) > 20
    assert sum(max(w.dilation) > 1 for w in windows) > 100
    assert sum(w.padding[0] != w.padding[1] for w in windows) > 200


@given(case=conv_cases())
@FEW
def test_a_convolution_is_as_large_as_its_geometry_says(case):
    x, weight, _ = case.tensors()
    expected = (x.shape[0], case.c_out, *case.geometry.output_size(case.x[2:]))
    assert conv_loops(x, weight, None, case.geometry).shape == expected
    # and as many windows as start within the padded input and end in it
    for axis in (0, 1):
        n = case.x[2 + axis] + sum(case.geometry.padding[2 * axis : 2 * axis + 2])
        span = extent(case.geometry.kernel[axis], case.geometry.dilation[axis])
        starts = [s for s in range(0, n, case.geometry.stride[axis]) if s + span <= n]
        assert len(starts) == expected[2 + axis]


@given(case=pool_cases(), mode=modes)
@FEW
def test_a_pooling_is_as_large_as_its_geometry_says(case, mode):
    y = pool_loops(torch.zeros(case.x), mode, case.geometry)
    assert y.shape == (*case.x[:2], *case.geometry.output_size(case.x[2:]))
    for axis in (0, 1):
        windows = case.geometry.windows(case.x[2:], axis)
        assert len(windows) == y.shape[2 + axis]
        assert all(0 <= start < stop <= case.x[2 + axis] for start, stop, _ in windows)
        assert all(count >= 1 for _, _, count in windows)


@given(case=conv_cases())
@FEW
def test_workspaces_count_numbers(case):
    x = Shape(*case.x[1:])
    y = Shape(case.c_out, *case.geometry.output_size(x.size))
    for subject in conv_ops():
        found = subject.op.workspace(x, y, case.geometry)
        assert isinstance(found, int)
        assert found >= 0


def test_what_an_op_holds_besides():
    x, y = Shape(3, 8, 8), Shape(5, 9, 8)
    uneven = ConvGeometry((3, 3), padding=(2, 1, 1, 1))
    # a padded copy: 3 · (8 + 3) · (8 + 2)
    assert conv_op("loops").workspace(x, y, uneven) == 330
    assert conv_op("native").workspace(x, y, uneven) == 330
    assert conv_op("native").workspace(x, y, ConvGeometry((3, 3), padding=(1, 1, 1, 1))) == 0
    assert conv_op("loops").workspace(x, y, ConvGeometry((3, 3))) == 3 * 8 * 8
    # four windows of 3, two apart, span 9 rows; columns likewise
    pooled = PoolGeometry((3, 3), (2, 2), (0, 1, 0, 1))
    assert pool_op("native").workspace(x, Shape(3, 4, 4), pooled) == 3 * 9 * 9
    assert pool_op("native").workspace(x, Shape(3, 4, 4), PoolGeometry((2, 2), (2, 2))) == 0
    assert pool_op("loops").workspace(x, Shape(3, 4, 4), pooled) == 0
