"""Caches that are damaged, full or nowhere: all comes out as it does without them."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import subprocess
from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from disk import Disk, small
from shell import COMMAND

from runner.choices import choices
from runner.launch import launch
from runner.ops import _tuning
from runner.ops._compiled import compiled
from runner.ops._tuning import FILE, recall, remember


def sums(x: Any) -> Any:
    """1·x₀ + 2·x₁ + 3·x₂ …"""
    total = x[0] - x[0]
    for i in range(x.size):
        total += (i + 1) * x[i]
    return total


def other(x: Any) -> Any:
    return x[0]


WHOLE, HALVES = np.arange(4), np.arange(4) / 2
"""Weighted with 1, 2, 3, 4, their sums are 0 + 2 + 6 + 12 = 20 and half of that."""


class Compiled:
    """`sums`, compiled and kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def results(self, function: Any = None) -> tuple[Any, Any, int]:
        """As another process finds them: for integers, for halves, and how many were there."""
        function = compiled(sums) if function is None else function
        found = function(WHOLE), function(HALVES)
        return *found, sum(function.stats.cache_hits.values())

    def files(self, ending: str) -> list[Path]:
        return sorted(path for path in self.folder.rglob(f"*{ending}") if "sums" in path.name)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiled:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    found = Compiled(tmp_path / "numba")
    assert found.results() == (20, 10.0, 0)
    assert found.results() == (20, 10.0, 2)
    return found


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]


def exchange(files: list[Path]) -> None:
    first, second = (file.read_bytes() for file in files)
    files[0].write_bytes(second)
    files[1].write_bytes(first)


def others(kept: Compiled) -> None:
    """Index and code are those of another function."""
    compiled(other)(WHOLE)
    for path in kept.files(".nbi"):
        (index,) = (one for one in kept.folder.rglob("*.nbi") if "other" in one.name)
        shutil.copy(index, path)


DAMAGE: dict[str, Callable[[Compiled], Any]] = {
    "no index": lambda kept: kept.files(".nbi")[0].unlink(),
    "no code": lambda kept: kept.files(".nbc")[0].unlink(),
    "an empty index": lambda kept: kept.files(".nbi")[0].write_bytes(b""),
    "empty code": lambda kept: kept.files(".nbc")[1].write_bytes(b""),
    "half of the index": lambda kept: os.truncate(kept.files(".nbi")[0], 100),
    "half of the code": lambda kept: os.truncate(kept.files(".nbc")[0], 5000),
    "garbage": lambda kept: kept.files(".nbc")[0].write_bytes(bytes(range(256)) * 40),
    "another version": lambda kept: kept.files(".nbi")[0].write_bytes(
        pickle.dumps("0.1") + b"what that version had"
    ),
    "an index that is none": lambda kept: kept.files(".nbi")[0].write_bytes(
        pickle.dumps(numba.__version__) + pickle.dumps(17)
    ),
    "code for other types": lambda kept: exchange(kept.files(".nbc")),
    "another function": others,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_code_is_compiled_anew(
    damage: Callable[[Compiled], Any], kept: Compiled, caplog: pytest.LogCaptureFixture
) -> None:
    damage(kept)
    assert kept.results()[:2] == (20, 10.0)
    assert len(caplog.records) <= 1
    assert kept.results() == (20, 10.0, 2)


@pytest.mark.parametrize(("seed", "count"), [(0, 8), pytest.param(1, 300, marks=pytest.mark.slow)])
def test_a_single_bit_decides_nothing(
    seed: int, count: int, kept: Compiled, caplog: pytest.LogCaptureFixture
) -> None:
    """Machine code with a flipped bit gives another number, or ends the process."""
    generator = random.Random(seed)
    for number in range(count):
        file = generator.choice(kept.files(".nbi") + 3 * kept.files(".nbc"))
        content = file.read_bytes()
        file.write_bytes(flipped(content, generator.randrange(len(content))))
        assert kept.results()[:2] == (20, 10.0), f"seed {seed}, number {number}: {file.name}"
        assert len(caplog.records) <= 1
        caplog.clear()
        assert kept.results() == (20, 10.0, 2)


def test_code_that_can_t_be_kept_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "numba"))
    kept = Compiled(tmp_path / "numba")
    function = compiled(sums)  # takes the folder, which has room
    with Disk(tmp_path, 0).mounted():
        assert kept.results(function) == (20, 10.0, 0)
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "No space left on device" in caplog.text
    assert not list(tmp_path.rglob("*.nb*"))


def test_a_folder_in_the_place_of_a_file(kept: Compiled) -> None:
    for file in [*kept.files(".nbi"), *kept.files(".nbc")]:
        file.unlink()
        file.mkdir()
    assert kept.results() == (20, 10.0, 0)


KEY = {"case": "conv 1×8×8 → 1, 3×3", "device": "a processor, threads 1", "software": "torch 2"}
SECONDS = {"native": 2e-3, "direct": 1e-4}


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What `auto` remembers: the case above among others."""
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "cache"))
    _tuning._logged.cache_clear()
    choices.begin()
    for number in range(3):
        remember(KEY | {"case": f"case {number}"}, {"native": 1.0, "fft": 2.0})
        remember(KEY, SECONDS)
    return tmp_path / "cache" / FILE


def changed(content: bytes, generator: random.Random) -> bytes:
    """One of the things that happen to files."""
    place, end = sorted(generator.randrange(len(content) + 1) for _ in range(2))
    part = content[place:end]
    return generator.choice(
        [
            content[:place],
            content[:place] + content[end:],
            content[:place] + part * 3 + content[end:],
            content[:place] + generator.randbytes(end - place) + content[end:],
            content[:place] + b"\n" + content[place:],
            flipped(content, min(place, len(content) - 1)),
            content.replace(b"0.", generator.choice([b"-0.", b"1e999", b"NaN", b"[", b'"x"', b""])),
            content.replace(b"native", generator.choice([b"gone", b"", b'"', b"\xff", b"fft"])),
            content + generator.choice([b"null\n", b"{}\n", b"[" * 9999, b"\0" * 4096]),
            b"\xef\xbb\xbf" + content,
        ]
    )


@pytest.mark.parametrize(
    ("seed", "count"), [(0, 300), pytest.param(1, 20_000, marks=pytest.mark.slow)]
)
def test_whatever_happened_to_the_file_auto_can_use_what_is_left(
    seed: int, count: int, remembered: Path
) -> None:
    whole, generator = remembered.read_bytes(), random.Random(seed)
    for number in range(count):
        told = f"seed {seed}, number {number}"
        remembered.write_bytes(changed(whole, generator))
        for found in (recall(KEY, set(SECONDS)), dict(remember(KEY, SECONDS))):
            if found is not None:
                assert found.keys() == SECONDS.keys(), told
                assert all(s > 0 and isfinite(s) for s in found.values()), told
        assert recall(KEY, set(SECONDS)) is not None, told
        lines = [json.loads(line) for line in remembered.read_bytes().split(b"\n")[:-1]]
        assert all(line.keys() == {*KEY, "seconds"} for line in lines), told
    assert [path.name for path in remembered.parent.iterdir() if path.suffix == ".tmp"] == []


AUTO = (
    "task=edge", "data=noise", "data.height=40", "data.width=40", "stack=sobel",
    "ops=auto", "ops.auto.allow=[native,im2col]", "ops.auto.measure_from=1", "tensorboard=false",
)  # fmt: skip


def test_a_run_is_the_same_with_a_damaged_file(remembered: Path, workplace: Path) -> None:
    expected = launch([*AUTO, "ops=native", "~ops.auto"], quiet=True).outputs["sobel"]
    launch(AUTO, quiet=True)
    whole = remembered.read_bytes()
    assert b"im2col" in whole
    # An operator that is gone, one that is impossibly fast, a file that isn't text.
    for content in (whole.replace(b"im2col", b"gone"), whole[:-20], os.urandom(5000)):
        remembered.write_bytes(content)
        found = launch(AUTO, quiet=True).outputs["sobel"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_there_is_no_home_and_no_place_for_what_is_temporary(workplace: Path) -> None:
    """A user without a home, as in many a container; a sweep, whose summary draws a chart."""
    (workplace / "file").write_text("in the way")
    nowhere = str(workplace / "file" / "folder")
    names = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR")
    environment = {k: v for k, v in os.environ.items() if k not in ("RUNNER_CACHE", "MPLCONFIGDIR")}
    words = ["-m", "task=learn_kernel", "seed=0,1", "ops=auto", "ops.auto.measure_from=1"]
    done = subprocess.run(
        [*COMMAND, *words, "ops.auto.allow=[native,im2col]", "hydra.sweep.dir=out"],
        cwd=workplace, env=environment | dict.fromkeys(names, nowhere),
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done
    assert "2 completed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert (workplace / "out" / "summary.md").exists()
    assert sorted(path.name for path in workplace.iterdir()) == ["file", "out"]


@pytest.mark.slow
def test_there_is_no_room_for_caches(workplace: Path) -> None:
    """Compiled code, what auto remembers and matplotlib's fonts: none can be kept."""
    with small(workplace / "full", "64k") as full:
        with (full / "much").open("wb", buffering=0) as file, pytest.raises(OSError, match="left"):
            while True:
                file.write(bytes(4096))
        names = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR", "RUNNER_CACHE")
        done = subprocess.run(
            [*COMMAND, "-m", "task=learn_kernel", "seed=0,1", "hydra.sweep.dir=out",
             "ops=auto", "ops.auto.allow=[native,direct]", "ops.auto.measure_from=1"],
            cwd=workplace, env=os.environ | dict.fromkeys(names, str(full)),
            capture_output=True, text=True, timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done
        assert "2 completed" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
