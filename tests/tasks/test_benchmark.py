"""The benchmark: its cases, its judgement, its arithmetic; times themselves can't be foretold."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import perf_counter, sleep
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from bare_run import composed

import runner
from runner.config.errors import ConfigError
from runner.geometry import Shape
from runner.ops import Gate, Ops
from runner.ops.loops import LoopsConv
from runner.plan import Plan
from runner.tasks import _benchmark_reference, _benchmark_report
from runner.tasks._benchmark_cases import Case, cases, contenders
from runner.tasks._benchmark_reference import reference
from runner.tasks._benchmark_report import Entry
from runner.tasks._benchmark_subjects import Bench, Subject, Verdict
from runner.tasks._benchmark_timing import SHARE, Statistics, clock, peak, rounds
from runner.tasks._roofline import OFTEN, TIMES, Roofs
from runner.tasks._verify_case import Case as VerifyCase
from runner.tasks._verify_reference import computed
from runner.tasks._yardsticks import missing
from runner.tasks.benchmark import Benchmark

CONV = "{input: [1, 1, 8, 8], layer: {kind: conv, channels: 1, kernel: 3}}"


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=benchmark", *words)
    return str(caught.value)


def found(*words: str) -> list[Case]:
    """The cases that these words on the command line stand for."""
    job = composed(*words)
    assert isinstance(job.task, Benchmark)
    return cases(job.task.cases, job.plan(), job.task.only)


def one(size: str, layer: str, dtype: str = "float32") -> Case:
    """A case of one's own."""
    mine = yaml.safe_load(f"{{input: {size}, layer: {layer}}}")
    task = Benchmark(kind="benchmark", cases={"mine": mine})  # type: ignore[dict-item]  # as YAML
    (case,) = cases(task.cases, Plan(Shape(1, 1, 1), (), 1, dtype), None)
    return case


class TestCases:
    def test_the_suite_has_what_it_promises(self) -> None:
        suite = {case.name: case for case in found("task=benchmark")}
        assert len(suite) == 23
        assert str(suite["edge-512"]) == (
            "conv 3×3 padding 1 · 1×1×512×512 → 1×512×512 · 2.4 M mult-adds"
        )
        assert suite["rgb"].window == "conv 3×3 padding 1 depthwise"
        # 32 · 64 · 28² outputs of 9 numbers each.
        assert str(suite["maxpool3"]) == (
            "max pool 3×3 stride 2×2 padding 1 · 32×64×56×56 → 64×28×28 · 14.5 M numbers looked at"
        )

    def test_names_are_picked_by_pattern(self) -> None:
        picked = [case.name for case in found("task=benchmark", "task.only=[lenet?, blur-*]")]
        assert picked == ["blur-512", "blur-2048", "blur-4096", "lenet1", "lenet2"]

    def test_a_stack_s_layers_become_cases(self) -> None:
        layers = found("task=benchmark_stack", "stack=lenet", "data.images=5")
        assert [case.name for case in layers] == ["conv1", "pool1", "conv2", "pool2"]
        assert [case.batch for case in layers] == [5] * 4
        assert str(layers[2].x) == "6×14×14"

    def test_layers_inside_containers_too(self) -> None:
        words = ("stack=resnet18", "data.height=96", "data.width=96", "task.only=[*.conv1]")
        names = [case.name for case in found("task=benchmark_stack", *words)]
        assert len(names) == 8
        assert all(name.endswith(".conv1") for name in names)

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (
                (f"+task.cases.mine={CONV.replace('kernel', 'kernl')}",),
                "task.cases.mine.layer.kernl: expected one of",
            ),
            (
                ("+task.cases.mine={input: [1, 1, 8, 8], layer: {kind: linear, features: 3}}",),
                "task.cases.mine.layer.kind: expected one of conv, pool, got 'linear'",
            ),
            (
                (f"+task.cases.mine={CONV.replace('kernel: 3', 'kernel: 9')}",),
                "task.cases.mine.layer.kernel: expected height at most 8",
            ),
            (
                (f"+task.cases.mine={CONV.replace('[1, 1, 8, 8]', '[1, 8, 8]')}",),
                "task.cases.mine.input: expected [examples, channels, height, width]",
            ),
            (
                (f"+task.cases.mine={CONV.replace('3}', '3, ops: fft}')}",),
                "task.cases.mine.layer.ops: expected nothing, got an operator. task.ops says",
            ),
            (
                (f"+task.cases.mine={CONV.replace('8, 8', '200000, 200000')}",),
                "task.cases.mine.input: expected a case that fits into task.memory_gib (3 GiB)",
            ),
            (("task.only=[edge-5l2]",), "task.only[0]: expected a name or a pattern that matches"),
            (("task.only=[edge-5l2]",), "Did you mean 'edge-512'?"),
            (
                (f"+task.cases.mine={CONV.replace('[1, 1, 8, 8]', '8')}",),
                "task.cases.mine.input: expected [examples, channels, height, width], got 8.",
            ),
            (("task.only=[]",), "task.only: expected at least 1 entry, got []."),
            (("task.only=[1]",), "task.only[0]: expected text, got 1."),
            (("task.repeats=1e2",), "task.repeats: expected an integer, got 100.0. Write 100."),
            (("task.ops=[drect]",), "Did you mean 'direct'?"),
            (
                ("task.ops=[winograd]", "task.only=[blur-512, lenet1]"),
                "task.ops[0]: expected an operator for one of the cases (blur-512, lenet1), "
                "got 'winograd', which can't: ",
            ),
            (("task.passes=[backward]",), "task.passes"),
            (("stack=lenet",), "Use task=benchmark_stack"),
            (("task.cases=null",), "stack.layers: expected a conv or pool layer"),
        ],
    )
    def test_mistakes_are_told_by_path(self, words: tuple[str, ...], message: str) -> None:
        assert message in complaint(*words)

    def test_every_bad_case_is_told_at_once(self) -> None:
        bad = CONV.replace("kernel", "kernl")
        said = complaint(f"+task.cases.one={bad}", f"+task.cases.two={bad}")
        assert "task.cases.one.layer.kernl" in said
        assert "task.cases.two.layer.kernl" in said

    def test_an_operator_that_needs_too_much_memory_is_left_out(self) -> None:
        case = one("[1, 1, 512, 512]", "{kind: conv, channels: 1, kernel: 31}")
        able, out = contenders(case, ["im2col", "fft"], Ops(), "cpu", 2**40)
        assert (able, out) == (["native", "im2col", "fft"], {})
        # Its matrix alone has 31² · 482² numbers: 852 MiB.
        able, out = contenders(case, ["im2col", "fft"], Ops(), "cpu", 2**28)
        assert able == ["native", "fft"]
        assert "MiB" in out["im2col"]

    def test_an_operator_that_cannot_is_left_out_with_its_reason(self) -> None:
        case = one("[1, 1, 8, 8]", "{kind: pool, kernel: 2}")
        able, out = contenders(case, None, Ops(), "cpu", 2**30)
        assert {"native", "direct"} <= set(able)
        assert not {"loops", "fft"} & set(able)
        assert not out, "nobody asked for fft"
        able, out = contenders(case, ["fft", "loops"], Ops(), "cpu", 2**30)
        assert (able, out) == (["native", "loops"], {"fft": "it has no pooling"})


# Each with what the banded reference could get wrong: padding, stride, the last rows, groups.
LAYERS = [
    ("[2, 3, 9, 7]", "{kind: conv, channels: 4, kernel: 3}"),
    ("[2, 3, 9, 7]", "{kind: conv, channels: 4, kernel: [2, 3], padding: [0, 2, 1, 0], stride: 2}"),
    ("[1, 4, 11, 8]", "{kind: conv, channels: 6, kernel: 3, groups: 2, dilation: [2, 1]}"),
    ("[1, 2, 9, 9]", "{kind: conv, channels: 2, kernel: 5, padding: 2, pad_mode: reflect}"),
    (
        "[1, 2, 9, 9]",
        "{kind: conv, channels: 2, kernel: [1, 3], padding: [0, 1], pad_mode: circular}",
    ),
    ("[1, 1, 6, 6]", "{kind: conv, weight: [[1, 2], [3, 5]], mode: convolution}"),
    ("[2, 3, 9, 7]", "{kind: pool, kernel: 3, stride: 2, padding: 1}"),
    ("[2, 3, 9, 7]", "{kind: pool, mode: avg, kernel: 2}"),
]


class TestReference:
    @pytest.mark.parametrize(("size", "layer"), LAYERS)
    @pytest.mark.parametrize("band", [1, 2_000, 2**26])
    def test_in_bands_it_is_what_the_definition_says(
        self, size: str, layer: str, band: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_benchmark_reference, "BAND", band)
        bench = Bench.of(one(size, layer), Ops(), "cpu", 0)
        with torch.no_grad():
            results, _ = reference(bench.module("native"), bench.x, bench.grad, gradients=True)
            module = bench.module("native").double()
            case = VerifyCase.of(module, bench.x.double(), bench.grad.double())
            expected = computed(case, "loops", gradients=True)
        assert results.keys() == expected.keys()
        for name, tensor in expected.items():
            assert results[name].dtype == torch.float64
            torch.testing.assert_close(results[name], tensor, rtol=1e-12, atol=1e-12)

    def test_without_gradients_there_is_the_output_alone(self) -> None:
        bench = Bench.of(one(*LAYERS[1]), Ops(), "cpu", 0)
        assert list(bench.reference(gradients=False)[0]) == ["forward"]

    def test_drawn_numbers_are_left_as_they_are(self) -> None:
        bench = Bench.of(one(*LAYERS[0], "float64"), Ops(), "cpu", 0)
        bench.reference(gradients=True)
        assert not bench.x.requires_grad


PASSES = ("forward", "both")


class TestJudgement:
    def judged(self, change: Callable[[torch.Tensor], torch.Tensor], which: str) -> Verdict:
        """The verdict on native, one of whose results is changed."""
        bench = Bench.of(one("[2, 3, 20, 20]", LAYERS[0][1]), Ops(), "cpu", 0)
        right = bench.operator("native")

        def both() -> tuple[torch.Tensor, ...]:
            results = dict(zip(["output", "input", "weight", "bias"], right.both(), strict=True))
            return tuple(change(t) if name == which else t for name, t in results.items())

        with torch.no_grad():
            return bench.check(replace(right, both=both), PASSES, bench.reference(gradients=True))

    def test_what_is_right_is_right(self) -> None:
        verdict = self.judged(lambda t: t, "output")
        assert not verdict.failure
        assert verdict.relative is not None and 1e-9 < verdict.relative < 1e-6

    @pytest.mark.parametrize("which", ["output", "input", "weight", "bias"])
    def test_one_wrong_number_is_seen(self, which: str) -> None:
        def off(t: torch.Tensor) -> torch.Tensor:
            t = t.clone()
            t.flatten()[0] += 1e-3 * t.abs().max()
            return t

        failure = self.judged(off, which).failure
        assert "is off by" in failure
        assert failure.startswith("forward" if which == "output" else f"{which} gradient")

    def test_one_number_that_hardly_moves_the_norm_is_seen(self) -> None:
        # Of 2,592 normal numbers the largest is about 4 and the norm 50: 8e-7 of that is let pass.
        def off(t: torch.Tensor) -> torch.Tensor:
            t = t.clone()
            t.flatten()[0] += 1e-5 * t.abs().max()
            return t

        verdict = self.judged(off, "output")
        assert verdict.relative is not None and verdict.relative < 1e-6
        assert verdict.failure.startswith("forward is off by")

    def test_a_wrong_shape_is_seen(self) -> None:
        assert (
            "shape 2×4×18×17, not 2×4×18×18" in self.judged(lambda t: t[..., 1:], "output").failure
        )

    def test_what_is_not_a_number_is_seen(self) -> None:
        assert self.judged(lambda t: t * math.nan, "weight").failure

    def test_an_operator_that_breaks_is_wrong(self) -> None:
        def broken(_: torch.Tensor) -> torch.Tensor:
            raise ValueError("no\nway")

        assert self.judged(broken, "input").failure == "ValueError: no"

    def test_long_sums_may_round_more(self) -> None:
        # u √n of a sum of 10,000 is 6e-6, six times the gate; of 4, less than it.
        case = one("[1, 1, 100, 100]", "{kind: conv, channels: 1, kernel: 1, bias: false}")
        bench = Bench.of(case, Ops(), "cpu", 0)
        right, gates = bench.reference(gradients=True), Gate(1e-6, 2e-6)

        def check(error: float, which: int) -> str:
            results = [right[0][name].float() for name in ("forward", "input_gradient")]
            results.append(right[0]["weight_gradient"].float())
            results[which] = results[which] * (1 + error)
            subject = Subject("x", lambda: results[0], lambda: tuple(results), gates)
            return bench.check(subject, ["both"], right).failure

        assert not check(4e-6, 2)
        assert check(4e-5, 2).startswith("weight gradient")
        assert check(4e-6, 1).startswith("input gradient")


class Script:
    """A clock that tells given times, and keeps what it was asked."""

    def __init__(self, seconds: dict[str, Sequence[float]]) -> None:
        self.left = {name: list(times) for name, times in seconds.items()}
        self.asked: list[tuple[str, float]] = []

    def __call__(self, call: Callable[[], object], least: float = 0.0) -> float:
        name = str(call())
        self.asked.append((name, least))
        return self.left[name].pop(0)

    def rounds(self, repeats: int) -> dict[str, list[float]]:
        calls = {name: (lambda name=name: name) for name in self.left}
        return rounds(calls, self, budget=0.0, repeats=repeats, seed=0, aside="copy")


class TestTiming:
    def test_all_are_measured_in_turns(self) -> None:
        script = Script({"native": [4.0] * 30, "a": [2.0] * 30, "b": [1.0] * 30})
        times = script.rounds(30)
        assert times == {"native": [4.0] * 30, "a": [2.0] * 30, "b": [1.0] * 30}
        order = [name for name, _ in script.asked]
        turns = {tuple(order[i : i + 3]) for i in range(0, 90, 3)}
        assert all(sorted(turn) == ["a", "b", "native"] for turn in turns)
        assert len(turns) == 6, "every order there is"

    def test_quick_calls_are_repeated_while_the_yardstick_is_slow(self) -> None:
        script = Script({"native": [4.0] * 2, "a": [1e-5] * 2})
        script.rounds(2)
        assert [least for _, least in script.asked] == [1e-3] * 2 + [4.0 * SHARE] * 2

    def test_the_hopeless_are_measured_once(self) -> None:
        # Five times the fastest is measured again; slower isn't, unless that takes next to no
        # time. The yardstick is needed in every round.
        seconds = {
            "native": [5.1] * 3, "slow": [5.0] * 3, "slower": [5.2, 5.1], "fast": [1.0] * 3,
            "copy": [1e-3] * 3, "stalled": [50.0, 2.0, 2.0, 2.0],
        }  # fmt: skip
        times = Script(seconds).rounds(3)
        assert times.pop("stalled") == [2.0] * 3, "it is asked again before it is given up"
        last = times.pop("slower")
        assert times == {name: seconds[name] for name in ("native", "slow", "fast", "copy")}
        assert last[0] == 5.1 and np.isnan(last[1:]).all()
        script = Script({"native": [1e-4] * 3, "slow": [1e-2] * 3})
        assert script.rounds(3)["slow"] == [1e-2] * 3

    def test_rounds_go_on_while_there_is_time(self) -> None:
        calls = {"native": lambda: sleep(0.01)}
        times = rounds(calls, clock("cpu"), budget=0.2, repeats=1, seed=0)["native"]
        assert 3 < len(times) <= 20

    def test_statistics(self) -> None:
        # Sorted, 1 2 3 4 5: quartiles 2 and 4, median 3. Ratios 2 2 3 2 4: quartiles 2 and 3.
        found = Statistics.of([5, 1, 2, 4, 3], [10, 2, 6, 8, 12])
        # The yardstick's median is 8.
        assert found == Statistics(5, 3.0, (4 - 2) / 3, 8 / 3, 2.0, (3 - 2) / 2)
        assert found.noisy

    def test_a_ratio_is_that_of_the_times_beside_it(self) -> None:
        # Of every round the ratio is 1, of the medians 30 to 10: that says little.
        found = Statistics.of([10, 1, 30, 10, 10], [30, 1, 30, 30, 10])
        assert (found.median, found.ratio, found.paired) == (10, 3.0, 1.0)
        assert found.noisy

    def test_drift_hits_all_alike(self) -> None:
        # The machine slows down by 10 in the middle; the ratio doesn't.
        found = Statistics.of([1, 1, 10, 10, 10], [3, 3, 30, 30, 30])
        assert (found.ratio, found.ratio_spread, found.noisy) == (3.0, 0.0, False)
        assert found.spread is not None and found.spread > 0.5

    def test_once_is_noise(self) -> None:
        found = Statistics.of([5, math.nan, math.nan], [10, 11, 12])
        assert (found.rounds, found.ratio, found.spread, found.noisy) == (1, 2.2, None, True)
        assert found.paired == 2.0

    def test_many_rounds_know_more_than_each(self) -> None:
        # Ratios 2 and 3 in turns: quartiles 2 and 3. In 4 rounds the median may be off by a
        # fifth, (3 − 2) / 2.5 / √4; in 400 by 2 %.
        few, many = (Statistics.of([1, 1] * n, [2, 3] * n) for n in (2, 200))
        assert few.ratio_spread == many.ratio_spread == 0.4
        assert (few.noisy, many.noisy) == (True, False)

    def test_the_clock_repeats_short_calls(self) -> None:
        calls = []
        begun = perf_counter()
        seconds = clock("cpu")(lambda: calls.append(1), 5e-3)
        assert perf_counter() - begun >= 5e-3
        assert len(calls) > 10
        assert seconds < 1e-3, "one call, not all"

    def test_the_clock_tells_the_time(self) -> None:
        assert 0.02 <= clock("cpu")(lambda: sleep(0.02)) < 0.2

    @pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
    def test_memory_besides_the_result(self) -> None:
        count = 2**24

        def made(spare: int) -> torch.Tensor:
            aside = torch.ones(spare, dtype=torch.uint8)
            return torch.ones(count, dtype=torch.uint8) + aside[0]

        # ones + aside: the ones themselves are besides the result.
        small, large = (peak(lambda n=n: made(n), "cpu") for n in (1, 2**25))
        assert small is not None and large is not None
        assert 2**24 * 0.9 < small < 2**24 * 1.2
        assert large - small == pytest.approx(2**25, rel=0.1)


class TestYardsticks:
    @pytest.mark.parametrize("kernel", ["1", "3", "[1, 2]", "[4, 3]", "[8, 8]", "9"])
    @pytest.mark.parametrize("rest", ["", ", padding: same_lower", ", mode: convolution"])
    def test_they_compute_the_same(self, kernel: str, rest: str) -> None:
        layer = f"{{kind: conv, channels: 1, bias: false, kernel: {kernel}{rest}}}"
        bench = Bench.of(one("[1, 1, 30, 23]", layer), Ops(), "cpu", 0)
        others = bench.others()
        assert [other.name for other in others if other.name != "copy"] == [
            name for name in ("opencv", "scipy") if name not in missing()
        ]
        with torch.no_grad():
            right = bench.reference(gradients=False)
            for other in others:
                assert not bench.check(other, ["forward"], right).failure

    @pytest.mark.parametrize(
        ("size", "rest"),
        [
            ("[2, 1, 9, 9]", ""),
            ("[1, 1, 9, 9]", ", stride: 2"),
            ("[1, 1, 9, 9]", ", bias: true"),
            ("[1, 1, 9, 9]", ", padding: 1, pad_mode: reflect"),
            ("[1, 1, 9, 9]", ", padding: 2"),
            ("[1, 1, 9, 9]", ", dilation: 2"),
        ],
    )
    def test_what_they_cannot_do_they_are_not_asked(self, size: str, rest: str) -> None:
        bias = "" if "bias" in rest else ", bias: false"
        layer = f"{{kind: conv, channels: 1, kernel: 3{bias}{rest}}}"
        others = Bench.of(one(size, layer), Ops(), "cpu", 0).others()
        assert [other.name for other in others] == ["copy"]


def entry(case: Case, name: str, which: str, milliseconds: float, ratio: float) -> Entry:
    times = Statistics(5, milliseconds / 1e3, 0.05, ratio, ratio, 0.02)
    return Entry(case, name, which, name not in ("opencv", "copy"), Verdict(1e-7, 2e-7), times)


@pytest.fixture
def small_roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.tasks._roofline.COPIED", {"cpu": 2**20})
    monkeypatch.setattr("runner.tasks._roofline.SIDE", {"cpu": 32})


class TestReport:
    def test_work_by_hand(self) -> None:
        conv = one("[5, 1, 4, 4]", "{kind: conv, channels: 2, kernel: 3, bias: false}")
        # 2 · 2² outputs of 9 products; 16 numbers in, 8 out, and 18 weights once.
        ops, numbers = 5 * 8 * 9 * 2, 5 * (16 + 8) + 18
        forward, both = (entry(conv, "native", which, 1, 1) for which in PASSES)
        assert (forward.operations, forward.moved) == (ops, 4 * numbers)
        assert (both.operations, both.moved) == (3 * ops, 12 * numbers)
        copy = entry(conv, "copy", "forward", 1, 1)
        assert (copy.operations, copy.moved) == (0, 4 * 2 * 5 * 16)
        pool = one("[5, 1, 4, 4]", "{kind: pool, kernel: 2}", "float64")
        forward, both = (entry(pool, "native", which, 1, 1) for which in PASSES)
        assert (forward.operations, forward.moved) == (5 * 16, 8 * 5 * 20)
        assert (both.operations, both.moved) == (2 * 5 * 16, 2 * 8 * 5 * 20)

    def test_the_lower_roof_counts(self) -> None:
        # 10 bytes a second, 100 operations a second, each at its best.
        roofs = Roofs("cpu", "float32", {2**27: [1.0, 10.0, 9.0]}, [100.0, 100.0, 1.0])
        assert roofs.fraction(operations=100, moved=40, seconds=8, footprint=40) == 0.5
        assert roofs.fraction(operations=800, moved=40, seconds=8, footprint=40) == 1.0

    def test_what_fits_a_cache_has_a_roof_of_its_own(self) -> None:
        speeds = {2**17: [40.0, 50.0], 2**20: [60.0], 2**22: [20.0], 2**27: [10.0]}
        roofs = Roofs("cpu", "float32", speeds, [100.0])
        # A copy of 2²⁰ bytes reads and writes 2²¹. Smaller ones can do what larger ones can.
        assert [roofs.bandwidth(2**n) for n in (3, 18, 20, 21, 22, 23, 24, 40)] == [
            60, 60, 60, 60, 20, 20, 10, 10,
        ]  # fmt: skip
        assert (roofs.memory, roofs.cache) == (10, 60)

    def test_roofs_are_measured_at_a_case_s_size(self, small_roofs: None) -> None:
        roofs = Roofs("cpu", "float32")
        roofs.measure(2**19)
        assert {size: len(speeds) for size, speeds in roofs.copies.items()} == {
            2**18: TIMES * OFTEN, 2**20: TIMES,
        }  # fmt: skip
        roofs.measure(2**40)
        assert len(roofs.copies[2**20]) == TIMES * (2 + OFTEN)

    def test_means_are_geometric(self) -> None:
        first, second = (
            one("[1, 1, 8, 8]", f"{{kind: conv, channels: 1, kernel: {k}}}") for k in (1, 3)
        )
        second = replace(second, name="other")
        entries = [
            entry(first, "native", "forward", 8, 1), entry(first, "direct", "forward", 1, 8),
            entry(first, "auto", "forward", 1, 8), entry(first, "opencv", "forward", 0.1, 80),
            entry(second, "native", "forward", 1, 1), entry(second, "direct", "forward", 2, 0.5),
            entry(second, "auto", "forward", 2, 0.5),
        ]  # fmt: skip
        found = _benchmark_report.summary(entries, ["forward"])
        assert found["auto_forward"] == pytest.approx(2)  # √(8 · ½)
        assert found["auto_forward_least"] == 0.5
        assert found["best_forward"] == pytest.approx(8**0.5)  # native is an operator, OpenCV none
        assert found["ratios_forward"]["other"] == {"native": 1, "direct": 0.5, "auto": 0.5}

    def test_lines_fit_a_terminal(self) -> None:
        case = one("[32, 64, 56, 56]", "{kind: conv, channels: 64, kernel: 3, padding: 1}")
        case = replace(case, name="depthwise64")
        names = ["native", "winograd_2x2", "direct"]
        entries = [
            replace(entry(case, name, which, 12345.6, 0.012), extra=2**34)
            for name in names
            for which in PASSES
        ]
        for line in _benchmark_report.block(case, entries, {}):
            assert len(line) <= 80, line
        for line in _benchmark_report.overview(entries, "both"):
            assert len(line) <= 80, line

    def test_what_is_wrong_has_no_time(self) -> None:
        case = one("[1, 1, 8, 8]", "{kind: conv, channels: 1, kernel: 3}")
        bad = Entry(case, "direct", "forward", True, Verdict(1.0, 1.0, "forward is off"))
        entries = [entry(case, "native", "forward", 8, 1), bad]
        lines = _benchmark_report.block(case, entries, {})
        assert lines[-1] == "direct       WRONG: forward is off"
        assert "| mine | WRONG |" in _benchmark_report.markdown(entries, ["forward"], "here")
        assert bad.to_dict(Roofs("cpu", "float32", {2**27: [1.0]}, [1.0]))["median_ms"] is None


QUICK = ("task=benchmark", "task.only=[mine]", "task.seconds=0.02", "threads=1")


@pytest.mark.usefixtures("workplace", "small_roofs")
class TestRun:
    def test_files_and_metrics(self) -> None:
        result = runner.run(*QUICK, f"+task.cases.mine={CONV}", "task.ops=[loops, auto]")
        assert result.holds
        ratios = result.metrics["ratios_forward"]["mine"]
        assert {"native", "loops", "auto", "copy"} <= ratios.keys()
        assert ratios["native"] == 1
        auto = result.metrics["ratios_both"]["mine"]["auto"]
        assert result.metrics["auto_both"] == pytest.approx(auto)
        with (result.directory / "benchmark.csv").open() as file:
            rows = list(csv.DictReader(file))
        there = {(row["op"], row["pass"]) for row in rows}
        assert {("loops", "both"), ("copy", "forward")} <= there
        assert all(row["threads"] == "1" for row in rows)
        facts = json.loads((result.directory / "benchmark.json").read_text())
        assert [row["op"] for row in facts["rows"]] == [row["op"] for row in rows]
        assert facts["machine"]["torch"] == torch.__version__
        loops = next(r for r in facts["rows"] if (r["op"], r["pass"]) == ("loops", "both"))
        assert loops["correct"] and 0 < loops["error_relative"] < 1e-6
        assert loops["rounds"] >= 3 and loops["median_ms"] > 0
        assert "| mine |" in (result.directory / "benchmark.md").read_text()
        pictures = {path.stem for path in (result.directory / "images").iterdir()}
        assert pictures == {"benchmark_forward", "benchmark_both", "benchmark_roofline"}

    def test_an_operator_that_is_wrong_fails_the_run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = LoopsConv.forward

        def wrong(*arguments: object) -> torch.Tensor:
            return 1.001 * right(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(LoopsConv, "forward", wrong)
        result = runner.run(*QUICK, f"+task.cases.mine={CONV}", "task.ops=[loops]")
        assert not result.holds
        assert result.metrics["wrong"] == 1
        assert result.metrics["wrong_ones"] == ["mine loops"]
        assert "loops" not in result.metrics["ratios_forward"]["mine"]

    def test_poolings_other_types_and_one_pass(self) -> None:
        mine = "{input: [2, 3, 16, 16], layer: {kind: pool, kernel: 3, stride: 2, padding: 1}}"
        words = (f"+task.cases.mine={mine}", "dtype=bfloat16", "task.passes=[forward]")
        result = runner.run(*QUICK, *words, "task.yardsticks=false", "tensorboard=false")
        assert result.holds
        assert "ratios_both" not in result.metrics
        assert "copy" not in result.metrics["ratios_forward"]["mine"]

    def test_the_layers_of_a_stack(self) -> None:
        words = ("task=benchmark_stack", "data.images=2", "task.seconds=0.01", "task.ops=[loops]")
        result = runner.run(*words, "threads=1")
        assert result.holds
        assert list(result.metrics["ratios_both"]) == ["conv1", "pool1", "conv2", "pool2"]

    def test_a_case_is_shown_as_soon_as_it_is_done(self, cli: Any) -> None:
        done = cli(*QUICK, f"+task.cases.mine={CONV}", "task.ops=[direct]", "tensorboard=false")
        assert done.rc == 0, done.stdout + done.stderr
        # Data that nothing is computed on aren't named.
        assert done.stdout.startswith("benchmark · cpu")
        case, metrics, last = map(
            done.stdout.index, ("\nmine: conv", "\nwrong ", "ratio: native's")
        )
        assert case < metrics < last
        assert "ratios_both" in done.stdout and "1 entry, in metrics.json" in done.stdout

    def test_settings_of_auto_reach_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # It may take im2col alone, which is told under its line.
        words = ("ops.auto.allow=[im2col]", "task.ops=[auto]", f"+task.cases.mine={CONV}")
        result = runner.run(*QUICK, *words)
        facts = json.loads((result.directory / "benchmark.json").read_text())
        assert {row["chose"] for row in facts["rows"] if row["op"] == "auto"} == {"im2col"}


def test_operators_share_their_weights() -> None:
    bench = Bench.of(one("[1, 2, 8, 8]", "{kind: conv, channels: 3, kernel: 3}"), Ops(), "cpu", 7)
    first, second = bench.module("native"), bench.module("direct")
    assert torch.equal(first.weight, second.weight)
    assert torch.equal(first.bias, second.bias)
