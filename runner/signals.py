"""What Ctrl-C and SIGTERM do to the program; a notebook that uses the package is left alone.

While it works they raise, so that it can record how far it came. But Python shows a traceback of
what is raised while modules are imported or while it ends itself, and while torch is imported, one
in seven is swallowed; then, the program simply ends.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a program that SIGINT (Ctrl-C) or SIGTERM has ended: 128 + 2 or 15."""

WORDS = {INTERRUPTED: "interrupted by Ctrl-C", TERMINATED: "terminated"}
"""What is told of it."""

_at_once = True
_holding, _held = False, 0


def is_program() -> bool:
    """Whether this process is ``python -m runner``, or the command ``runner``."""
    name = sys.argv[0] if sys.argv else ""
    return name.rpartition("/")[2] in ("-m", "runner")  # Python finds the module while it is -m


def listen() -> None:
    """Take the signals of this process: they end it at once, unless `ending` says otherwise."""
    # Who was started in the background is deaf to Ctrl-C, and stays so.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _end)
    signal.signal(signal.SIGTERM, _end)


@contextmanager
def ending(*, at_once: bool) -> Iterator[None]:
    """How signals end the program in here: `at_once`, or by what they raise.

    They raise KeyboardInterrupt, and SystemExit with `TERMINATED`.
    """
    global _at_once
    before, _at_once = _at_once, at_once
    try:
        yield
    finally:
        _at_once = before


@contextmanager
def held() -> Iterator[None]:
    """Let signals wait until the end of what is short, and must be done whole or not at all."""
    global _holding, _held
    _holding = True
    try:
        yield
    finally:
        _holding = False
        if _held:
            number, _held = _held, 0
            _end(number, None)


def _end(number: int, _: FrameType | None) -> None:
    global _held
    code = 128 + number
    if _holding:
        _held = number
        return
    if _at_once:
        os.write(2, f"{WORDS[code]}\n".encode())
        os._exit(code)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    raise SystemExit(code)
