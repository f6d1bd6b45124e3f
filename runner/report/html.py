"""A report as one HTML file: inline style, no scripts, nothing from elsewhere but the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from runner.report.gather import DONE, FAILS, HOLDS, Check, Entry, Report, Section, tally
from runner.report.wording import anchor, broken, caption, duration, facts, headline, title, url

STYLE = """
:root { color-scheme: light; --good: #1a6b32; --bad: #b3261e; --quiet: #5c6370; --line: #d9dce1; }
* { box-sizing: border-box; }
body { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; background: #fff;
  color: #1c1f24; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 1rem; padding-bottom: .3rem; border-bottom: 2px solid; }
h3 { font-size: 1.08rem; line-height: 1.35; margin: 0; }
a { color: #0b57a4; text-decoration-thickness: 1px; text-underline-offset: 2px; }
p { margin: .5rem 0; }
code, pre { font: .85em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { margin: .6rem 0; padding: .5rem .7rem; background: #f4f5f7; border-radius: 4px;
  white-space: pre-wrap; }
pre.why { background: #fcf0ef; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0; }
dt, .quiet, figcaption, th { color: var(--quiet); }
dd { margin: 0; }
nav ul { list-style: none; margin: 1.2rem 0 0; padding: 0; }
nav li { padding: .15rem 0; }
table { border-collapse: collapse; width: 100%; }
th { font-weight: normal; font-size: .85rem; text-align: left; }
td, th { padding: .25rem .8rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td:last-child, th:last-child { padding-right: 0; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.word { white-space: nowrap; }
.summary { margin: 1.2rem 0; }
.summary table { table-layout: fixed; }
.summary th:nth-child(1) { width: 4rem; }
.summary th:nth-child(3) { width: 8.5rem; }
.summary th:nth-child(4) { width: 5.5rem; text-align: right; }
.summary h3 { margin-top: 1.6rem; }
.good { color: var(--good); }
.bad { color: var(--bad); font-weight: 600; }
article { margin: 0 0 2.2rem; padding-top: .4rem; }
.checks { margin: .6rem 0; }
.checks td:first-child { overflow-wrap: break-word; }
.checks code { display: inline-block; vertical-align: top; padding-top: .1em;
  white-space: pre-wrap; }
.pictures { display: flex; flex-wrap: wrap; gap: .8rem; align-items: flex-end; margin: .8rem 0; }
figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; max-height: 32rem; border: 1px solid var(--line); }
figcaption { font-size: .8rem; }
.files { font-size: .85rem; }
@media (max-width: 36rem) {
  body { padding: 1rem .8rem 3rem; }
  .summary table { font-size: .85rem; }
  .summary th:nth-child(1) { width: 3.6rem; }
  .summary th:nth-child(3) { width: 5.6rem; }
  .summary th:nth-child(4) { width: 3.6rem; }
  .summary td { overflow-wrap: break-word; padding-right: .4rem; }
  .checks thead { display: none; }
  .checks tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--line); }
  .checks td { display: block; border: 0; padding: .05rem 0; }
  .checks td[data-head]::before { content: attr(data-head) " "; color: var(--quiet); }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  a { color: inherit; text-decoration: none; }
  article, figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  figure img { max-height: 9cm; }
  .files { display: none; }
}
"""


def render(report: Report) -> str:
    """The report as a page."""
    head = escape(headline(report))
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{head}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>",
            f"<h1>{head}</h1>\n<dl>",
            *(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in facts(report)),
            "</dl>\n<nav><ul>",
            *(_contents(i, section) for i, section in enumerate(report.sections)),
            "</ul></nav>\n</header>\n<main>\n<section>\n<h2>Summary</h2>",
            *(_summary(section) for section in report.sections),
            "</section>",
            *(_section(i, section) for i, section in enumerate(report.sections)),
            "</main>\n</body>\n</html>\n",
        ]
    )


def _contents(number: int, section: Section) -> str:
    return (
        f'<li><a href="#section-{number}">{escape(section.title)}</a> '
        f'<span class="quiet">{escape(tally(section.entries))}</span></li>'
    )


def _summary(section: Section) -> str:
    rows = "\n".join(
        f'<tr><td class="word quiet">{entry.section}</td>'
        f'<td><a href="#{anchor(entry)}">{escape(entry.name)}</a></td>'
        f'<td class="word">{_verdict(entry.verdict)}</td>'
        f'<td class="number">{duration(entry.seconds)}</td></tr>'
        for entry in section.entries
    )
    return (
        f'<div class="summary"><h3>{escape(section.title)}</h3>\n<table>\n'
        f"<thead><tr><th></th><th>experiment</th><th>verdict</th><th>time</th></tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )


def _section(number: int, section: Section) -> str:
    runs = "\n".join("\n".join(_entry(entry)) for entry in section.entries)
    head = f'<h2 id="section-{number}">{escape(section.title)}</h2>'
    return f"<section>\n{head}\n{runs}\n</section>"


def _entry(entry: Entry) -> Iterator[str]:
    number = f'<span class="quiet">{entry.section}</span> ' if entry.section else ""
    yield f'<article id="{anchor(entry)}">\n<h3>{number}{escape(title(entry))}</h3>'
    if entry.answer:
        yield f"<p>{escape(entry.answer)}</p>"
    what = f"{escape(entry.name)} · {duration(entry.seconds)}"
    yield f'<p>{_verdict(entry.verdict)} <span class="quiet">· {what}</span></p>'
    if entry.command:
        yield f"<pre>{escape(entry.command)}</pre>"
    if entry.reasons:
        yield f'<pre class="why">{escape(chr(10).join(entry.reasons))}</pre>'
    if entry.checks:
        heads = "".join(f"<th>{head}</th>" for head in ("", "expected", "measured", ""))
        yield f'<table class="checks">\n<thead><tr>{heads}</tr></thead>\n<tbody>'
        yield from map(_row, entry.checks)
        yield "</tbody>\n</table>"
    if entry.pictures:
        yield '<div class="pictures">'
        yield from map(_figure, entry.pictures)
        yield "</div>"
    links = (f'<a href="{_url(entry.folder + "/" + name)}">{name}</a>' for name in entry.files)
    yield f'<p class="files">{" · ".join(links)}</p>\n</article>'


def _row(check: Check) -> str:
    expected, measured = (
        f'<td data-head="{head}"><code>{escape(chr(10).join(broken(value)))}</code></td>'
        for head, value in (("expected", check.expected), ("measured", check.measured))
    )
    verdict = _verdict(HOLDS if check.holds else FAILS)
    metric = f"<td>{escape(check.metric)}</td>"
    return f'<tr>{metric}{expected}{measured}<td class="word">{verdict}</td></tr>'


def _figure(path: str) -> str:
    link, text = _url(path), escape(caption(path))
    return (
        f'<figure><a href="{link}"><img src="{link}" alt="{text}"></a>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _verdict(verdict: str) -> str:
    colour = {HOLDS: "good", DONE: "quiet"}.get(verdict, "bad")
    return f'<span class="{colour}">{escape(verdict)}</span>'


def _url(path: str) -> str:
    return escape(url(path))
