"""The one form that every complaint has."""

import pickle

import pytest

from runner.config.errors import (
    ConfigError,
    Problem,
    describe,
    did_you_mean,
    join,
    one_of,
    problem,
    under,
)


def test_form():
    assert str(Problem("a.b", "X", "Y")) == "a.b: expected X, got Y."
    assert str(Problem("a.b", "X", "Y", "Do Z.")) == "a.b: expected X, got Y. Do Z."


def test_several():
    error = ConfigError(Problem("a", "1", "2"), Problem("b", "3", "4"))
    assert str(error) == "a: expected 1, got 2.\nb: expected 3, got 4."
    assert [found.path for found in error.problems] == ["a", "b"]
    assert isinstance(error, ValueError)


def test_it_crosses_processes():
    error = pickle.loads(pickle.dumps(problem("a", "1", "2", "3.")))
    assert error.problems == (Problem("a", "1", "2", "3."),)


@pytest.mark.parametrize(
    ("prefix", "path", "joined"),
    [
        ("a", "b", "a.b"),
        ("", "b", "b"),
        ("a", "", "a"),
        ("", "", ""),
        ("a", "[0].b", "a[0].b"),
        ("", "[0]", "[0]"),
    ],
)
def test_paths(prefix, path, joined):
    assert join(prefix, path) == joined
    assert problem(path, "x", "y").under(prefix).problems[0].path == joined
    with pytest.raises(ConfigError) as caught, under(prefix):
        raise problem(path, "x", "y")
    assert caught.value.problems[0].path == joined


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing (null)"),
        (True, "true"),
        (False, "false"),
        (3, "3"),
        (0.5, "0.5"),
        ("3", "'3' (text)"),
        ([1, 2], "[1, 2]"),
        ({"a": 1, "b": 2}, "a mapping with a, b"),
        ({}, "a mapping with no keys"),
        (16**5000, "an integer of thousands of digits"),
        ([16**5000], "an integer of thousands of digits"),
    ],
    ids=range(11),
)
def test_values_as_a_person_would_name_them(value, text):
    assert describe(value) == text


def test_long_values_are_cut():
    assert describe("x" * 1000) == "'" + "x" * 56 + "... (text)"
    assert len(describe(list(range(1000)))) == 60


def test_did_you_mean():
    assert did_you_mean("phto", ["photo", "bar"]) == "Did you mean 'photo'?"
    assert did_you_mean("PHOTO", ["photo", "bar"]) == "Did you mean 'photo'?"
    assert did_you_mean("zzz", ["photo", "bar"]) == ""
    assert did_you_mean("x", []) == ""


def test_did_you_mean_one_of_the_same_folder():
    options = ["6_2/corr2d", "6_2/pool", "6_4/grouped", "6_4/nope2"]
    assert did_you_mean("6_2/crr2d", options) == "Did you mean '6_2/corr2d'?"
    assert did_you_mean("6_2/nope", options) == ""
    assert did_you_mean("6_9/corr2d", options) == "Did you mean '6_2/corr2d'?"


def test_one_of():
    assert one_of(["a", "b"]) == "one of a, b"
