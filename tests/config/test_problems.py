"""The one form that every complaint has."""

import pickle

import pytest

from runner.config.errors import (
    ConfigError,
    Problem,
    describe,
    did_you_mean,
    join,
    meant,
    one_of,
    problem,
    under,
)


def test_form():
    assert str(Problem("a.b", "X", "Y")) == "a.b: expected X, got Y."
    assert str(Problem("a.b", "X", "Y", "Do Z.")) == "a.b: expected X, got Y. Do Z."


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x1b[2J\x07\x7f\x9b", r"\x1b[2J\x07\x7f\x9b"),
        ("\u202elenet\u200b\ufeff", r"\u202elenet\u200b\ufeff"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("no\u00a0break\u2028", r"no\xa0break\u2028"),
        ("é λ 音 × − 😀", "é λ 音 × − 😀"),
    ],
)
def test_nothing_in_it_moves_the_cursor_or_hides(text, shown):
    assert (
        str(Problem(text, text, text, text)) == f"{shown}: expected {shown}, got {shown}. {shown}"
    )
    assert Problem(text, "", "").place == shown


def test_it_can_be_read_however_long_the_input_is():
    told = str(Problem("p" * 9_999, "e" * 9_999, "g" * 9_999, "h" * 9_999))
    assert len(told) < 2_600
    for letter in "pegh":
        assert f"{letter * 200} … {letter * 200}" in told
    assert (
        str(Problem("a", "b" * 1_200, "c" * 400)) == f"a: expected {'b' * 1_200}, got {'c' * 400}."
    )


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


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (False, "YAML reads no, off and false as false; in quotes they are text."),
        (True, "YAML reads yes, on and true as true; in quotes they are text."),
        ("no", "Write false."),
        ("Off", "Write false."),
        (0, "Write false."),
        ("YES", "Write true."),
        ("on", "Write true."),
        (1, "Write true."),
        (2, ""),
        ("maybe", ""),
        (None, ""),
    ],
)
def test_truths_and_words_that_are_taken_for_each_other(value, says):
    assert meant(value) == says
