"""Where runs, sweeps and caches are written: whether that works there as the project relies on."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from runner.readable import readable_bytes
from runner.tasks._doctor_finding import OK, WARNING, WRONG, Finding

ROOM, SCANT = 2**30, 50 * 2**20
"""Bytes on a disk with less than which it may soon be full, or as good as is."""

SKEW = 60.0
"""Seconds that a file server's clock may be off."""


def folder(path: str) -> list[Finding]:
    """Whether runs can be written below a folder, which needn't be there yet."""
    mend = "Choose a place that can be written, for a run hydra.run.dir=…, for a sweep"
    command = "python -m runner -m … hydra.sweep.dir=/path/to/sweep"
    return [tried(path, Path(path), WRONG, mend, command)]


def temporary(_: str) -> list[Finding]:
    """Where Python, TensorBoard and torch put what they need for a moment."""
    mend = "Name a folder that can be written."
    command = "export TMPDIR=/path/to/folder"
    given = os.environ.get("TMPDIR")
    if given and not Path(given).is_dir():
        found = f"TMPDIR={given}, which is no folder"
        return [Finding("temporary", WARNING, found, mend, command)]
    try:
        where = Path(tempfile.gettempdir())
    except FileNotFoundError:
        found = "no folder for temporary files can be written"
        return [Finding("temporary", WRONG, found, mend, command)]
    return [tried("temporary", where, WRONG, mend, command)]


def home(_: str) -> list[Finding]:
    """Where caches are, unless they are told elsewhere."""
    mend = "Caches have no place: code is compiled, and auto measures, in every run. Name a folder."
    command = "export HOME=/path/to/folder"
    try:
        where = Path.home()
    except RuntimeError:
        found = "HOME isn't set, and the system knows no other"
        return [Finding("home", WARNING, found, mend, command)]
    if not where.is_dir():
        return [Finding("home", WARNING, f"{where} is no folder", mend, command)]
    return [tried("home", where, WARNING, mend, command)]


def tried(check: str, path: Path, state: str, mend: str, command: str = "") -> Finding:
    """Write, sync, rename and lock a file in a folder, or in the one that it will be made in.

    Args:
        check: its name in the table.
        path: of the folder.
        state: of the finding, if it doesn't work.
        mend: what to do then.
        command: that does it.
    """
    where = path.absolute()

    def place(folder: Path) -> str:
        name = _short(folder)
        return "" if name == check else f"{name}: "

    try:
        while not where.exists():
            where = where.parent
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=where) as own:
            trouble = _trouble(Path(own))
        free = shutil.disk_usage(where).free
    except OSError as error:
        found = place(where) + (error.strerror or str(error)).lower()
        return Finding(check, state, found, mend, command)
    found = f"{place(where)}{readable_bytes(free)} free{_kind(where)}"
    if trouble:
        return Finding(check, WARNING, f"{found}; {trouble}", "Use a local disk.")
    if free < ROOM:
        state = state if free < SCANT else WARNING
        return Finding(check, state, found, "Make room, or take another disk.")
    return Finding(check, OK, found)


def _trouble(folder: Path) -> str:
    """What doesn't work in a folder that can be written, of all that runs rely on.

    Raises:
        OSError: writing doesn't.
    """
    path, temporary = folder / "file", folder / "file.tmp"
    path.write_bytes(b"before")
    with temporary.open("wb") as file:
        file.write(os.urandom(1 << 16))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if path.stat().st_size != 1 << 16:
        return "a file that is renamed doesn't take the other's place"
    if abs(path.stat().st_mtime - time.time()) > SKEW:
        return "files there are dated by another clock"
    with path.open("rb") as one, path.open("rb") as other:
        try:
            fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return f"files can't be locked ({error.strerror}): a running run looks dead"
        with suppress(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return "locks don't hold: two may resume one run"
    return ""


def _kind(path: Path) -> str:
    """The file system that a folder is on, as Linux names it."""
    found, length = "", 0
    with suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, place, kind, *_ = line.split()
            if path.resolve().is_relative_to(place) and len(place) >= length:
                found, length = f" ({kind})", len(place)
    return found


def _short(path: Path) -> str:
    """A path as it can be typed here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)
