"""Stacks: planned, then built and run, and the two must agree."""

import time

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runner.chain import RESERVED
from runner.config.errors import ConfigError
from runner.config.spec import check
from runner.geometry import Features, Shape
from runner.ops import Ops
from runner.stack import Stack


def stack(**layers) -> Stack:
    spec, problems = check(Stack, {"layers": layers})
    assert problems == []
    return spec


def conv(channels=1, kernel=3, **rest):
    return {"kind": "conv", "channels": channels, "kernel": kernel} | rest


def build(spec, shape, ops=None, seed=0):
    ops = ops or Ops()
    plan = spec.plan(shape, ops)
    return plan, spec.build(plan, ops, torch.Generator().manual_seed(seed)).float()


def run_and_compare(spec, shape, batch=2, ops=None):
    """Every layer gives what the plan said, and holds as many numbers."""
    plan, model = build(spec, shape, ops)
    x = torch.randn(batch, *shape.dims)
    for row, (name, module) in zip(plan.rows, model.named_children(), strict=True):
        x = module(x)
        assert name == row.name
        assert x.shape == (batch, *row.output.dims)
        assert sum(p.numel() for p in module.parameters()) == row.parameters
    assert sum(p.numel() for p in model.parameters()) == plan.parameters
    assert plan.output.dims == x.shape[1:]


EACH_KIND = {
    "conv": conv(4, [3, 2]),
    "conv without bias": conv(4, bias=False),
    "conv grouped": conv(6, groups=3),
    "conv depthwise": conv(6, groups="depthwise"),
    "conv by name": {"kind": "conv", "weight": "sobel_x"},
    "conv by names": {"kind": "conv", "weight": ["sobel_x", "sobel_y"], "bias": True},
    "conv by names in groups": {"kind": "conv", "weight": ["sobel_x", "sobel_y"], "groups": 3},
    "conv by numbers": {"kind": "conv", "weight": [[1, -1]], "bias": [0.5]},
    "conv spelled out": {"kind": "conv", "weight": [[[[1]], [[2]], [[3]]], [[[1]], [[1]], [[1]]]]},
    "conv fixed": conv(4, trainable=False),
    "conv reflected": conv(4, padding=[1, 2], pad_mode="reflect"),
    "pool": {"kind": "pool", "kernel": 2},
    "pool same": {"kind": "pool", "kernel": [2, 3], "stride": 1, "padding": "same"},
    "pool average": {"kind": "pool", "mode": "avg", "kernel": 3, "stride": 2, "ceil_mode": True},
    "pool adaptive": {"kind": "pool", "output_size": [3, 2]},
    "activation": {"kind": "activation", "function": "relu"},
    "batchnorm": {"kind": "batchnorm"},
    "batchnorm without scale": {"kind": "batchnorm", "affine": False},
    "dropout": {"kind": "dropout"},
    "flatten": {"kind": "flatten"},
}


@pytest.mark.parametrize("ops", ["native", "loops"])
@pytest.mark.parametrize("layer", EACH_KIND.values(), ids=EACH_KIND)
def test_each_kind_is_what_its_plan_says(layer, ops):
    run_and_compare(stack(only=layer), Shape(3, 8, 7), ops=Ops(conv=ops, pool=ops))


@pytest.mark.parametrize(
    "layer",
    [
        {"kind": "linear", "features": 5},
        {"kind": "linear", "features": 5, "bias": False},
        {"kind": "batchnorm"},
        {"kind": "activation", "function": "tanh"},
        {"kind": "dropout", "p": 0.1},
        {"kind": "flatten"},
    ],
    ids=lambda layer: layer["kind"],
)
def test_each_kind_on_a_vector(layer):
    run_and_compare(stack(flat={"kind": "flatten"}, only=layer), Shape(2, 3, 3))


@st.composite
def layers(draw):
    kind = draw(st.sampled_from(["conv", "conv", "pool", "activation", "batchnorm"]))
    size = st.one_of(st.integers(1, 3), st.lists(st.integers(1, 3), min_size=2, max_size=2))
    sides = st.one_of(
        st.integers(0, 2),
        st.lists(st.integers(0, 2), min_size=4, max_size=4),
        st.sampled_from(["same", "same_lower", "valid"]),
    )
    if kind == "conv":
        return conv(
            draw(st.sampled_from([2, 4])),
            draw(size),
            stride=draw(size),
            padding=draw(sides),
            dilation=draw(size),
            groups=draw(st.sampled_from([1, 2, "depthwise"])),
            pad_mode=draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"])),
            bias=draw(st.booleans()),
            mode=draw(st.sampled_from(["correlation", "convolution"])),
        )
    if kind == "pool":
        return {
            "kind": "pool",
            "mode": draw(st.sampled_from(["max", "avg", "min"])),
            "kernel": draw(size),
            "stride": draw(size),
            "padding": draw(sides),
            "ceil_mode": draw(st.booleans()),
            "count_include_pad": draw(st.booleans()),
        }
    if kind == "activation":
        return {"kind": "activation", "function": draw(st.sampled_from(["relu", "gelu"]))}
    return {"kind": kind}


@given(
    chain=st.lists(layers(), min_size=1, max_size=4),
    h=st.integers(3, 10),
    w=st.integers(3, 10),
    head=st.booleans(),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_random_stacks_run_as_planned(chain, h, w, head):
    named = {f"layer{i}": layer for i, layer in enumerate(chain)}
    if head:
        named |= {"flat": {"kind": "flatten"}, "dense": {"kind": "linear", "features": 3}}
    spec, shape = stack(**named), Shape(2, h, w)
    try:
        spec.plan(shape, Ops())
    except ConfigError:
        assume(False)  # a window that doesn't fit; that it says so is tested elsewhere
    run_and_compare(spec, shape)


CHAINS = {
    "one": [conv(1, [2, 3])],
    "two by two, twice": [conv(1, 2), conv(1, 2)],
    "padded": [conv(1, 3, padding=1), conv(1, 5, padding=[0, 3, 1, 2])],
    "strided": [conv(1, 3, stride=2), conv(1, 3, stride=[1, 3]), conv(1, 2)],
    "dilated": [conv(1, 3, dilation=2), conv(1, 2, dilation=[3, 1], padding=1)],
    "same": [conv(1, 4, padding="same"), conv(1, 2, padding="same_lower")],
    "pooled": [conv(1, 3), {"kind": "pool", "mode": "avg", "kernel": [2, 3]}, conv(1, 3)],
    "pooled with padding": [
        {"kind": "pool", "mode": "avg", "kernel": 3, "stride": 2, "padding": [1, 0, 2, 1]},
        conv(1, 3),
    ],
    "adaptive": [{"kind": "pool", "mode": "avg", "output_size": [8, 6]}, conv(1, 2)],
    "with activations": [conv(1, 3), {"kind": "activation", "function": "identity"}],
}


class TestField:
    """The receptive field by arithmetic against the one that gradients reach."""

    @pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
    def test_against_gradients(self, chain):
        # All weights one, so that no gradient cancels.
        ones = [{**layer, "weight": "ones"} if "channels" in layer else layer for layer in chain]
        spec = stack(**{f"l{i}": layer for i, layer in enumerate(ones)})
        plan, model = build(spec, Shape(1, 24, 24))
        rows, columns = plan.field.rows, plan.field.columns
        x = torch.ones(1, 1, 24, 24, requires_grad=True)
        y = model(x)
        for i in range(y.shape[2]):
            for j in range(y.shape[3]):
                (grad,) = torch.autograd.grad(y[0, 0, i, j], x, retain_graph=True)
                reached = grad[0, 0].nonzero()
                for axis, (field, k) in enumerate(((rows, i), (columns, j))):
                    centre = field.start + k * field.jump
                    first, last = centre - (field.size - 1) / 2, centre + (field.size - 1) / 2
                    found = reached[:, axis]
                    # What lies in the padding isn't there to be reached.
                    if first >= 0:
                        assert found.min() == first
                    if last <= 23:
                        assert found.max() == last
                    assert first <= found.min() <= found.max() <= last

    def test_book_numbers(self):
        plan = stack(a=conv(1, 2), b=conv(1, 2)).plan(Shape(1, 8, 8), Ops())
        assert [row.receptive_field for row in plan.rows] == [(2, 2), (3, 3)]
        flat = stack(a=conv(1, 3, stride=2), f={"kind": "flatten"}).plan(Shape(1, 8, 8), Ops())
        assert flat.rows[0].effective_stride == (2, 2)
        assert flat.receptive_field == (3, 3)  # what the head, which sees everything, is fed with
        assert flat.rows[1].effective_stride is None

    def test_nothing_sees_itself(self):
        assert stack().plan(Shape(1, 3, 3), Ops()).receptive_field == (1, 1)


class TestBuild:
    def test_same_seed_same_weights(self):
        spec = stack(a=conv(3), b={"kind": "flatten"}, c={"kind": "linear", "features": 2})
        first, again, other = (build(spec, Shape(1, 5, 5), seed=s)[1] for s in (0, 0, 1))
        for mine, same, different in zip(
            first.parameters(), again.parameters(), other.parameters(), strict=True
        ):
            assert torch.equal(mine, same)
            assert not torch.equal(mine, different)

    def test_as_torch_would_build_it(self):
        from torch import nn

        torch.manual_seed(3)
        theirs = nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.Flatten(), nn.Linear(6 * 64, 10))
        spec = stack(
            c=conv(6, 5, padding=2), f={"kind": "flatten"}, d={"kind": "linear", "features": 10}
        )
        model = build(spec, Shape(1, 8, 8), seed=3)[1]
        x = torch.randn(2, 1, 8, 8)
        torch.testing.assert_close(model(x), theirs(x))

    def test_names_are_those_of_the_stack(self):
        model = build(stack(edges=conv(2), out=conv(1)), Shape(1, 8, 8))[1]
        assert list(model.state_dict()) == ["edges.weight", "edges.bias", "out.weight", "out.bias"]

    @pytest.mark.parametrize("name", ["forward", "training", "add_module", "T_destination"])
    def test_names_that_torch_keeps(self, name):
        spec = stack(**{name: conv(1)})
        with pytest.raises(ConfigError, match=f"stack.layers.{name}: expected a name that"):
            spec.plan(Shape(1, 8, 8), Ops())

    def test_the_list_of_torchs_names_is_torchs(self):
        public = {name for name in dir(torch.nn.Sequential()) if not name.startswith("_")}
        assert public == RESERVED

    def test_fixed_layers_are_not_learnt(self):
        spec = stack(
            a=conv(2, trainable=False),
            b={"kind": "batchnorm", "trainable": False},
            f={"kind": "flatten"},
            d={"kind": "linear", "features": 2, "trainable": False},
            e={"kind": "linear", "features": 2},
        )
        model = build(spec, Shape(1, 5, 5))[1]
        learnt = {name for name, p in model.named_parameters() if p.requires_grad}
        assert learnt == {"e.weight", "e.bias"}

    def test_a_layers_own_operator(self):
        spec = stack(a=conv(1, ops="loops"), p={"kind": "pool", "kernel": 2, "ops": "loops"})
        plan, model = build(spec, Shape(1, 8, 8), Ops(conv="native", pool="native"))
        assert [row.op for row in plan.rows] == ["loops", "loops"]
        assert [model.a.op, model.p.op] == ["loops", "loops"]

    def test_both_operators_agree(self):
        spec = stack(
            a=conv(4, 3, padding="same", pad_mode="replicate"),
            p={"kind": "pool", "mode": "avg", "kernel": 2, "padding": [1, 0, 0, 1]},
            b=conv(2, [3, 2], mode="convolution", groups=2),
        )
        x = torch.randn(2, 1, 9, 9)
        ys = [
            build(spec, Shape(1, 9, 9), Ops(conv=op, pool=op))[1](x) for op in ("loops", "native")
        ]
        torch.testing.assert_close(*ys, rtol=1e-5, atol=1e-6)


class TestMisfits:
    @pytest.mark.parametrize(
        ("layers", "message"),
        [
            (
                {"a": conv(1, 3), "b": conv(1, 7)},
                "stack.layers.b.kernel: expected height at most 6 (input 6 + padding 0), got 7. "
                "The output would have height ⌊(6 + 0 − 7) / 1⌋ + 1 < 1. "
                "Use a smaller kernel, 1 more padding in total, or larger images.",
            ),
            (
                {"a": {"kind": "linear", "features": 2}},
                "stack.layers.a: expected a flat vector as input of a linear layer, got feature "
                "maps of 2×8×8. Put a flatten layer before it; it gives 128 features. "
                "Or set per_pixel: true.",
            ),
            (
                {"f": {"kind": "flatten"}, "a": conv(1)},
                "stack.layers.a: expected feature maps (channels×height×width) as input of a conv "
                "layer, got a flat vector of 128. Move the conv layer before flatten.",
            ),
            (
                {"f": {"kind": "flatten"}, "a": {"kind": "pool", "kernel": 2}},
                "stack.layers.a: expected feature maps (channels×height×width) as input of a pool "
                "layer, got a flat vector of 128. Move the pool layer before flatten.",
            ),
            (
                {"a": conv(4, groups=3)},
                "stack.layers.a.groups: expected a divisor of the 2 input channels, got 3.",
            ),
        ],
    )
    def test_named_by_path(self, layers, message):
        with pytest.raises(ConfigError) as caught:
            stack(**layers).plan(Shape(2, 8, 8), Ops())
        assert str(caught.value) == message


ABSURD = [
    conv(1, 3, padding=2**61),
    conv(1, 3, padding=2**31),
    conv(1, 3, padding=2**31 - 1),
    conv(1, 3, padding=[2**31 - 1, 0]),
    conv(1, 3, padding=2**30, stride=2**30, pad_mode="replicate"),
    conv(1, 2**61),
    conv(1, 2**31),
    conv(1, 2**31 - 1, padding="same"),
    conv(1, 3, stride=2**62),
    conv(1, 3, dilation=2**62),
    conv(1, 3, dilation=2**31 - 1),
    conv(2**61, 3),
    conv(2**31 - 1, 3),
    conv(10**400, 3),
    conv(16**5000, 3),
    conv(4, 3, groups=2**61),
    conv(0, 3),
    conv(-1, 3),
    conv(1, 0),
    {"kind": "pool", "kernel": 2**61},
    {"kind": "pool", "kernel": 2, "padding": 2**61},
    {"kind": "pool", "output_size": 2**61},
    {"kind": "pool", "output_size": 2**31 - 1},
    {"kind": "linear", "features": 2**61},
    {"kind": "linear", "features": 2**31 - 1},
    {"kind": "linear", "features": 0},
]


@pytest.mark.parametrize("layer", ABSURD, ids=range(len(ABSURD)))
@pytest.mark.parametrize("ops", ["loops", "native"])
def test_absurd_sizes_are_refused_before_anything_is_allocated(layer, ops):
    begun = time.perf_counter()
    flat = {"flat": {"kind": "flatten"}} if layer["kind"] == "linear" else {}
    ops = Ops(conv=ops, pool=ops)
    spec, problems = check(Stack, {"layers": flat | {"a": layer}}, "stack")
    if problems:
        assert [problem.path.split(".")[2] for problem in problems] == ["a"]
    else:
        with pytest.raises(ConfigError) as caught:
            spec.plan(Shape(1, 8, 8), ops).check_memory(4 * 2**30)
        assert caught.value.problems[0].path.startswith("stack.layers.a")
        assert len(str(caught.value)) < 500
    assert time.perf_counter() - begun < 1


def test_a_copy_that_the_operator_would_need_is_counted():
    # More padding than half a window is done by hand by `native`; `loops` clips its windows.
    spec = stack(a={"kind": "pool", "kernel": 2**31 - 1, "padding": 2**30})
    with pytest.raises(ConfigError) as caught:
        spec.plan(Shape(1, 8, 8), Ops(pool="native")).check_memory(4 * 2**30)
    (found,) = caught.value.problems
    # one window of 2³¹ − 1 squared numbers of 4 bytes: nearly 2⁶⁴
    assert found.path == "stack.layers.a.ops"
    assert "loops" in found.expected
    assert found.got == "'native', which holds 16384.0 PiB besides input and output"
    spec.plan(Shape(1, 8, 8), Ops(pool="loops")).check_memory(4 * 2**30)


def test_many_adaptive_windows_are_planned_by_arithmetic():
    # 2³² rows by 2³¹ − 1 windows: listing them would take minutes and all memory
    spec = stack(
        grow=conv(1, 1, padding=[2**31 - 1, 0]),
        shrink={"kind": "pool", "output_size": [2**31 - 1, 1]},
    )
    begun = time.perf_counter()
    plan = spec.plan(Shape(1, 8, 8), Ops())
    assert time.perf_counter() - begun < 1
    assert plan.output == Shape(1, 2**31 - 1, 1)


def test_what_comes_out_of_nothing():
    plan = stack().plan(Shape(3, 4, 5), Ops())
    assert plan.output == Shape(3, 4, 5)
    assert plan.parameters == plan.cost == 0
    plan = stack(f={"kind": "flatten"}).plan(Shape(3, 4, 5), Ops())
    assert plan.output == Features(60)
