"""Files that are no pictures, or want something else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from runner.config.errors import ConfigError, Problem
from runner.data import Data

Make = Callable[..., Data]
Complaint = Callable[..., Problem]
Picture = Callable[..., str]

EXPECTED = "a PNG, JPEG, BMP or WebP file"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *before: bytes, pixels: bytes = b"\0\0") -> bytes:
    """A gray PNG of one bit per pixel whose pixels need not be as many as its header says."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rest = [chunk(b"IDAT", zlib.compress(pixels)), chunk(b"IEND", b"")]
    return b"".join([b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *before, *rest])


def webp(path: Path, width: int, height: int) -> bytes:
    """An animated WebP of one small frame on a canvas of this size."""
    PIL.Image.new("RGB", (16, 16)).save(path)

    def block(name: bytes, *parts: bytes) -> bytes:
        body = b"".join(parts)
        return name + struct.pack("<I", len(body)) + body

    def size(width: int, height: int) -> bytes:
        return struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]

    extended = block(b"VP8X", b"\2\0\0\0", size(width, height))
    frame = block(b"ANMF", bytes(6), size(16, 16), bytes(4), path.read_bytes()[12:])
    return block(b"RIFF", b"WEBP", extended, block(b"ANIM", bytes(6)), frame)


def patched(path: Path, width: int, height: int) -> bytes:
    """A small picture whose header says another size."""
    PIL.Image.new("L", (16, 16)).save(path)
    data = bytearray(path.read_bytes())
    if path.suffix == ".bmp":
        data[18:26] = struct.pack("<ii", width, height)
    else:
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: PIL.ImageFile.ImageFile) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load", refuse)
    monkeypatch.setattr(PIL.ImageFile.ImageFile, "load_prepare", refuse)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
@pytest.mark.parametrize("side", [5_001, 9_500, 16_000, 20_000, 60_000])
def test_bombs_are_refused_unseen(
    complaint: Complaint, tmp_path: Path, no_decoding: None, name: str, side: int
) -> None:
    path = tmp_path / name
    if name == "a.png":
        path.write_bytes(png(side, side))
    else:
        path.write_bytes((webp if name == "a.webp" else patched)(path, side, side))
    before = time.perf_counter()
    problem = complaint("image", path=str(path))
    assert time.perf_counter() - before < 1
    assert str(problem) == (
        f"data.path: expected at most 25,000,000 pixels (max_pixels), got '{path}' of "
        f"{side * side:,} pixels. Make it smaller, or raise max_pixels if you trust the file."
    )


def test_a_real_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png(20_000, 20_000, pixels=bytes(2_501 * 20_000)))
    assert path.stat().st_size < 100_000
    program = f"""
import resource
from runner.config.errors import ConfigError
from runner.data.image import Image
def used(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = used()
for call in ("shape", "load"):
    try:
        getattr(Image(kind="image", path={str(path)!r}), call)()
    except ConfigError as error:
        print(len(error.problems), end=" ")
print(used() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == ""
    shape, load, mebibytes = map(int, done.stdout.split())
    assert (shape, load) == (1, 1)
    assert mebibytes < 30


def test_max_pixels_replaces_pillows_own_limit(
    make: Make, picture: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow would warn of 15 pixels and refuse 21.
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    for height in (3, 6):
        spec = make("image", path=picture(np.zeros((height, 5))), crop=[0, 0, height, 4])
        assert spec.shape().dims == (1, height, 4)
        assert spec.load().x.shape == (1, 1, height, 4)
    assert PIL.Image.MAX_IMAGE_PIXELS == 10


def test_the_limit_itself_is_allowed(make: Make, complaint: Complaint, picture: Picture) -> None:
    path = picture(np.zeros((3, 4)))
    assert make("image", path=path, max_pixels=12).load().x.shape == (1, 1, 3, 4)
    assert complaint("image", path=path, max_pixels=11).got == f"'{path}' of 12 pixels"


def test_shape_does_not_decode(make: Make, tmp_path: Path, no_decoding: None) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(300, 200))
    assert str(make("image", path=str(path)).shape()) == "1×200×300"


def test_missing_file_suggests_the_nearest(complaint: Complaint, picture: Picture) -> None:
    path = picture([[0]]).replace("picture", "pictrue")
    assert str(complaint("image", path=path)) == (
        f"data.path: expected {EXPECTED}, got '{path}', which does not exist. "
        "Did you mean 'picture.png'?"
    )


def test_missing_relative_file_says_where(
    complaint: Complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complaint("image", path="a.png").hint == f"It was looked for in {tmp_path}."


def test_missing_folder(complaint: Complaint, tmp_path: Path) -> None:
    problem = complaint("image", path=str(tmp_path / "no" / "a.png"))
    assert problem.hint == f"There is no folder '{tmp_path / 'no'}'."


def test_folder(complaint: Complaint, tmp_path: Path) -> None:
    problem = complaint("image", path=str(tmp_path))
    assert problem.got == f"'{tmp_path}', which is a folder"


def test_pipe_is_not_waited_for(complaint: Complaint, tmp_path: Path) -> None:
    path = tmp_path / "pipe.png"
    os.mkfifo(path)
    assert complaint("image", path=str(path)).got == f"'{path}', which is no regular file"
    assert complaint("image", path="/dev/zero").got == "'/dev/zero', which is no regular file"


@pytest.mark.parametrize("path", ["", "a\0b", "~nobody-here/a.png", "x" * 5000, "a.png/b.png"])
def test_odd_paths(complaint: Complaint, path: str) -> None:
    problem = complaint("image", path=path)
    assert problem.path == "data.path"
    assert len(str(problem)) < 500


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n", b"RIFF0000WEBP"])
def test_no_picture(complaint: Complaint, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    problem = complaint("image", path=str(path))
    assert problem.path == "data.path"
    assert problem.expected.startswith(EXPECTED)
    assert problem.got.startswith(f"'{path}', which ")


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a.ico", "a.ppm"])
def test_other_formats(complaint: Complaint, picture: Picture, name: str) -> None:
    path = picture(np.zeros((32, 32)), name)
    disguised = Path(path).rename(Path(path).with_suffix(".png"))
    assert str(complaint("image", path=str(disguised))) == (
        f"data.path: expected {EXPECTED}, got '{disguised}', which is none of these. "
        "Save it anew in one of these formats."
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_cut_files(complaint: Complaint, picture: Picture, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64))
    path = Path(picture(noise, name))
    whole = path.read_bytes()
    for length in (len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:length])
        problem = complaint("image", path=str(path))
        assert problem.path == "data.path"
        assert problem.expected.startswith(EXPECTED)


def test_cut_png_in_words(complaint: Complaint, picture: Picture) -> None:
    path = Path(picture(np.random.default_rng(0).integers(0, 256, (64, 64))))
    path.write_bytes(path.read_bytes()[:2000])
    problem = complaint("image", path=str(path))
    assert problem.expected == f"{EXPECTED} that is whole"
    assert problem.got.startswith(f"'{path}', which can't be read: ")
    assert "truncated" in problem.got


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_damage_anywhere_ends_in_a_picture_or_a_complaint(
    make: Make, picture: Picture, name: str
) -> None:
    generator = np.random.default_rng(1)
    path = Path(picture(generator.integers(0, 256, (16, 16)), name))
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 3):
            damaged[place] = generator.integers(0, 256)
        path.write_bytes(damaged)
        spec = make("image", path=str(path), max_pixels=100_000)
        try:
            assert spec.load().x.shape == (1, *spec.shape().dims)
        except ConfigError as error:
            assert [problem.path for problem in error.problems] == ["path"]


def test_compressed_text_bomb(complaint: Complaint, make: Make, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2**26)))
    path.write_bytes(png(1, 1, bomb))
    problem = complaint("image", path=str(path))
    assert problem.got.startswith(f"'{path}', which can't be read: ")


def test_file_far_larger_than_its_picture(complaint: Complaint, picture: Picture) -> None:
    path = picture([[0]])
    os.truncate(path, 2**33)  # sparse
    assert str(complaint("image", path=path)) == (
        f"data.path: expected a file of at most 216,777,216 bytes, got '{path}' of "
        "8,589,934,592 bytes. See max_pixels."
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "data.path: expected a value, got nothing."),
        ({"path": 3}, "data.path: expected text, got 3."),
        ({"path": "a", "max_pixels": 0}, "data.max_pixels: expected at least 1, got 0."),
    ],
)
def test_mistakes_in_fields(complaint: Complaint, fields: dict[str, Any], expected: str) -> None:
    assert str(complaint("image", **fields)) == expected
