"""What Ctrl-C, SIGTERM and SIGHUP do to the program, and not to a notebook that uses the package.

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

INTERRUPTED, TERMINATED, HUNG_UP = 130, 143, 129
"""Exit codes of a program that SIGINT (Ctrl-C), SIGTERM or SIGHUP has ended: 128 + 2, 15 or 1.

SIGHUP comes when the terminal or the ssh connection is closed.
"""

WORDS = {
    INTERRUPTED: "interrupted by Ctrl-C",
    TERMINATED: "terminated",
    HUNG_UP: "ended by SIGHUP: its terminal was closed",
}
"""What is told of it."""

_at_once = True
_holding, _held = False, 0
_raised: KeyboardInterrupt | SystemExit | None = None


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
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, _end)


@contextmanager
def ending(*, at_once: bool) -> Iterator[None]:
    """How signals end the program in here: `at_once`, or by what they raise.

    They raise KeyboardInterrupt, and SystemExit with `TERMINATED` or `HUNG_UP`.
    """
    global _at_once
    before, _at_once = _at_once, at_once
    try:
        yield
    finally:
        _at_once = before


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM raise SystemExit in here, in a process that does a part of the program's work."""
    before = signal.signal(signal.SIGTERM, _end)
    try:
        with ending(at_once=False):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def heard() -> Iterator[None]:
    """See to it that what a signal raises in here gets out of here.

    Libraries make other errors of it on the way, and where an object goes, or a callback is called,
    Python drops it.
    """
    before = _raised
    try:
        yield
    except BaseException as error:
        if _raised in (None, before, error):
            raise
        raise _raised from None
    if _raised not in (None, before):
        raise _raised


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
    global _held, _raised
    code = 128 + number
    if _holding:
        _held = number
        return
    if code == HUNG_UP:
        _leave_terminal()
    if _at_once:
        os.write(2, f"{WORDS[code]}\n".encode())
        os._exit(code)
    _raised = KeyboardInterrupt() if code == INTERRUPTED else SystemExit(code)
    raise _raised


def _leave_terminal() -> None:
    """What is told goes nowhere where the terminal is gone; to write to it would be an error."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
