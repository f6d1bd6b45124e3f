"""A sweep's directory: claimed or taken up again, locked, and what it holds.

`sweep.json` says what was asked for. A job is known by its *key*, a hash of its resolved config:
not by its number, so that a sweep that is taken up again may list its values in another order, or
have more of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runner.config.errors import describe, problem
from runner.tracking.directory import LOCK, STATUS, claim, state, write_json

MANIFEST = "sweep.json"


@dataclass(frozen=True)
class Planned:
    """A job of a sweep that is known to be valid.

    Attributes:
        number: its place in the order of the command.
        key: of its config; jobs of one config are told apart by how often it came before.
        overrides: that describe it.
        directory: its name within the sweep's directory.
    """

    number: int
    key: str
    overrides: tuple[str, ...]
    directory: str


@dataclass(frozen=True)
class Skipped:
    """A job that can't be run, and why."""

    number: int
    overrides: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Manifest:
    """What `sweep.json` says.

    Attributes:
        command: that runs the sweep again.
        overrides: of that command.
        config_dir: the user's own config folder, absolute, or None.
        config_name: of the primary config.
        task: that all jobs have, or ``experiments``.
        objective: what ranks the jobs: ``{"metric": "loss", "goal": "min"}``, or None.
        started: when the sweep first was.
        jobs: all that are valid; none of a sweep that chooses its jobs as it goes.
        skipped: those that aren't.
    """

    command: str
    overrides: tuple[str, ...]
    config_dir: str | None
    config_name: str
    task: str
    objective: Mapping[str, str] | None
    started: str
    jobs: tuple[Planned, ...] = ()
    skipped: tuple[Skipped, ...] = field(default=())


def keys(configs: Iterable[str]) -> list[str]:
    """The key of each job's config; the second of the same gets ``-2``, and so on."""
    seen: Counter[str] = Counter()
    found = []
    for digest in configs:
        seen[digest] += 1
        found.append(digest if seen[digest] == 1 else f"{digest}-{seen[digest]}")
    return found


def digest(raw: Mapping[str, Any]) -> str:
    """A hash of a resolved config, but for what says how the sweep is run."""
    content = {key: value for key, value in raw.items() if key != "sweep"}
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class SweepDirectory:
    """The directory of a sweep that is going on; locked until it is released.

    Attributes:
        path: absolute.
    """

    def __init__(self, path: Path) -> None:
        """Lock it.

        Raises:
            ConfigError: another process has it.
        """
        self.path = path
        try:
            self._lock = (path / LOCK).open("w")
        except OSError as error:
            found = f"'{path}' ({error.strerror})"
            raise problem("hydra.sweep.dir", "a directory that can be written", found) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            expected, found = "a sweep that has ended", f"one that is still running in '{path}'"
            raise problem("hydra.sweep.dir", expected, found) from None

    def __enter__(self) -> SweepDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def recorded(self) -> dict[str, str]:
        """The directory's name of each job that was begun here, by the job's key."""
        found = {}
        for file in self.path.rglob(STATUS):
            name = file.parent.relative_to(self.path).as_posix()
            try:
                found[str(json.loads(file.read_text())["key"])] = name
            except (OSError, ValueError, KeyError, TypeError):
                continue  # a job that has no valid record is none that could be skipped
        return found

    def write(self, manifest: Manifest) -> None:
        """Write `sweep.json`."""
        write_json(self.path / MANIFEST, asdict(manifest))

    def finished(self, job: Planned) -> bool:
        """Whether the job has completed."""
        folder = self.path / job.directory
        return (folder / STATUS).exists() and state(folder) == "COMPLETED"


def open_directory(wanted: str, *, named: bool) -> SweepDirectory:
    """Claim a new directory, or take up the sweep in one that was named and is there.

    Args:
        wanted: the directory.
        named: whether the user named this very directory.

    Raises:
        ConfigError: it can't be created, another process has it, or it isn't a sweep's.
    """
    path = Path(wanted).expanduser().absolute()
    if not (named and path.is_dir()):
        return SweepDirectory(claim(wanted, "hydra.sweep.dir"))
    if any(path.iterdir()) and read(path) is None:
        hint = "Choose a new or an empty one."
        found = f"'{wanted}', which holds something else"
        raise problem("hydra.sweep.dir", "a new directory, or a sweep's", found, hint)
    return SweepDirectory(path)


def read(path: Path) -> Manifest | None:
    """What a directory's `sweep.json` says, or None where there is none.

    Raises:
        ConfigError: it can't be read.
    """
    file = path / MANIFEST
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise problem(str(file), "JSON that can be read", f"an error: {error}") from None
    try:
        jobs = tuple(
            Planned(one["number"], one["key"], tuple(one["overrides"]), one["directory"])
            for one in content.pop("jobs")
        )
        skipped = tuple(
            Skipped(one["number"], tuple(one["overrides"]), tuple(one["problems"]))
            for one in content.pop("skipped")
        )
        content["overrides"] = tuple(content["overrides"])
        return Manifest(**content, jobs=jobs, skipped=skipped)
    except (KeyError, TypeError, AttributeError):
        raise problem(str(file), "what a sweep recorded", describe(content)) from None


def check_same(path: Path, earlier: Manifest, now: Sequence[Planned]) -> None:
    """The jobs that a directory was made for must be among those that are asked for now.

    Raises:
        ConfigError: they aren't: it is another sweep's, or the YAML has changed since.
    """
    wanted = {job.key for job in now}
    others = [job for job in earlier.jobs if job.key not in wanted]
    if others:
        what = " ".join(others[0].overrides) or "the default config"
        found = f"'{path}', of another one: {earlier.command}"
        hint = (
            f"{len(others)} of its {len(earlier.jobs)} jobs aren't asked for now, or its YAML has "
            f"changed since (#{others[0].number}: {what}). Choose a new directory."
        )
        raise problem("hydra.sweep.dir", "this sweep's directory", found, hint)


def places(directories: Mapping[str, str], jobs: Sequence[tuple[str, str]]) -> list[str]:
    """A directory's name for each job: the one it had, or else the one it asks for if it is free.

    Args:
        directories: names of those that are there, by the key of their job.
        jobs: the key of each, and the name that its config asks for.
    """
    taken = set(directories.values()) | {directories.get(key, "") for key, _ in jobs}
    found = []
    for key, wanted in jobs:
        name, attempt = directories.get(key), 0
        while name is None:
            candidate = f"{wanted}-{attempt}" if attempt else wanted
            if candidate not in taken:
                name = candidate
            attempt += 1
        taken.add(name)
        found.append(name)
    return found
