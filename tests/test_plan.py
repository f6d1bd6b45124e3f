"""Plans against the numbers of the book."""

import json
import subprocess
import sys

import pytest

from runner.config.errors import ConfigError
from runner.config.spec import check
from runner.geometry import Features, Shape
from runner.ops import Ops
from runner.plan import HEADINGS, columns
from runner.readable import readable_bytes, readable_count
from runner.stack import Stack

SIGMOID = {"kind": "activation", "function": "sigmoid"}
HALVE = {"kind": "pool", "mode": "avg", "kernel": 2, "stride": 2}
LENET = {
    "conv1": {"kind": "conv", "channels": 6, "kernel": 5, "padding": 2},
    "act1": SIGMOID,
    "pool1": HALVE,
    "conv2": {"kind": "conv", "channels": 16, "kernel": 5},
    "act2": SIGMOID,
    "pool2": HALVE,
    "flat": {"kind": "flatten"},
    "fc1": {"kind": "linear", "features": 120},
    "act3": SIGMOID,
    "fc2": {"kind": "linear", "features": 84},
    "act4": SIGMOID,
    "fc3": {"kind": "linear", "features": 10},
}


def plan(layers, shape, batch=1, dtype="float32"):
    stack, problems = check(Stack, {"layers": layers})
    assert problems == []
    return stack.plan(shape, Ops(), batch, dtype)


class TestLeNet:
    PLAN = plan(LENET, Shape(1, 28, 28))

    def row(self, name):
        return next(row for row in self.PLAN.rows if row.name == name)

    def test_shapes(self):
        assert {row.name: str(row.output) for row in self.PLAN.rows} == {
            "conv1": "6×28×28",
            "act1": "6×28×28",
            "pool1": "6×14×14",
            "conv2": "16×10×10",
            "act2": "16×10×10",
            "pool2": "16×5×5",
            "flat": "400",
            "fc1": "120",
            "act3": "120",
            "fc2": "84",
            "act4": "84",
            "fc3": "10",
        }
        assert self.PLAN.output == Features(10)

    def test_parameters(self):
        # 6·(25 + 1), 16·(6·25 + 1), 120·(400 + 1), 84·(120 + 1), 10·(84 + 1)
        held = {row.name: row.parameters for row in self.PLAN.rows if row.parameters}
        assert held == {"conv1": 156, "conv2": 2416, "fc1": 48120, "fc2": 10164, "fc3": 850}
        assert self.PLAN.parameters == 61_706

    def test_multiply_adds(self):
        # 6·25·28², 16·6·25·10², 400·120, 120·84, 84·10
        costs = {row.name: row.cost for row in self.PLAN.rows if row.cost}
        assert costs == {"conv1": 117600, "conv2": 240000, "fc1": 48000, "fc2": 10080, "fc3": 840}
        assert self.PLAN.cost == 416_520

    def test_receptive_field(self):
        fields = [self.row(n).receptive_field for n in ("conv1", "pool1", "conv2", "pool2", "flat")]
        assert fields == [(5, 5), (6, 6), (14, 14), (16, 16), None]
        assert self.row("pool2").effective_stride == (4, 4)
        assert self.PLAN.receptive_field == (16, 16)  # before the head, which sees everything

    def test_memory(self):
        # 4 bytes of 784 inputs, all outputs and all parameters
        outputs = 2 * 4704 + 1176 + 2 * 1600 + 400 + 400 + 2 * 120 + 2 * 84 + 10
        assert self.PLAN.memory == 4 * (784 + outputs + 61_706)
        batch = plan(LENET, Shape(1, 28, 28), batch=3, dtype="float64")
        assert batch.memory == 8 * (3 * (784 + outputs) + 61_706)

    def test_as_data(self):
        data = json.loads(json.dumps(self.PLAN.to_dict()))
        assert data["parameters"] == 61_706
        assert data["multiply_adds"] == 416_520
        assert data["input"] == [1, 28, 28]
        assert data["output"] == [10]
        assert data["receptive_field"] == [16, 16]
        conv2 = data["layers"][3]
        assert conv2 == {
            "name": "conv2",
            "kind": "conv",
            "input": [6, 14, 14],
            "output": [16, 10, 10],
            "parameters": 2416,
            "multiply_adds": 240000,
            "receptive_field": [14, 14],
            "effective_stride": [2, 2],
            "memory_bytes": 4 * (1600 + 2416),
            "op": "native",
            # 16 channels each, where there are 6 in and 16 out
            "operator_bytes": 4 * 16 * (14 * 14 + 10 * 10),
        }
        assert data["layers"][1]["op"] is None

    def test_as_a_table(self):
        lines = columns(self.PLAN)
        assert {len(line) for line in lines} == {len(HEADINGS)}
        assert [line[0] for line in lines] == ["input", *LENET, "total"]
        assert lines[1][:7] == ("conv1", "conv", "6×28×28", "156", "117,600", "5×5", "1×1")
        assert lines[-1][:5] == ("total", "", "10", "61,706", "416,520")
        assert "conv2" in str(self.PLAN)


COSTLY = {"kind": "conv", "channels": 128, "kernel": 5, "padding": "same"}
WIDE = {"a": {"kind": "conv", "channels": 2, "kernel": 1}, "b": {"kind": "flatten"}}


class TestBook:
    def test_shrinking(self):
        chain = {f"conv{i}": {"kind": "conv", "channels": 1, "kernel": 5} for i in range(10)}
        assert plan(chain, Shape(1, 240, 240)).output == Shape(1, 200, 200)

    @pytest.mark.parametrize(
        ("layer", "size"),
        [
            ({"kernel": 3, "padding": 1}, (8, 8)),
            ({"kernel": [5, 3], "padding": [2, 1]}, (8, 8)),
            ({"kernel": 3, "padding": 1, "stride": 2}, (4, 4)),
            ({"kernel": [3, 5], "padding": [0, 1], "stride": [3, 4]}, (2, 2)),
        ],
    )
    def test_padding_and_stride(self, layer, size):
        layer = {"kind": "conv", "channels": 1} | layer
        assert plan({"a": layer}, Shape(1, 8, 8)).output.size == size

    def test_cost(self):
        # 128 · 128 · 25 · 256 · 256 multiply-adds, two operations each
        found = plan({"a": COSTLY}, Shape(128, 256, 256))
        assert 2 * found.cost == 53_687_091_200
        assert columns(found)[1][4] == "26.8 G"

    def test_doubling_both_channels_costs_four_times(self):
        once = plan({"a": COSTLY}, Shape(128, 64, 64)).cost
        twice = plan({"a": COSTLY | {"channels": 256}}, Shape(256, 64, 64)).cost
        assert twice == 4 * once

    def test_stride_costs_its_square_less(self):
        once = plan({"a": COSTLY}, Shape(1, 64, 64)).cost
        less = plan({"a": COSTLY | {"stride": 2}}, Shape(1, 64, 64)).cost
        assert once == 4 * less

    def test_a_megapixel_to_a_thousand_units(self):
        dense = {
            "flat": {"kind": "flatten"},
            "dense": {"kind": "linear", "features": 1000, "bias": False},
        }
        assert plan(dense, Shape(1, 1000, 1000)).parameters == 10**9

    def test_one_by_one_saves_nine_times_the_parameters(self):
        small, large = ({"kind": "conv", "channels": 4, "kernel": k, "bias": False} for k in (1, 3))
        shape = Shape(8, 10, 10)
        assert plan({"a": small}, shape).parameters == 32
        assert plan({"a": large}, shape).parameters == 288

    @pytest.mark.parametrize(
        ("groups", "parameters", "cost"),
        [
            # 8·(8/g)·9 weights and 8 biases; per output position without the biases
            (1, 584, 576 * 36),
            (2, 296, 288 * 36),
            ("depthwise", 80, 72 * 36),
        ],
    )
    def test_groups(self, groups, parameters, cost):
        layer = {"kind": "conv", "channels": 8, "kernel": 3, "groups": groups}
        found = plan({"a": layer}, Shape(8, 8, 8))
        assert (found.parameters, found.cost) == (parameters, cost)


class TestMemory:
    def test_limit_is_exact(self):
        found = plan(WIDE, Shape(1, 4, 4))
        # 16 in, 32 out, 32 flat, 4 parameters
        assert found.memory == 4 * (16 + 32 + 32 + 4)
        # The images in double precision with their regions take 16 bytes a pixel; native computes
        # 16 channels where there are 2.
        images, scratch = 16 * 16, 4 * 16 * 16
        found.check_memory(336 + scratch + images)
        with pytest.raises(ConfigError):
            found.check_memory(336 + scratch + images - 1)
        found.check_memory(2 * (336 + scratch) + images + 5, factor=2, overhead=5)
        with pytest.raises(ConfigError):
            found.check_memory(2 * (336 + scratch) + images + 4, factor=2, overhead=5)

    def test_workspace_counts(self):
        layer = {"kind": "conv", "channels": 1, "kernel": 3, "padding": [1, 0, 1, 0]}
        found = plan({"a": layer}, Shape(1, 4, 4))
        # native pads a copy of 5×5 by hand; 3×3 out, 10 parameters
        assert found.memory == 4 * (16 + 9 + 25 + 10)
        reflected = plan({"a": layer | {"pad_mode": "reflect", "padding": 1}}, Shape(1, 4, 4))
        assert reflected.memory == 4 * (16 + 16 + 36 + 10)

    def test_pooling_counts_its_padded_copy(self):
        layer = {"kind": "pool", "kernel": 3, "stride": 1, "padding": [1, 0, 1, 0]}
        found = plan({"a": layer}, Shape(2, 4, 4))
        assert found.memory == 4 * 2 * (16 + 9 + 25)

    def test_message(self):
        layer = {"kind": "conv", "channels": 64, "kernel": 1}
        found = plan({"small": layer | {"channels": 1}, "large": layer}, Shape(1, 8192, 8192), 2)
        with pytest.raises(ConfigError) as caught:
            found.check_memory(4 * 2**30)
        # batch 2 of (1 + 1 + 64) · 2²⁶ numbers of 4 bytes: 33 GiB; as much again while native
        # computes 64 channels; and the images as loaded, 2 · 2²⁶ · 16 bytes: 2 GiB
        assert str(caught.value) == (
            "stack.layers.large: expected a stack that fits into memory_limit_gib (4.0 GiB), "
            "got 67.0 GiB, most of it here (128 parameters, 64×8192×8192 outputs × batch 2). "
            "Use smaller sizes, or raise memory_limit_gib."
        )
        with pytest.raises(ConfigError, match=r"132\.0 GiB, 2 copies"):
            found.check_memory(4 * 2**30, factor=2)

    def test_without_layers_it_is_the_data(self):
        with pytest.raises(ConfigError, match=r"data: expected .* \(1×8192×8192 inputs\)"):
            plan({}, Shape(1, 8192, 8192)).check_memory(1024)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (4 * 2**30, "4.0 GiB"),
        (2**70, "1.0e+06 PiB"),  # beyond a million of the largest unit
        (2**200, "1.4e+45 PiB"),
    ],
)
def test_readable_bytes(count, text):
    assert readable_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (416_520, "416,520"),
        (999_999, "999,999"),
        (10**6, "1.0 M"),
        (26_843_545_600, "26.8 G"),
        (10**12, "1.0 T"),
        (2 * 10**18, "2,000.0 P"),
    ],
)
def test_readable_count(count, text):
    assert readable_count(count) == text


def test_planning_does_not_import_torch():
    code = (
        "import sys\n"
        "from runner.config.spec import check\n"
        "from runner.geometry import Shape\n"
        "from runner.ops import Ops\n"
        "from runner.stack import Stack\n"
        f"stack, problems = check(Stack, {{'layers': {LENET!r}}})\n"
        "plan = stack.plan(Shape(1, 28, 28), Ops())\n"
        "stack.check_ops(plan, Ops(), 'float32', 'cpu')\n"
        "check(Stack, {'layers': {'a': {'kind': 'conv', 'paddng': 1}}})\n"
        "assert plan.parameters == 61706\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


CONV = {"kind": "conv", "channels": 1, "kernel": 3}
NESTED = {"r": {"kind": "repeat", "times": 2, "layers": {"a": CONV, "b": CONV}}, "c": CONV}


class TestContainers:
    def test_lines_are_indented_below_their_container(self):
        found = plan(NESTED, Shape(1, 16, 16))
        names = [line[0] for line in columns(found)]
        assert names == [
            "input", "r", "  1", "    a", "    b", "  2", "    a", "    b", "c", "total",
        ]  # fmt: skip
        assert [row.name for row in found.walk()][:4] == ["r", "r.1", "r.1.a", "r.1.b"]
        assert [row.name for row in found.leaves()] == ["r.1.a", "r.1.b", "r.2.a", "r.2.b", "c"]
        assert next(found.leaves()).path == "stack.layers.r.layers.a"

    @pytest.mark.parametrize(
        ("lines", "names"),
        [(8, 8), (7, 4), (4, 4), (3, 2), (1, 2), (None, 8)],
    )
    def test_long_containers_are_shut(self, lines, names):
        """All eight, then without the innermost four, then the stack's own two at the least."""
        shown = columns(plan(NESTED, Shape(1, 16, 16)), lines)
        assert len(shown) == names + 2

    def test_as_data(self):
        data = plan(NESTED, Shape(1, 16, 16)).to_dict()
        assert [layer["name"] for layer in data["layers"]] == ["r", "c"]
        inner = data["layers"][0]["layers"][1]["layers"][0]
        assert (inner["name"], inner["output"]) == ("r.2.a", [1, 10, 10])
        assert "layers" not in inner

    def test_pooling_operations(self):
        """The book, 6.5 exercise: c · o_h · o_w · p_h · p_w, beside multiply-adds."""
        layers = {"p": {"kind": "pool", "kernel": [2, 3], "stride": 1}, "c": CONV}
        found = plan(layers, Shape(2, 6, 8))
        # 2·5·6 outputs of 2·3 numbers; then 3·4 outputs of 2·9 products.
        assert found.operations == 2 * 5 * 6 * 2 * 3 + 3 * 4 * 18
        assert found.cost == 3 * 4 * 18
        # Global: every number once.
        assert plan({"p": {"kind": "pool", "output_size": 1}}, Shape(2, 6, 8)).operations == 96

    def test_what_does_not_fit_into_memory_is_named_inside(self):
        wide = {"r": {"kind": "repeat", "times": 2, "layers": {"c": COSTLY}}}
        with pytest.raises(
            ConfigError, match=r"^stack\.layers\.r\.layers\.c: expected a stack that"
        ):
            plan(wide, Shape(1, 1024, 1024)).check_memory(2**20)
