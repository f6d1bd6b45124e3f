"""Labelled images: scikit-learn's digits, and MNIST's files as the tests write them."""

from __future__ import annotations

import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runner.config.errors import Problem
from runner.data import Data

Make = Callable[..., Data]
Complaint = Callable[..., Problem]

KINDS = pytest.mark.parametrize("kind", ["mnist", "fashion_mnist"])
ZIPPED = pytest.mark.parametrize("zipped", [False, True])


def test_first_digit(make: Make) -> None:
    images = make("digits", images=2).load()
    assert (images.x[0, 0] * 16).tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1]
    assert images.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def test_all_digits(make: Make) -> None:
    spec = make("digits", images=None)
    images = spec.load()
    assert spec.count() == 1797
    assert images.x.shape == (1797, *spec.shape().dims) == (1797, 1, 8, 8)
    assert images.labels is not None
    # How often each occurs, from scikit-learn's description of the set.
    assert np.bincount(images.labels).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180
    ]  # fmt: skip
    assert (images.x.min(), images.x.max()) == (0, 1)


@pytest.mark.parametrize(("start", "images", "count"), [(5, 3, 3), (1790, None, 7), (1796, 1, 1)])
def test_some_digits(make: Make, start: int, images: int | None, count: int) -> None:
    spec = make("digits", start=start, images=images)
    everything = make("digits", images=None).load()
    some = spec.load()
    assert spec.count() == len(some.x) == count
    assert np.array_equal(some.x, everything.x[start : start + count])
    assert everything.labels is not None
    assert some.labels is not None
    assert some.labels.tolist() == everything.labels[start : start + count].tolist()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"start": 1790},
            "data.images: expected at most 7, the images from 1790 to 1796, got 16. "
            "null takes all of them.",
        ),
        (
            {"start": 1797},
            "data.start: expected less than 1797, the number of images, got 1797.",
        ),
        ({"start": -1}, "data.start: expected at least 0, got -1."),
        ({"images": 0}, "data.images: expected at least 1, got 0."),
        ({"images": "all"}, "data.images: expected an integer, got 'all' (text)."),
    ],
)
def test_mistakes_in_digits(complaint: Complaint, fields: dict[str, Any], expected: str) -> None:
    assert str(complaint("digits", **fields)) == expected


def test_digits_without_scikit_learn(complaint: Complaint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.data._files.find_spec", lambda _: None)
    assert str(complaint("digits")) == (
        "data.kind: expected scikit-learn's digits.csv.gz, got no scikit-learn. "
        "Install it: pip install scikit-learn"
    )
    assert complaint("photo").path == "data.name"


IMAGES = "train-images-idx3-ubyte"
LABELS = "train-labels-idx1-ubyte"


def idx(*sizes: int, values: bytes, magic: int | None = None) -> bytes:
    first = 0x0800 + len(sizes) if magic is None else magic
    return struct.pack(f">{1 + len(sizes)}I", first, *sizes) + values


def pixels(n: int) -> bytes:
    """Image i is i everywhere but for its first row, which counts up from 0."""
    return b"".join(bytes(range(28)) + bytes([i]) * 28 * 27 for i in range(n))


def write(
    folder: Path, images: bytes | None = None, labels: bytes | None = None, zipped: bool = False
) -> str:
    """Five images and the labels 9, 8, 7, 6, 5, unless told otherwise."""
    contents = {
        IMAGES: idx(5, 28, 28, values=pixels(5)) if images is None else images,
        LABELS: idx(5, values=bytes([9, 8, 7, 6, 5])) if labels is None else labels,
    }
    for name, content in contents.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return str(folder)


@KINDS
@ZIPPED
def test_idx_files(make: Make, tmp_path: Path, kind: str, zipped: bool) -> None:
    spec = make(kind, folder=write(tmp_path, zipped=zipped), start=1, images=3)
    assert str(spec.shape()) == "1×28×28"
    assert spec.count() == 3
    images = spec.load()
    assert images.x.shape == (3, 1, 28, 28)
    assert images.x.dtype == np.float64
    assert (images.x[:, 0, 0] * 255).tolist() == [list(range(28))] * 3
    assert (images.x[:, 0, 27, 27] * 255).tolist() == [1, 2, 3]
    assert images.labels is not None
    assert images.labels.tolist() == [8, 7, 6]
    assert len(images.classes) == 10


def test_all_of_a_file(make: Make, tmp_path: Path) -> None:
    spec = make("mnist", folder=write(tmp_path), images=None)
    assert spec.count() == len(spec.load().x) == 5


def test_class_names(make: Make, tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert make("mnist", folder=folder, images=1).load().classes == tuple("0123456789")
    clothes = make("fashion_mnist", folder=folder, images=1).load().classes
    assert (clothes[0], clothes[9]) == ("T-shirt/top", "Ankle boot")


def test_test_split_has_its_own_files(make: Make, complaint: Complaint, tmp_path: Path) -> None:
    folder = write(tmp_path)
    assert complaint("mnist", folder=folder, split="test").path == "data.folder"
    for name in (IMAGES, LABELS):
        (tmp_path / name).rename(tmp_path / name.replace("train", "t10k"))
    assert make("mnist", folder=folder, split="test", images=None).count() == 5


def test_gzipped_or_not_is_told_by_the_content(make: Make, tmp_path: Path) -> None:
    folder = write(tmp_path, zipped=True)
    for name in (IMAGES, LABELS):
        (tmp_path / f"{name}.gz").rename(tmp_path / name)
    assert make("mnist", folder=folder, images=5).load().x.shape == (5, 1, 28, 28)


def test_home_folder(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").mkdir()
    write(tmp_path / "mnist")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert make("mnist", folder="~/mnist", images=2).count() == 2


def test_empty_folder_says_what_to_put_there(complaint: Complaint, tmp_path: Path) -> None:
    assert str(complaint("mnist", folder=str(tmp_path))) == (
        f"data.folder: expected a folder with {IMAGES} and {LABELS}, or both with .gz, "
        f"got '{tmp_path}' without {IMAGES} and {LABELS}. "
        "Download them from https://ossci-datasets.s3.amazonaws.com/mnist/ and put them there."
    )


def test_one_file_missing(complaint: Complaint, tmp_path: Path) -> None:
    folder = write(tmp_path)
    (tmp_path / LABELS).unlink()
    problem = complaint("fashion_mnist", folder=folder)
    assert problem.got == f"'{folder}' without {LABELS}"
    assert "https://github.com/zalandoresearch/fashion-mnist" in problem.hint


def test_no_folder(complaint: Complaint, tmp_path: Path) -> None:
    (tmp_path / "mnist").mkdir()
    problem = complaint("mnist", folder=str(tmp_path / "mnits"))
    assert problem.got == f"'{tmp_path / 'mnits'}', which does not exist"
    assert problem.hint.startswith("Did you mean 'mnist'? Download them from ")


def test_a_file_for_a_folder(complaint: Complaint, tmp_path: Path) -> None:
    write(tmp_path)
    got = complaint("mnist", folder=str(tmp_path / IMAGES)).got
    assert got == f"'{tmp_path / IMAGES}', which is no folder"


def test_folder_is_required(complaint: Complaint) -> None:
    assert str(complaint("mnist")) == "data.folder: expected a value, got nothing."


def test_more_than_there_are(complaint: Complaint, tmp_path: Path) -> None:
    problem = complaint("mnist", folder=write(tmp_path), start=3)
    assert str(problem) == (
        "data.images: expected at most 2, the images from 3 to 4, got 16. null takes all of them."
    )


@ZIPPED
@pytest.mark.parametrize(
    ("images", "labels", "expected", "got"),
    [
        (
            idx(5, 28, 28, values=pixels(5), magic=0x0801),
            None,
            f"{IMAGES}* to be an IDX file of n × 28 × 28 bytes, starting with 00 00 08 03",
            "00 00 08 01",
        ),
        (
            None,
            idx(5, 28, 28, values=pixels(5)),
            f"{LABELS}* to be an IDX file of n bytes, starting with 00 00 08 01",
            "00 00 08 03",
        ),
        (
            b"<html>",
            None,
            f"{IMAGES}* to be an IDX file of n × 28 × 28 bytes, starting with 00 00 08 03",
            "3c 68 74 6d",
        ),
        (
            idx(5, 28, 28, values=b"")[:10],
            None,
            f"{IMAGES}* to be an IDX file of n × 28 × 28 bytes, starting with 00 00 08 03",
            "a header cut short",
        ),
        (
            b"",
            None,
            f"{IMAGES}* to be an IDX file of n × 28 × 28 bytes, starting with 00 00 08 03",
            "an empty file",
        ),
        (
            idx(5, 27, 28, values=pixels(5)),
            None,
            f"{IMAGES}* to have n × 28 × 28 bytes, n from 1 to 60000",
            "5 × 27 × 28",
        ),
        (
            idx(2**32 - 1, 28, 28, values=pixels(5)),
            None,
            f"{IMAGES}* to have n × 28 × 28 bytes, n from 1 to 60000",
            "4294967295 × 28 × 28",
        ),
        (
            None,
            idx(0, values=b""),
            f"{LABELS}* to have n bytes, n from 1 to 60000",
            "0",
        ),
        (
            None,
            idx(4, values=bytes(4)),
            f"one label in {LABELS}* for each of 5 images in {IMAGES}*",
            "4 labels",
        ),
        (
            idx(5, 28, 28, values=pixels(4)),
            None,
            f"{IMAGES}* to hold the 3920 bytes that its header tells of",
            "3136",
        ),
        (
            None,
            idx(5, values=bytes(6)),
            f"{LABELS}* to hold the 5 bytes that its header tells of",
            "more",
        ),
        (
            None,
            idx(5, values=bytes([0, 1, 2, 10, 4])),
            f"labels from 0 to 9 in {LABELS}*",
            "10",
        ),
    ],
)
def test_files_that_are_wrong(
    complaint: Complaint,
    tmp_path: Path,
    zipped: bool,
    images: bytes | None,
    labels: bytes | None,
    expected: str,
    got: str,
) -> None:
    folder = write(tmp_path, images, labels, zipped)
    problem = complaint("mnist", folder=folder, images=5)
    assert problem.path == "data.folder"
    assert problem.expected == expected.replace("*", ".gz" if zipped else "")
    assert problem.got == got


@pytest.mark.parametrize("where", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_gzip(complaint: Complaint, tmp_path: Path, where: float, damage: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, 5 * 784, dtype=np.uint8).tobytes()
    folder = write(tmp_path, idx(5, 28, 28, values=noise), zipped=True)
    path = tmp_path / f"{IMAGES}.gz"
    data = bytearray(path.read_bytes())
    at = int(len(data) * where)
    if damage == "cut":
        del data[at:]
    else:
        data[at] ^= 0xFF
    path.write_bytes(data)
    problem = complaint("mnist", folder=folder, images=5)
    assert problem.path == "data.folder"
    assert problem.expected == f"{IMAGES}.gz whole and readable"


def test_gzip_bomb_is_read_no_further_than_its_header_says(
    complaint: Complaint, tmp_path: Path
) -> None:
    # 256 MiB of zeros behind a header that tells of 5 images
    folder = write(tmp_path)
    (tmp_path / IMAGES).unlink()
    packer = zlib.compressobj(wbits=31)
    parts = [packer.compress(idx(5, 28, 28, values=b""))]
    parts += [packer.compress(bytes(2**24)) for _ in range(16)]
    (tmp_path / f"{IMAGES}.gz").write_bytes(b"".join([*parts, packer.flush()]))
    tracemalloc.start()
    try:
        problem = complaint("mnist", folder=folder, images=5)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.got == "more"
    assert peak < 4 * 2**20


def test_gzip_of_very_many_members(complaint: Complaint, make: Make, tmp_path: Path) -> None:
    folder = write(tmp_path, zipped=True)
    path = tmp_path / f"{IMAGES}.gz"
    content, empty = path.read_bytes(), gzip.compress(b"")
    path.write_bytes(empty * 1_000 + content)
    make("mnist", folder=folder, images=5)
    path.write_bytes(empty * 10_000 + content)
    assert complaint("mnist", folder=folder, images=5).got == "more than 10,000 members"


def test_large_header_on_a_small_file_allocates_nothing(
    complaint: Complaint, tmp_path: Path
) -> None:
    labels = idx(60_000, values=bytes(60_000))
    folder = write(tmp_path, idx(60_000, 28, 28, values=pixels(5)), labels)
    tracemalloc.start()
    try:
        problem = complaint("mnist", folder=folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.got == "3920"
    assert peak < 4 * 2**20
