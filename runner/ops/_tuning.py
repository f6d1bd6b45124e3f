"""What `auto` measured, remembered between runs: one line of JSON per case, in the user's cache.

Several processes may read and write at once; a file that is damaged loses the damaged lines only;
one that can't be read or written is done without. The first line about a case holds, so that all
processes, now and later, take the same operator.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from runner.choices import choices
from runner.config.contents import start
from runner.machine import processor
from runner.ops._sources import digest

logger = logging.getLogger(__name__)

FILE, LOCK = "auto.jsonl", "auto.lock"

LARGEST = 4 * 2**20
"""Bytes; a file beyond this is begun anew."""

PATIENCE = 5.0
"""Seconds to wait for another process that writes."""


def folder() -> Path:
    """Where the file is: $RUNNER_CACHE, else $XDG_CACHE_HOME/runner, else ~/.cache/runner."""
    if own := os.environ.get("RUNNER_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return Path(shared or Path.home() / ".cache") / "runner"


def recall(key: Mapping[str, str], names: set[str]) -> dict[str, float] | None:
    """The seconds of these operators for a case, if that is remembered.

    Args:
        key: what the seconds depend on; see `key_of`.
        names: the operators that were to be compared.
    """
    try:
        kept, damaged = _lines(_read())
        if damaged:
            with suppress(OSError), _locked():  # a folder that can't be written stays as it is
                kept, _ = _lines(_mend())
    except (OSError, RuntimeError) as error:
        _cannot(error)
        return None
    return _first(kept, key, names)


def remember(key: Mapping[str, str], seconds: Mapping[str, float]) -> Mapping[str, float]:
    """Write a measurement down, unless another process did so first.

    Returns:
        What holds from now on: the other's seconds, if there are any.
    """
    line = json.dumps({**key, "seconds": dict(seconds)}, ensure_ascii=False).encode() + b"\n"
    try:
        folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked():
            content = _mend()
            earlier = _first(_lines(content)[0], key, set(seconds))
            if earlier is not None:
                return earlier
            with (folder() / FILE).open("ab", buffering=0) as file:
                file.write(line)
    except (OSError, RuntimeError) as error:
        _cannot(error)
    return seconds


def key_of(case: str, device: torch.device) -> dict[str, str]:
    """What a measurement depends on: the case, the device, its threads, and the software."""
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    else:
        where = f"{processor()}, threads {torch.get_num_threads()}"
    import runner.ops

    return {"case": case, "device": where, "software": _software(*runner.ops.__path__)}


@cache
def _software(*folders: str) -> str:
    """Versions of what computes, and a hash of the operators' sources, the user's own included."""
    parts = [f"torch {torch.__version__}"]
    for library in ("numba", "triton"):
        try:
            parts.append(f"{library} {metadata.version(library)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join([*parts, f"operators {digest(*folders)}"])


def _first(
    lines: list[dict[str, Any]], key: Mapping[str, str], names: set[str]
) -> dict[str, float] | None:
    for line in lines:
        if line["seconds"].keys() == names and all(line[part] == key[part] for part in key):
            found: dict[str, float] = line["seconds"]
            return found
    return None


def _read() -> bytes:
    try:
        return start(folder() / FILE, LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""


@lru_cache(maxsize=1)  # the file is read for every case, in case another process has written to it
def _lines(content: bytes) -> tuple[list[dict[str, Any]], bool]:
    """The lines that are whole, and whether there are others."""
    if len(content) > LARGEST:
        return [], True
    kept, damaged = [], bool(content) and not content.endswith(b"\n")
    for line in content.split(b"\n")[:-1]:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if _whole(entry):
            kept.append(entry)
        else:
            damaged = True
    return kept, damaged


def _whole(entry: Any) -> bool:
    """Whether a line says what it must."""
    if not isinstance(entry, dict) or entry.keys() != {"case", "device", "software", "seconds"}:
        return False
    seconds = entry["seconds"]
    return isinstance(seconds, dict) and all(
        isinstance(s, float) and 0 < s < float("inf") for s in seconds.values()
    )


def _mend() -> bytes:
    """Rewrite a damaged file without what is damaged; its content. The lock must be held."""
    content = _read()
    kept, damaged = _lines(content)
    if not damaged:
        return content
    _warn(f"{folder() / FILE} was damaged; what is whole in it is kept")
    content = b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in kept)
    # Only who holds the lock writes, so that one name is enough, and a crash leaves one file.
    temporary = folder() / f"{FILE}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.write_bytes(content)
    temporary.replace(folder() / FILE)
    return content


@contextmanager
def _locked() -> Iterator[None]:
    """Alone among all processes.

    Raises:
        OSError: there is no such folder, no right to write there, or somebody holds the lock.
    """
    # To open a pipe only to write would wait for who reads it.
    with os.fdopen(os.open(folder() / LOCK, os.O_RDWR | os.O_CREAT, 0o666), "rb") as lock:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield


@cache
def _logged(text: str) -> None:
    logger.warning("auto: %s", text)


def _warn(text: str) -> None:
    """Say something once in the log, and once at every run's end."""
    _logged(text)
    choices.remark(text)


def _cannot(error: Exception) -> None:
    """Say that nothing is remembered, and why."""
    variable = "RUNNER_CACHE"
    try:
        where = f"{variable}={folder()}" if os.environ.get(variable) else str(folder())
    except RuntimeError:  # no home, which the error says
        where = "~/.cache"
    if isinstance(error, FileExistsError | FileNotFoundError | NotADirectoryError):
        reason = "not a directory"
    elif isinstance(error, BlockingIOError):
        reason = f"another process holds {LOCK}"
    else:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
    _warn(f"can't remember: {where}: {reason}; measured anew in every run")
