"""Read small files whose place somebody else may have filled with something else."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from stat import S_ISREG

RECORD = 2**26
"""Bytes of a JSON file of a run or a sweep, at most: those of a hundred thousand jobs are fewer."""

SURROGATE = re.compile("[\ud800-\udfff]")
"""Half of a character, as stands for a byte that is no UTF-8; it can't be written to a file."""


def start(path: Path, most: int) -> bytes:
    """The first bytes of a file.

    Raises:
        OSError: it can't be read, or is no regular file: reading a pipe would wait for ever, and a
            device may never end.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return file.read(most)


def contents(path: Path, most: int = RECORD) -> bytes:
    """What a file holds.

    Raises:
        OSError: as `start`, or it holds more than that.
    """
    found = start(path, most + 1)
    if len(found) > most:
        raise OSError(errno.EFBIG, f"more than {most:,} bytes", str(path))
    return found
