"""A disk that is full from a certain write on, for what this process writes below a folder."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Disk:
    """Counts what takes room: making a file or a folder, writing to it, and syncing it.

    Python's own buffers stay as they are, so that an error comes where a full disk's would: when
    they are written out, again when that is tried again, and again when the file is closed. Of the
    last thing that there is room for, half is written.

    Attributes:
        folder: below it, room is short.
        room: how many such things it takes; None for all.
        taken: how many there were, those for which there was no room included.
    """

    def __init__(self, folder: Path, room: int | None = None) -> None:
        self.folder, self.room, self.taken = os.path.realpath(folder), room, 0

    def take(self, *path: str) -> None:
        self.taken += 1
        if self.room is not None and self.taken > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *path)

    def holds(self, file: Any) -> bool:
        if isinstance(file, int):
            return False
        return os.path.realpath(os.fspath(file)).startswith(self.folder + os.sep)

    @contextmanager
    def mounted(self) -> Iterator[None]:
        """Within it, the disk is as full as it is."""
        with pytest.MonkeyPatch.context() as patch:
            opened = _opened(self, io.open)
            patch.setattr(io, "open", opened)
            patch.setattr(builtins, "open", opened)
            patch.setattr(os, "mkdir", _made(self, os.mkdir))
            patch.setattr(os, "fsync", _synced(self, os.fsync))
            yield


def _opened(disk: Disk, real: Any) -> Any:
    def opened(
        file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
        newline: Any = None, closefd: bool = True, opener: Any = None,
    ) -> Any:  # fmt: skip
        if not (disk.holds(file) and set(mode) & set("wax+")):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not os.path.exists(file):  # noqa: PTH110
            disk.take(str(file))
        raw = _Raw(disk, file, mode.replace("b", "").replace("t", ""), opener=opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    return opened


class _Raw(io.FileIO):
    def __init__(self, disk: Disk, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._disk = disk

    def write(self, data: Any) -> int:
        there = 512 * os.fstat(self.fileno()).st_blocks
        if "+" in self.mode and self.tell() + len(data) <= there:
            return super().write(data)  # over what is there; that needs no room
        self._disk.take()
        if self._disk.taken == self._disk.room:
            data = bytes(data)[: (len(data) + 1) // 2]
        return super().write(data)


def _made(disk: Disk, real: Any) -> Any:
    def made(path: Any, *arguments: Any, **named: Any) -> None:
        if disk.holds(path) and not os.path.exists(path):  # noqa: PTH110
            disk.take(str(path))
        real(path, *arguments, **named)

    return made


def _synced(disk: Disk, real: Any) -> Any:
    def synced(number: int) -> None:
        disk.take()
        real(number)

    return synced


@contextmanager
def small(folder: Path, size: str) -> Iterator[Path]:
    """A real disk of this size on a new folder, where the user may mount one."""
    folder.mkdir()
    mount = shutil.which("mount")
    words = [mount or "", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if mount is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
