"""Take a run up again in its own directory: what it was told, and whether that still holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from runner.config.contents import contents
from runner.config.errors import ConfigError, Problem, describe, problem
from runner.config.plain import flat
from runner.config.recorded import check_recorded
from runner.config.untrusted import load_config
from runner.tracking.directory import LOCK, STATUS, state
from runner.tracking.files import STEPS
from runner.tracking.status import Resumable, read

FLAG = "--resume"


@dataclass(frozen=True)
class Recorded:
    """What a run's directory says of how the run was started.

    Attributes:
        directory: of the run, absolute.
        overrides: as on the command line.
        config_dir: the user's own config folder, or None.
        config_name: of the primary config.
        resumed: how often the run has been taken up again so far.
        started: when it first was, as recorded.
        seconds: that it has taken so far; of one that was killed, up to the last step it logged.
        job: its number, if it is a job of a sweep.
        key: what tells that job's config from the others'.
        given: whether the user gave the overrides besides.
    """

    directory: Path
    overrides: list[str]
    config_dir: str | None
    config_name: str
    resumed: int
    started: str
    seconds: float
    job: int | None = None
    key: str | None = None
    given: bool = False

    @property
    def measured(self) -> bool:
        """Whether the run came so far that it could measure something."""
        return (self.directory / STEPS).exists()

    def check_words(self) -> None:
        """Refuse what could run code, unless the user has said it too.

        That is done before anything is composed: composing imports what a search path names.

        Raises:
            ConfigError: everything that is refused.
        """
        if not self.given:
            check_recorded(
                self.overrides, self.config_dir, self.config_name, self.directory / STATUS
            )

    def check(self, config: DictConfig) -> None:
        """The config that the overrides give now must be the one that the run had.

        Args:
            config: the composed config; its ``hydra`` and ``sweep`` nodes aren't looked at.

        Raises:
            ConfigError: every value that differs, by path.
        """
        if not self.measured:  # perhaps not even its config was written; it is begun anew
            return
        path = self.directory / ".hydra" / "config.yaml"
        if not path.is_file():
            raise problem(FLAG, f"a recorded config at {path}", "no such file")
        before, now = (
            {key: value for key, value in flat(one).items() if not key.startswith("sweep.")}
            for one in (load_config(path), config)
        )
        found = [
            Problem(
                key,
                f"{_told(before, key)}, as {path} has it",
                _told(now, key),
                "The YAML has changed since; start a new run.",
            )
            for key in [*before, *(key for key in now if key not in before)]
            if _told(before, key) != _told(now, key)
        ]
        if found:
            raise ConfigError(*found)


def recorded(folder: str | Path, overrides: Sequence[str]) -> Recorded:
    """Read what is needed to resume the run in a directory.

    Args:
        folder: the run's directory.
        overrides: given besides; none, or the very ones that are recorded.

    Raises:
        ConfigError: no run's directory, a run that is completed or still running, or other words.
    """
    path = Path(folder).expanduser().absolute()
    if overrides and list(overrides) != _overrides(path):
        hint = "A resumed run is told what it was told before; for anything else start a new one."
        raise problem(FLAG, "no overrides besides", " ".join(overrides), hint)
    status = _status(folder, path)
    try:
        now = state(path)
    except OSError as error:
        found = f"'{folder}' ({error.filename}: {error.strerror})"
        raise problem(FLAG, "a run's directory", found) from None
    if now == "COMPLETED":
        hint = f"Run it anew: {status.command}"
        raise problem(FLAG, "a run that was interrupted, killed or failed", "a completed one", hint)
    if now == "RUNNING":
        found = f"one that is still running (process {status.pid})"
        raise problem(FLAG, "a run that was interrupted, killed or failed", found)
    return Recorded(
        path,
        list(status.overrides),
        status.config_dir,
        status.config_name,
        status.resumed,
        status.started,
        status.seconds + (_unrecorded(path) if now == "DEAD" else 0.0),
        status.job,
        status.key,
        bool(overrides),
    )


def _overrides(path: Path) -> Any:
    """What status.json says that the run was told, if it says so."""
    try:
        return json.loads(contents(path / STATUS))["overrides"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _status(folder: str | Path, path: Path) -> Resumable:
    """What status.json says, which must be all that resuming needs."""
    try:
        return read(Resumable, path / STATUS)
    except OSError:
        hint = _newest(path) or _nothing(path)
        raise problem(FLAG, "a run's directory", _instead(folder, path), hint) from None


def _unrecorded(path: Path) -> float:
    """Seconds from the last record of a killed run to the last step that it logged."""
    try:
        return max(0.0, (path / STEPS).stat().st_mtime - (path / STATUS).stat().st_mtime)
    except OSError:
        return 0.0


def _instead(folder: str | Path, path: Path) -> str:
    if not path.exists():
        return f"'{folder}', which does not exist"
    return f"'{folder}', which " + ("has no " + STATUS if path.is_dir() else "is a file")


def _newest(path: Path) -> str:
    """The newest run below a folder that was given instead of a run's own."""
    found = [file for depth in ("*", "*/*") for file in path.glob(f"{depth}/{STATUS}")]
    if not found:
        return ""
    newest = max(found, key=lambda file: file.stat().st_mtime)
    return f"The newest run in it is {newest.parent}."


def _nothing(path: Path) -> str:
    """What to do about a directory that was made for a run, and no more."""
    bare = path.is_dir() and all(one.name == LOCK or one.suffix == ".tmp" for one in path.iterdir())
    return "Nothing was begun there: start the run anew." if bare else ""


def _told(values: dict[str, Any], key: str) -> str:
    return describe(values[key]) if key in values else "no such key"
