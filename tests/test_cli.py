"""The command line as it is met: real processes, their exit codes, and what they leave behind."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest
import yaml
from shell import COMMAND, Finished

from runner.tracking.directory import state

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def single(folder: Path) -> Path:
    (only,) = folder.iterdir()
    return only


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def test_done(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("task=edge", "seed=7")
    assert done.rc == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout  # piped: no colours, no bars
    assert "\r" not in done.stdout
    directory = single(workplace / "outputs" / "edge")
    relative = directory.relative_to(workplace)
    assert f"results      {relative}" in done.stdout
    assert f"tensorboard --host 127.0.0.1 --logdir {relative}" in done.stdout
    assert re.search(r"0 +1 +0 +0 +0 +-1 +0\n", done.stdout)

    present = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    (events,) = [name for name in present if name.startswith("events.out.tfevents.")]
    assert present - {events} >= {
        ".hydra", ".hydra/config.yaml", ".hydra/hydra.yaml", ".hydra/overrides.yaml",
        "images", "images/input.png", "images/edge_maps.png", "images/edge_overview.png",
        "metrics.json", "metrics.jsonl", "outputs.npz", "plan.json", "run.log", "status.json",
    }  # fmt: skip
    assert not [name for name in present if name.endswith(".tmp")]

    status = load(directory / "status.json")
    assert status["state"] == "COMPLETED"
    assert status["reason"] is None
    assert status["command"] == "python -m runner task=edge seed=7"
    assert status["task"] == "edge"
    assert status["device"]
    assert status["threads"] >= 1
    assert status["seconds"] > 0
    assert set(status["versions"]) == {"runner", "python", "torch", "numpy", "numba"}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", status["started"])
    metrics = load(directory / "metrics.json")
    assert (metrics["f1"], metrics["detected"]) == (1, 12)
    assert load(directory / "plan.json")["layers"][0]["name"] == "conv"
    config = yaml.safe_load((directory / ".hydra" / "config.yaml").read_text())
    assert config["seed"] == 7
    assert yaml.safe_load((directory / ".hydra" / "overrides.yaml").read_text()) == [
        "task=edge",
        "seed=7",
    ]


def test_bad_config(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("stack=lenett", "seed=x", "task.treshold=1", HYDRA_FULL_ERROR="1")
    assert done.rc == 2
    assert done.stdout == ""
    first, *lines = done.stderr.splitlines()
    assert first == "3 problems in the config:"
    assert len(lines) == 3
    for line in lines:
        assert re.fullmatch(r"  [\w.]+: expected .+, got .+\.( .+[.?])?", line)
    assert "  seed: expected an integer, got 'x' (text)." in lines
    assert [line for line in lines if line.endswith("Did you mean 'lenet'?")]
    assert [line for line in lines if line.endswith("Did you mean 'threshold'?")]
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert list(workplace.iterdir()) == []  # nothing was run, nothing is left

    unwritable = cli("task=plan", "hydra.run.dir=/proc/nowhere/run")
    assert unwritable.rc == 2
    assert "hydra.run.dir: expected a directory that can be written" in unwritable.stderr
    assert "Traceback" not in unwritable.stderr

    # Found only when torch was asked; the directory isn't claimed before.
    absent = cli("task=edge", "device=cuda:99")
    assert absent.rc == 2
    assert "device: expected a device of this machine" in absent.stderr
    assert list(workplace.iterdir()) == []


def test_expectation_that_fails(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("task=plan", "expect={parameters: 61707, multiply_adds: 416520}")
    assert done.rc == 3
    assert "61706 is not 61707" in done.stdout
    assert "FAILS" in done.stdout
    assert "holds" in done.stdout
    directory = single(workplace / "outputs" / "plan")
    status = load(directory / "status.json")
    assert (status["state"], status["reason"]) == ("COMPLETED", "an expectation failed")
    outcomes = load(directory / "metrics.json")["expectations"]
    assert [outcome["holds"] for outcome in outcomes] == [False, True]


def test_failure(cli: Callable[..., Finished], workplace: Path) -> None:
    words = ["task=learn_kernel", "task.optimizer.lr=1e20"]
    done = cli(*words)
    assert done.rc == 1
    assert "Traceback" not in done.stdout + done.stderr
    directory = single(workplace / "outputs" / "learn_kernel")
    assert done.stderr.startswith("Diverged: the loss was ")
    assert str(directory) in done.stderr
    assert load(directory / "status.json")["state"] == "FAILED"
    assert "Traceback" in (directory / "run.log").read_text()
    full = cli(*words, HYDRA_FULL_ERROR="1")
    assert full.rc == 1
    assert "Traceback (most recent call last)" in full.stderr
    assert "raise Diverged(" in full.stderr


def test_interrupted_and_killed(workplace: Path) -> None:
    """Three runs at once; each is ended in its own way while it learns."""
    ends = {
        signal.SIGINT: (130, "INTERRUPTED", "Ctrl-C"),
        signal.SIGTERM: (143, "INTERRUPTED", "SIGTERM"),
        signal.SIGKILL: (-9, "DEAD", None),
    }
    words = ["task=learn_kernel", "task.steps=10000000", "task.log_every=500", "threads=1"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # A shell starts background jobs deaf to Ctrl-C, and the tests may be one.
    pipes["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    running = {
        name: subprocess.Popen(
            [*COMMAND, *words, f"hydra.run.dir={name.name}"], cwd=workplace, **pipes
        )
        for name in ends
    }
    try:
        for sent, process in running.items():
            directory = workplace / sent.name
            wait_for(lambda d=directory: lines(d / "metrics.jsonl") >= 3, process)
            assert state(directory) == "RUNNING"
            process.send_signal(sent)
            begun = time.monotonic()
            _, stderr = process.communicate(timeout=60)
            assert time.monotonic() - begun < 30  # a second, where nothing else runs
            rc, found, reason = ends[sent]
            assert process.returncode == rc, stderr
            assert state(directory) == found
            assert "Traceback" not in stderr
            if reason:
                assert load(directory / "status.json")["reason"] == reason
                assert f"The run's directory is {directory};" in stderr
            steps = [json.loads(x) for x in (directory / "metrics.jsonl").read_text().splitlines()]
            assert [step["step"] for step in steps[:3]] == [1, 500, 1000]
            assert not list(directory.glob(".*.tmp"))
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def in_terminal(words: list[str], workplace: Path, columns: int = 80) -> tuple[int, str]:
    """Run in a pseudo-terminal; what was shown, in the end, without colours."""
    mine, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [*COMMAND, *words], cwd=workplace, env=environment, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(mine, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(mine)
    return process.wait(), shown.decode()


def test_terminal_of_80_columns(workplace: Path) -> None:
    rc, shown = in_terminal(["task=plan"], workplace)
    assert rc == 0
    assert ESCAPE.search(shown)  # a person sees colours
    plain = [ESCAPE.sub("", line).rstrip() for line in re.split(r"[\r\n]+", shown)]
    assert max(map(len, plain)) <= 80
    table = "\n".join(plain)
    assert "…" not in table
    for cell in ("conv1", "6×28×28", "240,000", "16×16", "48,120", "61,706", "416,520"):
        assert cell in table

    # Deep names and large numbers: columns are left out before anything is cut off.
    rc, shown = in_terminal(
        ["task=plan", "stack=googlenet", "data.height=96", "data.width=96"], workplace
    )
    plain = [ESCAPE.sub("", line).rstrip() for line in re.split(r"[\r\n]+", shown)]
    assert rc == 0
    assert max(len(line) for line in plain if "outputs/" not in line) <= 80
    assert "…" not in "".join(plain)
    assert any(re.match(r" {8}act_before +activation +96×12×12 +27×27", line) for line in plain)

    words = ["experiment=6_2/learn_kernel", "task.steps=300", "expect={kernel_error: {max: 1e-9}}"]
    rc, shown = in_terminal(words, workplace)
    assert rc == 3
    plain = [ESCAPE.sub("", line).rstrip() for line in re.split(r"[\r\n]+", shown)]
    # Paths and commands stay whole, so that they can be copied; all else fits.
    assert max(len(line) for line in plain if "outputs/" not in line) <= 80
    assert any("FAILS" in line for line in plain)
    (command,) = [line for line in plain if line.startswith("TensorBoard")]
    assert re.fullmatch(r"TensorBoard  tensorboard --host 127.0.0.1 --logdir outputs/\S+", command)

    rc, shown = in_terminal(["stack=lenett"], workplace)
    assert rc == 2
    assert "Did you mean 'lenet'?" in ESCAPE.sub("", shown)


def test_runs_in_the_same_second_get_directories_of_their_own(workplace: Path) -> None:
    processes = [
        subprocess.Popen([*COMMAND, "task=plan"], cwd=workplace, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    shown = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    named = {re.search(r"results +(\S+)", text)[1] for text in shown}  # type: ignore[index]
    assert len(named) == 4
    assert {
        str(p.relative_to(workplace)) for p in (workplace / "outputs" / "plan").iterdir()
    } == named
    for name in named:
        assert load(workplace / name / "status.json")["state"] == "COMPLETED"


def test_sweep(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("-m", "task=plan", "data.height=28,32", "expect.parameters=61706")
    assert done.rc == 3, done.stderr
    directory = single(workplace / "outputs" / "sweeps" / "plan")
    assert {"0", "1"} <= {path.name for path in directory.iterdir()}
    for number, height in ((0, 28), (1, 32)):
        job = directory / str(number)
        status = load(job / "status.json")
        assert status["state"] == "COMPLETED"
        assert f"data.height={height}" in status["command"]
        assert load(job / "metrics.json")["input"] == [1, height, 28]
        assert state(job) == "COMPLETED"
        assert (job / ".hydra" / "config.yaml").is_file()
    # 32×28 flattens to 16·6·5 = 480: 80 · 120 = 9,600 parameters more.
    assert "71306 is not 61706" in done.stdout
    assert [o["holds"] for o in load(directory / "1" / "metrics.json")["expectations"]] == [False]
    assert [o["holds"] for o in load(directory / "0" / "metrics.json")["expectations"]] == [True]

    wrong = cli("-m", "task=plan", "stack=lenett,pair")
    assert wrong.rc == 2
    assert "Did you mean 'lenet'?" in wrong.stderr
    assert single(workplace / "outputs" / "sweeps" / "plan") == directory

    unreadable = cli("-m", "seed=[")
    assert unreadable.rc == 2
    assert "seed: expected a value that can be read, got '['" in unreadable.stderr


def test_failing_job_does_not_end_the_sweep(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("-m", "task=learn_kernel", "task.optimizer.lr=0.03,1e20,0.02", "seed=1")
    assert done.rc == 1
    assert "2/λmax = 0.03333" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    directory = single(workplace / "outputs" / "sweeps" / "learn_kernel")
    states = [state(directory / str(number)) for number in range(3)]
    assert states == ["COMPLETED", "FAILED", "COMPLETED"]
    assert "Diverged" in load(directory / "1" / "status.json")["reason"]
    assert "Traceback" in (directory / "1" / "run.log").read_text()


def test_help_shows_the_menu(cli: Callable[..., Finished]) -> None:
    done = cli("--help")
    assert done.rc == 0
    for group in (
        "task: benchmark, benchmark_stack, classify, ",
        "stack: ",
        "data: ",
        "experiment/6_2: ",
    ):
        assert group in done.stdout
    assert "python -m runner task=edge" in done.stdout
    told = " ".join(done.stdout.split())
    for flag in ("--summary DIR summarises", "an interrupted or killed run or sweep up again"):
        assert flag in told
    config = yaml.safe_load(cli("--cfg", "job", "stack=pair").stdout)
    assert list(config["stack"]["layers"]) == ["conv1", "conv2"]


@pytest.mark.parametrize("words", [["--config-dir", "absent"], ["--config-name", "absent"]])
def test_configs_of_ones_own_that_are_absent(
    words: list[str], cli: Callable[..., Finished]
) -> None:
    done = cli(*words)
    assert done.rc == 2
    assert f"{words[0]}: expected " in done.stderr
    assert "'absent'" in done.stderr


def test_output_that_nobody_reads_is_no_error(workplace: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_output_that_is_closed_is_no_error(workplace: Path) -> None:
    words = shlex.join([*COMMAND, "task=plan"])
    done = subprocess.run(["sh", "-c", f"{words} >&-"], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_directories_that_can_be_none(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("task=plan", "hydra.run.dir=/")
    assert "hydra.run.dir: expected a directory of its own, got '/'." in done.stderr
    for name in (".", "..", f"../{workplace.name}"):
        assert f"directory of its own, got '{name}'." in cli(f"hydra.run.dir={name}").stderr
    folder = os.fsdecode(b"d\xff")
    Path(folder).mkdir()
    done = cli("--config-dir", folder, "task=plan")
    assert done.rc == 2
    assert r"--config-dir: expected a folder whose name is UTF-8, got 'd\udcff'." in done.stderr
    words = shlex.join([*COMMAND, "task=plan"])
    gone = ["sh", "-c", f'mkdir gone; cd gone; rmdir "$PWD"; {words}']
    ended = subprocess.run(gone, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 2
    assert "current directory: expected one that is there" in ended.stderr


def test_of_a_sweep_the_first_jobs_config_is_shown(cli: Callable[..., Finished]) -> None:
    done = cli("-m", "--cfg", "job", "stack=pair,lenet", "seed=range(3,9)")
    assert done.rc == 0, done.stderr
    config = yaml.safe_load(done.stdout)
    assert (config["seed"], list(config["stack"]["layers"])) == (3, ["conv1", "conv2"])
    done = cli("-m", "--cfg", "job", "seed=x,4")
    assert done.rc == 2
    assert "seed: expected an integer, got 'x'" in done.stderr


def test_flags_may_stand_anywhere(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("task=plan", "--cfg", "job", "stack=pair")
    assert done.rc == 0
    assert list(yaml.safe_load(done.stdout)["stack"]["layers"]) == ["conv1", "conv2"]
