"""One report about the runs of a sweep, as Markdown and HTML, made from the files they left.

`runner.report.gather` reads the run directories; `runner.report.markdown` and
`runner.report.html` write what it found. Nothing is kept in memory from the runs themselves, so a
report can be made again later, and pictures are linked by relative paths, so that the directory
can be moved as a whole.
"""

from __future__ import annotations

from pathlib import Path

from runner.config.errors import problem
from runner.report import html, markdown
from runner.report.gather import Report, gather, read
from runner.tracking.directory import write_atomically

MARKDOWN, HTML = "report.md", "report.html"


def write(report: Report, directory: Path) -> Path:
    """Write ``report.md`` and ``report.html`` into the directory that was gathered.

    Returns:
        The path of the HTML file.

    Raises:
        ConfigError: they can't be written.
    """
    pages = {MARKDOWN: markdown.render(report), HTML: html.render(report)}
    for name, page in pages.items():
        path = directory / name
        try:
            # The name of somebody's folder may be no text.
            write_atomically(path, page.encode(errors="replace"))
        except OSError as error:
            hint = f"Make room for {MARKDOWN} and {HTML}, or report on a copy."
            expected, found = "a file that can be written", f"an error ({error.strerror})"
            raise problem(str(path), expected, found, hint) from None
    return directory / HTML


__all__ = ["Report", "gather", "read", "write"]
