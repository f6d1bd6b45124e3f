"""Sweeps as a whole: what is run, what isn't run again, what is refused, and what is said."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty
from shell import Finished

import runner
from runner.config.errors import ConfigError, SweepFailed
from runner.sweep.sweep import Swept, sweep
from runner.terminal import Terminal


def load(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
def run(here: Faulty) -> Callable[..., Swept]:
    """A sweep of the task in `out`."""

    def call(*words: str) -> Swept:
        return sweep(["task=faulty", "hydra.sweep.dir=out", *words], config_dir=here.configs)

    return call


def refusal(call: Callable[..., Any], *words: Any, **named: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*words, **named)
    return str(caught.value)


class TestResume:
    def test_values_in_another_order_and_more_of_them(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path
    ) -> None:
        run("seed=0,1", "task.x=0.5")
        swept = run("task.x=0.5,1.5", "seed=1,2,0")
        assert sum(here.noted("begin").values()) == 6
        assert [one.number for one in swept.records] == [0, 1, 2, 3, 4, 5]
        # Seed 1 was job #1 and is job #0; its directory is the one it had.
        assert [one.directory for one in swept.records] == ["1", "1-1", "0", "3", "4", "5"]
        for one in swept.records:
            status = load(workplace / "out" / one.directory / "status.json")
            assert f"seed={one.metrics['value']}" in status["overrides"]
        manifest = load(workplace / "out" / "sweep.json")
        assert manifest["overrides"] == ["task=faulty", "task.x=0.5,1.5", "seed=1,2,0"]
        assert [job["number"] for job in manifest["jobs"]] == [0, 1, 2, 3, 4, 5]

    def test_the_directory_says_it_all(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("FAULT", "raise@1")
        with pytest.raises(SweepFailed):
            run("seed=0,1,2")
        started = load(workplace / "out" / "sweep.json")["started"]
        monkeypatch.delenv("FAULT")
        elsewhere = workplace / "elsewhere"
        elsewhere.mkdir()
        monkeypatch.chdir(elsewhere)
        swept = sweep([f"sweep.resume={workplace}/out"])
        assert swept.directory == workplace / "out"
        assert here.noted("begin") == {0: 1, 1: 2, 2: 1}
        assert load(workplace / "out" / "sweep.json")["started"] == started
        assert load(workplace / "out" / "1" / "status.json")["resumed"] == 1
        assert list(elsewhere.iterdir()) == []
        # With its overrides it is the same, and may have more of them.
        words = ["task=faulty", "seed=3,2,1,0", f"sweep.resume={workplace}/out"]
        assert len(sweep(words, config_dir=here.configs).records) == 4
        assert here.noted("begin") == {0: 1, 1: 2, 2: 1, 3: 1}

    def test_how_it_is_run_may_change(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        pytest.importorskip("joblib")
        monkeypatch.setenv("FAULT", "raise@1")
        with pytest.raises(SweepFailed):
            run("seed=0,1,2", "sweep.on_error=stop")
        monkeypatch.delenv("FAULT")
        joblib = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1"]
        with pytest.raises(ConfigError, match="n_jobs"):
            sweep(["sweep.resume=out", joblib[0], "hydra.launcher.n_jobs=0"])
        objective = "sweep.objective={metric: value, goal: max}"
        swept = sweep(["sweep.resume=out", "sweep.on_error=continue", objective])
        assert here.noted("end") == {0: 1, 1: 1, 2: 1}
        assert [one.state for one in swept.records] == ["completed"] * 3
        manifest = load(workplace / "out" / "sweep.json")
        told = ["task=faulty", "seed=0,1,2", "sweep.on_error=continue", objective]
        assert manifest["overrides"] == told
        assert manifest["objective"] == {"metric": "value", "goal": "max", "otherwise": None}
        sweep(["sweep.resume=out", *joblib])
        sweep(["sweep.resume=out", "hydra/launcher=runner"])
        told.append("hydra/launcher=runner")
        assert load(workplace / "out" / "sweep.json")["overrides"] == told

    def test_another_sweeps_directory(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path
    ) -> None:
        run("seed=0,1")
        before = {p: p.read_bytes() for p in workplace.glob("out/**/*") if p.is_file()}
        message = refusal(run, "seed=1,2")
        assert "hydra.sweep.dir: expected this sweep's directory, got " in message
        assert "1 of its 2 jobs aren't asked for now (#0: task=faulty seed=0)." in message
        assert "Values may be added or reordered, not left out." in message
        words = ["task=faulty", "seed=1,2", "sweep.resume=out"]
        message = refusal(sweep, words, config_dir=here.configs)
        assert message.startswith("sweep.resume: expected this sweep's directory, got ")
        assert message.endswith("Without other words, it runs what is missing.")
        task = here.configs / "task" / "faulty.yaml"
        task.write_text(task.read_text() + "x: 0.25\n")
        for message in (refusal(run, "seed=0,1"), refusal(sweep, ["sweep.resume=out"])):
            assert "The YAML of 2 of its 2 jobs has changed (#0: task=faulty seed=0)." in message
            assert "left out" not in message and "other words" not in message
        assert {p: p.read_bytes() for p in before} == before

    def test_an_order_of_layers_is_another_job(self, workplace: Path) -> None:
        """Two stacks of the same layers, one after the other and the other way round."""
        folder = workplace / "mine" / "stack"
        folder.mkdir(parents=True)
        conv, pool = "a: {kind: conv, channels: 2, kernel: 3}", "b: {kind: pool, kernel: 2}"
        (folder / "ab.yaml").write_text(f"layers:\n  {conv}\n  {pool}\n")
        (folder / "ba.yaml").write_text(f"layers:\n  {pool}\n  {conv}\n")
        for order in ("ab,ba", "ba,ab"):
            words = ["task=plan", f"stack={order}", "hydra.sweep.dir=out"]
            swept = sweep(words, config_dir=folder.parent)
            assert len(swept.records) == 2
            for job in load(workplace / "out" / "sweep.json")["jobs"]:
                plan = load(workplace / "out" / job["directory"] / "plan.json")
                names = "".join(layer["name"] for layer in plan["layers"])
                assert f"stack={names}" in job["overrides"]
        assert load(workplace / "out" / "0" / "status.json").get("resumed") == 0

    def test_a_damaged_record_of_the_sweep(
        self, run: Callable[..., Swept], workplace: Path
    ) -> None:
        run("seed=0")
        (workplace / "out" / "sweep.json").write_text('{"jobs": [')
        for message in (refusal(run, "seed=0"), refusal(sweep, ["sweep.resume=out"])):
            assert "out/sweep.json: expected what a sweep recorded, got an error (" in message

    def test_what_is_no_sweep(self, workplace: Path) -> None:
        directory = runner.run("task=plan").directory
        for word in ("nowhere", str(directory), str(directory / "status.json")):
            message = refusal(sweep, [f"sweep.resume={word}"])
            assert message == (
                f"sweep.resume: expected a sweep's directory, got '{word}', which is none."
            )
            assert message == refusal(sweep, ["task=plan", f"sweep.resume={word}"])
        assert not (workplace / "nowhere").exists()
        message = refusal(runner.run, "task=plan", "sweep.resume=out")
        assert "sweep.resume: expected --multirun beside it, got a single run. " in message

    def test_names_that_a_shell_or_hydra_would_take_apart(
        self, here: Faulty, workplace: Path
    ) -> None:
        name = "it's, an=(odd) [name]"
        quoted = name.replace("'", "\\'")
        words = ["task=faulty", "seed=0,1", f"hydra.sweep.dir='{quoted}'"]
        swept = sweep(words, config_dir=here.configs)
        assert swept.directory == workplace / name
        assert len(sweep([f"sweep.resume={swept.directory}"]).records) == 2
        import shlex

        command = shlex.split(load(swept.directory / "sweep.json")["command"])
        again = [w for w in command[3:] if w not in ("-m", "--config-dir", str(here.configs))]
        assert len(sweep(again, config_dir=here.configs).records) == 2
        assert here.noted("begin") == {0: 1, 1: 1}


class TestPlaces:
    def test_the_names_of_its_own_files_are_refused(
        self, run: Callable[..., Swept], workplace: Path
    ) -> None:
        assert refusal(run, "seed=0,1", "hydra.sweep.subdir=sweep.json").endswith(
            "hydra.sweep.subdir: expected a directory within the sweep's, named like none of its "
            "files, got 'sweep.json'."
        )
        assert not (workplace / "out").exists()

    def test_a_file_in_a_jobs_place_costs_nothing(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path
    ) -> None:
        run("seed=0")
        (workplace / "out" / "1").write_text("mine")
        swept = run("seed=0,1")
        assert [one.directory for one in swept.records] == ["0", "1-1"]
        assert (workplace / "out" / "1").read_text() == "mine"
        assert here.noted("end") == {0: 1, 1: 1}


def test_a_record_does_not_run_code(
    run: Callable[..., Swept], here: Faulty, workplace: Path
) -> None:
    run("seed=0,1")
    evil = "+hydra.callbacks.x={_target_: os.mkdir, path: PWNED}"
    content = load(workplace / "out" / "sweep.json")
    words = [*content["overrides"], evil]
    (workplace / "out" / "sweep.json").write_text(json.dumps(content | {"overrides": words}))
    (workplace / "out" / "1" / "status.json").unlink()
    message = refusal(sweep, ["sweep.resume=out"])
    assert "out/sweep.json: expected overrides that can't run code, got '+hydra.callb" in message
    assert message.endswith("If you trust it, run its own command again, with hydra.sweep.dir=out.")
    assert here.noted("begin") == {0: 1, 1: 1}
    assert not (workplace / "PWNED").exists()
    # A config folder of its own is refused as well.
    told = content | {"config_dir": str(workplace / "out" / "mine")}
    (workplace / "out" / "sweep.json").write_text(json.dumps(told))
    assert "an absolute config folder that isn't in the" in refusal(sweep, ["sweep.resume=out"])
    # Whoever types it means it.
    words[-1] = "+hydra.callbacks.x={_target_: hydra.experimental.callback.Callback}"
    (workplace / "out" / "sweep.json").write_text(json.dumps(content | {"overrides": words}))
    sweep([*words, "sweep.resume=out"], config_dir=here.configs)
    assert here.noted("begin") == {0: 1, 1: 2}


class TestOneJob:
    def test_it_is_resumed_by_itself(
        self, run: Callable[..., Swept], here: Faulty, workplace: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setenv("FAULT", "raise@1")
        with pytest.raises(SweepFailed):
            run("seed=0,1,2")
        monkeypatch.delenv("FAULT")
        folder = workplace / "out" / "1"
        before = load(folder / "status.json")
        runner.run(resume=folder)
        after = load(folder / "status.json")
        assert (after["state"], after["resumed"]) == ("COMPLETED", 1)
        assert [after[k] for k in ("job", "key")] == [before[k] for k in ("job", "key")]
        assert before["key"]
        swept = run("seed=0,1,2")
        assert [one.state for one in swept.records] == ["completed"] * 3
        assert here.noted("begin") == {0: 1, 1: 2, 2: 1}

    def test_a_sweep_is_resumed_by_the_same_flag(
        self, cli: Callable[..., Finished], workplace: Path
    ) -> None:
        sweep(["task=plan", "seed=0,1", "hydra.sweep.dir=out"])
        (workplace / "out" / "1" / "status.json").unlink()
        done = cli("--resume", "out")
        assert done.rc == 0, done.stderr
        assert "1 of 2 jobs" in done.stdout
        assert load(workplace / "out" / "1" / "status.json")["state"] == "COMPLETED"
        done = cli("--resume", "out", "seed=5")
        assert done.rc == 2
        assert "--resume: expected no overrides besides, got seed=5." in done.stderr


def test_exit_codes(cli: Callable[..., Finished], workplace: Path) -> None:
    plan = ["-m", "task=plan", "stack=lenet"]
    assert cli(*plan, "seed=0,1", "expect.parameters=61707").rc == 3
    done = cli(*plan, "seed=0,x")
    assert (done.rc, done.stdout) == (2, "")
    assert "job #1: seed: expected an integer, got 'x' (text)." in done.stderr


def test_a_classifier_goes_on_from_its_checkpoint(
    workplace: Path, faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of the second job; what comes out is what comes out undisturbed."""
    words = [
        "-m", "task=classify", "data.images=200", "task.epochs=6", "tensorboard=false",
        "task.log_every=5", "threads=1", "seed=1,2", "sweep.vectorize=false",
    ]  # fmt: skip
    process = faulty.start(*words, "hydra.sweep.dir=killed")
    steps = workplace / "killed" / "1" / "metrics.jsonl"
    deadline = time.monotonic() + 100
    while not (steps.exists() and '"epoch": 3' in steps.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = (workplace / "killed" / "0" / "status.json").read_bytes()
    said: list[str] = []
    monkeypatch.setattr(Terminal, "line", lambda _, text="", *_others, **_named: said.append(text))
    sweep(["sweep.resume=killed"])
    assert any(text.startswith("Resumed after epoch ") for text in said)
    sweep([*words[1:], "hydra.sweep.dir=whole"])
    assert (workplace / "killed" / "0" / "status.json").read_bytes() == before
    assert load(workplace / "killed" / "1" / "status.json")["resumed"] == 1
    for number in ("0", "1"):
        one, other = (workplace / name / number for name in ("killed", "whole"))
        assert load(one / "metrics.json") == load(other / "metrics.json")
        assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()


@pytest.mark.parametrize("launcher", ["runner", "basic"])
def test_a_value_may_suit_what_the_jobs_choose_alone(launcher: str, workplace: Path) -> None:
    """The data of the sweep's own config, `bar`, has no `resize`."""
    words = ["task=plan", "data=digits,photo", "data.resize=32", f"hydra/launcher={launcher}"]
    swept = sweep([*words, "stack=pool", "hydra.sweep.dir=out"])
    assert [one.state for one in swept.records] == ["completed"] * 2
    for job in "01":
        config = (workplace / "out" / job / ".hydra" / "config.yaml").read_text()
        assert "  resize: 32\n" in config


def test_experiments_that_were_skipped_are_told(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["experiment=6_2/corr2d", "device=cpu,cuda:99", "sweep.on_invalid=skip"]
    swept = sweep([*words, "hydra.sweep.dir=out"])
    assert [one.state for one in swept.records] == ["completed", "skipped"]
    said = capsys.readouterr().out
    assert "skipped  #1" in said


@pytest.mark.parametrize("begun", [True, False])
def test_why_a_directory_is_refused_is_told(begun: bool, workplace: Path) -> None:
    words = ["task=plan", "stack=pool", "seed=0,1", "hydra.sweep.dir=out"]
    sweep(words)
    status = workplace / "out" / "1" / "status.json"
    if begun:
        status.write_text(status.read_text().replace("COMPLETED", "FAILED"))
    else:
        status.unlink()
    link = workplace / "out" / "1" / "elsewhere"
    link.symlink_to(workplace)
    with pytest.raises(SweepFailed, match=f"#1 {link}: expected nothing but files and folders"):
        sweep(words)
    link.unlink()
    assert [one.state for one in sweep(words).records] == ["completed"] * 2


def test_relative_paths_start_where_they_were_typed(workplace: Path) -> None:
    from PIL import Image

    Image.new("L", (4, 4), 255).save(workplace / "pixel.png")
    words = ["task=forward", "stack=kernel", "data=image", "data.path=pixel.png"]
    swept = sweep([*words, "hydra.job.chdir=true", "seed=0,1", "hydra.sweep.dir=out"])
    assert [one.state for one in swept.records] == ["completed"] * 2
