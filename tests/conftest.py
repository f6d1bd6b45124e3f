"""A folder to work in, and the command line as a person at a shell meets it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

# Tests run beside each other: threads that wait for those of another take several times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from shell import COMMAND, Finished


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What `auto` remembers on this machine must not decide what is tested."""
    os.environ["RUNNER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory, so that runs land in its ``outputs/``."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cli(workplace: Path) -> Callable[..., Finished]:
    """Run ``python -m runner`` with the given words, piped, in the workplace."""

    def call(*words: str, **environment: str) -> Finished:
        begun = time.monotonic()
        done = subprocess.run(
            [*COMMAND, *words],
            cwd=workplace,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return Finished(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    return call


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Adds a file to a menu, as a file in the menu's folder would be, for one test."""
    added = []

    def add(package: str, name: str, source: str) -> None:
        folder = tmp_path / package
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(dedent(source))
        path = importlib.import_module(package).__path__
        monkeypatch.setattr(sys.modules[package], "__path__", [*path, str(folder)])
        added.append((package, name))
        importlib.invalidate_caches()

    yield add
    for package, name in added:
        sys.modules.pop(f"{package}.{name}", None)
        if hasattr(sys.modules[package], name):
            delattr(sys.modules[package], name)
