"""A run's directory: nobody else's, whole at any moment, and honest about its state."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from runner.config.errors import ConfigError
from runner.tracking import directory
from runner.tracking.directory import (
    RunDirectory,
    claim,
    json_safe,
    state,
    synced_behind,
    write_atomically,
    write_json,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace", "write"])
def test_failure_leaves_the_old_file_and_no_other(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif step == "replace":
        monkeypatch.setattr(Path, "replace", full)
    content: Any = b"new" if step != "write" else "text that can't be written as bytes"
    with pytest.raises(OSError if step != "write" else TypeError):
        write_atomically(path, content)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    """A process that writes without pause, and another that reads without pause."""
    path = tmp_path / "status.json"
    write_json(path, {"numbers": [0] * 20_000})
    program = (
        "import sys; from pathlib import Path; from runner.tracking.directory import write_json\n"
        "for i in range(10**6): write_json(Path(sys.argv[1]), {'numbers': [i] * 20_000})"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)])
    try:
        seen = set()
        deadline = time.monotonic() + 20
        while len(seen) < 20 and time.monotonic() < deadline:
            numbers = json.loads(path.read_text())["numbers"]
            assert len(numbers) == 20_000
            assert len(set(numbers)) == 1
            seen.add(numbers[0])
        assert len(seen) == 20
    finally:
        writer.kill()
        writer.wait()
    json.loads(path.read_text())


@pytest.mark.parametrize(
    ("data", "safe"),
    [
        ({"a": nan, "b": inf, "c": [-inf, 1.5]}, {"a": "nan", "b": "inf", "c": ["-inf", 1.5]}),
        ((1, (2.0, nan)), [1, [2.0, "nan"]]),
        ({1: True, None: None}, {"1": True, "None": None}),
        ("nan", "nan"),
    ],
)
def test_json_safe(data: Any, safe: Any) -> None:
    assert json_safe(data) == safe


def test_json_is_strict_and_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"size": "6×8", "loss": nan})
    text = (tmp_path / "a.json").read_text()
    assert "6×8" in text
    strict = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert strict == {"size": "6×8", "loss": "nan"}


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    wanted = str(tmp_path / "deep" / "er" / "run")
    assert [claim(wanted, "key").name for _ in range(3)] == ["run", "run-1", "run-2"]


def test_a_file_is_not_taken_for_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"key: expected a directory, got .*, which is a file"):
        claim(str(tmp_path / "file"), "key")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_relative_names_start_here(workplace: Path) -> None:
    assert claim("outputs/run", "key") == workplace / "outputs" / "run"


def test_twenty_at_once_get_twenty(tmp_path: Path) -> None:
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: claim(str(tmp_path / "run"), "key"), range(20)))
    assert len(set(found)) == 20
    assert set(found) == set(tmp_path.iterdir())


def test_eight_processes_at_once_get_eight(tmp_path: Path) -> None:
    program = (
        "import sys, time; from runner.tracking.directory import claim\n"
        "print('ready', flush=True); sys.stdin.readline(); print(claim(sys.argv[1], 'key'))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(8)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    found = {process.communicate()[0].strip() for process in processes}
    assert found == {str(path) for path in tmp_path.iterdir()}
    assert len(found) == 8


def test_what_cannot_be_claimed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError) as caught:
        claim(str(tmp_path / "file" / "run"), "hydra.run.dir")
    complaint = str(caught.value)
    assert complaint.startswith("hydra.run.dir: expected a directory that can be written, got")
    assert complaint.endswith("Choose another: hydra.run.dir=/path/to/run.")
    assert f"'{tmp_path}/file/run'" in complaint
    with pytest.raises(ConfigError, match=r"hydra.run.dir: expected a directory, got an empty"):
        claim("", "hydra.run.dir")
    with pytest.raises(ConfigError, match="a directory that can be written"):
        claim("/proc/nothing/run", "key")
    with pytest.raises(ConfigError, match="File name too long"):
        claim(str(tmp_path / ("x" * 300)), "key")


def test_state_is_recorded_as_it_changes(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path, {"task": "edge"})
    first = json.loads((tmp_path / "status.json").read_text())
    assert (first["state"], first["reason"], first["task"]) == ("RUNNING", None, "edge")
    assert state(tmp_path) == "RUNNING"
    time.sleep(0.01)
    home.mark("FAILED", "why", step=3)
    last = json.loads((tmp_path / "status.json").read_text())
    assert (last["state"], last["reason"], last["step"]) == ("FAILED", "why", 3)
    assert last["started"] == first["started"]
    assert last["seconds"] >= 0.01
    assert state(tmp_path) == "FAILED"
    home.release()
    assert state(tmp_path) == "FAILED"


def test_two_cannot_hold_one_directory(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path, {})
    expected = "the directory of a run that has ended, got one that is still running"
    with pytest.raises(ConfigError, match=f"{tmp_path}: expected {expected}"):
        RunDirectory(tmp_path, {})
    home.release()
    RunDirectory(tmp_path, {}).release()


def test_what_was_half_written_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in (".checkpoint.pt.12.tmp", "images/.a.png.12.tmp", "own.tmp", "checkpoint.pt"):
        (tmp_path / name).touch()
    RunDirectory(tmp_path, {}).release()
    assert names(tmp_path) == [".lock", "checkpoint.pt", "images", "own.tmp", "status.json"]
    assert names(tmp_path / "images") == []


def test_a_resumed_run_counts_all_its_time(tmp_path: Path) -> None:
    home = RunDirectory(tmp_path, {"started": "2026-01-01T00:00:00+00:00"}, spent=100.0)
    home.mark("COMPLETED")
    home.release()
    status = json.loads((tmp_path / "status.json").read_text())
    assert 100 <= status["seconds"] < 110
    assert status["started"] == "2026-01-01T00:00:00+00:00"


def test_killed_run_is_dead(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from runner.tracking.directory import RunDirectory\n"
        "home = RunDirectory(Path(sys.argv[1]), {}); print('up', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert state(tmp_path) == "RUNNING"
    assert state(tmp_path) == "RUNNING"  # looking doesn't take the lock away
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert state(tmp_path) == "DEAD"
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "RUNNING"


def test_files_are_synced_behind_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[str, bool]] = []
    main = threading.current_thread()

    def fsync(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").resolve().name
        synced.append((name, threading.current_thread() is main))

    monkeypatch.setattr(os, "fsync", fsync)
    with synced_behind():
        for name in "abc":
            write_atomically(tmp_path / name, name.encode())
            assert (tmp_path / name).read_text() == name, "whole at once"
        write_atomically(tmp_path / "never", b"", sync=False)
    assert synced == [("a", False), ("b", False), ("c", False)], "all before the end, in order"
    synced.clear()
    with synced_behind():
        write_atomically(tmp_path / "kept", b"", at_once=True)
        assert [on_main for _, on_main in synced] == [True]
    write_atomically(tmp_path / "after", b"")
    assert [on_main for _, on_main in synced] == [True, True]


def test_what_cannot_be_synced_behind_is_an_error_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    synced, fsync = [], os.fsync

    def broken(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").resolve().name
        if name.startswith("bad"):
            raise OSError(errno.EIO, "Input/output error")
        synced.append(name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    went_on = False
    with pytest.raises(OSError, match=r"Input/output error: '.*/bad1'"):  # noqa: SIM117  # order
        with synced_behind():
            for name in ("a", "bad1", "b", "bad2"):
                write_atomically(tmp_path / name, b"")
            went_on = True
    assert went_on
    assert synced == ["a", "b"]
    assert [r.message.split()[0][-4:] for r in caplog.records] == ["bad1", "bad2"]
    # What ended the block tells more.
    with pytest.raises(KeyboardInterrupt), synced_behind():
        write_atomically(tmp_path / "bad", b"")
        raise KeyboardInterrupt


def test_a_file_that_was_removed_needs_no_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    removed = threading.Event()
    monkeypatch.setattr(os, "fsync", lambda _: removed.wait(10))
    with synced_behind():
        for name in ("first", "gone"):  # the thread waits at the first one
            write_atomically(tmp_path / name, b"")
        (tmp_path / "gone").unlink()
        removed.set()
    assert caplog.records == []


def test_few_files_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stands still: who writes waits too, and Ctrl-C leaves little behind."""
    released, synced = threading.Event(), []

    def fsync(_: int) -> None:
        synced.append(released.wait(10))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(directory, "OUTSTANDING", 3)
    written = []

    def write() -> None:
        with synced_behind():
            for number in range(20):
                write_atomically(tmp_path / str(number), b"")
                written.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join(0.5)
    # One is at the disk, three wait, and the fifth is written but can't get into the queue.
    assert len(written) <= 4
    assert len(list(tmp_path.iterdir())) <= 5
    released.set()
    thread.join(10)
    assert (len(written), synced) == (20, [True] * 20)


class TestLinkedLock:
    """A lock that is a link, perhaps to a file that is precious."""

    @pytest.fixture
    def precious(self, tmp_path: Path) -> Path:
        file = tmp_path / "precious.txt"
        file.write_text("dear")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / ".lock").symlink_to(file)
        return file

    def test_it_is_neither_followed_nor_emptied(self, precious: Path, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="symbolic links"):
            RunDirectory(tmp_path / "run", {})
        (tmp_path / "run" / "status.json").write_text('{"state": "RUNNING"}')
        with pytest.raises(OSError, match="symbolic links"):
            state(tmp_path / "run")
        assert precious.read_text() == "dear"

    def test_nor_is_what_it_leads_to_made(self, precious: Path, tmp_path: Path) -> None:
        precious.unlink()
        with pytest.raises(OSError, match="symbolic links"):
            RunDirectory(tmp_path / "run", {})
        assert not precious.exists()


def test_who_looks_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "RUNNING"}')
    assert state(tmp_path) == "DEAD"
    assert names(tmp_path) == ["status.json"]
    # A lock that holds something, as somebody else's file of that name may, keeps it.
    (tmp_path / ".lock").write_text("text")
    RunDirectory(tmp_path, {}).release()
    assert (tmp_path / ".lock").read_text() == "text"
