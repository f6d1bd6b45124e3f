"""One job of a sweep: what an earlier try left is taken up, and every end is recorded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty

from runner.config.errors import ConfigError, SweepFailed
from runner.sweep.sweep import Swept, sweep
from runner.sweep.worker import begun
from runner.tracking.directory import RunDirectory

FACTS = {
    "key": "k", "job": 3, "overrides": [], "config_name": "config", "seconds": 7.5,
    "started": "2026-01-01T00:00:00+00:00", "resumed": 2,
}  # fmt: skip


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def record(folder: Path, **facts: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "status.json").write_text(json.dumps({**FACTS, **facts}))
    (folder / "metrics.jsonl").touch()
    return folder


class TestBegun:
    def test_nothing(self, tmp_path: Path) -> None:
        assert begun(tmp_path / "absent", "k") is None
        assert begun(tmp_path, "k") is None  # killed before it began

    @pytest.mark.parametrize("state", ["FAILED", "INTERRUPTED", "RUNNING"])
    def test_an_earlier_try(self, state: str, tmp_path: Path) -> None:
        found = begun(record(tmp_path, state=state), "k")
        assert found is not None
        assert (found.resumed, found.started) == (2, FACTS["started"])
        assert 7.5 <= found.seconds < 8.5

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"state": "FAILED"}', "\x00"])
    def test_a_damaged_record_is_taken_up_as_well(self, text: str, tmp_path: Path) -> None:
        (record(tmp_path, state="FAILED") / "status.json").write_text(text)
        found = begun(tmp_path, "k")
        assert found is not None
        assert (found.resumed, found.seconds) == (0, 0)
        (tmp_path / "status.json").unlink()
        assert begun(tmp_path, "k") is not None  # what it logged isn't logged twice

    def test_another_jobs(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError) as caught:
            begun(record(tmp_path / "same", state="COMPLETED"), "other")
        assert str(caught.value) == (
            "hydra.sweep.subdir: expected a directory for each job, got 'same', which is job #3's."
        )


@pytest.fixture
def run(here: Faulty) -> Callable[..., Swept]:
    """A sweep in `out`."""

    def call(*words: str) -> Swept:
        return sweep(["task=faulty", "hydra.sweep.dir=out", *words], config_dir=here.configs)

    return call


BREAKS = '''
"""Data that can't be loaded in one way or another, once its shape is known."""

import sys

from runner.data import Data, Images
from runner.geometry import Shape


class Breaking(Data):
    """A task that computes asks for it before there is a record of the job."""

    how: str

    def shape(self):
        return Shape(1, 6, 8)

    def load(self):
        if self.how == "raise":
            raise ValueError("no picture")
        sys.exit(9)
'''


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [("raise", "FAILED", "ValueError: no picture"), ("exit", "INTERRUPTED", "exit with code 9")],
)
def test_a_job_that_ends_before_it_begins(
    how: str, state: str, reason: str, entry: Callable[..., None], workplace: Path
) -> None:
    entry("runner.data", "breaking", BREAKS)
    (workplace / "mine" / "data").mkdir(parents=True)
    (workplace / "mine" / "data" / "breaking.yaml").write_text("kind: breaking\n")
    words = ["task=edge", "data=breaking", f"data.how={how}", "seed=0,1", "hydra.sweep.dir=out"]
    with pytest.raises(SweepFailed, match=f"2 {state.lower()}"):
        sweep(words, config_dir="mine")
    for number in (0, 1):
        folder = workplace / "out" / str(number)
        status = load(folder / "status.json")
        assert (status["state"], status["reason"]) == (state, reason)
        assert (status["job"], status["parameters"]["seed"]) == (number, number)
        assert (status["task"], status["resumed"]) == ("edge", 0)
        assert status["key"]
        log = (folder / "run.log").read_text()
        assert "Traceback" in log
        assert "breaking.py" in log
    # Tried again, it is the same run: when it began and what it took are kept.
    folder = workplace / "out" / "0"
    before = load(folder / "status.json") | {"started": FACTS["started"], "seconds": 100.0}
    (folder / "status.json").write_text(json.dumps(before))
    with pytest.raises(SweepFailed):
        sweep(words, config_dir="mine")
    after = load(folder / "status.json")
    assert (after["started"], after["resumed"]) == (FACTS["started"], 1)
    assert 100 <= after["seconds"] < 120


class TestAgain:
    def test_what_is_damaged_is_done_again(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path
    ) -> None:
        run("seed=range(0,6)")
        out = workplace / "out"
        (out / "0" / "status.json").write_text("{")
        (out / "1" / "status.json").unlink()
        (out / "2" / "metrics.json").unlink()
        (out / "3" / "metrics.json").write_text('{"value": 3')
        (out / "4" / "status.json").write_text('{"state": "COMPLETED"}')
        swept = run("seed=range(0,6)")
        assert [one.state for one in swept.records] == ["completed"] * 6
        assert here.noted("end") == {0: 2, 1: 2, 2: 2, 3: 2, 4: 2, 5: 1}
        for number in range(6):
            steps = (out / str(number) / "metrics.jsonl").read_text().splitlines()
            assert len(steps) == 1  # the final metrics, once
            assert load(out / str(number) / "metrics.json")["value"] == number

    def test_a_job_that_goes_on_elsewhere_is_left_alone(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path
    ) -> None:
        run("seed=0,1")
        folder = workplace / "out" / "1"
        status = load(folder / "status.json")
        home = RunDirectory(folder, {**status, "state": "RUNNING"})
        home.mark("RUNNING")
        before = (folder / "status.json").read_text()
        with pytest.raises(SweepFailed, match="1 running"):
            run("seed=0,1")
        assert (folder / "status.json").read_text() == before
        assert here.noted("begin") == {0: 1, 1: 1}
        home.release()
        run("seed=0,1")
        assert here.noted("begin") == {0: 1, 1: 2}

    def test_jobs_of_one_config_have_directories_of_their_own(
        self, run: Callable[..., Swept], here: Faulty
    ) -> None:
        swept = run("seed=5,5,5", "hydra.sweep.subdir=same")
        assert [one.directory for one in swept.records] == ["same", "same-1", "same-2"]
        assert here.noted("end") == {5: 3}
        run("seed=5,5,5", "hydra.sweep.subdir=same")
        assert here.noted("begin") == {5: 3}

    def test_a_link_in_a_jobs_place_is_not_followed_by_hydras_own(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path
    ) -> None:
        run("seed=0")
        victim = workplace / "victim"
        victim.mkdir()
        (victim / "metrics.json").write_text("dear")
        out = workplace / "out"
        (out / "0").rename(workplace / "moved")
        (out / "0").symlink_to(victim)
        with pytest.raises(SweepFailed, match="1 of 1 jobs are not complete"):
            run("seed=0", "hydra/launcher=basic")
        assert (victim / "metrics.json").read_text() == "dear"
        assert not (victim / "status.json").exists()
        assert here.noted("begin") == {0: 1}

    @pytest.mark.parametrize("word", ["hydra/launcher=basic", "hydra/sweeper=basic"])
    def test_hydras_own_do_no_job_twice(
        self, word: str, run: Callable[..., Swept], here: Faulty
    ) -> None:
        run("seed=0,1,2", word)
        swept = run("seed=2,3,0,1", word)
        assert [one.state for one in swept.records] == ["completed"] * 4
        assert here.noted("begin") == {0: 1, 1: 1, 2: 1, 3: 1}
        assert [one.metrics["value"] for one in swept.records] == [2, 3, 0, 1]


def test_images_that_changed_since_the_last_sweep_are_read_again(workplace: Path) -> None:
    """Of one white pixel the sum is 1, of one black pixel 0, and a kernel of ones adds up."""
    from PIL import Image

    found = []
    for place, shade in (("white", 255), ("black", 0)):
        Image.new("L", (1, 1), shade).save(workplace / "pixel.png")
        words = ["task=forward", "stack=kernel", "data=image", "data.path=pixel.png", "seed=0,1"]
        kernel = ["stack.layers.conv.weight=[[1]]"]
        swept = sweep([*words, *kernel, f"hydra.sweep.dir={place}"])
        found.append([one.metrics for one in swept.records])
    assert found[0] != found[1]
