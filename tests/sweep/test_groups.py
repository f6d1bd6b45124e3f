"""Which jobs are done together: what may differ, what may not, and how many fit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from runner.config.compose import Composer
from runner.config.plain import plain
from runner.job import GIB, Job
from runner.sweep import together
from runner.sweep.together import Kin, groups, kin

pytestmark = pytest.mark.usefixtures("few_together")


def composed(*words: str) -> Job:
    with Composer() as composer:
        return Job.parse(plain(composer.compose(words).config))


def parts(jobs: Sequence[Job]) -> list[list[int]]:
    return groups([kin(job, job.plan()) for job in jobs])


def grouped(*sweep: str, base: tuple[str, ...] = ("task=learn_kernel",)) -> list[list[int]]:
    return parts([composed(*base, *words.split()) for words in sweep])


@pytest.mark.parametrize(
    "sweep",
    [
        ("seed=0", "seed=1"),
        ("task.optimizer.lr=0.01", "task.optimizer.lr=0.02"),
        ("task.optimizer.momentum=0.5", "task.optimizer.weight_decay=0.1"),
        ("stack.layers.conv.weight=zeros", "stack.layers.conv.weight=ones"),
        ("stack.layers.conv.weight=zeros", "stack.layers.conv.weight={initializer: normal}"),
        ("task.target.weight=[[1,2]]", "task.target.weight=edge_vertical"),
        ("data=noise data.seed=1", "data=noise data.seed=2"),
        ("expect={}", "seed=2"),
    ],
)
def test_numbers_of_a_run_may_differ(sweep: tuple[str, ...]) -> None:
    jobs = [composed("task=learn_kernel", *words.split(" ", 1)) for words in sweep]
    assert parts(jobs) == [[0, 1]]


@pytest.mark.parametrize(
    "sweep",
    [
        ("task.steps=10", "task.steps=11"),
        ("task.optimizer.name=sgd", "task.optimizer.name=adam"),
        ("task.reduction=sum", "task.reduction=mean"),
        ("ops=native", "ops=direct"),
        ("dtype=float32", "dtype=float64"),
        ("threads=1", "threads=2"),
        ("device=auto", "device=cpu"),
        ("stack.layers.conv.mode=correlation", "stack.layers.conv.mode=convolution"),
        ("stack.layers.conv.bias=true", "stack.layers.conv.bias=false"),
        ("data=noise data.height=8", "data=noise data.height=9"),
        ("stack.layers.conv.trainable=true", "task.log_every=3"),
        ("sweep.vectorize=false seed=0", "sweep.vectorize=false seed=1"),
    ],
)
def test_anything_else_keeps_jobs_apart(sweep: tuple[str, ...]) -> None:
    assert grouped(*sweep) == [[0], [1]]


@pytest.mark.parametrize("task", ["classify", "learn_kernel"])
@pytest.mark.parametrize("name", ["weighted", "weight", "bias", "biases"])
def test_layers_that_are_called_like_weights_must_be_the_same(name: str, task: str) -> None:
    inner = f"{{{name}: {{kind: activation, function: %s}}}}"
    block = f"+stack.layers.block={{kind: block, layers: {inner}}}"
    # Small enough for classifiers to be done together at all.
    words = [f"task={task}", *(["task.batch_size=8"] if task == "classify" else [])]
    jobs = [composed(*words, block % function) for function in ("relu", "tanh", "relu")]
    assert parts(jobs) == [[0, 2], [1]]


def test_what_is_written_the_same_may_be_something_else() -> None:
    assert grouped("task.steps=${seed} seed=3", "task.steps=${seed} seed=4") == [[0], [1]]


@pytest.mark.parametrize(
    ("device", "gpus", "together"),
    [("auto", 0, False), ("auto", 1, True), ("cpu", 1, False), ("cuda", 0, True)],
)
def test_large_models_are_done_together_on_a_gpu(
    device: str, gpus: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    words = ("task=classify", "task.batch_size=256", f"device={device}")  # 10.9 MiB a step
    assert grouped("seed=0", "seed=1", base=words) == ([[0, 1]] if together else [[0], [1]])


def test_groups_are_in_the_order_of_the_jobs() -> None:
    sweep = [f"seed={s} task.steps={n}" for s in (0, 1, 2) for n in (5, 7)]
    assert grouped(*sweep) == [[0, 2, 4], [1, 3, 5]]
    lonely = ["task.steps=9", *sweep[:2], "task.steps=8"]
    assert grouped(*lonely) == [[0], [1], [2], [3]]


def test_tasks_that_do_one_run_at_a_time() -> None:
    assert grouped("seed=0", "seed=1", base=("task=edge",)) == [[0], [1]]
    assert grouped("seed=0", "seed=1", base=("task=learn_kernel", "dtype=bfloat16")) == [[0], [1]]


def test_groups_are_as_large_as_can_be_held() -> None:
    job = composed("task=learn_kernel")
    plan = job.plan()
    jobs = [job.model_copy(update={"seed": seed}) for seed in range(300)]
    found = groups([kin(one, plan) for one in jobs])
    assert list(map(len, found)) == [100, 100, 100]  # 128 at most
    # Memory: three copies of the plan's own and one of the images, in double precision.
    needed = 3 * plan.memory + 16 * 6 * 8
    scratch = max(row.scratch for row in plan.leaves()) * 4
    tight = {"memory_limit_gib": 10.5 * (needed + 3 * scratch) / GIB}
    jobs = [one.model_copy(update=tight) for one in jobs[:25]]
    found = parts(jobs)
    assert list(map(len, found)) == [9, 8, 8]
    assert [i for part in found for i in part] == list(range(25))


def test_every_pattern_of_a_task_names_something() -> None:
    """A pattern that matches nothing would be a misspelling."""
    for words in (("task=learn_kernel", "stack=kernel_3x3"), ("task=classify",)):
        job = composed(*words)
        paths = [path for path, _ in together._values(job, "")]
        for pattern in job.task.per_run:
            assert any(together.fnmatchcase(path, pattern) for path in paths), pattern


def test_a_few_jobs_are_faster_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "FEW", 8)
    job = composed("task=learn_kernel")
    one = kin(job, job.plan())
    assert groups([one] * 7) == [[i] for i in range(7)]
    assert groups([one] * 8) == [list(range(8))]


@pytest.mark.parametrize(
    ("most", "count", "sizes"),
    [
        (8, 9, [8, 1]),  # not 5 and 4, too few to be done together
        (8, 16, [8, 8]),
        (9, 17, [9, 8]),
        (9, 16, [8, 8]),
        (10, 29, [10, 10, 9]),
        (12, 30, [10, 10, 10]),
        (12, 15, [12, 1, 1, 1]),
        (7, 20, [1] * 20),
        (1, 9, [1] * 9),
    ],
)
def test_groups_are_large_enough_to_be_faster(
    most: int, count: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "FEW", 8)
    found = groups([Kin("key", most)] * count)
    assert [len(part) for part in found] == sizes
    assert [i for part in found for i in part] == list(range(count))
