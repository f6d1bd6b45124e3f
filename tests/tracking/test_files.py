"""Trackers: the files that scripts read, several trackers as one, and one that remembers."""

from __future__ import annotations

import io
import json
import logging
from math import inf, nan
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import runner
from runner.tracking import Tracker, Trackers, files
from runner.tracking.files import Files, png, safe_name
from runner.tracking.memory import Memory
from runner.tracking.tensorboard import TensorBoard

DOT = PIL.Image.new("RGB", (2, 1), (255, 0, 0))


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("kernel/conv1", "kernel_conv1"),
        ("../../etc/passwd", "etc_passwd"),
        ("/etc/passwd", "etc_passwd"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("a b\n\x00ç", "a_b"),
        ("output/Ünïcode", "output_n_code"),
        ("C:\\windows", "C_windows"),
        ("fine-name_1", "fine-name_1"),
    ],
)
def test_tag_as_a_file_name(tag: str, name: str) -> None:
    assert safe_name(tag) == name


def test_pictures_stay_in_their_folder(tmp_path: Path) -> None:
    home = tmp_path / "run"
    home.mkdir()
    files = Files(home)
    for tag in ("../../out", "/tmp/out", "a/../../b", "kernel/conv"):
        files.image(tag, DOT)
    files.image("kernel/conv", DOT, step=7)
    files.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    found = {path.name for path in (home / "images").iterdir()}
    assert found == {
        "out.png", "tmp_out.png", "a_b.png", "kernel_conv.png", "kernel_conv_000007.png"
    }  # fmt: skip
    with PIL.Image.open(home / "images" / "kernel_conv.png") as picture:
        assert picture.size == (2, 1)
        assert picture.getpixel((0, 0)) == (255, 0, 0)


def test_steps_are_lines_of_json_at_once(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.scalars({"train/loss": 0.5, "lr": 1.0}, step=3)
    # Before the file is closed, so that a kill loses nothing.
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 3, "train/loss": 0.5, "lr": 1.0}]
    files.scalars({"train/loss": nan}, step=4)
    files.scalars({"train/loss": inf}, step=5)
    files.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    fail = pytest.fail
    read = [json.loads(x, parse_constant=lambda word: fail(f"{word} isn't JSON")) for x in lines]
    assert [step["train/loss"] for step in read] == [0.5, "nan", "inf"]


def test_png_is_a_png() -> None:
    assert png(DOT).startswith(b"\x89PNG\r\n\x1a\n")


class Broken(Tracker):
    """Takes nothing, as a full disk does."""

    def scalars(self, *_: object) -> None:
        raise OSError("disk full")

    def image(self, *_: object, **__: object) -> None:
        raise ValueError("no picture")

    def close(self) -> None:
        raise OSError("disk full")


def test_what_one_tracker_cannot_take_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory()
    both = Trackers(memory, [Broken(), Memory()])
    with caplog.at_level(logging.WARNING):
        for step in range(3):
            both.scalars({"loss": 1.0}, step)
            both.image("tag", DOT, step)
        both.text("tag", "text")
        both.close()
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "Broken could not take scalars: disk full",
        "Broken could not take image: no picture",
        "Broken could not take close: disk full",
    ]
    # The others got everything.
    other = both.others[1]
    assert isinstance(other, Memory)
    assert memory.history == other.history == {"loss": [(0, 1.0), (1, 1.0), (2, 1.0)]}
    assert len(memory.images["tag"]) == len(other.images["tag"]) == 3
    assert other.texts == {"tag": "text"}


def test_vital_tracker_is_not_let_off() -> None:
    with pytest.raises(OSError, match="disk full"):
        Trackers(Broken(), []).scalars({"loss": 1.0}, 0)


def test_run_goes_on_without_its_event_file(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TensorBoard, "_summary", full)
    result = runner.run("task=learn_kernel", "tensorboard=true")
    assert result.holds
    log = (result.directory / "run.log").read_text()
    assert log.count("TensorBoard could not take scalars") == 1
    assert "No space left on device" in log
    assert json.loads((result.directory / "status.json").read_text())["state"] == "COMPLETED"


def test_run_fails_without_its_truth(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Files, "scalars", full)
    with pytest.raises(OSError, match="No space left on device"):
        runner.run("task=learn_kernel")
    (directory,) = (workplace / "outputs" / "learn_kernel").iterdir()
    status = json.loads((directory / "status.json").read_text())
    assert status["state"] == "FAILED"
    assert "No space left on device" in status["reason"]


def test_memory_keeps_everything() -> None:
    memory = Memory()
    memory.scalars({"a": 1.0, "b": 2.0}, 1)
    memory.scalars({"a": 3.0}, 2)
    memory.image("i", DOT, 4)
    memory.histogram("h", np.ones(3), 5)
    memory.text("t", "words")
    memory.hparams({"lr": 0.1}, {})
    memory.outcome({"loss": 0.5})
    memory.close()
    assert memory.history == {"a": [(1, 1.0), (2, 3.0)], "b": [(1, 2.0)]}
    assert memory.images == {"i": [(4, DOT)]}
    assert memory.histograms["h"][0][0] == 5
    assert (memory.texts, memory.parameters, memory.metrics) == (
        {"t": "words"},
        {"lr": 0.1},
        {"loss": 0.5},
    )


def test_tracker_by_itself_takes_nothing() -> None:
    tracker = Tracker()
    tracker.scalars({"a": 1.0}, 0)
    tracker.image("a", DOT)
    tracker.histogram("a", np.ones(1))
    tracker.text("a", "a")
    tracker.hparams({}, {})
    tracker.outcome({})
    tracker.close()


def test_a_picture_that_several_trackers_take_is_encoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[PIL.Image.Image] = []
    encode = files._encode
    monkeypatch.setattr(files, "_encode", lambda im, px: (encoded.append(im), encode(im, px))[1])
    picture = PIL.Image.new("RGB", (3, 2), (1, 2, 3))
    trackers = Trackers(Files(tmp_path), [TensorBoard(tmp_path)])
    trackers.image("dot", picture)
    assert encoded == [picture]
    picture.putpixel((0, 0), (9, 9, 9))  # another picture in the same place
    trackers.image("dot", picture)
    trackers.close()
    assert len(encoded) == 2
    with PIL.Image.open(tmp_path / "images" / "dot.png") as written:
        assert written.getpixel((0, 0)) == (9, 9, 9)
        assert written.getpixel((2, 1)) == (1, 2, 3)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (2, 50), (300, 200)])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_a_png_has_the_picture_s_pixels(size: tuple[int, int], mode: str) -> None:
    depth = {"RGB": 3, "L": 1, "RGBA": 4}[mode]
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], depth), np.uint8)
    drawn = PIL.Image.fromarray(noise.squeeze(2) if mode == "L" else noise)
    read = PIL.Image.open(io.BytesIO(png(drawn)))
    read.load()  # checks every chunk's sum
    assert (read.format, read.mode, read.size) == ("PNG", mode, size)
    assert np.array_equal(np.asarray(read), np.asarray(drawn))
