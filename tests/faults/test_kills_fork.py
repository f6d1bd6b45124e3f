"""Processes that are forked in the middle of something: they must not wait for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

# A fork takes along what threads hold, but not the threads. The alarm ends a child that waits.
WHILE_CHOOSING = """
import os, signal, sys, threading
from runner.ops import Auto
from runner.ops._choosing import Chooser

chooser, begun = Chooser(Auto()), threading.Event()

def able():
    begun.set()
    threading.Event().wait()

threading.Thread(target=chooser.choose, args=("a case", able), daemon=True).start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    chooser.choose("another", lambda: os._exit(7))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from runner.tracking import Trackers
from runner.tracking.files import Files
from runner.tracking.tensorboard import TensorBoard

folder = Path(sys.argv[1])
tracker = Trackers(Files(folder), [TensorBoard(folder)])
tracker.scalars({"loss": 1.0}, 1)
child = os.fork()
tracker.scalars({"loss": 2.0 if child else 3.0}, 2 if child else 3)
if child == 0:
    signal.alarm(20)
    tracker.close()
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
tracker.scalars({"loss": 4.0}, 4)
tracker.close()
"""


def run(script: str, *words: str) -> str:
    # Later versions of Python warn of any fork beside threads.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()


def test_while_auto_chooses() -> None:
    assert run(WHILE_CHOOSING) == "7"


def test_while_an_event_file_is_written(tmp_path: Path) -> None:
    """The file is of the process that made it; one that is forked from it does no harm."""
    assert run(WHILE_WRITING, str(tmp_path)) == "7"
    (events,) = tmp_path.glob("events.*")
    steps = [event.step for event in EventFileLoader(str(events)).Load()]
    assert sorted(steps) == [0, 1, 2, 3, 4]
    assert (tmp_path / "metrics.jsonl").read_text().count("\n") == 4
