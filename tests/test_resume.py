"""Runs that were ended in the middle and taken up again: what comes out, and what is refused."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from shell import COMMAND, Finished

import runner
from runner import launch
from runner.config.errors import ConfigError
from runner.prepare import Prepared, build
from runner.tasks._checkpoint import load_checkpoint, save_checkpoint
from runner.tasks.learn_kernel import Diverged
from runner.tracking.directory import RunDirectory, state
from runner.tracking.files import Files

# Dropout, batch normalisation and shuffling are in it: three ways to come out differently.
CLASSIFY = [
    "task=classify", "data.images=300", "task.epochs=30", "task.log_every=5",
    "task.schedule.warmup=3", "task.patience=25", "threads=1", "tensorboard=false",
]  # fmt: skip


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*COMMAND, *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts background jobs deaf to Ctrl-C, and the tests may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def end(running: subprocess.Popen[str], folder: Path, epoch: int, how: signal.Signals) -> str:
    """End a run once it has a checkpoint of an epoch, wherever it then is; what it said."""
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        assert running.poll() is None, running.communicate()
        logs = list(folder.glob("outputs/*/*/metrics.jsonl"))
        if logs and f'"epoch": {epoch},' in logs[0].read_text():
            break
        time.sleep(0.01)
    running.send_signal(how)
    said = running.communicate(timeout=60)[1]
    assert running.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130}[how]
    return said


def test_killed_and_resumed_is_as_never_killed(tmp_path: Path) -> None:
    """Killed, killed again, interrupted, and then left alone: the same to the last bit."""
    never, killed = tmp_path / "never", tmp_path / "killed"
    undisturbed = start(never, *CLASSIFY)
    running = start(killed, *CLASSIFY)
    end(running, killed, 2, signal.SIGKILL)
    (directory,) = killed.glob("outputs/classify/*")
    assert state(directory) == "DEAD"
    assert (directory / ".hydra" / "config.yaml").exists()
    assert not (directory / "metrics.json").exists()
    relative = str(directory.relative_to(killed))
    end(start(killed, "--resume", relative), killed, 7, signal.SIGKILL)
    said = end(start(killed, "--resume", relative), killed, 13, signal.SIGINT)
    assert f"python -m runner --resume {directory}" in said
    assert load(directory / "status.json")["state"] == "INTERRUPTED"
    last = start(killed, "--resume", relative)
    out, err = last.communicate(timeout=100)
    assert last.returncode == 0, err
    assert "Resumed after epoch " in out
    assert [path.name for path in killed.glob("outputs/classify/*")] == [directory.name]
    status = load(directory / "status.json")
    assert (status["state"], status["resumed"]) == ("COMPLETED", 3)
    assert status["command"] == " ".join(["python -m runner", *CLASSIFY])
    assert (directory / "run.log").read_text().count("resumed: goes on after step ") == 3

    undisturbed.communicate(timeout=100)
    assert undisturbed.returncode == 0
    (whole,) = never.glob("outputs/classify/*")
    assert same(torch.load(whole / "weights.pt"), torch.load(directory / "weights.pt")) > 10
    a, b = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (whole, directory))
    assert same(a, b) > 60  # the optimizer's moments, the generators, the best weights …
    assert load(whole / "metrics.json") == load(directory / "metrics.json")
    # Every step's numbers, none of them twice.
    assert (whole / "metrics.jsonl").read_text() == (directory / "metrics.jsonl").read_text()


def same(a: Any, b: Any) -> int:
    """Check that nested data are equal, tensors bit for bit; how many tensors there were."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        return sum(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        return sum(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, torch.Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
        return 1
    assert a == b
    return 0


def test_the_comparison_can_fail() -> None:
    assert same({"a": [torch.ones(2), 1]}, {"a": [torch.ones(2), 1]}) == 1
    with pytest.raises(AssertionError):
        same({"a": [torch.ones(2), 1]}, {"a": [torch.ones(2) + 1e-7, 1]})


@pytest.fixture
def planned(workplace: Path) -> Path:
    """The directory of a short run, marked as interrupted."""
    directory = runner.run("task=plan", "stack=pool", "seed=5").directory
    mark(directory, state="INTERRUPTED")
    return directory


def mark(directory: Path, **facts: Any) -> None:
    status = load(directory / "status.json")
    (directory / "status.json").write_text(json.dumps({**status, **facts}))


def refusal(*overrides: str, resume: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        runner.run(*overrides, resume=resume)
    return str(caught.value)


def test_a_task_without_checkpoints_runs_again_in_its_directory(planned: Path) -> None:
    result = runner.run(resume=planned)
    assert result.directory == planned
    assert [path.name for path in planned.parent.iterdir()] == [planned.name]
    status = load(planned / "status.json")
    assert (status["state"], status["resumed"]) == ("COMPLETED", 1)
    assert status["overrides"] == ["task=plan", "stack=pool", "seed=5"]
    assert (planned / "run.log").read_text().count("resumed: starts anew\n") == 1


def test_killed_before_its_config_was_written(planned: Path) -> None:
    """It couldn't measure anything yet, so nothing is lost that would have to be compared."""
    shutil.rmtree(planned / ".hydra")
    (planned / "metrics.jsonl").unlink()
    mark(planned, state="RUNNING")
    assert runner.run(resume=planned).directory == planned
    assert load(planned / "status.json")["state"] == "COMPLETED"
    assert yaml.safe_load((planned / ".hydra" / "config.yaml").read_text())["seed"] == 5


def test_killed_before_it_had_a_status(workplace: Path) -> None:
    bare = workplace / "bare"
    bare.mkdir()
    (bare / ".lock").touch()
    (bare / ".status.json.123.tmp").write_text("{")
    hint = "which has no status.json. Nothing was begun there: start the run anew."
    assert refusal(resume=bare).endswith(hint)
    (bare / "mine").touch()
    assert refusal(resume=bare).endswith("which has no status.json.")


def test_time_adds_up_over_the_parts(planned: Path) -> None:
    first = "2026-01-01T00:00:00+00:00"
    mark(planned, started=first, seconds=100.0)
    runner.run(resume=planned)
    status = load(planned / "status.json")
    assert status["started"] == first
    assert 100 < status["seconds"] < 130
    # Killed: its status.json is from the start, its last logged step from 50 seconds later.
    mark(planned, state="RUNNING", seconds=100.0)
    written = (planned / "status.json").stat().st_mtime
    os.utime(planned / "metrics.jsonl", (written + 50, written + 50))
    runner.run(resume=planned)
    assert 150 <= load(planned / "status.json")["seconds"] < 180


def test_of_two_who_resume_at_once_one_is_told(
    planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found the run dead; the other was quicker."""
    homes: list[RunDirectory] = []

    def slow(prepared: Prepared) -> None:
        build(prepared)
        homes.append(RunDirectory(planned, {}))

    monkeypatch.setattr(launch, "build", slow)
    expected = "the directory of a run that has ended, got one that is still running"
    assert f"{planned}: expected {expected}." in refusal(resume=planned)
    homes[0].release()


def test_steps_that_are_measured_again_are_not_there_twice(workplace: Path) -> None:
    words = ("task=learn_kernel", "task.optimizer.lr=0.04", "task.steps=500")
    with pytest.raises(Diverged):
        runner.run(*words)
    (directory,) = (workplace / "outputs" / "learn_kernel").iterdir()
    before = (directory / "metrics.jsonl").read_text()
    assert len(before.splitlines()) > 3
    with pytest.raises(Diverged):
        runner.run(resume=directory)
    assert (directory / "metrics.jsonl").read_text() == before


def test_what_is_no_run_to_resume(planned: Path, workplace: Path) -> None:
    assert "--resume: expected a run's directory, got 'nowhere', which does not exist." in refusal(
        resume="nowhere"
    )
    message = refusal(resume=workplace / "outputs" / "plan")
    assert "which has no status.json" in message
    assert f"The newest run in it is {planned}." in message
    assert "which is a file" in refusal(resume=planned / "plan.json")
    message = refusal("seed=6", resume=planned)
    assert "--resume: expected no overrides besides, got seed=6." in message
    mark(planned, state="COMPLETED")
    message = refusal(resume=planned)
    assert "expected a run that was interrupted, killed or failed, got a completed one." in message
    assert "Run it anew: python -m runner task=plan stack=pool seed=5" in message


def test_a_damaged_record_is_named(planned: Path) -> None:
    """It isn't taken up, nor written back: `runner.tracking.status` says what is damaged."""
    status = load(planned / "status.json")
    wrong = {"config_dir": 5, "overrides": [None], "resumed": "x", "seconds": math.inf}
    damaged = [json.dumps({**status, key: value}) for key, value in wrong.items()]
    for text in ("{", "[]", *damaged):
        (planned / "status.json").write_text(text)
        expected = f"{planned}/status.json: expected what a run recorded, got an error ("
        assert refusal(resume=planned).startswith(expected)
        assert (planned / "status.json").read_text() == text


def test_a_lock_that_leads_elsewhere_is_not_touched(planned: Path, workplace: Path) -> None:
    mark(planned, state="RUNNING")
    precious = workplace / "precious.txt"
    precious.write_text("dear")
    (planned / ".lock").unlink()
    (planned / ".lock").symlink_to(precious)
    message = refusal(resume=planned)
    assert f"--resume: expected a run's directory, got '{planned}' ({planned}/.lock: " in message
    assert precious.read_text() == "dear"


def test_a_record_does_not_run_code(planned: Path, workplace: Path) -> None:
    words = load(planned / "status.json")["overrides"]
    words.append("+hydra.callbacks.x={_target_: os.mkdir, path: PWNED}")
    mark(planned, overrides=words)
    message = refusal(resume=planned)
    assert f"{planned}/status.json: expected overrides that can't run code, got '+hydra." in message
    assert not (workplace / "PWNED").exists()
    assert load(planned / "status.json")["state"] == "INTERRUPTED"
    # Whoever types it means it.
    words[-1] = "+hydra.callbacks.x={_target_: hydra.experimental.callback.Callback}"
    mark(planned, overrides=words)
    assert "no overrides besides" in refusal(*words[:-1], resume=planned)
    runner.run(*words, resume=planned)
    assert load(planned / "status.json")["state"] == "COMPLETED"


def test_a_record_is_refused_before_it_is_composed(
    planned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Composing imports the packages of Hydra's search path."""
    (planned / "evil_package").mkdir()
    (planned / "evil_package" / "__init__.py").write_text("open('PWNED', 'w').close()\n")
    mark(planned, overrides=["task=plan", "hydra.searchpath=[pkg://evil_package]"])
    monkeypatch.chdir(planned)
    monkeypatch.syspath_prepend(planned)
    assert "overrides that can't run code, got 'hydra.searchpath=" in refusal(resume=".")
    assert not (planned / "PWNED").exists()


def test_a_living_run_is_left_alone(planned: Path) -> None:
    status = load(planned / "status.json")
    home = RunDirectory(planned, {key: status[key] for key in status if key != "state"})
    before = (planned / "status.json").read_text()
    assert f"still running (process {os.getpid()})" in refusal(resume=planned)
    assert (planned / "status.json").read_text() == before
    home.release()
    assert runner.run(resume=planned).directory == planned


def test_there_is_no_directory_until_torch_is_loaded(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is killed in these seconds leaves no directory that can't be resumed."""
    found: list[list[Path]] = []

    def watched(prepared: Prepared) -> None:
        found.append(list(workplace.iterdir()))
        build(prepared)

    monkeypatch.setattr(launch, "build", watched)
    runner.run("task=plan", "stack=pool")
    assert found == [[]]


def test_what_changed_since_is_named(planned: Path) -> None:
    path = planned / ".hydra" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["seed"] = 4
    del config["stack"]["layers"]["pool"]["kernel"]
    config["stack"]["layers"]["pool"]["padding"] = 1
    path.write_text(yaml.safe_dump(config))
    lines = refusal(resume=planned).splitlines()
    assert len(lines) == 3
    assert f"seed: expected 4, as {path} has it, got 5. The YAML has changed since" in lines[0]
    assert any("stack.layers.pool.kernel: expected no such key" in line for line in lines)
    assert any("stack.layers.pool.padding: expected 1" in line for line in lines)
    assert load(planned / "status.json")["state"] == "INTERRUPTED"  # nothing was run
    path.unlink()
    assert "expected a recorded config at " in refusal(resume=planned)


def test_own_configs_are_found_again(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = workplace / "mine" / "stack"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text("layers: {pool: {kind: pool, mode: max, kernel: 2}}\n")
    result = runner.run("task=plan", "stack=own", config_dir="mine")
    mark(result.directory, state="FAILED")
    elsewhere = workplace / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert runner.run(resume=result.directory).plan.rows[0].name == "pool"
    assert list(elsewhere.iterdir()) == []


def test_a_damaged_checkpoint_is_an_error_not_a_new_start(workplace: Path) -> None:
    words = ("task=classify", "data.images=60", "task.epochs=1", "task.validation=0.2")
    directory = runner.run(*words, "tensorboard=false").directory
    mark(directory, state="INTERRUPTED")
    path = directory / "checkpoint.pt"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert refusal(resume=directory).startswith(f"{path}: expected the content whose SHA-256")
    assert load(directory / "status.json")["state"] == "FAILED"
    path.write_bytes(content)
    assert runner.run(resume=directory).metrics["epochs"] == 1


@pytest.mark.parametrize(
    ("key", "value", "got"),
    [
        ("history", 3, "TypeError"),
        ("history", {}, "KeyError: 'train/loss'"),
        ("epoch", 2, "ValueError: history: not a value for each of 2 epochs"),
        ("step", "1", "TypeError"),
        ("best", {"epoch": 1, "loss": 0.5, "weights": {}}, "RuntimeError"),
    ],
)
def test_a_checkpoint_of_something_else_is_named(
    key: str, value: Any, got: str, workplace: Path
) -> None:
    words = ("task=classify", "data.images=60", "task.epochs=1", "task.validation=0.2")
    directory = runner.run(*words, "tensorboard=false").directory
    mark(directory, state="INTERRUPTED")
    content = load_checkpoint(directory)
    assert content is not None
    save_checkpoint(directory, {**content, key: value})
    path = directory / "checkpoint.pt"
    assert refusal(resume=directory).startswith(f"{path}: expected what this run saved, got {got}")


def test_the_command_line_refuses_what_does_not_go_with_it(
    cli: Callable[..., Finished], planned: Path
) -> None:
    for words, got in (
        (["-m"], "--multirun"),
        (["--config-dir", "mine"], "--config-dir"),
        (["--config-name", "other"], "--config-name"),
    ):
        done = cli("--resume", str(planned), *words)
        assert done.rc == 2
        assert f"--resume: expected nothing but a directory, got {got}." in done.stderr
    done = cli("--resume", str(planned))
    assert done.rc == 0
    assert f"results      {planned.relative_to(Path.cwd())}" in done.stdout


def test_metrics_are_cut_back_to_a_step(tmp_path: Path) -> None:
    tracker = Files(tmp_path)
    for step in (0, 1, 2, 3):
        tracker.scalars({"train/loss": 0.5}, step)
    path = tmp_path / "metrics.jsonl"
    with path.open("a") as file:
        file.write('{"step": 1, "train/lo')  # the machine died here
    tracker.rewind(2)
    tracker.scalars({"train/loss": 0.25}, 3)
    tracker.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 0.5},
        {"step": 3, "train/loss": 0.25},
    ]
