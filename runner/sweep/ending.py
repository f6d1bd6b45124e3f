"""The end of a sweep: what became of its jobs is summarised, and what is missing is told."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from runner import report
from runner.config.errors import ConfigError, SweepFailed
from runner.sweep.records import ABSENT, COMPLETED, FAILS, SKIPPED, Record
from runner.sweep.summary import show, show_troubles, summarize, write
from runner.terminal import Terminal, print_error

RESUME = "sweep.resume"


def finish(directory: Path, terminal: Terminal, *, experiments: bool) -> list[Record] | None:
    """Summarise what is there, whatever ended the sweep.

    Returns:
        What every job came to; None where the summary couldn't be made, which is told.
    """
    try:
        found = summarize(directory)
        try:
            if not experiments:
                show(found, terminal)
        finally:  # whoever reads it
            write(found, directory)
        page = None
        if experiments:
            page = _report(directory, terminal)
            # A report is of runs; these have none.
            unrun = tuple(one for one in found.records if one.state in (ABSENT, SKIPPED))
            show_troubles(replace(found, records=unrun), terminal)
    except ConfigError as error:
        print_error(str(error))
        return None
    terminal.where(directory, any(True for _ in directory.glob("*/events.out.*")), page)
    return list(found.records)


def _report(directory: Path, terminal: Terminal) -> Path:
    """Write the report that a sweep over experiments has.

    Raises:
        ConfigError: a file can't be read or written.
    """
    gathered = report.gather(directory)
    page = report.write(gathered, directory)
    terminal.report(gathered)
    return page


def all_complete(
    records: Sequence[Record] | None, directory: Path, refused: Mapping[str, str]
) -> Sequence[Record]:
    """The same records, if every job that could be run is complete.

    Args:
        records: of the jobs, or None where they couldn't be collected.
        directory: of the sweep.
        refused: why jobs have no record, by name.

    Raises:
        SweepFailed: which aren't, and why.
    """
    if records is None:
        raise SweepFailed(f"The sweep in {directory} has no summary.\n{go_on(directory)}")
    bad = [one for one in records if one.state not in (COMPLETED, FAILS, SKIPPED)]
    if not bad and not refused:
        return records
    counts = Counter(one.state for one in bad)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    told = [one for one in bad if one.state != ABSENT]
    shown = [f"{one.name} {one.reason or one.state}" for one in told[:10]]
    more = [f"… and {len(told) - 10} more, in summary.csv"] if len(told) > 10 else []
    shown += [f"{name} {reason}" for name, reason in list(refused.items())[:10]]
    head = f"{len(bad)} of {len(records)} jobs are not complete: {states}"
    if not bad:
        head = f"{len(refused)} of the jobs could not have a directory"
    raise SweepFailed("\n  ".join([head, *shown, *more]) + f"\n{go_on(directory)}")


def go_on(directory: Path) -> str:
    """How to run the jobs that are missing."""
    return f"Run what is missing: python -m runner --resume {shlex.quote(str(directory))}"
