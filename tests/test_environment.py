"""What a run says that it ran on, wherever the package lies."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numba
import numpy
import pytest
import torch

from runner import environment
from runner.environment import RECORDED, computing
from runner.machine import processor

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Git in a folder of its own, with nobody's settings."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    quiet |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": str(tmp_path)}
    named = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]

    def call(folder: Path, *words: str) -> str:
        done = subprocess.run(
            ["git", *named, *words],
            cwd=folder,
            env=quiet,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return call


@pytest.fixture
def checkout(tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with one commit; it stands for this one."""
    root = tmp_path / "project"
    for name in ("runner/a.py", "configs/a.yaml", "README.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("one\n")
    (root / ".gitignore").write_text("__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    monkeypatch.setattr(environment, "ROOT", root)
    yield root
    environment._checkout.cache_clear()


def told() -> tuple[Any, Any]:
    """Commit, and whether something changed, as they are now."""
    environment._checkout.cache_clear()
    facts = environment.environment()
    return facts["git_commit"], facts["git_changed"]


class TestCommit:
    def test_is_gits_own(self, checkout: Path, git: Git) -> None:
        head = git(checkout, "rev-parse", "HEAD")
        assert len(head) == 40
        assert told() == (head, False)

    @pytest.mark.parametrize("name", ["runner/a.py", "configs/a.yaml", "runner/new.py"])
    def test_changed_code_and_configs_are_said(self, checkout: Path, git: Git, name: str) -> None:
        (checkout / name).write_text("two\n")
        assert told() == (git(checkout, "rev-parse", "HEAD"), True)

    def test_a_removed_or_staged_file_is_a_change(self, checkout: Path, git: Git) -> None:
        (checkout / "runner" / "a.py").unlink()
        assert told()[1] is True
        git(checkout, "rm", "-q", "--cached", "runner/a.py")
        assert told()[1] is True

    def test_what_decides_nothing_is_no_change(self, checkout: Path) -> None:
        (checkout / "README.md").write_text("two\n")
        (checkout / "outputs").mkdir()
        (checkout / "outputs" / "metrics.json").write_text("{}")
        (checkout / "runner" / "__pycache__").mkdir()
        (checkout / "runner" / "__pycache__" / "a.pyc").write_text("")
        assert told()[1] is False

    def test_settings_that_hide_new_files_change_nothing(self, checkout: Path, git: Git) -> None:
        git(checkout, "config", "status.showUntrackedFiles", "no")
        (checkout / "runner" / "new.py").write_text("")
        assert told()[1] is True

    def test_shallow_detached_and_of_a_work_tree(
        self, checkout: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = git(checkout, "rev-parse", "HEAD")
        (checkout / "runner" / "a.py").write_text("two\n")
        git(checkout, "commit", "-qam", "two")
        second = git(checkout, "rev-parse", "HEAD")
        git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "shallow")
        git(checkout, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"), first)
        for folder, commit in (("shallow", second), ("tree", first)):
            monkeypatch.setattr(environment, "ROOT", tmp_path / folder)
            assert told() == (commit, False)


class TestNoCommit:
    """None, rather than something that isn't true; a run is never stopped by it."""

    def test_installed(self, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
        """Into a virtual environment that lies inside somebody's own repository."""
        git(tmp_path, "init", "-q")
        git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
        (tmp_path / "venv").mkdir()
        monkeypatch.setattr(environment, "ROOT", tmp_path / "venv")
        assert told() == (None, None)

    def test_before_the_first_commit(
        self, tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        git(tmp_path, "init", "-q")
        monkeypatch.setattr(environment, "ROOT", tmp_path)
        assert told() == (None, None)

    def test_a_damaged_repository_inside_another(self, checkout: Path, git: Git) -> None:
        git(checkout.parent, "init", "-q")
        git(checkout.parent, "commit", "-q", "--allow-empty", "-m", "theirs")
        shutil.rmtree(checkout / ".git")
        (checkout / ".git").mkdir()
        assert told() == (None, None)

    def test_without_git(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", str(checkout))
        assert told() == (None, None)

    @pytest.mark.parametrize(
        "script", ["exit 1", "echo fatal >&2; exit 128", "printf '\\377\\n'", ":"]
    )
    def test_a_git_that_says_something_else(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch, script: str
    ) -> None:
        other = checkout.parent / "git"
        other.write_text(f"#!/bin/sh\n{script}\n")
        other.chmod(0o755)
        monkeypatch.setenv("PATH", f"{other.parent}:{os.environ['PATH']}")
        assert told() == (None, None)


def test_variables_of_git_lead_nowhere_else(
    checkout: Path, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook of another repository sets them for everything that it starts."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(other, "commit", "-q", "--allow-empty", "-m", "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert told() == (git(checkout, "rev-parse", "HEAD"), False)


def test_versions_are_those_that_are_imported() -> None:
    assert environment.environment()["versions"] == {
        "python": ".".join(map(str, sys.version_info[:3])),
        "runner": "0.1.0",
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "numba": numba.__version__,
    }


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "torch":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", version)
    found = environment._versions.__wrapped__()
    assert set(found) == {"python", *RECORDED} - {"torch"}


def test_machine_and_process() -> None:
    facts = environment.environment()
    assert facts["pid"] == os.getpid()
    assert facts["cpu"] == processor() != ""


def test_threads_are_those_in_force() -> None:
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            facts = computing("cpu")
            assert (facts["device"], facts["device_name"]) == ("cpu", None)
            assert facts["threads"] == threads
    finally:
        torch.set_num_threads(before)


def test_a_gpu_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU of {device}")
    assert computing("cuda:1")["device_name"] == "the GPU of cuda:1"
