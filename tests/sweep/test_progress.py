"""What is shown while a sweep goes on."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from shell import COMMAND, Finished

from runner.sweep import bar as bars
from runner.sweep import watch as watches
from runner.sweep.bar import Bar, Steps
from runner.sweep.manifest import Manifest, Planned
from runner.sweep.progress import Progress
from runner.sweep.watch import Watch
from runner.terminal import Terminal


def manifest(jobs: list[Planned], *words: str) -> Manifest:
    return Manifest("python -m runner", words, None, "config", "plan", None, "", tuple(jobs))


def planned(count: int) -> list[Planned]:
    """Jobs as ``task=plan task.optimizer.lr=0.1 seed=range(0,count)`` gives them."""
    common = ("task=plan", "task.optimizer.lr=0.1")
    return [Planned(i, f"key{i}", (*common, f"seed={i}"), str(i)) for i in range(count)]


def record(root: Path, job: Planned, state: str = "COMPLETED", **more: Any) -> Path:
    """Write what a job's directory says at its end."""
    folder = root / job.directory
    folder.mkdir(exist_ok=True)
    metrics = {"loss": 0.5, **more.pop("metrics", {})}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    status = {"state": state, "seconds": 0.25, "reason": more.pop("reason", None), **more}
    status |= {"job": job.number, "overrides": job.overrides}
    (folder / "new").write_text(json.dumps(status))
    (folder / "new").replace(folder / "status.json")
    return folder


class Shown:
    """A progress whose output is kept.

    Attributes:
        progress: to be told of jobs.
        lines: what was shown.
    """

    def __init__(self, root: Path, jobs: list[Planned], *, terminal: bool, words: Any = ()) -> None:
        screen = Terminal()
        self._file = io.StringIO()
        screen.console = Console(
            file=self._file, width=80 if terminal else 10_000, force_terminal=terminal,
            color_system=None, highlight=False,
        )  # fmt: skip
        self.root = root
        self.progress = Progress(screen, root, manifest(jobs, *words), jobs)

    def run(self, job: Planned, state: str = "COMPLETED", **more: Any) -> None:
        self.progress.begin(job)
        self.progress.end(job, record(self.root, job, state, **more))

    @property
    def lines(self) -> list[str]:
        return self._file.getvalue().splitlines()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that are opened from now on, by `pathlib` or `os.open`."""
    found: list[str] = []

    def noting(whole: Callable[..., Any]) -> Callable[..., Any]:
        def noted(file: Any, *others: Any, **named: Any) -> Any:
            if not isinstance(file, int):  # which is open already
                found.append(str(file))
            return whole(file, *others, **named)

        return noted

    for module in (io, os):
        monkeypatch.setattr(module, "open", noting(module.open))
    return found


class TestLines:
    def test_few_jobs_have_their_metrics(self, tmp_path: Path) -> None:
        jobs = planned(3)
        shown = Shown(tmp_path, jobs, terminal=False)
        failing = {"metric": "loss", "holds": False, "failure": "0.5 is not 1"}
        holding = {"metric": "loss", "holds": True, "failure": ""}
        shown.run(jobs[0])
        shown.run(jobs[1], "FAILED", reason="OSError: it is broken")
        shown.run(jobs[2], metrics={"expectations": [failing]})
        assert shown.lines == [  # 54 columns, 15 and 11
            "#0   seed=0" + " " * 43 + "  done         " + "     0.25 s",
            "     loss 0.5",
            "#1   seed=1" + " " * 43 + "  FAILED       " + "     0.25 s",
            "     OSError: it is broken",
            "#2   seed=2" + " " * 43 + "  does not hold" + "     0.25 s",
            "     loss 0.5",
            "     loss: 0.5 is not 1",
        ]
        shown.run(jobs[0], metrics={"expectations": [holding]})
        assert shown.lines[7].split() == ["#0", "seed=0", "holds", "0.25", "s"]

    def test_of_experiments_the_report_has_the_metrics(self, tmp_path: Path) -> None:
        jobs = [Planned(i, f"{i}", (f"experiment=6_2/{i}",), str(i)) for i in range(2)]
        shown = Shown(tmp_path, jobs, terminal=False)
        choices = {"choices": {"experiment": "6_2/0"}, "parameters": {}}
        shown.run(jobs[0], **choices)
        assert [line.split() for line in shown.lines] == [["#0", "6_2/0", "done", "0.25", "s"]]

    def test_forty_jobs_have_a_line_each_in_a_terminal(self, tmp_path: Path) -> None:
        jobs = planned(40)
        shown = Shown(tmp_path, jobs, terminal=True)
        for job in jobs:
            shown.run(job)
        assert [line.split()[0] for line in shown.lines] == [f"#{i}" for i in range(40)]
        assert {len(line) for line in shown.lines} == {80}

    def test_of_more_only_those_that_went_wrong(self, tmp_path: Path) -> None:
        jobs = planned(41)
        shown = Shown(tmp_path, jobs, terminal=True)
        for job in jobs:
            shown.run(job, "FAILED" if job.number == 7 else "COMPLETED", reason="why")
        assert [line.split() for line in shown.lines] == [
            ["#7", "seed=7", "FAILED", "0.25", "s"],
            ["why"],
        ]

    def test_where_most_go_wrong_the_lines_end(self, tmp_path: Path) -> None:
        jobs = planned(100)
        shown = Shown(tmp_path, jobs, terminal=True)
        for job in jobs:
            shown.run(job, "FAILED", reason="why")
        assert sum(line.startswith("#") for line in shown.lines) == 20
        assert shown.lines[-1].strip().endswith("listed in summary.csv.")

    def test_two_hundred_piped_jobs_have_a_line_each(self, tmp_path: Path) -> None:
        jobs = planned(200)
        shown = Shown(tmp_path, jobs, terminal=False)
        for job in jobs:
            shown.run(job)
        assert len(shown.lines) == 200

    def test_more_have_a_line_for_every_twentieth_part(self, tmp_path: Path) -> None:
        jobs = planned(400)
        shown = Shown(tmp_path, jobs, terminal=False)
        for job in jobs:
            shown.run(job, "FAILED" if job.number == 50 else "COMPLETED", reason="why")
        wrong = [line for line in shown.lines if line.startswith(("#", " " * 5))]
        assert [line.split()[0] for line in wrong] == ["#50", "why"]
        rest = [line for line in shown.lines if line not in wrong]
        assert [int(line.split()[0]) for line in rest] == list(range(20, 401, 20))
        assert rest[1] == " 40 of 400: 40 done"
        assert rest[-1] == "400 of 400: 399 done, 1 failed"

    def test_labels(self, tmp_path: Path) -> None:
        """What jobs have in common isn't said; names are as short as they can be."""
        words = [
            ("stack.layers.conv.kernel=3", "stack.layers.pool.kernel=2", "+task.optimizer.lr=1"),
            ("stack.layers.conv.kernel=3", "stack.layers.pool.kernel=3", "+task.optimizer.lr=1"),
            ("stack.layers.conv.kernel=5", "stack.layers.pool.kernel=2", "+task.optimizer.lr=2"),
            ("stack.layers.conv.kernel=5", "~stack.layers.pool", "+task.optimizer.lr=2"),
        ]
        jobs = [Planned(i, f"{i}", ("task=plan", *w), str(i)) for i, w in enumerate(words)]
        shown = Shown(tmp_path, jobs, terminal=False)
        for job in jobs:
            shown.run(job)
        assert [line.split()[1:-3] for line in shown.lines if line.startswith("#")] == [
            ["conv.kernel=3", "pool.kernel=2", "+lr=1"],
            ["conv.kernel=3", "pool.kernel=3", "+lr=1"],
            ["conv.kernel=5", "pool.kernel=2", "+lr=2"],
            ["conv.kernel=5", "~pool", "+lr=2"],
        ]

    def test_a_long_label_is_cut_in_a_terminal_alone(self, tmp_path: Path) -> None:
        jobs = [Planned(i, f"{i}", (f"weight={'1' * 60}{i}",), str(i)) for i in range(2)]
        for terminal in (True, False):
            shown = Shown(tmp_path, jobs, terminal=terminal)
            shown.run(jobs[1])
            assert ("1" * 60 in shown.lines[0]) is not terminal
            assert ("1…" in shown.lines[0]) is terminal
        assert "\x1b" not in "".join(shown.lines)

    def test_jobs_that_nobody_planned(self, tmp_path: Path) -> None:
        """A sweeper chooses values; what the command fixes isn't said."""
        shown = Shown(tmp_path, [], terminal=False, words=("task=plan", "a.lr=interval(0,1)"))
        shown.run(Planned(0, "k", ("task=plan", "a.lr=0.3"), "0"))
        assert shown.lines[0].split() == ["#0", "lr=0.3", "done", "0.25", "s"]

    def test_a_job_costs_a_look_at_its_files(
        self, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many there are, two files of the one that ends are read, and nothing is drawn."""
        jobs = planned(1000)
        shown = Shown(tmp_path, jobs, terminal=False)
        folders = [record(tmp_path, job) for job in jobs[:19]]  # the 50th would be a line
        monkeypatch.setattr(Bar, "_cells", None)
        opened.clear()
        for job, folder in zip(jobs, folders, strict=False):
            shown.progress.begin(job)
            shown.progress.end(job, folder)
        assert sorted(opened) == sorted(
            str(folder / name) for folder in folders for name in ("status.json", "metrics.json")
        )
        assert shown.lines == []


def text(line: list[tuple[str, str]]) -> str:
    return "".join(piece for piece, _ in line)


class TestBar:
    def test_every_job_has_its_part(self) -> None:
        bar = Bar([str(i) for i in range(6)])
        for folder, state in [("0", "completed"), ("1", "does not hold"), ("2", "failed")]:
            bar.begin(folder, f"#{folder}", "")
            bar.end(folder, state)
        bar.begin("4", "#4", "")
        strip, counts, running = bar.lines(80)
        cells = [(len(piece), style) for piece, style in strip[1:]]
        # 80 columns less "3 of 6", two gaps of two, and 22 for the time: 48, 8 for each job.
        assert cells == [
            (8, "green"), (8, "yellow"), (8, "bold red"), (8, "dim"), (8, "bold cyan"), (8, "dim"),
        ]  # fmt: skip
        assert len({piece[0] for piece, _ in strip[1:]}) == 4, "told apart without colours"
        assert text(counts) == "1 done, 1 does not hold, 1 failed"
        assert text(running).strip() == "#4"

    def test_a_cell_shows_what_matters_most_of_its_jobs(self) -> None:
        bar = Bar([str(i) for i in range(2000)])
        for i in range(1000):
            bar.begin(str(i), f"#{i}", "")
            bar.end(str(i), "killed" if i == 500 else "completed")
        pieces = bar.lines(80)[0][1:]
        assert [style for _, style in pieces] == ["green", "bold red", "green", "dim"]
        assert len(pieces[1][0]) == 1

    @pytest.mark.parametrize("width", [1, 20, 40, 79, 80, 200])
    @pytest.mark.parametrize("count", [1, 3, 600])
    def test_lines_fit(self, width: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bars, "EARLY", 0.0)
        bar = Bar([str(i) for i in range(count)])
        bar.begin("0", "#0", "lr=0.1 " * 30)
        bar.running["0"].open(Steps(10, "learning", 5))
        lines = bar.lines(width)
        assert len(text(lines[0])) <= max(width, 20)
        assert len(lines) == 2

    def test_the_time_that_is_left(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(bars, "monotonic", lambda: now[0])
        bar = Bar([str(i) for i in range(10)])
        bar.begin("0", "#0", "")
        assert "left" not in bar.text()
        now[0] += 60
        bar.end("0", "completed")
        assert bar.text() == " 1 of 10: 1 done; about 9 min 00 s left"  # 9 jobs of a minute
        bar.begin("1", "#1", "")
        bar.running["1"].open(Steps(4, "learning", 2))
        assert bar.text() == " 1 of 10: 1 done; about 5 min 40 s left"  # 60 s · 8.5 / 1.5

    def test_jobs_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = [100.0]
        monkeypatch.setattr(bars, "monotonic", lambda: now[0])
        bar = Bar([str(i) for i in range(64)])
        steps = []
        for i in range(64):
            bar.begin(str(i), f"#{i}", f"seed={i}")
            steps.append(Steps(10, "learning", 0))
            bar.running[str(i)].open(steps[-1])
        assert text(bar.lines(80)[1]) == "64 at once: #0 … #63"
        now[0] += 2
        for one in steps:
            for _ in range(5):
                one.advance("loss 0.1")
        shown = text(bar.lines(80)[1])
        assert shown == "64 at once: #0 … #63  learning ━━━━━───── 5/10  loss 0.1"
        for one in steps:
            one.done = 10
        assert text(bar.lines(80)[1]) == "64 at once: #0 … #63"  # something else goes on now
        for one in steps:
            one.done = 5
        bar.running["0"].open(Steps(3, "drawing", 0))
        assert bar.running["0"].share == 0.5, "another bar takes nothing back"

    def test_the_line_stays_between_two_jobs(self) -> None:
        bar = Bar(["0", "1"])
        assert text(bar.lines(80)[1]) == "waiting for the first job"
        bar.begin("0", "#0", "")
        assert len(bar.lines(80)) == 2
        bar.end("0", "completed")
        assert len(bar.lines(80)) == 2

    def test_a_job_that_is_done_again_is_counted_once(self) -> None:
        bar = Bar(["0", "1"])
        for state in ("failed", "completed"):
            bar.begin("0", "#0", "")
            assert bar.ended == 0
            bar.end("0", state)
        assert bar.text() == "1 of 2: 1 done"
        assert len(bar.lines(80)) == 2, "nothing went wrong"

    def test_jobs_that_nobody_planned(self) -> None:
        bar = Bar([])
        assert text(bar.lines(80)[0]).startswith("0 ended  ───")
        bar.begin("0", "#0", "")
        bar.end("0", "completed")
        assert bar.text() == "1 ended: 1 done"


class Heard:
    """Keeps what a watch tells."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def begin(self, job: Planned) -> None:
        self.told.append(("begin", job.number))

    def end(self, job: Planned, folder: Path) -> None:
        self.told.append(("end", job.number))


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class TestWatch:
    @pytest.fixture(autouse=True)
    def often(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watches, "EVERY", 0.01)

    @pytest.mark.parametrize("known", [True, False])
    def test_jobs_of_other_processes(self, tmp_path: Path, known: bool) -> None:
        jobs, heard = planned(3), Heard()
        with Watch(heard, tmp_path, jobs if known else []):
            record(tmp_path, jobs[1], "RUNNING")
            wait(lambda: heard.told == [("begin", 1)])
            record(tmp_path, jobs[0], "COMPLETED")
            wait(lambda: len(heard.told) == 3)
            record(tmp_path, jobs[1], "FAILED")
            wait(lambda: len(heard.told) == 4)
        assert heard.told == [("begin", 1), ("begin", 0), ("end", 0), ("end", 1)]

    def test_what_ends_last_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(watches, "EVERY", 60)
        jobs, heard = planned(2), Heard()
        with Watch(heard, tmp_path, jobs):
            record(tmp_path, jobs[0])
            record(tmp_path, jobs[1], "RUNNING")  # it is killed
        assert heard.told == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]

    def test_an_earlier_try_says_nothing(self, tmp_path: Path) -> None:
        jobs, heard = planned(2), Heard()
        record(tmp_path, jobs[0], "FAILED")
        record(tmp_path, jobs[1], "RUNNING")
        with Watch(heard, tmp_path, jobs):
            time.sleep(0.05)
            assert heard.told == []
            record(tmp_path, jobs[0])
        assert heard.told == [("begin", 0), ("end", 0)]

    def test_that_nobody_reads_any_more_is_told_at_the_end(self, tmp_path: Path) -> None:
        class Unread(Heard):
            def end(self, job: Planned, folder: Path) -> None:
                super().end(job, folder)
                if job.number == 0:
                    raise BrokenPipeError

        jobs, heard = planned(2), Unread()
        with pytest.raises(BrokenPipeError), Watch(heard, tmp_path, jobs):
            record(tmp_path, jobs[0])
            wait(lambda: len(heard.told) == 2)
            record(tmp_path, jobs[1])
        assert ("end", 1) in heard.told
        with pytest.raises(KeyboardInterrupt), Watch(heard, tmp_path, jobs):
            record(tmp_path, jobs[0])
            wait(lambda: len(heard.told) == 6)
            raise KeyboardInterrupt

    def test_damaged_files_end_nothing(self, tmp_path: Path) -> None:
        jobs, heard = planned(2), Heard()
        with Watch(heard, tmp_path, jobs):
            (tmp_path / "0").mkdir()
            (tmp_path / "0" / "status.json").write_text("{")
            time.sleep(0.05)
            record(tmp_path, jobs[1])
        assert heard.told == [("begin", 1), ("end", 1)]

    def test_a_look_at_two_thousand_directories_reads_no_file(
        self, tmp_path: Path, opened: list[str]
    ) -> None:
        """Only when a state was written anew is it read."""
        jobs = planned(2000)
        watch = Watch(Heard(), tmp_path, jobs)
        for job in jobs[:1000]:
            record(tmp_path, job, "RUNNING")
        watch._look()
        opened.clear()
        watch._look()
        assert opened == []
        record(tmp_path, jobs[7])
        opened.clear()
        watch._look()
        assert opened == [str(tmp_path / "7" / "status.json")]


def in_a_terminal(*words: str, workplace: Path) -> str:
    """What the command line writes to a terminal of 80 columns."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(
        [*COMMAND, *words], stdout=theirs, stderr=theirs, cwd=workplace, env=environment
    )
    os.close(theirs)
    found = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            found += os.read(ours, 65536)
        except OSError:
            break  # the other end is closed
    assert process.wait(60) in (0, 1)
    os.close(ours)
    return found.decode()


def test_a_sweep_in_a_terminal(workplace: Path) -> None:
    words = ("-m", "task=plan", "seed=range(0,60)", "hydra.sweep.dir=out")
    raw = in_a_terminal(*words, workplace=workplace)
    assert "of 60" in raw
    assert raw.count("\x1b[?25h") >= raw.count("\x1b[?25l"), "the cursor is shown again"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)
    assert not re.search(r"^#\d+ .*done", plain, re.M), "no lines for jobs that are done"
    assert "60 completed" in plain


def test_a_piped_sweep_has_no_control_characters(
    cli: Callable[..., Finished], workplace: Path
) -> None:
    done = cli("-m", "task=plan", "seed=range(0,12)", "hydra.sweep.dir=out")
    assert done.rc == 0, done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout + done.stderr)
    assert len(re.findall(r"^#\d+ +seed=\d+ +done +[\d.]+ s$", done.stdout, re.M)) == 12
