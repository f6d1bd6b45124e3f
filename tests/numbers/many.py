"""The program many times over, without the seconds that importing torch takes each time.

As a script, it imports what runs need and forks into ``python -m runner`` for each command line
that it is told of. As a module, it has what a test needs to ask for that.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MODULES = (
    "matplotlib.figure",
    "runner.launch",
    "runner.sweep.sweep",
    "runner.tracking.tensorboard",
    "sklearn.datasets",
    "torch",
    "torch.utils.data",
)
"""Importing these starts no thread, so that it can be forked."""


@dataclass(frozen=True)
class Ran:
    """A program that is over.

    Attributes:
        rc: its exit code.
        said: what it printed.
        directory: of its run or sweep.
    """

    rc: int
    said: str
    directory: Path


def start(
    folder: Path, commands: Sequence[Sequence[str]], variables: Mapping[str, str]
) -> subprocess.Popen[str]:
    """Begin to run each command in a folder of its own, one after the other.

    Args:
        folder: that has those folders, 0, 1 …
        commands: words of command lines.
        variables: of the environment.
    """
    for i in range(len(commands)):
        (folder / str(i)).mkdir(parents=True)
    process = subprocess.Popen(
        [sys.executable, __file__],
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps([list(words) for words in commands]) + "\n")
    process.stdin.flush()
    return process


def finish(process: subprocess.Popen[str], folder: Path) -> list[Ran]:
    """Wait for all of them."""
    codes = json.loads(process.communicate()[0])
    found = []
    for i, code in enumerate(codes):
        said = (folder / f"{i}.out").read_text()
        runs = sorted({path.parent for path in (folder / str(i)).rglob(".hydra")})
        sweeps = [path.parent for path in (folder / str(i)).rglob("sweep.json")]
        found.append(Ran(code, said, [*sweeps, *runs, folder / str(i)][0]))
    return found


def become(folder: Path, words: Sequence[str]) -> None:
    """Be the program with these words, in this folder."""
    os.chdir(folder)
    out = os.open(f"{folder}.out", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for theirs, mine in enumerate((os.open(os.devnull, os.O_RDONLY), out, out)):
        os.dup2(mine, theirs)
    sys.argv[1:] = words
    runpy.run_module("runner", run_name="__main__", alter_sys=True)


def main() -> None:
    """Run what standard input tells; in a forked process, return when that is over."""
    for module in MODULES:
        importlib.import_module(module)
    codes = []
    for i, words in enumerate(json.loads(sys.stdin.readline())):
        process = os.fork()
        if process == 0:
            become(Path(str(i)).absolute(), words)
            return
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
