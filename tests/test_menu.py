"""Folders as menus: what is on them, what can't be reached, and how a new entry gets on."""

import importlib
import sys

import pytest

from runner import menu
from runner.config.errors import ConfigError
from runner.config.spec import Kind, check
from runner.geometry import Shape
from runner.layers import Layer
from runner.ops import ConvOp, Ops, PoolOp, conv_op, pool_op
from runner.stack import Stack

MENUS = ["runner.layers", "runner.ops", "runner.data", "runner.tasks"]


@pytest.mark.parametrize("package", MENUS)
def test_every_entry_can_be_picked(package):
    found = menu.names(package)
    assert found == sorted(set(found))
    assert not [name for name in found if name.startswith("_")]
    contract = object if package == "runner.ops" else Kind
    for name in found:
        if package == "runner.ops":
            assert menu.find(package, name, ConvOp) or menu.find(package, name, PoolOp)
        else:
            assert issubclass(menu.load(package, name, contract), Kind)


def test_the_layers():
    expected = {"activation", "batchnorm", "conv", "dropout", "flatten", "linear", "pool"}
    assert expected <= set(menu.names("runner.layers"))


def test_unknown_names_are_answered_with_the_menu():
    with pytest.raises(ConfigError) as caught:
        menu.require("runner.layers", "convv")
    (problem,) = caught.value.problems
    assert problem.path == "kind"
    assert problem.expected.startswith("one of activation, batchnorm, block, conv, dense_block")
    assert problem.got == "'convv'"
    assert problem.hint == "Did you mean 'conv'?"


OUTSIDE = [
    "os",
    "../config/spec",
    "..config.spec",
    "config.spec",
    ".conv",
    "conv.Conv",
    "conv ",
    "Conv",
    "__init__",
    "__pycache__",
    "builtins",
    "",
    "/etc/passwd",
    "conv\x00",
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_else_can_be_reached(name, monkeypatch):
    reached = []
    monkeypatch.setattr(importlib, "import_module", _recorder(reached))
    with pytest.raises(ConfigError, match="expected one of"):
        menu.load("runner.layers", name, Layer)
    assert set(reached) == {"runner.layers"}
    spec, problems = check(Stack, {"layers": {"a": {"kind": name}}})
    assert spec is None
    assert [problem.path for problem in problems] == ["layers.a.kind"]


def _recorder(reached):
    original = importlib.import_module

    def record(name, package=None):
        reached.append(name)
        return original(name, package)

    return record


def test_underscored_modules_are_helpers(entry):
    entry("runner.layers", "_shared", "raise RuntimeError('imported')")
    assert "_shared" not in menu.names("runner.layers")
    with pytest.raises(ConfigError, match="got '_shared'"):
        menu.load("runner.layers", "_shared", Layer)


def test_names_are_listed_without_importing(entry):
    entry("runner.layers", "explosive", "raise RuntimeError('imported')")
    assert "explosive" in menu.names("runner.layers")
    with pytest.raises(RuntimeError, match="imported"):
        menu.load("runner.layers", "explosive", Layer)


def test_an_entry_defines_one_class_of_its_contract(entry):
    entry("runner.layers", "nothing", "from runner.layers.conv import Conv")
    with pytest.raises(TypeError, match=r"runner\.layers\.nothing defines no Layer"):
        menu.load("runner.layers", "nothing", Layer)
    entry(
        "runner.layers",
        "two",
        """
        from runner.layers.flatten import Flatten

        class One(Flatten): ...
        class Two(Flatten): ...
        """,
    )
    with pytest.raises(TypeError, match="defines 2 Layers, not one"):
        menu.load("runner.layers", "two", Layer)


def test_underscored_classes_are_helpers(entry):
    entry(
        "runner.layers",
        "one_and_a_helper",
        """
        from runner.layers.flatten import Flatten

        class _Helper(Flatten): ...
        class Real(Flatten): ...
        """,
    )
    assert menu.load("runner.layers", "one_and_a_helper", Layer).__name__ == "Real"


NEGATE = """
    from runner.config.spec import Spec
    from runner.layers import Layer

    class Negate(Layer):
        times: int = 1

        def output_shape(self, x):
            return x

        def build(self, x, ops, generator):
            from torch import nn

            class Module(nn.Module):
                def forward(module, x):
                    return (-1) ** self.times * x

            return Module()
"""


def test_a_new_layer_works_without_touching_anything_else(entry):
    import torch

    entry("runner.layers", "negate", NEGATE)
    raw = {
        "layers": {
            "turn": {"kind": "negate", "times": 3},
            "pool": {"kind": "pool", "mode": "min", "kernel": 2},
        }
    }
    stack, problems = check(Stack, raw)
    assert problems == []
    plan = stack.plan(Shape(1, 2, 2), Ops())
    assert [row.kind for row in plan.rows] == ["negate", "pool"]
    model = stack.build(plan, Ops(), torch.Generator())
    x = torch.arange(4.0).reshape(1, 1, 2, 2)
    assert model(x).tolist() == [[[[-3]]]]
    _, problems = check(Stack, {"layers": {"turn": {"kind": "negate", "tmies": 3}}})
    assert str(problems[0]) == (
        "layers.turn.tmies: expected one of kind, times, got 'tmies'. Did you mean 'times'?"
    )


UNFOLDED = """
    from runner.ops import ConvOp

    class Unfolded(ConvOp):
        own_gradient = True

        def unsupported(self, geometry, dtype, device):
            return ["it knows no groups"] if geometry.groups > 1 else []

        def forward(self, x, weight, bias, geometry):
            import torch.nn.functional as F

            top, bottom, left, right = geometry.padding
            oh, ow = geometry.output_size(x.shape[2:])
            x = F.pad(x, (left, right, top, bottom))
            columns = F.unfold(x, geometry.kernel, geometry.dilation, 0, geometry.stride)
            y = (weight.flatten(1) @ columns).reshape(len(x), len(weight), oh, ow)
            return y if bias is None else y + bias[:, None, None]
"""


class TestNewOperator:
    def test_it_computes(self, entry):
        import torch

        from runner.functional import conv2d

        entry("runner.ops", "unfolded", UNFOLDED)
        assert "unfolded" in menu.names("runner.ops")
        x, weight = torch.randn(2, 3, 6, 7).double(), torch.randn(4, 3, 3, 2).double()
        options = {"padding": (1, 0, 2, 1), "stride": (1, 2), "dilation": (2, 1)}
        torch.testing.assert_close(
            conv2d(x, weight, op="unfolded", **options), conv2d(x, weight, op="loops", **options)
        )

    def test_it_runs_in_a_stack_by_the_stacks_or_the_layers_choice(self, entry):
        import torch

        entry("runner.ops", "unfolded", UNFOLDED)
        conv = {"kind": "conv", "channels": 2, "kernel": 3}
        raw = {"layers": {"a": conv, "b": conv | {"ops": "native"}}}
        stack, problems = check(Stack, raw)
        assert problems == []
        ops, _ = check(Ops, {"conv": "unfolded"})
        plan = stack.plan(Shape(1, 8, 8), ops)
        assert [row.op for row in plan.rows] == ["unfolded", "native"]
        stack.check_ops(plan, ops, "float32", "cpu")
        model = stack.build(plan, ops, torch.Generator().manual_seed(0))
        assert model(torch.ones(1, 1, 8, 8)).shape == (1, 2, 4, 4)

    def test_what_it_cant_is_said_with_who_can(self, entry):
        import torch

        from runner.functional import conv2d

        entry("runner.ops", "unfolded", UNFOLDED)
        conv = {"kind": "conv", "channels": 2, "kernel": 3, "groups": 2}
        stack, _ = check(Stack, {"layers": {"a": conv}})
        ops = Ops(conv="unfolded")
        with pytest.raises(ConfigError) as caught:
            stack.check_ops(stack.plan(Shape(2, 8, 8), ops), ops, "float32", "cpu")
        (problem,) = caught.value.problems
        assert problem.path == "stack.layers.a.ops"
        able = problem.expected.removeprefix("one of ").split(", ")
        assert {"loops", "native"} <= set(able)
        assert "unfolded" not in able
        assert problem.got == "'unfolded', which can't: it knows no groups"
        with pytest.raises(ConfigError, match=r"op: expected one of .*, got 'unfolded', which"):
            conv2d(torch.ones(1, 2, 4, 4), torch.ones(2, 1, 2, 2), groups=2, op="unfolded")

    def test_an_operator_without_pooling(self, entry):
        import torch

        from runner.functional import pool2d

        entry("runner.ops", "unfolded", UNFOLDED)
        with pytest.raises(ConfigError) as caught:
            pool_op("unfolded")
        (problem,) = caught.value.problems
        assert problem.expected.startswith("an operator with pooling (")
        assert "loops" in problem.expected
        assert "unfolded" not in problem.expected
        with pytest.raises(ConfigError, match="an operator with pooling"):
            pool2d(torch.ones(1, 1, 4, 4), 2, op="unfolded")
        stack, _ = check(Stack, {"layers": {"p": {"kind": "pool", "kernel": 2}}})
        with pytest.raises(ConfigError, match=r"stack\.layers\.p\.ops: expected an operator with"):
            stack.plan(Shape(1, 4, 4), Ops(pool="unfolded"))

    def test_an_operator_without_convolution(self, entry):
        source = """
            from runner.ops import PoolOp

            class Only(PoolOp):
                def forward(self, x, mode, geometry): ...
        """
        entry("runner.ops", "only_pools", source)
        with pytest.raises(ConfigError, match="an operator with convolution"):
            conv_op("only_pools")

    def test_it_is_gone_afterwards(self):
        assert "unfolded" not in menu.names("runner.ops")
        assert "runner.ops.unfolded" not in sys.modules


def test_unknown_operators_are_answered_with_the_menu():
    _, problems = check(Ops, {"conv": "nativ", "pool": "../ops/loops"})
    by_path = {problem.path: problem for problem in problems}
    assert by_path["conv"].hint == "Did you mean 'native'?"
    assert "loops, " in by_path["pool"].expected
    with pytest.raises(ConfigError, match="expected one of"):
        conv_op("os")


SOURCE = """
    import numpy as np

    from runner.data import Data, Images
    from runner.geometry import Shape

    class Ones(Data):
        size: int = 2

        def shape(self):
            return Shape(1, self.size, self.size)

        def load(self):
            return Images(np.ones((1, 1, self.size, self.size)))
"""


def test_a_new_source_of_data(entry):
    from runner.config.spec import check_kind

    entry("runner.data", "ones", SOURCE)
    source, problems = check_kind("runner.data", {"kind": "ones", "size": 3}, "data")
    assert problems == []
    assert source.load().x.shape == (source.count(), *source.shape().dims)


TASK = """
    from runner.tasks import Task

    class Nothing(Task):
        def run(self, run):
            return {"done": 1.0}
"""


def test_a_new_task(entry):
    from runner.config.spec import check_kind

    entry("runner.tasks", "nothing", TASK)
    task, problems = check_kind("runner.tasks", {"kind": "nothing"}, "task")
    assert problems == []
    assert task.run(None) == {"done": 1.0}
