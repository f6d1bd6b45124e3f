"""Auto: who may be taken, who is tried, what is picked, and that it is told."""

import ast
import logging
import subprocess
import sys
from textwrap import dedent

import pytest
import torch

from runner import autograd
from runner.autograd import convolve, pool
from runner.choices import Choice, choices
from runner.config.errors import ConfigError
from runner.config.spec import check
from runner.functional import conv2d
from runner.geometry import ConvGeometry, PoolGeometry, Shape
from runner.job import Job
from runner.ops import Auto, Ops, conv_op, pool_op
from runner.ops import _choosing as choosing
from runner.ops._cases import FORWARD, INPUT, WEIGHT, ConvCase, PoolCase
from runner.ops.auto import AutoConv, AutoPool

WINDOW = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
HALVES = PoolGeometry((2, 2), (2, 2))


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """Nothing remembered, nothing told."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    choices.begin()
    autograd._named_conv.cache_clear()  # several tests' operators have one name
    yield
    choices.begin()


CONV = """
    import time
    from runner.ops import ConvOp, Gate
    import torch
    import torch.nn.functional as F

    class Timed(ConvOp):
        called = []
        gates = {{**ConvOp.gates, "float32": Gate({gate}, {gate})}}
        forward_time, input_time, weight_time = {times}

        def unsupported(self, geometry, dtype, device):
            return ["it knows no groups"] if geometry.groups > 1 else []

        def workspace(self, x, y, geometry):
            return {workspace} * (x.channels * x.height * x.width)

        def estimate(self, x, y, geometry):
            return {estimate}

        def forward(self, x, weight, bias, geometry):
            self.called.append("forward")
            time.sleep(self.forward_time)
            return F.conv2d(x, weight, bias, geometry.stride, geometry.padding[::2])

        def input_gradient(self, grad, weight, size, geometry):
            self.called.append("input gradient")
            time.sleep(self.input_time)
            shape = (len(grad), weight.shape[1], *size)
            g = geometry
            return torch.nn.grad.conv2d_input(shape, weight, grad, g.stride, g.padding[::2])

        def weight_gradient(self, grad, x, geometry):
            self.called.append("weight gradient")
            time.sleep(self.weight_time)
            shape, g = (grad.shape[1], x.shape[1], *geometry.kernel), geometry
            return torch.nn.grad.conv2d_weight(x, shape, grad, g.stride, g.padding[::2])
"""


@pytest.fixture
def add(entry):
    """Puts a convolution on the menu that takes as long as it is told to."""

    def add(name, times=(0, 0, 0), gate=1e-6, estimate=0, workspace=0):
        facts = {"times": times, "gate": gate, "estimate": estimate, "workspace": workspace}
        entry("runner.ops", name, dedent(CONV).format(**facts))
        op = conv_op(name)
        op.called.clear()
        return op

    return add


def tensors(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 8, 9, generator=generator, dtype=dtype)
    return x, torch.randn(4, 3, 3, 3, generator=generator, dtype=dtype)


def auto(*allow, **settings):
    """An auto that has chosen nothing yet, and measures everything."""
    return AutoConv(Auto(allow=allow or None, **{"measure_from": 0, **settings}))


def picked() -> dict[str, str]:
    return {choice.computation: choice.picked for choice in choices.made}


SLOW = (0.02, 0.02, 0.02)


class TestMeasured:
    def test_the_fastest_is_picked_and_its_time_is_known(self, add):
        add("quick")
        add("slow", SLOW)
        x, weight = tensors()
        y = convolve(auto("slow", "quick"), x, weight, None, WINDOW)
        torch.testing.assert_close(y, convolve(conv_op("loops"), x, weight, None, WINDOW))
        (choice,) = choices.made
        assert (choice.picked, choice.why, choice.batch) == ("quick", "measured", 2)
        assert choice.layer == "conv 3×8×9 → 4, 3×3, padding 1"
        assert choice.seconds["slow"] >= 0.02 > choice.seconds["quick"]

    def test_once_for_a_case(self, add):
        op = add("quick")
        add("slow", SLOW)
        x, weight = tensors()
        subject = auto("slow", "quick")
        convolve(subject, x, weight, None, WINDOW)
        op.called.clear()
        for _ in range(3):
            convolve(subject, x, weight, None, WINDOW)
        assert op.called == ["forward"] * 3
        assert len(choices.made) == 1
        convolve(subject, x[:1], weight, None, WINDOW)
        assert len(choices.made) == 2

    def test_each_computation_by_itself(self, add):
        one = add("one", (0, 0.02, 0))
        other = add("other", (0.02, 0, 0.02))
        drawn = [t.requires_grad_() for t in tensors(torch.float64)]
        subject = auto("one", "other")
        y = convolve(subject, *drawn, None, WINDOW)
        assert picked() == {FORWARD: "one", INPUT: "other", WEIGHT: "one"}
        one.called.clear()
        other.called.clear()
        grads = torch.autograd.grad(y.sin().sum(), drawn)
        assert (one.called, other.called) == (["weight gradient"], ["input gradient"])
        expected = convolve(conv_op("loops"), *drawn, None, WINDOW)
        torch.testing.assert_close(y, expected)
        right = torch.autograd.grad(expected.sin().sum(), drawn)
        torch.testing.assert_close(grads, right)

    def test_only_what_will_be_computed(self, add):
        add("quick")
        add("slow", SLOW)
        x, weight = tensors()
        convolve(auto("slow", "quick"), x, weight.requires_grad_(), None, WINDOW)
        assert picked() == {FORWARD: "quick", WEIGHT: "quick"}
        choices.begin()
        with torch.no_grad():
            convolve(auto("slow", "quick"), x, weight, None, WINDOW)
        assert picked() == {FORWARD: "quick"}

    def test_one_operator_for_all_takes_the_call_itself(self, add):
        op = add("quick")
        add("slow", SLOW)
        x, weight = tensors()
        subject = auto("slow", "quick")
        assert subject.pick(x, weight.requires_grad_(), WINDOW) is op
        assert subject.pick(x, weight, WINDOW) is op

    def test_several_leave_the_call_to_auto(self, add):
        add("forth", (0, 0.02, 0.02))
        add("back", (0.02, 0, 0))
        x, weight = tensors()
        subject = auto("forth", "back")
        assert subject.pick(x, weight.requires_grad_(), WINDOW) is subject

    def test_randomness_is_left_alone(self, add):
        add("quick")
        add("slow", SLOW)
        before = torch.get_rng_state()
        convolve(auto("slow", "quick"), *tensors(), None, WINDOW)
        assert torch.equal(torch.get_rng_state(), before)

    def test_one_that_fails_is_left_out_and_not_remembered(self, add, caplog, tmp_path):
        op = add("quick")
        add("slow", SLOW)
        op.forward_time = "much"  # no number: sleeping raises
        with caplog.at_level(logging.INFO):
            convolve(auto("slow", "quick"), *tensors(), None, WINDOW)
        assert picked() == {FORWARD: "slow"}
        assert "auto leaves quick out" in caplog.text
        assert not (tmp_path / "cache" / "auto.jsonl").exists()

    def test_a_traced_call_is_not_timed(self, add):
        op = add("quick")
        add("slow", SLOW)
        with torch._subclasses.FakeTensorMode() as mode:
            x, weight = (mode.from_tensor(t) for t in tensors())
            assert convolve(auto("slow", "quick"), x, weight, None, WINDOW).shape == (2, 4, 8, 9)
        assert op.called == []

    def test_a_batch_of_none(self):
        x, weight = tensors()
        assert convolve(auto(), x[:0], weight, None, WINDOW).shape == (0, 4, 8, 9)


class TestDecision:
    @pytest.mark.parametrize(
        ("seconds", "expected"),
        [
            ({"native": 1.0, "a": 0.95, "b": 2.0}, "native"),  # noise could be that much
            ({"native": 1.0, "a": 0.85, "b": 0.8}, "b"),
            ({"native": 120e-6, "a": 20e-6}, "native"),  # less than it takes to call another
            ({"native": 3e-3, "a": 2e-3}, "a"),
            ({"a": 1.0, "b": 0.99}, "b"),
        ],
    )
    def test_native_unless_another_is_clearly_faster(self, seconds, expected):
        assert choosing._fastest(seconds) == expected

    @pytest.mark.parametrize(
        ("estimates", "expected"),
        [
            ({"native": 1.0, "a": 0.1}, "a"),
            ({"native": 1.0, "a": 0.6}, "native"),  # estimates aren't that exact
            ({"native": 1.5e-4, "a": 0.6e-4}, "native"),  # tiny
            ({"native": 0.0, "a": 0.1}, "native"),  # nothing known
            ({"native": 1.0, "a": 0.0}, "native"),
            ({"b": 1.0, "a": 0.1}, "a"),
            ({"b": 0.0, "a": 0.0}, "b"),
        ],
    )
    def test_below_what_is_measured(self, estimates, expected):
        assert choosing._by_rule(estimates) == expected

    def test_small_calls_go_by_rule(self, add):
        op = add("quick", estimate=1e-9)
        add("other", estimate=1.5e-9)
        subject = auto("other", "quick", measure_from=10**9)
        convolve(subject, *tensors(), None, WINDOW)
        assert op.called == ["forward"]
        (choice,) = choices.made
        assert (choice.picked, choice.why, choice.seconds) == (
            "quick", "too little to measure", {},
        )  # fmt: skip


QUIET, LOADED = {"native": 62e-5, "direct": 50e-5}, {"native": 76e-3, "direct": 50e-5}


class TestNoise:
    """What one pass finds is not believed at once."""

    @pytest.fixture
    def passes(self, monkeypatch):
        """Gives these times, pass by pass; who is timed in each is listed."""

        def give(*found):
            left, asked = list(found), []

            def one(case, tried):
                asked.append(set(tried))
                return {n: s for n, s in left.pop(0).items() if n in tried}, {}

            monkeypatch.setattr(choosing, "_pass", one)
            return asked

        return give

    def measure(self, estimates):
        return choosing._measure(None, dict.fromkeys(estimates), estimates)

    def picked(self, estimates):
        return choosing._fastest(self.measure(estimates).seconds)

    KNOWN = {"native": 5e-4, "direct": 4e-3}  # noqa: RUF012  # never changed

    def test_passes_that_disagree_are_made_again(self, passes):
        asked = passes(LOADED, QUIET, QUIET, QUIET)
        found = self.measure(self.KNOWN)
        assert (found.seconds, found.steady) == (QUIET, True)
        assert len(asked) == 4

    def test_two_that_agree_are_enough(self, passes):
        asked = passes(QUIET, QUIET)
        assert self.measure(self.KNOWN).steady
        assert len(asked) == 2

    def test_none_that_agree_are_too_noisy(self, passes):
        passes(LOADED, QUIET, LOADED, QUIET)
        found = self.measure(self.KNOWN)
        assert (found.seconds, found.steady) == (QUIET, False)

    def test_native_gives_way_only_to_what_is_faster_twice(self, passes):
        once, never = {"native": 1.0, "a": 0.8}, {"native": 1.0, "a": 0.95}
        for found, expected in (((once, never), "native"), ((never, once), "native"),
                                ((once, once), "a")):  # fmt: skip
            passes(*found)
            assert self.picked({"native": 1.0, "a": 1.0}) == expected

    def test_what_is_far_behind_is_timed_again_only_against_its_estimate(self, passes):
        found = {"a": 1e-3, "b": 0.05, "c": 0.03, "d": 1.0}
        asked = passes(found, found)
        # b, 50 times as slow, should be twice: 25 times off; c 15 times; of d nothing is known
        measured = self.measure({"a": 1e-3, "b": 2e-3, "c": 2e-3, "d": 0.0})
        assert asked == [{"a", "b", "c", "d"}, {"a", "b"}]
        assert not measured.steady

    def test_a_load_that_outlasts_all_passes_is_seen_by_the_estimates(self, passes):
        passes(*[{"native": 0.9, "a": 0.03}] * 2)  # 30 times as slow as a
        assert not self.measure({"native": 0.01, "a": 0.03}).steady
        passes(*[{"native": 0.9, "a": 0.03}] * 2)
        assert self.measure({"native": 0.06, "a": 0.03}).steady

    def test_a_clear_win_takes_one_pass(self, passes):
        asked = passes({"a": 1e-3, "b": 3e-3})
        assert self.measure({"a": 1e-3, "b": 2e-3}).steady
        assert len(asked) == 1

    def test_what_is_too_noisy_is_said_and_not_remembered(self, add, passes, tmp_path):
        add("a")
        loud = {"a": 1e-3, "native": 0.1}
        passes(loud, {**loud, "native": 0.01}, loud, {**loud, "native": 0.01})
        convolve(auto("a", "native"), *tensors(), None, WINDOW)
        (choice,) = choices.made
        assert (choice.picked, choice.why) == ("a", "measured, too noisy to remember")
        assert not (tmp_path / "cache" / "auto.jsonl").exists()


class TestWhoIsTried:
    def test_what_cant_win_by_estimate_is_not(self, add):
        add("quick", estimate=1e-3)
        near, far = add("near", estimate=2.9e-3), add("far", estimate=3.1e-3)
        convolve(auto("quick", "near", "far"), *tensors(), None, WINDOW)
        assert set(choices.made[0].seconds) == {"quick", "near"}
        assert near.called
        assert not far.called

    def test_what_is_unknown_is(self, add):
        add("quick", estimate=1e-3)
        add("unknown")
        convolve(auto("quick", "unknown"), *tensors(), None, WINDOW)
        assert set(choices.made[0].seconds) == {"quick", "unknown"}

    def test_native_always_is_as_the_yardstick(self, add):
        add("quick", estimate=1e-12)
        convolve(auto("quick", "native"), *tensors(), None, WINDOW)
        assert set(choices.made[0].seconds) == {"quick", "native"}

    def test_the_only_one_left_is_not_timed(self, add):
        op = add("quick", estimate=1e-3)
        convolve(auto("quick"), *tensors(), None, WINDOW)
        assert op.called == ["forward"]
        assert choices.made[0].why == "the only one allowed"

    def test_why_one_is_alone(self, add):
        add("quick", estimate=1e-3)
        add("far", estimate=1.0)
        add("rough", gate=1.0)
        for allow, why in (
            (("quick", "far"), "no other comes near"),
            (("quick", "rough"), "no other can"),
            (("loops",), "the only one allowed"),
        ):
            choices.begin()
            convolve(auto(*allow), *tensors(), None, WINDOW)
            assert choices.made[0].why == why

    def test_a_users_own_operator_takes_part_and_loops_doesnt(self, add):
        add("quick")
        subject = auto()
        convolve(subject, *tensors(), None, WINDOW)
        (choice,) = choices.made
        assert {"quick", "native"} <= set(choice.seconds)
        assert not {"loops", "auto"} & set(choice.seconds)


class TestAccuracy:
    def test_one_that_is_not_exact_enough_is_never_taken(self, add):
        op = add("rough", gate=1.5e-5)
        convolve(auto("rough", "native"), *tensors(), None, WINDOW)
        assert (picked(), op.called) == ({FORWARD: "native"}, [])

    def test_unless_the_bound_is_as_loose(self, add):
        add("rough", gate=1.5e-5)
        add("slow", SLOW)
        convolve(auto("rough", "slow", accuracy=1.5e-5), *tensors(), None, WINDOW)
        assert picked() == {FORWARD: "rough"}

    def test_a_bound_below_all_is_refused(self):
        _, problems = check(Ops, {"auto": {"accuracy": 1e-9}}, "ops")
        assert [p.path for p in problems] == ["ops.auto.accuracy"]
        assert "1e-06" in problems[0].expected
        assert min(op.gates["float32"].relative for op in auto()._able(
            Shape(1, 9, 9), Shape(1, 9, 9), WINDOW, "float32", "cpu").values()) == 1e-6  # fmt: skip

    def test_it_says_so(self, add):
        add("rough", gate=1.5e-5)
        assert auto("rough").unsupported(WINDOW, "float32", "cpu") == [
            "rough: its error in float32 is up to 1.5e-05, more than ops.auto.accuracy, 2e-06"
        ]
        assert auto("rough", accuracy=1e-4).unsupported(WINDOW, "float32", "cpu") == []

    def test_in_other_types_plain_summation_is_the_bound(self, add):
        add("rough", gate=1.5e-5)
        assert auto("rough").unsupported(WINDOW, "float64", "cpu") == []
        op = conv_op("rough")
        op.gates = {**op.gates, "float64": op.gates["float32"]}
        (reason,) = auto("rough", accuracy=1).unsupported(WINDOW, "float64", "cpu")
        assert "more than plain summation's, 1e-12" in reason

    def test_auto_is_as_exact_as_the_least_exact_that_it_may_take(self, add):
        add("rough", gate=1.5e-5)
        assert auto("rough", "native", accuracy=1e-4).gates["float32"].relative == 1.5e-5
        assert auto("rough", "native").gates["float32"].relative == 1e-6
        assert auto().gates["float32"].relative <= Auto().accuracy


class TestAllowed:
    def test_nothing_else_is_taken(self, add):
        add("slow", SLOW)
        convolve(auto("slow"), *tensors(), None, WINDOW)
        assert picked() == {FORWARD: "slow"}

    def test_none_that_can_is_an_error_that_names_the_fix(self, add):
        add("quick")
        raw = {
            "task": {"kind": "forward"},
            "data": {"kind": "tensor", "values": [[[1.0, 2.0], [3.0, 4.0]]] * 2},
            "stack": {"layers": {"a": {"kind": "conv", "channels": 2, "kernel": 1, "groups": 2}}},
            "ops": {"conv": "auto", "auto": {"allow": ["quick"]}},
        }
        with pytest.raises(ConfigError) as caught:
            Job.parse(raw).plan()
        (problem,) = caught.value.problems
        assert problem.path == "ops.auto.allow"
        assert problem.expected.startswith(
            "also an operator that can compute stack.layers.a (direct, fft, im2col, loops, native"
        )
        assert "quick" not in problem.expected
        assert problem.got == "[quick], which can't: quick: it knows no groups"
        assert problem.hint == "Add native."

    def test_an_operator_without_pooling(self, add):
        add("quick")
        subject = AutoPool(Auto(allow=("quick",)))
        assert subject.unsupported(HALVES, "max", "float32", "cpu") == ["quick: it has no pooling"]

    @pytest.mark.parametrize("allow", [[], ["auto"], ["native", "auto"], "native", 3, {}])
    def test_what_is_no_list_of_others_is_refused(self, allow):
        _, problems = check(Ops, {"auto": {"allow": allow}}, "ops")
        assert [p.path for p in problems] == ["ops.auto.allow"]
        assert problems[0].expected.startswith("a list of operators, without auto itself")

    def test_typing_errors_are_answered(self):
        _, problems = check(Ops, {"auto": {"allow": ["nativ"], "acuracy": 1}}, "ops")
        hints = {problem.path: problem.hint for problem in problems}
        assert hints == {
            "ops.auto.allow[0]": "Did you mean 'native'?",
            "ops.auto.acuracy": "Did you mean 'accuracy'?",
        }


class TestMemory:
    X, Y = Shape(3, 8, 8), Shape(3, 8, 8)

    def test_one_that_holds_much_is_not_taken_unasked(self, add):
        op = add("greedy", workspace=10_000)
        subject = auto()
        convolve(subject, *tensors(), None, WINDOW)
        assert op.called == []
        assert subject.workspace(self.X, self.Y, WINDOW) < 10_000 * 192

    def test_what_it_could_take_is_planned_for(self, add):
        add("modest", workspace=5)
        add("greedy", workspace=10_000)
        # 5 · 3 · 8 · 8 numbers; loops isn't among them, and the others that may be hold less
        assert auto("modest", "native").workspace(self.X, self.Y, WINDOW) == 960
        assert auto("greedy", "native").workspace(self.X, self.Y, WINDOW) == 1_920_000

    def held(self, subject, x, y):
        return subject.workspace(x, y, WINDOW) + subject.scratch(x, y, WINDOW)

    def test_native_is_left_out_of_large_images_with_few_channels(self):
        # There native holds 16 channels for one: 8 times input and output.
        x = Shape(1, 7000, 7000)
        assert conv_op("native").scratch(x, x, WINDOW) == 16 * 7000**2
        assert self.held(auto(), x, x) <= 4 * 2 * 7000**2
        assert self.held(auto("native"), x, x) == 16 * 7000**2

    @pytest.mark.parametrize("x", [Shape(64, 800, 800), Shape(1, 512, 512)], ids=str)
    def test_native_stays_where_it_holds_little(self, x):
        assert "native" in auto()._able(x, x, WINDOW, "float32", "cpu")

    def test_native_stays_where_nothing_lean_is_known_to_be_faster(self, add):
        among = auto()._among
        able = {"native": conv_op("native"), "unknown": add("unknown")}
        held = {able["native"]: 8 * 10**8, able["unknown"]: 10**8}

        def kept(native, unknown):
            seconds = {able["native"]: native, able["unknown"]: unknown}
            return list(among.lean(able, held.__getitem__, seconds.__getitem__, 10**8))

        assert kept(native=1.0, unknown=0.0) == ["native", "unknown"]
        assert kept(native=1.0, unknown=2.0) == ["native", "unknown"]
        assert kept(native=2.0, unknown=1.0) == ["unknown"]


class TestParts:
    def test_what_is_hopeless_on_a_small_part_is_not_tried_on_a_large_one(self, add):
        quick, slow = add("quick"), add("slow", SLOW)
        # 2 · 1000² numbers are beyond a 32nd of 1.6e7: there is a sketch.
        x, weight = torch.ones(1, 1, 1000, 1000), torch.ones(1, 1, 3, 3)
        slow.forward_time = 0.5
        convolve(auto("slow", "quick"), x, weight, None, WINDOW)
        # Once to warm up, once to be timed; the quick one three times, and for the call itself.
        assert len(slow.called) == 2
        assert len(quick.called) == 5
        # 16 rows of 1000 at least, as many as a 32nd of 1.6e7 numbers gives: 250 of 1000
        assert choices.made[0].seconds["slow"] == pytest.approx(4 * 0.5, rel=0.2)

    def test_a_large_image_is_tried_on_some_rows(self):
        x = Shape(1, 4096, 4096)
        case = ConvCase(FORWARD, 1, x, x, WINDOW, "float32", "cpu", 1, False)
        part = case.within_reach()
        # 2 numbers a pixel, at most 1.6e7 in all: 1953.1 rows of 4096
        assert (part.x, part.y) == (Shape(1, 1954, 4096), Shape(1, 1954, 4096))
        assert (part.batch, part.geometry) == (1, WINDOW)

    def test_a_large_batch_is_tried_on_some_examples(self):
        x, y = Shape(64, 112, 112), Shape(64, 56, 56)
        case = PoolCase("forward", 32, x, y, HALVES, "float32", "cpu", 1, False, "max")
        part = case.within_reach()
        # 1,003,520 numbers an example: 15 are within 1.6e7
        assert (part.batch, part.x, part.y) == (15, x, y)

    def test_not_fewer_examples_than_threads(self):
        x, y = Shape(256, 112, 112), Shape(256, 112, 112)
        case = ConvCase(FORWARD, 8, x, y, WINDOW, "float32", "cpu", 4, False)
        part = case.within_reach()
        assert part.batch == 4
        assert part.x.height == part.y.height < 112

    def test_adaptive_windows_keep_their_rows(self):
        x, y, window = Shape(1, 4096, 4096), Shape(1, 7, 7), PoolGeometry(output=(7, 7))
        case = PoolCase("forward", 2, x, y, window, "float32", "cpu", 1, False, "avg")
        part = case.within_reach()
        assert (part.batch, part.x, part.y) == (1, x, y)

    def test_what_is_small_is_tried_as_it_is(self):
        x = Shape(1, 64, 64)
        case = ConvCase(FORWARD, 3, x, x, WINDOW, "float32", "cpu", 1, False)
        assert case.within_reach() is case


POOL = """
    import time
    from runner.ops import PoolOp
    from runner.ops import pool_op

    class Timed(PoolOp):
        def indices(self, mode, geometry):
            return {indices!r}

        def forward(self, x, mode, geometry):
            time.sleep({forward})
            return pool_op("native").forward(x, mode, geometry)

        def forward_with_indices(self, x, mode, geometry):
            y, indices = pool_op("native").forward_with_indices(x, mode, geometry)
            # Its own meaning: counted from one.
            return y, (indices + 1).int()

        def input_gradient(self, grad, x, indices, size, mode, geometry):
            time.sleep({gradient})
            native = pool_op("native")
            if indices is not None:
                return native.input_gradient(grad, None, indices.long() - 1, size, mode, geometry)
            return pool_op("loops").input_gradient(grad, x, None, size, mode, geometry)
"""


class TestPooling:
    @pytest.fixture
    def two(self, entry):
        """The first is fast forward alone, the second with its gradient."""
        facts = {"forward": 0, "gradient": 0.03, "indices": "int32"}
        entry("runner.ops", "forth", dedent(POOL).format(**facts))
        facts = {"forward": 0.01, "gradient": 0, "indices": "int32"}
        entry("runner.ops", "back", dedent(POOL).format(**facts))
        return AutoPool(Auto(allow=("forth", "back"), measure_from=0))

    def test_the_gradient_comes_from_the_operator_of_the_indices(self, two):
        x = tensors(torch.float64)[0].requires_grad_()
        y = pool(two, x, "max", HALVES)
        (grad,) = torch.autograd.grad(y.sin().sum(), x)
        expected = pool(pool_op("loops"), x, "max", HALVES)
        torch.testing.assert_close(grad, *torch.autograd.grad(expected.sin().sum(), x))
        assert picked() == {"forward and gradient": "back"}

    def test_without_a_gradient(self, two):
        pool(two, tensors()[0], "max", HALVES)
        assert picked() == {"forward": "forth"}

    def test_a_traced_call_pools_anew(self, two):
        x = tensors(torch.float64)[0]
        assert two.indices("max", HALVES) is None
        grad = torch.ones(2, 3, 4, 4, dtype=torch.float64)
        found = two.input_gradient(grad, x, None, (8, 9), "max", HALVES)
        right = pool_op("loops").input_gradient(grad, x, None, (8, 9), "max", HALVES)
        assert torch.equal(found, right)


SMALL = """
import sys, torch
from runner.choices import choices
from runner.functional import conv2d

conv2d(torch.ones(1, 8, 12, 12, requires_grad=True), torch.ones(8, 8, 3, 3), op="auto")
print([(c.computation, c.picked, c.why) for c in choices.made])
print([name for name in ("numba", "triton") if name in sys.modules])
"""

REMEMBERING = """
import torch
from runner.autograd import convolve
from runner.choices import choices
from runner.geometry import ConvGeometry
from runner.ops import Auto, conv_op

op = conv_op("auto", Auto(allow=("native", "loops"), measure_from=0))
convolve(op, torch.ones(1, 1, 5, 5), torch.ones(1, 1, 3, 3), None, ConvGeometry((3, 3)))
print([(c.picked, c.seconds) for c in choices.made])
print([c.why for c in choices.made])
"""


def in_a_process(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [ast.literal_eval(line) for line in done.stdout.splitlines()]


class TestProcesses:
    def test_a_small_call_imports_and_writes_nothing(self, tmp_path):
        made, heavy = in_a_process(SMALL)
        why = "too little to measure"
        assert made == [(FORWARD, "native", why), (INPUT, "native", why)]
        assert heavy == []
        assert not (tmp_path / "cache").exists()

    def test_what_one_measured_another_remembers(self):
        (first, measured), (second, remembered) = (
            in_a_process(REMEMBERING),
            in_a_process(REMEMBERING),
        )
        assert (measured, remembered) == (["measured"], ["remembered"])
        assert first == second


class TestTold:
    def test_a_line_in_the_log(self, add, caplog):
        add("quick")
        add("slow", SLOW)
        with caplog.at_level(logging.INFO, "runner.ops"):
            convolve(auto("slow", "quick"), *tensors(), None, WINDOW)
        (line,) = [r.getMessage() for r in caplog.records]
        assert line.startswith(
            "auto: conv 3×8×9 → 4, 3×3, padding 1, batch 2, forward: quick "
        )  # fmt: skip
        assert "slow " in line
        assert line.endswith("(measured)")

    def test_once_per_run(self, add):
        add("quick")
        x, weight = tensors()
        subject = auto("quick")
        for _ in range(2):
            choices.begin()
            for _ in range(2):
                convolve(subject, x, weight, None, WINDOW)
                convolve(subject, x, weight.requires_grad_(), None, WINDOW)
                weight.requires_grad_(False)
            assert picked() == {FORWARD: "quick", WEIGHT: "quick"}
            assert len(choices.made) == 2

    def test_conv2d_takes_it_by_name(self):
        x, weight = tensors()
        torch.testing.assert_close(conv2d(x, weight, op="auto"), conv2d(x, weight, op="loops"))


def told(*made: Choice) -> list[str]:
    choices.begin()
    choices.made.extend(made)
    return choices.summary()


class TestSummary:
    LAYER = "conv 1×9×9 → 2, 3×3"
    SECONDS = {"native": 32.1e-4, "direct": 4.04e-4, "fft": 5e-3}  # noqa: RUF012  # never changed

    def choice(self, computation=FORWARD, picked="direct", seconds=None, why="measured", batch=8):
        seconds = self.SECONDS if seconds is None else seconds
        return Choice(self.LAYER, batch, computation, picked, seconds, why)

    def test_the_pick_and_the_next(self):
        assert told(self.choice()) == [
            "auto  conv 1×9×9 → 2, 3×3: direct 400 µs, native 3.2 ms (measured)"
        ]

    def test_a_rule_is_said_once_for_all_that_it_decided(self):
        rule = {"picked": "native", "seconds": {}, "why": "too little to measure"}
        assert told(self.choice(**rule), self.choice(INPUT, **rule)) == [
            "auto  conv 1×9×9 → 2, 3×3: native (too little to measure)"
        ]

    def test_gradients_follow(self):
        assert told(self.choice(WEIGHT, "native"), self.choice()) == [
            "auto  conv 1×9×9 → 2, 3×3: direct 400 µs, native 3.2 ms; "
            "weight gradient native 3.2 ms, direct 400 µs (measured)"
        ]

    def test_other_batches_are_told_of_where_they_differ(self):
        batches = {"direct": (64, 32), "native": (20, 10, 5)}
        rule = {"seconds": {}, "why": "a rule"}
        made = [self.choice(picked=p, batch=b, **rule) for p, many in batches.items() for b in many]
        layer = "auto  conv 1×9×9 → 2, 3×3"
        assert told(*made) == [f"{layer}: direct; native up to 20 at once (a rule)"]
        assert told(*made, self.choice(picked="fft", batch=3, **rule)) == [
            f"{layer}: direct; native or fft up to 20 at once (a rule)"
        ]
        assert told(self.choice(), self.choice(batch=3), self.choice(batch=1, picked="fft")) == [
            f"{layer}: direct 400 µs, native 3.2 ms; fft up to 1 at once (measured)"
        ]

    def test_remarks_follow(self):
        choices.begin()
        choices.made.append(self.choice())
        for _ in range(2):
            choices.remark("can't remember")
        assert choices.summary()[1:] == ["auto  can't remember"]
        choices.begin()
        assert choices.summary() == []

    def test_a_long_list_is_cut(self):
        made = [Choice(f"conv {i}", 1, FORWARD, "native", {}, "a rule") for i in range(40)]
        lines = told(*made)
        assert len(lines) == 13
        assert lines[-1] == "auto  … and 28 more layers, in run.log"
        assert len(told(*made[:13])) == 13
