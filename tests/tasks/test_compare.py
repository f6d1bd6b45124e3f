"""Comparing two stacks, two operators or two data, and what rounding may do.

u is half the distance from 1 to the next float32: 2⁻²⁴. A sum of n roundings is off by at most
γₙ = n·u / (1 − n·u) times its magnitudes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bare_run import composed

import runner
from runner.config.errors import ConfigError
from runner.job import Job
from runner.ops.loops import LoopsConv
from runner.prepare import Prepared, prepare
from runner.tasks import _error_bound, compare
from runner.tasks._error_bound import output_bound, roundings, says_nothing

U = 2**-24
NINE = "data.values=[[0,1,2],[3,4,5],[6,7,8]]"


def gamma(n: int) -> float:
    return n * U / (1 - n * U)


def prepared(job: Job, seed: int) -> Prepared:
    # The experiments' noise follows the run's seed.
    data = job.data.model_copy(update={"seed": seed})
    job = job.model_copy(update={"seed": seed, "data": data})
    return prepare(job, job.plan())


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=compare", *words)
    return str(caught.value)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare.Compare, "_draw", lambda *_: None)
    monkeypatch.setattr(compare, "save_outputs", lambda _: None)


class TestAgreement:
    @pytest.mark.parametrize(
        ("experiment", "widest"),
        [
            # Three products, a bias, the weights' and the input's rounding: 6 on each side. Normal
            # weights are within 5, the noise within 1: magnitudes of at most 15.
            ("6_4/one_by_one", 2 * gamma(6) * 15),
            # Eight products: 11. Drawn weights are within 1/√8.
            ("6_4/one_by_one_fusion", 2 * gamma(11) * 8 / 8**0.5),
        ],
    )
    def test_one_by_one_convolution_is_dense_for_every_seed(
        self, experiment: str, widest: float, no_pictures: None
    ) -> None:
        job = composed(f"experiment={experiment}")
        for seed in range(200):
            metrics = job.task.run(prepared(job, seed).run)
            assert metrics["agrees"], (seed, metrics)
            assert widest / 20 < metrics["bound"] < widest

    def test_operators_agree(self, workplace: Path) -> None:
        result = runner.run(
            "task=compare", "stack=lenet", "data=noise", "data.height=28", "data.width=28",
            "data.images=2", "stack.layers.act1.function=tanh",
        )  # fmt: skip
        assert result.holds
        assert result.metrics["parameters"] == {"first": 61_706, "other": 61_706}
        assert result.metrics["multiply_adds"] == {"first": 416_520, "other": 416_520}
        assert set(result.outputs) >= {"fc3", "other/fc3"}
        assert 0 < result.metrics["relative_difference"] < 1e-5

    def test_two_data(self, workplace: Path) -> None:
        # The bar a pixel further right: every row is 0 0 1 0 0 0 -1 beside 0 1 0 0 0 -1 0.
        result = runner.run(
            "task=compare", "ops@task.other.ops=native", "data@task.other.data=bar",
            "task.other.data.start=3", "task.other.data.stop=7", "expect.agrees=false",
        )  # fmt: skip
        assert result.metrics["other_output"] == [[0, 0, 1, 0, 0, 0, -1]] * 6
        assert result.metrics["max_difference"] == 1
        # In each row four entries differ by one; the first's own norm is √2 a row.
        assert result.metrics["relative_difference"] == pytest.approx(2 / 2**0.5)
        assert result.holds

    def test_a_number_as_bound(self, workplace: Path) -> None:
        words = ["experiment=6_1/not_commutative", "expect.agrees=null"]
        for bound, agrees in ((8, True), (7.9, False)):
            result = runner.run(*words[:1], f"task.bound={bound}", f"expect.agrees={agrees}")
            assert result.metrics["bound"] == bound
            assert result.holds

    def test_disagreement_is_an_exit_code_and_a_place(self, cli) -> None:
        done = cli("experiment=6_5/zero_padding_is_wrong", "expect={agrees: true}")
        assert done.rc == 3
        assert "They differ most at [0, 0, 0] of image 0." in done.stdout

    def test_a_wrong_weight_is_noticed(self, workplace: Path) -> None:
        """Agreement is worth something only if disagreement is seen, however small."""
        one = "task.other.stack.layers.matrix.weight"
        rows = "[[0,1,0,2,3,0,0,0,0],[0,0,1,0,2,3,0,0,0],[0,0,0,0,1,0,2,3,0],[0,0,0,0,0,1,0,2,{}]]"
        for last, agrees in (("3", True), ("3.00002", False)):
            result = runner.run("experiment=6_2/matrix_product", f"{one}={rows.format(last)}")
            assert result.metrics["agrees"] is agrees

    def test_images_are_compared_one_by_one(self, workplace: Path) -> None:
        # Two images of 1×2 as 2 features each, against the maps: no mixing of examples.
        result = runner.run(
            "task=compare", "stack=empty", "data=tensor", "data.values=[[[[1,2]]],[[[3,4]]]]",
            "+task.other.stack={layers: {flat: {kind: flatten}}}",
        )  # fmt: skip
        assert result.metrics["output"] == [[[[1, 2]]], [[[3, 4]]]]
        assert result.metrics["other_output"] == [[1, 2], [3, 4]]
        assert result.holds

    def test_pictures(self, workplace: Path) -> None:
        result = runner.run("experiment=6_2/matrix_product")
        names = {path.name for path in (result.directory / "images").iterdir()}
        assert names == {f"compare_{n}.png" for n in ("first", "other", "difference", "overview")}
        with np.load(result.directory / "outputs.npz") as saved:
            assert set(saved.files) == {"conv", "other/flatten", "other/matrix"}


class TestWeights:
    def test_own_weights_of_equal_stacks_are_equal(self, workplace: Path) -> None:
        result = runner.run("task=compare", "stack=pair", "stack@task.other.stack=pair", "seed=3")
        assert result.holds

    def test_own_weights_of_other_stacks_are_not_copied(self, workplace: Path) -> None:
        words = (
            "experiment=6_4/one_by_one", "task.weights=own",
            "task.other.stack.layers.dense.weight=xavier_uniform",
        )  # fmt: skip
        assert not runner.run(*words).metrics["agrees"]

    def test_copied_with_the_bias(self, workplace: Path) -> None:
        words = ("experiment=6_4/one_by_one", "stack.layers.conv.bias=true", "expect={}")
        result = runner.run(*words, "task.other.stack.layers.dense.bias=true")
        assert result.metrics["agrees"]
        assert result.metrics["parameters"] == {"first": 24, "other": 24}

    def test_copying_needs_equally_many(self) -> None:
        assert complaint("experiment=6_4/one_by_one", "stack.layers.conv.bias=true") == (
            "task.other.stack.layers: expected 24 parameters, as the first has, to copy those, "
            "got 18. Set bias: false where only one of them has a bias, or task.weights=own."
        )

    def test_copying_names_what_does_not_fit(self, workplace: Path) -> None:
        # 1×3 and then 3×1 have six numbers as 3×1 and then 1×3 … but 2×2 and 1×2 do not pair up.
        first = "{a: {kind: conv, channels: 1, kernel: [1, 4], bias: false}, "
        first += "b: {kind: conv, channels: 1, kernel: [1, 2], bias: false}}"
        other = first.replace("4", "X").replace("2", "4").replace("X", "2")
        with pytest.raises(ConfigError) as caught:
            runner.run(
                "task=compare", "stack=empty", f"stack.layers={first}", "task.weights=copied",
                f"+task.other.stack={{layers: {other}}}",
            )  # fmt: skip
        assert str(caught.value) == (
            "task.other.stack.layers.a.weight: expected 4 numbers, to copy a.weight (1×1×1×4), "
            "got 2 (1×1×1×2). Set task.weights=own, or give the layers the same sizes."
        )


class TestBound:
    def test_of_one_convolution(self, workplace: Path) -> None:
        # Four products, a bias, and the weights' and the input's own roundings: 7, for each side.
        # The largest magnitude is that of the last window, with absolute weights: 0 · 4 + 1 · 5
        # + 2 · 7 + 3 · 8 = 43.
        result = runner.run(
            "task=compare", "stack=kernel", "stack.layers.conv.weight=[[0,-1],[-2,3]]",
            "data=tensor", NINE,
        )  # fmt: skip
        assert result.metrics["bound"] == pytest.approx(2 * gamma(7) * 43, rel=1e-12)

    def test_of_layers_in_a_row(self, workplace: Path) -> None:
        # A pool of 2×2 means counts 4 + 1, the convolution before it 4 + 2, the input 1.
        # Magnitudes 19, 25, 37, 43 have the mean 31.
        result = runner.run(
            "task=compare", "stack=kernel", "stack.layers.conv.weight=[[0,1],[2,3]]",
            "data=tensor", NINE, "+stack.layers.pool={kind: pool, mode: avg, kernel: 2}",
        )  # fmt: skip
        assert result.metrics["bound"] == pytest.approx(2 * gamma(12) * 31, rel=1e-12)

    def test_negative_numbers_count_with_their_magnitude(self, workplace: Path) -> None:
        # Exactly, 1 − 1 = 0; but it can be off by what the two ones can.
        result = runner.run(
            "task=compare", "stack=edge_vertical", "data=tensor", "data.values=[[1,1]]"
        )
        assert result.metrics["output"] == [[0]]
        assert result.metrics["bound"] == pytest.approx(2 * gamma(5) * 2, rel=1e-12)

    def test_a_minimum_is_bounded_by_the_largest_of_its_window(self, workplace: Path) -> None:
        # min(−8, 1) = −8: the least magnitude, 1, would bound nothing.
        result = runner.run(
            "task=compare", "stack=pool", "stack.layers.pool={mode: min, kernel: [1, 2]}",
            "data=tensor", "data.values=[[-8,1]]",
        )  # fmt: skip
        assert result.metrics["bound"] == pytest.approx(2 * gamma(1) * 8, rel=1e-12)

    @pytest.mark.parametrize(
        ("function", "magnitude"),
        # of −2: the slope's bound times 2, plus the value at zero
        [("relu", 2), ("tanh", 2), ("sigmoid", 1), ("gelu", 2.26), ("softplus", 2 + np.log(2))],
    )
    def test_activations(self, function: str, magnitude: float, workplace: Path) -> None:
        result = runner.run(
            "task=compare", "stack=empty", "data=tensor", "data.values=[[-2]]",
            f"+stack.layers.act={{kind: activation, function: {function}}}",
        )  # fmt: skip
        terms = 1 if function == "relu" else 9
        assert result.metrics["bound"] == pytest.approx(2 * gamma(terms) * magnitude, rel=1e-6)

    def test_branches_add_up(self, workplace: Path) -> None:
        # relu(a − b) + b of 3 and −1: (3 + 1) + 1. Two convolutions of 2 + 2, a sum, the input.
        result = runner.run("experiment=6_5/max_is_relu", "data.values=[[3,-1]]", "expect={}",
                            "task.gradients=false")  # fmt: skip
        assert result.metrics["output"] == [[3]]
        expected = gamma(1) * 3 + gamma(10) * 5
        assert result.metrics["bound"] == pytest.approx(expected, rel=1e-12)

    def test_batchnorm_and_drawn_weights(self, no_pictures: None) -> None:
        job = composed(
            "task=compare", "stack=lenet_bn", "data=noise", "data.height=28", "data.width=28"
        )
        for seed in range(3):
            assert job.task.run(prepared(job, seed).run)["agrees"]

    def test_a_mean_that_batchnorm_subtracts_adds_to_the_magnitude(self) -> None:
        job = composed(
            "task=compare", "stack=empty", "+stack.layers.norm={kind: batchnorm, eps: 1e-30}",
            "data=tensor", "data.values=[[3]]",
        )  # fmt: skip
        run = prepare(job, job.plan()).run
        run.model.get_submodule("norm").running_mean.fill_(3)
        # 3 − 3 is nothing, of magnitude 6; eight roundings and the input's own
        assert output_bound(run).item() == pytest.approx(gamma(9) * 6, rel=1e-12)

    def test_low_precision(self) -> None:
        dense = "+stack.layers={flat: {kind: flatten}, fc: {kind: linear, features: 1}}"
        # 256 inputs + 2 and the input's own: 259 · 2⁻⁸ is more than one.
        assert complaint("stack=empty", dense, "data=noise", "dtype=bfloat16") == (
            "task.bound: expected a number, got auto. 259 roundings in bfloat16 can take an "
            "output anywhere. Set one, such as task.bound=0.01."
        )

    def test_a_bound_that_says_nothing_is_no_agreement(self, workplace: Path) -> None:
        # Four products, a bias, the weights' and the input's own roundings: 7 · 2⁻⁸ on each side.
        # 2 · 7/256 / (1 − 7/256) of magnitudes 2 is 0.11: more than a hundredth of 2.
        words = (
            "task=compare", "stack=kernel", "stack.layers.conv.weight=[[0.5,0.5],[0.5,0.5]]",
            "data=blank", "data.value=1", "ops@task.other.ops=native", "dtype=bfloat16",
            "data@task.other.data=blank", "task.other.data.value=1.0078125",
        )  # fmt: skip
        result = runner.run(*words)
        assert result.metrics["max_difference"] == 2**-6 < result.metrics["bound"]
        assert result.metrics["agrees"] is False
        assert runner.run(*words, "task.bound=0.02").holds
        # In single precision it says enough to tell the two apart, and equal numbers agree anyway.
        assert runner.run(*words, "dtype=float32").metrics["agrees"] is False
        assert runner.run(*words[:-1], "task.other.data.value=1").holds

    def test_what_is_not_a_number_never_agrees(self, workplace: Path) -> None:
        # 3e38 · 2 is infinite in single precision, and infinity less infinity is not a number.
        for bound in ("auto", "1"):
            result = runner.run(
                "task=compare", "stack=kernel", "stack.layers.conv.weight=[[2]]", "data=blank",
                "data.value=3e38", "ops@task.other.ops=native", f"task.bound={bound}",
                "stack@task.other.stack=kernel", "task.other.stack.layers.conv.weight=[[2]]",
            )  # fmt: skip
            assert result.metrics["agrees"] is False

    def test_says_nothing_above_a_hundredth(self) -> None:
        assert not says_nothing(0.02, 2.0)
        assert says_nothing(0.0201, 2.0)
        assert not says_nothing(0.0, 0.0)

    def test_after_many_layers(self, cli) -> None:
        # Outputs shrink, as signs cancel; magnitudes grow with the sums of absolute weights.
        layers = ", ".join(f"c{i}: {{kind: conv, channels: 8, kernel: 3}}" for i in range(8))
        words = ("task=compare", "stack=empty", f"+stack.layers={{{layers}}}", "data=noise",
                 "data.height=32", "data.width=32", "ops@task.other.ops=native")  # fmt: skip
        shallow = f"task.other.stack={{layers: {{{layers}}}}}".replace("channels: 8", "channels: 4")
        shallow = shallow[: shallow.rindex("channels: 4")] + "channels: 8, kernel: 3}}}"
        done = cli(*words, f"+{shallow}")
        assert done.rc == 3
        assert "says nothing here, as the outputs are at most" in done.stdout
        assert "state task.bound." in done.stdout


class TestTitles:
    def test_two_data(self, monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
        titles: list[str] = []
        drawn = compare.pictures.signed

        def noted(values: np.ndarray, title: str, *rest: object) -> object:
            titles.append(title)
            return drawn(values, title, *rest)

        monkeypatch.setattr(compare.pictures, "signed", noted)
        words = ("task=compare", "ops@task.other.ops=native", "task.bound=9")
        runner.run(*words, "data@task.other.data=bar", "task.other.data.start=3")
        assert titles[0] == "first: conv (native), bar, start 2"
        assert titles[1] == "other: conv (native), bar, start 3"
        titles.clear()
        runner.run(*words, "data@task.other.data=blank", "task.other.data.height=6",
                   "task.other.data.width=8")  # fmt: skip
        assert titles[:2] == ["first: conv (native), bar", "other: conv (native), blank"]
        titles.clear()
        runner.run("task=compare")
        assert titles[:2] == ["first: conv (native)", "other: conv (loops)"]


class TestGradients:
    def test_of_a_convolution(self, workplace: Path) -> None:
        result = runner.run(
            "task=compare", "stack=kernel", "stack.layers.conv.weight=[[2]]", "data=tensor",
            NINE, "task.gradients=true",
        )  # fmt: skip
        # The output is 2x, so the gradient is twice the functional, and off by what the one
        # product, the bias, the weight and the input count.
        gradient = result.outputs["gradient"]
        assert gradient.shape == (1, 1, 3, 3)
        assert result.metrics["gradient_difference"] == 0
        limit = 2 * gamma(4) * np.abs(gradient).max()
        assert result.metrics["gradient_bound"] == pytest.approx(limit, rel=1e-12)

    def test_difference_in_the_gradient_alone(self, workplace: Path) -> None:
        # At zero, relu and identity give the same, but not the same gradient.
        result = runner.run(
            "task=compare", "stack=empty", "+stack.layers.a={kind: activation, function: relu}",
            "+task.other.stack={layers: {a: {kind: activation, function: identity}}}",
            "data=blank", "task.gradients=true", "expect={agrees: false}",
        )  # fmt: skip
        assert result.metrics["max_difference"] == 0
        assert result.metrics["gradient_difference"] > 1
        assert result.holds

    def test_with_respect_to_the_weights(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ["experiment=6_2/gradients", "dtype=float64"]
        assert runner.run(*words).metrics["weight_gradient_difference"] <= 1e-15
        right = LoopsConv.weight_gradient
        monkeypatch.setattr(LoopsConv, "weight_gradient", lambda *given: 2 * right(*given))
        broken = runner.run(*words)
        assert not broken.holds
        # Of five gradients four are twice too large: far from nothing, and from one.
        assert 0.01 < broken.metrics["weight_gradient_difference"] < 1
        assert broken.metrics["gradient_difference"] <= 1e-15

    def test_through_overlapping_maxima(self, workplace: Path) -> None:
        words = ("task=compare", "stack=pool", "stack.layers.pool.stride=1", "data=noise")
        assert runner.run(*words, "task.gradients=true").holds

    def test_need_linear_pieces(self) -> None:
        words = ("stack=empty", "+stack.layers.a={kind: activation, function: tanh}")
        assert complaint(*words, "task.gradients=true") == (
            "task.bound: expected a number, to compare gradients through the tanh of "
            "stack.layers.a, got auto."
        )
        assert runner.plan("task=compare", *words, "task.gradients=true", "task.bound=1e-6")

    def test_need_equal_inputs(self) -> None:
        assert complaint("experiment=6_1/commutative", "task.gradients=true") == (
            "task.other.data: expected inputs of 1×2×3, whose gradients can be compared, "
            "got 1×2×2. Set task.gradients=false."
        )


class TestMistakes:
    @pytest.mark.parametrize("op", ["fft", "winograd", "winograd_2x2", "auto"])
    def test_no_bound_is_known_for_transforms(self, op: str) -> None:
        words = ("stack=kernel", "stack.layers.conv.weight=laplacian_4")
        for ops in (f"ops={op}", f"ops@task.other.ops={op}"):
            assert complaint(*words, ops) == (
                f"task.bound: expected a number, to compare what '{op}' computes in "
                "stack.layers.conv, got auto. No bound is known for transforms. Set "
                "task.bound=1e-5, or take task=verify, which holds every operator to its own gates."
            )
            assert runner.plan("task=compare", *words, ops, "task.bound=1e-5")
        assert runner.plan("task=compare", *words, "ops=auto", "ops.auto.allow=[native,direct]")

    def test_nothing_to_compare_with(self) -> None:
        found = complaint("task.other=null")
        assert found.startswith("task.other: expected a mapping")
        found = complaint("~ops@task.other.ops", "+task.other={}")
        assert (
            found == "task.other: expected a stack, ops or data to compare with, got none of them."
        )

    def test_paths_lead_into_the_other_stack(self) -> None:
        other = "stack@task.other.stack=kernel_3x3"
        assert complaint(other, "task.other.stack.layers.conv.kernel=9").startswith(
            "task.other.stack.layers.conv.kernel: expected height at most 6 (input 6 + padding 0)"
        )
        assert complaint(other, "task.other.stack.layers.conv.paddng=1").endswith(
            "Did you mean 'padding'?"
        )
        assert complaint(other, "task.other.stack.layers.conv.kernel=1") == (
            "task.other.stack.layers: expected 42 numbers per image, as the first gives (1×6×7), "
            "got 48 (1×6×8)."
        )
        assert "Did you mean 'loops'?" in complaint("task.other.ops.conv=lops")
        found = complaint("data@task.other.data=bar", "task.other.data.heigth=3")
        assert found.startswith("task.other.data.heigth: expected")
        assert "Did you mean 'pool'?" in complaint("stack@task.other.stack=poool")

    def test_other_data(self) -> None:
        data = "data@task.other.data=bar"
        assert complaint(data, "task.other.data.height=7") == (
            "task.other.data: expected 42 numbers per image, as the first gives (1×6×7), "
            "got 49 (1×7×7)."
        )
        found = complaint(data, "task.other.data={width: 1, start: 0, stop: 1}")
        assert found.startswith(
            "task.other.data: expected images that the stack can take, got 1×6×1, "
            "with stack.layers.conv.kernel: expected width at most 1"
        )
        assert complaint("data@task.other.data=digits", "stack=empty", "data=digits",
                         "task.other.data.images=3") == (
            "task.other.data: expected 16 images, as many as data gives, got 3."
        )  # fmt: skip
        found = complaint("data@task.other.data=image", "task.other.data.path=nowhere.png")
        assert found.startswith("task.other.data.path: expected")

    def test_bound(self) -> None:
        found = complaint("task.bound=-1")
        assert found.startswith("task.bound: expected ")
        assert "at least 0" in found

    def test_a_kind_of_unknown_rounding_is_refused_before_anything_is_made(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plan = runner.plan("stack=kernel_3x3")
        row = replace(plan.rows[0], layer=plan.rows[0].layer.model_copy(update={"kind": "scale"}))
        with pytest.raises(ConfigError) as caught:
            roundings(replace(plan, rows=(row,)))
        assert str(caught.value) == (
            "task.bound: expected a number, got auto. How stack.layers.conv (kind scale) rounds "
            "is not known here. Set task.bound=1e-5."
        )
        # `check` asks, and needs no answer where a bound is stated.
        monkeypatch.setattr(_error_bound, "CONTAINERS", ())
        layer = "+stack.layers.s={kind: block, layers: {a: {kind: flatten}}}"
        assert "How stack.layers.s (kind block) rounds" in complaint("stack=empty", layer)
        assert runner.plan("task=compare", "stack=empty", layer, "task.bound=1e-5")

    def test_every_kind_of_layer_is_known(self) -> None:
        for stack in ("lenet_bn", "resnet18", "googlenet", "densenet", "nin", "vgg11"):
            size = "data.resize=224" if stack != "lenet_bn" else "data.resize=28"
            assert roundings(runner.plan(f"stack={stack}", "data=photo", size)) > 100

    def test_memory_of_the_other_counts(self) -> None:
        words = ("data=blank", "data.height=256", "data.width=256", "ops@task.other.ops=native")
        dense = "+task.other.stack={layers: {flat: {kind: flatten}, "
        dense += "fc: {kind: linear, features: 65280, bias: false}}}"
        # 65536 · 65280 weights of 4 bytes are 16 GiB, and the stack before it next to nothing.
        found = complaint(*words, dense)
        assert "memory_limit_gib" in found
        assert runner.plan("task=compare", *words)

    def test_memory_of_the_other_operator_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from runner.ops.loops import LoopsConv

        # A million numbers of 4 bytes per image, 1000 images.
        monkeypatch.setattr(LoopsConv, "workspace", lambda *_: 10**6)
        words = ("stack=kernel", "data=blank", "data.images=1000", "memory_limit_gib=1")
        assert "memory_limit_gib" in complaint(*words, "ops@task.other.ops=loops")
        assert runner.plan("task=compare", *words, "ops@task.other.ops=native")
