"""Disks that are full, directories that vanish, clocks that are set back: what is then recorded."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk import Disk, small
from shell import COMMAND

from runner.config.errors import ConfigError, SweepFailed
from runner.execute import Execution, Result
from runner.launch import launch
from runner.sweep import together
from runner.sweep.sweep import Swept, sweep
from runner.tracking.directory import state
from runner.tracking.files import Files

RUNS = {
    "learn_kernel": ("task=learn_kernel",),
    "edge": ("task=edge", "stack=sobel"),
    "plan": ("task=plan",),
    "classify": (
        "task=classify", "data=digits", "data.images=60", "task.epochs=2", "task.batch_size=20",
        "stack=empty", "+stack.layers.f={kind: flatten}",
        "+stack.layers.l={kind: linear, features: 10}",
    ),
}  # fmt: skip
"""One that logs steps, one that writes pictures, one without torch, one with checkpoints."""

SWEPT = {
    "together": ("task=learn_kernel", "task.steps=3", "seed=0,1,2"),
    "one by one": ("task=learn_kernel", "task.steps=3", "seed=0,1,2", "sweep.vectorize=false"),
    "plan": ("task=plan", "seed=0,1,2"),
}


@pytest.fixture(autouse=True)
def few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "FEW", 2)


def some(cases: dict[str, tuple[str, ...]], points: int) -> list[Any]:
    """Each case at so many points, spread over all; at every point in the slow suite."""
    return [
        pytest.param(words, number, marks=[pytest.mark.slow] * (number == 0), id=f"{name}-{label}")
        for name, words in cases.items()
        for number, label in ((points, "some"), (0, "all"))
    ]


def rooms(most: int, points: int) -> list[int]:
    """From a disk without any room on, short of one that has enough."""
    return [most * i // points for i in range(points)] if points else list(range(most))


def attempt(
    work: Callable[..., Result | Swept], *arguments: Any, **named: Any
) -> tuple[Any, BaseException | None]:
    try:
        return work(*arguments, **named), None
    except (OSError, ConfigError, SweepFailed) as error:  # anything else is a riddle
        return None, error


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def check_readable(directory: Path) -> None:
    """All is whole, but for a last line."""
    assert not list(directory.rglob("*.tmp"))
    for file in directory.rglob("*.json"):
        json.loads(file.read_text())
    for file in directory.rglob("metrics.jsonl"):
        *whole, _ = file.read_text().split("\n")
        assert all("step" in json.loads(line) for line in whole)


@pytest.mark.parametrize(("words", "points"), some(RUNS, 5))
def test_a_full_disk_ends_a_run_that_can_go_on(
    words: tuple[str, ...], points: int, workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """From the kth thing on, nothing can be written any more; then there is room again."""
    launch([*words, "hydra.run.dir=warm"], quiet=True)  # draws the first chart, loads the rest
    disk = Disk(workplace)
    with disk.mounted():
        whole = launch([*words, "hydra.run.dir=whole"], quiet=True)
    before, completed = descriptors(), 0
    for room in rooms(disk.taken, points):
        directory = workplace / f"room-{room}"
        with Disk(workplace, room).mounted():
            result, error = attempt(launch, [*words, f"hydra.run.dir={directory}"], quiet=True)
        told = f"room for {room}: {error!r}"
        assert "Traceback" not in "".join(capfd.readouterr()), told
        assert descriptors() <= before, told
        if not (directory / "status.json").exists():
            assert isinstance(error, ConfigError) or not (directory / "metrics.jsonl").exists(), (
                told
            )
            continue
        check_readable(directory)
        if error is None:
            completed += 1
            assert (state(directory), result.metrics) == ("COMPLETED", whole.metrics), told
            continue
        # What couldn't be written, and that there was no room, are in the record and the message.
        assert "No space left on device" in str(error)
        assert str(directory) in str(error), told
        status = json.loads((directory / "status.json").read_text())
        assert (status["state"], status["reason"]) == ("FAILED", f"OSError: {error}"), told
        assert any(str(directory) in note for note in error.__notes__)  # type: ignore[attr-defined]
        again = launch([], resume=directory, quiet=True)
        assert again.metrics == whole.metrics, told
        steps = [(d / "metrics.jsonl").read_text() for d in (directory, workplace / "whole")]
        assert steps[0] == steps[1], told
        assert state(directory) == "COMPLETED"
    assert completed < 10, "most runs must have failed, or nothing was tested"


def test_a_disk_that_is_full_at_the_start(workplace: Path) -> None:
    with (
        Disk(workplace, 2).mounted(),
        pytest.raises(ConfigError, match="Make room there") as caught,
    ):
        launch(["task=edge", "hydra.run.dir=run"], quiet=True)
    assert "a directory that can be written" in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert list(workplace.iterdir()) == []


@pytest.mark.parametrize(("words", "points"), some(SWEPT, 4))
def test_a_full_disk_ends_a_sweep_that_can_go_on(
    words: tuple[str, ...], points: int, workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sweep([*words, "hydra.sweep.dir=warm"])
    disk = Disk(workplace)
    with disk.mounted():
        whole = sweep([*words, "hydra.sweep.dir=whole"])
    expected = {one.number: one.metrics for one in whole.records}
    before = descriptors()
    for room in rooms(disk.taken, points):
        directory = workplace / f"room-{room}"
        with Disk(workplace, room).mounted():
            _, error = attempt(sweep, [*words, f"hydra.sweep.dir={directory}"])
        output = "".join(capfd.readouterr())
        told = f"room for {room}: {error!r}\n{output}"
        assert error is not None, told
        assert "No space left on device" in output + str(error), told
        assert "Traceback" not in output, told
        assert descriptors() <= before, told
        check_readable(directory)
        jobs = [path.parent for path in directory.glob("*/status.json")]
        assert {state(job) for job in jobs} <= {"FAILED", "COMPLETED"}, told
        done = {job for job in jobs if state(job) == "COMPLETED"}
        times = {job: (job / "metrics.json").stat().st_mtime_ns for job in done}
        again = sweep([*words, f"hydra.sweep.dir={directory}"])
        # Learned with fewer others, or alone, a job's results are the same within rounding.
        for one in again.records:
            assert one.metrics == pytest.approx(expected[one.number], rel=1e-4, abs=1e-6), told
        assert {job: (job / "metrics.json").stat().st_mtime_ns for job in done} == times, told


def test_a_full_disk_is_no_hindrance_to_a_second_try(workplace: Path) -> None:
    """A run that is taken up again while there is no room yet fails again, as itself."""
    directory = workplace / "run"
    words = [*RUNS["classify"], f"hydra.run.dir={directory}"]
    whole = launch([*RUNS["classify"], "hydra.run.dir=whole"], quiet=True)
    with Disk(workplace, 60).mounted():
        assert attempt(launch, words, quiet=True)[0] is None
    for room in (0, 1, 5, 15):
        with Disk(workplace, room).mounted():
            _, error = attempt(launch, [], resume=directory, quiet=True)
        assert isinstance(error, OSError)
        assert "No space left on device" in str(error)
        assert state(directory) == "FAILED"
        check_readable(directory)
    assert launch([], resume=directory, quiet=True).metrics == whole.metrics


def run(words: list[str], folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, timeout=120, **options
    )


@pytest.mark.parametrize("size", ["32k", pytest.param("64k", marks=pytest.mark.slow)])
def test_a_disk_that_is_really_full(size: str, workplace: Path) -> None:
    with small(workplace / "disk", size) as disk:
        done = run(["task=learn_kernel", "hydra.run.dir=disk/run"], workplace)
        assert done.returncode == 1, done
        path = disk / "run"
        assert "No space left on device" in done.stderr
        assert f"The run's directory is {path}" in done.stderr
        assert f"Resume it: python -m runner --resume {path}" in done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        assert state(path) == "FAILED"
        assert "No space left on device" in json.loads((path / "status.json").read_text())["reason"]
        check_readable(path)
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        done = run(["--resume", str(path)], workplace)
        assert done.returncode == 0, done
        assert state(path) == "COMPLETED"


IGNORING = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error then
from runner.__main__ import main
main()
"""


@pytest.mark.parametrize("limit", [8000, pytest.param(2500, marks=pytest.mark.slow)])
def test_files_that_may_not_grow(limit: int, workplace: Path) -> None:
    """Of an edge run, pictures don't fit; of all runs, the record does."""
    done = subprocess.run(
        [sys.executable, "-c", IGNORING, "task=edge", "stack=sobel", "hydra.run.dir=run"],
        cwd=workplace, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},  # half of it would stay behind
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1, done
    assert "File too large: '" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert state(workplace / "run") == "FAILED"
    check_readable(workplace / "run")
    assert launch([], resume="run", quiet=True).directory == workplace / "run"


class TestPlaces:
    """A directory that is no longer what it was when the run began."""

    @pytest.fixture
    def at_step(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Any], None]:
        scalars = Files.scalars

        def arrange(number: int, happens: Callable[[Path], Any]) -> None:
            calls = []

            def watched(files: Files, values: Any, step: int) -> None:
                calls.append(step)
                if len(calls) == number:
                    happens(files.directory)
                scalars(files, values, step)

            monkeypatch.setattr(Files, "scalars", watched)

        return arrange

    def test_a_run_s_that_is_removed(self, at_step: Any, workplace: Path) -> None:
        at_step(4, shutil.rmtree)
        with pytest.raises(FileNotFoundError, match=str(workplace / "run")) as caught:
            launch(["task=learn_kernel", "task.steps=100000", "hydra.run.dir=run"], quiet=True)
        (note,) = caught.value.__notes__
        assert "was removed, moved or replaced while it ran; nothing says how" in note
        assert list(workplace.iterdir()) == []

    def test_a_run_s_that_is_replaced_by_a_link(self, at_step: Any, workplace: Path) -> None:
        other = workplace / "other"
        other.mkdir()
        for name in ("status.json", "metrics.jsonl", ".lock"):
            (other / name).write_text("precious")

        def replace(directory: Path) -> None:
            directory.rename(workplace / "moved")
            directory.symlink_to(other)

        at_step(4, replace)
        with pytest.raises(OSError, match="Replaced while in use"):
            launch(["task=learn_kernel", "hydra.run.dir=run"], quiet=True)
        assert {p.read_text() for p in other.iterdir()} == {"precious"}
        assert not (other / "images").exists()
        assert state(workplace / "moved") == "DEAD"

    def test_a_run_s_that_is_moved_with_a_link_to_it(self, at_step: Any, workplace: Path) -> None:
        """Somebody makes room on a disk; nothing is lost."""

        def move(directory: Path) -> None:
            directory.rename(workplace / "moved")
            directory.symlink_to(workplace / "moved")

        at_step(4, move)
        launch(["task=learn_kernel", "hydra.run.dir=run"], quiet=True)
        assert state(workplace / "moved") == "COMPLETED"
        assert (workplace / "moved" / "metrics.jsonl").read_text().count("\n") == 11

    @pytest.mark.parametrize("vectorize", ["true", "false"])
    def test_a_sweep_s_that_is_removed_is_not_made_anew(
        self, vectorize: str, at_step: Any, workplace: Path
    ) -> None:
        at_step(4, lambda directory: shutil.rmtree(directory.parent))
        words = ["task=learn_kernel", "seed=0,1,2", f"sweep.vectorize={vectorize}"]
        with pytest.raises(OSError, match=str(workplace / "sweep")) as caught:
            sweep([*words, "hydra.sweep.dir=sweep"])
        assert caught.value.__notes__[0].endswith("/sweep, was removed or moved.")
        assert list(workplace.iterdir()) == []

    def test_a_job_s_that_is_removed_fails_alone(self, at_step: Any, workplace: Path) -> None:
        at_step(4, shutil.rmtree)
        words = ["task=learn_kernel", "seed=0,1,2", "sweep.vectorize=false"]
        with pytest.raises(SweepFailed, match="1 of 3 jobs are not complete: 1 failed") as caught:
            sweep([*words, "hydra.sweep.dir=sweep"])
        assert "#0 FileNotFoundError: [Errno 2] Removed while in use" in str(caught.value)
        states = [state(workplace / "sweep" / str(i)) for i in range(3)]
        assert states == ["FAILED", "COMPLETED", "COMPLETED"]
        assert sweep([*words, "hydra.sweep.dir=sweep"]).holds

    def test_a_job_s_that_is_replaced_fails_alone(self, at_step: Any, workplace: Path) -> None:
        def replace(directory: Path) -> None:
            directory.rename(workplace / "moved")
            directory.mkdir()

        at_step(4, replace)
        words = ["task=learn_kernel", "seed=0,1,2", "sweep.vectorize=false"]
        with pytest.raises(SweepFailed, match="1 of 3 jobs are not complete") as caught:
            sweep([*words, "hydra.sweep.dir=sweep"])
        assert "#0 FileNotFoundError: [Errno 2] Removed while in use" in str(caught.value)
        assert [state(workplace / "sweep" / name) for name in "12"] == ["COMPLETED"] * 2

    def test_a_sweep_s_that_is_removed_between_jobs(
        self, workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        complete = Execution.complete

        def watched(execution: Execution, metrics: dict[str, Any]) -> Result:
            result = complete(execution, metrics)
            shutil.rmtree(execution.directory.parent)
            return result

        monkeypatch.setattr(Execution, "complete", watched)
        with pytest.raises(OSError, match=str(workplace / "sweep")):
            sweep(["task=plan", "seed=0,1,2", "hydra.sweep.dir=sweep"])
        assert list(workplace.iterdir()) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_one_that_can_only_be_read_by_now(self, at_step: Any, workplace: Path) -> None:
        at_step(4, lambda directory: directory.chmod(0o500))
        with pytest.raises(PermissionError, match=str(workplace / "run")):
            launch(["task=learn_kernel", "hydra.run.dir=run"], quiet=True)
        (workplace / "run").chmod(0o700)
        assert state(workplace / "run") == "DEAD"
        assert launch([], resume="run", quiet=True).metrics


def test_a_run_is_taken_up_where_nothing_can_be_written(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="No space"), Disk(workplace, 12).mounted():
        launch(["task=edge", "hydra.run.dir=run"], quiet=True)

    def refused(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr("runner.tracking.directory.write_atomically", refused)
    with pytest.raises(ConfigError, match="--resume: expected a directory that can be written"):
        launch([], resume="run", quiet=True)
    assert (workplace / "run" / ".lock").exists()


class TestClock:
    """It is set back by an hour, which summer time doesn't do but people and servers do."""

    @pytest.fixture
    def set_back(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
        import time

        real, by = time.time, [0.0]
        monkeypatch.setattr(time, "time", lambda: real() - by[0])
        return lambda seconds: by.__setitem__(0, seconds)

    def test_during_a_run(
        self, set_back: Callable[[float], None], workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scalars = Files.scalars

        def watched(files: Files, values: Any, step: int) -> None:
            set_back(3600.0 * (step >= 5))
            scalars(files, values, step)

        monkeypatch.setattr(Files, "scalars", watched)
        result = launch(["task=learn_kernel", "hydra.run.dir=run"], quiet=True)
        status = json.loads((result.directory / "status.json").read_text())
        assert status["state"] == "COMPLETED"
        assert 0 <= status["seconds"] < 60

    def test_between_a_run_and_its_resumption(
        self, set_back: Callable[[float], None], workplace: Path
    ) -> None:
        """TensorBoard reads event files by name: the later one must still come last."""
        with Disk(workplace, 60).mounted():
            attempt(launch, [*RUNS["classify"], "hydra.run.dir=run"], quiet=True)
        (first,) = (workplace / "run").glob("events.*")
        set_back(3600.0)
        launch([], resume="run", quiet=True)
        assert [first, *set((workplace / "run").glob("events.*")) - {first}] == sorted(
            (workplace / "run").glob("events.*")
        )
        assert json.loads((workplace / "run" / "status.json").read_text())["seconds"] >= 0
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = EventAccumulator(str(workplace / "run"))
        read.Reload()
        steps = [event.step for event in read.Scalars("train/loss")]
        assert steps == sorted(set(steps))

    def test_directories_of_the_same_second(self, workplace: Path) -> None:
        """The same time comes twice; nobody's directory is taken twice."""
        where = "hydra.run.dir=out/2026-01-02_03-04-05"
        found = [launch(["task=plan", where], quiet=True).directory.name for _ in range(3)]
        assert found == [f"2026-01-02_03-04-05{more}" for more in ("", "-1", "-2")]
