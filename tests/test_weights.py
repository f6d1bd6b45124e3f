"""What may stand after `weight:`, row by row of the module's table, and what may not."""

import pytest

from runner.config.errors import ConfigError
from runner.weights import INITIALIZERS, Initializer, Kernels, parse

SOBEL_X = ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1))


@pytest.mark.parametrize("name", INITIALIZERS)
def test_initializers_by_name(name):
    found = parse(name)
    assert isinstance(found, Initializer)
    assert str(found) == name


def test_parameters_of_initializers():
    assert parse({"initializer": "normal", "std": 0.01}).parameters == {"mean": 0, "std": 0.01}
    assert parse({"initializer": "uniform"}).parameters == {"low": -1, "high": 1}
    assert parse({"initializer": "constant", "value": 3}).parameters == {"value": 3}
    assert parse({"initializer": "normal", "std": 0}).parameters["std"] == 0
    assert parse({"initializer": "uniform", "low": 1}).parameters == {"low": 1, "high": 1}


def test_one_initializers_parameters_are_its_own():
    parse({"initializer": "normal", "std": 7})
    assert parse("normal").parameters == {"mean": 0, "std": 1}


TABLE = {
    "a kernel of the bank": ("sobel_x", (1, 1, 3, 3), ((SOBEL_X,),), True, "sobel_x"),
    "with parameters": (
        {"kernel": "box", "size": 2},
        (1, 1, 2, 2),
        ((((0.25, 0.25), (0.25, 0.25)),),),
        True,
        "box size 2",
    ),
    "rows": ([[1, -1]], (1, 1, 1, 2), ((((1, -1),),),), True, "numbers"),
    "one number in rows": ([[2]], (1, 1, 1, 1), ((((2,),),),), True, "numbers"),
    "kernels of the bank": (
        ["roberts_x", "roberts_y"],
        (2, 1, 2, 2),
        ((((1, 0), (0, -1)),), (((0, 1), (-1, 0)),)),
        True,
        "roberts_x, roberts_y",
    ),
    "names and numbers": (
        ["roberts_x", [[0, 1], [2, 3]]],
        (2, 1, 2, 2),
        ((((1, 0), (0, -1)),), (((0, 1), (2, 3)),)),
        True,
        "roberts_x, numbers",
    ),
    "numbers and names": (
        [[[0, 1], [2, 3]], {"kernel": "box", "size": 2}],
        (2, 1, 2, 2),
        ((((0, 1), (2, 3)),), (((0.25, 0.25), (0.25, 0.25)),)),
        True,
        "numbers, box size 2",
    ),
    "one kernel in a list": (
        [[[0, 1], [2, 3]]],
        (1, 1, 2, 2),
        ((((0, 1), (2, 3)),),),
        True,
        "numbers",
    ),
    "all numbers": (
        [[[[0, 1]], [[2, 3]]]],
        (1, 2, 1, 2),
        ((((0, 1),), ((2, 3),)),),
        False,
        "numbers",
    ),
}


@pytest.mark.parametrize(("value", "shape", "values", "shared", "label"), TABLE.values(), ids=TABLE)
def test_table(value, shape, values, shared, label):
    found = parse(value)
    assert isinstance(found, Kernels)
    assert found.values == values
    assert found.shape == shape
    assert found.shared is shared
    assert str(found) == label
    assert (found.count, found.channels, found.size) == (shape[0], shape[1], shape[2:])
    assert parse(found) is found
    assert hash(found) is not None


MISTAKES = {
    "unknown name": ("sobell_x", "", "a kernel (", "'sobell_x'", "Did you mean 'sobel_x'?"),
    "unknown initializer": (
        {"initializer": "xavier"},
        "initializer",
        "one of default, uniform",
        "'xavier' (text)",
        "",
    ),
    "initializer of a number": ({"initializer": 3}, "initializer", "one of default", "3", ""),
    "its parameter": (
        {"initializer": "normal", "sdt": 1},
        "sdt",
        "one of mean, std",
        "'sdt'",
        "Did you mean 'std'?",
    ),
    "no parameters": ({"initializer": "zeros", "std": 1}, "std", "no parameters", "'std'", ""),
    "text": ({"initializer": "normal", "std": "1"}, "std", "a number", "'1' (text)", ""),
    "true": ({"initializer": "normal", "std": True}, "std", "a number", "true", ""),
    "infinite": (
        {"initializer": "normal", "std": float("inf")},
        "std",
        "a finite number",
        "inf",
        "",
    ),
    "negative spread": ({"initializer": "normal", "std": -1}, "std", "at least 0", "-1.0", ""),
    "bounds": ({"initializer": "uniform", "low": 2}, "low", "at most high (1.0)", "2.0", ""),
    "unknown kernel": (
        {"kernel": "gausian"},
        "kernel",
        "one of",
        "'gausian'",
        "Did you mean 'gaussian'?",
    ),
    "kernel of a number": ({"kernel": 1}, "kernel", "one of", "1", ""),
    "mapping of neither": ({"size": 3}, "size", "one of kernel, initializer", "'size'", ""),
    "its size": ({"kernel": "box", "size": 0}, "size", "an integer from 1", "0", ""),
    "no text": ({"kernel": "box", b"hi": 1}, "b'hi'", "text as a key", "b'hi'", ""),
    "a truth": ({"initializer": "normal", True: 1}, "True", "text as a key", "true", ""),
    "no text in a list": ([{1: "box"}], "[0].1", "text as a key", "1", ""),
    "nothing": (None, "", "a name, numbers or a list of kernels", "nothing (null)", ""),
    "a number": (3, "", "a name, numbers or a list of kernels", "3", ""),
    "an empty list": ([], "", "at least one number", "an empty list", ""),
    "one row": ([1, -1], "", "a kernel as rows", "a list of 2 numbers", "Put one row into"),
    "ragged": ([[1, 2], [3]], "[1]", "a list of 2", "a list of 1", "A tensor's rows"),
    "text in rows": ([[1, "2"]], "[0][1]", "a number", "'2' (text)", ""),
    "infinity in rows": ([[1, float("nan")]], "[0][1]", "a finite number", "nan", ""),
    "unknown in a list": (["sobel_x", "sobel_z"], "[1]", "a kernel (", "'sobel_z'", ""),
    "sizes differ": (
        ["sobel_x", "roberts_x"],
        "[1]",
        "a 3×3 kernel, like the first",
        "'roberts_x' of 2×2",
        "The kernels of one layer share one size.",
    ),
    "five dimensions": ([[[[[1]]]]], "[0]", "a kernel as rows", "a list of 1×1×1×1", ""),
    "ragged channels": ([[[[1]]], [[[1]], [[2]]]], "[1]", "a list of shape 1×1×1", "", ""),
}


@pytest.mark.parametrize(
    ("value", "path", "expected", "got", "hint"), MISTAKES.values(), ids=MISTAKES
)
def test_mistakes(value, path, expected, got, hint):
    with pytest.raises(ConfigError) as caught:
        parse(value)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert problem.expected.startswith(expected)
    assert got in problem.got
    assert problem.hint.startswith(hint)
