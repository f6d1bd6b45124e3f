"""The summary of a sweep: read from files made by hand, means and deviations worked out by hand."""

from __future__ import annotations

import csv
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable
from math import inf, isnan
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from fake import grid, job, manifest
from rich.console import Console
from shell import Finished

from runner.config.errors import ConfigError
from runner.sweep import summary as summaries
from runner.sweep.findings import Statistic, Summary
from runner.sweep.picture import Axis, _point, draw, log_spaced
from runner.sweep.summary import markdown, show, summarize, write
from runner.sweep.varied import short_names
from runner.tasks import Objective
from runner.terminal import Terminal

LR = "task.optimizer.lr"
SMALL = {"metric": "kernel_error", "goal": "min"}
LARGE = {"metric": "kernel_error", "goal": "max"}


def rows(directory: Path) -> list[dict[str, str]]:
    """summary.csv, read by another's reader."""
    with (directory / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def screen(found: Summary, width: int = 80, *, terminal: bool = True) -> list[str]:
    """What a terminal of that width shows, or what a pipe gets."""
    shown = Terminal()
    if terminal:
        shown.console = Console(
            force_terminal=True, width=width, color_system=None, highlight=False
        )
    with shown.console.capture() as captured:
        show(found, shown)
    text = captured.get()
    return [line.rstrip() for line in text.splitlines()]


def states(found: Summary) -> dict[str, str]:
    return {record.name: record.state for record in found.records}


class TestStatistics:
    @pytest.mark.parametrize(
        ("values", "mean", "deviation"),
        [
            ([1.0, 2.0, 3.0], 2, 1),  # (1 + 0 + 1) / 2 = 1
            ([0.5, 0.5, 2.0], 1, 0.75**0.5),  # (1/4 + 1/4 + 1) / 2 = 3/4
            ([2, 4, 4, 4, 5, 5, 7, 9], 5, (32 / 7) ** 0.5),  # 9+1+1+1+0+0+4+16 = 32
            ([1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16], 1e9 + 10, 30**0.5),  # 36+9+9+36 = 90
            ([7.0], 7, None),
            ([0.1, 0.1, 0.1], 0.1, 0),
            ([1e200, 3e200], 2e200, 2**0.5 * 1e200),  # whose squares are beyond every float
        ],
    )
    def test_sample(self, values: list[float], mean: float, deviation: float | None) -> None:
        found = Statistic.of(values)
        assert found is not None and found.count == len(values)
        assert found.mean == pytest.approx(mean)
        if deviation is None:
            assert found.deviation is None
        else:
            assert found.deviation == pytest.approx(deviation, abs=1e-15)

    def test_truths_are_a_share(self) -> None:
        assert Statistic.of([True, False, True, True]) == Statistic(4, 0.75, None, truths=True)

    def test_what_is_not_finite_stays(self) -> None:
        infinite, undefined = Statistic.of([1.0, inf]), Statistic.of([inf, -inf, 1.0])
        assert infinite == Statistic(2, inf)
        assert undefined is not None and isnan(undefined.mean) and undefined.deviation is None
        assert Statistic.of([1e308, 1e308]) == Statistic(2, inf)  # their sum is
        assert Statistic.of([]) is None


class TestWhatVaried:
    def test_seeds_are_aggregated(self, tmp_path: Path) -> None:
        found = summarize(grid(tmp_path, LR, {0.01: [1, 2, 3], 0.02: [0.5, 0.5, 2]}))
        assert found.varied == (LR, "seed")
        assert found.names == {LR: "lr"}
        assert [setting.values for setting in found.settings] == [{LR: 0.01}, {LR: 0.02}]
        statistics = [setting.over("kernel_error") for setting in found.settings]
        assert [s and s.mean for s in statistics] == [2, 1]
        assert [s and s.deviation for s in statistics] == pytest.approx([1, 0.75**0.5])

    def test_seeds_alone(self, tmp_path: Path) -> None:
        found = summarize(grid(tmp_path, "seed", {0: [1], 1: [2], 2: [6]}))
        assert found.names == {"seed": "seed"}
        assert len(found.settings) == 3
        assert "Over 3 seeds: kernel_error 3 ± 2.6, loss 2 ± 0" in screen(found)  # √7 = 2.6458

    def test_equal_seeds_are_one(self, tmp_path: Path) -> None:
        for number, (seed, loss) in enumerate([(0, 1.0), (0, 1.0), (1, 3.0)]):
            job(tmp_path, number, {"seed": seed}, {"loss": loss})
        assert "Over 2 seeds: loss 2 ± 1.4" in screen(summarize(tmp_path))

    def test_one_seed_that_is_left(self, tmp_path: Path) -> None:
        job(tmp_path, 0, {"seed": 0}, {"loss": 1.5})
        job(tmp_path, 1, {"seed": 1}, state="FAILED", reason="told to")
        assert "Over 1 seed: loss 1.5" in screen(summarize(tmp_path))

    def test_nothing(self, tmp_path: Path) -> None:
        job(tmp_path, 0, {}, {"loss": 1.5})
        found = summarize(tmp_path)
        assert found.varied == ()
        assert screen(found)[1:5] == ["1 completed", "", "job  loss", "#0   1.5"]

    def test_a_group_stands_for_what_follows_from_it(self, tmp_path: Path) -> None:
        # conv1.kernel is 5 or 11 as the stack has it; the channels are asked for besides.
        for i, (stack, channels) in enumerate([("a", 6), ("a", 8), ("b", 6), ("b", 8)]):
            job(
                tmp_path,
                i,
                {"stack": stack, "stack.layers.conv1.channels": channels},
                parameters={
                    "stack.layers.conv1.channels": channels,
                    "stack.layers.conv1.kernel": 5 if stack == "a" else 11,
                    f"stack.layers.only_in_{stack}.kind": "conv",
                },
                choices={"stack": stack},
            )
        found = summarize(tmp_path)
        assert found.names == {"stack": "stack", "stack.layers.conv1.channels": "channels"}
        assert [s.values["stack"] for s in found.settings] == ["a", "a", "b", "b"]

    def test_an_experiment_stands_for_all_it_sets(self, tmp_path: Path) -> None:
        for i, name in enumerate(["6_2/a", "6_2/b"]):
            choices = {"experiment": name, "stack": f"stack{i}", "task": f"task{i}"}
            values = {"task.kind": f"task{i}", LR: 0.1 * i}
            job(tmp_path, i, {"experiment": name}, parameters=values, choices=choices)
        assert summarize(tmp_path).varied == ("experiment",)

    def test_a_node_overridden_as_a_whole(self, tmp_path: Path) -> None:
        for i, name in enumerate(["sgd", "adam"]):
            values = {"task.optimizer": f"{{name: {name}, lr: {i}}}"}
            job(tmp_path, i, values, parameters={"task.optimizer.name": name, LR: i})
        assert set(summarize(tmp_path).varied) == {"task.optimizer.name", LR}

    def test_a_key_that_some_jobs_lack(self, tmp_path: Path) -> None:
        job(tmp_path, 0, {})
        job(tmp_path, 1, {"+task.clip": 1.0}, parameters={"task.clip": 1.0})
        found = summarize(tmp_path)
        assert [setting.values for setting in found.settings] == [
            {"task.clip": None},
            {"task.clip": 1.0},
        ]

    def test_equal_values_of_different_types(self, tmp_path: Path) -> None:
        job(tmp_path, 0, {LR: 1, "device": "cpu"})
        job(tmp_path, 1, {LR: 1.0, "device": "cuda"})
        assert summarize(tmp_path).varied == ("device",)
        job(tmp_path, 2, {LR: 1, "device": "cpu"}, parameters={LR: True})
        assert LR in summarize(tmp_path).varied

    def test_jobs_that_tell_only_their_overrides(self, tmp_path: Path) -> None:
        """A run that died before it could say more: its values are those it was given."""
        values = [{LR: 0.01, "stack": "a"}, {LR: 0.02, "stack": "a"}, {LR: 0.03, "stack": "a"}]
        manifest(tmp_path, values, SMALL)
        for i in (0, 1):
            job(tmp_path, i, values[i], {"kernel_error": 1.0}, choices={"stack": "a"})
        broken = job(tmp_path, 2, values[2], state="FAILED")
        (broken / "status.json").write_text('{"state": "FAILED", "reason": "early"}')
        found = summarize(tmp_path)
        assert found.varied == (LR,)
        assert [setting.values[LR] for setting in found.settings] == [0.01, 0.02, 0.03]

    def test_shortest_names_that_mean_no_other(self) -> None:
        names = ["task.optimizer.lr", "stack.layers.a.kernel", "stack.layers.b.kernel", "seed"]
        assert list(short_names(names).values()) == ["lr", "a.kernel", "b.kernel", "seed"]
        assert list(short_names(["a.loss", "b.x"], {"loss"}).values()) == ["a.loss", "x"]
        # One that is another's end keeps its name, and the other gets a longer one.
        assert list(short_names(["lr", "task.lr"]).values()) == ["lr", "task.lr"]

    def test_time_grows_with_what_varied_not_with_its_square(self, tmp_path: Path) -> None:
        """Records may come from anywhere. Looking at all pairs took half a minute and more."""
        for i in range(2):
            values = {f"a.b{n}": n + i for n in range(20_000)}
            job(tmp_path, i, values)
        before = time.process_time()
        found = summarize(tmp_path)
        assert len(found.varied) == 20_000
        assert found.names["a.b7"] == "b7"
        assert len(screen(found, terminal=False)) > 4
        write(found, tmp_path)
        assert time.process_time() - before < 15


class TestBest:
    @pytest.mark.parametrize(("objective", "lr", "job"), [(SMALL, 0.02, "#3"), (LARGE, 0.01, "#2")])
    def test_smallest_or_largest_mean(
        self, tmp_path: Path, objective: dict[str, str], lr: float, job: str
    ) -> None:
        errors = {0.01: [1, 2, 3], 0.02: [0.5, 0.5, 2]}
        found = summarize(grid(tmp_path, LR, errors, objective))
        assert found.best is not None and found.best.values == {LR: lr}
        # The command is that of the setting's best job: the first of several.
        assert found.best_job is not None and found.best_job.name == job

    def test_the_first_of_equals(self, tmp_path: Path) -> None:
        for goal in ("min", "max"):
            errors = {3: [1.0], 1: [1.0], 2: [1.0]}
            directory = grid(tmp_path / goal, LR, errors, {"metric": "kernel_error", "goal": goal})
            best = summarize(directory).best
            assert best is not None and best.values == {LR: 3}

    @pytest.mark.parametrize("wrong", ["nan", "inf", "-inf"])
    def test_what_is_not_finite_is_shown_but_not_ranked(self, tmp_path: Path, wrong: Any) -> None:
        found = summarize(grid(tmp_path, LR, {0.1: [0.1, wrong], 0.2: [3, 5]}))
        assert found.best is not None and found.best.values == {LR: 0.2}
        assert found.notes == ("Not ranked, as kernel_error is not finite: lr=0.1",)
        write(found, tmp_path)
        assert [row["kernel_error"] for row in rows(tmp_path)] == ["0.1", wrong, "3", "5"]
        assert any(wrong in line for line in screen(found) if line.startswith("0.1 "))

    def test_nothing_finite(self, tmp_path: Path) -> None:
        found = summarize(grid(tmp_path, LR, {0.1: ["nan"], 0.2: ["inf"]}))  # type: ignore[list-item]
        assert found.best is None and found.best_job is None
        write(found, tmp_path)
        assert not (tmp_path / "summary.png").exists()

    def test_a_setting_with_a_failed_job_is_not_best(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [5, 5]})
        job(tmp_path, 2, {LR: 0.06, "seed": 0}, {"kernel_error": 0.1})
        job(tmp_path, 3, {LR: 0.06, "seed": 1}, state="FAILED", reason="Diverged")
        found = summarize(tmp_path)
        assert found.best is not None and found.best.values == {LR: 0.01}
        assert found.notes == ("Not ranked, as a job failed or was ended: lr=0.06",)

    def test_all_settings_have_a_failed_job(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [5], 0.02: [1]})
        for i, lr in enumerate([0.01, 0.02]):
            job(tmp_path, 2 + i, {LR: lr, "seed": 2}, state="FAILED", reason="disk full")
        found = summarize(tmp_path)
        assert found.best is found.settings[1]
        (note,) = found.notes
        assert note == "In every setting a job failed or was ended: the others' means are ranked."

    @pytest.mark.parametrize("state", ["INTERRUPTED", "RUNNING", "damaged"])
    @pytest.mark.parametrize("over", [True, False])
    def test_jobs_that_were_ended_spoil_their_setting_when_the_sweep_is_over(
        self, tmp_path: Path, state: str, over: bool
    ) -> None:
        """The survivor of 0.02 is better than both of 0.01; one that runs no more was killed."""
        grid(tmp_path, LR, {0.01: [5, 5], 0.02: [1]})
        ended = job(tmp_path, 3, {LR: 0.02, "seed": 1}, state=state)
        if state == "damaged":
            (ended / "status.json").write_text("{")
        content = json.loads((tmp_path / "sweep.json").read_text())
        words = [f"{LR}=0.02", "seed=1"]
        content["jobs"].append({"number": 3, "directory": "3", "overrides": words})
        (tmp_path / "sweep.json").write_text(json.dumps(content))
        if not over:
            content["jobs"].append({"number": 4, "directory": "4", "overrides": [f"{LR}=0.03"]})
            (tmp_path / "sweep.json").write_text(json.dumps(content))
        found = summarize(tmp_path)
        best = found.settings[0 if over else 1]
        assert found.best is best
        told = ("Not ranked, as a job failed or was ended: lr=0.02",)
        assert found.notes == (told if over else ())

    def test_one_that_runs_keeps_the_others_open(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [5, 5], 0.02: [1]})
        job(tmp_path, 3, {LR: 0.02, "seed": 1}, state="INTERRUPTED")
        running = job(tmp_path, 4, {LR: 0.01, "seed": 2}, state="RUNNING")
        with (running / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = summarize(tmp_path)
        assert found.best is found.settings[1] and found.notes == ()

    def test_the_picture_marks_who_was_killed(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [5, 5], 0.02: [1]})
        job(tmp_path, 3, {LR: 0.02, "seed": 1}, state="RUNNING")
        found = summarize(tmp_path)
        axis = Axis.of(LR, "lr", found.settings)
        points = [_point(setting, "kernel_error", axis) for setting in found.settings]
        assert [point.failed for point in points] == [False, True]

    def test_no_such_metric(self, tmp_path: Path) -> None:
        objective = {"metric": "accuracy", "goal": "max"}
        found = summarize(grid(tmp_path, LR, {0.01: [1], 0.02: [2]}, objective))
        assert found.best is None and found.objective is None
        (note,) = found.notes
        assert note == "No best: no job has the metric 'accuracy'; there are loss, kernel_error."
        for metric, hint in [("los", " Did you mean 'loss'?"), ("accuracy", "")]:
            with pytest.raises(ConfigError) as caught:
                summarize(tmp_path, Objective(metric, "min"))
            assert str(caught.value) == (
                "sweep.objective.metric: expected one of loss, kernel_error, "
                f"got '{metric}', which no job has.{hint}"
            )

    def test_a_name_that_was_mistyped(self, tmp_path: Path) -> None:
        objective = {"metric": "los", "goal": "min"}
        (note,) = summarize(grid(tmp_path, LR, {0.01: [1], 0.02: [2]}, objective)).notes
        assert note == (
            "No best: no job has the metric 'los'; there are loss, kernel_error. "
            "Did you mean 'loss'?"
        )

    def test_another_objective_than_the_sweeps(self, tmp_path: Path) -> None:
        found = summarize(grid(tmp_path, LR, {0.01: [1], 0.02: [2]}))
        assert found.best is found.settings[0]
        found = summarize(tmp_path, Objective("kernel_error", "max"))
        assert found.best is found.settings[1]

    def test_another_metric_where_the_first_is_not_measured(self, tmp_path: Path) -> None:
        objective = {"metric": "accuracy", "goal": "min", "otherwise": "kernel_error"}
        found = summarize(grid(tmp_path, LR, {0.01: [1], 0.02: [0.5]}, objective))
        assert found.best is found.settings[1]

    def test_jobs_that_lack_the_metric(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [1]})
        job(tmp_path, 1, {LR: 0.02}, {"loss": 0.1})
        found = summarize(tmp_path)
        assert found.best is found.settings[0]
        assert found.notes == ("Not ranked, as there is no kernel_error: lr=0.02",)

    def test_the_tasks_own_objective_without_a_manifest(self, tmp_path: Path) -> None:
        for i, error in enumerate([0.3, 0.1, 0.2]):
            job(tmp_path, i, {LR: error}, {"kernel_error": error})
        found = summarize(tmp_path)
        assert found.best is found.settings[1]


class TestDamage:
    """One job's damage never hides the others, and is told."""

    @pytest.fixture
    def sweep(self, tmp_path: Path) -> Path:
        return grid(tmp_path, LR, {0.01: [1, 2], 0.02: [3, 4], 0.03: [5, 6]})

    @pytest.mark.parametrize(
        ("file", "content", "reason"),
        [
            ("status.json", b'{"state": "COMPL', "status.json is damaged"),
            ("status.json", b"\xff\xfe", "status.json is damaged"),
            ("status.json", b"[1, 2]", "status.json is damaged: it is no mapping"),
            ("status.json", b"[" * 100_000, "status.json is damaged"),
            ("status.json", b'{"state": "DANCING"}', "status.json has no valid state"),
            ("status.json", b'{"state": ["COMPLETED"]}', "status.json has no valid state"),
            ("metrics.json", b"", "metrics.json is damaged"),
            ("metrics.json", None, "metrics.json can't be read: No such file"),
        ],
    )
    def test_a_file(self, sweep: Path, file: str, content: bytes | None, reason: str) -> None:
        if content is None:
            (sweep / "2" / file).unlink()
        else:
            (sweep / "2" / file).write_bytes(content)
        found = summarize(sweep)
        (bad,) = found.troubled
        assert (bad.name, bad.state) == ("#2", "unreadable")
        assert bad.reason.startswith(reason)
        assert found.tally == "5 completed, 1 unreadable"
        # What the manifest says of it is kept: it is listed with the others of its setting.
        assert len(found.settings) == 3
        write(found, sweep)
        assert rows(sweep)[2]["reason"] == bad.reason
        assert reason in markdown(found, picture=False)

    def test_odd_contents(self, sweep: Path) -> None:
        status = {"state": "COMPLETED", "seconds": "long", "overrides": 3, "parameters": []}
        (sweep / "2" / "status.json").write_text(json.dumps(status))
        metrics = {
            "kernel_error": 10**400,
            "loss": None,
            "expectations": {"a": 1},
            "x": [1],
            "": {},
        }
        (sweep / "2" / "metrics.json").write_text(json.dumps(metrics))
        found = summarize(sweep)
        assert found.records[2].metrics == {"kernel_error": inf}
        assert found.records[2].seconds is None
        write(found, sweep)

    def test_a_job_that_was_never_started(self, sweep: Path) -> None:
        for file in (sweep / "4").iterdir():
            file.unlink()
        (sweep / "4").rmdir()
        found = summarize(sweep)
        assert states(found)["#4"] == "not started"
        assert found.records[4].values == {LR: 0.03, "seed": 0}

    @pytest.mark.parametrize("name", ["²", "4²", "①", "٣", "9" * 5000])
    def test_odd_names(self, sweep: Path, name: str) -> None:
        """Digits that are no numbers, numbers that aren't ASCII, and one beyond Python's limit."""
        if len(name) < 100:
            job(sweep, 6, {LR: 0.04}, {"kernel_error": 1.0}, folder=name)
        content = json.loads((sweep / "sweep.json").read_text())
        content["jobs"].append({"directory": name})
        (sweep / "sweep.json").write_text(json.dumps(content))
        found = summarize(sweep)
        assert found.tally.startswith("7 completed" if len(name) < 100 else "6 completed, 1 unread")
        write(found, sweep)

    def test_a_name_that_no_file_system_takes(self, sweep: Path) -> None:
        content = json.loads((sweep / "sweep.json").read_text())
        content["jobs"][2]["directory"] = "x" * 300
        (sweep / "sweep.json").write_text(json.dumps(content))
        found = summarize(sweep)
        assert "6 completed, 1 unreadable" in found.tally  # what was #2 is there, under its name
        (bad,) = found.troubled
        assert bad.reason == "its directory can't be read: File name too long"
        assert bad.values == {LR: 0.02, "seed": 0}

    def test_a_folder_that_may_not_be_read(
        self, sweep: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exists = Path.exists

        def refused(path: Path) -> bool:
            if path.parent == sweep / "2":
                raise PermissionError(13, "Permission denied")
            return exists(path)

        monkeypatch.setattr(Path, "exists", refused)
        (bad,) = summarize(sweep).troubled
        assert (bad.name, bad.reason) == ("#2", "its directory can't be read: Permission denied")

    @pytest.mark.parametrize("absolute", [True, False])
    def test_a_directory_elsewhere_is_not_looked_at(self, tmp_path: Path, absolute: bool) -> None:
        elsewhere = job(tmp_path / "other", 0, {LR: 7}, {"kernel_error": 0.0}, state="RUNNING")
        before = sorted(tmp_path.rglob("*"))
        sweep = grid(tmp_path / "sweep", LR, {0.01: [1], 0.02: [2]})
        content = json.loads((sweep / "sweep.json").read_text())
        content["jobs"][1]["directory"] = str(elsewhere) if absolute else "../other/0"
        (sweep / "sweep.json").write_text(json.dumps(content))
        found = summarize(sweep)
        (bad,) = found.troubled
        assert (bad.name, bad.state) == ("#1", "unreadable")
        assert bad.reason == "sweep.json gives it a directory that isn't within the sweep's"
        assert sorted((tmp_path / "other").rglob("*")) == before[1:]

    def test_what_a_terminal_would_obey(self, tmp_path: Path) -> None:
        """ESC and its one-byte form, a bell, a text turned round, half of a character."""
        evil = "a\x1b[2J\x9b31m\x07\r\u202eb\ud800\nnext\tline"
        shown = "a�[2J�31m���b�\nnext\tline"
        grid(tmp_path, LR, {0.01: [1], 0.02: [2]})
        bad = {"number": 3, "overrides": [f"{LR}={evil}"], "problems": [evil]}
        content = json.loads((tmp_path / "sweep.json").read_text())
        content |= {"command": evil, "skipped": [bad]}
        (tmp_path / "sweep.json").write_text(json.dumps(content))
        job(tmp_path, 2, {"stack": evil}, {evil: 1.0}, command=evil, choices={evil: evil})
        job(tmp_path, 4, {LR: 1.0}, state="FAILED", reason=evil)
        (tmp_path / "1").rename(tmp_path / "\x1b[2J\udcff")
        found = summarize(tmp_path)
        assert found.records[-1].reason == shown
        assert found.command == shown
        write(found, tmp_path)
        said = "\n".join(screen(found, terminal=False))
        for text in (said, *((tmp_path / f"summary.{end}").read_text() for end in ("md", "csv"))):
            assert shown.partition("\n")[0] in text
            assert not set(text) & set("\x1b\x9b\x07\u202e\ud800\udcff")

    def test_killed_or_running(self, sweep: Path) -> None:
        for number in ("0", "1"):
            path = sweep / number / "status.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"state": "RUNNING"}))
        with (sweep / "0" / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            found = summarize(sweep)
        assert found.tally == "4 completed, 1 running, 1 killed"
        assert states(found)["#0"] == "running"
        assert found.records[1].reason == "its process is gone: killed, or out of memory"

    @pytest.mark.parametrize("content", ["", "[]", '{"jobs": 7, "skipped": "x", "objective": []}'])
    def test_the_manifest(self, sweep: Path, content: str) -> None:
        (sweep / "sweep.json").write_text(content)
        found = summarize(sweep)
        assert found.tally == "6 completed"
        assert len(found.settings) == 3
        assert any("sweep.json is damaged" in note for note in found.notes) != (len(content) > 2)

    def test_no_manifest_and_jobs_in_folders(self, tmp_path: Path) -> None:
        for number in (10, 2):
            job(tmp_path, number, {LR: number}, folder=f"deep/er/{number}")
        job(tmp_path, 1, {LR: 1}, folder="1")
        found = summarize(tmp_path)
        assert [record.directory for record in found.records] == ["1", "deep/er/2", "deep/er/10"]

    def test_runs_of_several_sweeps_go_by_their_directories(self, tmp_path: Path) -> None:
        for folder in ("a/10", "a/9", "b/10"):
            job(tmp_path, int(folder[2:]), {LR: 1}, folder=folder)
        found = summarize(tmp_path)
        assert [record.name for record in found.records] == ["a/9", "a/10", "b/10"]

    def test_skipped_jobs(self, tmp_path: Path) -> None:
        bad = {"number": 1, "overrides": [f"{LR}=-1"], "problems": ["lr: expected > 0, got -1."]}
        manifest(tmp_path, [{LR: 0.1}], SMALL, [bad])
        job(tmp_path, 0, {LR: 0.1}, {"kernel_error": 1.0})
        found = summarize(tmp_path)
        assert found.tally == "1 completed, 1 skipped"
        assert "skipped  #1  lr=-1" in screen(found)
        assert "  lr: expected > 0, got -1." in screen(found)

    def test_an_expectation_that_does_not_hold(self, sweep: Path) -> None:
        outcome = {"metric": "loss", "expected": "≤ 1", "measured": 2, "holds": False}
        content = {"kernel_error": 3, "expectations": [outcome | {"failure": "2 is above 1"}]}
        (sweep / "2" / "metrics.json").write_text(json.dumps(content))
        found = summarize(sweep)
        assert found.tally == "6 completed (1 of them does not hold)"
        assert states(found)["#2"] == "does not hold"
        # It is counted all the same: (3 + 4) / 2.
        assert "0.02  2     3.5 ± 0.71    2 ± 0  1 does not hold" in [
            line.replace("      ", "  ") for line in screen(found)
        ] or any("3.5 ± 0.71" in line and "1 does not hold" in line for line in screen(found))
        assert "  loss: 2 is above 1" in screen(found)

    def test_no_runs(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"a directory with runs, got .* which has none"):
            summarize(tmp_path)
        with pytest.raises(ConfigError, match="does not exist"):
            summarize(tmp_path / "nowhere")


class TestCsv:
    def test_every_job_in_full(self, tmp_path: Path) -> None:
        manifest(tmp_path, [], SMALL)
        job(tmp_path, 0, {LR: 1 / 3, "seed": 0}, {"kernel_error": 2 / 3, "ok": True, "n": 7})
        job(tmp_path, 1, {LR: 0.1, "seed": 1}, {"kernel_error": 1e-300, "seconds": 5})
        job(tmp_path, 2, {LR: 0.1, "seed": 2}, state="FAILED", reason='a "quoted", word\nand more')
        write(summarize(tmp_path), tmp_path)
        heads = "job,directory,state,seconds,task.optimizer.lr,seed,kernel_error,ok,n"
        text = (tmp_path / "summary.csv").read_bytes().decode()
        assert text.splitlines()[0] == f"{heads},metric/seconds,reason"
        assert text.endswith("\r\n")
        one, two, three = rows(tmp_path)
        assert one == {
            "job": "0", "directory": "0", "state": "completed", "seconds": "0.25",
            LR: "0.3333333333333333", "seed": "0", "kernel_error": "0.6666666666666666",
            "ok": "true", "n": "7", "metric/seconds": "", "reason": "",
        }  # fmt: skip
        assert two["metric/seconds"] == "5" and two["seconds"] == "0.25" and two["ok"] == ""
        assert float(two["kernel_error"]) == 1e-300
        assert three["reason"] == 'a "quoted", word\nand more' and three["kernel_error"] == ""


class TestMarkdown:
    def test_the_page(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [1, 2, 3], 0.02: [0.5, 0.5, 2]})
        found = summarize(tmp_path)
        write(found, tmp_path)
        text = (tmp_path / "summary.md").read_text()
        assert text.startswith("# 6 completed\n\n```text\npython -m runner -m task=learn_kernel")
        assert "* task.optimizer.lr: 0.01, 0.02\n* seed: 0, 1, 2" in text
        assert "**Best (smallest kernel\\_error): lr=0.02: 1 ± 0.87**" in text
        assert "python -m runner task=learn_kernel seed=0 task.optimizer.lr=0.02" in text
        assert "![task.optimizer.lr, seed](summary.png)" in text
        assert "| lr | jobs | kernel\\_error | loss |  |" in text
        assert "| 0.01 | 3 | 2 ± 1 | 2 ± 0 |  |" in text
        assert "| **0.02** | **3** | **1 ± 0.87** | **2 ± 0** | **best** |" in text
        assert "What went wrong" not in text

    @pytest.mark.parametrize("count", [5, 20, 21])
    def test_marks_are_escaped_and_many_reasons_grouped(self, tmp_path: Path, count: int) -> None:
        for i in range(count):
            reason = f"Diverged: the loss was {i}.5e+07 at step {i}: `<b>` | x"
            job(tmp_path, i, {"stack": f"a|b*{i}"}, state="FAILED", reason=reason)
        for i in (count, count + 1):
            job(tmp_path, i, {"stack": "c"}, state="FAILED", reason="disk full")
        text = markdown(summarize(tmp_path), picture=False)
        assert "a\\|b\\*0" in text
        assert text.count("Diverged") == (count if count <= 20 else 1)
        assert ("step 4: `<b>` | x\n```" in text) is (count <= 20)
        assert ("`<b>` | x (#0; the others alike, with other numbers)" in text) is (count > 20)
        both = f"\\#{count}, \\#{count + 1}"
        assert f"**failed**: {both}\n\n```text\ndisk full\n```" in text

    def test_a_picture_that_fails_costs_nothing_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_: Summary) -> None:
            raise RuntimeError("no fonts")

        grid(tmp_path, LR, {0.01: [1], 0.02: [2]})
        (tmp_path / "summary.png").write_bytes(b"of an earlier sweep")
        monkeypatch.setattr(summaries, "draw", broken)
        write(summarize(tmp_path), tmp_path)
        assert "no fonts" in caplog.text
        assert not (tmp_path / "summary.png").exists()
        assert "summary.png" not in (tmp_path / "summary.md").read_text()
        assert len(rows(tmp_path)) == 2


class TestTerminal:
    def test_at_eighty_columns(self, tmp_path: Path) -> None:
        grid(tmp_path, LR, {0.01: [1, 2, 3], 0.02: [0.5, 0.5, 2]})
        job(tmp_path, 6, {LR: 0.06, "seed": 0}, state="FAILED", reason="Diverged: " + "word " * 30)
        lines = screen(summarize(tmp_path))
        assert lines[1:7] == [
            "6 completed, 1 failed",
            "",
            "lr    jobs  kernel_error  loss",
            "0.01  3     2 ± 1         2 ± 0",
            "0.02  3     1 ± 0.87      2 ± 0  best",
            "0.06  0/1   –             –      failed",
        ]
        assert "Best (smallest kernel_error): lr=0.02: 1 ± 0.87" in lines
        assert "failed  #6  lr=0.06 seed=0" in lines
        assert max(map(len, lines)) <= 80

    def test_metrics_that_do_not_fit_are_left_out(self, tmp_path: Path) -> None:
        job(tmp_path, 0, {LR: 0.1}, {f"a_rather_long_metric_{i}": i for i in range(9)})
        job(tmp_path, 1, {LR: 0.2}, {f"a_rather_long_metric_{i}": 3 - i for i in range(9)})
        found = summarize(tmp_path)
        heads = [line for line in screen(found) if line.startswith("lr")]
        assert heads == ["lr   job  a_rather_long_metric_0  a_rather_long_metric_1"]
        assert "a_rather_long_metric_4" in "".join(screen(found, terminal=False))
        assert max(map(len, screen(found, 30))) <= 30 + 10  # the first one always stays

    def test_more_parameters_than_fit(self, tmp_path: Path) -> None:
        for i in range(3):
            job(tmp_path, i, {f"data.parameter_{k}": i + k for k in range(9)}, {"loss": i})
        lines = screen(summarize(tmp_path))
        # Five names of 11 letters, a number, a metric and the gaps between take 5·13 + 5 + 4 = 74.
        assert lines[3].split() == [*(f"parameter_{k}" for k in range(5)), "job", "loss"]
        hidden = "parameter_5, parameter_6, parameter_7, parameter_8"
        assert " ".join(lines[7:9]) == f"Also varied, but there is no room here: {hidden}"
        assert max(map(len, lines[:9])) <= 80  # a command stays whole

    def test_what_was_expected_comes_before_what_was_not(self, tmp_path: Path) -> None:
        outcome = {"metric": "c", "expected": "≤ 9", "measured": 2, "holds": True, "failure": None}
        for i in range(2):
            metrics = {"a": 5, "b": i, "c": i, "d": i, "expectations": [outcome]}
            job(tmp_path, i, {LR: i}, metrics)
        manifest(tmp_path, [{LR: 0}, {LR: 1}], {"metric": "d", "goal": "max"})
        # The objective; the expected one; what differs; what doesn't.
        assert summarize(tmp_path).metrics == ("d", "c", "b", "a")

    def test_many_settings_show_the_best(self, tmp_path: Path) -> None:
        # The best is the 30th of 40: |i − 29|.
        grid(tmp_path, LR, {float(i): [abs(i - 29)] for i in range(40)})
        lines = screen(summarize(tmp_path))
        assert lines[3].startswith("lr")
        assert lines[4].startswith("29  #29   0 ") and lines[4].endswith("best")
        assert lines[24] == "… 20 more in summary.csv (these are the best)"

    def test_piped_lines_have_no_width(self, tmp_path: Path) -> None:
        reason = "word " * 100
        job(tmp_path, 0, {"stack": "s" * 100}, {"loss": 1.0})
        job(tmp_path, 1, {"stack": "t" * 100}, state="FAILED", reason=reason)
        lines = screen(summarize(tmp_path), terminal=False)
        assert f"failed  #1  stack={'t' * 100}" in lines
        assert f"  {reason}".rstrip() in lines
        assert not any("\x1b" in line for line in lines)

    def test_kinds_of_failures(self, tmp_path: Path) -> None:
        for i in range(30):
            reason = f"lr {i} is too large" if i < 25 else f"{'abcde'[i - 25]} is missing"
            job(tmp_path, i, {LR: i / 10, "seed": i}, state="FAILED", reason=reason)
        lines = screen(summarize(tmp_path))
        place = lines.index("What went wrong:")
        assert lines[place + 1] == "failed  #0, #1, #2 and 22 more  lr=0,0.1,0.2,… seed=0,1,2,…"
        assert lines[place + 2] == "  lr 0 is too large (#0; the others alike, with other numbers)"
        assert lines[-1] == "  e is missing"

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_few_reasons_that_differ_in_numbers_are_told_each(
        self, tmp_path: Path, count: int
    ) -> None:
        for i in range(count):
            reason = f"Diverged at step {10 * i + 3}"
            job(tmp_path, i, {LR: i}, state="FAILED", reason=reason)
        told = [line for line in screen(summarize(tmp_path)) if "Diverged" in line]
        if count <= 3:
            assert told == [f"  Diverged at step {10 * i + 3}" for i in range(count)]
        else:
            assert told == ["  Diverged at step 3 (#0; the others alike, with other numbers)"]

    def test_jobs_never_started_did_not_go_wrong(self, tmp_path: Path) -> None:
        manifest(tmp_path, [{LR: i} for i in range(6)], SMALL)
        job(tmp_path, 0, {LR: 0}, {"kernel_error": 1.0})
        found = summarize(tmp_path)
        lines = screen(found)
        assert "What went wrong:" not in lines
        assert lines[-1] == "Not started: 5 (#1, #2, #3 and 2 more)"
        page = markdown(found, picture=False)
        assert "went wrong" not in page and "Not started: 5" in page

    def test_the_best_so_far_and_its_equals(self, tmp_path: Path) -> None:
        manifest(tmp_path, [{LR: i} for i in range(5)], SMALL)
        for i, error in enumerate([2.0, 1.0, 1.0, 1.0]):
            job(tmp_path, i, {LR: i}, {"kernel_error": error})
        assert "Best so far (smallest kernel_error): lr=1: 1, and 2 equal" in screen(
            summarize(tmp_path)
        )
        job(tmp_path, 4, {LR: 4}, {"kernel_error": 0.5})
        assert "Best (smallest kernel_error): lr=4: 0.5" in screen(summarize(tmp_path))

    def test_the_best_runs_command_alone(self, tmp_path: Path) -> None:
        """What the sweep does with its jobs is of no use to one of them."""
        manifest(tmp_path, [], SMALL)
        for seed, lr, error in [(0, 1, 3.0), (1, 1, 2.0), (0, 2, 9.0)]:
            words = f"seed={seed} {LR}={lr} sweep.on_error=stop '+sweep.objective.metric=x y'"
            command = f"python -m runner {words} 'note=a b'"
            values = {"seed": seed, LR: lr}
            job(tmp_path, 2 * lr + seed, values, {"kernel_error": error}, command=command)
        lines = screen(summarize(tmp_path), terminal=False)
        place = lines.index("Its best run (#3):")
        assert lines[place + 1] == f"python -m runner seed=1 {LR}=1 'note=a b'"

    def test_large_numbers_are_written_alike(self, tmp_path: Path) -> None:
        # 61,706 three times, and 123,456.5 ± 0.7071 (√½) of 123,456 and 123,457.
        grid(tmp_path, LR, {1: [61706.0] * 3, 2: [123456.0, 123457.0], 3: [5000.25]})
        text = " ".join(" ".join(screen(summarize(tmp_path))).split())
        for number in ("61,706 ± 0", "123,456 ± 0.71", "5000.2"):
            assert number in text

    def test_seeds_that_change_nothing_have_one_row(self, tmp_path: Path) -> None:
        grid(tmp_path, "seed", {i: [61706.0] for i in range(20)})
        lines = screen(summarize(tmp_path))
        assert lines[3:7] == [
            "jobs  kernel_error  loss",
            "20    61,706 ± 0    2 ± 0",
            "",
            "All 20 seeds give the same.",
        ]
        assert len(lines) == 7  # none of them is best


class TestPicture:
    @pytest.mark.parametrize(
        ("values", "log"),
        [
            ([0.01, 0.02, 0.03], False),
            ([0.001, 0.01, 0.1], True),
            ([1, 2, 4, 8, 16], True),
            ([1, 2, 5, 10, 20, 50, 100], True),
            (list(range(1, 101)), False),
            ([0, 0.01, 0.1, 1], False),
            ([-1, 1, 10, 100], False),
            ([0.1, 10], False),
            ([0.1, 1000], True),
            ([0.02, 0.2, 0.4, 0.6, 0.8, 1.0], False),
            (list(range(1, 2001)), False),
            ([0.01, 0.02, 1e20], True),
            ([0.0001, 0.05, 0.1, 0.12, 0.15, 0.2], True),
            ([0.0, 1e20], False),
            ([3], False),
        ],
    )
    def test_log_spaced(self, values: list[float], log: bool) -> None:
        assert log_spaced(values) is log

    def drawn(self, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """Which chart is drawn; it is drawn indeed, and large enough to be seen."""
        from runner.tracking import comparisons, heat

        called = []
        for module in (comparisons, heat):
            for name in ("band", "whiskers", "distribution", "panels", "heat_map", "cloud"):
                if chart := getattr(module, name, None):

                    def spy(*args: Any, _chart: Any = chart, _name: str = name, **more: Any) -> Any:
                        called.append(_name)
                        return _chart(*args, **more)

                    monkeypatch.setattr(module, name, spy)
        write(summarize(sweep), sweep)
        picture = sweep / "summary.png"
        assert picture.exists() is bool(called)
        if called:
            with PIL.Image.open(picture) as opened:
                assert opened.width > 300
        return " ".join(called)

    @pytest.mark.parametrize(
        ("jobs", "chart"),
        [
            ([{"seed": i} for i in range(4)], "distribution"),
            ([{"seed": i} for i in (7, 3, 5)], "whiskers"),
            ([{"seed": i} for i in range(80)], "distribution"),
            ([{LR: i / 10, "seed": s} for i in range(5) for s in range(3)], "band"),
            ([{LR: 10.0**-i} for i in range(5)], "band"),
            ([{"stack": name, "seed": s} for name in "abc" for s in range(3)], "whiskers"),
            ([{"stack": f"net{i}"} for i in range(50)], "whiskers"),
            ([{"a": a, "b": b} for a in range(3) for b in range(20)], "heat_map"),
            ([{"a": a, "stack": b} for a in range(3) for b in "xyz"], "heat_map"),
            ([{"a": a * 1.1, "b": 7 * a % 30} for a in range(30)], "cloud"),
            ([{"a": a * 1.1, "stack": "xyz"[a % 3]} for a in range(30)], "panels"),
            ([{"a": a % 2, "b": a % 3, "stack": "$x$y"[: a % 4]} for a in range(12)], "panels"),
            ([{LR: 0.1}], ""),
        ],
    )
    def test_a_chart_that_suits_what_varied(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        jobs: list[dict[str, Any]],
        chart: str,
    ) -> None:
        manifest(tmp_path, jobs, SMALL)
        for i, values in enumerate(jobs):
            job(tmp_path, i, values, {"kernel_error": float(i % 7 + 1)})
        assert self.drawn(tmp_path, monkeypatch) == chart

    @pytest.mark.parametrize("kind", ["one", "two", "choices", "three", "scattered"])
    def test_with_failures_and_infinities(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        manifest(tmp_path, [], SMALL)
        for i in range(40):
            values: dict[str, Any] = {
                "one": {LR: i // 4},
                "two": {LR: i // 10, "b": i % 10 // 2},
                "choices": {"stack": "abcde"[i // 8]},
                "three": {LR: i // 10, "b": i % 5, "stack": "ab"[i % 2]},
                "scattered": {LR: 1.1**i, "b": 7 * i % 40},
            }[kind]
            values |= {"seed": i}
            wrong = "nan" if i % 9 == 0 else 1e7 if i % 5 == 0 else 0.01 * i + 0.01
            failed = {"state": "FAILED", "reason": "x"} if i % 7 == 3 or i < 4 else {}
            job(tmp_path, i, values, {"kernel_error": wrong}, **failed)
        assert self.drawn(tmp_path, monkeypatch)

    @pytest.mark.parametrize("off", [0.0, 1e-8])
    @pytest.mark.parametrize("name", ["seed", LR])
    def test_equal_numbers_no_picture(self, tmp_path: Path, name: str, off: float) -> None:
        grid(tmp_path, name, {i: [0.088 + off * i] for i in range(8)})
        write(summarize(tmp_path), tmp_path)
        assert not (tmp_path / "summary.png").exists()

    @pytest.mark.parametrize("wrong", ["skipped", "not started"])
    def test_what_has_no_number_takes_no_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
    ) -> None:
        from runner.tracking import comparisons

        values = [{LR: 0.03}, {LR: 0.01}, {LR: "abc"}, {LR: 1e9}]
        bad = [
            {"number": 2 + i, "overrides": [f"{LR}={v[LR]}"], "problems": ["no"]}
            for i, v in enumerate(values[2:])
        ]
        skip = wrong == "skipped"
        manifest(tmp_path, values[: 2 if skip else 4], SMALL, bad if skip else [])
        for i in range(2):
            job(tmp_path, i, values[i], {"kernel_error": i + 1.0})
        found = []
        monkeypatch.setattr(comparisons, "band", lambda *given, **_: found.append(given))
        draw(summarize(tmp_path))
        ((points, scale, _),) = found
        assert [point.x for point in points] == [0.01, 0.03] == list(scale.ticks)

    def test_no_numbers_no_picture(self, tmp_path: Path) -> None:
        for i in range(3):
            job(tmp_path, i, {LR: i}, {"answer": "yes"})
        write(summarize(tmp_path), tmp_path)
        assert not (tmp_path / "summary.png").exists()


def test_two_thousand_jobs(tmp_path: Path) -> None:
    more = {f"stack.layers.layer{i}.channels": i for i in range(60)}
    seconds = []
    for count in (200, 2000):
        folder = tmp_path / str(count)
        folder.mkdir()
        for i in range(count):
            values = {LR: i % 20 / 100, "seed": i // 20}
            metrics = {"loss": i / 7, "kernel_error": i / 3}
            job(folder, i, values, metrics, parameters={**values, **more})
        begun = time.process_time()
        found = summarize(folder)
        screen(found)
        markdown(found, picture=False)
        seconds.append(time.process_time() - begun)
        assert found.tally == f"{count} completed"
        assert len(found.settings) == 20
    # Ten times as many jobs; to compare each with each takes a hundred times as long.
    assert seconds[1] < 40 * seconds[0]


@pytest.mark.parametrize("readable", [True, False])
def test_command_line(cli: Callable[..., Finished], workplace: Path, readable: bool) -> None:
    grid(workplace / "sweep", LR, {0.01: [1, 2, 3], 0.02: [0.5, 0.5, 2]})
    if not readable:
        done = cli("--summary", "nowhere")
        assert done.rc == 2
        assert done.stderr.splitlines()[1] == (
            "  --summary: expected a directory with runs, got 'nowhere', which does not exist."
        )
        return
    done = cli("--summary", "sweep")
    assert (done.rc, done.stderr) == (0, "")
    assert "0.02  3     1 ± 0.87      2 ± 0  best" in done.stdout
    assert done.stdout.endswith("\nsweep/summary.md\n")
    assert all((workplace / "sweep" / f"summary.{end}").exists() for end in ("csv", "md", "png"))


def test_command_line_takes_another_objective_and_nothing_else(
    cli: Callable[..., Finished], workplace: Path
) -> None:
    grid(workplace / "sweep", LR, {0.01: [1, 2, 3], 0.02: [0.5, 0.5, 2]})
    done = cli("--summary", "sweep", "sweep.objective={metric: kernel_error, goal: max}")
    assert (done.rc, done.stderr) == (0, "")
    assert "Best (largest kernel_error): " in done.stdout
    for words, message in {
        ("--summary", "sweep", "sweep.objective={metric: kernel_error}"): (
            "sweep.objective.goal: expected one of min, max, got nothing."
        ),
        ("--summary", "sweep", "-m", "seed=3"): (
            "--summary: expected nothing but a directory, got --multirun, seed=3. "
        ),
        ("--summary", "sweep/0"): (
            "--summary: expected a sweep's directory, got 'sweep/0', which is a single run's. "
        ),
        ("--report", "sweep", "sweep.objective={metric: kernel_error, goal: max}"): (
            "--report: expected nothing but a directory, got sweep.objective="
        ),
    }.items():
        done = cli(*words)
        assert (done.rc, done.stdout) == (2, "")
        assert message in done.stderr


def test_torch_is_never_imported_and_matplotlib_for_the_picture_alone(tmp_path: Path) -> None:
    grid(tmp_path, LR, {0.01: [1], 0.02: [2]})
    code = (
        "import sys; from pathlib import Path; from runner.sweep.summary import summarize, write;"
        "found = summarize(Path(sys.argv[1])); print('matplotlib' in sys.modules);"
        "write(found, Path(sys.argv[1]));"
        "print('matplotlib' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["False", "True", "False"], done.stderr


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    found = summarize(grid(tmp_path, LR, {0.01: [1], 0.02: [2]}))
    (tmp_path / "summary.csv").mkdir()
    with pytest.raises(ConfigError, match="summary: expected a directory that can be written"):
        write(found, tmp_path)
