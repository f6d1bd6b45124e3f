"""Numbers in YAML: rectangular, finite, and named by their place when they aren't."""

import pytest

from runner.config.errors import ConfigError
from runner.config.numbers import array


@pytest.mark.parametrize(
    ("value", "numbers", "shape"),
    [
        (3, 3.0, ()),
        (-0.5, -0.5, ()),
        ([1, 2.5], (1.0, 2.5), (2,)),
        ([[1], [2], [3]], ((1.0,), (2.0,), (3.0,)), (3, 1)),
        (((1, 2), (3, 4)), ((1.0, 2.0), (3.0, 4.0)), (2, 2)),
        ([[[[7]]]], ((((7.0,),),),), (1, 1, 1, 1)),
        (2**1000, float(2**1000), ()),
    ],
)
def test_read(value, numbers, shape):
    found = array(value)
    assert found == (numbers, shape)
    assert hash(found) is not None


def test_integers_become_floats():
    assert isinstance(array(3)[0], float)


MISTAKES = {
    "ragged": ([[1, 2], [3]], "x[1]", "a list of 2, like ", "a list of 1"),
    "ragged deep down": ([[[1, 2]], [[3, 4]], [[5]]], "x[2]", "a list of shape 1×2", "1×1"),
    "ragged inside": ([[[1, 2], [3]]], "x[0][1]", "a list of 2", "a list of 1"),
    "deeper": ([1, [2]], "x[1]", "a number, like ", "a list of 1"),
    "shallower": ([[1], 2], "x[1]", "a list of 1, like ", "a number"),
    "empty": ([], "x", "at least one number", "an empty list"),
    "empty inside": ([[1], []], "x[1]", "at least one number", "an empty list"),
    "text": ([1, "2"], "x[1]", "a number", "'2' (text)"),
    "true": ([[True]], "x[0][0]", "a number", "true"),
    "nothing": ([None], "x[0]", "a number", "nothing (null)"),
    "mapping": ({"a": 1}, "x", "a number", "a mapping with a"),
    "infinite": ([float("inf")], "x[0]", "a finite number", "inf"),
    "not a number": (float("nan"), "x", "a finite number", "nan"),
    "beyond floats": ([10**400], "x[0]", "a finite number", "1000000"),
    "beyond text": ([16**5000], "x[0]", "a finite number", "an integer of thousands of digits"),
}


@pytest.mark.parametrize(("value", "path", "expected", "got"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(value, path, expected, got):
    with pytest.raises(ConfigError) as caught:
        array(value, "x")
    (problem,) = caught.value.problems
    assert problem.path == path
    assert problem.expected.startswith(expected)
    assert got in problem.got
