"""The report: what it gathers from the files of runs, and that both formats say it, safely."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import PIL.Image
import pytest
from shell import Finished

from runner import report
from runner.config.errors import ConfigError
from runner.report.gather import Entry, choose, gather, parse_header, tally
from runner.report.wording import anchor, broken, duration, facts, headline

NASTY = """<script>alert("1")</script> & 'a' | `b` *c* [d](e)"""


def job(folder: Path, **status: Any) -> Path:
    """A run's directory as a sweep leaves it."""
    folder.mkdir(parents=True)
    measured = status.pop("expectations", [("output", "[1, 2]", [1, 2], None)])
    pictures = status.pop("images", ["input.png"])
    found = {
        "state": "COMPLETED",
        "reason": None,
        "seconds": 0.5,
        "started": "2026-01-02T03:04:05+00:00",
        "task": "forward",
        "command": "python -m runner experiment=6_2/one",
        "experiment": "6_2/one",
        "about": "6.2.1  What is one? One.",
        "device": "cpu",
        "threads": 2,
        "versions": {"runner": "0.1.0", "python": "3.11.7", "torch": "2.9"},
    }
    found |= status
    found["overrides"] = found["command"].split()[3:]
    (folder / "status.json").write_text(json.dumps(found))
    outcomes = [
        {"metric": m, "expected": e, "measured": x, "holds": f is None, "failure": f}
        for m, e, x, f in measured
    ]
    (folder / "metrics.json").write_text(json.dumps({"expectations": outcomes}))
    (folder / "run.log").write_text("")
    (folder / "images").mkdir()
    for name in pictures:
        PIL.Image.new("L", (4, 3)).save(folder / "images" / name)
    return folder


def entries(directory: Path) -> list[Entry]:
    return gather(directory).entries


class Page(HTMLParser):
    """What a browser would see: tags with attributes, and text."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], "tags left open"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def links(self) -> Iterator[str]:
        for _, attributes in self.tags:
            for name in ("href", "src"):
                if value := attributes.get(name):
                    yield value

    def ids(self) -> list[str]:
        return [a["id"] for _, a in self.tags if a.get("id")]  # type: ignore[misc]


def prose(markdown: str) -> str:
    """Markdown without its fenced blocks and code."""
    text = re.sub(r"^(`{3,})text\n.*?\n\1$", "", markdown, flags=re.M | re.S)
    return re.sub(r"(?<!\\)(`+)(?!`).*?(?<!`)\1(?!`)", "", text)


def written(directory: Path) -> tuple[Page, str]:
    """The page and the Markdown of a report; every link in them leads somewhere."""
    path = report.write(gather(directory), directory)
    assert path == directory / "report.html"
    page, markdown = Page(path.read_text()), (directory / "report.md").read_text()
    assert len(set(page.ids())) == len(page.ids())
    targets = [*page.links(), *re.findall(r"(?<!\\)\]\(([^)]+)\)", prose(markdown))]
    ids = {*page.ids(), *re.findall(r'<a id="([^"]+)">', markdown)}
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in ids
        else:
            assert not re.match(r"[a-z]+:|/", target), "links are relative"
            assert (directory / unquote(target)).exists(), target
    return page, markdown


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("6.2.1  What is it? 42.", ("6.2.1", "What is it?", "42.")),
        ("7.4  Deep? Yes? No.", ("7.4", "Deep?", "Yes? No.")),
        ("6.2  A statement.", ("6.2", "A statement.", "")),
        ("No number? Right.", ("", "No number?", "Right.")),
        ("3 of 4? No.", ("3", "of 4?", "No.")),
        ("3.5", ("", "3.5", "")),
        ("6.2 exercises  Is it? Yes.", ("6.2 ex.", "Is it?", "Yes.")),
        ("6.2 exercise  Is it? Yes.", ("6.2 ex.", "Is it?", "Yes.")),
        ("", ("", "", "")),
    ],
)
def test_header(text: str, parts: tuple[str, str, str]) -> None:
    assert parse_header(text) == parts


def test_question_without_a_mark_is_no_question_left_out() -> None:
    assert parse_header("6.2  A statement.")[1] == "A statement."


@pytest.mark.parametrize(
    ("files", "showcase", "chosen"),
    [
        (["b.png", "a.png", "c.txt"], [], ["a.png", "b.png"]),
        ([f"{i}.png" for i in range(9)], [], ["0.png", "1.png", "2.png", "3.png"]),
        (["input.png", "e_maps.png", "e_overview.png"], ["e/overview"], ["e_overview.png"]),
        # Of a tag's steps the last, or the film; of several images all.
        (["k_000001.png", "k_000010.png", "k_000002.png"], ["k"], ["k_000010.png"]),
        (["k_000001.png", "k.gif", "k_000010.png"], ["k"], ["k.gif"]),
        (["x_0.png", "x_1.png", "xy.png"], ["x"], ["x_0.png", "x_1.png"]),
        # The showcase's order, each once; a slash at the end stands for all.
        (["p_a.png", "p_b.png", "q.png"], ["q", "p/", "q"], ["q.png", "p_a.png", "p_b.png"]),
        (["a.png"], ["gone"], ["a.png"]),
        ([], ["gone"], []),
    ],
)  # fmt: skip
def test_choice_of_pictures(files: list[str], showcase: list[str], chosen: list[str]) -> None:
    assert choose(files, showcase) == chosen


def test_values_are_broken_into_lines_and_cut() -> None:
    assert broken("[[19, 25], [37, 43]]") == ["[[19, 25], [37, 43]]"]
    matrix = "[" + ", ".join(["[0, 1, 0, 0, 0, -1, 0]"] * 3) + "]"
    assert broken(matrix) == [
        "[[0, 1, 0, 0, 0, -1, 0],",
        " [0, 1, 0, 0, 0, -1, 0],",
        " [0, 1, 0, 0, 0, -1, 0]]",
    ]
    assert broken(
        "{dense: 1,000,000, image_to_image: 2, shapes: [[1, 2], [3, 4]], last: true}"
    ) == [
        "{dense: 1,000,000,",
        " image_to_image: 2,",
        " shapes: [[1, 2], [3, 4]],",
        " last: true}",
    ]
    (line,) = broken(str(list(range(1000))))
    assert re.fullmatch(r"\[0, 1, .*\d, …", line)
    assert len(line) < 105
    rows = broken("[" + ", ".join(["[0, 1, 2]"] * 30) + "]")
    assert len(rows) == 12
    assert rows[-1] == "… 19 more lines"  # 30 rows, 11 of them shown
    (line,) = broken("x" * 1000)
    assert len(line) < 105


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.066, "0.07 s"), (12.34, "12.3 s"), (59, "59 s"), (125.9, "2 min 05 s"), (60, "1 min 00 s")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_gathered(tmp_path: Path) -> None:
    failing = [("output", "[1, 2]", [1, 3], "3 is not 2 ± 0"), ("mean", "≥ 0", 1.0, None)]
    words = "python -m runner experiment=6_2/{} device=cpu"
    job(tmp_path / "10", experiment="6_2/ten", about="6.2.1  Ten? .", command=words.format("ten"))
    job(tmp_path / "9", experiment="6_2/nine", about="6.2.1  Nine? .", command=words.format("nine"))
    job(tmp_path / "1", experiment="6_2/ex", about="6.2 exercises  E? .", command=words.format("e"))
    job(
        tmp_path / "2",
        experiment="6_2/late",
        about="6.2.10  Late? .",
        command=words.format("late"),
        expectations=failing,
        started="2026-01-02T03:05:06+00:00",
        seconds=9.25,
        device=None,
        threads=None,
    )
    job(
        tmp_path / "3",
        experiment="7/deep",
        about="7.1  Deep? .",
        state="FAILED",
        reason="Diverged: 2 < 3",
        command=words.format("deep"),
        device="cuda:0",
    )
    job(tmp_path / "4", experiment="own/x", about="", expectations=[], command=words.format("own"))
    job(tmp_path / "5", experiment="x", about="6.1  X? Y.", command=words.format("x"))
    job(tmp_path / "6", state="RUNNING", experiment="6_1/killed", command=words.format("killed"))
    job(tmp_path / "7", experiment="ops/fft", about="Is it? Yes.", command=words.format("fft"))
    found = gather(tmp_path)
    assert [(s.title, [e.folder for e in s.entries]) for s in found.sections] == [
        ("6.1 From fully connected layers to convolutions", ["6"]),
        # By section, then as they ran: 9 before 10, 6.2.1 before 6.2.10, exercises last.
        ("6.2 Convolutions for images", ["9", "10", "2", "1"]),
        ("7 Modern networks", ["3"]),
        ("Operators", ["7"]),
        ("own", ["4"]),
        ("Others", ["5"]),
    ]
    by_folder = {entry.folder: entry for entry in found.entries}
    assert {k: e.verdict for k, e in by_folder.items()} == {
        "6": "killed",  # it says RUNNING, but nobody holds its lock
        "9": "holds",
        "10": "holds",
        "2": "does not hold",
        "1": "holds",
        "3": "FAILED",
        "4": "done",  # it expected nothing
        "5": "holds",
        "7": "holds",
    }
    # What isn't from the book has no number.
    assert (by_folder["7"].section, by_folder["7"].question) == ("", "Is it?")
    assert by_folder["2"].reasons == ["output: 3 is not 2 ± 0"]
    assert by_folder["3"].reasons == ["Diverged: 2 < 3"]
    assert by_folder["9"].name == "6_2/nine"  # device=cpu is said by all, and tells nothing apart
    assert headline(found) == (
        "5 of 9 experiments hold, 1 killed, 1 does not hold, 1 FAILED, 1 done"
    )
    # From 03:04:05 to 9.25 s after 03:05:06.
    assert dict(facts(found)) == {
        "date": "2026-01-02 03:04 UTC",
        "time": "1 min 11 s",
        "device": "cpu, cuda:0",
        "threads": "2",
        "versions": "python 3.11.7, runner 0.1.0, torch 2.9",
    }
    written(tmp_path)


def test_sweep_over_one_experiment_is_a_row_per_job(tmp_path: Path) -> None:
    for i, lr in enumerate(["0.1", "0.2"]):
        for k, seed in enumerate(["1", "2"]):
            command = f"python -m runner +experiment=6_2/one a.lr={lr} seed={seed} ~x"
            job(tmp_path / str(2 * i + k), command=command)
    found = gather(tmp_path)
    assert [entry.name for entry in found.entries] == [
        "6_2/one a.lr=0.1 seed=1",
        "6_2/one a.lr=0.1 seed=2",
        "6_2/one a.lr=0.2 seed=1",
        "6_2/one a.lr=0.2 seed=2",
    ]
    assert headline(found) == "4 of 4 runs hold"
    page, markdown = written(tmp_path)
    for entry in found.entries:
        assert entry.name in page.text
        assert entry.name.replace("_", r"\_") in markdown


def test_tally_speaks_of_one_and_of_many(tmp_path: Path) -> None:
    wrong = [("output", "1", 2, "2 is not 1 ± 0")]
    job(tmp_path / "nothing", expectations=[])
    assert tally(entries(tmp_path)) == "1 done"
    assert headline(gather(tmp_path)) == "1 experiment done"
    shutil.rmtree(tmp_path / "nothing")
    job(tmp_path / "0", expectations=wrong)
    assert tally(entries(tmp_path)) == "0 of 1 hold, 1 does not hold"
    job(tmp_path / "1", expectations=wrong)
    job(tmp_path / "2", state="INTERRUPTED", reason="Ctrl-C")
    assert tally(entries(tmp_path)) == "0 of 3 hold, 2 do not hold, 1 interrupted"


def test_nothing_that_is_shown_is_taken_for_markup(tmp_path: Path) -> None:
    job(
        tmp_path / "a=b <c>" / "1&2#'\"?",
        experiment=f"6_2/{NASTY}",
        about=f"6.2.1  {NASTY}? {NASTY}",
        command=f"python -m runner x={NASTY}\n```\n# y",
        device=NASTY,
        expectations=[(NASTY, NASTY, NASTY, NASTY), ("```", "a``b", "|", None)],
        images=["input & <b>.png"],
    )
    job(tmp_path / "z", state="FAILED", reason=f"{NASTY}\n\n```\n# heading", experiment=NASTY)
    page, markdown = written(tmp_path)
    names = {name for name, _ in page.tags}
    assert not names & {"script", "b", "c", "link", "iframe"}
    assert "".join(page.text).count(NASTY) >= 8
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
    # Outside fenced blocks and code, no mark of Markdown or HTML stands unescaped.
    text = prose(markdown)
    assert not re.search(r"^#+ (heading|y)", text, re.M)
    assert not re.findall(r"(?<!\\)<(?!a id=|/a>|br>)", text)
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) > 8
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 5, "a bar in a value ends no cell"


def test_page_stands_alone(tmp_path: Path) -> None:
    job(tmp_path / "0")
    page, _ = written(tmp_path)
    names = [name for name, _ in page.tags]
    assert not {"script", "link", "iframe", "object"} & set(names)
    assert (
        "meta",
        {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    ) in page.tags
    style = (tmp_path / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style
    assert "@media print" in style
    assert [a["src"] for name, a in page.tags if name == "img"] == ["0/images/input.png"]
    # Where it is moved to, it still works.
    moved = tmp_path.with_name("moved")
    tmp_path.rename(moved)
    written(moved)


def test_anchors_tell_folders_apart(tmp_path: Path) -> None:
    for name in ("seed=1", "seed=-1", "seed-1", "a/b", "a-b", "a_b"):
        job(tmp_path / name)
    assert len({anchor(entry) for entry in entries(tmp_path)}) == 6
    written(tmp_path)


def test_directory_without_runs_is_refused(tmp_path: Path) -> None:
    for wrong in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ConfigError, match=r"--report: expected a directory with runs, got "):
            gather(wrong)


def test_status_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (job(tmp_path / "0") / "status.json").write_text("{")
    with pytest.raises(ConfigError, match=r"0/status\.json: expected what a run recorded, got "):
        gather(tmp_path)


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("status.json", b"{", "EOF"),
        ("status.json", b'{"state": "COMPLETED", "seconds": 1, "started": "x"}', "started"),
        ("metrics.json", b'{"expectations": 5}', "expectations"),
        ("metrics.json", b"\xff", "metrics.json"),
    ],
)
def test_a_damaged_run_does_not_hide_the_others(
    file: str, content: bytes, why: str, tmp_path: Path
) -> None:
    job(tmp_path / "0")
    (job(tmp_path / "1") / file).write_bytes(content)
    page, markdown = written(tmp_path)
    assert tally(entries(tmp_path)) == "1 of 2 hold, 1 unreadable"
    reason = next(entry.reason for entry in entries(tmp_path) if entry.folder == "1")
    assert reason.startswith(f"{tmp_path}/1/{file}: expected ")
    assert why in reason
    assert reason in page.text
    assert reason in markdown


def test_a_lock_that_leads_elsewhere_is_told(tmp_path: Path) -> None:
    (job(tmp_path / "0", state="RUNNING") / ".lock").symlink_to("/dev/null")
    (entry,) = entries(tmp_path)
    assert (entry.verdict, entry.experiment) == ("unreadable", "6_2/one")


def test_names_that_are_no_text_are_shown(tmp_path: Path) -> None:
    folder = job(tmp_path / "a\udcff", experiment=None, about="9" * 6000 + " ?")
    shutil.copy(folder / "images" / "input.png", folder / "images" / "b\udcff.png")
    page = report.write(gather(tmp_path), tmp_path).read_text()
    assert 'src="a%FF/images/b%FF.png"' in page
    assert "(a%FF/images/b%FF.png)" in (tmp_path / "report.md").read_text()


def test_a_page_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    job(tmp_path / "0")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(ConfigError, match=r"/report\.html: expected .* \(Is a directory\)\. Make"):
        report.write(gather(tmp_path), tmp_path)


HOLDS = """# @package _global_
# 6.2.1  Is it so? It is <so>.
# python -m runner experiment=mine/right
defaults:
  - override /task: forward
  - override /stack: kernel
  - override /data: tensor
  - _self_
data: {values: [[0, 1, 2], [3, 4, 5], [6, 7, 8]]}
stack: {layers: {conv: {weight: [[0, 1], [2, 3]]}}}
expect: {output: [[19, 25], [37, 43]]}
"""
WRONG = HOLDS.replace("43]]", "44]]").replace("mine/right", "wrong")
FAILING = """# @package _global_
# 9.9  Does it diverge? Yes.
defaults:
  - override /task: learn_kernel
  - _self_
task: {optimizer: {lr: 0.5}}
expect: {loss: {max: 1}}
"""


@pytest.fixture
def mine(workplace: Path) -> Path:
    """A folder with two experiments, one of which doesn't hold, and one that fails."""
    folder = workplace / "mine" / "experiment"
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / "right.yaml").write_text(HOLDS)
    (folder / "wrong.yaml").write_text(WRONG)
    (folder / "failing.yaml").write_text(FAILING)
    return folder.parent


def test_sweep_over_experiments(mine: Path, cli: Callable[..., Finished], workplace: Path) -> None:
    glob = "experiment=glob([mine/*,wrong,fail*])"
    done = cli("-m", "--config-dir", "mine", glob, "hydra.sweep.dir=out")
    assert done.rc == 1, done.stdout + done.stderr
    assert "[HYDRA]" not in done.stdout
    lines = done.stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines if line.startswith("#")]
    assert [(number, name) for number, name, _ in rows] == [
        ("#0", "failing"), ("#1", "mine/right"), ("#2", "wrong")
    ]  # fmt: skip
    assert re.fullmatch(r"FAILED +[\d.]+ s", rows[0][2])
    assert re.fullmatch(r"holds +[\d.]+ s", rows[1][2])
    assert re.fullmatch(r"does not hold +[\d.]+ s", rows[2][2])
    assert len({len(line) for line in lines if line.startswith("#")}) == 1, "a table"
    assert max(len(line) for line in lines if line.startswith("#")) <= 80
    assert any(
        line.startswith("1 of 3 experiments hold, 1 does not hold, 1 FAILED") for line in lines
    )
    assert "  wrong: output: 43 is not 44 ± 0" in lines
    assert "report       out/report.html" in lines
    assert "#0 Diverged: " in done.stderr

    page, markdown = written(workplace / "out")
    text = " ".join(page.text)
    for said in ("Is it so?", "It is <so>.", "9.9", "Diverged: ", "43 is not 44 ± 0", "mine/right"):
        assert said in text
    # From wherever the report is read.
    assert f"python -m runner --config-dir {workplace / 'mine'} experiment=wrong" in markdown
    assert [a["src"] for name, a in page.tags if name == "img"], "pictures are shown"

    again = (workplace / "out" / "report.html").read_text()
    (workplace / "out" / "report.html").unlink()
    made = cli("--report", "out")
    assert (made.rc, made.stdout) == (0, "out/report.html\n")
    assert (workplace / "out" / "report.html").read_text() == again
    refused = cli("--report", "mine")
    assert refused.rc == 2
    assert "--report: expected a directory with runs, got 'mine', which has none." in refused.stderr


def test_one_experiment_that_does_not_hold(
    mine: Path, cli: Callable[..., Finished], workplace: Path
) -> None:
    done = cli("-m", "--config-dir", "mine", "experiment=wrong", "hydra.sweep.dir=out")
    assert done.rc == 3, done.stderr
    assert "0 of 1 experiment hold, 1 does not hold" in done.stdout
    written(workplace / "out")


def test_other_sweeps_have_no_report(cli: Callable[..., Finished], workplace: Path) -> None:
    done = cli("-m", "task=plan", "seed=0,1", "hydra.sweep.dir=out")
    assert done.rc == 0, done.stderr
    assert re.search(r"^#1 +seed=1 +done +\d", done.stdout, re.M)
    assert "     parameters 61706" in done.stdout.replace(",", "")
    assert "report" not in done.stdout
    assert not (workplace / "out" / "report.html").exists()
