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
from pathlib import Path, PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from runner.config.contents import contents
from runner.config.errors import problem
from runner.tracking.directory import (
    LOCK,
    STATUS,
    check_name,
    check_place,
    check_plain,
    claim,
    open_lock,
    write_atomically,
    write_json,
)
from runner.tracking.status import first_error

MANIFEST, METRICS = "sweep.json", "metrics.json"

OWN = {
    *(MANIFEST, LOCK, "summary.csv", "summary.md", "summary.png", "report.md", "report.html"),
    *("multirun.yaml", "optimization_results.yaml"),
}
"""Files that a sweep, or Hydra, writes into the sweep's directory."""

DIR = "hydra.sweep.dir"


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
    objective: Mapping[str, str | None] | None
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
    text = json.dumps(_in_order(content), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _in_order(data: Any) -> Any:
    """The same data with the keys of mappings sorted, where their order says nothing.

    It does where mappings are named, as layers are; it doesn't where values are.
    """
    if isinstance(data, Mapping):
        entries = [(str(key), _in_order(value)) for key, value in data.items()]
        named = all(isinstance(value, Mapping) for value in data.values())
        return dict(entries if named else sorted(entries, key=lambda entry: entry[0]))
    return list(map(_in_order, data)) if isinstance(data, list | tuple) else data


class SweepDirectory:
    """The directory of a sweep that is going on; locked until it is released.

    Attributes:
        path: absolute.
    """

    def __init__(self, path: Path) -> None:
        """Lock it, and clear what a killed sweep was writing.

        Raises:
            ConfigError: another process has it, or it can't be written.
        """
        self.path = path
        try:
            self._lock = open_lock(path)
        except OSError as error:
            found = f"'{path}' ({error.strerror})"
            raise problem(DIR, "a directory that can be written", found) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            expected, found = "a sweep that has ended", f"one that is still running in '{path}'"
            raise problem(DIR, expected, found) from None
        for half_written in path.glob(".*.tmp"):
            half_written.unlink(missing_ok=True)

    def __enter__(self) -> SweepDirectory:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def check(self) -> None:
        """Check that the directory is still there, and not made anew by a job.

        Raises:
            OSError: it was removed or replaced.
        """
        check_place(self._lock, self.path / LOCK)

    def there(self) -> bool:
        """Whether it is still where it was."""
        try:
            self.check()
        except OSError:
            return False
        return True

    def writable(self) -> bool:
        """Whether it is still there, and something can be written to it."""
        file = self.path / MANIFEST
        try:
            self.check()
            write_atomically(file, file.read_bytes())
        except OSError:
            return False
        return True

    def recorded(self) -> dict[str, str]:
        """The directory's name of each job that was begun here, by the job's key."""
        found = {}
        for file in self.path.rglob(STATUS):
            key = mapping(file).get("key")
            if isinstance(key, str):
                found[key] = file.parent.relative_to(self.path).as_posix()
        return found

    def write(self, manifest: Manifest) -> None:
        """Write `sweep.json`.

        Raises:
            ConfigError: the directory can't be written.
        """
        try:
            write_json(self.path / MANIFEST, asdict(manifest))
        except OSError as error:
            found = f"'{self.path}' ({error.strerror})"
            raise problem(DIR, "a directory that can be written", found) from None

    def jobs(self) -> tuple[Planned, ...]:
        """The jobs that `sweep.json` names."""
        manifest = read(self.path)
        return () if manifest is None else manifest.jobs

    def finished(self, job: Planned) -> bool:
        """Whether the job has completed, and its record is whole and here, not behind a link."""
        folder = self.path / job.directory
        return not folder.is_symlink() and complete(folder, job.key)


def complete(folder: Path, key: str) -> bool:
    """Whether a directory holds the result of the job with this key."""
    status = mapping(folder / STATUS)
    done = (status.get("state"), status.get("key")) == ("COMPLETED", key)
    return done and bool(mapping(folder / METRICS))


def mapping(file: Path) -> dict[str, Any]:
    """What a JSON file holds; nothing if it is absent or damaged."""
    try:
        content = json.loads(contents(file))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def open_directory(wanted: str, *, named: bool) -> SweepDirectory:
    """Claim a new directory, or take up the sweep in one that was named and is there.

    Args:
        wanted: the directory.
        named: whether the user named this very directory.

    Raises:
        ConfigError: it can't be created, another process has it, or it isn't a sweep's.
    """
    if not (named and wanted):
        return SweepDirectory(claim(wanted, DIR))
    check_name(wanted, DIR)
    path = Path(wanted).expanduser().absolute()
    if path.is_file():
        raise problem(DIR, "a directory", f"'{wanted}', which is a file")
    try:
        path.mkdir(parents=True, exist_ok=True)
        others = [e for e in path.iterdir() if e.name != LOCK and e.suffix != ".tmp"]
    except OSError as error:
        found = f"'{wanted}' ({error.filename}: {error.strerror})"
        raise problem(DIR, "a directory that can be written", found) from None
    # Looked at before it is locked: a lock is a file, and doesn't belong into somebody's folder.
    if others and not (path / MANIFEST).exists():
        found, hint = f"'{wanted}', which holds something else", "Choose a new or an empty one."
        raise problem(DIR, "a new directory, or a sweep's", found, hint)
    # What is wrong with a job's own directory is that job's matter.
    check_plain(entry for entry in path.iterdir() if entry.name in OWN)
    return SweepDirectory(path)


_READER = TypeAdapter(Manifest)


def read(path: Path) -> Manifest | None:
    """What a directory's `sweep.json` says, or None where there is none.

    Raises:
        ConfigError: it can't be read.
    """
    file = path / MANIFEST
    hint = "Run the sweep again in a new directory."
    try:
        manifest = _READER.validate_json(contents(file), strict=True)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise problem(str(file), "a file that can be read", f"{error.strerror}") from None
    except ValidationError as error:
        found = f"an error ({first_error(error)})"
        raise problem(str(file), "what a sweep recorded", found, hint) from None
    if outside := [job.directory for job in manifest.jobs if not is_inside(job.directory)]:
        expected = "directories of jobs within the sweep's"
        raise problem(str(file), expected, f"'{outside[0]}'", hint)
    return manifest


def is_inside(name: str) -> bool:
    """Whether a job's directory of this name lies within the sweep's, beside the sweep's files."""
    path = PurePath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or not name.isprintable():
        return False
    return path.parts[0] not in OWN and not path.match(".*.tmp")


def check_same(path: Path, earlier: Manifest, now: Manifest) -> None:
    """The jobs that a directory was made for must be among those that are asked for now.

    Where one of both chooses its jobs as it goes, what it was told must be the same, but for
    what says how to run them.

    Raises:
        ConfigError: they aren't: it is another sweep's, or the YAML has changed since.
    """
    same = of_jobs(earlier.overrides) == of_jobs(now.overrides)
    if not (earlier.jobs and now.jobs) and same:
        return
    wanted = {job.key for job in now.jobs}
    others = [job for job in earlier.jobs if job.key not in wanted]
    if earlier.jobs and not others:
        return
    why = "It was told something else."
    if others:
        asked = {of_jobs(job.overrides) for job in now.jobs}
        changed = [job for job in others if of_jobs(job.overrides) in asked]
        first = (changed or others)[0]
        what = f"(#{first.number}: {' '.join(first.overrides) or 'the default config'})"
        why = f"{len(others)} of its {len(earlier.jobs)} jobs aren't asked for now {what}. "
        why += "Values may be added or reordered, not left out."
        if changed:
            why = f"The YAML of {len(changed)} of its {len(earlier.jobs)} jobs has changed {what}."
    found = f"'{path}', of another one: {earlier.command}"
    raise problem(DIR, "this sweep's directory", found, f"{why} Choose a new directory.")


def of_jobs(overrides: Sequence[str]) -> tuple[str, ...]:
    """What overrides say of jobs, without what says how a sweep is run."""
    words = (word for word in overrides if not is_hydra(word))
    return tuple(sorted(word for word in words if not word.lstrip("+").startswith("sweep.")))


def is_hydra(word: str) -> bool:
    """Whether an override is of Hydra's own config."""
    return word.lstrip("+~").startswith(("hydra.", "hydra/"))


def places(
    directories: Mapping[str, str], jobs: Sequence[tuple[str, str]], root: Path
) -> list[str]:
    """A directory's name for each job: the one it had, or else the one it asks for if it is free.

    Args:
        directories: names of those that are taken, by the key of their job.
        jobs: the key of each, and the name that its config asks for.
        root: the sweep's directory, where some names may be those of files.

    Raises:
        ConfigError: a job asks for a directory within a file.
    """
    taken = set(directories.values())
    found = []
    for key, wanted in jobs:
        name, attempt = directories.get(key), 0
        if name is not None and _is_file(root / name):
            name = None  # somebody's file has taken its place
        if name is None and any(map(_is_file, (root / wanted).parents)):
            expected = "a directory's name"
            raise problem("hydra.sweep.subdir", expected, f"'{wanted}', of which a part is a file")
        while name is None:
            candidate = f"{wanted}-{attempt}" if attempt else wanted
            if candidate not in taken and not _is_file(root / candidate):
                name = candidate
            attempt += 1
        taken.add(name)
        found.append(name)
    return found


def _is_file(path: Path) -> bool:
    """Whether a directory can't be made here, as something else is."""
    return path.is_symlink() if not path.exists() else not path.is_dir()
