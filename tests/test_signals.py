"""Ctrl-C and SIGTERM where Python itself would show a traceback, or lose them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from shell import COMMAND

from runner import signals

# Python runs it when it starts: the signal comes when a module is about to be imported.
AT_IMPORT = """
import os, sys

def hook(event, arguments):
    if event == "import" and arguments[0] == os.environ["MODULE"] and os.environ["SIGNAL"]:
        number, os.environ["SIGNAL"] = int(os.environ["SIGNAL"]), ""
        os.kill(os.getpid(), number)

sys.addaudithook(hook)
"""

AT_EXIT = """
import atexit, os
atexit.register(lambda: os.kill(os.getpid(), int(os.environ["SIGNAL"])))
"""

SAID = {
    signal.SIGINT: (130, "interrupted by Ctrl-C\n"),
    signal.SIGTERM: (143, "terminated\n"),
    signal.SIGHUP: (129, "ended by SIGHUP: its terminal was closed\n"),
}


def run(
    workplace: Path, startup: str, sent: int, module: str = "", *, deaf: bool = False
) -> tuple[int, str]:
    """A run with code for its start; its exit code and what it said on stderr."""
    task = "edge" if module.startswith("torch") else "plan"
    (workplace / "sitecustomize.py").write_text(startup)
    given = {"PYTHONPATH": str(workplace), "MODULE": module, "SIGNAL": str(int(sent))}
    done = subprocess.run(
        [*COMMAND, f"task={task}", "hydra.run.dir=out"],
        env={**os.environ, **given},
        capture_output=True,
        text=True,
        timeout=100,
        # A shell starts background jobs deaf to Ctrl-C, and the tests may be one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN if deaf else signal.SIG_DFL),
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["runner.plan", "hydra", "torch._C"])
def test_while_modules_are_imported(module: str, sent: signal.Signals, workplace: Path) -> None:
    assert run(workplace, AT_IMPORT, sent, module) == SAID[sent]
    assert not (workplace / "out").exists()


@pytest.mark.parametrize("sent", SAID)
def test_when_all_is_done(sent: signal.Signals, workplace: Path) -> None:
    assert run(workplace, AT_EXIT, sent) == SAID[sent]
    assert json.loads((workplace / "out" / "status.json").read_text())["state"] == "COMPLETED"


def test_who_is_started_in_the_background_stays_deaf(workplace: Path) -> None:
    assert run(workplace, AT_IMPORT, signal.SIGINT, "hydra", deaf=True) == (0, "")


def test_who_outlives_the_terminal_stays_deaf(workplace: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup does this for who it starts
    try:
        assert run(workplace, AT_IMPORT, signal.SIGHUP, "hydra") == (0, "")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_terminal_is_closed_says_so(workplace: Path) -> None:
    terminal, other = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "task=learn_kernel", "task.steps=1000000", "hydra.run.dir=out"],
        stdin=other, stdout=other, stderr=other, start_new_session=True,
    )  # fmt: skip
    os.close(other)
    end = time.monotonic() + 100
    while not (workplace / "out" / "metrics.jsonl").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.05)
    os.close(terminal)
    process.send_signal(signal.SIGHUP)  # which the system sends whose terminal it is
    assert process.wait(100) == 129
    status = json.loads((workplace / "out" / "status.json").read_text())
    assert (status["state"], status["reason"]) == ("INTERRUPTED", "SIGHUP")


def test_a_notebook_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import signal, runner, runner.launch\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-m"], True),
        (["/usr/local/bin/runner", "task=edge"], True),
        (["/usr/lib/python3/site-packages/ipykernel_launcher.py"], False),
        (["/home/me/runner/train.py"], False),
        ([""], False),
        ([], False),
    ],
)
def test_what_is_the_program(
    argv: list[str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert signals.is_program() is expected


@pytest.fixture
def listening() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signals._end)
    with signals.ending(at_once=False):
        yield
    signal.signal(signal.SIGINT, before)


class Forgetful:
    """Python drops what is raised where an object goes."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("listening")
class TestHeard:
    def test_what_becomes_another_error(self) -> None:
        with pytest.raises(KeyboardInterrupt), signals.heard():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                raise AttributeError("as OmegaConf's own, of flags that were not yet there")

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_what_is_dropped(self) -> None:
        done = []
        with pytest.raises(KeyboardInterrupt), signals.heard():
            Forgetful()
            done.append("went on")
        assert done == ["went on"]

    def test_what_was_taken_care_of_is_over(self) -> None:
        with pytest.raises(KeyboardInterrupt), signals.heard():
            signal.raise_signal(signal.SIGINT)
        with signals.heard():
            pass
        with pytest.raises(ValueError, match="another"), signals.heard():
            raise ValueError("another")


@pytest.mark.usefixtures("listening")
def test_what_comes_while_they_are_held_comes_afterwards() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt):
        with signals.held():
            signal.raise_signal(signal.SIGINT)
            done.append("held")
        done.append("not reached")
    with signals.held():  # none is left over
        pass
    assert done == ["held"]
