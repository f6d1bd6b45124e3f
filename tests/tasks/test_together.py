"""Several runs learned as one: each ends as it does alone, whatever happens to the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bare_run import composed

from runner.job import Job
from runner.prepare import prepare
from runner.tasks import Run
from runner.tasks._checkpoint import load_checkpoint
from runner.tasks._dropout import Masks
from runner.tasks._optimizer import Diverged, Optimizer
from runner.tasks._together import Stacked
from runner.tasks._updates import Updates
from runner.tracking import Trackers
from runner.tracking.files import Files
from runner.tracking.memory import Memory

Outcome = dict[str, Any] | Exception
EXACT = 1e-10


class Remembered(Trackers):
    """Files in a directory, and what they hold in memory."""

    def __init__(self, directory: Path) -> None:
        self.memory = Memory()
        super().__init__(Files(directory), [self.memory])


OPENED: list[Remembered] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """As `execute` closes what a run has opened."""
    yield
    while OPENED:
        OPENED.pop().close()


def ready(job: Job, directory: Path) -> Run:
    """The job's run, prepared as `execute` does, in a directory of its own."""
    directory.mkdir(parents=True)
    run = prepare(job, job.plan()).run
    OPENED.append(Remembered(directory))
    run.directory, run.tracker = directory, OPENED[-1]
    return run


def jobs(words: Sequence[str], varied: Sequence[str]) -> list[Job]:
    return [composed(*words, *more.split()) for more in varied]


def by_themselves(several: Sequence[Job], folder: Path) -> tuple[list[Outcome], list[Run]]:
    outcomes: list[Outcome] = []
    runs = []
    for i, job in enumerate(several):
        runs.append(ready(job, folder / "alone" / str(i)))
        try:
            outcomes.append(job.task.run(runs[-1]))
        except Exception as error:
            outcomes.append(error)
    return outcomes, runs


def at_once(several: Sequence[Job], folder: Path) -> tuple[list[Outcome], list[Run]]:
    runs = [ready(job, folder / "together" / str(i)) for i, job in enumerate(several)]
    tasks = [job.task for job in several]
    return type(tasks[0]).run_together(tasks, runs), runs


def alike(found: Any, expected: Any, tolerance: float, path: str = "") -> None:
    """Two nests of numbers, tensors and text are equal, within rounding."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), path
        for key in expected:
            alike(found[key], expected[key], tolerance, f"{path}/{key}")
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected), path
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            alike(a, b, tolerance, f"{path}/{i}")
    elif isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype, path
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance, msg=path)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance, nan_ok=True), path
    else:
        assert found == expected, path


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def compare(several: Sequence[Job], folder: Path, tolerance: float = EXACT) -> list[Outcome]:
    """Everything that runs leave when they learn together is what they leave alone."""
    expected, alone = by_themselves(several, folder)
    found, together = at_once(several, folder)
    for a, b, ours, theirs in zip(found, expected, together, alone, strict=True):
        if isinstance(b, Exception):
            assert (type(a), str(a)) == (type(b), str(b))
        else:
            assert not isinstance(a, Exception), a
            alike(a, b, tolerance)
        assert list(ours.outputs) == list(theirs.outputs)
        assert ours.notes == theirs.notes
        assert listing(ours.directory) == listing(theirs.directory)
        first, second = ours.tracker.memory, theirs.tracker.memory
        alike(first.history, second.history, tolerance)
        for kind in ("images", "histograms"):
            steps = [
                {tag: [step for step, _ in shown] for tag, shown in getattr(one, kind).items()}
                for one in (first, second)
            ]
            assert steps[0] == steps[1]
        saved = [torch.load(one.directory / "weights.pt") for one in (ours, theirs)]
        alike(*saved, tolerance)
        alike(load_checkpoint(ours.directory), load_checkpoint(theirs.directory), 10 * tolerance)
        # A part of a stack isn't saved with all of the stack.
        sizes = [(one.directory / "weights.pt").stat().st_size for one in (ours, theirs)]
        assert sizes[0] == sizes[1]
    return found


KERNEL = ("task=learn_kernel", "dtype=float64", "task.log_every=4")


def test_kernels_of_many_kinds_of_runs(tmp_path: Path) -> None:
    varied = [
        "seed=1", "seed=2", "task.optimizer.lr=0.01", "stack.layers.conv.weight=[[0.5,0.25]]",
        "task.target.weight=[[2,-1]]", "task.optimizer.weight_decay=0.1",
        "task.optimizer.momentum=0.5 task.optimizer.lr=0.005",
    ]  # fmt: skip
    compare(jobs(KERNEL, varied), tmp_path)


def test_in_single_precision_rounding_alone_differs(tmp_path: Path) -> None:
    compare(jobs(("task=learn_kernel",), [f"seed={s}" for s in range(5)]), tmp_path, 1e-5)


def test_images_of_their_own(tmp_path: Path) -> None:
    words = (*KERNEL, "data=noise", "data.height=7", "data.width=9", "task.optimizer.lr=0.001")
    compare(jobs(words, [f"data.seed={s} seed={s}" for s in range(3)]), tmp_path)


@pytest.mark.parametrize("op", ["loops", "direct", "im2col", "fft"])
def test_every_operator_learns_kernels_in_two_layers(op: str, tmp_path: Path) -> None:
    words = (
        *KERNEL, "stack=pair", "data=shapes", "data.height=16", "data.width=17",
        "task.target.weight=[[1,2,1],[2,4,2],[1,2,1]]", "task.reduction=mean",
        "task.optimizer={name: adam, lr: 0.02}", f"ops.conv={op}",
    )  # fmt: skip
    compare(jobs(words, ["seed=0", "seed=1"]), tmp_path)


def test_who_diverges_leaves_the_others_alone(tmp_path: Path) -> None:
    # 1/30 is the limit: 0.5 and 1e200 are far above it, each stops at a step of its own.
    rates = ("0.03", "0.5", "0.01", "1e30", "0.034")
    varied = [f"task.optimizer.lr={lr} task.target.weight=[[{lr},1]]" for lr in rates]
    several = jobs((*KERNEL, "task.steps=12"), varied)
    found = compare(several, tmp_path)
    assert [isinstance(one, Diverged) for one in found] == [False, True, False, True, False]
    all_of_them = jobs((*KERNEL, "task.optimizer.lr=1"), ["seed=1", "seed=2"])
    found = compare(all_of_them, tmp_path / "all")
    assert all(isinstance(one, Diverged) for one in found)


class Trouble(Memory):
    """Raises at a step."""

    def __init__(self, step: int, error: BaseException) -> None:
        super().__init__()
        self.step, self.error = step, error

    def scalars(self, values: Any, step: int) -> None:
        if step == self.step:
            raise self.error
        super().scalars(values, step)


def test_trouble_of_one_run_is_its_own(tmp_path: Path) -> None:
    several = jobs(("task=learn_kernel",), ["seed=0", "seed=1", "seed=2"])
    runs = [ready(job, tmp_path / str(i)) for i, job in enumerate(several)]
    runs[1].tracker = Trouble(3, OSError("no space left"))
    tasks = [job.task for job in several]
    first, second, third = type(tasks[0]).run_together(tasks, runs)
    assert isinstance(second, OSError)
    expected, _ = by_themselves(several, tmp_path)
    alike(first, expected[0], 1e-5)
    alike(third, expected[2], 1e-5)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_an_interruption_keeps_what_was_measured(stop: BaseException, tmp_path: Path) -> None:
    several = jobs(("task=learn_kernel",), ["seed=0", "seed=1", "seed=2"])
    runs = [ready(job, tmp_path / str(i)) for i, job in enumerate(several)]

    def progress(*_: Any) -> Any:
        class Bar:
            def __enter__(self) -> Callable[[str], None]:
                self.steps = 0
                return self.advance

            def __exit__(self, *_: object) -> None: ...

            def advance(self, _: str) -> None:
                self.steps += 1
                if self.steps == 4:
                    raise stop

        return Bar()

    runs[2].progress = progress
    tasks = [job.task for job in several]
    with pytest.raises(type(stop)):
        type(tasks[0]).run_together(tasks, runs)
    for run in runs:
        lines = (run.directory / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
        assert (run.directory / "images" / "kernel_conv_000004.png").exists()
        weight = torch.load(run.directory / "weights.pt")["conv.weight"]
        assert torch.equal(weight, run.model[0].weight)


OPTIMIZERS = (
    Optimizer(),
    Optimizer(momentum=0.9),
    Optimizer(weight_decay=0.1),
    Optimizer(name="adam", weight_decay=0.1),
    Optimizer(name="adamw", weight_decay=0.1),
    Optimizer(name="rmsprop", weight_decay=0.1),
    Optimizer(name="rmsprop", momentum=0.5),
    Optimizer(name="adagrad", weight_decay=0.1),
)


@pytest.mark.parametrize("given", OPTIMIZERS, ids=repr)
def test_optimizers_step_as_torchs(given: Optimizer) -> None:
    both = [given, given.model_copy(update={"lr": 0.7, "weight_decay": 0.2})]
    generator = torch.Generator().manual_seed(0)
    stacked = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    own = [torch.nn.Parameter(part.detach().clone()) for part in stacked]
    theirs = [one.build(iter([p])) for one, p in zip(both, own, strict=True)]
    updates = Updates(both, [stacked])
    for step in range(5):
        if step == 3:  # a schedule
            updates.set_rates([0.001, 0.002])
            for rate, one in zip((0.001, 0.002), theirs, strict=True):
                one.param_groups[0]["lr"] = rate
        gradient = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
        stacked.grad = gradient
        updates.step([stacked])
        for i, (p, one) in enumerate(zip(own, theirs, strict=True)):
            p.grad = gradient[i].clone()
            one.step()
            torch.testing.assert_close(stacked[i], p, rtol=1e-13, atol=1e-13)
    for i, (one, p) in enumerate(zip(both, own, strict=True)):
        fresh = one.build(iter([torch.nn.Parameter(p.detach().clone())]))
        updates.hand_over(i, fresh)
        state = {k: v for k, v in fresh.state_dict()["state"].items() if v}
        alike(state, theirs[i].state_dict()["state"], 1e-13)


DIGITS = (
    "task=classify", "data.images=150", "task.epochs=2", "threads=1", "dtype=float64",
    "task.images=1",
)  # fmt: skip


def test_classifiers_with_dropout_and_normalised_batches(tmp_path: Path) -> None:
    # Before a normalisation a bias has no gradient but rounding, which adamw makes a step of.
    words = (*DIGITS, "stack.layers.conv1.bias=false", "stack.layers.conv2.bias=false")
    compare(jobs(words, ["seed=0", "seed=1 task.optimizer.lr=0.001"]), tmp_path, 1e-8)


def test_classifiers_stop_early_each_by_itself(tmp_path: Path) -> None:
    words = (
        *DIGITS, "stack=empty", "+stack.layers.flatten={kind: flatten}",
        "+stack.layers.drop={kind: dropout, p: 0.2}",
        "+stack.layers.fc={kind: linear, features: 10}",
        "task.epochs=8", "task.patience=1", "task.optimizer={name: sgd, momentum: 0.9}",
        "task.schedule.name=step", "task.schedule.step_size=2", "task.checkpoint_every=3",
    )  # fmt: skip
    rates = (0.05, 1e30, 5, 0.5)
    found = compare(jobs(words, [f"task.optimizer.lr={lr}" for lr in rates]), tmp_path)
    assert isinstance(found[1], Diverged)
    epochs = {one["epochs"] for one in found if not isinstance(one, Exception)}
    assert len(epochs) > 1  # or nothing was tested


def test_a_run_that_has_a_checkpoint_goes_on_from_it(tmp_path: Path) -> None:
    several = jobs((*DIGITS, "data.resize=28", "stack=lenet"), ["seed=0", "seed=1"])
    expected, alone = by_themselves(several, tmp_path)
    runs = [ready(job, tmp_path / "again" / str(i)) for i, job in enumerate(several)]
    for file in ("checkpoint.pt", "checkpoint.pt.sha256"):
        (runs[1].directory / file).write_bytes((alone[1].directory / file).read_bytes())
    tasks = [job.task for job in several]
    found = type(tasks[0]).run_together(tasks, runs)
    alike(found, expected, EXACT)
    assert runs[1].notes[0].startswith("Resumed after epoch 2")


def test_an_interrupted_training_keeps_the_best_weights(tmp_path: Path) -> None:
    several = jobs(DIGITS, ["seed=0", "seed=1"])
    runs = [ready(job, tmp_path / str(i)) for i, job in enumerate(several)]
    # 150 · 0.7 = 105 images in batches of 32: the fifth step is in the second epoch.
    runs[0].tracker = Trouble(5, KeyboardInterrupt())
    tasks = [job.task for job in several]
    with pytest.raises(KeyboardInterrupt):
        type(tasks[0]).run_together(tasks, runs)
    for run in runs:
        saved = load_checkpoint(run.directory)
        assert saved is not None
        assert saved["epoch"] == 1
        alike(torch.load(run.directory / "weights.pt"), dict(saved["best"]["weights"]), 0.0)


def test_masks_are_those_that_dropout_draws_alone() -> None:
    job = composed("task=classify", "threads=1")
    model = prepare(job, job.plan()).run.model
    stacked = Stacked([model])
    Masks(stacked).draw(torch.zeros(1, 32, 1, 8, 8), [torch.Generator().manual_seed(7)])
    seen: dict[str, torch.Tensor] = {}
    for name in ("drop1", "drop2"):
        model.get_submodule(name).register_forward_hook(
            lambda _, given, y, name=name: seen.update({name: (y != 0) | (given[0] == 0)})
        )
    x = torch.rand(32, 1, 8, 8)
    torch.manual_seed(7)
    model.train()(x)
    for name, kept in seen.items():
        mask = stacked.buffers[f"{name}.mask"][0]
        assert 0 < (mask == 0).double().mean() < 1
        # Where the input is zero, nobody can tell.
        assert torch.equal(kept, kept | (mask != 0))
        scaled = 1 / (1 - model.get_submodule(name).p)
        assert mask.unique().tolist() == [0, pytest.approx(scaled)]


LAYERS = (
    "{kind: conv, channels: 2, kernel: 3, padding: 1, pad_mode: reflect, mode: convolution}",
    "{kind: linear, features: 2, per_pixel: true}",
    "{kind: batchnorm}",
    "{kind: pool, mode: avg, output_size: 2}",
)


@pytest.mark.parametrize("layer", LAYERS)
def test_models_of_every_make_are_stacked(layer: str) -> None:
    words = ("task=forward", "dtype=float64", "stack=kernel_3x3", f"+stack.layers.more={layer}")
    runs = [prepare(j, j.plan()).run for j in jobs(words, ["seed=1", "seed=2", "seed=3"])]
    x, models = runs[0].x, [run.model.train() for run in runs]
    expected = [model(x).detach() for model in models]
    after = [{k: v.clone() for k, v in model.named_buffers()} for model in models]
    models = [prepare(j, j.plan()).run.model for j in jobs(words, ["seed=1", "seed=2", "seed=3"])]
    stacked = Stacked(models)
    y = stacked(lambda model, x: model(x), x, dims=(None,))
    torch.testing.assert_close(y, torch.stack(expected), rtol=EXACT, atol=EXACT)
    stacked.keep([2, 0])
    for place, model in ((2, models[2]), (0, models[0]), (1, models[1])):
        alike(dict(model.named_buffers()), after[place], EXACT)
    weight = next(iter(stacked.weights.values()))
    with torch.no_grad():
        weight.add_(1)
    assert torch.equal(next(models[2].parameters()), weight[0])
    assert torch.equal(next(models[0].parameters()), weight[1])


def test_why_runs_are_left_apart() -> None:
    job = composed("task=learn_kernel", "dtype=bfloat16")
    assert "bfloat16" in job.task.apart(job.plan(), job.stack, job.ops, "cpu")[0]
    job = composed("task=learn_kernel")
    assert job.task.apart(job.plan(), job.stack, job.ops, "cpu") == []
    # The plan of a batch of 16 takes 0.8 MiB.
    digits = [composed("task=classify", f"task.batch_size={size}") for size in (16, 256)]
    small, large = (job.task.apart(job.plan(), job.stack, job.ops, "cpu") for job in digits)
    assert small == []
    assert large[0].startswith("a step holds 10.9 MiB")
    assert digits[1].task.apart(digits[1].plan(), digits[1].stack, digits[1].ops, "cuda") == []
    other = composed("task=edge")
    assert other.task.apart(other.plan(), other.stack, other.ops, "cpu")
    with pytest.raises(NotImplementedError, match="one run at a time"):
        type(other.task).run_together([other.task], [])
