"""A report as Markdown, in GitHub's dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote

from runner.report.gather import Check, Entry, Report, Section, tally
from runner.report.wording import anchor, broken, caption, duration, facts, headline, title


def render(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"* {_text(name)}: {_text(value)}" for name, value in facts(report)]
    parts = [f"# {_text(headline(report))}", "\n".join(lines)]
    for section in report.sections:
        parts += [f"**{_text(section.title)}**: {tally(section.entries)}", _summary(section)]
    for section in report.sections:
        parts.append(f"## {_text(section.title)}")
        parts += [part for entry in section.entries for part in _entry(entry)]
    return "\n\n".join(parts) + "\n"


def _summary(section: Section) -> str:
    rows = [
        f"| {entry.section} | [{_text(entry.name)}](#{anchor(entry)}) "
        f"| {_text(entry.verdict)} | {duration(entry.seconds)} |"
        for entry in section.entries
    ]
    return "\n".join(["| | experiment | verdict | time |", "|---|---|---|---:|", *rows])


def _entry(entry: Entry) -> Iterator[str]:
    yield f'<a id="{anchor(entry)}"></a>'
    yield f"### {_text(f'{entry.section} {title(entry)}')}"
    if entry.answer:
        yield _text(entry.answer)
    yield f"**{_text(entry.verdict)}** · {_text(entry.name)} · {duration(entry.seconds)}"
    if entry.command:
        yield _block(entry.command)
    if entry.reasons:
        yield _block("\n".join(entry.reasons))
    if entry.checks:
        heads = ["| | expected | measured | |", "|---|---|---|---|"]
        yield "\n".join([*heads, *(_row(check) for check in entry.checks)])
    for path in entry.pictures:
        yield f"![{_text(caption(path))}]({quote(path)})"
    yield " · ".join(f"[{name}]({quote(f'{entry.folder}/{name}')})" for name in entry.files)


def _row(check: Check) -> str:
    cells = ["<br>".join(map(_cell, broken(v))) for v in (check.expected, check.measured)]
    verdict = "holds" if check.holds else "**does not hold**"
    return f"| {_text(check.metric)} | {cells[0]} | {cells[1]} | {verdict} |"


def _text(text: str) -> str:
    """Text that stays as it is: what Markdown and HTML would read as marks is escaped."""
    return re.sub(r"([\\`*_\[\]<>|&~#])", r"\\\1", " ".join(text.split()))


def _cell(text: str) -> str:
    """A value as code in a table, where a bar would end the cell even so."""
    fence = "`" * (1 + _longest_run(text))
    pad = " " if "`" in text else ""
    escaped = text.replace("|", "\\|")
    return f"{fence}{pad}{escaped}{pad}{fence}" if text else ""


def _block(text: str) -> str:
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    """Of backticks: what quotes them must be longer."""
    return max((len(run) for run in re.findall("`+", text)), default=0)
