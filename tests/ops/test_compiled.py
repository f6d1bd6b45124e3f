"""Compiled code on disk: found again by another process, and never after a source has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import runner

INNER = """
from runner.ops._compiled import inlined
@inlined
def inner(x):
    return x + 1
"""
OUTER = """
from runner.ops._compiled import compiled
from runner.ops._inner import inner
def factory(times):
    @compiled
    def scaled(x):
        return times * inner(x)
    @compiled
    def outer(x):
        return scaled(x)
    return outer
"""
PROGRAM = """
from runner.ops._outer import factory
double, triple = factory(2), factory(3)
print(double(1), triple(1))
print(sum(len(f.stats.cache_misses) for f in (double, triple)))
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The operators in a folder of their own, with two more files."""
    package = tmp_path / "runner"
    shutil.copytree(
        Path(runner.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__")
    )
    (package / "ops" / "_inner.py").write_text(INNER)
    (package / "ops" / "_outer.py").write_text(OUTER)
    return tmp_path


def run(place: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(place)}
    environment.pop("NUMBA_CACHE_DIR", None)
    words = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def files(place: Path) -> set[str]:
    return {path.name for path in place.rglob("*.nbc")}


def test_another_process_finds_it_until_a_source_changes(copied):
    # (1 + 1) · 2 and (1 + 1) · 3
    assert run(copied) == ["4 6", "2"]
    there = files(copied)
    assert there
    assert run(copied) == ["4 6", "0"]
    assert files(copied) == there
    # The function that is called changes; the file of the one that calls it doesn't.
    source = copied / "runner" / "ops" / "_inner.py"
    source.write_text(INNER.replace("x + 1", "x + 10"))
    assert run(copied) == ["22 33", "2"]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(kind, copied):
    run(copied)
    for file in list(copied.rglob(f"*.{kind}")):
        file.unlink()
        os.mkfifo(file)
    assert run(copied) == ["4 6", "2"]
    assert run(copied) == ["4 6", "0"]


def test_what_is_damaged_is_written_anew(copied):
    run(copied)
    for index in copied.rglob("*.nbi"):
        index.write_bytes(b"garbage")
    assert run(copied) == ["4 6", "2"]
    assert run(copied) == ["4 6", "0"]
