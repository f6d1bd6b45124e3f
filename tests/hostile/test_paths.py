"""Paths, names and links that lead out of a run's directory, and directories from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from attacking import Answer, Attack, Attacker

SLOW = pytest.mark.slow  # a summary draws a picture

PLAN = ["task=plan", "stack=pool"]
JOBS = ["-m", "task=plan", "stack=pool,pair"]


def outside(answer: Answer) -> list[str]:
    """What was made that isn't in ``outputs``."""
    known = (answer.cwd / "outputs", answer.cwd.parent / "stdout", answer.cwd.parent / "stderr")
    everything = (*answer.cwd.parent.rglob("*"), answer.cwd.parent / "MARKER")
    return [
        str(path)
        for path in everything
        if path.exists() and path != answer.cwd and not any(map(path.is_relative_to, known))
    ]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hydra.output_subdir", "../../MARKER"),
        ("hydra.output_subdir", "MARKER"),
        ("hydra.output_subdir", ".."),
        ("hydra.output_subdir", "."),
        ("hydra.output_subdir", '""'),
        ("hydra.output_subdir", "a/b"),
        ("hydra.output_subdir", "status.json"),
        ("hydra.output_subdir", ".lock"),
        ("hydra.output_subdir", '"a\nb"'),
        ("hydra.output_subdir", '"\x1b[31m"'),
        ("hydra.output_subdir", "${oc.env:SECRET}/x"),
        ("hydra.output_subdir", "[a]"),
        ("hydra.run.dir", '"outputs/\x1b[31mred"'),
        ("hydra.run.dir", '"outputs/a\nb"'),
        ("hydra.run.dir", '"outputs/a\0b"'),
        ("hydra.run.dir", '"outputs/\u202eb"'),
        ("hydra.run.dir", '""'),
        ("hydra.run.dir", f"outputs/{'x' * 300}"),
        ("hydra.run.dir", "/dev/null/x"),
        ("hydra.run.dir", "/proc/1/x"),
        ("hydra.sweep.dir", '"outputs/\x1b[31mred"'),
        ("hydra.sweep.dir", '"outputs/a\nb"'),
        ("hydra.sweep.dir", '"outputs/a\0b"'),
        ("hydra.sweep.subdir", "../.."),
        ("hydra.sweep.subdir", "a/../../b"),
        ("hydra.sweep.subdir", "MARKER"),
        ("hydra.sweep.subdir", "${hydra.job.num}/../../${hydra.job.num}"),
        ("hydra.sweep.subdir", '"\x1b[31m${hydra.job.num}"'),
        ("hydra.sweep.subdir", '"a\n${hydra.job.num}"'),
        ("hydra.sweep.subdir", "summary.md"),
        ("hydra.sweep.subdir", "sweep.json/${hydra.job.num}"),
    ],
)  # fmt: skip
def test_directories_that_are_elsewhere(attack: Attack, key: str, value: str) -> None:
    words = JOBS if "sweep" in key else PLAN
    answer = attack(*words, f"{key}={value}")
    answer.refused(key)
    assert not outside(answer)


@pytest.mark.parametrize("value", ["../../MARKER", "MARKER", '"a\nb"', "${oc.env:SECRET}"])
def test_a_jobs_name_is_no_path(attack: Attack, value: str) -> None:
    answer = attack(*PLAN, f"hydra.job.name={value}")
    assert answer.rc == 0
    assert not outside(answer)


@pytest.fixture
def ended(attack: Attack) -> Path:
    """The directory of a run that failed, and can be resumed."""
    directory = attack(*PLAN, "hydra.run.dir=outputs/run").cwd / "outputs" / "run"
    edit(directory / "status.json", lambda status: status.update(state="FAILED"))
    return directory


def edit(path: Path, change: Callable[[dict[str, object]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_it_can_be_resumed(attack: Attack, ended: Path) -> None:
    assert attack("--resume", str(ended)).rc == 0


@pytest.mark.parametrize(
    "name", ["status.json", "metrics.jsonl", "run.log", "plan.json", "images", ".lock", "deep/er"]
)
def test_links_are_not_written_through(attack: Attack, ended: Path, name: str) -> None:
    target = ended.parents[2] / "target"
    path = ended / name
    path.parent.mkdir(exist_ok=True)
    if name == "images":
        target.mkdir()
    else:
        target.write_bytes(path.read_bytes() if path.exists() else b"")
        path.unlink(missing_ok=True)
    before = target.stat().st_mtime_ns
    path.symlink_to(target)
    answer = attack("--resume", str(ended))
    assert answer.rc in (1, 2)
    answer.harmless()
    assert name in answer.stderr
    assert target.stat().st_mtime_ns == before


def test_a_sweeps_jobs_are_no_links(attack: Attack, tmp_path: Path) -> None:
    answer = attack(*JOBS, "hydra.sweep.dir=outputs/sweep")
    assert answer.rc == 0, answer.stderr
    sweep = answer.cwd / "outputs" / "sweep"
    (sweep / "1").rename(tmp_path / "elsewhere")
    (sweep / "1").symlink_to(tmp_path / "elsewhere")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").rglob("*")}
    for words in (["--resume", str(sweep)], [*JOBS, "hydra.sweep.dir=outputs/sweep"]):
        answer = attack(*words)
        assert answer.rc == 1
        assert "'1', which is elsewhere" in answer.stdout + answer.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "elsewhere").rglob("*")} == before


BOMB = "\n".join(
    ["a0: &a0 [lol]", *(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10))]
)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (".hydra/config.yaml", BOMB),
        (".hydra/config.yaml", "a: &a [*a]"),
        (".hydra/config.yaml", "- 1"),
        (".hydra/config.yaml", "a: !!python/object/apply:os.mkdir [MARKER]"),
        (".hydra/config.yaml", "a: ["),
        (".hydra/config.yaml", "a: ${"),
        (".hydra/config.yaml", "x" * 2**21),
        ("status.json", "[" * 200_000),
        ("status.json", '{"state": "FAILED", "a": ' + "[" * 100_000),
        ("status.json", "[]"),
        ("status.json", "3"),
        ("status.json", '{"state": "FAILED"}'),
        ("status.json", ""),
        ("status.json", " " * 2**27),
    ],
    ids=lambda value: value[:40],
)
def test_records_that_take_too_much(attack: Attack, ended: Path, file: str, content: str) -> None:
    (ended / file).write_text(content.replace("MARKER", str(ended.parents[2] / "MARKER")))
    attack("--resume", str(ended)).refused()


@pytest.mark.parametrize("file", [".hydra/config.yaml", "status.json", "metrics.jsonl", "run.log"])
def test_pipes_among_records_are_not_waited_for(attack: Attack, ended: Path, file: str) -> None:
    (ended / file).unlink()
    os.mkfifo(ended / file)
    answer = attack("--resume", str(ended))
    assert answer.rc in (1, 2)
    answer.harmless()


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.x={_target_: os.mkdir, path: MARKER}",
        "hydra.job_logging.handlers={x: {(): os.mkdir, path: MARKER}}",
        "hydra.searchpath=[/tmp]",
        "hydra/launcher=../../evil",
        "stack=../../evil",
        "hydra.output_subdir=../MARKER",
        "hydra.job.env_set.LD_PRELOAD=evil.so",
    ],
)
def test_recorded_words_are_not_typed(attack: Attack, ended: Path, word: str) -> None:
    word = word.replace("MARKER", str(ended.parents[2] / "MARKER"))
    edit(ended / "status.json", lambda status: status["overrides"].append(word))  # type: ignore[attr-defined]
    attack("--resume", str(ended)).refused()


@pytest.fixture(scope="module")
def swept(attacker: Attacker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep."""
    cwd = tmp_path_factory.mktemp("case") / "work"
    cwd.mkdir()
    assert attacker.run(cwd, *JOBS, "hydra.sweep.dir=sweep").rc == 0
    return cwd / "sweep"


@pytest.mark.parametrize("flag", ["--report", "--summary", "--resume"])
@pytest.mark.parametrize("file", ["status.json", "metrics.json", "sweep.json"])
@pytest.mark.parametrize(
    "what",
    ["pipe", *(pytest.param(one, marks=SLOW) for one in ("deep", "endless", "number", "keys"))],
)
def test_sweeps_from_elsewhere(
    attack: Attack, swept: Path, tmp_path: Path, flag: str, file: str, what: str
) -> None:
    sweep = Path(shutil.copytree(swept, tmp_path / "case" / "work" / "sweep"))
    path = sweep / file if file == "sweep.json" else sweep / "1" / file
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "endless":
        path.symlink_to("/dev/zero")
    else:
        path.write_text({"deep": "[" * 200_000, "number": "3", "keys": '{"\\u001b[31m": 1}'}[what])
    answer = attack(flag, str(sweep))
    assert answer.rc in (0, 1, 2)
    assert "Traceback" not in answer.stderr
    answer.harmless()
