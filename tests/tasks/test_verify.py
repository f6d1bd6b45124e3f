"""Verifying operators: what is measured, against what, and that broken operators don't pass."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from bare_run import bare_run, composed

import runner
from runner.choices import Choice, choices
from runner.config.errors import ConfigError
from runner.geometry import ConvGeometry, PoolGeometry
from runner.modules import Conv2d, Pool2d
from runner.ops import Gate, Operator, conv_op, pool_op
from runner.ops.native import NativeConv, NativePool
from runner.tasks._verify_case import BIAS, CHANNELS, FORWARD, GROUPS, INPUT, WEIGHT, Case
from runner.tasks._verify_error import EXACT, FAILS, HOLDS, NOT_FINITE, Error
from runner.tasks._verify_judge import operators
from runner.tasks._verify_reference import STEP, chosen, computed, reference, work
from runner.tasks._verify_table import Verified, notes, table
from runner.tasks.verify import Verify

NOISE = {"kind": "noise", "height": 12, "width": 10, "channels": 2, "low": -1.0}
GATE = Gate(1e-6, 2e-6)


@pytest.fixture(autouse=True)
def undrawn(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    """No pictures, which take longer than all the rest; tables go to an empty directory."""
    monkeypatch.setattr(Verify, "_draw", lambda *_: None)
    monkeypatch.setattr("runner.tracking.charts.beside_limits", lambda *_: None)


def verify(stack: dict[str, Any], data: dict[str, Any] = NOISE, **options: Any) -> dict[str, Any]:
    dtype = options.pop("dtype", "float32")
    task, run = bare_run({"kind": "verify", **options}, stack, data, dtype=dtype)
    return task.run(run)


def conv(**fields: Any) -> dict[str, Any]:
    return {"kind": "conv", "channels": 4, "kernel": 3, **fields}


def tensor(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


class TestError:
    def test_both_measures(self) -> None:
        # e = (0, 0.5): ‖e‖ = 0.5 beside ‖(3, 4)‖ = 5, and 0.5 beside 4.
        error = Error.of(tensor(3, 4.5), tensor(3, 4), tensor(3, 4), 1, Gate(0.2, 0.1))
        assert (error.relative, error.largest, error.equal) == (0.1, 0.125, 0.5)
        # Half of one gate, 1.25 of the other: the worse counts.
        assert error.share == pytest.approx(1.25)
        assert error.verdict == FAILS
        assert Error.of(tensor(3, 4.5), tensor(3, 4), tensor(3, 4), 1, Gate(0.1, 0.2)).holds

    def test_a_zero_beside_which_nothing_was_added_up_must_be_zero(self) -> None:
        zero = tensor(0, 0)
        assert Error.of(zero, zero, zero, 9, GATE).verdict == EXACT
        wrong = Error.of(tensor(0, 1e-30), zero, zero, 9, GATE)
        assert (wrong.relative, wrong.largest, wrong.verdict) == (inf, inf, FAILS)

    def test_what_cancels_counts_with_what_random_signs_would_leave(self) -> None:
        # Four terms of 2 that cancel: 8 without signs, √4 · 2 = 4 with random ones.
        error = Error.of(tensor(4e-7), tensor(0), tensor(8), 4, GATE)
        assert error.relative == error.largest == pytest.approx(1e-7)
        assert error.cancelled == inf
        # Of numbers that cancel no more than that, only the reference counts.
        error = Error.of(tensor(5 + 5e-7), tensor(5), tensor(8), 4, GATE)
        assert error.relative == pytest.approx(1e-7)
        assert error.cancelled == 1

    def test_exact_is_the_reference_as_the_type_rounds_it(self) -> None:
        third = tensor(1 / 3)
        error = Error.of(third.float(), third, third, 1, Gate(0, 0))
        assert error.verdict == EXACT
        assert 0 < error.relative < 2**-24

    @pytest.mark.parametrize("bad", [inf, -inf, float("nan")])
    def test_not_finite_has_its_own_word(self, bad: float) -> None:
        for found, wanted in ((tensor(1, bad), tensor(1, 2)), (tensor(1, bad), tensor(1, bad))):
            error = Error.of(found, wanted, tensor(1, 2), 1, Gate(inf, inf))
            assert error.verdict == NOT_FINITE
            assert not error.holds


class TestBrokenOperators:
    """Every way to be wrong that the task exists for."""

    def failures(self, layers: dict[str, Any] | None = None, **options: Any) -> list[str]:
        metrics = verify(layers or {"c": conv(bias=True)}, **options)
        assert metrics["failed"] == len(metrics["failures"])
        return metrics["failures"]

    def test_right_ones_pass(self) -> None:
        assert self.failures() == []

    def test_a_little_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = NativeConv.forward
        monkeypatch.setattr(NativeConv, "forward", lambda *given: right(*given) * (1 + 1e-5))
        assert self.failures() == ["c forward", *(f"c {name}" for name in (INPUT, WEIGHT, BIAS))]

    @pytest.mark.parametrize(
        ("method", "named"), [("input_gradient", INPUT), ("weight_gradient", WEIGHT)]
    )
    def test_one_gradient(self, method: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
        kind = type(conv_op("direct"))
        right = getattr(kind, method)
        monkeypatch.setattr(kind, method, lambda *given: right(*given) * (1 + 1e-5))
        assert self.failures({"c": conv(ops="direct")}) == [f"c {named}"]
        assert self.failures({"c": conv(ops="direct")}, gradients=False) == []

    def test_a_gradient_of_pooling(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kind = type(pool_op("direct"))
        right = kind.input_gradient
        monkeypatch.setattr(kind, "input_gradient", lambda *given: right(*given).roll(1, 3))
        layers = {"p": {"kind": "pool", "kernel": 2, "ops": "direct"}}
        assert self.failures(layers) == ["p input_gradient"]

    def test_pooling_while_it_is_learned_through(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What hands indices to the gradient is another computation than the output alone."""
        kind = type(pool_op("direct"))
        right = kind.forward_with_indices

        def scaled(*given: Any) -> Any:
            y, indices = right(*given)
            return 3 * y, indices

        monkeypatch.setattr(kind, "forward_with_indices", scaled)
        layers = {"p": {"kind": "pool", "kernel": 2, "ops": "direct"}}
        assert self.failures(layers) == ["p forward"]
        assert self.failures(layers, gradients=False) == []

    def test_one_wrong_pixel(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = NativeConv.forward

        def spotted(*given: Any) -> torch.Tensor:
            y = right(*given)
            spot = torch.zeros_like(y)
            spot[0, 0, 5, 5] = 4e-6 * float(y.detach().abs().max())
            return y + spot

        monkeypatch.setattr(NativeConv, "forward", spotted)
        data = NOISE | {"height": 66, "width": 66}
        # One of 4096 numbers, most of them at least a fifth of the largest: ‖e‖ / ‖y‖ is less than
        # 4e-6 · 5 / 64, and lets it pass.
        metrics = verify({"c": conv(channels=1)}, data)
        found = metrics["layers"]["c"][FORWARD]
        assert found["relative"] < 1e-6
        assert found["largest"] == pytest.approx(4e-6, rel=0.1)
        assert metrics["failures"] == ["c forward"]

    def test_nan_for_one_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = NativePool.forward

        def holed(*given: Any) -> torch.Tensor:
            y = right(*given).clone()
            y[0, 0, 0, 0] = float("nan")
            return y

        monkeypatch.setattr(NativePool, "forward", holed)
        metrics = verify({"p": {"kind": "pool", "kernel": 2}}, gradients=False)
        assert metrics["layers"]["p"][FORWARD]["verdict"] == NOT_FINITE
        assert metrics["failed"] == 1

    def test_a_reference_that_is_wrong_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = NativeConv.forward
        monkeypatch.setattr(NativeConv, "forward", lambda *given: right(*given) * (1 + 1e-9))
        with pytest.raises(RuntimeError) as caught:
            verify({"c": conv(ops="direct")}, reference="native")
        assert str(caught.value).startswith(
            "stack.layers.c: in double precision, native's forward differs from that of loops by "
            "1e-09 on 1×2×6×6 of the layer's input"
        )
        # The definition needs none.
        assert self.failures({"c": conv(ops="direct")}, reference="loops") == []


class TestReference:
    def test_work(self) -> None:
        def of(batch: int, **fields: Any) -> int:
            _, run = bare_run({"kind": "verify"}, {"c": conv(**fields)}, NOISE)
            return work(run.plan.rows[0], batch)

        # 10 × 8 positions of 4 · 2 · 9 products each.
        assert of(1) == 80 * (72 + STEP)
        assert of(3) == 80 * (3 * 72 + STEP)
        # Two groups are two loops, each of half the products.
        assert of(1, groups=2) == 80 * (36 + 2 * STEP)

    def test_choice(self) -> None:
        _, run = bare_run({"kind": "verify"}, {"c": conv()}, NOISE)
        row = run.plan.rows[0]
        most = work(row, 1)
        assert chosen("auto", row, 1, most) == "loops"
        assert chosen("auto", row, 1, most - 1) == "native"
        assert chosen("loops", row, 1, 0) == "loops"
        assert chosen("native", row, 1, most) == "native"

    def test_is_said_layer_by_layer(self) -> None:
        layers = {"c": conv(padding=1), "p": {"kind": "pool", "kernel": 2, "mode": "avg"}}
        # 120 positions and 30: between their work lies 200,000.
        metrics = verify(layers, work=200_000)
        assert metrics["layers"]["c"]["reference"] == "native"
        assert metrics["layers"]["p"]["reference"] == "loops"
        assert metrics["failed"] == 0

    def test_both_give_the_same_verdicts(self) -> None:
        layers = {"c": conv(padding=2, pad_mode="reflect", mode="convolution", stride=2)}
        first, second = (verify(layers, reference=one) for one in ("loops", "native"))
        for name in (FORWARD, INPUT, WEIGHT, BIAS):
            one, other = (m["layers"]["c"][name]["relative"] for m in (first, second))
            # Two references in double precision hardly move an error in single precision.
            assert one == pytest.approx(other, rel=1e-6)

    def test_magnitudes(self) -> None:
        # A window of 1 and −1 times a kernel of 1 and 1 is 0, of magnitude 2; with a bias of −3, 5.
        weight, bias = torch.ones(1, 1, 1, 2), torch.tensor([-3.0])
        module = Conv2d(
            weight, bias, geometry=ConvGeometry((1, 2)), pad_mode="zeros", flip=False,
            op="native", trainable=True,
        )  # fmt: skip
        case = Case.of(module, torch.tensor([[[[1.0, -1.0]]]]), torch.tensor([[[[-2.0]]]]))
        found = reference(case, "loops", "", gradients=True)
        assert {name: one.flatten().tolist() for name, one in found.results.items()} == {
            FORWARD: [-3], INPUT: [-2, -2], WEIGHT: [-2, 2], BIAS: [-2],
        }  # fmt: skip
        assert {name: one.flatten().tolist() for name, one in found.magnitudes.items()} == {
            FORWARD: [5], INPUT: [2, 2], WEIGHT: [2, 2], BIAS: [2],
        }  # fmt: skip
        assert case.terms() == {FORWARD: 3, INPUT: 2, WEIGHT: 1, BIAS: 1}

    def test_extremes_stay_where_they_are(self) -> None:
        # The maximum of 1 and −5 is 1: its gradient goes to the first.
        module = Pool2d("max", PoolGeometry((1, 2), (1, 2)), "native")
        case = Case.of(module, torch.tensor([[[[1.0, -5.0]]]]), torch.tensor([[[[-2.0]]]]))
        magnitudes = reference(case, "loops", "", gradients=True).magnitudes
        assert magnitudes[INPUT].flatten().tolist() == [2, 0]


GEOMETRIES = {
    "plain": ConvGeometry((3, 3)),
    "padded": ConvGeometry((3, 5), (1, 1), (1, 1, 2, 2)),
    "uneven": ConvGeometry((2, 3), (2, 1), (0, 1, 3, 0)),
    "dilated": ConvGeometry((3, 3), (2, 3), (2, 2, 2, 2), (3, 2)),
    "grouped": ConvGeometry((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 8),
    "large": ConvGeometry((31, 31), (1, 1), (15, 15, 15, 15)),
}


class TestCrop:
    @pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
    @pytest.mark.parametrize("pad_mode", ["zeros", "reflect", "circular"])
    def test_of_a_convolution(self, geometry: ConvGeometry, pad_mode: str) -> None:
        g = torch.Generator().manual_seed(0)
        weight = torch.randn(80, 16 // geometry.groups, *geometry.kernel, generator=g)
        module = Conv2d(
            weight, torch.randn(80, generator=g), geometry=geometry, pad_mode=pad_mode, flip=True,
            op="native", trainable=True,
        )  # fmt: skip
        x = torch.randn(3, 16, 90, 70, generator=g)
        grad = torch.randn(3, 80, *geometry.output_size((90, 70)), generator=g)
        crop = Case.of(module, x, grad).double().crop()
        assert len(crop.x) == 1
        assert crop.geometry.kernel == geometry.kernel
        assert crop.geometry.groups == min(geometry.groups, GROUPS)
        # Of eight groups of ten outputs, some whole groups.
        assert crop.grad.shape[1] == (CHANNELS if geometry.groups == 1 else 10 * GROUPS)
        # Small beside the whole, but for a kernel that is about as large.
        assert crop.x[0, 0].numel() < (90 * 70 / 4 if geometry.kernel[0] < 31 else 90 * 70)
        mine, loops = (computed(crop, op, gradients=True) for op in ("native", "loops"))
        assert mine.keys() == {FORWARD, INPUT, WEIGHT, BIAS}
        for name, y in mine.items():
            torch.testing.assert_close(y, loops[name], rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize(
        "geometry",
        [
            PoolGeometry((2, 2), (2, 2)),
            PoolGeometry((3, 3), (2, 2), (1, 1, 0, 2), ceil_mode=True, count_include_pad=False),
            PoolGeometry(output=(3, 2)),
        ],
    )
    @pytest.mark.parametrize("mode", ["max", "avg"])
    def test_of_a_pooling(self, geometry: PoolGeometry, mode: str) -> None:
        x = torch.randn(2, 70, 20, 30, generator=torch.Generator().manual_seed(0))
        grad = torch.randn(2, 70, *geometry.output_size((20, 30)))
        case = Case.of(Pool2d(mode, geometry, "native"), x, grad)
        crop = case.crop()
        assert crop.x.shape[:2] == (1, CHANNELS)
        # Adaptive windows depend on the image's size.
        assert (crop.x.shape[2:] == x.shape[2:]) == (geometry.output is not None)
        for name, y in computed(crop, "native", gradients=True).items():
            torch.testing.assert_close(y, computed(crop, "loops", gradients=True)[name])


class TestCase:
    def test_is_the_layer(self) -> None:
        """Padding by reflection and flipped kernels included."""
        _, run = bare_run(
            {"kind": "verify"},
            {"c": conv(padding=2, pad_mode="reflect", mode="convolution", bias=True)},
            NOISE,
        )
        module = run.model.get_submodule("c")
        y = module(run.x)
        case = Case.of(module, run.x, torch.ones_like(y))
        assert torch.equal(case.forward(conv_op("native")), y)
        y.sum().backward()
        found = case.gradients(conv_op("native"))
        assert torch.equal(found[WEIGHT], module.weight.grad)
        assert torch.equal(found[BIAS], module.bias.grad)

    def test_frozen_weights_have_gradients_here(self) -> None:
        metrics = verify({"c": conv(trainable=False)})
        assert metrics["layers"]["c"][WEIGHT]["verdict"] == HOLDS

    def test_layouts_and_weights_stay_as_they_are(self) -> None:
        _, run = bare_run({"kind": "verify"}, {"c": conv()}, NOISE)
        module = run.model.get_submodule("c")
        x = run.x.contiguous(memory_format=torch.channels_last)
        case = Case.of(module, x, torch.ones_like(module(x)))
        assert case.x.is_contiguous(memory_format=torch.channels_last)
        case.gradients(conv_op("native"))
        assert module.weight.grad is None
        assert not run.x.requires_grad


class TestRun:
    def test_every_layer_inside_containers(self) -> None:
        layers = {
            "first": conv(channels=2, padding=1),
            "twice": {
                "kind": "repeat",
                "times": 2,
                "layers": {
                    "around": {"kind": "residual", "layers": {"c": conv(channels=2, padding=1)}}
                },
            },
            "wide": {"kind": "parallel", "branches": {"a": conv(), "b": conv(kernel=[3, 3])}},
            "pool": {"kind": "pool", "mode": "min", "kernel": 2},
        }
        every = ["first", "twice.1.around.c", "twice.2.around.c", "wide.a", "wide.b", "pool"]
        assert list(verify(layers)["layers"]) == every
        assert list(verify(layers, layers=["twice.2", "pool"])["layers"]) == [every[2], "pool"]

    def test_numbers_are_those_of_the_run(self) -> None:
        """The second layer gets what relu leaves of the first: nothing, where its bias is large."""
        layers = {
            "c": conv(bias=[-100.0]),
            "act": {"kind": "activation", "function": "relu"},
            "d": conv(bias=[0.0]),
        }
        found = verify(layers)["layers"]
        assert found["c"][FORWARD]["verdict"] == HOLDS
        assert found["d"][FORWARD]["verdict"] == EXACT
        assert found["d"][WEIGHT]["verdict"] == EXACT
        assert found["d"][INPUT]["verdict"] == HOLDS

    def test_images(self) -> None:
        task, run = bare_run({"kind": "verify", "images": 2}, {"c": conv()}, NOISE | {"images": 5})
        assert run.plan.batch == 2
        assert task.run(run)["failed"] == 0

    def test_again_gives_the_same(self) -> None:
        assert verify({"c": conv()}) == verify({"c": conv()})

    @pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
    def test_other_types_have_other_gates(self, dtype: str) -> None:
        found = verify({"c": conv()}, dtype=dtype)["layers"]["c"]
        assert found[FORWARD]["gate"] == list(Operator.gates[dtype])
        digits = {"float64": 53, "bfloat16": 8, "float16": 11}[dtype]
        # An output is rounded at the end, by up to one part in 2^digits; sums are in more digits.
        assert 2.0**-digits / 20 < found[FORWARD]["relative"] < 2.0**-digits * 4
        assert found[FORWARD]["verdict"] in (EXACT, HOLDS)

    def test_overflow(self) -> None:
        data = {"kind": "blank", "value": 256.0}
        layers = {"c": {"kind": "conv", "weight": [[300]]}, "p": conv(channels=1)}
        task, run = bare_run({"kind": "verify"}, layers, data, dtype="float16")
        metrics = task.run(run)
        assert metrics["layers"]["c"][FORWARD]["verdict"] == NOT_FINITE
        assert metrics["layers"]["c"][INPUT]["verdict"] == EXACT
        # What comes after can't be checked, and isn't passed.
        assert {metrics["layers"]["p"][name]["verdict"] for name in (FORWARD, WEIGHT)} == {
            NOT_FINITE
        }
        assert run.notes[-1] == ("Not checked: p; what comes in is infinite, or not a number.")

    def test_gates_can_be_stated(self) -> None:
        strict = verify({"c": conv()}, gate={"largest": 1e-9})
        assert strict["failed"] == 4
        assert strict["layers"]["c"][FORWARD]["gate"] == [1e-6, 1e-9]
        assert verify({"c": conv()}, gate={"relative": 1e-3, "largest": 1e-3})["failed"] == 0

    def test_an_operators_own_gate_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(NativeConv, "gates", {"float32": Gate(1e-9, 1.0)})
        assert verify({"c": conv()})["layers"]["c"][FORWARD]["gate"] == [1e-9, 1.0]
        # Where it states none for a type, that of plain sums.
        found = verify({"c": conv()}, dtype="float64")["layers"]["c"]
        assert found[FORWARD]["gate"] == [1e-12, 1e-12]

    def test_auto_is_judged_by_what_it_took(self, monkeypatch: pytest.MonkeyPatch) -> None:
        right = NativeConv.forward
        # Within auto's own gate, which is that of the least exact it may take, 2e-6.
        monkeypatch.setattr(NativeConv, "forward", lambda *given: right(*given) * (1 + 1.5e-6))
        layers = {
            "c": conv(ops="auto", padding=1, pad_mode="reflect"), "d": conv(ops="auto"),
            "e": conv(ops="auto", padding=1), "p": {"kind": "pool", "kernel": 2, "ops": "auto"},
        }  # fmt: skip
        choices.begin()
        found = verify(layers)
        # So small that auto stays with native.
        for name in "cdep":
            assert found["layers"][name][FORWARD]["op"] == "auto: native"
            assert found["layers"][name][INPUT]["op"] == "auto: native"
        assert found["layers"]["c"][FORWARD]["gate"] == list(GATE)
        assert {"c forward", "d forward", "e forward"} <= set(found["failures"])

    def test_each_of_auto_s_results_has_its_own_operator(self) -> None:
        """Forward and the gradients are chosen apart."""
        _, run = bare_run({"kind": "verify"}, {"c": conv(ops="auto")}, NOISE)
        module = run.model.get_submodule("c")
        case = Case.of(module, run.x, torch.ones_like(module(run.x)))
        made = [
            Choice("conv 2×12×10 → 4, 3×3", 1, computation, op, {}, "")
            for computation, op in (
                ("forward", "fft"), ("input gradient", "direct"), ("weight gradient", "im2col"),
            )
        ]  # fmt: skip
        choices.begin()
        choices.made.extend([*made, replace(made[0], batch=2, picked="loops")])
        assert operators(case, "auto") == {
            FORWARD: "auto: fft", INPUT: "auto: direct", WEIGHT: "auto: im2col", BIAS: "auto: fft",
        }  # fmt: skip
        choices.begin()
        assert operators(case, "auto")[FORWARD] == "auto", "traced: nobody knows"
        assert operators(case, "direct")[INPUT] == "direct"

    def test_from_the_command_line(self, cli: Any, workplace: Path) -> None:
        words = ("task=verify", "task.layers=conv1", "data.images=1", "tensorboard=false")
        done = cli(*words, "expect.checked=4", "hydra.run.dir=there")
        assert done.rc == 0, done.stdout + done.stderr
        images = {path.name for path in (workplace / "there" / "images").iterdir()}
        assert images == {"verify_errors.png", "verify_maps_conv1.png"}
        lines = (workplace / "there" / "verify.txt").read_text().splitlines()
        assert lines[1].startswith("conv1  native  loops    forward")
        assert lines[1] in done.stdout

    def test_exit_code(self, cli: Any) -> None:
        done = cli("task=verify", "task.layers=conv1", "data.images=1", "task.gate.relative=0")
        assert done.rc == 3
        assert "FAILS" in done.stdout


class TestText:
    def verified(self, name: str = "c", **fields: Any) -> Verified:
        _, run = bare_run({"kind": "verify"}, {name: conv()}, NOISE)
        fields = {"relative": 1.24e-7, "largest": 5e-8, "equal": 0.999, "cancelled": 1.0} | fields
        error = Error(**fields, gate=Gate(1.5e-5, 6e-5))
        ops = {FORWARD: "native", WEIGHT: "native"}
        return Verified(run.plan.rows[0], "loops", {FORWARD: error, WEIGHT: error}, ops)

    def test_table(self) -> None:
        assert table([self.verified()]) == [
            "layer  op      against  pass          relL2   max  gate         equal  verdict",
            "c      native  loops    forward      1.2e-7  5e-8  1.5e-5/6e-5   99 %  holds",
            "                        weight grad  1.2e-7  5e-8  1.5e-5/6e-5   99 %  holds",
        ]

    def test_an_operator_stands_where_it_changes(self) -> None:
        layer = self.verified()
        ops = {FORWARD: "auto: native", WEIGHT: "auto: direct"}
        lines = table([replace(layer, ops=ops)])
        assert ["native" in lines[1], "direct" in lines[2]] == [True, True]
        assert "auto" not in table([replace(layer, ops=dict.fromkeys(ops, "auto: fft"))])[2]

    def test_with_gates_of_zero_the_worst_is_the_one_that_is_farthest_off(self) -> None:
        row = self.verified().row
        rounded, small, large = (
            Error(r, r, equal, 1.0, Gate(0, 0))
            for r, equal in ((3e-8, 1.0), (1e-8, 0.5), (2e-8, 0.5))
        )
        layer = Verified(row, "loops", {FORWARD: rounded, INPUT: small, WEIGHT: large}, {})
        assert layer.worst == WEIGHT

    @pytest.mark.parametrize("name", ["c", "a_very_long_name_that_somebody_gave_to_a_layer_once"])
    @pytest.mark.parametrize("relative", [0.0, 1.24e-7, 3.0, inf])
    def test_fits_a_terminal(self, name: str, relative: float) -> None:
        layer = self.verified(name, relative=relative, cancelled=2.0)
        lines = table([layer], 80)
        assert max(map(len, lines)) <= 80
        assert lines[1].split()[0].lstrip("…") in name
        assert max(map(len, table([layer]))) > 80 or name == "c"

    def test_of_very_many_the_worst(self) -> None:
        good, bad = self.verified(), self.verified(relative=1.0)
        mixed = Verified(
            good.row, "loops", {FORWARD: good.errors[FORWARD], WEIGHT: bad.errors[WEIGHT]}, good.ops
        )
        lines = table([good] * 30 + [mixed], 80)
        assert len(lines) == 32
        assert "weight grad" in lines[-1]
        assert lines[-1].endswith("FAILS")
        assert len(table([good] * 30 + [mixed])) == 63

    def test_long_sums_are_said(self) -> None:
        # 10⁶ numbers: √10⁶ / 2 · 2⁻²⁴ = 500 · 6e-8 = 3e-5.
        fields = {"relative": 4e-5, "largest": 4e-5, "equal": 0.0, "cancelled": 1.0}
        row, gate = self.verified().row, Gate(1e-6, 2e-6)
        long, short = (Error(**fields, gate=gate, terms=n) for n in (10**6, 10**4))
        layer = Verified(row, "loops", {FORWARD: short, WEIGHT: long}, {})
        assert notes([layer], "float32") == [
            "c, weight grad: 1,000,000 numbers added one after the other in float32 are off by "
            "about 3e-5, by rounding alone; added in parts, by less."
        ]
        assert notes([layer], "float64") == []

    def test_native_as_its_own_reference_is_said(self) -> None:
        row = self.verified().row
        layer = Verified(row, "native", {}, {}, agreement=2.3e-16)
        said = notes([layer], "float32")
        assert len(said) == 1
        assert "2.3e-16 from loops" in said[0]
        assert "compared with itself" in notes([layer], "float64")[1]
        assert notes([self.verified()], "float64") == []
        assert notes([self.verified(cancelled=1.5)], "float32")[0].startswith("*")


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=verify", *words)
    return str(caught.value)


class TestMistakes:
    def test_nothing_to_check(self) -> None:
        assert complaint("stack=empty") == (
            "stack.layers: expected a conv or pool layer to check, got no layers. Pick a stack "
            "that has some: stack=lenet."
        )

    def test_no_such_layer(self) -> None:
        assert complaint("task.layers=[conv1,conv3]") == (
            "task.layers: expected a conv or pool layer (conv1, conv2, pool), got 'conv3'. "
            "Did you mean 'conv2'?"
        )
        assert "got 'fc1', of kind linear" in complaint("task.layers=fc1")

    @pytest.mark.parametrize(
        ("word", "path"),
        [
            ("task.gate.relative=-1", "task.gate.relative"),
            ("task.gate.relatve=1", "task.gate.relatve"),
            ("task.reference=fft", "task.reference"),
            ("task.images=0", "task.images"),
            ("task.work=-1", "task.work"),
            ("task.layers=[]", "task.layers"),
            ("task.layers=[1]", "task.layers"),
        ],
    )  # fmt: skip
    def test_values(self, word: str, path: str) -> None:
        assert complaint(word if "relatve" not in word else f"+{word}").startswith(path)

    def test_what_it_holds_counts(self) -> None:
        job = composed("task=verify", "data=noise", "data.height=500", "data.width=500")
        plan = job.plan()
        layer = plan.rows[3]
        assert layer.name == "conv2"
        # 16 and 32 channels of 250,000 pixels; in double precision each of x, y and their
        # gradients is there three times: as it is, without signs, and as reference.
        numbers = (16 + 32) * 500**2
        held = job.task.overhead(plan, job.stack, job.ops)
        assert 3 * 2 * 8 * numbers < held < 2 * 3 * 2 * 8 * numbers
        assert "memory_limit_gib" in complaint(
            "data=noise", "data.height=500", "data.width=500", "memory_limit_gib=0.5"
        )
