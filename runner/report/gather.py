"""Gather what the runs under a directory were asked, expected, measured and drew."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from math import ceil, inf
from pathlib import Path
from typing import Any

from runner import menu
from runner.config.errors import ConfigError, Problem, problem
from runner.expect import compact
from runner.tasks import Task
from runner.tracking.directory import STATUS, state
from runner.tracking.files import safe_name
from runner.tracking.status import Kind, Metrics, Status
from runner.tracking.status import read as read_record

SECTIONS = {
    "6_1": "6.1 From fully connected layers to convolutions",
    "6_2": "6.2 Convolutions for images",
    "6_3": "6.3 Padding and stride",
    "6_4": "6.4 Channels",
    "6_5": "6.5 Pooling",
    "6_6": "6.6 LeNet",
    "7": "7 Modern networks",
    "ops": "Operators",
}
"""Titles by folder of ``configs/experiment/``, the book's in its order; other folders follow."""

PICTURES = 4
"""How many pictures of a run are shown, at most."""

METRICS = "metrics.json"
FILES = METRICS, "plan.json", "run.log"

HOLDS, FAILS, DONE, FAILED = "holds", "does not hold", "done", "FAILED"
UNREADABLE = "UNREADABLE"
VERDICTS = {
    "FAILED": FAILED,
    "INTERRUPTED": "interrupted",
    "DEAD": "killed",
    "RUNNING": "running",
    UNREADABLE: "unreadable",
}
"""What a run that isn't completed is called, by its state."""


@dataclass(frozen=True)
class Check:
    """One expectation of a run: the metric, what was expected and measured, why it fails."""

    metric: str
    expected: str
    measured: str
    failure: str

    @property
    def holds(self) -> bool:
        """Whether the expectation is met."""
        return not self.failure


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        folder: its directory, relative to the report's, with forward slashes.
        experiment: the name of the experiment, or nothing.
        overrides: the overrides that not every run of the report has.
        section: the number of the book's section, such as ``6.2.1``, or nothing.
        question: what the experiment asks, from the header of its YAML.
        answer: what the header says about it.
        command: how to run it again.
        state: as in ``status.json``; DEAD where it was killed, UNREADABLE where that is damaged.
        reason: why it isn't completed.
        seconds: how long it took.
        checks: its expectations.
        pictures: paths relative to the report, with forward slashes, the best first.
        files: other files of its directory that are worth opening, by name.
        status: what ``status.json`` says, or None if it can't be read.
    """

    folder: str
    experiment: str = ""
    overrides: tuple[str, ...] = ()
    section: str = ""
    question: str = ""
    answer: str = ""
    command: str = ""
    state: str = UNREADABLE
    reason: str = ""
    seconds: float = 0.0
    checks: tuple[Check, ...] = ()
    pictures: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    status: Status | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The experiment, and what sets this run apart from the others."""
        return " ".join(filter(None, [self.experiment, *self.overrides])) or self.folder

    @property
    def verdict(self) -> str:
        """How it went, in a word or three."""
        if self.state != "COMPLETED":
            return VERDICTS.get(self.state, self.state)
        if not self.checks:
            return DONE
        return HOLDS if all(check.holds for check in self.checks) else FAILS

    @property
    def reasons(self) -> list[str]:
        """Why it failed, or which expectations don't hold."""
        failed = [f"{check.metric}: {check.failure}" for check in self.checks if not check.holds]
        return failed if self.state == "COMPLETED" else [r for r in [self.reason] if r]


@dataclass(frozen=True)
class Section:
    """The runs of one folder of experiments, in the book's order."""

    title: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Report:
    """Everything a report says.

    Attributes:
        sections: in the book's order.
        started: when the first run began.
        seconds: from there to the end of the last, in whole seconds, as files have them.
        facts: names to what is the same for all runs, or all there is: versions, device, threads.
    """

    sections: tuple[Section, ...]
    started: datetime
    seconds: int
    facts: dict[str, str]

    @property
    def entries(self) -> list[Entry]:
        """Every run."""
        return [entry for section in self.sections for entry in section.entries]

    @property
    def experiments(self) -> int:
        """How many different experiments there are."""
        return len({entry.experiment for entry in self.entries} - {""})


def tally(entries: Sequence[Entry]) -> str:
    """How many hold, and how many are anything else."""
    verdicts = [entry.verdict for entry in entries]
    if set(verdicts) == {DONE}:  # nothing was expected
        return f"{len(verdicts)} done"
    parts = [f"{verdicts.count(HOLDS)} of {len(verdicts)} hold"]
    for other in dict.fromkeys(verdict for verdict in verdicts if verdict != HOLDS):
        count = verdicts.count(other)
        parts.append(f"{count} {other if count == 1 else other.replace('does', 'do')}")
    return ", ".join(parts)


def gather(directory: Path) -> Report:
    """Read every run under a directory; one whose files are damaged doesn't hide the others.

    Raises:
        ConfigError: there is none, or none that can be read.
    """
    folders = sorted({path.parent for path in directory.rglob(STATUS)}, key=_natural)
    if not folders:
        hint = "A sweep's directory has some, and so has outputs/."
        raise problem("--report", "a directory with runs", f"'{directory}', which has none", hint)
    entries: list[Entry] = []
    problems: list[Problem] = []
    for folder in folders:
        try:
            entries.append(read(folder, directory))
        except ConfigError as error:
            name = folder.relative_to(directory).as_posix()
            entries.append(Entry(name, reason=str(error), files=_files(folder)))
            problems += error.problems
    spans = [_span(entry.status) for entry in entries if entry.status]
    if not spans:
        raise ConfigError(*problems)
    common = set.intersection(*(set(entry.overrides) for entry in entries if entry.status))
    entries = [
        replace(e, overrides=tuple(w for w in e.overrides if w not in common)) for e in entries
    ]
    started, ended = min(s for s, _ in spans), max(e for _, e in spans)
    seconds = ceil((ended - started).total_seconds())
    return Report(_sections(entries), started, seconds, _facts(entries))


def read(folder: Path, root: Path) -> Entry:
    """Read one run's directory.

    Args:
        folder: the run's.
        root: where the report is written; links start there.

    Raises:
        ConfigError: ``status.json`` can't be read.
    """
    status = _load(Status, folder / STATUS)
    now, reason, metrics = UNREADABLE, "", Metrics()
    try:
        now, reason = state(folder), status.reason or ""
        if (folder / METRICS).exists():
            metrics = _load(Metrics, folder / METRICS)
    except OSError as error:
        now, reason = UNREADABLE, f"{error.filename}: {error.strerror}"
    except ConfigError as error:
        now, reason = UNREADABLE, str(error)
    section, question, answer = parse_header(status.about or "")
    relative = folder.relative_to(root).as_posix()
    return Entry(
        folder=relative,
        experiment=status.experiment or "",
        overrides=tuple(
            word for word in status.overrides if word.lstrip("+").partition("=")[0] != "experiment"
        ),
        section=section,
        question=question,
        answer=answer,
        command=status.command,
        state=now,
        reason=reason,
        seconds=status.seconds,
        checks=tuple(map(_check, metrics.expectations)),
        pictures=tuple(
            f"{relative}/images/{name}"
            for name in choose((p.name for p in folder.glob("images/*")), _showcase(status))
        ),
        files=_files(folder),
        status=status,
    )


def _files(folder: Path) -> tuple[str, ...]:
    return tuple(name for name in FILES if (folder / name).exists())


def _load(kind: type[Kind], path: Path) -> Kind:
    try:
        return read_record(kind, path)
    except OSError as error:
        found = f"an error ({error.strerror})"
        raise problem(str(path), "a file that can be read", found) from None


def parse_header(text: str) -> tuple[str, str, str]:
    """Section number, question and answer of an experiment's header.

    ``6.2.1  What is it? 42.`` gives ``("6.2.1", "What is it?", "42.")``; what is missing is empty.
    ``6.2 exercises  …`` becomes ``6.2 ex.``.
    """
    found = re.match(r"(\d{1,9}(?:\.\d{1,9})*)( exercises?)?\s", text)
    section = "" if found is None else f"{found[1]} ex." if found[2] else found[1]
    question, mark, answer = text[found.end() if found else 0 :].strip().partition("?")
    return section, question + mark, answer.strip()


def choose(files: Iterable[str], showcase: Sequence[str]) -> list[str]:
    """The pictures to show: of the showcase's tags if there are any, else the first by name.

    A tag is drawn once for every step and once for every image: the film, or else the last step,
    stands for it.

    Args:
        files: names of the files in ``images/``.
        showcase: tags, best first; one that ends in ``/`` stands for all that begin with it.
    """
    by_tag: dict[str, str] = {}
    for name in sorted(files):
        stem, _, suffix = name.rpartition(".")
        if suffix in ("png", "gif"):
            tag = re.sub(r"_\d{6}$", "", stem)
            if not by_tag.get(tag, "").endswith(".gif"):
                by_tag[tag] = name
    chosen: dict[str, None] = {}
    for wanted in showcase:
        name = re.escape(safe_name(wanted))
        pattern = rf"{name}_.+" if wanted.endswith("/") else rf"{name}(_\d+)?"
        chosen |= dict.fromkeys(file for tag, file in by_tag.items() if re.fullmatch(pattern, tag))
    return list(chosen or by_tag.values())[:PICTURES]


def _showcase(status: Status) -> Sequence[str]:
    try:
        task = menu.find("runner.tasks", status.task or "", Task)  # type: ignore[type-abstract]  # a contract
    except ConfigError:
        task = None  # the run failed before it had a task, or the task is gone
    return task.showcase if task else ()


def _check(outcome: dict[str, Any]) -> Check:
    return Check(
        metric=str(outcome.get("metric")),
        expected=str(outcome.get("expected")),
        measured=compact(outcome.get("measured")),
        failure="" if outcome.get("holds") else str(outcome.get("failure")),
    )


def _sections(entries: Sequence[Entry]) -> tuple[Section, ...]:
    by_folder: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=_place):
        by_folder.setdefault(entry.experiment.rpartition("/")[0], []).append(entry)
    known = [folder for folder in SECTIONS if folder in by_folder]
    others = sorted(by_folder.keys() - SECTIONS.keys(), key=lambda folder: (not folder, folder))
    return tuple(
        Section(SECTIONS.get(folder, folder or "Others"), tuple(by_folder[folder]))
        for folder in [*known, *others]
    )


def _place(entry: Entry) -> list[float]:
    """Where a section stands in the book: 6.2.1 before 6.2.10, and exercises last."""
    number, exercises, _ = entry.section.partition(" ex.")
    return [int(n) for n in number.split(".") if n] + [inf] * bool(exercises)


def _facts(entries: Sequence[Entry]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for status in (entry.status for entry in entries if entry.status):
        for name, version in status.versions.items():
            found.setdefault(name, {})[version] = None
        for name, value in (("device", status.device), ("threads", status.threads)):
            if value is not None:
                found.setdefault(name, {})[str(value)] = None
    return {name: ", ".join(values) for name, values in found.items()}


def _span(status: Status) -> tuple[datetime, datetime]:
    started = datetime.fromisoformat(status.started)
    return started, started + timedelta(seconds=status.seconds)


def _natural(path: Path) -> list[str | int]:
    """Sorts job 2 before job 10."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]
