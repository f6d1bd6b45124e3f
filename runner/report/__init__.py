"""One report about the runs of a sweep, as Markdown and HTML, made from the files they left.

`runner.report.gather` reads the run directories; `runner.report.markdown` and
`runner.report.html` write what it found. Nothing is kept in memory from the runs themselves, so a
report can be made again later, and pictures are linked by relative paths, so that the directory
can be moved as a whole.
"""

from __future__ import annotations

from pathlib import Path

from runner.report import html, markdown
from runner.report.gather import Report, gather, read
from runner.tracking.directory import write_atomically

MARKDOWN, HTML = "report.md", "report.html"


def write(report: Report, directory: Path) -> Path:
    """Write ``report.md`` and ``report.html`` into the directory that was gathered.

    Returns:
        The path of the HTML file.
    """
    write_atomically(directory / MARKDOWN, markdown.render(report).encode())
    write_atomically(directory / HTML, html.render(report).encode())
    return directory / HTML


__all__ = ["Report", "gather", "read", "write"]
