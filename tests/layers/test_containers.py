"""Layers made of layers: planned, built, run; what doesn't fit is named by its full path."""

from __future__ import annotations

import random
import time
from fractions import Fraction
from typing import Any

import pytest
import torch

from runner.config.errors import ConfigError
from runner.config.spec import check
from runner.geometry import Shape
from runner.layers.pool import Pool
from runner.ops import Ops
from runner.plan import Plan
from runner.stack import Stack

GRAY = Shape(1, 8, 8)
RELU = {"kind": "activation", "function": "relu"}
SAME = {"kind": "activation", "function": "identity"}


def conv(channels: Any = 2, kernel: Any = 3, **rest: Any) -> dict[str, Any]:
    return {"kind": "conv", "channels": channels, "kernel": kernel} | rest


def given(weight: Any, **rest: Any) -> dict[str, Any]:
    return {"kind": "conv", "weight": weight} | rest


def stack(**layers: Any) -> Stack:
    spec, problems = check(Stack, {"layers": layers}, "stack")
    if spec is None:
        raise ConfigError(*problems)
    return spec


def plan(shape: Shape = GRAY, **layers: Any) -> Plan:
    return stack(**layers).plan(shape, Ops())


def build(shape: Shape, **layers: Any) -> torch.nn.Module:
    spec = stack(**layers)
    made = spec.plan(shape, Ops())
    return spec.build(made, Ops(), torch.Generator().manual_seed(0)).double().eval()


def complaint(shape: Shape = GRAY, **layers: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        plan(shape, **layers)
    return str(caught.value)


def rows(made: Plan) -> dict[str, str]:
    return {row.name: str(row.output) for row in made.walk()}


class TestBlock:
    def test_is_its_layers_one_after_the_other(self) -> None:
        inside = {"a": conv(2, 3), "b": conv(3, 3, stride=2)}
        nested, flat = plan(block={"kind": "block", "layers": inside}), plan(**inside)
        assert rows(nested) == {"block": "3×2×2", "block.a": "2×6×6", "block.b": "3×2×2"}
        assert nested.output == flat.output
        assert (nested.parameters, nested.cost) == (flat.parameters, flat.cost)
        assert (nested.memory, nested.field) == (flat.memory, flat.field)

    def test_weights_carry_the_names(self) -> None:
        model = build(Shape(1, 8, 8), block={"kind": "block", "layers": {"a": conv()}})
        assert list(model.state_dict()) == ["block.a.weight", "block.a.bias"]

    def test_empty(self) -> None:
        assert complaint(block={"kind": "block", "layers": {}}) == (
            "stack.layers.block.layers: expected at least one entry, got a mapping with no keys."
        )


class TestRepeat:
    def test_times(self) -> None:
        # The book, 6.3.1: ten layers of 5×5 take 240×240 to 200×200.
        made = plan(
            Shape(1, 240, 240), shrink={"kind": "repeat", "times": 10, "layers": {"c": conv(1, 5)}}
        )
        assert str(made.output) == "1×200×200"
        assert made.parameters == 10 * 26
        # r = 1 + 10 · 4
        assert made.receptive_field == (41, 41)
        assert list(rows(made))[:3] == ["shrink", "shrink.1", "shrink.1.c"]

    def test_every_repetition_has_weights_of_its_own(self) -> None:
        model = build(Shape(1, 9, 9), r={"kind": "repeat", "times": 2, "layers": {"c": conv(1)}})
        first, second = model.get_submodule("r.1.c"), model.get_submodule("r.2.c")
        assert not torch.equal(first.weight, second.weight)

    def test_each(self) -> None:
        layers = {"c": conv("$out", ["$k", 1], padding=["$p", 0]), "act": RELU}
        each = {"out": [2, 4, 8], "k": [1, 3, 5], "p": [0, 1, 2]}
        made = plan(r={"kind": "repeat", "each": each, "layers": layers})
        assert [row.parameters for row in made.rows[0].inner] == [2 * 2, 4 * 7, 8 * 21]
        assert str(made.output) == "8×8×8"

    def test_an_inner_repetition_sees_the_outer_parameters_but_for_its_own(self) -> None:
        inner = {
            "kind": "repeat",
            "each": {"k": [1, 3]},
            "layers": {"c": conv("$out", "$k", padding="same")},
        }
        made = plan(
            r={"kind": "repeat", "each": {"out": [2, 3], "k": [9, 9]}, "layers": {"in": inner}}
        )
        kernels = [row.layer.kernel for row in made.leaves()]
        assert kernels == [(1, 1), (3, 3), (1, 1), (3, 3)]
        assert [row.output.dims[0] for row in made.leaves()] == [2, 2, 3, 3]

    def test_an_inner_repetition_can_take_its_values_from_the_outer_one(self) -> None:
        inner = {"kind": "repeat", "each": {"c": ["$c", 8]}, "layers": {"x": conv("$c", 1)}}
        made = plan(r={"kind": "repeat", "each": {"c": [2, 4]}, "layers": {"in": inner}})
        assert [row.output.dims[0] for row in made.leaves()] == [2, 8, 4, 8]

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"times": 0}, "r.times: expected at least 1, got 0."),
            ({"times": 1001}, "r.times: expected at most 1000, got 1001."),
            ({}, "r.times: expected how often to repeat, got nothing. Or give each,"),
            ({"each": {}}, "r.each: expected at least one entry, got a mapping with no keys."),
            ({"each": {"n": []}}, "r.each.n: expected at least one value, got []."),
            ({"each": {"n": [1, 2], "m": [1]}}, "r.each.m: expected 2 values, as n has, got 1."),
            (
                {"each": {"n": [1, 2], "m": [1, 2]}},
                "r.each.m: expected a parameter that a layer inside uses, as $m, got one that none",
            ),
            ({"each": {"n": [1, 2]}, "times": 3}, "r.times: expected 2, the values of each, got 3"),
            (
                {"each": {"n": [1, 0]}},
                "r.layers.c.channels: expected at least 1, got 0. In repetition 2 of 2.",
            ),
            (
                {"times": 1, "layers": {"c": conv("$m", 3)}},
                "r.layers.c.channels: expected a value; there are no parameters without each, got "
                "'$m'.",
            ),
            (
                {"each": {"out": [1, 2], "k": [1, 1]}, "layers": {"c": conv("$outt", "$k")}},
                "r.layers.c.channels: expected one of $out, $k, got '$outt'. Did you mean '$out'?",
            ),
            (
                {"times": 5, "layers": {"c": conv(1, 3)}},
                "r.layers.c.kernel: expected height at most 2 (input 2 + padding 0), got 3. The "
                "output would have height ⌊(2 + 0 − 3) / 1⌋ + 1 < 1. Use a smaller kernel, 1 "
                "more padding in total, or larger images. In repetition 4 of 5.",
            ),
            ({"times": 1, "layers": {}}, "r.layers: expected at least one entry"),
            ({"times": 1, "layers": {"forward": RELU}}, "r.layers.forward: expected a name that"),
            ({"times": 1, "layers": {"c": {"kind": "cnov"}}}, "r.layers.c.kind: expected one of"),
        ],
    )
    def test_mistakes(self, fields: dict[str, Any], message: str) -> None:
        layers = {"c": conv("$n", 3, padding=1)}
        said = complaint(r={"kind": "repeat", "layers": layers} | fields)
        assert said.startswith(f"stack.layers.{message}")

    @pytest.mark.parametrize("counts", [{"times": 1000}, {"each": {"k": [3] * 1000}}])
    def test_unfolding_without_end_is_refused_at_once(self, counts: dict[str, Any]) -> None:
        raw: dict[str, Any] = {"a": conv(1, "$k")} if "each" in counts else {"a": RELU}
        for _ in range(4):
            raw = {"r": {"kind": "repeat", "layers": raw} | counts}
        begun = time.monotonic()
        assert "expected at most 10,000 layers in all, got 1,000,000,000,000." in complaint(**raw)
        assert time.monotonic() - begun < 2


class TestResidual:
    def test_adds_the_input(self) -> None:
        """y = 3·x + x."""
        model = build(Shape(1, 2, 2), r={"kind": "residual", "layers": {"c": given([[3]])}})
        x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
        assert torch.equal(model(x), 4 * x)

    def test_adds_the_shortcut_that_is_given(self) -> None:
        """max(a, b) = relu(a − b) + b (the book, 6.5 exercise)."""
        layers = {"difference": given([[1, -1]]), "act": RELU}
        model = build(
            Shape(1, 1, 5), r={"kind": "residual", "layers": layers, "shortcut": given([[0, 1]])}
        )
        x = torch.tensor([[[[3.0, 1.0, 4.0, -1.0, -5.0]]]], dtype=torch.float64)
        assert model(x).tolist() == [[[[3, 4, 4, -1]]]]

    def test_projects_where_shapes_differ(self) -> None:
        layers = {"a": conv(6, 3, stride=[2, 1], padding=1), "b": conv(6, 3, padding=1)}
        made = plan(Shape(2, 7, 5), r={"kind": "residual", "layers": layers})
        shortcut = made.rows[0].inner[-1]
        assert (shortcut.name, str(shortcut.output)) == ("r.shortcut", "6×4×5")
        assert shortcut.parameters == 6 * (2 + 1)
        assert shortcut.layer.stride == (2, 1)
        # The layers see 3 + 2·2 = 7 rows and 3 + 2 = 5 columns; the shortcut but one of each.
        assert made.receptive_field == (7, 5)
        model = build(Shape(2, 7, 5), r={"kind": "residual", "layers": layers})
        x = torch.rand(1, 2, 7, 5, dtype=torch.float64)
        r = model.get_submodule("r")
        assert torch.allclose(model(x), r.b(r.a(x)) + r.shortcut(x))

    def test_the_same_shape_needs_no_projection(self) -> None:
        made = plan(r={"kind": "residual", "layers": {"c": conv(1, 3, padding=1)}})
        assert [row.name for row in made.rows[0].inner] == ["r.c"]

    def test_vectors(self) -> None:
        dense = {"kind": "linear", "features": 4}
        made = plan(
            Shape(1, 2, 2), f={"kind": "flatten"}, r={"kind": "residual", "layers": {"d": dense}}
        )
        assert str(made.output) == "4"
        assert "expected an output like the input, 4, to be added to it, got 5" in complaint(
            Shape(1, 2, 2),
            f={"kind": "flatten"},
            r={"kind": "residual", "layers": {"d": dense | {"features": 5}}},
        )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"layers": {"c": conv(1, 3)}},
                "r.layers: expected an output of the input's size, 8×8, or one that a stride leads "
                "to, to be added to it, got 6×6. Pad so that no row or column is lost, or give "
                "shortcut a layer that fits.",
            ),
            (
                {"layers": {"c": conv(1, 3, padding=2)}},
                "r.layers: expected an output of the input's size, 8×8, or",
            ),
            (
                {"layers": {"c": conv(2, 3)}, "shortcut": conv(3, 3)},
                "r.shortcut: expected a layer that gives 2×6×6, as the layers do, got 3×6×6. "
                "Change the one or the other.",
            ),
            (
                {"layers": {"c": conv(2, 3, stride=2, padding=1)}, "shortcut": conv(3, 3)},
                "r.shortcut: expected a layer that gives 2×4×4, as the layers do, got 3×6×6. "
                "Leave shortcut out for a 1×1 convolution that fits.",
            ),
            (
                {"layers": {"f": {"kind": "flatten"}}},
                "r.layers: expected an output like the input, 1×8×8, to be added to it, got 64.",
            ),
            ({"layers": {}}, "r.layers: expected at least one entry"),
            ({"layers": {"shortcut": RELU}}, "r.layers.shortcut: expected another name"),
            ({"layers": {"a": RELU}, "shortcut": {"kind": "cov"}}, "r.shortcut.kind: expected one"),
        ],
    )
    def test_mistakes(self, fields: dict[str, Any], message: str) -> None:
        said = complaint(r={"kind": "residual"} | fields)
        assert said.startswith(f"stack.layers.{message}")


class TestParallel:
    def test_concatenates_in_order(self) -> None:
        branches = {"twice": given([[2]]), "same": SAME, "both": given([[[[1]]], [[[5]]]])}
        model = build(Shape(1, 1, 2), p={"kind": "parallel", "branches": branches})
        x = torch.tensor([[[[1.0, 3.0]]]], dtype=torch.float64)
        assert model(x).tolist() == [[[[2, 6]], [[1, 3]], [[1, 3]], [[5, 15]]]]

    def test_plan(self) -> None:
        branches = {
            "one": conv(2, 1),
            "five": {"kind": "block", "layers": {"a": conv(1, 1), "b": conv(3, 5, padding=2)}},
            "pool": {"kind": "pool", "kernel": 3, "stride": 1, "padding": 1},
        }
        made = plan(Shape(4, 8, 8), p={"kind": "parallel", "branches": branches})
        assert str(made.output) == "9×8×8"
        assert made.receptive_field == (5, 5)
        # Input, four layers' outputs and their concatenation, the weights: 2·5 + 5 + 3·26.
        assert made.parameters == 10 + 5 + 78
        assert made.memory == 4 * (64 * (4 + 2 + 1 + 3 + 4 + 9) + 93)

    def test_field_of_branches_that_look_to_different_sides(self) -> None:
        """Left sees columns −2 to 0 around an output, right 0 to 4: together 7, centred at +1."""
        branches = {"left": conv(1, [1, 3], padding=[0, 0, 2, 0]),
                    "right": conv(1, [1, 5], padding=[0, 0, 0, 4])}  # fmt: skip
        made = plan(p={"kind": "parallel", "branches": branches})
        columns = made.field.columns
        assert columns is not None
        assert (columns.size, columns.jump, columns.start) == (7, 1, 1)
        assert made.receptive_field == (1, 7)

    def test_vectors(self) -> None:
        branches = {"a": {"kind": "linear", "features": 3}, "b": {"kind": "linear", "features": 2}}
        made = plan(f={"kind": "flatten"}, p={"kind": "parallel", "branches": branches})
        assert str(made.output) == "5"

    @pytest.mark.parametrize(
        ("branches", "message"),
        [
            (
                {"a": conv(1, 1), "b": conv(1, 3)},
                "p.branches.b: expected an output as large as that of branch 'a', 8×8, got 6×6.",
            ),
            (
                {"a": conv(1, 1), "b": {"kind": "flatten"}},
                "p.branches.b: expected an output as large as that of branch 'a', 8×8, got 64 feat",
            ),
            (
                {"a": conv(1, 1), "b": {"kind": "block", "layers": {"c": conv(1, 9)}}},
                "p.branches.b.layers.c.kernel: expected height at most 8",
            ),
            ({}, "p.branches: expected at least one entry"),
            ({"a": {"kind": "conv"}}, "p.branches.a.channels: expected a value"),
        ],
    )
    def test_mistakes(self, branches: dict[str, Any], message: str) -> None:
        said = complaint(p={"kind": "parallel", "branches": branches})
        assert said.startswith(f"stack.layers.{message}")


class TestDenseBlock:
    def test_each_repetition_sees_all_before(self) -> None:
        """A 1×1 convolution with weight 2 on every channel: x, then 2x, then 2(x + 2x) = 6x."""
        layers = {"c": given([[2]])}
        model = build(Shape(1, 1, 1), d={"kind": "dense_block", "times": 2, "layers": layers})
        x = torch.full((1, 1, 1, 1), 5.0, dtype=torch.float64)
        assert model(x).flatten().tolist() == [5, 10, 30]

    def test_plan(self) -> None:
        layers = {"c": conv(32, 3, padding=1)}
        made = plan(Shape(3, 8, 8), d={"kind": "dense_block", "times": 2, "layers": layers})
        assert str(made.output) == "67×8×8"
        # 32·(27 + 1), then 35 channels come in: 32·(315 + 1)
        assert made.parameters == 32 * 28 + 32 * 316
        assert made.receptive_field == (5, 5)

    def test_mistakes(self) -> None:
        layers = {"c": conv(2, 3)}
        said = complaint(d={"kind": "dense_block", "times": 2, "layers": layers})
        assert said == (
            "stack.layers.d.layers: expected layers that keep the size 8×8, to be concatenated, "
            "got an output of 2×6×6. Pad so that height and width stay."
        )
        flat = complaint(
            f={"kind": "flatten"}, d={"kind": "dense_block", "times": 2, "layers": layers}
        )
        assert flat.startswith("stack.layers.d: expected feature maps (channels×height×width)")


def test_operators_are_checked_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = stack(b={"kind": "block", "layers": {"p": {"kind": "pool", "kernel": 2}}})
    made = spec.plan(Shape(1, 8, 8), Ops())
    spec.check_ops(made, Ops(), "float32", "cpu")
    monkeypatch.setattr(Pool, "unsupported", lambda *_: ["it is Sunday"])
    with pytest.raises(ConfigError) as caught:
        spec.check_ops(made, Ops(), "float32", "cpu")
    assert str(caught.value) == (
        "stack.layers.b.layers.p.ops: expected a case that some operator can compute, "
        "got 'native', which can't: it is Sunday."
    )


def test_gradients_reach_every_weight() -> None:
    model = build(
        Shape(1, 8, 8),
        p={"kind": "parallel", "branches": {"a": conv(2, 3, padding=1), "b": SAME}},
        r={"kind": "residual", "layers": {"c": conv(4, 3, stride=2, padding=1)}},
        d={"kind": "dense_block", "times": 2, "layers": {"c": conv(2, 3, padding=1)}},
    )
    model(torch.rand(2, 1, 8, 8, dtype=torch.float64)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_stack_of_200_layers_is_planned_in_an_instant() -> None:
    layers = {"r": {"kind": "residual", "layers": {"a": conv(8, 3, padding=1), "act": RELU}}}
    made = plan(deep={"kind": "repeat", "times": 100, "layers": layers})
    assert len(list(made.leaves())) == 201  # and the first projection


class Drawn:
    """Random layers, nested three deep at most, most of which keep the size."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def ones(self, stride: bool) -> dict[str, Any]:
        kernel = [self.random.choice([1, 2, 3]), self.random.choice([1, 2, 3])]
        # Left and right, above and below differ, so that centres are put to the test too.
        step = self.random.choice([1, 2]) if stride else 1
        padding: Any = [self.random.randrange(k) for k in (kernel[0], 1, kernel[1], 1)]
        if not stride:
            before = [self.random.randrange(k) for k in kernel]
            padding = [before[0], kernel[0] - 1 - before[0], before[1], kernel[1] - 1 - before[1]]
        if self.random.random() < 0.2 and stride:
            return {"kind": "pool", "mode": "avg", "kernel": kernel, "stride": step}
        weight = [[1] * kernel[1]] * kernel[0]
        return given(weight, stride=step, padding=padding)

    def keeping(self, depth: int) -> dict[str, Any]:
        """A layer whose output is as large as its input."""
        kind = self.random.choice(
            ["conv", "block", "repeat", "residual", "parallel", "dense_block"]
        )
        if kind == "conv" or not depth:
            return self.ones(stride=False)
        names = ["a", "b", "c"][: self.random.randint(1, 3)]
        inside = {name: self.keeping(depth - 1) for name in names}
        if kind == "parallel":
            return {"kind": kind, "branches": inside}
        repeated = {"times": 2} if kind in ("repeat", "dense_block") else {}
        # Channels are summed at the end, so that what is added or given weights always fits.
        inside["sum"] = given([[1]])
        return {"kind": kind, "layers": inside} | repeated


@pytest.mark.parametrize("seed", range(40))
def test_receptive_field_through_branches_is_what_the_gradient_reaches(seed: int) -> None:
    """With positive weights, every pixel that an output sees has a gradient: exactly the field."""
    drawn, size = Drawn(seed), 192
    layers = {"first": drawn.ones(stride=True)}
    layers |= {f"n{i}": drawn.keeping(2) for i in range(2)} | {"last": drawn.ones(stride=True)}
    shape = Shape(1, size, size)
    model = build(shape, **layers)
    made = stack(**layers).plan(shape, Ops())
    assert isinstance(made.output, Shape)
    middle = [n // 2 for n in made.output.size]
    x = torch.ones(1, 1, size, size, dtype=torch.float64, requires_grad=True)
    model(x)[0, :, middle[0], middle[1]].sum().backward()
    for axis, at, other in zip(made.field.axes(), middle, (1, 0), strict=True):
        seen = x.grad[0, 0].abs().sum(dim=other).nonzero().flatten().tolist()  # type: ignore[index]
        centre = axis.start + at * axis.jump
        low, high = centre - Fraction(axis.size - 1, 2), centre + Fraction(axis.size - 1, 2)
        assert (min(seen), max(seen)) == (low, high)
        assert low > 0 and high < size - 1  # else a border would hide what is wrong
