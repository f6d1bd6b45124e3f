"""A run's directory: claimed exclusively, locked while the run lives, whole at any moment."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from queue import Queue
from stat import S_ISDIR, S_ISLNK, S_ISREG
from threading import Thread
from typing import IO, Any, BinaryIO

from runner.config.contents import contents
from runner.config.errors import ConfigError, problem

logger = logging.getLogger(__name__)

STATUS, LOCK = "status.json", ".lock"


def write_atomically(
    path: Path,
    content: bytes | Callable[[BinaryIO], None],
    *,
    sync: bool = True,
    at_once: bool = False,
) -> None:
    """Write a file so that a reader, or a crash, never sees half of it.

    The content, or what a function writes, goes to a temporary name, is synced, and takes the
    file's place in one step.
    Without `sync`, that holds for a crash of the program, not for one of the machine; within
    `synced_behind`, for one of the machine only later, unless it must `at_once`: where the file
    takes the place of one that is worth keeping.
    """
    if home := _living.get(path.parent):
        home.check()
    behind = None if at_once else _behind
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            if sync and behind is None:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if sync and behind is not None:
            behind.put(path)
    except BaseException as error:
        with suppress(OSError):  # the folder itself may be gone
            temporary.unlink()
        if isinstance(error, OSError):
            named(error, path)
        raise


_living: dict[Path, RunDirectory] = {}
"""The directories of runs that this process runs: nothing is written to others in their place."""


def named(error: OSError, path: Path) -> OSError:
    """An error of writing, which Python raises without a file's name, or with a temporary one."""
    error.filename = str(path)
    return error


def check_place(file: IO[Any], path: Path) -> None:
    """Check that an open file is still where it was opened.

    A file that was removed, or moved away with its directory, takes what is written all the same.

    Raises:
        OSError: there is none, or another one, perhaps behind a link.
    """
    try:
        there = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "Removed while in use", str(path)) from None
    if not os.path.samestat(os.fstat(file.fileno()), there):
        raise OSError(errno.ESTALE, "Replaced while in use", str(path))


_behind: Queue[Path | None] | None = None
"""What is written and still to be synced, in order."""

OUTSTANDING = 256
"""Files that may wait for the disk; who writes more waits with them, and so does Ctrl-C."""


@contextmanager
def synced_behind() -> Iterator[None]:
    """Let a thread sync what is written in here, while the program goes on.

    A disk takes milliseconds to say that a file is safe, which is as long as a small job takes.
    All is synced when this ends. If the machine crashes before, any of the last `OUTSTANDING`
    files may be damaged or as it was before, whatever the others say: a run may be COMPLETED, and
    its metrics be lost.

    Raises:
        OSError: the first that couldn't be synced, when this ends; the others are logged.
    """
    global _behind
    before, queue = _behind, Queue[Path | None](OUTSTANDING)
    errors: list[OSError] = []
    thread = Thread(target=_sync_all, args=(queue, errors), name="sync", daemon=True)
    thread.start()
    _behind = queue
    try:
        yield
    finally:
        _behind = before
        queue.put(None)
        thread.join()
    if errors:
        raise errors[0]


def _sync_all(queue: Queue[Path | None], errors: list[OSError]) -> None:
    while (path := queue.get()) is not None:
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except FileNotFoundError:
            pass  # somebody removed it: there is nothing to keep
        except OSError as error:
            logger.warning("%s may not survive a crash of the machine: %s", path, error)
            errors.append(named(error, path))


def write_json(path: Path, data: Any, *, sync: bool = True) -> None:
    """Write JSON atomically; infinite and undefined numbers become text, which JSON lacks."""
    write_atomically(path, _json(data), sync=sync)


def _json(data: Any) -> bytes:
    text = json.dumps(json_safe(data), indent=2, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _overwrite(path: Path, content: bytes) -> bool:
    """Write over a small file where it is, which needs no room on a disk that is full.

    Returns:
        Whether that was possible: the blocks that the file has must be enough.
    """
    with suppress(OSError), path.open("rb+", buffering=0) as file:
        there = os.fstat(file.fileno())
        # One write, padded so that nothing is left of what was there before.
        content = content.ljust(there.st_size)
        if len(content) <= 512 * there.st_blocks:
            return file.write(content) == len(content)
    return False


def json_safe(data: Any) -> Any:
    """The same data with ``nan`` and ``inf`` as text."""
    if isinstance(data, dict):
        return {str(key): json_safe(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [json_safe(value) for value in data]
    if isinstance(data, float) and not isfinite(data):
        return str(data)
    return data


def claim(wanted: str, key: str) -> Path:
    """Create a directory that nobody else has; ``-1``, ``-2`` … is added where it is taken.

    Args:
        wanted: the path asked for; relative ones start at the current directory.
        key: of the config that asks for it, for the error.

    Returns:
        The absolute path of the new directory.

    Raises:
        ConfigError: it can't be created.
    """
    if not wanted:
        raise problem(key, "a directory", "an empty name", f"Leave {key} out for the default.")
    check_name(wanted, key)
    base = Path(wanted).absolute()
    # This one and those around it are there, and a name beside them is not what was asked for.
    if Path.cwd().is_relative_to(base.resolve()):
        hint = f"Choose another: {key}=/path/to/run."
        raise problem(key, "a directory of its own", f"'{wanted}'", hint)
    try:
        if base.is_file():
            raise problem(key, "a directory", f"'{wanted}', which is a file")
        base.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(10_000):
            path = base.with_name(f"{base.name}-{attempt}") if attempt else base
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        hint = f"Choose another: {key}=/path/to/run."
        found = f"'{wanted}' ({error.filename}: {error.strerror})"
        raise problem(key, "a directory that can be written", found, hint) from None
    raise problem(key, "a free name", f"'{wanted}' and 10,000 more like it")


def check_name(wanted: str, key: str) -> None:
    """Refuse a directory's name that would do something to a terminal.

    Raises:
        ConfigError: it would; `key` of the config asks for it.
    """
    if not wanted.isprintable():
        raise problem(key, "a directory's name that can be printed", repr(wanted))


def check_plain(paths: Iterable[Path]) -> None:
    """Refuse what is neither a file nor a folder.

    What is written to a link goes elsewhere, and to a pipe when somebody reads it.

    Raises:
        ConfigError: there is such a thing.
    """
    for path in paths:
        mode = path.lstat().st_mode
        if not (S_ISREG(mode) or S_ISDIR(mode)):
            found = "a link" if S_ISLNK(mode) else "something else"
            raise problem(str(path), "nothing but files and folders", found, "Remove it.")


def _all_in(path: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(path):
        yield from (Path(folder, name) for name in (*folders, *files))


class RunDirectory:
    """The claimed directory of a living run.

    Attributes:
        path: where it is.
    """

    def __init__(self, path: Path, facts: dict[str, Any], *, spent: float = 0.0) -> None:
        """Lock the directory, mark it RUNNING, and clear what a killed run was writing.

        Args:
            path: an existing directory that belongs to this run.
            facts: what `status.json` says besides the state; a resumed run's have when it
                `started` first.
            spent: seconds that earlier parts of a resumed run took.

        Raises:
            ConfigError: a run that is still going on has the directory, or it holds links.
            OSError: it can't be written, or its lock is a link.
        """
        # The monotonic clock for what it takes: the other one can be set back meanwhile.
        self.path, self._spent, self._begun = path, spent, time.monotonic()
        self._facts = {"started": _timestamp(time.time()), **facts}
        self._lock = open_lock(path)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _living[path] = self
            check_plain(_all_in(path))
            for half_written in path.rglob(".*.tmp"):
                half_written.unlink()
            self.mark("RUNNING")
        except BlockingIOError:
            self.release()
            found = "one that is still running"
            raise problem(str(path), "the directory of a run that has ended", found) from None
        except (OSError, ConfigError):
            self.release()
            raise

    def mark(self, state: str, reason: str | None = None, **facts: Any) -> None:
        """Record the state: RUNNING, COMPLETED, FAILED or INTERRUPTED, and why.

        Raises:
            OSError: it can't be written, or the directory is another one by now.
        """
        self.check()
        self._facts.update(facts)
        seconds = round(self._spent + time.monotonic() - self._begun, 3)
        content = {"state": state, "reason": reason, "seconds": seconds, **self._facts}
        try:
            # That a run began needn't outlive a crash of the machine: it would be begun again.
            write_json(self.path / STATUS, content, sync=state != "RUNNING")
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            if not (full and _overwrite(self.path / STATUS, _json(content))):
                raise

    def check(self) -> None:
        """Check that the directory is still this run's.

        Raises:
            OSError: it was removed, moved or replaced.
        """
        check_place(self._lock, self.path / LOCK)

    def release(self) -> None:
        """Let go of the lock, when nothing more will be written."""
        if _living.get(self.path) is self:
            del _living[self.path]
        self._lock.close()


def state(path: Path) -> str:
    """The state of a run's directory: what it recorded, or DEAD when it can't be true any more.

    A run that says RUNNING while nobody holds its lock was killed.
    """
    recorded = str(json.loads(contents(path / STATUS))["state"])
    if recorded != "RUNNING":
        return recorded
    try:
        with open_lock(path, create=False) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return recorded
    except FileNotFoundError:
        pass  # nobody holds what isn't there
    return "DEAD"


def open_lock(folder: Path, *, create: bool = True) -> BinaryIO:
    """Open a directory's lock file, which is never written.

    Raises:
        OSError: it is a link, which may lead to somebody's file; or, unless it is to be created,
            there is none.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    return os.fdopen(os.open(folder / LOCK, flags, 0o666), "rb")


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
