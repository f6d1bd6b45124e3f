"""What a program leaves that was killed: everything there must be whole or marked, and readable."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner import report
from runner.sweep.summary import summarize


def processes(session: int) -> list[int]:
    """Living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            facts = (path / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(facts[3]) == session and facts[0] != "Z":
            found.append(int(path.name))
    return found


def check_processes(session: int) -> None:
    """None is left after some seconds; five, if nobody else needs the processor."""
    end = time.monotonic() + 20
    while processes(session) and time.monotonic() < end:
        time.sleep(0.02)
    assert processes(session) == []


def is_locked(folder: Path) -> bool:
    """Whether somebody holds the lock of a directory."""
    try:
        with (folder / ".lock").open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def states(root: Path) -> dict[str, str]:
    """The state that each run's directory records, by its name; nothing where it has none."""
    found = {}
    folders = [path for path in root.iterdir() if path.is_dir()] if is_sweep(root) else [root]
    for path in sorted(folders):
        status = path / "status.json"
        found[path.name] = load(status)["state"] if status.exists() else ""
    return found


def is_sweep(root: Path) -> bool:
    return (root / "sweep.json").exists()


def load(path: Path) -> Any:
    """JSON as the standard has it: no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{path} has {word}")

    return json.loads(path.read_text(), parse_constant=refuse)


def check(root: Path, reference: Path, *, asked: bool) -> dict[str, str]:
    """Check a directory of a run, or of a sweep, that was left; the states in it.

    Args:
        root: the directory.
        reference: the same, of a program that was left alone.
        asked: whether the program was asked to end, and could say so.
    """
    for path in root.rglob("*.json"):
        if not path.name.endswith(".tmp"):
            load(path)
    for path in root.rglob("metrics.jsonl"):
        check_steps(path)
    for path in root.rglob(".lock"):
        assert not is_locked(path.parent), path
    found = states(root)
    for name, state in found.items():
        path = root / name if is_sweep(root) else root
        if state == "COMPLETED":
            whole = reference / name if is_sweep(root) else reference
            assert files(path) >= files(whole), path
            assert not list(path.rglob("*.tmp")), path
        elif asked:
            assert state == "INTERRUPTED" or (is_sweep(root) and not state), (path, state)
        elif state:
            assert state in ("RUNNING", "INTERRUPTED"), path
        elif not is_sweep(root):
            # It got no further than to be made.
            assert {one.name for one in path.iterdir()} <= {".lock"} | tmp(path), path
    read(root, found)
    return found


def check_steps(path: Path) -> None:
    """Every line but the last is whole, steps go up, and none is there twice."""
    lines = path.read_text().splitlines(keepends=True)
    assert all(line.endswith("\n") for line in lines[:-1])
    entries = [json.loads(line) for line in lines if line.endswith("\n")]
    steps = [entry["step"] for entry in entries if entry["step"] > 0]  # 0 is of the end
    assert steps == sorted(steps), path
    told = [(entry["step"], *entry) for entry in entries]
    assert len(told) == len(set(told)), path


def tmp(path: Path) -> set[str]:
    return {one.name for one in path.glob(".*.tmp")}


def read(root: Path, found: dict[str, str]) -> None:
    """The report and the summary can be made, and say the same."""
    words = {"RUNNING": "killed", "INTERRUPTED": "interrupted", "COMPLETED": "completed"}
    told = {name: words[state] for name, state in found.items() if state}
    if not told:
        return
    where = root if is_sweep(root) else root.parent
    before = {path: path.read_bytes() for path in where.iterdir() if path.is_file()}
    records = {Path(one.directory).name: one.state for one in summarize(where).records}
    assert {name: records[name] for name in told} == told
    gathered = {Path(one.folder).name: one.state for one in report.gather(where).entries}
    dead = {name: "DEAD" if state == "RUNNING" else state for name, state in found.items() if state}
    assert gathered == dead
    assert {path: path.read_bytes() for path in where.iterdir() if path.is_file()} == before


def files(root: Path) -> set[str]:
    """Names of the files that every run of its kind has, the locks aside."""
    names = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    return {one for one in names if "events.out." not in one and not one.endswith(".lock")}


def check_same(root: Path, reference: Path, *, close: bool = False) -> None:
    """All results in two directories are the same, to the last bit, and no other file is there.

    Of results that need only be `close`, the metrics agree in some digits.
    """
    assert files(root) == files(reference)
    for name in files(reference):
        ours, theirs = root / name, reference / name
        if close and name == "metrics.json":
            numbers = {k: v for k, v in load(theirs).items() if isinstance(v, float)}
            assert {k: load(ours)[k] for k in numbers} == pytest.approx(numbers, rel=1e-4)
        elif not close and name.endswith((".pt", ".npz")):
            assert equal(arrays(ours), arrays(theirs)), ours
        elif not close and name.endswith((".jsonl", "metrics.json", "plan.json", ".png")):
            assert ours.read_bytes() == theirs.read_bytes(), ours


def arrays(path: Path) -> Any:
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    with np.load(path) as content:
        return {name: torch.from_numpy(content[name]) for name in content.files}


def equal(a: Any, b: Any) -> bool:
    """Whether nested data are equal, tensors bit for bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and bool(a == b)
