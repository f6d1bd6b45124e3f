"""Starts the program without the seconds that importing torch takes: by forking who has done so.

As a script, it imports what runs need and serves requests, a line of JSON each. As a module, it
has what a test needs to ask it.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULES = (
    "hydra._internal.hydra",
    "matplotlib.figure",
    "numpy",
    "PIL.PngImagePlugin",
    "runner.launch",
    "runner.layers.conv",
    "runner.layers.linear",
    "runner.layers.pool",
    "runner.report",
    "runner.sweep.sweep",
    "runner.tasks.classify",
    "runner.tasks.edge",
    "runner.tasks.learn_kernel",
    "runner.tracking.tensorboard",
    "sklearn.datasets",
    "torch",
    "torch.optim",
    "torch.utils.data",
)
"""What runs need; importing these starts no thread, so that it can be forked."""


class Zygote:
    """A process that forks into `python -m runner`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.ask() == "ready"

    def ask(self, **request: Any) -> Any:
        """Its answer to a request."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if request:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@dataclass
class Started:
    """A program that runs in a session of its own.

    Attributes:
        pid: of its process, and of its session.
        out: the file that takes what it prints.
        began: when, by the monotonic clock.
    """

    pid: int
    out: Path
    began: float
    _wait: Callable[[], int]

    def wait(self) -> int:
        """Its exit code; of one that a signal ended, the signal's number, negated."""
        code = self._wait()
        self.seconds = time.monotonic() - self.began
        return code

    @property
    def said(self) -> str:
        """What it printed."""
        return self.out.read_text()


def fork(zygote: Zygote, folder: Path, words: list[str], die: tuple[int, int] = (0, 0)) -> Started:
    """Start it in a folder, from a process that has torch.

    Args:
        zygote: that process.
        folder: its current directory.
        words: of the command line.
        die: before which access to a file in the folder a signal comes, from 1, and which signal.
    """
    out = folder.with_suffix(".out")
    out.touch()  # it may be killed before it can
    began = time.monotonic()
    pid = zygote.ask(words=words, folder=str(folder), out=str(out), die=die)
    return Started(pid, out, began, lambda: zygote.ask(wait=pid))


def cold(folder: Path, words: list[str]) -> Started:
    """Start it in a folder as a shell does."""
    out = folder.with_suffix(".out")
    began = time.monotonic()
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "runner", *words],
            cwd=folder, stdout=file, stderr=file, start_new_session=True,
            # A shell starts background jobs deaf to Ctrl-C, and the tests may be one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    return Started(process.pid, out, began, process.wait)


def serve() -> dict[str, Any]:
    """Answer requests; in the process that was forked for one, return it."""
    answer = sys.stdout
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            found: int = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            found = os.fork()
            if found == 0:
                return request
        print(json.dumps(found), file=answer, flush=True)
    sys.exit()


def become(request: dict[str, Any]) -> None:
    """Be the program that a request describes."""
    os.setsid()
    os.chdir(request["folder"])
    out = os.open(request["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for theirs, mine in enumerate((os.open(os.devnull, os.O_RDONLY), out, out)):
        os.dup2(mine, theirs)
    # As Python has it at its start, whatever the tests' own shell says.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    number, what = request["die"]
    if number:
        sys.addaudithook(_Deadly(request["folder"], number, what))
    sys.argv[1:] = request["words"]
    runpy.run_module("runner", run_name="__main__", alter_sys=True)


class _Deadly:
    """Sends this process a signal when it is about to touch a file in a folder for the nth time."""

    TOUCHES = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock")

    def __init__(self, folder: str, number: int, what: int) -> None:
        self._folder, self._left, self._signal = folder, number, what

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in self.TOUCHES:
            return
        path = arguments[0]
        if event == "fcntl.flock" or (isinstance(path, str | os.PathLike) and self._within(path)):
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), self._signal)

    def _within(self, path: str | os.PathLike[str]) -> bool:
        return os.path.abspath(os.fspath(path)).startswith(self._folder)  # noqa: PTH100


if __name__ == "__main__":
    for module in MODULES:
        __import__(module)
    assert len(os.listdir("/proc/self/task")) == 1, "threads can't be forked"  # noqa: PTH208
    gc.freeze()
    become(serve())
