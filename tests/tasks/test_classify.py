"""Classification: the loop against one written by hand, what is measured, and what is refused."""

from __future__ import annotations

import json
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from bare_run import composed
from torch import nn
from torch.utils.data import TensorDataset

import runner
from runner.config.compose import Composer
from runner.config.errors import ConfigError
from runner.config.plain import plain
from runner.data import Images
from runner.job import Job
from runner.prepare import prepare
from runner.tasks._classified import Classified
from runner.tasks._optimizer import Diverged
from runner.tasks._training import Training, predict, score, shuffled
from runner.tasks.classify import Classify
from runner.tracking.memory import Memory

QUICK = ("task=classify", "data.images=200", "task.epochs=3", "threads=1", "tensorboard=false")


def training(*words: str) -> Training:
    """Ready to learn from 100 digits and validate on 50 others."""
    job = composed(*QUICK, *words)
    run = prepare(job, job.plan()).run
    run.tracker = Memory()
    labels = torch.from_numpy(run.images.labels)
    assert isinstance(job.task, Classify)
    first, second = (TensorDataset(run.x[a:b], labels[a:b]) for a, b in ((0, 100), (100, 150)))
    return Training(run, job.task, first, second)


def problems(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.run(*QUICK, *words)
    return str(caught.value)


def test_two_epochs_are_those_of_a_loop_written_by_hand() -> None:
    ours = training(
        "data.resize=28", "stack=lenet", "task.batch_size=30", "task.optimizer.name=sgd",
        "task.optimizer.lr=0.5", "task.optimizer.momentum=0.9", "task.optimizer.weight_decay=0",
        "task.schedule.name=exponential", "task.schedule.gamma=0.5",
    )  # fmt: skip
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10),
    )  # fmt: skip
    values = [value.clone() for value in ours.model.state_dict().values()]
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    generator = torch.Generator()
    generator.set_state(ours.run.generator.get_state())
    batches = shuffled(ours.batches.dataset, 30, generator)
    means, learned = [], []
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for epoch in range(2):
        losses = []
        for x, labels in batches:
            loss = F.cross_entropy(model(x), labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                    v.mul_(0.9).add_(g)
                    p.sub_(0.5 * 0.5**epoch * v)
            losses += [loss.item()] * len(labels)
        means.append(sum(losses) / 100)
        learned.append([p.detach().clone() for p in model.parameters()])
    for epoch in range(2):
        ours._learn(lambda _: None)
        ours.schedule.step()
        assert ours.history["train/loss"][epoch] == pytest.approx(means[epoch], rel=1e-5)
        for a, b in zip(ours.model.parameters(), learned[epoch], strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)
    assert ours.step == 8  # three batches of 30 and one of 10, twice
    assert ours.history["train/lr"] == [0.5, 0.25]


def test_the_progress_bar_goes_on_where_it_was() -> None:
    first, second = training(), training()
    first._learn(lambda _: None)  # 100 images in batches of 32: four steps of twelve
    first.validate()
    second.restore(first.state())
    opened: list[tuple[int, str, int]] = []

    def progress(total: int, label: str, done: int = 0, /) -> Any:
        opened.append((total, label, done))
        raise InterruptedError

    second.run.progress = progress
    with pytest.raises(InterruptedError):
        second.fit()
    assert opened == [(12, "training", 4)]


def test_score_of_outputs_by_hand() -> None:
    outputs = torch.tensor([[0.0, 0.0, 0.0], [log(2), 0, 0], [0, log(2), 0], [0, log(2), 0]])
    loss, accuracy = score(outputs, torch.tensor([0, 1, 1, 1]))
    # Softmax gives 1/3 each; then 2/4 to the larger and 1/4 to the others.
    assert loss == pytest.approx((log(3) + log(4) + log(2) + log(2)) / 4)
    assert accuracy == 0.75  # of equals the first counts


def test_nothing_is_dropped_and_no_statistic_moves_when_predicting() -> None:
    made = training()
    before = {key: value.clone() for key, value in made.model.state_dict().items()}
    first, labels = predict(made.model, made.validation, 7)
    again, _ = predict(made.model, made.validation, 50)
    assert torch.allclose(first, again, atol=1e-6)
    assert torch.equal(labels, made.validation.tensors[1])
    assert all(torch.equal(before[k], v) for k, v in made.model.state_dict().items())


def test_every_image_is_seen_once_an_epoch_but_one_left_over() -> None:
    x = torch.arange(9.0)
    for size, seen in ((4, 8), (3, 9), (1, 9), (9, 9)):  # 4 + 4 + 1: one would be left alone
        loader = shuffled(TensorDataset(x, x), size, torch.Generator().manual_seed(0))
        orders = [torch.cat([batch for batch, _ in loader]).tolist() for _ in range(2)]
        assert [len(set(order)) for order in orders] == [seen, seen]
        assert orders[0] != orders[1]


def test_the_best_weights_are_kept_and_learning_stops_early(workplace: Path) -> None:
    # A rate that is far too large after a good start: the validation loss jumps up and down.
    result = runner.run(
        *QUICK, "task.epochs=40", "task.patience=2", "task.optimizer.lr=0.02",
        "task.schedule.name=constant",
    )  # fmt: skip
    lines = [json.loads(x) for x in (result.directory / "metrics.jsonl").read_text().splitlines()]
    losses = [line["val/loss"] for line in lines if "val/loss" in line]
    metrics, best = result.metrics, int(np.argmin(losses)) + 1
    assert metrics["best_epoch"] == best
    assert metrics["stopped_early"] is True
    assert metrics["epochs"] == len(losses) == best + 2
    assert metrics["val_loss"] == pytest.approx(min(losses), rel=1e-6)
    assert losses[-1] > min(losses)
    # 200 · 0.7 = 140 in batches of 32.
    assert metrics["steps"] == 5 * len(losses)
    assert [line["step"] for line in lines if "epoch" in line] == [
        5 * (k + 1) for k in range(len(losses))
    ]


def test_what_a_run_measures_and_leaves(workplace: Path) -> None:
    result = runner.run(*QUICK, "task.epochs=6", "task.images=3")
    metrics = result.metrics
    confusion = np.array(metrics["confusion"])
    images = Job.parse(_raw()).data.load()
    assert images.labels is not None
    # 40 of 200 test, a fifth of each class within one image.
    assert confusion.sum() == 40
    assert np.abs(confusion.sum(axis=1) - np.bincount(images.labels) / 5).max() < 1
    assert metrics["test_accuracy"] == pytest.approx(np.trace(confusion) / 40)
    assert (metrics["epochs"], metrics["stopped_early"], metrics["parameters"]) == (6, False, 38378)
    assert metrics["head_share"] == pytest.approx((64 * 513 + 10 * 65) / 38378)
    probabilities = result.outputs["classify/probabilities"]
    assert probabilities.shape == (40, 10)
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(40), abs=1e-5)
    true = result.outputs["classify/labels"]
    picked = probabilities[np.arange(40), true]
    assert metrics["test_loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-4)
    pictures = {path.stem for path in (result.directory / "images").iterdir()}
    assert pictures >= {"classify_curves", "classify_confusion", "filters_conv1", "maps_conv1"}
    weights = torch.load(result.directory / "weights.pt", weights_only=True)
    assert weights["conv1.weight"].shape == (16, 1, 3, 3)
    # What was left is what was measured: the weights give the same probabilities.
    job = composed(*QUICK, "task.epochs=6")
    run = prepare(job, job.plan()).run
    run.model.load_state_dict(weights)
    sets = job.task._sets(run)  # type: ignore[attr-defined]  # of Classify
    outputs, _ = predict(run.model, sets.test, 32)
    assert np.allclose(outputs.softmax(dim=1).numpy(), probabilities, atol=1e-6)


def _raw() -> dict[str, Any]:
    with Composer() as composer:
        return plain(composer.compose(list(QUICK)).config)


def test_test_images_of_another_source(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = "task.test_data={kind: digits, start: 1500, images: 50}"
    result = runner.run(*QUICK, "task.epochs=1", other, quiet=False)
    assert np.sum(result.metrics["confusion"]) == 50
    assert "also in the data" not in capsys.readouterr().out
    # Nothing is kept back for the test: 180 of 200 learn, in six batches of at most 32.
    assert result.metrics["steps"] == 6
    # Loading 60,000 images takes memory; a step of 64 needs little.
    assert composed(*QUICK, "task.batch_size=64").plan().batch == 64


def test_images_that_were_learned_from_say_little(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Of the images 190 to 219, the first ten are among the 200.
    other = "task.test_data={kind: digits, start: 190, images: 30}"
    runner.run(*QUICK, "task.epochs=1", other, quiet=False)
    said = " ".join(capsys.readouterr().out.split())
    assert "10 of the 30 images of task.test_data are also in the data" in said


def found(labels: list[int], taken_for: list[int]) -> Classified:
    x = np.zeros((len(labels), 1, 2, 2))
    return Classified(x, np.array(labels), np.eye(3)[taken_for], ("cat", "dog", "owl"))


def test_how_the_confusion_matrix_is_read() -> None:
    (note,) = found([0, 1, 1, 2], [0, 1, 1, 0]).notes()
    assert note.endswith("a row for each class, a column for each that it was taken for: "
                         "cat, dog, owl.")  # fmt: skip


def test_what_learned_nothing_is_told() -> None:
    # Three of five are dogs: who always says dog is right three times.
    labels = [1, 1, 1, 0, 2]
    for taken_for, right in (([1, 1, 1, 1, 1], 3), ([1, 1, 0, 0, 0], 3), ([2, 2, 2, 2, 2], 1)):
        note = found(labels, taken_for).notes()[1]
        assert f"{right} of 5 test images are right, and 3 would be if all were taken " in note
        assert "for 'dog'. Try another task.optimizer.lr" in note
    assert len(found(labels, [1, 1, 1, 0, 0]).notes()) == 1  # four are right
    assert len(found([1, 1], [1, 1]).notes()) == 1  # one class alone: nothing to compare with


def test_a_run_that_learned_nothing_says_so(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("task.epochs=1", "task.optimizer.lr=1e-12", "stack=lenet", "data.resize=28")
    runner.run(*QUICK, *words, quiet=False)
    assert "Nothing was learned: " in capsys.readouterr().out


@pytest.mark.parametrize("words", [("dtype=float64",), ("dtype=bfloat16",), ("ops=loops",)])
def test_other_numbers_and_operators(words: tuple[str, ...], workplace: Path) -> None:
    small = (
        "data.images=30", "task.epochs=1", "task.batch_size=5", "task.validation=0.2",
        "stack.layers.conv1.channels=2", "stack.layers.conv2.channels=2",
    )  # fmt: skip
    result = runner.run(*QUICK, *small, *words)
    assert 0 <= result.metrics["test_accuracy"] <= 1
    assert np.isfinite(result.metrics["test_loss"])


def test_a_stack_without_convolution_draws_no_filters(workplace: Path) -> None:
    layers = "{flatten: {kind: flatten}, fc: {kind: linear, features: 10}}"
    folder = workplace / "mine" / "stack"
    folder.mkdir(parents=True)
    (folder / "dense.yaml").write_text(f"layers: {layers}\n")
    result = runner.run(*QUICK, "stack=dense", "task.epochs=1", config_dir=workplace / "mine")
    assert result.metrics["head_share"] == 1
    pictures = {path.stem for path in (result.directory / "images").iterdir()}
    assert not any(name.startswith(("filters", "maps")) for name in pictures)


def test_divergence_stops_with_the_step(workplace: Path) -> None:
    with pytest.raises(Diverged, match=r"the loss was (nan|inf) at step [234], in epoch 1: task\."):
        runner.run(
            *QUICK, "task.optimizer.name=sgd", "task.optimizer.lr=1e12", "task.log_every=100"
        )
    (directory,) = (workplace / "outputs" / "classify").iterdir()
    lines = (directory / "metrics.jsonl").read_text().splitlines()
    assert "nan" in lines[-1] or "inf" in lines[-1]
    assert json.loads(lines[-1])["step"] in (2, 3, 4)


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (("data=photo", "~data.images"), ["got images without labels. data=digits_all, "]),
        (("stack=pool",), ["stack.layers: expected a last layer that gives a flat vector"]),
        (("stack=empty",), ["got feature maps of 1×8×8 from 'the input'"]),
        (
            ("stack.layers.fc2.features=7",),
            ["stack.layers.fc2: expected 10 features, one per class", "fc2.features=10."],
        ),
        (("~stack.layers.fc2",), ["stack.layers.drop2: expected 10 features", "got 64 features"]),
        (("data.images=1",), ["data: expected images of at least two classes", "one class, '0'"]),
        (
            ("task.test_data={kind: digits, images: 1}",),
            ["task.test_data: expected images of at least two", "task.test_data.images=null."],
        ),
        (("data.images=4",), ["data: expected at least 10 images, so that task.validation=0.1"]),
        (
            ("task.batch_size=141",),
            ["task.batch_size: expected at most 140", "Set task.batch_size=140, or take more"],
        ),
        (("task.schedule.warmup=3",), ["task.schedule.warmup: expected fewer epochs", "got 3."]),
        (
            ("task.test_data={kind: digits, resize: 9}",),
            ["task.test_data: expected images of 1×8×8, like the data, got 1×9×9."],
        ),
        (
            ("task.test_data={kind: blank, height: 8, width: 8}",),
            ["task.test_data: expected images with labels, got images without labels."],
        ),
        (
            ("task.test_data={kind: mnist, folder: nowhere}",),
            ["task.test_data.folder: expected a folder with "],
        ),
        (("task.test_data={kind: foto}",), ["task.test_data.kind: ", "Did you mean 'photo'?"]),
        (
            tuple(
                f"stack.layers.{name}.trainable=false"
                for name in ("conv1", "norm1", "conv2", "norm2", "fc1", "fc2")
            ),
            ["stack.layers: expected at least one trainable layer with weights, got none."],
        ),
    ],
)
def test_what_does_not_fit_is_told_by_path(
    words: tuple[str, ...], messages: list[str], workplace: Path
) -> None:
    found = problems(*words)
    assert all(message in found for message in messages), found
    assert not list(workplace.glob("outputs/*/*"))


def test_normalising_one_number_is_refused(workplace: Path) -> None:
    runner.plan(*QUICK, "task.batch_size=1")  # feature maps have numbers enough
    folder = workplace / "mine" / "stack"
    folder.mkdir(parents=True)
    layers = "{flatten: {kind: flatten}, norm: {kind: batchnorm}, fc: {kind: linear, features: 10}}"
    (folder / "norm.yaml").write_text(f"layers: {layers}\n")
    with pytest.raises(ConfigError, match=r"task\.batch_size: expected at least 2 with batch norm"):
        runner.run(*QUICK, "stack=norm", "task.batch_size=1", config_dir=workplace / "mine")


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (None, (), "data: expected images with labels, got images without labels."),
        ([0, 1], (), "data: expected labels with named classes, got labels without classes."),
        ([0, 10], tuple("0123456789"), "expected labels from 0 to 9, one of 10 classes, got "),
        ([-1, 3], tuple("0123456789"), "got labels from -1 to 3."),
        ([3, 3], tuple("0123456789"), "got 2 of one class, '3'."),
    ],
)
def test_labels(labels: list[int] | None, classes: tuple[str, ...], message: str) -> None:
    job = composed(*QUICK)
    given = None if labels is None else np.array(labels)
    with pytest.raises(ConfigError) as caught:
        job.task.check_images(Images(np.zeros((2, 1, 8, 8)), given, classes), job.plan())
    assert message in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "least"), [("head", 0.97), ("lenet_trained", 0.93)])
def test_experiments_hold_from_other_seeds(experiment: str, least: float, workplace: Path) -> None:
    for seed in range(1, 11):
        result = runner.run(f"experiment=6_6/{experiment}", f"seed={seed}", "tensorboard=false")
        assert result.metrics["test_accuracy"] >= least
