"""Who runs the jobs: what befalls one job's directory is no matter to the others."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty
from shell import COMMAND

from runner.config.errors import SweepFailed
from runner.config.loader import Loader
from runner.sweep.conductor import Conductor
from runner.sweep.sweep import Swept, sweep
from runner.tracking.directory import state

Meanwhile = Callable[[Callable[[Path], None]], None]


@pytest.fixture
def run(here: Faulty) -> Callable[..., Swept]:
    """A sweep of the task in `out`."""

    def call(*words: str) -> Swept:
        return sweep(["task=faulty", "hydra.sweep.dir=out", *words], config_dir=here.configs)

    return call


@pytest.fixture
def meanwhile(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Meanwhile:
    """Has something done in `out` after everything was checked, and before the first job."""
    whole = Conductor.run_all

    def replace(do: Callable[[Path], None]) -> None:
        def more(conductor: Conductor, callbacks: Any) -> None:
            do(workplace / "out")
            whole(conductor, callbacks)

        monkeypatch.setattr(Conductor, "run_all", more)

    return replace


def another_jobs(out: Path) -> None:
    (out / "1").mkdir()
    (out / "1" / "status.json").write_text('{"state": "FAILED", "key": "another", "job": 7}')


@pytest.mark.parametrize(
    ("do", "reason"),
    [
        (lambda out: (out / "1").write_text("a file"), "got '1', where a file is"),
        (lambda out: (out / "1").symlink_to(out.parent), "got '1', which is elsewhere"),
        (another_jobs, "got '1', which is job #7's"),
    ],
)
def test_a_job_whose_directory_is_taken_fails_alone(
    do: Callable[[Path], None], reason: str, run: Callable[..., Swept], here: Faulty,
    meanwhile: Meanwhile, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    meanwhile(do)
    with pytest.raises(SweepFailed, match="1 of 3 jobs are not complete") as caught:
        run("seed=0,1,2")
    assert "#1 hydra.sweep.subdir: expected a directory " in str(caught.value)
    assert reason in str(caught.value)
    assert here.noted("end") == {0: 1, 2: 1}
    assert reason in capsys.readouterr().out


def test_it_is_a_failure_at_which_a_sweep_stops(
    run: Callable[..., Swept], here: Faulty, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda out: (out / "1").write_text("a file"))
    with pytest.raises(SweepFailed, match="2 not started"):
        run("seed=0,1,2", "sweep.on_error=stop")
    assert here.noted("begin") == {0: 1}


def test_a_directory_that_leads_elsewhere_is_left_alone(
    run: Callable[..., Swept], here: Faulty, workplace: Path
) -> None:
    run("seed=0,1")
    victim = workplace / "victim"
    victim.mkdir()
    for file in (workplace / "out" / "1").rglob("*"):
        if file.is_file():
            file.unlink()
    (workplace / "out" / "1").rename(workplace / "moved")
    (workplace / "out" / "1").symlink_to(victim)
    with pytest.raises(SweepFailed, match="'1', which is elsewhere"):
        run("seed=0,1,2")
    assert list(victim.iterdir()) == []
    assert here.noted("end") == {0: 1, 1: 1, 2: 1}


@pytest.mark.usefixtures("few_together")
def test_it_fails_alone_among_those_that_are_learned_together(
    workplace: Path, meanwhile: Meanwhile
) -> None:
    meanwhile(lambda out: (out / "1").write_text("a file"))
    words = ["task=learn_kernel", "seed=0,1,2,3", "tensorboard=false", "hydra.sweep.dir=out"]
    with pytest.raises(SweepFailed, match="1 of 4 jobs are not complete"):
        sweep(words)
    for name in ("0", "2", "3"):
        status = json.loads((workplace / "out" / name / "status.json").read_text())
        assert (status["state"], status["together"]) == ("COMPLETED", 3)


@pytest.mark.parametrize("launcher", ["runner", "basic"])
def test_a_sweep_told_to_stop_starts_no_more_jobs(
    launcher: str, run: Callable[..., Swept], here: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", "raise@1")
    with pytest.raises(SweepFailed, match="3 of 4 jobs are not complete: 1 failed, 2 not started"):
        run("seed=0,1,2,3", "sweep.on_error=stop", f"hydra/launcher={launcher}")
    assert here.noted("begin") == {0: 1, 1: 1}


def test_equal_jobs_are_each_run_by_hydras_sweeper(run: Callable[..., Swept], here: Faulty) -> None:
    swept = run("seed=5,6,5", "hydra/sweeper=basic")
    assert [one.state for one in swept.records] == ["completed"] * 3
    assert here.noted("end") == {5: 2, 6: 1}


def test_when_nobody_reads_any_more_nothing_is_learned_twice(workplace: Path) -> None:
    """As with ``| head -1``: the group's end can't be told, which isn't the group's fault."""
    reader, writer = os.pipe()
    os.close(reader)
    words = ["task=learn_kernel", "seed=range(0,40)", "tensorboard=false", "hydra.sweep.dir=out"]
    done = subprocess.run(
        [*COMMAND, "-m", *words], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=100
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
    folders = [workplace / "out" / str(i) for i in range(40)]
    assert {state(folder) for folder in folders} == {"COMPLETED"}
    found = [json.loads((folder / "status.json").read_text()) for folder in folders]
    assert {status["resumed"] for status in found} == {0}
    assert len((workplace / "out" / "summary.csv").read_text().splitlines()) == 41


def test_every_job_is_composed_once(
    run: Callable[..., Swept], monkeypatch: pytest.MonkeyPatch
) -> None:
    composed: list[str] = []
    parts = Loader._parts

    def counted(loader: Loader, name: str, overrides: list[str], *more: Any) -> Any:
        composed.extend(word for word in overrides if re.fullmatch(r"seed=\d+", word))
        return parts(loader, name, overrides, *more)

    monkeypatch.setattr(Loader, "_parts", counted)
    run("seed=range(0,12)")
    # The first job also tells which sweeper there is, and where the sweep's directory is.
    assert Counter(composed) == {"seed=0": 3, **{f"seed={n}": 1 for n in range(1, 12)}}
