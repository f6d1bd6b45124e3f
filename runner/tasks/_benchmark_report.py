"""A benchmark's results as text for the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from runner.geometry import elements
from runner.plan import ITEM_BYTES
from runner.readable import readable_bytes
from runner.tasks._benchmark_cases import Case
from runner.tasks._benchmark_subjects import COPY, Verdict
from runner.tasks._benchmark_timing import NOISY, Statistics
from runner.tasks._roofline import Roofs

TITLES = {"forward": "forward", "both": "forward + backward"}
WIDTH = 80
LEGEND = (
    "ms: median of the rounds, ±% half their interquartile range; ratio: native's ms / these; "
    "extra: memory seen to be taken besides input and output. GFLOP/s count what the definition "
    "computes; fft and winograd need fewer multiplications, and may exceed that."
)


@dataclass(frozen=True)
class Entry:
    """One operator, or yardstick, in one pass over one case.

    Attributes:
        case: the case.
        name: of the operator or yardstick.
        which: the pass.
        is_operator: and not a yardstick.
        verdict: whether it is right.
        statistics: of its times; None where it is wrong.
        workspace: bytes that it says it needs besides input and output; None if it doesn't say.
        extra: bytes that it was seen to take besides input and output; None where unknown.
        chose: what `auto` took.
    """

    case: Case
    name: str
    which: str
    is_operator: bool
    verdict: Verdict
    statistics: Statistics | None = None
    workspace: int | None = None
    extra: int | None = None
    chose: str = ""

    @property
    def noisy(self) -> bool:
        """Whether its ratio says little; native's own is 1."""
        found = self.statistics
        return found is not None and self.name != "native" and found.noisy

    @property
    def passes(self) -> int:
        """Computations of the forward pass's size: the gradients are one or two more."""
        return 1 if self.which == "forward" else 2 + (self.case.layer.kind == "conv")

    @property
    def operations(self) -> int:
        """Additions and multiplications by the definition."""
        return 0 if self.name == COPY else self.passes * self.case.operations

    @property
    def moved(self) -> int:
        """Bytes that each computation must read or write: what goes in and what comes out, once."""
        size = ITEM_BYTES[self.case.dtype]
        if self.name == COPY:
            return 2 * size * self.case.batch * elements(self.case.x)
        return self.passes * size * self.case.numbers

    @property
    def footprint(self) -> int:
        """Bytes of a forward pass, by which it fits a cache or doesn't."""
        return self.case.numbers * ITEM_BYTES[self.case.dtype]

    def to_dict(self, roofs: Roofs) -> dict[str, Any]:
        """Plain data."""
        row: dict[str, Any] = {
            "case": self.case.name,
            "layer": self.case.window,
            "batch": self.case.batch,
            "input": str(self.case.x),
            "output": str(self.case.y),
            "op": self.name,
            "operator": self.is_operator,
            "pass": self.which,
            "correct": not self.verdict.failure,
            "failure": self.verdict.failure or None,
            "error_relative": self.verdict.relative,
            "error_largest": self.verdict.largest,
            "operations": self.operations,
            "bytes": self.moved,
        }
        found = self.statistics
        row |= {
            "rounds": found and found.rounds,
            "median_ms": found and found.median * 1e3,
            "spread": found and found.spread,
            "ratio": found and found.ratio,
            "ratio_paired": found and found.paired,
            "ratio_spread": found and found.ratio_spread,
            "noisy": self.noisy,
            "gflop_per_s": found and self.operations / found.median / 1e9,
            "gb_per_s": found and self.moved / found.median / 1e9,
            "roof_fraction": found
            and roofs.fraction(self.operations, self.moved, found.median, self.footprint),
        }
        return row | {
            "extra_bytes": self.extra,
            "workspace_bytes": self.workspace,
            "chose": self.chose or None,
        }


def points(entries: Sequence[Entry], which: str) -> dict[str, list[tuple[float, float]]]:
    """By name: operations per byte, and giga-operations per second of each case."""
    found: dict[str, list[tuple[float, float]]] = {}
    for entry in entries:
        if entry.which == which and entry.statistics is not None and entry.operations:
            speed = entry.operations / entry.statistics.median / 1e9
            found.setdefault(entry.name, []).append((entry.operations / entry.moved, speed))
    return found


def to_csv(rows: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> bytes:
    """A line per operator, pass and case; the machine's facts are repeated in each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0], *machine], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, **machine} for row in rows)
    return text.getvalue().encode()


def block(case: Case, entries: Sequence[Entry], left_out: Mapping[str, str]) -> list[str]:
    """One case for the terminal: a line per operator, at most `WIDTH` wide."""
    passes = list(dict.fromkeys(entry.which for entry in entries))
    by_key = {(entry.name, entry.which): entry for entry in entries}
    first, *others = passes
    heads = f"{'':12} {TITLES[first]:^36}" + "".join(f"{TITLES[one]:^20}" for one in others)
    columns = f"{'':12} {_HEAD}   GB/s GFLOP/s" + "".join(f"  {_HEAD}" for _ in others)
    lines = [f"{case.name}: {case}", heads.rstrip(), f"{columns}      extra"]
    for name in dict.fromkeys(entry.name for entry in entries):
        found = [by_key.get((name, which)) for which in passes]
        there = [entry for entry in found if entry is not None]
        if failure := there[0].verdict.failure:
            lines.append(f"{name:12} WRONG: {failure}")
            continue
        if there[0].statistics is None:
            lines.append(f"{name:12} not timed, as native, the yardstick, is wrong")
            continue
        cells = f"{_time(found[0])} {_rates(found[0])}" + "".join(
            f"  {_time(e)}" for e in found[1:]
        )
        extra = "" if there[-1].extra is None else readable_bytes(there[-1].extra)
        lines.append(f"{name:12} {cells} {extra:>10}".rstrip())
        if chose := there[-1].chose:
            lines.append(f"  took {chose}")
    return lines + [f"{name:12} left out: {reason}" for name, reason in left_out.items()]


_HEAD = f"{'ms':>7} {'±%':>3} {'ratio':>6}"


def _time(entry: Entry | None) -> str:
    """Median, half the interquartile range, and ratio."""
    if entry is None or entry.statistics is None:
        return " " * len(_HEAD)
    found = entry.statistics
    spread = "" if found.spread is None else f"{min(50 * found.spread, 999):.0f}"
    return f"{_digits(found.median * 1e3):>7} {spread:>3} {_ratio(entry):>6}"


def _rates(entry: Entry | None) -> str:
    """What is moved and computed per second."""
    if entry is None or entry.statistics is None:
        return " " * 14
    seconds = entry.statistics.median
    flops = f"{entry.operations / seconds / 1e9:.1f}" if entry.operations else ""
    return f"{entry.moved / seconds / 1e9:>6.1f} {flops:>7}"


def _digits(value: float) -> str:
    """Three significant digits, more where they stand before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def ratios(entries: Sequence[Entry], which: str) -> dict[str, dict[str, float]]:
    """By case and name, the yardstick's time per one's own."""
    found: dict[str, dict[str, float]] = {}
    for entry in entries:
        if entry.which == which and entry.statistics is not None:
            found.setdefault(entry.case.name, {})[entry.name] = entry.statistics.ratio
    return found


def summary(entries: Sequence[Entry], passes: Sequence[str]) -> dict[str, Any]:
    """Metrics: by pass, `auto`'s ratios, the best operator's, and their geometric means."""
    metrics: dict[str, Any] = {}
    operators = {entry.name for entry in entries if entry.is_operator}
    for which in passes:
        by_case = ratios(entries, which)
        best = {
            case: max(ratio for name, ratio in found.items() if name in operators)
            for case, found in by_case.items()
        }
        auto = {case: found["auto"] for case, found in by_case.items() if "auto" in found}
        for name, found in (("best", best), ("auto", auto)):
            if found:
                metrics[f"{name}_{which}"] = geometric_mean(list(found.values()))
        if auto:
            metrics[f"auto_{which}_least"] = min(auto.values())
            metrics[f"auto_{which}_cases"] = len(auto)
        metrics[f"ratios_{which}"] = by_case
    return metrics


def geometric_mean(values: Sequence[float]) -> float:
    """The mean that treats twice as fast and twice as slow alike."""
    return exp(sum(map(log, values)) / len(values))


def _columns(entries: Sequence[Entry], which: str) -> list[str]:
    """Names with results in a pass, operators first; native is 1, and a copy computes nothing."""
    names = {entry.name: entry.is_operator for entry in entries if entry.which == which}
    names = {name: own for name, own in names.items() if name not in ("native", COPY)}
    return sorted(names, key=lambda name: not names[name])


def _table(entries: Sequence[Entry], which: str) -> Iterator[list[str]]:
    """A row per case: its name, and everything's ratio; last the means of what did all cases."""
    columns = _columns(entries, which)
    yield ["case", *columns]
    by_key = {(entry.case.name, entry.name): entry for entry in entries if entry.which == which}
    for case in dict.fromkeys(entry.case.name for entry in entries):
        yield [case, *(_ratio(by_key.get((case, name))) for name in columns)]
    found = ratios(entries, which)
    every = [[row.get(name, 0.0) for row in found.values()] for name in columns]
    means = [_digits(geometric_mean(column)) if all(column) else "" for column in every]
    if len(found) > 1:
        yield ["mean", *means]


def _ratio(entry: Entry | None) -> str:
    if entry is None:
        return ""
    found = entry.statistics
    return "WRONG" if found is None else f"{'~' * entry.noisy}{_digits(found.ratio)}"


def overview(entries: Sequence[Entry], which: str) -> list[str]:
    """Ratios of all cases for the terminal."""
    rows = list(_table(entries, which))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [f"ratio to native, {TITLES[which]}; means are geometric"]
    for case, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append(" ".join([case.ljust(widths[0]), *numbers]).rstrip())
    return lines


def remarks(
    entries: Sequence[Entry], passes: Sequence[str], roofs: Roofs, machine: Mapping[str, Any]
) -> list[str]:
    """What it comes to, and how far to trust it."""
    found = summary(entries, passes)
    lines = []
    cases = len({entry.case.name for entry in entries})
    for which in passes:
        said = [f"{TITLES[which]}:"]
        if f"auto_{which}" in found:
            least, done = found[f"auto_{which}_least"], found[f"auto_{which}_cases"]
            extent = f"nowhere below {_digits(least)}"
            if done < cases:  # what is wrong or can't be done has no ratio
                extent = f"in {done} of {cases} cases"
            said.append(f"auto {_digits(found[f'auto_{which}'])}, {extent};")
        if f"best_{which}" in found:
            said.append(f"the best operator {_digits(found[f'best_{which}'])}")
            lines.append(f"Times as fast as native (geometric mean), {' '.join(said)}.")
    threads = machine["threads"]
    lines += [
        f"At its best, {threads} thread{'s' * (threads != 1)} of {machine['device']} moved "
        f"{_digits(roofs.memory / 1e9)} GB/s between tensors far larger than caches, up to "
        f"{_digits(roofs.cache / 1e9)} GB/s between small ones, and computed "
        f"{_digits(roofs.arithmetic / 1e9)} GFLOP/s, in a matrix product or a convolution with "
        "many channels.",
        LEGEND,
    ]
    if any(entry.name == COPY for entry in entries):
        lines.append(
            "The row copy is x.clone() of a case's input: it gets new memory every time, which "
            "those tensors don't."
        )
    noisy = sum(entry.noisy for entry in entries)
    timed = sum(entry.statistics is not None for entry in entries)
    if noisy:
        lines.append(
            f"~: {noisy} of {timed} ratios are uncertain by more than {NOISY:.0%}, or were taken "
            "fewer than three times. More seconds per case (task.seconds) make them surer."
        )
    cores = os.cpu_count() or 1
    if machine["load"] > cores / 2:
        lines.append(
            f"Other work ran beside this: the load was {machine['load']:g} on {cores} processors "
            f"when it began. Ratios bear it better than times do."
        )
    for entry in entries:
        if entry.verdict.failure and entry.which == passes[0]:
            lines.append(f"WRONG: {entry.name} on {entry.case.name}: {entry.verdict.failure}.")
    return lines


def markdown(entries: Sequence[Entry], passes: Sequence[str], machine: str) -> str:
    """Ratios of all cases as Markdown tables."""
    parts = [
        f"Times as fast as native; {machine}. `~`: uncertain by more than {NOISY:.0%}; "
        "means are geometric."
    ]
    for which in passes:
        head, *rows = _table(entries, which)
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        parts.append(f"{TITLES[which].capitalize()}:\n\n{table}")
    return "\n\n".join(parts) + "\n"
