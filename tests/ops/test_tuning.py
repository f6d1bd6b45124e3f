"""What auto remembers: found again, by everybody, whatever happens to the file."""

import fcntl
import json
import logging
import os
import subprocess
import sys

import pytest

from runner.choices import choices
from runner.ops import _tuning
from runner.ops._tuning import FILE, LOCK, recall, remember

KEY = {"case": "conv 1×8×8 → 1, 3×3", "device": "a processor, threads 1", "software": "torch 2"}
SECONDS = {"native": 2e-3, "direct": 1e-4}
NAMES = set(SECONDS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    _tuning._logged.cache_clear()
    choices.begin()
    return tmp_path / "cache"


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / FILE).read_text().splitlines()]


class TestWhere:
    def test_the_projects_own_variable(self, folder):
        assert _tuning.folder() == folder

    def test_the_users_cache(self, monkeypatch, tmp_path):
        monkeypatch.delenv("RUNNER_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert _tuning.folder() == tmp_path / "runner"

    def test_the_home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("RUNNER_CACHE", "")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert _tuning.folder() == tmp_path / ".cache" / "runner"


class TestRemembered:
    def test_nothing_at_first(self, folder):
        assert recall(KEY, NAMES) is None
        assert not folder.exists()

    def test_what_was_written_to_the_last_digit(self):
        odd = {"native": 0.1 + 0.2, "direct": 1e-300}
        assert remember(KEY, odd) == odd
        assert recall(KEY, NAMES) == odd

    @pytest.mark.parametrize("part", KEY)
    def test_another_case_device_or_version_is_not_known(self, part):
        remember(KEY, SECONDS)
        assert recall(KEY | {part: "another"}, NAMES) is None

    def test_other_candidates_are_another_question(self):
        remember(KEY, SECONDS)
        assert recall(KEY, {"native", "direct", "fft"}) is None
        assert recall(KEY, {"native"}) is None

    def test_the_first_to_write_is_right(self, folder):
        remember(KEY, SECONDS)
        assert remember(KEY, {"native": 1.0, "direct": 2.0}) == SECONDS
        assert recall(KEY, NAMES) == SECONDS
        assert len(lines(folder)) == 1

    def test_only_the_user_may_look(self, folder):
        remember(KEY, SECONDS)
        assert folder.stat().st_mode & 0o777 == 0o700


DAMAGE = {
    "garbage": bytes(range(256)) * 3,
    "garbage and an end of line": b"\x00\xff\xfe\n",
    "half a line": json.dumps({**KEY, "seconds": SECONDS}).encode()[:-20],
    "no JSON": b"{case: 1}\n",
    "another JSON": b"[1, 2]\n17\nnull\n",
    "no seconds": json.dumps(KEY).encode() + b"\n",
    "text for seconds": json.dumps({**KEY, "seconds": {"native": "fast"}}).encode() + b"\n",
    "no time at all": json.dumps({**KEY, "seconds": {"native": 0.0}}).encode() + b"\n",
    "not a number": json.dumps({**KEY, "seconds": {"native": float("nan")}}).encode() + b"\n",
    "brackets without end": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
class TestDamage:
    def test_what_is_whole_is_kept_and_the_rest_is_mended(self, folder, damage, caplog):
        remember(KEY, SECONDS)
        with (folder / FILE).open("ab") as file:
            file.write(damage)
        assert recall(KEY, NAMES) == SECONDS
        assert [r.levelno for r in caplog.records] == [logging.WARNING]
        assert "damaged" in caplog.text
        assert choices.summary() == [
            f"auto  {folder / FILE} was damaged; what is whole in it is kept"
        ]
        assert lines(folder) == [{**KEY, "seconds": SECONDS}]
        assert recall(KEY, NAMES) == SECONDS
        assert len(caplog.records) == 1
        assert sorted(p.name for p in folder.iterdir()) == [FILE, LOCK]

    def test_a_new_line_stands_by_itself(self, folder, damage):
        folder.mkdir()
        (folder / FILE).write_bytes(damage)
        remember(KEY, SECONDS)
        assert lines(folder) == [{**KEY, "seconds": SECONDS}]


class TestFaults:
    def test_a_file_beyond_all_measure_is_begun_anew(self, folder, monkeypatch):
        monkeypatch.setattr(_tuning, "LARGEST", 1000)
        for i in range(20):
            remember(KEY | {"case": f"{i}"}, SECONDS)
        assert (folder / FILE).stat().st_size < 1200
        assert recall(KEY | {"case": "19"}, NAMES) == SECONDS

    def test_what_a_crash_left_is_no_hindrance(self, folder):
        folder.mkdir()
        (folder / f"{FILE}.tmp").write_bytes(b"half")
        (folder / FILE).write_bytes(b"half")
        remember(KEY, SECONDS)
        assert sorted(p.name for p in folder.iterdir()) == [FILE, LOCK]

    def test_a_directory_in_its_place(self, folder, caplog):
        (folder / FILE).mkdir(parents=True)
        assert recall(KEY, NAMES) is None
        assert remember(KEY, SECONDS) == SECONDS
        assert recall(KEY, NAMES) is None
        assert len(caplog.records) == 1
        assert "can't remember: RUNNER_CACHE=" in caplog.text

    def test_a_file_where_the_folder_should_be(self, folder, caplog):
        folder.write_text("in the way")
        for _ in range(2):
            assert recall(KEY, NAMES) is None
            assert remember(KEY, SECONDS) == SECONDS
        assert folder.read_text() == "in the way"
        assert len(caplog.records) == 1
        told = f"can't remember: RUNNER_CACHE={folder}: not a directory; measured anew in every run"
        assert choices.summary() == [f"auto  {told}"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_may_only_be_read(self, folder, caplog):
        remember(KEY, SECONDS)
        with (folder / FILE).open("ab") as file:
            file.write(b"half")
        (folder / LOCK).unlink()
        folder.chmod(0o500)
        assert recall(KEY, NAMES) == SECONDS
        assert remember(KEY | {"case": "another"}, SECONDS) == SECONDS
        assert len(caplog.records) == 1
        folder.chmod(0o700)

    def test_no_home(self, monkeypatch):
        def homeless(_):
            raise RuntimeError("no home directory")

        monkeypatch.delenv("RUNNER_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(_tuning.Path, "home", classmethod(homeless))
        assert recall(KEY, NAMES) is None
        assert remember(KEY, SECONDS) == SECONDS
        assert "~/.cache: no home directory" in choices.summary()[0]

    def test_who_holds_the_lock_for_ever_is_not_waited_for(self, folder, monkeypatch, caplog):
        monkeypatch.setattr(_tuning, "PATIENCE", 0.05)
        remember(KEY, SECONDS)
        with (folder / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert recall(KEY, NAMES) == SECONDS
            assert remember(KEY | {"case": "another"}, SECONDS) == SECONDS
        assert len(caplog.records) == 1
        assert recall(KEY | {"case": "another"}, NAMES) is None


WRITER = """
import importlib.util, json, sys, types
# The module alone: torch would take seconds in each of the processes.
sys.modules["torch"] = types.ModuleType("torch")
sys.modules["torch"].device = object
spec = importlib.util.spec_from_file_location("tuning", sys.argv[1])
tuning = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tuning)
number = int(sys.argv[2])
key = json.loads(sys.argv[3])
for case in range(10):
    tuning.remember(key | {"case": f"{number} {case}"}, {"native": 1.0 + number})
print(tuning.remember(key, {"native": 1.0 + number})["native"])
"""


def test_twenty_processes_at_once(folder):
    """No line is lost or torn, and all agree about the case that they share."""
    words = [sys.executable, "-c", WRITER, _tuning.__file__]
    writers = [
        subprocess.Popen([*words, str(i), json.dumps(KEY)], stdout=subprocess.PIPE, text=True)
        for i in range(20)
    ]
    agreed = {writer.communicate(timeout=60)[0] for writer in writers}
    assert [writer.returncode for writer in writers] == [0] * 20
    assert len(agreed) == 1
    assert {line["case"] for line in lines(folder)} == {
        KEY["case"], *(f"{i} {case}" for i in range(20) for case in range(10))
    }  # fmt: skip
    assert len(lines(folder)) == 201


class TestKey:
    def test_a_change_of_an_operators_source_is_another_version(self, tmp_path):
        (tmp_path / "op.py").write_text("a = 1")
        before = _tuning._software.__wrapped__(str(tmp_path))
        (tmp_path / "op.py").write_text("a = 2")
        _tuning.digest.cache_clear()
        assert _tuning._software.__wrapped__(str(tmp_path)) != before
        assert before.startswith("torch ")

    def test_the_threads_are_part_of_the_device(self, monkeypatch):
        import torch

        monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
        key = _tuning.key_of("a case", torch.device("cpu"))
        assert key["device"].endswith(", threads 7")
        assert len(key["device"]) > len(", threads 7")


@pytest.mark.parametrize("name", [FILE, LOCK, f"{FILE}.tmp"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(name, folder):
    folder.mkdir()
    if name != FILE:
        (folder / FILE).write_text("damaged")
    os.mkfifo(folder / name)
    code = (
        "from runner.ops._tuning import recall, remember\n"
        f"recall({KEY!r}, {NAMES!r}), remember({KEY!r}, {SECONDS!r})\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    if name == FILE:
        assert remember(KEY, SECONDS) == SECONDS
        assert "not a regular file" in choices.summary()[-1]
    else:
        assert recall(KEY, NAMES) == SECONDS
