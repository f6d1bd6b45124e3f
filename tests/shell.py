"""The command line as a person at a shell meets it."""

import sys
from dataclasses import dataclass

COMMAND = [sys.executable, "-m", "runner"]


@dataclass(frozen=True)
class Finished:
    """A process that is over."""

    rc: int
    stdout: str
    stderr: str
    seconds: float
