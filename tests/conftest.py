"""A folder to work in, and the command line as a person at a shell meets it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

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
