"""What the files of a sweep say about each of its jobs.

A damaged or missing file of one job never hides the others: that job's record says what is wrong.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any, TypeGuard

from runner.config.contents import contents
from runner.sweep.manifest import MANIFEST, is_hydra, is_inside
from runner.tracking.directory import STATUS, state

COMPLETED, FAILS, FAILED, UNREADABLE = "completed", "does not hold", "failed", "unreadable"
ABSENT, SKIPPED = "not started", "skipped"
WORDS = {
    "COMPLETED": COMPLETED,
    "FAILED": FAILED,
    "INTERRUPTED": "interrupted",
    "DEAD": "killed",
    "RUNNING": "running",
}
"""What the states of a run's directory are called."""

Number = bool | int | float

DIGITS = 18
"""Of a number in a directory's name, at most; Python reads no more than some thousands."""


@dataclass(frozen=True)
class Record:
    """One job, as its files tell.

    Attributes:
        number: of the job in its sweep, or None where no file says.
        directory: relative to the sweep's, with forward slashes.
        state: ``completed``, ``does not hold`` (an expectation fails), ``failed``,
            ``interrupted``, ``killed``, ``running``, ``not started``, ``skipped`` (its config is
            wrong) or ``unreadable``.
        task: what it did.
        seconds: how long it took, or None where no file says.
        reason: why it isn't completed, or what doesn't hold.
        overrides: of the command line, for this job.
        command: that runs the job again.
        values: parameters by dotted path, and choices of config groups by the group's name.
        whole: whether these are all values; if not, they are those that the overrides name.
        metrics: those that are single numbers.
        expected: names of the metrics that something was expected of.
    """

    number: int | None
    directory: str
    state: str
    task: str = ""
    seconds: float | None = None
    reason: str = ""
    overrides: tuple[str, ...] = ()
    command: str = ""
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    whole: bool = False
    metrics: Mapping[str, Number] = field(default_factory=dict)
    expected: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether its metrics are final."""
        return self.state in (COMPLETED, FAILS)

    @property
    def name(self) -> str:
        """``#3``, or the directory of a job without a number."""
        return self.directory if self.number is None else f"#{self.number}"


def read_manifest(directory: Path) -> tuple[dict[str, Any], str]:
    """What sweep.json says, and what is wrong with it if it can't be read."""
    if not (directory / MANIFEST).exists():
        return {}, ""
    content, complaint = _load(directory / MANIFEST)
    return content, complaint


def collect(directory: Path, manifest: Mapping[str, Any]) -> list[Record]:
    """Every job that the manifest names or whose directory is there, by number.

    Args:
        directory: of the sweep, or any folder with runs.
        manifest: what sweep.json says; may be empty.
    """
    records: dict[str, Record] = {}
    for job in _mappings(manifest.get("jobs")):
        folder = str(job.get("directory") or job.get("number"))
        if is_inside(folder):
            records[folder] = read_job(directory / folder, folder, job)
        else:
            reason = f"{MANIFEST} gives it a directory that isn't within the sweep's"
            records[folder] = replace(_planned(folder, job), state=UNREADABLE, reason=reason)
    for path in _runs(directory):
        folder = path.relative_to(directory).as_posix()
        if folder not in records:
            records[folder] = read_job(path, folder, {})
    skipped = [
        Record(
            _integer(job.get("number")),
            "",
            SKIPPED,
            reason="\n".join(map(str, _list(job.get("problems")))),
            overrides=tuple(map(str, _list(job.get("overrides")))),
            values=_from_overrides(_list(job.get("overrides"))),
        )
        for job in _mappings(manifest.get("skipped"))
    ]
    found = [*records.values(), *skipped]
    numbers = [record.number for record in found]
    if not manifest and len(set(numbers)) < len(numbers):
        # Runs of several sweeps: their numbers tell nothing.
        found = [replace(record, number=None) for record in found]
    return sorted(found, key=_natural)


def _runs(directory: Path) -> Iterator[Path]:
    """The directories of runs below one; a run's own folders aren't looked into."""
    for root, folders, files in os.walk(directory):
        if STATUS in files:
            folders.clear()
            yield Path(root)


def read_job(path: Path, folder: str, job: Mapping[str, Any]) -> Record:
    """One job's record; of what can't be read, why.

    Args:
        path: its directory.
        folder: the same, relative to the sweep's.
        job: what sweep.json says of it; may be empty.
    """
    planned = _planned(folder, job)
    try:
        return _recorded(path, planned) if (path / STATUS).exists() else planned
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return replace(planned, state=UNREADABLE, reason=f"its directory can't be read: {why}")


def _planned(folder: str, job: Mapping[str, Any]) -> Record:
    """The record of a job that has no files."""
    number, words = _integer(job.get("number")), tuple(map(str, _list(job.get("overrides"))))
    if number is None and folder.isdecimal():
        number = int(folder[:DIGITS])
    values = _from_overrides(words)
    return Record(number, _printable(folder), ABSENT, overrides=words, values=values)


def _recorded(path: Path, planned: Record) -> Record:
    """The record of a job that was begun."""
    status, complaint = _load(path / STATUS)
    now, wrong = _state(path, status)
    complaint = complaint or wrong
    metrics: dict[str, Any] = {}
    if now == COMPLETED:
        metrics, damage = _load(path / "metrics.json")
        complaint = complaint or damage
    outcomes = list(_mappings(metrics.get("expectations")))
    failures = [f"{o.get('metric')}: {o.get('failure')}" for o in outcomes if not o.get("holds")]
    words = tuple(map(str, _list(status.get("overrides")))) or planned.overrides
    parameters, choices = status.get("parameters"), status.get("choices")
    whole = isinstance(parameters, dict)
    values = dict(parameters) if isinstance(parameters, dict) else _from_overrides(words)
    if whole and isinstance(choices, dict):
        values |= {key: value for key, value in choices.items() if not key.startswith("hydra/")}
    seconds = status.get("seconds")
    return Record(
        number=_integer(status.get("job")) if planned.number is None else planned.number,
        directory=planned.directory,
        state=UNREADABLE if complaint else FAILS if failures else now,
        task=str(status.get("task") or ""),
        seconds=seconds if isinstance(seconds, int | float) else None,
        reason=complaint or "; ".join(failures) or str(status.get("reason") or _silence(now)),
        overrides=words,
        command=str(status.get("command") or ""),
        values=values,
        whole=whole,
        metrics={k: n for k, v in metrics.items() if (n := _number(v)) is not None},
        expected=tuple(str(o.get("metric")) for o in outcomes),
    )


def _load(path: Path) -> tuple[dict[str, Any], str]:
    """A JSON file's mapping, and what is wrong with the file, or nothing."""
    try:
        content = _printable(json.loads(contents(path)))
    except OSError as error:
        return {}, f"{path.name} can't be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        return {}, f"{path.name} is damaged: {error}"
    if not isinstance(content, dict):
        return {}, f"{path.name} is damaged: it is no mapping"
    return content, ""


_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a terminal's cursor, turns text round, or can't be written in UTF-8."""


def _printable(data: Any) -> Any:
    """The same data, in whose text only lines and tabs are left of what a terminal obeys."""
    if isinstance(data, str):
        return data if data.isprintable() else _UNPRINTABLE.sub("\ufffd", data)
    if isinstance(data, dict):
        return {_printable(key): _printable(value) for key, value in data.items()}
    return list(map(_printable, data)) if isinstance(data, list) else data


def _state(path: Path, status: Mapping[str, Any]) -> tuple[str, str]:
    """What a run's state is called, and what is wrong with it, or nothing."""
    recorded = status.get("state")
    if recorded == "RUNNING":
        try:
            recorded = state(path)  # it may have been killed
        except (OSError, ValueError, LookupError, TypeError) as error:
            return UNREADABLE, f"its state can't be told: {error}"
    if not isinstance(recorded, str) or recorded not in WORDS:
        return UNREADABLE, f"{STATUS} has no valid state"
    return WORDS[recorded], ""


def _silence(now: str) -> str:
    """Why a run that could not say so itself ended."""
    return "its process is gone: killed, or out of memory" if now == WORDS["DEAD"] else ""


def _number(value: Any) -> Number | None:
    """A metric that is a single number; JSON has those that aren't finite as text."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    if not is_number(value) and not isinstance(value, bool):
        return None
    try:
        float(value)
    except OverflowError:  # an integer beyond every float
        return inf if value > 0 else -inf
    return value


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _from_overrides(words: list[Any] | tuple[str, ...]) -> dict[str, Any]:
    """Values by path, as far as a job's overrides tell them."""
    told = [str(word).lstrip("+") for word in words]
    pairs = [word.partition("=") for word in told if not is_hydra(word)]
    return {key: _value(text) for key, mark, text in pairs if mark}


def _value(text: str) -> Any:
    """An override's value: a number, a truth, a list, or text without its quotes."""
    try:
        return json.loads(text)
    except ValueError:
        pass
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        return text[1:-1]
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)


def _natural(record: Record) -> tuple[bool, int, list[str | int]]:
    """By number, and those without one by name, in which 2 is before 10."""
    parts: list[str | int] = list(re.split(rf"(\d{{1,{DIGITS}}})", record.directory))
    parts[1::2] = map(int, parts[1::2])
    return record.number is None, record.number or 0, parts


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    return (entry for entry in _list(value) if isinstance(entry, dict))
