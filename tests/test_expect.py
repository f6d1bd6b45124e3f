"""Expectations: what they accept, what they refuse, and what they say about it."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from runner.config.errors import Problem
from runner.config.spec import Spec, check
from runner.expect import Expect, Outcome, compare


class Holder(Spec):
    expect: Expect


def parse(raw: Any) -> tuple[Expect | None, list[Problem]]:
    spec, problems = check(Holder, {"expect": {"metric": raw}})
    return (spec.expect if spec else None), problems


def outcome(raw: Any, measured: Any) -> Outcome:
    expect, problems = parse(raw)
    assert not problems
    assert expect is not None
    (found,) = compare(expect, {"metric": measured})
    return found


def complaint(raw: Any) -> str:
    expect, problems = parse(raw)
    assert expect is None
    (found,) = problems
    return str(found)


HOLDS: list[tuple[Any, Any]] = [
    (3, 3),
    (3, 3.0),
    (3, 3.0000299),  # |e| ≤ 1e-5 · 3 = 3e-5: a measured float is compared by tolerance
    (0.5, 0.500009),  # below one the tolerance is absolute: 1e-5
    (0.0, 9e-6),
    (1000.0, 1000.009),  # 1e-5 · 1000 = 0.01
    (-1000.0, -1000.009),
    ([[19, 25], [37, 43]], [[19, 25], [37, 43]]),
    ([1.0, 2.0], [1.000005, 1.999995]),
    ({"value": 5, "tolerance": 1}, 6),
    ({"value": 5, "tolerance": 1}, 4),
    ({"value": [1, 2], "tolerance": 0.5}, [1.5, 1.5]),
    ({"max": 0.1}, 0.1),
    ({"min": 0.1}, 0.1),
    ({"min": 0, "max": 1}, [[0, 0.5], [1, 1]]),
    ({"max": 2}, [[[1]], [[2]]]),
    ({"value": 2, "max": 3}, 2),
    ({"value": {"a": [1, 2]}}, {"a": [1, 2], "b": 3}),  # other entries are nobody's business
    ({"value": {"a": 1.0, "b": {"c": 2}}, "tolerance": 0.1}, {"a": 1.05, "b": {"c": 2}}),
    ({"min": 1}, {"a": 1, "b": [2, 3]}),
    ("same", "same"),
    (True, True),
    (False, False),
]


@pytest.mark.parametrize(("raw", "measured"), HOLDS)
def test_holds(raw: Any, measured: Any) -> None:
    assert outcome(raw, measured).failure == ""
    assert outcome(raw, measured).holds


FAILS: list[tuple[Any, Any, str]] = [
    (3, 4, "4 is not 3"),
    ({"value": {"a": 1}}, {"a": 2}, "a: 2 is not 1"),
    ({"value": {"a": 1}}, {"b": 1}, "no a; there is b"),
    ({"value": {"a": 1}}, {}, "no a; there is nothing"),
    ({"value": {"a": 1}}, [1], "[1], not a mapping"),
    ({"max": 2}, {"a": 1, "b": [3]}, "3 is above 2"),
    ({"max": 2}, {}, "nothing measured"),
    ({"min": 0}, [], "nothing measured"),
    ({"max": 2}, [1, None], "none is not a number"),
    ({"min": 0}, {"a": "text"}, "text is not a number"),
    ({"min": 0}, [True], "true is not a number"),
    (10**9, 10**9 + 1, "is not"),  # whole numbers are exact, however large
    (3, 3.00004, "is not 3"),  # 4e-5 > 3e-5
    (0.5, 0.50002, "is not 0.5"),
    (0.0, 2e-5, "is not"),
    (1000.0, 1000.02, "is not"),
    ([[19, 25], [37, 43]], [[19, 25], [37, 44]], "44 is not 43"),
    ([1, 2, 3], [1, 2], "2 entries, not 3"),
    ([[1], [2]], [[1], [2, 3]], "2 entries, not 1"),
    ([1], 1, "a single 1, not a list"),
    ([[1]], [1], "a single 1, not a list"),
    (1, [1], "[1], not 1"),
    ({"value": 5, "tolerance": 1}, 6.001, "± 1"),
    ({"value": 5, "tolerance": 0}, 5.0000001, "± 0"),
    ({"max": 0.1}, 0.2, "0.2 is above 0.1"),
    ({"min": 0.1}, 0.0, "0 is below 0.1"),
    ({"min": 0, "max": 1}, [[0, 2], [1, 1]], "2 is above 1"),
    ({"min": 0, "max": 1}, [[0, 0.5], [-3, 1]], "-3 is below 0"),
    ({"value": 2, "max": 1}, 2, "2 is above 1"),  # both conditions count
    ({"value": 2, "max": 5}, 3, "3 is not 2"),
    ({"max": 1}, "text", "text is not a number"),
    ({"max": 1}, None, "none is not a number"),
    (1.0, nan, "is not"),
    ({"value": 1, "tolerance": 1e9}, nan, "is not"),
    ({"max": 1}, nan, "nan is above 1"),
    ({"min": 1}, nan, "nan is below 1"),
    ({"max": 1}, [0, nan], "nan is above 1"),
    ([0.0, 1.0], [0.0, nan], "is not"),
    ({"max": 1e300}, inf, "inf is above"),
    (1.0, inf, "is not"),
    ("same", "other", "other, not same"),
    (True, False, "false, not true"),
    (True, 1, "1, not true"),  # a truth is not a number, nor the other way round
    (1, True, "true, not 1"),
    (0, "0", "0, not 0"),
]


@pytest.mark.parametrize(("raw", "measured", "says"), FAILS)
def test_fails(raw: Any, measured: Any, says: str) -> None:
    found = outcome(raw, measured)
    assert not found.holds
    assert says in found.failure
    assert found.to_dict()["holds"] is False


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (3, "3"),
        ([[1, 2.5]], "[[1, 2.5]]"),
        ({"value": 5, "tolerance": 0.5}, "5 ± 0.5"),
        ({"min": 0, "max": 1}, "≥ 0 ≤ 1"),
        (True, "true"),
    ],
)
def test_expectation_is_printed_as_mathematics(raw: Any, text: str) -> None:
    assert outcome(raw, 0).expected == text


def test_metric_that_was_not_measured_fails_and_names_the_nearest() -> None:
    spec, _ = check(Holder, {"expect": {"kernel_eror": {"max": 1}, "zebra": 1}})
    assert spec is not None
    near, far = compare(spec.expect, {"loss": 1.0, "kernel_error": 0.5})
    assert not near.holds
    assert near.failure == (
        "not measured; there is loss, kernel_error. Did you mean 'kernel_error'?"
    )
    assert not far.holds
    assert "Did you mean" not in far.failure
    assert "there is nothing" in compare(spec.expect, {})[0].failure


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (
            {"mx": 1},
            "expect.metric.mx: expected one of value, tolerance, min, max, got 'mx'. "
            "Did you mean 'max'?",
        ),
        ({"max": 1, "mni": 0}, "expect.metric.mni: expected one of"),
        ({"max": "a"}, "expect.metric.max: expected a number, got 'a' (text)."),
        ({"max": inf}, "expect.metric.max: expected a finite number, got inf."),
        ({"max": True}, "expect.metric.max: expected a number, got true."),
        (
            {"value": 1, "tolerance": -1},
            "expect.metric.tolerance: expected at least 0, got -1.",
        ),
        ({"tolerance": 1}, "expect.metric: expected a value, min or max, got none of them."),
        ({}, "expect.metric: expected a value, min or max, got none of them."),
        (None, "expect.metric: expected a value, min or max, got none of them."),
        ([[1, 2], [3]], "expect.metric.value[1]: expected a list of 2, like the first"),
        ([], "expect.metric.value: expected at least one number, got an empty list."),
        ([1, "a"], "expect.metric.value[1]: expected a number, got 'a' (text)."),
        ([1, nan], "expect.metric.value[1]: expected a finite number, got nan."),
    ],
)
def test_what_cannot_be_an_expectation(raw: Any, says: str) -> None:
    assert says in complaint(raw)


def test_of_a_mapping_only_what_was_asked_about_is_shown() -> None:
    found = outcome({"value": {"a": [1, 2]}}, {"a": [1, 2], "b": 3})
    assert found.measured == {"a": [1, 2]}
    assert found.expected == "{a: [1, 2]}"


def test_of_mappings_inside_mappings_too() -> None:
    measured = {"a": {"b": 1, "c": 2}, "d": 3}
    assert outcome({"value": {"a": {"b": 1}}}, measured).measured == {"a": {"b": 1}}
    assert outcome({"value": {"a": {"x": 1}}}, measured).measured == {"a": {}}
