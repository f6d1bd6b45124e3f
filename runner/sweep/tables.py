"""A sweep's summary as tables of text: of settings and of the jobs that didn't complete."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from runner.expect import compact
from runner.sweep.findings import COLUMNS, Setting, Statistic, Summary, sign_of
from runner.sweep.records import FAILS, Record
from runner.sweep.varied import FEW, SEED, assignments, in_order, short_names, shown, some, value
from runner.tracking.scales import rounded

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        headings: one per column.
        rows: as many cells each.
        numbers: how many columns from the right hold numbers, the last of all aside.
        best: index of the best row, or None.
        more: how many rows were left out.
    """

    headings: list[str]
    rows: list[list[str]]
    numbers: int = 0
    best: int | None = None
    more: int = 0


def settings_table(summary: Summary, rows: int, metrics: int) -> Table:
    """The settings: values, metrics as mean ± standard deviation, and what is to be said of each.

    Args:
        summary: of the sweep.
        rows: how many settings at most; where there are more, the best come first.
        metrics: how many metrics at most.
    """
    chosen = summary.metrics[:metrics]
    every = (Setting({}, summary.records),) if summary.same else summary.settings
    listed = ranked(summary)[:rows] if len(every) > rows else list(every)
    counted = summary.aggregated or summary.same
    names = () if summary.same else summary.names.values()
    headings = [*names, "jobs" if counted else "job", *chosen, ""]
    columns = [_aligned([_cell(setting, metric) for setting in listed]) for metric in chosen]
    cells = [
        [
            *map(shown, setting.values.values()),
            _count(setting) if counted else setting.jobs[0].name,
            *(column[i] for column in columns),
            _remark(setting, best=setting is summary.best),
        ]
        for i, setting in enumerate(listed)
    ]
    best = next((i for i, setting in enumerate(listed) if setting is summary.best), None)
    return Table(headings, cells, len(chosen), best, len(every) - len(listed))


def trouble_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Of each kind of trouble: the state, which jobs, their values, and the reason."""
    short = short_names(summary.varied)
    return [
        (
            jobs[0].state,
            some([job.name for job in jobs]),
            " ".join(
                f"{short[name]}={_listed([value(job, name) for job in jobs])}" for name in short
            ),
            reason(jobs),
        )
        for jobs in troubles(summary, FEW)
    ]


def troubles(summary: Summary, few: int) -> list[list[Record]]:
    """The jobs that went wrong, by state and by reason.

    Args:
        summary: of the sweep.
        few: how many reasons that differ in nothing but numbers are told apart, at most; where
            there are more, their jobs are one kind.
    """
    kinds: dict[tuple[str, str], dict[str, list[Record]]] = {}
    for job in summary.troubled:
        kind = kinds.setdefault((job.state, re.sub(r"[\d.,e+-]*\d", "0", job.reason)), {})
        kind.setdefault(job.reason, []).append(job)
    found: list[list[Record]] = []
    for reasons in kinds.values():
        apart = list(reasons.values())
        found += apart if len(apart) <= few else [[job for jobs in apart for job in jobs]]
    return found


def reason(jobs: Sequence[Record]) -> str:
    """Why jobs of one kind went wrong: the first one's reason, which says so if others differ."""
    first = jobs[0]
    if all(job.reason == first.reason for job in jobs):
        return first.reason
    return f"{first.reason} ({first.name}; the others alike, with other numbers)"


def not_started(summary: Summary) -> str:
    """``Not started: 42 (#7, #8, #9 and 39 more)``; nothing if every job was."""
    names = [job.name for job in summary.absent]
    return f"Not started: {len(names)} ({some(names)})" if names else ""


def overall(summary: Summary, metrics: int) -> str:
    """Metrics over all jobs, in a line, where nothing but the seed varied; else nothing."""
    if summary.varied != (SEED,):
        return ""
    jobs = Setting({}, summary.records)
    if summary.same:
        return f"All {len(jobs.sample)} seeds give the same."
    found = [f"{m} {measured(one)}" for m in summary.metrics[:metrics] if (one := jobs.over(m))]
    seeds = "1 seed" if len(jobs.sample) == 1 else f"{len(jobs.sample)} seeds"
    return f"Over {seeds}: {', '.join(found)}" if found else ""


def best_line(summary: Summary) -> str:
    """What is best, in a line; nothing if nothing is."""
    best, objective = summary.best, summary.objective
    if best is None or objective is None or summary.same:
        return ""
    found = best.over(objective.metric)
    assert found is not None
    name = assignments(summary.names, best.values) or best.jobs[0].name
    word = "smallest" if objective.goal == "min" else "largest"
    head = "Best so far" if summary.unfinished else "Best"
    ties = f", and {summary.tied} equal" if summary.tied else ""
    return f"{head} ({word} {objective.metric}): {name}: {measured(found)}{ties}"


def best_command(summary: Summary) -> tuple[str, str]:
    """What the best setting's best run is called, and the command that runs it again alone."""
    best, job = summary.best, summary.best_job
    if best is None or job is None or not job.command:
        return "", ""
    one = "best run" if len(best.done) > 1 else "run"
    return f"Its {one} ({job.name}):", _alone(job.command)


def _alone(command: str) -> str:
    """A job's command without what it says of its sweep."""
    try:
        words = shlex.split(command)
    except ValueError:  # written by another, with a quote that isn't closed
        return command
    kept = [word for word in words if not word.lstrip("+~").startswith("sweep.")]
    return command if len(kept) == len(words) else shlex.join(kept)


def measured(found: Statistic) -> str:
    """``0.05766 ± 0.017``; large numbers in full: ``61,706``."""
    mean, deviation = found.mean, found.deviation
    if found.truths and found.count == 1:
        return compact(bool(mean))
    if deviation is None:
        return rounded(mean, 5)
    return f"{rounded(mean, 4 if deviation else 5)} ± {rounded(deviation, 2)}"


def to_csv(summary: Summary) -> str:
    """A row per job, nothing left out, as RFC 4180 has it.

    Spreadsheets compute cells that begin as formulas do: such text begins with an apostrophe here.
    """
    metrics = dict.fromkeys(name for record in summary.records for name in record.metrics)
    taken = {*COLUMNS, *summary.varied}
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    rows: list[list[Any]] = [
        [
            *("job", "directory", "state", "seconds"),
            *summary.varied,
            *(f"metric/{name}" if name in taken else name for name in metrics),
            "reason",
        ]
    ]
    for record in summary.records:
        rows.append(
            [
                *(record.number, record.directory, record.state, record.seconds),
                *(_exact(value(record, name)) for name in summary.varied),
                *(_exact(record.metrics.get(name)) for name in metrics),
                record.reason,
            ]
        )
    writer.writerows([_no_formula(cell) for cell in row] for row in rows)
    return buffer.getvalue()


def _no_formula(cell: Any) -> Any:
    """A cell that no spreadsheet computes: see https://owasp.org/www-community/attacks/CSV_Injection."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _exact(found: Any) -> Any:
    """A value as it can be read back; what is absent is empty."""
    return json.dumps(found, default=str) if isinstance(found, bool | list | dict) else found


def ranked(summary: Summary) -> list[Setting]:
    """The settings, the best first; the order stays where nothing ranks them."""
    objective = summary.objective
    if objective is None:
        return list(summary.settings)

    def place(setting: Setting) -> tuple[bool, bool, float]:
        found = setting.over(objective.metric)
        number = sign_of(objective) * found.mean if found and isfinite(found.mean) else 0.0
        return (
            found is None or not isfinite(found.mean),
            not setting.ranks(objective.metric),
            number,
        )

    return sorted(summary.settings, key=lambda s: (s is not summary.best, place(s)))


def _listed(values: Sequence[Any]) -> str:
    """``0.01,0.02,…``: as in a sweep's override."""
    texts = list(map(shown, in_order(values)))
    return ",".join([*texts[:FEW], "…"] if len(texts) > FEW + 1 else texts)


def _count(setting: Setting) -> str:
    """How many jobs are done, of how many."""
    done, count = len(setting.done), len(setting.jobs)
    return str(count) if done == count else f"{done}/{count}"


def _aligned(cells: Sequence[str]) -> list[str]:
    """Numbers with their points below each other, and their deviations too."""
    parts = [cell.partition(" ± ") for cell in cells]
    before = [len(mean.partition(".")[0]) for mean, _, _ in parts]
    means = [" " * (max(before) - n) + mean for n, (mean, _, _) in zip(before, parts, strict=True)]
    width = max(map(len, means))
    return [
        f"{mean:<{width}}{sign}{deviation}".rstrip()
        for mean, (_, sign, deviation) in zip(means, parts, strict=True)
    ]


def _cell(setting: Setting, metric: str) -> str:
    found = setting.over(metric)
    return "–" if found is None else measured(found)


def _remark(setting: Setting, *, best: bool) -> str:
    return ", ".join(["best"] * best + list(_states(setting)))


def _states(setting: Setting) -> Iterator[str]:
    states = [job.state for job in setting.jobs if not job.counts or job.state == FAILS]
    for state in dict.fromkeys(states):
        count = states.count(state)
        yield state if len(setting.jobs) == 1 else f"{count} {state}"
