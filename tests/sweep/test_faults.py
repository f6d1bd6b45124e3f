"""Jobs that fail, are stopped or killed: what is recorded, what goes on, and how it is resumed."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty

from runner import menu
from runner.config.errors import SweepFailed
from runner.sweep.sweep import sweep
from runner.tasks import Task
from runner.tracking.directory import state

JOBLIB = pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="not installed")
JOBS, BAD = 5, 2

# How it ends, the state of the bad job, the exit code, and whether the jobs after it run.
ENDS = {
    "raise": ("FAILED", 1, True),
    "exit": ("INTERRUPTED", 1, True),
    "SIGINT": ("INTERRUPTED", 130, False),
    "SIGTERM": ("INTERRUPTED", 143, False),
    "SIGKILL": ("DEAD", -9, False),
}
# A worker's death is not the sweep's; and who sends a signal to a worker doesn't end the sweep.
WORKERS_END = {
    "raise": ("FAILED", 1, True),
    "exit": ("INTERRUPTED", 1, True),
    "SIGTERM": ("INTERRUPTED", 1, True),
    "SIGKILL": ("DEAD", 1, True),
}


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def states(directory: Path, count: int = JOBS) -> list[str]:
    folders = [directory / str(number) for number in range(count)]
    return [state(f) if (f / "status.json").exists() else "" for f in folders]


def cases() -> list[Any]:
    """Those of joblib take seconds each; tests/sweep/test_engines.py has more of them."""
    own = [pytest.param("runner", how, id=f"runner-{how}") for how in ENDS]
    slow = {how: [pytest.mark.slow] for how in WORKERS_END if how != "raise"}
    return own + [
        pytest.param("joblib", how, id=f"joblib-{how}", marks=[JOBLIB, *slow.get(how, [])])
        for how in WORKERS_END
    ]


@pytest.mark.parametrize(("launcher", "how"), cases())
def test_each_job_is_done_once_whatever_happens(
    launcher: str, how: str, faulty: Faulty, workplace: Path
) -> None:
    words = [
        f"seed=range(0,{JOBS})", "hydra.sweep.dir=out", f"hydra/launcher={launcher}",
        *(["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []),
    ]  # fmt: skip
    found, code, goes_on = (ENDS if launcher == "runner" else WORKERS_END)[how]
    rc, out, err = faulty.sweep(*words, fault=f"{how}@{BAD}")
    directory = workplace / "out"
    assert rc == code, out + err
    after = "COMPLETED" if goes_on else ""
    assert states(directory) == ["COMPLETED", "COMPLETED", found, after, after]
    done = {seed: 1 for seed in range(JOBS) if seed != BAD and (goes_on or seed < BAD)}
    assert faulty.noted("end") == done
    assert "Traceback" not in out + err
    if how != "SIGKILL" or launcher == "joblib":
        assert f"python -m runner --resume {directory}" in err
        assert (directory / "summary.csv").exists()
        assert f"{len(done)} completed" in out
    if how == "raise":
        assert "ValueError: told to" in err
        assert 'raise ValueError("told to")' in (directory / str(BAD) / "run.log").read_text()
    assert not list(directory.rglob("*.tmp"))

    rc, out, err = resumed(faulty)
    assert rc == 0, out + err
    assert states(directory) == ["COMPLETED"] * JOBS
    assert faulty.noted("end") == dict.fromkeys(range(JOBS), 1)
    begun = dict.fromkeys(range(JOBS), 1)
    begun[BAD] = 2
    assert faulty.noted("begin") == begun
    assert f"{JOBS} completed" in out


def resumed(faulty: Faulty) -> tuple[int, str, str]:
    """As the message says it: nothing but the directory."""
    process = faulty.start("-m", "sweep.resume=out")
    out, err = process.communicate(timeout=100)
    return process.returncode, out, err


def test_nothing_outlives_a_sweep_that_is_killed(faulty: Faulty, workplace: Path) -> None:
    """Of the launchers that have processes for jobs, tests/sweep/test_engines.py shows it."""
    mark = f"FAULTY_MARK={workplace}"
    process = faulty.start(
        "-m", "--config-dir", str(faulty.configs), "task=faulty", "seed=0,1", "hydra.sweep.dir=out",
        fault="hang@0", FAULTY_MARK=str(workplace),
    )  # fmt: skip
    wait_for(lambda: faulty.noted("begin").get(0) == 1, process)
    assert alive(mark)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 5
    while alive(mark) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive(mark) == []


def alive(mark: str) -> list[str]:
    """Command lines of living processes that have this in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_text())
        except OSError:
            continue  # it has ended, or is somebody else's
    return [command for command in found if command]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestDirectories:
    """In this process: a sweep of jobs that need no torch."""

    def run(self, faulty: Faulty, *words: str) -> Any:
        return sweep(["task=faulty", *words], config_dir=faulty.configs)

    def test_of_two_at_once_in_one_directory_one_is_told(
        self, faulty: Faulty, workplace: Path
    ) -> None:
        words = ["-m", "--config-dir", str(faulty.configs), "task=faulty", "seed=0,1,2"]
        both = [faulty.start(*words, "hydra.sweep.dir=out", fault="hang@9") for _ in range(2)]
        ended = [process.communicate(timeout=100) for process in both]
        codes = sorted(process.returncode for process in both)
        # The second can also come so late that the first is done; then it finds nothing to do.
        assert codes in ([0, 2], [0, 0]), ended
        if codes == [0, 2]:
            (told,) = [err for _, err in ended if err]
            assert "hydra.sweep.dir: expected a sweep that has ended, got one that is still" in told
        assert [p.name for p in workplace.glob("out*")] == ["out"]
        assert faulty.noted("end") == {0: 1, 1: 1, 2: 1}

    def test_two_in_the_same_second(self, here: Faulty, workplace: Path) -> None:
        from datetime import datetime

        now = datetime(2026, 1, 2, 3, 4, 5)
        words = ["seed=0,1", f"hydra.sweep.dir=out/${{now:{now:%Y-%m-%d_%H}}}"]
        directories = [self.run(here, *words).directory for _ in range(3)]
        name = f"{now:%Y-%m-%d_%H}"
        assert [path.name for path in directories] == [name, f"{name}-1", f"{name}-2"]
        assert here.noted("end") == {0: 3, 1: 3}

    def test_a_directory_that_can_only_be_read(self, faulty: Faulty, workplace: Path) -> None:
        out = workplace / "out"
        assert faulty.sweep("seed=0,1", "hydra.sweep.dir=out")[0] == 0
        before = sorted(out.rglob("*"))
        for path in [out, *before]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            rc, stdout, stderr = faulty.sweep("seed=0,1,2", "hydra.sweep.dir=out", mortal=True)
            inside = faulty.sweep("seed=0,1", "hydra.sweep.dir=out/0/new", mortal=True)
        except subprocess.SubprocessError as error:
            pytest.skip(str(error))
        finally:
            for path in [out, *before]:
                path.chmod(0o755)
        assert (rc, stdout) == (2, "")
        expected = "hydra.sweep.dir: expected a directory that can be written, got"
        assert f"{expected} '{out}' (Permission denied)" in stderr
        assert inside[0] == 2
        assert expected in inside[2]
        assert sorted(out.rglob("*")) == before
        assert faulty.noted("begin") == {0: 1, 1: 1}

    def test_no_room_is_no_riddle(self, faulty: Faulty, workplace: Path) -> None:
        """Files may have 3,000 bytes: a job's record has room, its resolved config hasn't."""
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))  # noqa: E731
        # Python 3.11 doesn't notice that it wrote half of a module's bytecode, which stays behind.
        given = {"PYTHONPATH": str(faulty.notes.parent / "py"), "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.run(
            [sys.executable, "-c", IGNORING, "-m", "--config-dir", str(faulty.configs),
             "task=faulty", "seed=0,1", "hydra.sweep.dir=out"],
            env={**os.environ, **given},
            capture_output=True, text=True, timeout=60, preexec_fn=limit,
        )  # fmt: skip
        assert process.returncode == 1, process.stdout + process.stderr
        assert "OSError: [Errno 27] File too large" in process.stderr
        assert "--resume " in process.stderr
        assert "Traceback" not in process.stderr
        rc, _, err = faulty.sweep("seed=0,1", "hydra.sweep.dir=out")
        assert rc == 0, err
        assert faulty.noted("end") == {0: 1, 1: 1}


IGNORING = """
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit is an error then
from runner.__main__ import main
main()
"""


class TestMany:
    @pytest.mark.parametrize("count", [100, pytest.param(2000, marks=pytest.mark.slow)])
    def test_jobs(self, count: int, here: Faulty, workplace: Path) -> None:
        words = ["task=faulty", f"seed=range(0,{count})", "hydra.sweep.dir=out"]
        swept = sweep(words, config_dir=here.configs)
        assert [one.state for one in swept.records] == ["completed"] * count
        assert here.noted("end") == dict.fromkeys(range(count), 1)
        again = sweep(words, config_dir=here.configs)
        assert len(again.records) == count
        assert sum(here.noted("begin").values()) == count

    @pytest.mark.parametrize(
        ("words", "count"),
        [
            (["task=faulty"], 60),
            pytest.param(
                ["task=learn_kernel", "sweep.vectorize=false"], 600, marks=pytest.mark.slow
            ),
        ],
    )
    def test_memory_stays_where_it_is(
        self, words: list[str], count: int, here: Faulty, workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        """After a sixth of the jobs everything is loaded; the others may not add up."""
        sizes: dict[int, int] = {}
        from runner.sweep.conductor import Conductor

        run = Conductor._run

        def watched(self: Conductor, job: Any, callbacks: Any) -> float | None:
            sizes[job.number] = resident()
            return run(self, job, callbacks)

        monkeypatch.setattr(Conductor, "_run", watched)
        sweep([*words, f"seed=range(0,{count})"], config_dir=here.configs)
        assert len(sizes) == count
        assert sizes[count - 1] - sizes[count // 6] < 20 * 2**20


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_one_failure_can_end_a_sweep(
    here: Faulty, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "raise@1")
    words = ["task=faulty", "seed=0,1,2,3", "sweep.on_error=stop", "hydra.sweep.dir=out"]
    with pytest.raises(SweepFailed) as caught:
        sweep(words, config_dir=here.configs)
    message = str(caught.value).splitlines()
    assert message[0] == "3 of 4 jobs are not complete: 1 failed, 2 not started"
    assert message[1] == "  #1 ValueError: told to"
    assert message[2].startswith("Run what is missing: python -m runner --resume ")
    assert here.noted("begin") == {0: 1, 1: 1}


@pytest.fixture
def hearing() -> Iterator[None]:
    """Ctrl-C is heard here, whatever other tests of this process have left behind."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    yield
    signal.signal(signal.SIGINT, before)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.usefixtures("hearing")
def test_a_second_signal_while_the_summary_is_written(
    here: Faulty, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C twice: what is there is whole, and how to go on is still said."""
    import runner.sweep.summary as summary

    write = summary.write_atomically

    def interrupted(path: Path, content: bytes) -> None:
        if path.name == "summary.md":
            os.kill(os.getpid(), signal.SIGINT)
        write(path, content)

    monkeypatch.setattr(summary, "write_atomically", interrupted)
    monkeypatch.setenv("FAULT", "SIGINT@1")
    with pytest.raises(KeyboardInterrupt) as caught:
        sweep(["task=faulty", "seed=0,1,2", "hydra.sweep.dir=out"], config_dir=here.configs)
    assert any("--resume " in note for note in caught.value.__notes__)
    assert (workplace / "out" / "summary.csv").read_text().count("\n") > 3
    assert not (workplace / "out" / "summary.md").exists()
    assert not list((workplace / "out").rglob("*.tmp"))
    monkeypatch.undo()


@pytest.mark.usefixtures("few_together")
class TestTogether:
    """Jobs that are learned as one computation: what befalls it befalls none of the others."""

    WORDS = ("task=learn_kernel", "seed=0,1,2,3", "tensorboard=false", "hydra.sweep.dir=out")

    @pytest.fixture
    def lesson(self) -> type[Task]:
        """The task, whose `run_together` a test can replace."""
        task = menu.find("runner.tasks", "learn_kernel", Task)  # type: ignore[type-abstract]
        assert task is not None
        return task

    def breaks(self, lesson: type[Task], patch: pytest.MonkeyPatch, how: BaseException) -> None:
        """Everything is learned, and logged, and then it goes wrong."""
        whole = lesson.run_together.__func__  # type: ignore[attr-defined]

        def broken(cls: type[Task], tasks: Any, runs: Any) -> Any:
            whole(cls, tasks, runs)
            raise how

        patch.setattr(lesson, "run_together", classmethod(broken))

    @pytest.mark.parametrize("how", [ValueError("told to"), SystemExit(7), MemoryError()])
    def test_what_fails_together_is_done_one_by_one(
        self, how: BaseException, lesson: type[Task], workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        expected = {one.number: one.metrics for one in sweep([*self.WORDS[:-1]]).records}
        self.breaks(lesson, monkeypatch, how)
        swept = sweep(self.WORDS)
        assert [one.state for one in swept.records] == ["completed"] * 4
        for one in swept.records:
            assert one.metrics == pytest.approx(expected[one.number], rel=1e-4)
            steps = (workplace / "out" / one.directory / "metrics.jsonl").read_text().splitlines()
            assert len(steps) == len({json.loads(step)["step"] for step in steps})

    def test_one_that_fails_is_alone_with_it(
        self, lesson: type[Task], workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = lesson.run
        monkeypatch.setattr(
            lesson, "run", lambda task, run: fail() if run.seed == 2 else alone(task, run)
        )

        def fail() -> Any:
            raise ValueError("told to")

        self.breaks(lesson, monkeypatch, ValueError("together"))
        with pytest.raises(SweepFailed, match="#2 ValueError: told to"):
            sweep(self.WORDS)
        assert states(workplace / "out", 4) == ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"]

    @pytest.mark.parametrize("how", [KeyboardInterrupt(), SystemExit(143)])
    def test_who_ends_it_ends_all(
        self, how: BaseException, lesson: type[Task], workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        with monkeypatch.context() as patch:
            self.breaks(lesson, patch, how)
            with pytest.raises(type(how)) as caught:
                sweep(self.WORDS)
        assert len(caught.value.__notes__) == 2  # not two for each job
        assert "--resume " in caught.value.__notes__[1]
        assert states(workplace / "out", 4) == ["INTERRUPTED"] * 4
        swept = sweep(["sweep.resume=out"])
        assert [one.state for one in swept.records] == ["completed"] * 4

    def test_stopping_at_a_failure_keeps_what_was_learned_with_it(self, workplace: Path) -> None:
        words = ("task=learn_kernel", "task.optimizer.lr=0.01,1e20,0.02", "seed=0")
        with pytest.raises(SweepFailed, match="1 of 3 jobs are not complete: 1 failed"):
            sweep([*words, "sweep.on_error=stop", "tensorboard=false", "hydra.sweep.dir=out"])
        assert states(workplace / "out", 3) == ["COMPLETED", "FAILED", "COMPLETED"]
