"""What training costs beside the same loop written by hand, measured in turn in one process.

Processor time of one thread, so that other work on the machine counts little; the median over
rounds of the ratio of the two that were measured one after the other. `pytest -s` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import process_time

import pytest
import torch
import torch.nn.functional as F
from bare_run import composed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from runner.job import Job
from runner.prepare import prepare
from runner.tasks import Run
from runner.tasks._training import Training, shuffled
from runner.tasks.classify import Classify
from runner.tasks.learn_kernel import LearnKernel, Lesson
from runner.tracking import Trackers
from runner.tracking.files import Files
from runner.tracking.tensorboard import TensorBoard

pytestmark = pytest.mark.slow

BATCH, ROUNDS = 64, 15


@contextmanager
def prepared(folder: Path, *words: str) -> Iterator[tuple[Job, Run]]:
    """A run that logs as any does, into files and for TensorBoard."""
    job = composed(*words, "threads=1")
    run = prepare(job, job.plan()).run
    run.directory, run.tracker = folder, Trackers(Files(folder), [TensorBoard(folder)])
    yield job, run
    run.tracker.close()


def ratios(ours: Callable[[], None], others: dict[str, Callable[[], None]], limit: float) -> None:
    """Print how many times as long ours takes as each of the others; more than `limit` fails."""
    found: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(ROUNDS):
        for name, other in others.items():
            times = []
            for work in (ours, other):
                begun = process_time()
                work()
                times.append(process_time() - begun)
            found[name].append(times[0] / times[1])
    for name, values in found.items():
        values.sort()
        low, high = values[len(values) // 4], values[3 * len(values) // 4]
        print(f"\n{median(values):.3f} times {name} (half of the rounds: {low:.3f} to {high:.3f})")
        assert median(values) < limit


def lenet() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2),
        nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid(), nn.Linear(84, 10),
    )  # fmt: skip


@pytest.fixture
def classifying(tmp_path: Path) -> Iterator[tuple[Job, Run]]:
    words = (
        "task=classify", "stack=lenet", "data.resize=28", f"task.batch_size={BATCH}",
        "task.optimizer.name=sgd", "task.optimizer.lr=0.1", "task.optimizer.weight_decay=0",
        "task.epochs=1000", "task.log_every=6",  # as the default 30 epochs log: 200 times in 600
    )  # fmt: skip
    with prepared(tmp_path, *words) as made:
        yield made


def test_a_step_of_lenet(classifying: tuple[Job, Run]) -> None:
    job, run = classifying
    assert isinstance(job.task, Classify)
    labels = torch.from_numpy(run.images.labels)
    data = TensorDataset(run.x[:1280], labels[:1280])
    model = lenet()
    values = dict(zip(model.state_dict(), run.model.state_dict().values(), strict=True))
    model.load_state_dict({key: value.clone() for key, value in values.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = shuffled(data, BATCH, torch.Generator())
    collating = DataLoader(data, BATCH, shuffle=True)
    training = Training(run, job.task, data, data)
    losses: list[float] = []

    def by_hand(batches: DataLoader) -> None:
        model.train()
        for x, y in batches:
            loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())

    def ours() -> None:
        training._learn(lambda _: None)

    # First that they do the same: the same order of images, the same losses.
    loader.generator.set_state(run.generator.get_state())  # type: ignore[union-attr]  # it has one
    ours()
    by_hand(loader)
    assert training.history["train/loss"][-1] == pytest.approx(sum(losses) / 20, rel=1e-5)
    ratios(
        ours,
        {
            "a loop over the same loader": lambda: by_hand(loader),
            "a loop over a loader that collates": lambda: by_hand(collating),
        },
        limit=1.5,
    )


@pytest.fixture
def learning(tmp_path: Path) -> Iterator[tuple[Job, Run]]:
    words = ("task=learn_kernel", "task.steps=1000", "task.optimizer.lr=0.001")
    with prepared(tmp_path, *words) as made:
        yield made


def test_a_step_of_learning_the_books_kernel(learning: tuple[Job, Run]) -> None:
    job, run = learning
    steps, lr = 1000, 0.001
    task = job.task
    assert isinstance(task, LearnKernel)
    start = run.model[0].weight.detach().clone()
    wanted = F.conv2d(run.x, torch.tensor([[[[1.0, -1.0]]]]))
    found: dict[str, list[float]] = {}

    def ours() -> None:
        run.model[0].weight.data[:] = start
        lesson = Lesson(task, run)
        task._learn(lesson)
        found["ours"] = lesson.losses

    def by_hand(book: bool) -> None:
        model = nn.Conv2d(1, 1, (1, 2), bias=False)
        model.weight.data[:] = start
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        losses = []
        for _ in range(steps):
            loss = ((model(run.x) - wanted) ** 2).sum()
            model.zero_grad() if book else optimizer.zero_grad()
            loss.backward()
            if book:
                model.weight.data[:] -= lr * model.weight.grad
            else:
                optimizer.step()
            losses.append(loss.item())
        found["by hand"] = losses

    ours()
    by_hand(book=False)
    assert found["ours"] == pytest.approx(found["by hand"], rel=1e-4, abs=1e-9)
    ratios(
        ours,
        {
            "a kernel loop with the same optimizer": lambda: by_hand(book=False),
            "the book's kernel loop, without an optimizer": lambda: by_hand(book=True),
        },
        limit=2,
    )
