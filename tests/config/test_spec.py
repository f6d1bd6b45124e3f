"""Specs: every problem at once, by path, with the nearest right thing."""

from typing import Annotated, Literal

import pytest
from pydantic import BeforeValidator
from pydantic import Field as Limited

from runner.config.errors import Problem
from runner.config.fields import LARGEST, Count, Padding, Size
from runner.config.spec import Kind, Menu, Spec, check, check_kind
from runner.stack import Stack

Listed = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)


class Inner(Spec):
    depth: int = 1
    colour: Literal["red", "green"] = "red"


class Outer(Spec):
    number: float = 0.0
    whole: Annotated[int, Limited(ge=1, lt=10)] = 1
    text: str = ""
    flag: bool = False
    inner: Inner = Inner()
    either: int | Literal["auto"] | None = None
    names: Annotated[tuple[str, ...], Listed, Limited(min_length=1)] = ("a",)


def problems(raw, model=Outer, path="") -> list[str]:
    spec, found = check(model, raw, path)
    assert spec is None
    return [str(problem) for problem in found]


def test_what_is_right():
    spec, found = check(Outer, {"number": 2, "whole": 3, "inner": {"colour": "green"}})
    assert found == []
    assert (spec.number, spec.whole, spec.inner.colour) == (2.0, 3, "green")
    assert hash(spec) == hash(check(Outer, spec.model_dump() | {"names": ["a"]})[0])
    for either in (3, "auto", None):
        assert check(Outer, {"either": either})[0].either == either


def test_raw_input_is_left_as_it_was():
    raw = {"layers": {"a": {"kind": "conv", "channels": 1, "kernel": [3, 3], "oops": 1}}}
    copy = {"layers": {"a": dict(raw["layers"]["a"])}}
    check(Stack, raw)
    assert raw == copy


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"number": "1"}, "number: expected a number, got '1' (text)."),
        ({"number": True}, "number: expected a number, got true."),
        ({"number": float("nan")}, "number: expected a finite number, got nan."),
        ({"number": None}, "number: expected a number, got nothing (null)."),
        ({"whole": 1.5}, "whole: expected an integer, got 1.5."),
        ({"whole": 1e3}, "whole: expected an integer, got 1000.0. Write 1000."),
        ({"whole": 1e30}, "whole: expected an integer, got 1e+30."),
        ({"whole": 0}, "whole: expected at least 1, got 0."),
        ({"whole": 10}, "whole: expected less than 10, got 10."),
        ({"text": 3}, "text: expected text, got 3."),
        ({"flag": "true"}, "flag: expected true or false, got 'true' (text)."),
        ({"flag": 1}, "flag: expected true or false, got 1."),
        ({"inner": 3}, "inner: expected a mapping with depth, colour, got 3."),
        ({"inner": {"depth": "x"}}, "inner.depth: expected an integer, got 'x' (text)."),
        (
            {"inner": {"colour": "gren"}},
            "inner.colour: expected one of red, green, got 'gren' (text). Did you mean 'green'?",
        ),
        (
            {"inner": {"dept": 1}},
            "inner.dept: expected one of depth, colour, got 'dept'. Did you mean 'depth'?",
        ),
        ({"either": 1.5}, "either: expected an integer or auto, got 1.5."),
        ({"names": "abc"}, "names: expected a list, got 'abc' (text)."),
        ({"names": []}, "names: expected at least 1 entry, got []."),
        ({1: 2}, "1: expected text as a key, got 1."),
        ({" ": 2}, "' ': expected one of number, whole"),
        ({"": 2}, "'': expected one of number, whole"),
        ({"inner": {"": 2}}, "inner.'': expected one of depth, colour, got ''."),
        (
            {"numbr": 2},
            "numbr: expected one of number, whole, text, flag, inner, either, names, got 'numbr'. "
            "Did you mean 'number'?",
        ),
        ({"NUMBER": 2}, "NUMBER: expected one of number, whole"),
        ({"zzz": 2}, "zzz: expected one of number, whole"),
    ],
)
def test_one_problem(raw, message):
    (found,) = problems(raw)
    assert found.startswith(message)


@pytest.mark.parametrize("raw", [None, 3, "text", [1, 2]])
def test_not_even_a_mapping(raw):
    assert problems(raw)[0].startswith("config: expected a mapping with number, ")
    assert problems(raw, path="task")[0].startswith("task: expected a mapping with number, ")


def test_all_problems_at_once():
    raw = {"number": "x", "whole": 99, "inner": {"depth": None, "colour": 3}, "extra": 1}
    _, found = check(Outer, raw, "task")
    assert {problem.path for problem in found} == {
        "task.number",
        "task.whole",
        "task.inner.depth",
        "task.inner.colour",
        "task.extra",
    }


class TestMenus:
    def test_every_layers_problems_at_once(self):
        raw = {
            "layers": {
                "a": {"kind": "conv", "channels": 0, "kernel": 3, "paddng": 2},
                "b": {"kind": "poool"},
                "c": {"channels": 1},
                "d": 5,
                "e": {"kind": ["conv"]},
                "f": {"kind": "pool", "kernel": 2},
                "2g": {"kind": "flatten"},
                "h.i": {"kind": "flatten"},
                3: {"kind": "flatten"},
                "j": {"kind": "conv", "weight": "sobel", "stride": 0},
            },
            "more": 1,
        }
        _, found = check(Stack, raw, "stack")
        by_path = {problem.path: problem for problem in found}
        assert sorted(by_path) == sorted(
            [
                "stack.layers.a.channels",
                "stack.layers.a.paddng",
                "stack.layers.b.kind",
                "stack.layers.c",
                "stack.layers.d",
                "stack.layers.e.kind",
                "stack.layers.2g",
                "stack.layers.h.i",
                "stack.layers.3",
                "stack.layers.j.weight",
                "stack.layers.j.stride",
                "stack.more",
            ]
        )
        assert by_path["stack.layers.a.paddng"].hint == "Did you mean 'padding'?"
        assert by_path["stack.layers.b.kind"].hint == "Did you mean 'pool'?"
        assert by_path["stack.layers.c"].got == "'c' without a kind"
        assert by_path["stack.layers.d"].expected.startswith("a mapping with kind: one of activ")
        assert by_path["stack.layers.2g"].expected == (
            "a name of letters, digits and underscores that starts with a letter"
        )

    def test_layers_are_a_mapping(self):
        for raw in ([{"kind": "flatten"}], None, "conv"):
            (found,) = problems({"layers": raw}, Stack)
            assert found.startswith("layers: expected a mapping from names to specs, got ")

    def test_a_missing_menu(self):
        assert problems({}, Stack) == ["layers: expected a value, got nothing."]

    def test_order_is_kept(self):
        raw = {name: {"kind": "flatten"} for name in ("z", "a", "m")}
        spec, _ = check(Stack, {"layers": raw})
        assert list(spec.layers) == ["z", "a", "m"]

    def test_one_entry(self):
        class Job(Spec):
            layer: Annotated[Kind, Menu("runner.layers")]
            seed: int = 0

        spec, found = check(Job, {"layer": {"kind": "flatten"}})
        assert found == []
        assert type(spec.layer).__name__ == "Flatten"
        raw = {"layer": {"kind": "dropout", "p": 2.0}, "seed": "x"}
        assert problems(raw, Job) == [
            "layer.p: expected less than 1, got 2.0.",
            "seed: expected an integer, got 'x' (text).",
        ]

    def test_check_kind(self):
        spec, found = check_kind("runner.layers", {"kind": "linear", "features": 3}, "x")
        assert found == []
        assert (spec.kind, spec.features) == ("linear", 3)
        assert check_kind("runner.layers", {"kind": None}, "x")[1][0].path == "x.kind"


class Sizes(Spec):
    size: Size = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    count: Count = 1


class TestSizes:
    @pytest.mark.parametrize(
        ("raw", "expected"),
        [
            ({"size": 3}, (3, 3)),
            ({"size": [3, 5]}, (3, 5)),
            ({"size": (3, 5)}, (3, 5)),
            ({"size": LARGEST}, (LARGEST, LARGEST)),
            ({"padding": 0}, (0, 0, 0, 0)),
            ({"padding": [2, 1]}, (2, 2, 1, 1)),
            ({"padding": [1, 2, 3, 4]}, (1, 2, 3, 4)),
            ({"padding": "same"}, "same"),
            ({"padding": "same_lower"}, "same_lower"),
            ({"padding": "valid"}, "valid"),
            ({"count": LARGEST}, LARGEST),
        ],
        ids=str,
    )
    def test_right(self, raw, expected):
        spec, found = check(Sizes, raw)
        assert found == []
        assert getattr(spec, *raw) == expected

    @pytest.mark.parametrize(
        "raw",
        [
            {"size": 0},
            {"size": [3, 0]},
            {"size": -1},
            {"size": 2**31},
            {"size": 2**61},
            {"size": 1.0},
            {"size": "3"},
            {"size": True},
            {"size": [True, 2]},
            {"size": []},
            {"size": [3]},
            {"size": [1, 2, 3]},
            {"size": [[1, 2]]},
            {"size": None},
            {"size": {"h": 1}},
            {"padding": -1},
            {"padding": [1]},
            {"padding": [1, 2, 3]},
            {"padding": [1, 2, 3, -4]},
            {"padding": 2**61},
            {"padding": "SAME"},
            {"padding": None},
            {"padding": 0.5},
            {"count": 0},
            {"count": LARGEST + 1},
            {"count": 16**5000},
        ],
        ids=lambda raw: str(raw)[:30] if "count" not in raw else None,
    )
    def test_wrong(self, raw):
        _, found = check(Sizes, raw)
        assert [problem.path for problem in found] == list(raw)
        assert len(str(found[0])) < 250


def test_problems_are_values():
    _, found = check(Outer, {"whole": 0}, "a")
    assert found == [Problem("a.whole", "at least 1", "0")]


FALSE = "YAML reads no, off and false as false; in quotes they are text."


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"text": False}, f"text: expected text, got false. {FALSE}"),
        (
            {"inner": {"colour": False}},
            f"inner.colour: expected one of red, green, got false. {FALSE}",
        ),
        ({"flag": "no"}, "flag: expected true or false, got 'no' (text). Write false."),
        ({"flag": 1}, "flag: expected true or false, got 1. Write true."),
        ({"flag": "perhaps"}, "flag: expected true or false, got 'perhaps' (text)."),
        ({"whole": False}, "whole: expected an integer, got false."),
    ],
)
def test_words_that_yaml_takes_for_truths(raw, says):
    assert problems(raw) == [says]


def test_names_and_kinds_that_yaml_takes_for_truths():
    layer = {"kind": "flatten"}
    first, second = problems({"layers": {False: layer, "a": {"kind": False}}}, Stack)
    assert first.startswith("layers.False: expected a name of letters")
    assert second.startswith("layers.a.kind: expected one of activation, ")
    assert first.endswith(f"got false. {FALSE}")
    assert second.endswith(f"got false. {FALSE}")
