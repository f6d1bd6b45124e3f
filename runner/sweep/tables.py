"""A sweep's summary as tables of text: of settings and of the jobs that didn't complete."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from runner.expect import compact
from runner.sweep.findings import COLUMNS, Setting, Statistic, Summary, sign_of
from runner.sweep.records import FAILS, Record
from runner.sweep.varied import FEW, SEED, assignments, in_order, short_names, shown, some, value


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
    listed = list(summary.settings)
    if len(listed) > rows:
        listed = ranked(summary)[:rows]
    counted = summary.aggregated
    headings = [*summary.names.values(), "jobs" if counted else "job", *chosen, ""]
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
    return Table(headings, cells, len(chosen), best, len(summary.settings) - len(listed))


def trouble_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Of each kind of trouble: the state, which jobs, their values, and the first one's reason."""
    short = short_names(summary.varied)
    return [
        (
            jobs[0].state,
            some([job.name for job in jobs]),
            " ".join(
                f"{short[name]}={_listed([value(job, name) for job in jobs])}" for name in short
            ),
            jobs[0].reason,
        )
        for jobs in troubles(summary)
    ]


def troubles(summary: Summary) -> list[list[Record]]:
    """The jobs that didn't complete, by state and by reason; numbers make no difference."""
    kinds: dict[tuple[str, str], list[Record]] = {}
    for job in summary.troubled:
        kinds.setdefault((job.state, re.sub(r"[\d.,e+-]*\d", "0", job.reason)), []).append(job)
    return list(kinds.values())


def overall(summary: Summary, metrics: int) -> str:
    """Metrics over all jobs, in a line, where nothing but the seed varied; else nothing."""
    if summary.varied != (SEED,):
        return ""
    jobs = Setting({}, summary.records)
    found = [f"{m} {measured(one)}" for m in summary.metrics[:metrics] if (one := jobs.over(m))]
    return f"Over {len(jobs.done)} seeds: {', '.join(found)}" if found else ""


def best_line(summary: Summary) -> str:
    """What is best, in a line; nothing if nothing is."""
    best, objective = summary.best, summary.objective
    if best is None or objective is None:
        return ""
    found = best.over(objective.metric)
    assert found is not None
    name = assignments(summary.names, best.values) or best.jobs[0].name
    word = "smallest" if objective.goal == "min" else "largest"
    return f"Best ({word} {objective.metric}): {name}: {measured(found)}"


def measured(found: Statistic) -> str:
    """``0.05766 ± 0.017``."""
    mean, deviation = found.mean, found.deviation
    if found.truths and found.count == 1:
        return compact(bool(mean))
    if deviation is not None:
        return f"{mean:.4g} ± {deviation:.2g}"
    return f"{mean:,.0f}" if mean.is_integer() and abs(mean) < 1e9 else f"{mean:.5g}"


def to_csv(summary: Summary) -> str:
    """A row per job, nothing left out, as RFC 4180 has it."""
    metrics = dict.fromkeys(name for record in summary.records for name in record.metrics)
    taken = {*COLUMNS, *summary.varied}
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(
        [
            *("job", "directory", "state", "seconds"),
            *summary.varied,
            *(f"metric/{name}" if name in taken else name for name in metrics),
            "reason",
        ]
    )
    for record in summary.records:
        writer.writerow(
            [
                *(record.number, record.directory, record.state, record.seconds),
                *(_exact(value(record, name)) for name in summary.varied),
                *(_exact(record.metrics.get(name)) for name in metrics),
                record.reason,
            ]
        )
    return buffer.getvalue()


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
