"""Text that wants something of who looks at it: of a terminal, a browser, a spreadsheet."""

from __future__ import annotations

import csv
import json
import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attacking import Attack

from runner.config.errors import printable

TEXTS = {
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\"' onmouseover=alert(1) x='",
    "link": "[x](javascript:alert(1)) <a href=javascript:alert(1)>x</a> javascript:alert(1)",
    "table": "a | b |\n| --- |\n# head\n```\n<b>x</b>\n```",
    "escapes": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b31m\r\b",
    "round": "\u202egnp.exe\u2066",
    "formula": "=cmd|' /C calc'!A0",
    "plus": "+1+1",
    "at": "@SUM(1)",
    "minus": "-2+3",
    "markup": "[bold red]x[/bold red] [link=file:///etc/passwd]y[/link]",
}

TAGS = """
html head meta title style body header h1 h2 h3 dl dt dd nav ul li a main section div table thead
tbody tr th td p pre code span article figure img figcaption br
"""
ATTRIBUTES = "lang charset name content href src alt class id data-head"


class Page(HTMLParser):
    """Notes what a page has that a report hasn't."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.odd: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.odd += [] if tag in TAGS.split() else [tag]
        self.odd += [name for name, _ in attrs if name not in ATTRIBUTES.split()]
        links = [value or "" for name, value in attrs if name in ("href", "src")]
        self.odd += [link for link in links if re.match(r"\s*[\w+.-]*:|//", link)]


def forged(root: Path, text: str) -> None:
    """Two runs of a sweep whose records say `text` wherever they can."""
    for number in range(2):
        folder = root / f"{number}"
        (folder / "images").mkdir(parents=True)
        (folder / "images" / "x\" onerror=alert(1) '.png").write_bytes(b"")
        status = {
            "state": "COMPLETED" if number else "FAILED",
            "reason": text,
            "seconds": 1.5,
            "started": "2026-01-01T00:00:00+00:00",
            "task": text,
            "command": f"python -m runner {text}",
            "overrides": [f"data.path={text}{number}", text],
            "experiment": text,
            "about": f"6.2 What is {text}? {text}",
            "choices": {"stack": text, text: text},
            "parameters": {"data.path": f"{text}{number}", text: f"{text}{number}"},
            "versions": {"python": text, text: text},
            "device": text,
            "threads": 1,  # a text would be refused
            "job": number,
            "key": text,
        }
        metrics = {
            "loss": 0.5 + number,
            text: number,
            "expectations": [
                {
                    "metric": text,
                    "expected": text,
                    "measured": text,
                    "holds": False,
                    "failure": text,
                }
            ],
        }
        (folder / "status.json").write_text(json.dumps(status))
        (folder / "metrics.json").write_text(json.dumps(metrics))


@pytest.mark.parametrize("name", TEXTS)
def test_what_records_say_stays_text(attack: Attack, tmp_path: Path, name: str) -> None:
    root = tmp_path / "case" / "work" / "runs"
    forged(root, TEXTS[name])
    answer = attack("--report", str(root))
    assert answer.rc == 0, answer.stderr
    answer.harmless()
    assert Page((root / "report.html").read_text()).odd == []
    answer = attack("--summary", str(root))
    assert answer.rc == 0, answer.stderr
    answer.harmless()
    for page in ("report.md", "summary.md"):
        # Outside of code, nothing is a tag, a link or the start of a table's cell.
        text = re.sub(r"(?s)^(`{3,})text\n.*?^\1$", "", (root / page).read_text(), flags=re.M)
        text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", text)
        text = re.sub(r'<a id="run-[\w-]+"></a>|<br>', "", text)
        assert not re.search(r"(?<!\\)<", text)
        assert "](javascript:" not in re.sub(r"\\\]", "", text)
    with (root / "summary.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    formulas = [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    assert not [cell for cell in formulas if not re.fullmatch(r"[-+.\de]+", cell)]
    assert len(cells) > 20


def test_the_page_that_judges_them_judges() -> None:
    page = "<p onclick=x><script>1</script><a href=' javascript:x'>y</a><img src=//elsewhere/x></p>"
    assert Page(page).odd == ["onclick", "script", " javascript:x", "//elsewhere/x"]


PROGRAM = """
from runner.terminal import Terminal
from runner.config.errors import ConfigError, problem
from runner.terminal import print_error, print_problems
import time
text = {text!r}
told = Terminal()
told.line(text)
told.columns([text, "n", ""], [[text, text, text]], 1)
told.troubles([(text, text, text, text)])
told.metrics({{text: text, "x": {{text: text}}, "y": [[text]]}})
told.job(text, text, text, 1.0, "red", [(text, "red")])
with told.progress(2, text) as advance:
    advance(text)
    time.sleep(0.3)
with told.live(lambda width: [[(text, "red")]]):
    time.sleep(0.3)
print_error(text)
print_problems(problem(text, text, text, text))
"""

ALLOWED = re.compile(
    r"\x1b\[[\d;]*m"  # colours
    r"|\x1b\[\?25[lh]|\x1b\[\d*[AK]|\x1b\[2K|\r"  # a bar that is drawn anew
)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("name", ["escapes", "round", "table"])
def test_no_text_is_obeyed_by_the_terminal(name: str, terminal: bool) -> None:
    command = [sys.executable, "-c", PROGRAM.format(text=TEXTS[name])]
    if terminal:
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"}
        ours, theirs = pty.openpty()
        with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment) as process:
            os.close(theirs)
            shown = b""
            while True:
                try:
                    part = os.read(ours, 65_536)
                except OSError:  # Linux's way of saying that nobody writes any more
                    part = b""
                if not part:
                    break
                shown += part
        os.close(ours)
        assert process.returncode == 0, shown
        output = shown.decode().replace("\r\n", "\n")
        assert "\x1b[" in output
        output = ALLOWED.sub("", output)
    else:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        output = done.stdout + done.stderr
    assert not [c for c in output if c != "\n" and not c.isprintable()]
    assert printable(TEXTS[name].partition("\n")[0])[:8] in output
