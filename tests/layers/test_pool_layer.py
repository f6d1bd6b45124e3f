"""`kind: pool`: its fields and the windows they resolve to."""

from fractions import Fraction

import pytest

from runner.config.errors import ConfigError
from runner.config.spec import check
from runner.geometry import Field, PoolGeometry, Shape
from runner.layers.pool import Pool
from runner.ops import Ops


def pool(**fields) -> Pool:
    layer, problems = check(Pool, {"kind": "pool", **fields})
    assert problems == []
    return layer


def test_windows_do_not_overlap_by_default():
    assert pool(kernel=[2, 3]).geometry(Shape(1, 8, 9)) == PoolGeometry((2, 3), (2, 3))
    assert pool(kernel=2, stride=1).geometry(Shape(1, 8, 9)).stride == (1, 1)


def test_same_keeps_the_size_at_stride_one():
    for rule in ("same", "same_lower"):
        layer = pool(kernel=[2, 3], stride=1, padding=rule)
        assert layer.output_shape(Shape(4, 5, 6)) == Shape(4, 5, 6)


def test_global_and_adaptive():
    assert pool(output_size=1).output_shape(Shape(4, 5, 6)) == Shape(4, 1, 1)
    assert pool(output_size=[3, 2]).output_shape(Shape(4, 5, 6)) == Shape(4, 3, 2)


def test_ceil_mode():
    assert pool(kernel=2).output_shape(Shape(1, 5, 5)) == Shape(1, 2, 2)
    assert pool(kernel=2, ceil_mode=True).output_shape(Shape(1, 5, 5)) == Shape(1, 3, 3)


def test_fields_of_adaptive_windows_count_with_the_widest():
    # seven to three: [0, 3), [2, 5), [4, 7); six to two: threes
    field = pool(output_size=[3, 2]).field(Shape(1, 7, 6), Field())
    assert (field.rows.size, field.rows.jump) == (3, Fraction(7, 3))
    assert (field.columns.size, field.columns.jump) == (3, 3)
    assert pool(output_size=1).field(Shape(1, 7, 6), Field()).rows.size == 7


def test_parameters_and_cost():
    layer, x = pool(kernel=2), Shape(3, 8, 8)
    assert layer.parameters(x) == 0
    assert layer.workspace(x, Ops()) == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "kernel: expected a window size, got nothing. Or give output_size for adaptive"),
        ({"kernel": 2, "output_size": 1}, "kernel: expected nothing beside output_size, got (2,"),
        ({"stride": 2, "output_size": 1}, "stride: expected nothing beside output_size"),
        ({"padding": 1, "output_size": 1}, "padding: expected 0 beside output_size"),
        ({"mode": "mean", "kernel": 2}, "mode: expected one of max, avg, min, got 'mean' (text)."),
        ({"kernel": 0}, "kernel: expected an integer or [height, width], each from 1"),
        ({"kernel": 2, "ceil_mode": 1}, "ceil_mode: expected true or false, got 1."),
        ({"kernel": 2, "count_include_pad": None}, "count_include_pad: expected true or false"),
        ({"kernel": 2, "ops": "natvie"}, "ops: expected one of "),
    ],
)
def test_mistakes(fields, message):
    layer, problems = check(Pool, {"kind": "pool", **fields})
    assert layer is None
    (problem,) = problems
    assert str(problem).startswith(message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kernel": 6}, "kernel: expected height at most 5 (input 5 + padding 0), got 6."),
        (
            {"kernel": [2, 3], "padding": [0, 0, 0, 3]},
            "padding: expected less than the kernel's width 3, got 3. "
            "A window of nothing but padding has no maximum.",
        ),
        ({"output_size": [6, 1]}, "output_size: expected height at most 5, the input's, got 6."),
    ],
)
def test_misfits(fields, message):
    with pytest.raises(ConfigError) as caught:
        pool(**fields).output_shape(Shape(1, 5, 6))
    assert str(caught.value).startswith(message)
