"""Learning a kernel (the book, 6.2.4): its bounds for every seed, and why they hold.

With input P·w for the windows P of the book's image, the loss ‖P(w − w*)‖² has the Hessian
2·PᵀP = [[36, 24], [24, 36]]: of the 6 · 7 windows, 3 in each row see a one on the left, 3 on the
right, and 2 on both. Its eigenvectors are the sum and the difference of the weights, with
eigenvalues 60 and 12; a step at lr 0.03 multiplies them by 1 − 1.8 = −0.8 and 1 − 0.36 = 0.64.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from bare_run import composed

import runner
from runner.config.errors import ConfigError
from runner.job import Job
from runner.layers.conv import Conv
from runner.plan import Plan
from runner.prepare import Prepared, prepare
from runner.tasks import _film, learn_kernel
from runner.tasks._optimizer import Optimizer
from runner.tasks._quadratic import stable_learning_rate
from runner.tasks.learn_kernel import Diverged

TARGET = np.array([1.0, -1.0])


def prepared(job: Job, seed: int) -> Prepared:
    job = job.model_copy(update={"seed": seed})
    return prepare(job, job.plan())


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drawing and writing take far longer than ten steps do."""
    monkeypatch.setattr(learn_kernel, "save_weights", lambda *_: None)
    monkeypatch.setattr(_film, "kernel_picture", lambda *_: PIL.Image.new("RGB", (1, 1)))
    yield


def test_bounds_of_the_book_hold_from_every_seed(no_pictures: None, workplace: Path) -> None:
    job = composed("task=learn_kernel", "dtype=float64")
    errors, losses, starts = [], [], []
    for seed in range(200):
        run = prepared(job, seed).run
        start = run.model[0].weight.detach().numpy().ravel().copy()
        metrics = job.task.run(run)
        starts.append(start)
        errors.append(metrics["kernel_error"])
        losses.append(metrics["losses"])
        # The sum and the difference of the weights' errors shrink each by its own factor.
        a, b = start - TARGET
        total, difference = (a + b) * (-0.8) ** 10, (a - b) * 0.64**10
        expected = TARGET + np.array([total + difference, total - difference]) / 2
        assert metrics["kernel"] == [pytest.approx(list(expected), abs=1e-9)]
        # ½ eᵀHe with e = (Σ ± Δ)/2 is 15·Σ² + 3·Δ², before each of the ten updates.
        for k, loss in enumerate(metrics["losses"]):
            sums, differences = (a + b) * 0.8**k, (a - b) * 0.64**k
            assert loss == pytest.approx(15 * sums**2 + 3 * differences**2, rel=1e-9)
    # Torch's default initialisation is uniform in ±1/√2, and the seeds fill that box.
    assert np.abs(starts).max() <= 1 / sqrt(2)
    assert np.abs(starts).max() > 0.69
    # The worst corner is (1/√2, 1/√2): Σ = √2, Δ = −2. After ten steps the weights are off by
    # √2 · 0.8¹⁰/2 + 0.64¹⁰ = 0.0759 + 0.0115 = 0.0875, and the tenth loss is
    # 15 · 2 · 0.8¹⁸ + 3 · 4 · 0.64¹⁸ = 0.5404 + 0.0039 = 0.5443.
    assert 0.07 < max(errors) <= 0.0875
    assert 0.4 < max(last[-1] for last in losses) <= 0.5445


def test_hessian_sets_the_largest_stable_learning_rate() -> None:
    job = composed("task=learn_kernel")
    made = prepared(job, 0)
    layer = job.stack.layers["conv"]
    assert isinstance(layer, Conv)
    # 2/60, and a mean over 6 · 7 numbers divides the Hessian by 42.
    assert stable_learning_rate(made.run.x, layer, made.plan, "sum") == pytest.approx(1 / 30)
    assert stable_learning_rate(made.run.x, layer, made.plan, "mean") == pytest.approx(42 / 30)


@pytest.mark.parametrize(
    ("values", "layer", "limit"),
    [
        ([[1.0]], {"kernel": 1}, 1),  # H = 2 · 1
        ([[1.0, 2.0]], {"kernel": 1}, 1 / 5),  # H = 2 · (1 + 4)
        # Windows (1, 1) and (2, 1) with the bias: H = 2 · [[5, 3], [3, 2]], whose larger
        # eigenvalue is 2 · (3.5 + √(1.5² + 3²)).
        ([[1.0, 2.0]], {"kernel": 1, "bias": True}, 1 / (3.5 + sqrt(11.25))),
        ([[1.0, 2.0, 3.0, 4.0]], {"kernel": 1, "stride": 2}, 1 / 10),  # sees 1 and 3
        # Windows 0 1, 1 2, 2 0: H = 2 · [[0+1+4, 0+2+0], [2, 1+4+0]], eigenvalue 2 · 7.
        ([[1.0, 2.0]], {"kernel": [1, 2], "padding": [0, 1]}, 1 / 7),
        # The border replicated: 1 1, 1 2, 2 2: 2 · [[6, 7], [7, 9]], 2 · (7.5 + √(1.5² + 7²)).
        (
            [[1.0, 2.0]],
            {"kernel": [1, 2], "padding": [0, 1], "pad_mode": "replicate"},
            1 / (7.5 + sqrt(51.25)),
        ),
        # Dilated by two: the window of 1 2 3 is 1 3: H = 2 · [[1, 3], [3, 9]], 2 · 10.
        ([[1.0, 2.0, 3.0]], {"kernel": [1, 2], "dilation": 2}, 1 / 10),
        # Output channels don't share weights, so two are no steeper than one.
        ([[1.0, 2.0]], {"kernel": 1, "channels": 2}, 1 / 5),
    ],
)
def test_stable_learning_rate(values: Any, layer: dict[str, Any], limit: float) -> None:
    spec = Conv(kind="conv", **{"channels": 1, "bias": False, **layer})
    check_limit(torch.tensor([[values]]), spec, limit)


def test_stable_learning_rate_of_channels_and_groups() -> None:
    x = torch.tensor([[[[1.0]], [[3.0]]]])  # two channels of one pixel
    both = Conv(kind="conv", channels=2, kernel=1, bias=False)
    check_limit(x, both, 1 / 10)  # H = 2 · (1, 3)(1, 3)ᵀ, eigenvalue 2 · 10
    apart = Conv(kind="conv", channels=2, kernel=1, bias=False, groups=2)
    check_limit(x, apart, 1 / 9)  # blocks 2 · 1 and 2 · 9
    check_limit(x.repeat(4, 1, 1, 1), apart, 1 / 36)  # four images, four times as steep


def check_limit(x: torch.Tensor, layer: Conv, limit: float) -> None:
    """The limit is as derived, and gradient descent just below it shrinks the loss, above not."""
    from runner.geometry import Field, Shape
    from runner.ops import Ops

    shape = Shape(*x.shape[1:])
    output = layer.output_shape(shape)
    row = layer.row("conv", "stack.layers.conv", shape, Field(), Ops())
    plan = Plan(shape, (row,), batch=len(x))
    found = stable_learning_rate(x, layer, plan, "sum")
    assert found == pytest.approx(limit)
    count = len(x) * output.channels * output.height * output.width
    assert stable_learning_rate(x, layer, plan, "mean") == pytest.approx(limit * count)
    for factor, shrinks in ((0.97, True), (1.03, False)):
        model = layer.build(shape, Ops(), torch.Generator().manual_seed(0)).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=factor * found)
        losses = []
        for _ in range(150):
            loss = (model(x.double()) ** 2).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert (losses[-1] < losses[0]) == shrinks


def test_above_the_limit_learning_stops_with_the_reason(workplace: Path) -> None:
    # At lr 0.034 the sum's factor is 1 − 2.04 = −1.04: slow, but without end. The loss grows by
    # 1.04² a step, and by the factor 10⁶ within ln 10⁶ / (2 ln 1.04) = 176 steps or somewhat more.
    with pytest.raises(Diverged, match=r"largest stable learning rate here, 2/λmax = 0\.03333"):
        runner.run("task=learn_kernel", "task.optimizer.lr=0.034", "task.steps=1000")
    (directory,) = (workplace / "outputs" / "learn_kernel").iterdir()
    status = json.loads((directory / "status.json").read_text())
    assert status["state"] == "FAILED"
    assert "lr 0.034 is above the largest stable learning rate" in status["reason"]
    steps = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    assert 176 <= steps[-1]["step"] < 250
    assert steps[-1]["train/loss"] > 1e6
    assert "Traceback" in (directory / "run.log").read_text()
    assert not (directory / "metrics.json").exists()


def test_below_the_limit_it_converges(workplace: Path) -> None:
    # At lr 0.033 the factor is −0.98; 0.98⁴⁰⁰ = 3e-4.
    words = ["task=learn_kernel", "task.steps=400", "tensorboard=false"]
    result = runner.run(*words, "task.optimizer.lr=0.033")
    assert result.metrics["kernel_error"] < 1e-3


def test_infinite_loss_stops_at_once(workplace: Path) -> None:
    with pytest.raises(Diverged, match=r"at step [23],"):
        runner.run("task=learn_kernel", "task.optimizer.lr=1e20", "task.steps=50")
    (directory,) = (workplace / "outputs" / "learn_kernel").iterdir()
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_growing_loss_is_noted(no_pictures: None, workplace: Path) -> None:
    job = composed("task=learn_kernel", "task.optimizer.lr=0.034", "seed=1", "task.steps=100")
    run = prepared(job, 1).run
    job.task.run(run)
    (note,) = run.notes
    assert note == (
        "The loss grew: lr 0.034 is above the largest stable learning rate here, 2/λmax = 0.03333."
    )


def test_strict_convolution_learns_the_flipped_kernel(workplace: Path) -> None:
    """6.2.5: the same outputs, the kernel the other way round."""
    words = ["task=learn_kernel", "task.steps=60"]
    plainly = runner.run(*words)
    assert np.allclose(plainly.metrics["kernel"], [[1, -1]], atol=1e-3)
    flipped = runner.run(*words, "stack.layers.conv.mode=convolution")
    assert np.allclose(flipped.metrics["kernel"], [[-1, 1]], atol=1e-3)
    np.testing.assert_allclose(flipped.outputs["conv"], plainly.outputs["conv"], atol=1e-3)
    assert flipped.metrics["kernel_error"] < 1e-3
    other = runner.run(*words, "task.target.mode=convolution")
    assert np.allclose(other.metrics["kernel"], [[-1, 1]], atol=1e-3)
    both = runner.run(*words, "task.target.mode=convolution", "stack.layers.conv.mode=convolution")
    assert np.allclose(both.metrics["kernel"], [[1, -1]], atol=1e-3)


def test_several_channels(workplace: Path) -> None:
    """Three output channels of three input channels each: 81 numbers from colour noise."""
    result = runner.run(
        "task=learn_kernel", "stack=kernel_3x3", "stack.layers.conv.channels=3",
        "task.target.weight=[sobel_x, laplacian_4, box]", "data=shapes", "data.color=rgb",
        "data.noise=10", "data.height=16", "data.width=16", "task.steps=400",
        "task.reduction=mean", "task.optimizer={name: adam, lr: 0.05}", "task.log_every=200",
    )  # fmt: skip
    kernel = np.array(result.metrics["kernel"])
    assert kernel.shape == (3, 3, 3, 3)
    sobel = [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]
    laplacian = [[0, 1, 0], [1, -4, 1], [0, 1, 0]]
    box = np.full((3, 3), 1 / 9)
    assert result.metrics["losses"][-1] < 1e-3 * result.metrics["losses"][0]
    for learned, wanted in zip(kernel, (sobel, laplacian, box), strict=True):
        # The kernel was laid on every input channel.
        assert np.abs(learned - wanted).max() < 0.05
    assert result.metrics["kernel_error"] == pytest.approx(
        max(np.abs(k - w).max() for k, w in zip(kernel, (sobel, laplacian, box), strict=True))
    )


def test_two_layers_learn_what_one_could(workplace: Path) -> None:
    """Two 2×2 kernels in a row do what a 3×3 does: [1 1; 1 1] twice is [1 2 1; 2 4 2; 1 2 1]."""
    result = runner.run(
        "task=learn_kernel", "stack=pair", "data=shapes", "data.height=24", "data.width=24",
        "task.target.weight=[[1, 2, 1], [2, 4, 2], [1, 2, 1]]", "task.reduction=mean",
        "task.optimizer={name: adam, lr: 0.02}", "task.steps=800", "task.log_every=400",
    )  # fmt: skip
    assert "kernel_error" not in result.metrics  # no one layer is the kernel
    assert result.metrics["loss"] < 1e-3 * result.metrics["losses"][0]
    state = torch.load(result.directory / "weights.pt", weights_only=True)
    first, second = state["conv1.weight"][0, 0], state["conv2.weight"][0, 0]
    together = torch.nn.functional.conv2d(
        first[None, None], second.flip(0, 1)[None, None], padding=1
    )[0, 0]
    wanted = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    torch.testing.assert_close(together, wanted, atol=0.3, rtol=0)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sgd", "lr: 0.02, momentum: 0.5"),
        ("adam", "lr: 0.1"),
        ("adamw", "lr: 0.1"),
        ("rmsprop", "lr: 0.03, momentum: 0.3"),
        ("adagrad", "lr: 0.5"),
    ],
)
def test_every_optimizer_finds_the_kernel(name: str, options: str, workplace: Path) -> None:
    result = runner.run(
        "task=learn_kernel", f"task.optimizer={{name: {name}, {options}}}", "task.steps=300",
        "task.log_every=300", "tensorboard=false",
    )  # fmt: skip
    assert result.metrics["kernel_error"] < 0.1
    assert len(result.metrics["losses"]) <= 101


def test_optimizers_are_what_they_are_called() -> None:
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}
    for name, class_name in {**names, "adagrad": "Adagrad"}.items():
        parameter = torch.nn.Parameter(torch.ones(1))
        frozen = torch.nn.Parameter(torch.ones(1), requires_grad=False)
        spec = Optimizer(name=name, lr=0.5, weight_decay=0.25)  # type: ignore[arg-type]
        optimizer = spec.build(iter([parameter, frozen]))
        assert type(optimizer).__name__ == class_name
        (group,) = optimizer.param_groups
        assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.5, 0.25, 1)


def test_mean_is_the_sum_divided_by_the_numbers(workplace: Path) -> None:
    words = ["task=learn_kernel", "dtype=float64", "task.steps=1"]
    total = runner.run(*words).metrics["loss"]
    mean = runner.run(*words, "task.reduction=mean").metrics["loss"]
    assert mean == pytest.approx(total / 42)  # 6 · 7 outputs


def test_everything_is_kept(workplace: Path) -> None:
    result = runner.run("task=learn_kernel", "task.log_every=4")
    steps = [
        json.loads(line)
        for line in (result.directory / "metrics.jsonl").read_text().splitlines()
        if "train/loss" in line
    ]
    assert [step["step"] for step in steps] == [1, 4, 8, 10]
    losses = result.metrics["losses"]
    assert [step["train/loss"] for step in steps] == [losses[i - 1] for i in (1, 4, 8, 10)]
    assert result.metrics["loss"] == losses[-1]
    state = torch.load(result.directory / "weights.pt", weights_only=True)
    assert list(state) == ["conv.weight"]
    np.testing.assert_allclose(state["conv.weight"][0, 0], result.metrics["kernel"])
    difference = np.abs(result.outputs["conv"] - result.outputs["learn_kernel/target"]).max()
    assert result.metrics["output_error"] == pytest.approx(difference)
    assert {p.name for p in (result.directory / "images").iterdir()} == {
        *(f"kernel_conv_{step:06d}.png" for step in (1, 4, 8, 10)), "kernel_forming.png"
    }  # fmt: skip


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.plan("task=learn_kernel", *words)
    return str(caught.value)


def test_target_of_another_shape() -> None:
    assert complaint("task.target.weight=sobel_x") == (
        "task.target: expected a target that gives 1×6×7, like the stack, got 1×4×6. "
        "Give the stack's layers the target's size and channels."
    )
    assert "got 2×6×7" in complaint("task.target.weight=[[[1, -1]], [[1, 1]]]")
    found = complaint("stack=empty", "task.target.weight=edge_vertical")
    assert found.startswith("stack.layers: expected at least one trainable layer with weights")
    found = complaint("stack.layers.conv.trainable=false")
    assert found.startswith("stack.layers: expected at least one trainable layer")
    assert complaint("task.target.weight=normal") == (
        "task.target.weight: expected a kernel by name or numbers, got the initializer 'normal'."
    )
    found = complaint("task.target.weight=sobel_x", "data.height=2")
    assert found.startswith("task.target.kernel: expected height at most 2")


def test_learning_rate_is_a_number_that_torch_can_use() -> None:
    assert complaint("task.optimizer.lr=1e300") == (
        "task.optimizer.lr: expected at most 1e+30, got 1e+300."
    )
    assert complaint("task.optimizer.lr=0").startswith("task.optimizer.lr: expected more than 0")
    assert complaint("task.optimizer.name=adm").endswith("Did you mean 'adam'?")


def test_target_is_laid_with_the_layers_own_stride_and_padding(workplace: Path) -> None:
    result = runner.run(
        "task=learn_kernel", "stack.layers.conv.stride=[1,2]", "stack.layers.conv.padding=[0,1]"
    )
    # 0 1|1 0|0 0|0 1|1 0, windows a pair each: −1, 1, 0, −1, 1
    assert result.outputs["learn_kernel/target"][0, 0].tolist() == [[-1, 1, 0, -1, 1]] * 6


def test_prepared_runs_are_independent() -> None:
    job = composed("task=learn_kernel")
    one, two = prepared(job, 3), prepared(job, 3)
    assert torch.equal(one.run.model[0].weight, two.run.model[0].weight)
    assert one.run is not replace(two).run


def test_weight_decay_lowers_the_stable_learning_rate(workplace: Path) -> None:
    # λmax = 60 + 100, so the limit is 2 / 160 = 0.0125
    with pytest.raises(Diverged, match=r"lr 0\.03 is above .* 2/λmax = 0\.0125"):
        runner.run("task=learn_kernel", "task.optimizer.weight_decay=100", "task.steps=60")


def test_the_kernel_that_is_learned_is_pictured(workplace: Path) -> None:
    layers = (
        "stack=empty",
        "+stack.layers.fixed={kind: conv, weight: [[1]], trainable: false}",
        "+stack.layers.learned={kind: conv, channels: 1, kernel: [1, 2], bias: false}",
    )
    result = runner.run("task=learn_kernel", *layers)
    pictures = {path.name for path in (result.directory / "images").iterdir()}
    assert "kernel_learned_000010.png" in pictures
    assert not any("fixed" in name for name in pictures)
    assert set(result.outputs) == {"fixed", "learned", "learn_kernel/target"}


def test_what_has_no_kernel_can_be_learned_without_pictures(workplace: Path) -> None:
    norm = ("stack=empty", "+stack.layers.norm={kind: batchnorm}", "task.target.weight=[[1]]")
    result = runner.run("task=learn_kernel", *norm)
    assert result.metrics["losses"]
    assert not (result.directory / "images").exists()


def test_layers_may_be_called_anything_that_torch_lets_them(workplace: Path) -> None:
    layer = "{kind: conv, channels: 1, kernel: 1}"
    words = ("stack=empty", f"+stack.layers.file={layer}", f"+stack.layers.allow_pickle={layer}")
    result = runner.run("task=forward", *words)
    with np.load(result.directory / "outputs.npz", allow_pickle=False) as saved:
        assert set(saved.files) == {"file", "allow_pickle"}


def test_momentum_needs_an_optimizer_that_has_one(workplace: Path) -> None:
    words = ("task.optimizer.name=adam", "task.optimizer.momentum=0.9")
    with pytest.raises(runner.ConfigError, match=r"momentum: expected 0 with adam, got 0\.9"):
        runner.run("task=learn_kernel", *words)


def test_the_film_shows_the_kernel_of_each_step(workplace: Path) -> None:
    result = runner.run("task=learn_kernel", "seed=0")
    frames = [
        (result.directory / "images" / f"kernel_conv_{step:06d}.png").read_bytes()
        for step in range(1, 11)
    ]
    assert len(set(frames)) == 10
