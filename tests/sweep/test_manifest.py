"""A sweep's directory: which job is which, who may have it, and what its record says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runner.config.errors import ConfigError
from runner.sweep.manifest import (
    Manifest,
    Planned,
    Skipped,
    SweepDirectory,
    check_same,
    complete,
    digest,
    is_inside,
    keys,
    open_directory,
    places,
    read,
)

CONV, POOL = {"kind": "conv", "channels": 1}, {"kind": "pool", "kernel": 2}


def job(number: int, key: str, directory: str | None = None) -> Planned:
    return Planned(number, key, (f"seed={number}",), directory or str(number))


def manifest(*jobs: Planned, **facts: Any) -> Manifest:
    told = {
        "command": "python -m runner -m task=plan", "overrides": ("task=plan",),
        "config_dir": None, "config_name": "config", "task": "plan", "objective": None,
        "started": "2026-01-01T00:00:00+00:00", **facts,
    }  # fmt: skip
    return Manifest(**told, jobs=jobs)


def refusal(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*arguments, **named)
    return str(caught.value)


class TestKeys:
    def test_equal_configs_have_one_key(self) -> None:
        one = {"seed": 1, "task": {"kind": "edge", "threshold": 0.5}, "sweep": {"vectorize": True}}
        two = {"task": {"threshold": 0.5, "kind": "edge"}, "seed": 1, "sweep": {}}
        assert digest(one) == digest(two)
        assert len(digest(one)) == 16

    @pytest.mark.parametrize(
        "other",
        [
            {"seed": 2, "stack": {"layers": {"a": CONV, "b": POOL}}},
            {"seed": "1", "stack": {"layers": {"a": CONV, "b": POOL}}},
            {"seed": True, "stack": {"layers": {"a": CONV, "b": POOL}}},
            {"seed": 1, "stack": {"layers": {"b": POOL, "a": CONV}}},
            {"seed": 1, "stack": {"layers": {"a": POOL, "b": CONV}}},
            {"seed": 1, "stack": {"layers": {"a": CONV, "b": POOL}}, "dtype": None},
        ],
    )
    def test_other_configs_have_another(self, other: dict[str, Any]) -> None:
        assert digest(other) != digest({"seed": 1, "stack": {"layers": {"a": CONV, "b": POOL}}})

    def test_anything_that_yaml_holds_has_one(self) -> None:
        assert digest({"a": {1: float("nan"), "b": [float("inf"), (1, None)]}})

    def test_jobs_of_one_config_are_told_apart(self) -> None:
        assert keys(["a", "b", "a", "a"]) == ["a", "b", "a-2", "a-3"]

    def test_places(self, tmp_path: Path) -> None:
        # b was in 1 and stays there; a and c ask for 0 and 1; the second 0 makes way.
        there = {"b": "1", "gone": "7"}
        jobs = [("a", "0"), ("c", "1"), ("b", "2"), ("d", "0"), ("e", "7"), ("f", "0")]
        assert places(there, jobs, tmp_path) == ["0", "1-1", "1", "0-1", "7-1", "0-2"]

    def test_places_of_files_are_no_places(self, tmp_path: Path) -> None:
        (tmp_path / "0").touch()
        (tmp_path / "1").mkdir()  # as of a job that was killed before it began
        (tmp_path / "2").symlink_to("nowhere")
        (tmp_path / "3").touch()
        jobs = [("a", "0"), ("b", "1"), ("c", "2"), ("d", "x"), ("e", "n/e/w")]
        # d was in 3, whose place a file has.
        assert places({"d": "3"}, jobs, tmp_path) == ["0-1", "1", "2-1", "x", "n/e/w"]
        assert refusal(places, {}, [("a", "0/deep/er")], tmp_path) == (
            "hydra.sweep.subdir: expected a directory's name, got '0/deep/er', of which a part is "
            "a file."
        )

    @pytest.mark.parametrize(
        ("name", "inside"),
        [
            ("0", True), ("a/b", True), ("seed=1,lr=0.1", True), ("..a", True),
            ("sweep.json", False), ("./summary.csv/deep", False), (".lock", False),
            ("summary", True), ("a/sweep.json", True), (".a.tmp", False), ("a.tmp", True),
            ("", False), (".", False), ("..", False), ("a/../../b", False), ("/tmp/x", False),
        ],
    )  # fmt: skip
    def test_inside(self, name: str, inside: bool) -> None:
        assert is_inside(name) == inside


class TestOpen:
    def test_a_default_name_that_is_taken_gets_a_suffix(self, tmp_path: Path) -> None:
        wanted = str(tmp_path / "out")
        with open_directory(wanted, named=False) as one, open_directory(wanted, named=False) as two:
            assert (one.path.name, two.path.name) == ("out", "out-1")

    def test_a_directory_that_was_named_is_this_very_one(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "out"
        for _ in range(2):  # new, and then empty but for its lock
            with open_directory(str(path), named=True) as directory:
                assert directory.path == path
        assert [p.name for p in path.parent.iterdir()] == ["out"]

    def test_of_two_at_once_one_is_told(self, tmp_path: Path) -> None:
        wanted = str(tmp_path / "out")
        with open_directory(wanted, named=True) as directory:
            expected = "hydra.sweep.dir: expected a sweep that has ended, got one that is still "
            assert refusal(open_directory, wanted, named=True) == (
                f"{expected}running in '{wanted}'."
            )
            directory.write(manifest(job(0, "a")))
            (directory.path / "0").mkdir()
            assert "still running" in refusal(open_directory, wanted, named=True)
        with open_directory(wanted, named=True):
            pass

    def test_somebody_elses_folder_is_left_as_it_is(self, tmp_path: Path) -> None:
        (tmp_path / "letter.txt").write_text("dear")
        message = refusal(open_directory, str(tmp_path), named=True)
        assert "expected a new directory, or a sweep's, got " in message
        assert "which holds something else. Choose a new or an empty one." in message
        assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]
        assert "which is a file" in refusal(
            open_directory, str(tmp_path / "letter.txt"), named=True
        )

    @pytest.mark.parametrize("named", [True, False])
    def test_where_nothing_can_be_written(self, named: bool, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        for wanted in (f"{tmp_path}/file/below", "/proc/nowhere/out"):
            message = refusal(open_directory, wanted, named=named)
            expected = "hydra.sweep.dir: expected a directory that can be written"
            assert f"{expected}, got '{wanted}' (" in message
        assert "hydra.sweep.dir: expected a directory, got an empty name" in refusal(
            open_directory, "", named=named
        )

    def test_what_a_killed_sweep_was_writing_is_cleared(self, tmp_path: Path) -> None:
        (tmp_path / ".sweep.json.77.tmp").write_text("{")
        with open_directory(str(tmp_path), named=True):
            assert [p.name for p in tmp_path.iterdir()] == [".lock"]

    def test_a_lock_that_is_a_link_is_not_followed(self, tmp_path: Path) -> None:
        (tmp_path / "precious.txt").write_text("dear")
        out = tmp_path / "out"
        out.mkdir()
        (out / ".lock").symlink_to(tmp_path / "precious.txt")
        message = refusal(open_directory, str(out), named=True)
        assert message.startswith(f"{out}/.lock: expected nothing but files and folders")
        assert "got a link" in message
        assert (tmp_path / "precious.txt").read_text() == "dear"


class TestRead:
    def test_what_is_written_is_read(self, tmp_path: Path) -> None:
        objective = {"metric": "loss", "goal": "min", "otherwise": None}
        written = manifest(job(0, "a"), job(2, "b", "x/y"), objective=objective)
        written = Manifest(**{**vars(written), "skipped": (Skipped(1, ("seed=x",), ("no",)),)})
        with SweepDirectory(tmp_path) as directory:
            assert read(tmp_path) is None
            directory.write(written)
        assert read(tmp_path) == written
        later = json.loads((tmp_path / "sweep.json").read_text()) | {"new": "field"}
        (tmp_path / "sweep.json").write_text(json.dumps(later))
        assert read(tmp_path) == written

    @pytest.mark.parametrize(
        "text",
        [
            "", "{", "[]", "null", "7", "{}", '{"jobs": 3}', "\x00\xff", "[" * 100_000,
        ],
    )  # fmt: skip
    def test_damaged(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "sweep.json").write_text(text)
        message = refusal(read, tmp_path)
        assert message.startswith(f"{tmp_path}/sweep.json: expected what a sweep recorded, got an")
        assert message.endswith("Run the sweep again in a new directory.")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("directory", "../out"), ("directory", "/etc"), ("directory", "."),
            ("directory", 0), ("number", "0"), ("overrides", "seed=1"), ("key", None),
        ],
    )  # fmt: skip
    def test_jobs_that_no_sweep_has(self, field: str, value: Any, tmp_path: Path) -> None:
        with SweepDirectory(tmp_path) as directory:
            directory.write(manifest(job(0, "a")))
        content = json.loads((tmp_path / "sweep.json").read_text())
        content["jobs"][0][field] = value
        (tmp_path / "sweep.json").write_text(json.dumps(content))
        assert "sweep.json: expected " in refusal(read, tmp_path)


class TestSame:
    def test_the_same_jobs_and_more_in_any_order(self, tmp_path: Path) -> None:
        earlier = manifest(job(0, "a"), job(1, "b"))
        check_same(tmp_path, earlier, manifest(job(0, "c"), job(1, "b"), job(2, "a")))

    def test_another_sweep(self, tmp_path: Path) -> None:
        earlier = manifest(job(0, "a"), job(1, "b"), job(2, "c"))
        message = refusal(check_same, tmp_path, earlier, manifest(job(0, "b")))
        assert (
            f"expected this sweep's directory, got '{tmp_path}', of another one: python" in message
        )
        # Seed 0 is asked for, and is another job than it was.
        assert message.endswith("1 of its 3 jobs has changed (#0: seed=0). Choose a new directory.")
        fewer = Planned(0, "b", ("seed=1",), "1")
        message = refusal(check_same, tmp_path, earlier, manifest(fewer))
        assert "2 of its 3 jobs aren't asked for now (#0: seed=0)." in message

    def test_where_jobs_are_chosen_as_it_goes_the_words_count(self, tmp_path: Path) -> None:
        words = ("seed=1,2", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=5")
        earlier = manifest(overrides=words)
        more = ("hydra/sweeper=optuna", "hydra.sweeper.n_trials=9", "seed=1,2")
        check_same(tmp_path, earlier, manifest(overrides=more))
        message = refusal(check_same, tmp_path, earlier, manifest(overrides=("seed=1,3",)))
        assert "It was told something else. Choose a new directory." in message


class TestRecorded:
    def record(self, folder: Path, status: Any, metrics: Any = '{"loss": 1}') -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "status.json").write_text(
            status if isinstance(status, str) else json.dumps(status)
        )
        (folder / "metrics.json").write_text(metrics)
        return folder

    def test_complete(self, tmp_path: Path) -> None:
        done = {"state": "COMPLETED", "key": "a"}
        assert complete(self.record(tmp_path, done), "a")
        assert not complete(tmp_path, "b")
        assert not complete(self.record(tmp_path, {**done, "state": "FAILED"}), "a")
        assert not complete(self.record(tmp_path, done, "{"), "a")
        for text in ("", "{", "[]", "null", '{"state": "COMPLETED"}'):
            assert not complete(self.record(tmp_path, text), "a")
        assert not complete(tmp_path / "absent", "a")

    def test_directories_by_key(self, tmp_path: Path) -> None:
        self.record(tmp_path / "0", {"key": "a"})
        self.record(tmp_path / "deep" / "1", {"key": "b"})
        self.record(tmp_path / "2", {"key": None})  # a run of its own
        self.record(tmp_path / "3", "{")
        with SweepDirectory(tmp_path) as directory:
            assert directory.recorded() == {"a": "0", "b": "deep/1"}
            assert directory.finished(job(0, "a")) is False
