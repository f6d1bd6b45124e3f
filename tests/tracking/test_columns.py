"""The columns of the table that compares the runs of a sweep."""

from __future__ import annotations

from typing import Any

import pytest

from runner.tracking.columns import Column, Columns, is_number, row


def columns(*runs: dict[str, Any], asked: tuple[str, ...] = ()) -> dict[str, Column]:
    found = Columns()
    for run in runs:
        found.add(run, asked)
    return found.found()


def test_what_was_asked_to_differ() -> None:
    runs = [{"lr": 0.1, "steps": 10, "optimizer.name": n} for n in ("sgd", "adam")]
    runs[1]["lr"] = 1
    found = columns(*runs, asked=("lr", "steps", "optimizer.name"))
    assert found == {
        "lr": Column(text=False, differs=True),
        "steps": Column(text=False),  # the same in all
        "optimizer.name": Column(text=True, differs=True, options=("sgd", "adam")),
    }
    assert [row(run, found) for run in runs] == [
        {"lr": 0.1, "steps": 10, "optimizer.name": "sgd"},
        {"lr": 1, "steps": 10, "optimizer.name": "adam"},
    ]


def test_a_group_stands_for_what_follows_from_it() -> None:
    """stack=a,b changes layers that nobody named; stack.layers.conv.kernel=3 was named."""
    a = {"stack": "a", "stack.layers.conv.kernel": 3, "stack.layers.conv.stride": 1}
    b = {"stack": "b", "stack.layers.conv.kernel": 5, "stack.layers.conv.stride": 2}
    found = columns(a, b, asked=("stack", "stack.layers.conv.kernel"))
    assert [name for name, column in found.items() if column.differs] == [
        "stack",
        "stack.layers.conv.kernel",
    ]
    assert not found["stack.layers.conv.stride"].text  # it differs all the same


def test_a_sweep_that_is_extended_has_columns_of_the_same_kind() -> None:
    """First a sweep has one value of each, then several."""
    told: dict[str, Any] = {"seed": 0, "on": True, "name": "sgd"}
    first = columns(told)
    more = columns(told, {"seed": 1, "on": False, "name": "adam"}, asked=tuple(told))
    assert row(told, first) == row(told, more) == told
    assert not any(column.differs for column in first.values())


def test_a_mapping_is_asked_for_by_its_name() -> None:
    found = columns({"conv.kernel": 3}, {"conv.kernel": 5}, asked=("conv",))
    assert found["conv.kernel"].differs


def test_a_run_without_the_parameter_has_a_cell() -> None:
    runs: list[dict[str, Any]] = [{"threads": 1, "a": True}, {"a": False}]
    found = columns(*runs, asked=("threads", "a"))
    assert [row(run, found) for run in runs] == [
        {"threads": "1", "a": True},
        {"threads": "–", "a": False},
    ]
    assert found["threads"].options == ("1", "–")


@pytest.mark.parametrize(
    ("one", "other", "cells"),
    [
        (3, [3, 5], ["3", "[3, 5]"]),
        (1, True, ["1", "true"]),
        (0.5, "auto", ["0.5", "auto"]),
        (0.5, float("inf"), ["0.5", "Infinity"]),
        (1, 2**53 + 1, ["1", "9007199254740993"]),  # a float would make it …992
        (2, 2.5, [2, 2.5]),
        (True, False, [True, False]),
    ],
)
def test_cells_of_a_column_are_of_one_kind(one: Any, other: Any, cells: list[Any]) -> None:
    runs = [{"x": one}, {"x": other}]
    for order in (1, -1):
        found = columns(*runs[::order], asked=("x",))
        got = [row(run, found)["x"] for run in runs]
        assert got == cells
        assert list(map(type, got)) == list(map(type, cells))


def test_a_run_that_nobody_foresaw() -> None:
    """A search tries values that it wasn't asked about before."""
    assert row({"x": "auto"}, {"x": Column(text=False)}) == {"x": "auto"}
    assert row({}, {"x": Column(text=False)}) == {"x": "–"}


def test_too_many_values_are_no_list_to_choose_from() -> None:
    many = [{"x": f"v{i}"} for i in range(30)]
    assert len(columns(*many[:20], asked=("x",))["x"].options) == 20
    assert columns(*many[:21], asked=("x",))["x"].options == ()
    assert columns(*many, asked=("x",))["x"].options == ()


def test_a_run_without_a_sweep() -> None:
    told = {"lr": 0.1, "on": True, "kernel": [1, 2], "huge": 10**400}
    assert row(told, {}) == {"lr": 0.1, "on": True, "kernel": "[1, 2]", "huge": str(10**400)}


def test_numbers() -> None:
    assert all(map(is_number, (0, -1, 1e300, 2**53)))
    assert not any(map(is_number, (True, float("nan"), float("inf"), 2**53 + 1, "1", None)))
