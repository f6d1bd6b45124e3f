"""A report as Markdown, in GitHub's dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from runner.report.gather import Check, Entry, Report, Section, tally
from runner.report.wording import anchor, broken, caption, duration, facts, headline, title, url


def render(report: Report) -> str:
    """The report as Markdown."""
    lines = [f"* {escaped(name)}: {escaped(value)}" for name, value in facts(report)]
    parts = [f"# {escaped(headline(report))}", "\n".join(lines)]
    for section in report.sections:
        parts += [f"**{escaped(section.title)}**: {tally(section.entries)}", _summary(section)]
    for section in report.sections:
        parts.append(f"## {escaped(section.title)}")
        parts += [part for entry in section.entries for part in _entry(entry)]
    return "\n\n".join(parts) + "\n"


def _summary(section: Section) -> str:
    rows = [
        f"| {entry.section} | [{escaped(entry.name)}](#{anchor(entry)}) "
        f"| {escaped(entry.verdict)} | {duration(entry.seconds)} |"
        for entry in section.entries
    ]
    return "\n".join(["| | experiment | verdict | time |", "|---|---|---|---:|", *rows])


def _entry(entry: Entry) -> Iterator[str]:
    yield f'<a id="{anchor(entry)}"></a>'
    yield f"### {escaped(f'{entry.section} {title(entry)}')}"
    if entry.answer:
        yield escaped(entry.answer)
    yield f"**{escaped(entry.verdict)}** · {escaped(entry.name)} · {duration(entry.seconds)}"
    if entry.command:
        yield block(entry.command)
    if entry.reasons:
        yield block("\n".join(entry.reasons))
    if entry.checks:
        heads = ["| | expected | measured | |", "|---|---|---|---|"]
        yield "\n".join([*heads, *(_row(check) for check in entry.checks)])
    for path in entry.pictures:
        yield f"![{escaped(caption(path))}]({url(path)})"
    yield " · ".join(f"[{name}]({url(f'{entry.folder}/{name}')})" for name in entry.files)


def _row(check: Check) -> str:
    cells = ["<br>".join(map(_cell, broken(v))) for v in (check.expected, check.measured)]
    verdict = "holds" if check.holds else "**does not hold**"
    return f"| {escaped(check.metric)} | {cells[0]} | {cells[1]} | {verdict} |"


def escaped(text: str) -> str:
    """Text that stays as it is: what Markdown and HTML would read as marks is escaped."""
    return re.sub(r"([\\`*_\[\]<>|&~#])", r"\\\1", " ".join(text.split()))


def _cell(text: str) -> str:
    """A value as code in a table, where a bar or a new line would end the cell even so."""
    text = " ".join(text.splitlines())
    fence = "`" * (1 + _longest_run(text))
    pad = " " if "`" in text else ""
    content = text.replace("|", "\\|")
    return f"{fence}{pad}{content}{pad}{fence}" if text else ""


def block(text: str) -> str:
    """Text as it is, in lines of its own."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    """Of backticks: what quotes them must be longer."""
    return max((len(run) for run in re.findall("`+", text)), default=0)
