"""Gradient descent on a quadratic: eigenvalues, learning rates and factors, derived by hand.

The book's image is 1 1 0 0 0 0 1 1 in each of six rows, so a row's seven windows of two are
11 10 00 00 00 01 11. The left weight meets a one in 3 of them, the right in 3, both in 2: with six
rows PᵀP is [[18, 12], [12, 18]], and the Hessian of the sum of squared errors, 2·PᵀP, is
[[36, 24], [24, 36]]. Its eigenvectors are the difference and the sum of the weights, with the
eigenvalues 36 − 24 = 12 and 36 + 24 = 60.
"""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_run import composed

import runner
from runner.config.errors import ConfigError
from runner.geometry import Field, Shape
from runner.layers.conv import Conv
from runner.ops import Ops
from runner.plan import Plan
from runner.prepare import prepare
from runner.tasks import _quadratic
from runner.tasks._quadratic import curvature, lanczos, stable_learning_rate
from runner.tasks.diagnose import _factor
from runner.tracking import charts


def conv(**fields: Any) -> Conv:
    return Conv(kind="conv", **{"channels": 1, "bias": False, **fields})


def planned(layer: Conv, x: torch.Tensor) -> Plan:
    shape = Shape(*x.shape[1:])
    row = layer.row("conv", "stack.layers.conv", shape, Field(), Ops())
    return Plan(shape, (row,), batch=len(x))


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=diagnose", *words)
    return str(caught.value)


def notes(*words: str) -> list[str]:
    job = composed("task=diagnose", *words)
    run = prepare(job, job.plan()).run
    job.task.run(run)
    return run.notes


def titles(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is written above charts from now on."""
    shown: list[str] = []
    drawn = charts.lines

    def noted(series: Any, title: str, *rest: Any, **more: Any) -> Any:
        shown.append(title)
        return drawn(series, title, *rest, **more)

    monkeypatch.setattr(charts, "lines", noted)
    return shown


class TestCurvature:
    def test_windows_of_the_books_image(self) -> None:
        windows = [[1, 1], [1, 0], [0, 0], [0, 0], [0, 0], [0, 1], [1, 1]] * 6
        by_hand = sum(2 * np.outer(w, w) for w in windows)
        assert by_hand.tolist() == [[36, 24], [24, 36]]
        image = torch.tensor([[[[1.0, 1, 0, 0, 0, 0, 1, 1]] * 6]])
        found = curvature(image, conv(kernel=[1, 2]), Shape(1, 6, 8))
        assert found.matrix is not None
        assert found.matrix.tolist() == [[[36, 24], [24, 36]]]
        assert found.values.tolist() == [pytest.approx([12, 60])]
        difference, total = found.vectors[0].T.abs().tolist()
        assert difference == total == pytest.approx([1 / sqrt(2)] * 2)

    @pytest.mark.parametrize(
        "layer",
        [
            conv(kernel=[3, 2], channels=4, groups=2, bias=True, padding=[1, 0], stride=[2, 1]),
            conv(kernel=[2, 3], pad_mode="circular", padding=2, dilation=2),
            conv(kernel=3, channels=2, mode="convolution", padding="same", pad_mode="reflect"),
            conv(kernel=2, channels=4, groups="depthwise", bias=True),
        ],
    )
    def test_with_and_without_the_matrix(
        self, layer: Conv, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        x = torch.randn(3, 4, 9, 11, generator=torch.Generator().manual_seed(0))
        shape = Shape(4, 9, 11)
        whole = curvature(x, layer, shape)
        assert whole.matrix is not None
        # By autograd, from the layer itself: an independent way to the same numbers.
        module: Any = layer.build(shape, Ops(), torch.Generator()).double()
        weights = [p.detach() for p in module.parameters()]
        names = [name for name, _ in module.named_parameters()]

        def loss(*given: torch.Tensor) -> torch.Tensor:
            outputs = torch.func.functional_call(module, dict(zip(names, given, strict=True)),
                                                 (x.double(),))  # fmt: skip
            return (outputs**2).sum()

        blocks = torch.autograd.functional.hessian(loss, tuple(weights))
        size = [w.numel() for w in weights]
        full = torch.cat([
            torch.cat([block.reshape(n, m) for block, m in zip(row, size, strict=True)], dim=1)
            for row, n in zip(blocks, size, strict=True)
        ])  # fmt: skip
        repeats = layer.output_shape(shape).channels // len(whole.values)
        expected = torch.linalg.eigvalsh(full)
        found = whole.values.repeat(repeats, 1).flatten().sort().values
        torch.testing.assert_close(found, expected, atol=1e-8, rtol=1e-9)
        # In strips of a few windows, and by products alone.
        monkeypatch.setattr(_quadratic, "PATCHES", 150)
        strips = curvature(x, layer, shape)
        torch.testing.assert_close(strips.matrix, whole.matrix)
        ends = curvature(x, layer, shape, dense=0)
        assert ends.matrix is None
        torch.testing.assert_close(ends.values, whole.values[:, [0, -1]])
        limit = stable_learning_rate(x, layer, planned(layer, x), "sum", 0.5)
        assert limit == pytest.approx(2 / (float(expected.max()) + 0.5))

    def test_memory_stays_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        largest = []
        unfold = torch.nn.functional.unfold

        def watched(*given: Any) -> torch.Tensor:
            largest.append(unfold(*given).numel())
            return unfold(*given)

        monkeypatch.setattr(torch.nn.functional, "unfold", watched)
        monkeypatch.setattr(_quadratic, "PATCHES", 10_000)
        x = torch.rand(2, 1, 100, 100)
        layer = conv(kernel=5)
        curvature(x, layer, Shape(1, 100, 100))
        # All windows at once would be 2 · 25 · 96².
        assert max(largest) <= 10_000
        assert sum(largest) == 2 * 25 * 96**2

    def test_ends_of_matrices_with_repeated_and_zero_eigenvalues(self) -> None:
        matrices = torch.stack([
            torch.diag(torch.tensor([3.0, 3, 3, 7, 7, 1])), torch.zeros(6, 6), torch.eye(6),
            torch.diag(torch.tensor([0.0, 0, 0, 0, 0, 5])),
        ]).double()  # fmt: skip
        values, vectors = lanczos(lambda v: torch.einsum("gab,gb->ga", matrices, v), 4, 6)
        assert values[:, -1].tolist() == pytest.approx([7, 0, 1, 5], abs=1e-9)
        assert values[:, 0].tolist() == pytest.approx([1, 0, 1, 0], abs=1e-9)
        residual = torch.einsum("gab,gbm->gam", matrices, vectors) - vectors * values[:, None]
        assert residual[:, :, [0, -1]].abs().max() < 1e-7


class TestTheBooksRate:
    def test_predicted_and_measured(self, workplace: Path) -> None:
        result = runner.run("task=diagnose")
        metrics = result.metrics
        assert metrics["hessian"] == [[36, 24], [24, 36]]
        assert metrics["eigenvalues"] == pytest.approx([12, 60])
        assert metrics["contraction_predicted"] == pytest.approx([0.64, -0.8])
        assert metrics["contraction_measured"] == pytest.approx([0.64, -0.8], abs=1e-5)
        assert metrics["contraction_error"] < 1e-5
        assert (metrics["stable_lr"], metrics["best_lr"]) == pytest.approx((1 / 30, 1 / 36))
        assert (metrics["stable"], metrics["nullity"], metrics["steps"]) == (True, 0, 10)
        # The start is what the seed draws for learn_kernel, and so are the losses.
        learned = runner.run("task=learn_kernel")
        assert metrics["losses"] == learned.metrics["losses"]
        assert metrics["kernel_error"] == pytest.approx(learned.metrics["kernel_error"], rel=1e-6)
        # After ten steps: (Σ · 0.8¹⁰ ± Δ · 0.64¹⁰) / 2 for the first errors' sum and difference.
        start = runner.run("task=diagnose", "task.steps=1").outputs["diagnose/errors"][0, 0, 0]
        total, difference = sqrt(2) * abs(start[1]), sqrt(2) * abs(start[0])
        expected = (total * 0.8**10 + difference * 0.64**10) / 2
        assert metrics["kernel_error_predicted"] == pytest.approx(expected)
        assert metrics["kernel_error"] == pytest.approx(expected, rel=1e-4)

    def test_pictures(self, workplace: Path) -> None:
        result = runner.run("task=diagnose")
        names = {path.name for path in (result.directory / "images").iterdir()}
        assert names == {"diagnose_surface.png", "diagnose_modes.png", "diagnose_loss.png"}

    def test_above_the_limit(self, workplace: Path) -> None:
        result = runner.run("task=diagnose", "task.optimizer.lr=0.034", "task.steps=300")
        assert result.metrics["stable"] is False
        assert result.metrics["contraction_measured"] == pytest.approx([0.592, -1.04], abs=1e-4)
        # The start's sum of errors, grown by 1.04³⁰⁰ = 128,000
        assert result.metrics["kernel_error"] > 1e4
        assert result.metrics["kernel_error"] == pytest.approx(
            result.metrics["kernel_error_predicted"], rel=1e-2
        )

    def test_as_far_as_numbers_are_finite(self, workplace: Path) -> None:
        result = runner.run("task=diagnose", "task.optimizer.lr=1e9", "task.steps=50")
        # Factors of −6·10¹⁰: after three steps 2·10³², after four beyond every float32; and the
        # square of the loss's errors overflows before.
        assert 1 <= result.metrics["steps"] < 5
        assert result.metrics["stable"] is False
        assert result.metrics["contraction_measured"][1] == pytest.approx(-6e10, rel=1e-3)
        json.loads((result.directory / "metrics.json").read_text())

    def test_at_an_eigenvalues_own_rate_it_is_gone_in_a_step(self, workplace: Path) -> None:
        result = runner.run(
            "task=diagnose", "task.reduction=mean", "task.optimizer.lr=0.7", "dtype=float64"
        )
        # A mean over 42: eigenvalues 12/42 and 60/42; 0.7 is 42/60.
        assert result.metrics["eigenvalues"] == pytest.approx([12 / 42, 60 / 42])
        assert result.metrics["contraction_measured"] == pytest.approx([0.8, 0], abs=1e-9)


class TestOtherProblems:
    def test_weight_decay_stops_short_of_the_target(self, workplace: Path) -> None:
        # With decay 12 the eigenvalues are 24 and 72. The target's part along the difference,
        # where all of it is, is found up to 12/24: the kernel ends at half of [1, −1].
        result = runner.run(
            "task=diagnose", "task.optimizer.weight_decay=12", "task.optimizer.lr=0.02",
            "task.steps=60",
        )  # fmt: skip
        assert result.metrics["hessian"] == [[48, 24], [24, 48]]
        assert result.metrics["eigenvalues"] == pytest.approx([24, 72])
        assert result.metrics["contraction_measured"] == pytest.approx([0.52, -0.44], abs=1e-4)
        assert result.metrics["kernel_error"] == pytest.approx(0.5, abs=1e-5)
        assert result.metrics["kernel_error_predicted"] == pytest.approx(0.5, abs=1e-9)

    def test_channels_groups_batches_bias(self, workplace: Path) -> None:
        result = runner.run(
            "task=diagnose", "stack=kernel_3x3", "data=noise", "data.channels=4", "data.images=5",
            "stack.layers.conv={kernel: [3, 2], channels: 4, groups: 2, bias: true, stride: 2, "
            "padding: [1, 0, 1, 1], pad_mode: replicate, mode: convolution}",
            "task.target.weight=[[[1,2],[3,4],[5,6]],[[1,0],[0,0],[0,1]]]",
            "task.reduction=mean", "task.optimizer.lr=0.4", "task.steps=30",
        )  # fmt: skip
        metrics = result.metrics
        # Two groups; of two channels, 3 × 2 weights each, and a bias.
        assert np.shape(metrics["eigenvalues"]) == (2, 13)
        assert metrics["contraction_error"] < 1e-3
        assert metrics["kernel_error"] == pytest.approx(metrics["kernel_error_predicted"], rel=1e-4)

    def test_a_large_kernel_goes_without_the_matrix(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = (
            "task=diagnose", "stack=kernel_3x3", "data=noise", "task.target.weight=sobel_x",
            "task.reduction=mean", "task.optimizer.lr=0.2", "dtype=float64",
        )  # fmt: skip
        whole = runner.run(*words).metrics
        monkeypatch.setattr(_quadratic.curvature, "__defaults__", (4,))
        ends = runner.run(*words).metrics
        assert "hessian" not in ends
        assert "kernel_error_predicted" not in ends
        for name in ("eigenvalues", "contraction_predicted", "contraction_measured"):
            assert ends[name] == pytest.approx([whole[name][0], whole[name][-1]])
        for name in ("stable_lr", "kernel_error"):
            assert ends[name] == pytest.approx(whole[name])
        # The flattest mode that was found may not be the flattest there is.
        for name in ("best_lr", "condition_number"):
            assert name not in ends
            assert ends[f"{name}_at_least"] == pytest.approx(whole[name])

    def test_without_the_matrix_no_mode_is_called_the_slowest(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        words = ("stack=kernel_3x3", "data=noise", "task.target.weight=sobel_x")
        shown = titles(monkeypatch)
        assert "The slowest mode's error" in "".join(notes(*words, "task.optimizer.lr=1e-3"))
        assert shown[0].endswith("; 3 of 9 modes")
        shown.clear()
        monkeypatch.setattr(_quadratic.curvature, "__defaults__", (4,))
        (note,) = notes(*words, "task.optimizer.lr=1e-3")
        assert "slowest" not in note
        assert "the condition number and the best learning rate are lower bounds" in note
        assert shown[0].endswith("; 2 of 9 modes")

    def test_modes_that_the_data_do_not_see(self, workplace: Path) -> None:
        # In a blank image of ones only the sum of the nine weights matters: 14² windows in all.
        result = runner.run(
            "task=diagnose", "stack=kernel_3x3", "data=blank", "data.value=1", "data.height=16",
            "data.width=16", "task.target.weight=sobel_x", "task.optimizer.lr=1e-4",
        )  # fmt: skip
        metrics = result.metrics
        assert metrics["nullity"] == 8
        assert metrics["eigenvalues"][-1] == pytest.approx(2 * 9 * 14**2)
        assert metrics["condition_number"] == pytest.approx(1)
        assert metrics["contraction_measured"][-1] == pytest.approx(1 - 0.3528, abs=1e-4)
        assert metrics["contraction_measured"][:8] == pytest.approx([1] * 8, abs=1e-5)

    def test_nothing_to_see(self, workplace: Path) -> None:
        result = runner.run("task=diagnose", "data=blank")
        assert result.metrics["eigenvalues"] == [0, 0]
        assert result.metrics["stable_lr"] is None

    def test_other_operators_and_precisions(self, workplace: Path) -> None:
        for words in (("ops=loops", "dtype=float64"), ("dtype=bfloat16",)):
            metrics = runner.run("task=diagnose", *words).metrics
            assert metrics["contraction_predicted"] == pytest.approx([0.64, -0.8])
            assert metrics["stable"]

    def test_what_cannot_be_measured_is_explained(self, workplace: Path) -> None:
        # At the book's rate in float16: 2⁻¹⁰ of a weight near 1, a thousand times, is all of it.
        found = notes("dtype=float16")
        assert found[-1] == (
            "Of 1 mode no contraction could be measured (none): the error was never 1,000 times "
            "what float16 rounds off."
        )
        assert not any("measured" in note for note in notes())


@pytest.mark.parametrize(
    ("factor", "text"),
    [(0.64, "0.64"), (-0.8, "-0.8"), (2 / 3, "0.6667"), (0.9998, "0.9998"), (1.0, "1"),
     (0.99999876, "0.9999988"), (-1.00002, "-1.00002"), (-6e10, "-6e+10"), (-np.inf, "-inf")],
)  # fmt: skip
def test_a_factor_is_told_from_one(factor: float, text: str) -> None:
    assert _factor(factor) == text


class TestMistakes:
    def test_not_quadratic(self) -> None:
        assert complaint("stack=pair") == (
            "stack.layers: expected one conv layer and nothing else, whose squared error is "
            "quadratic, got conv1 (conv), conv2 (conv). Try stack=kernel_1x2 or stack=kernel_3x3."
        )
        assert "got no layers." in complaint("stack=empty")
        assert complaint("task.optimizer.name=adam").startswith(
            "task.optimizer.name: expected sgd, got 'adam'."
        )
        assert complaint("task.optimizer.momentum=0.9") == (
            "task.optimizer.momentum: expected 0, got 0.9."
        )
        assert complaint("stack.layers.conv.trainable=false").startswith(
            "stack.layers.conv.trainable: expected true, got false."
        )

    def test_target(self) -> None:
        assert complaint("task.target.weight=sobel_x").startswith(
            "task.target: expected a target that gives 1×6×7, like the stack, got 1×4×6."
        )
        assert complaint("task.target.weight=normal").startswith("task.target.weight: expected")

    def test_too_many_steps(self) -> None:
        assert complaint("task.steps=1000000000").startswith(
            "task.steps: expected at most 100000, got 1000000000."
        )
        # 64 · 21² weights in 4 GiB of 8 bytes, three times per step: 6,340 times.
        large = ("stack=kernel_3x3", "data=photo", "task.target.weight={kernel: box, size: 21}",
                 "stack.layers.conv={channels: 64, kernel: 21, padding: same}")  # fmt: skip
        assert complaint(*large, "task.steps=6340") == (
            "task.steps: expected at most 6,339, as the 28,224 weights of every step are kept, "
            "got 6,340."
        )
