"""The IDX files that MNIST and its look-alikes come in.

A file is a magic number (two zero bytes, the type, the number of dimensions), the sizes, and the
values; all integers are big-endian. See http://yann.lecun.com/exdb/mnist.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedIOBase, BufferedReader
from math import prod
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from runner.config.errors import problem
from runner.data import Images
from runner.data._files import located, quoted
from runner.data._labelled import Labelled
from runner.geometry import Shape

_SIDE = 28
_MOST = 60_000  # images in a file; larger numbers in a header are not believed
_MEMBERS = 10_000  # of a gzipped file; those of parallel packers have a thousand
_PREFIX = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 0x08
_AGAIN = "Download it again."


class Idx(Labelled):
    """28 × 28 images and their labels, out of two IDX files; `Labelled` says which images.

    Attributes:
        folder: where the files are, gzipped or not; ``~`` is the home folder, and a relative
            path starts at the current directory.
        split: ``train``, 60000 images, or ``test``, 10000.
    """

    CLASSES: ClassVar[tuple[str, ...]] = ()
    HOMEPAGE: ClassVar[str] = ""

    folder: str
    split: Literal["train", "test"] = "train"

    def shape(self) -> Shape:
        """One gray channel."""
        self._total()
        return self._sized(Shape(1, _SIDE, _SIDE))

    def count(self) -> int:
        """As many as `images` says; the files' headers say how many there are."""
        return len(self._range(self._total()))

    def load(self) -> Images:
        """The images and their labels."""
        taken = self._range(self._total())
        images, labels = self._files()
        x = _values(images, 3)[taken, None].astype(np.float64) / 255
        classes = _values(labels, 1)[taken].astype(np.int64)
        if classes.max() >= len(self.CLASSES):
            expected = f"labels from 0 to {len(self.CLASSES) - 1} in {labels.name}"
            raise problem("folder", expected, str(classes.max()))
        note = "gray, 0 background to 1 ink"
        return Images(self._resized(x), labels=classes, classes=self.CLASSES, note=note)

    def _total(self) -> int:
        """How many images there are; the sizes in both headers are checked."""
        images, labels = self._files()
        (total, *_), (labelled,) = _sizes(images, 3), _sizes(labels, 1)
        if total != labelled:
            expected = f"one label in {labels.name} for each of {total} images in {images.name}"
            raise problem("folder", expected, f"{labelled} labels", "Download both files again.")
        return total

    def _files(self) -> tuple[Path, Path]:
        """The files of images and labels, of which there may be plain or gzipped ones."""
        prefix = _PREFIX[self.split]
        names = (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte")
        expected = f"a folder with {names[0]} and {names[1]}, or both with .gz"
        hint = f"Download them from {self.HOMEPAGE} and put them there."
        folder = located("folder", self.folder, expected, folder=True, hint=hint)
        found = [
            next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
            for name in names
        ]
        images, labels = found
        if images is None or labels is None:
            missing = [name for name, path in zip(names, found, strict=True) if path is None]
            got = f"{quoted(self.folder)} without {' and '.join(missing)}"
            raise problem("folder", expected, got, hint)
        return images, labels


class _Unzipped(gzip._GzipReader):
    """What a gzipped file holds, up to a number of members: an empty one takes time too."""

    _members = 0

    def _init_read(self) -> None:
        self._members += 1
        if self._members > _MEMBERS:
            raise OSError(f"more than {_MEMBERS:,} members")
        super()._init_read()  # type: ignore[misc]  # unknown to the stubs


@contextmanager
def _opened(path: Path, dims: int) -> Iterator[tuple[BufferedIOBase, tuple[int, ...]]]:
    """A file whose header has been read and checked, and the sizes in it."""
    try:
        with path.open("rb") as raw:
            # By what is in it: some browsers unpack a download and keep its name.
            zipped = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            file: BufferedIOBase = BufferedReader(_Unzipped(raw)) if zipped else raw
            sizes = _header(file.read(4 + 4 * dims), path, dims)
            if not zipped:  # before memory is set aside for them
                _require(path, prod(sizes), path.stat().st_size - 4 - 4 * dims)
            yield file, sizes
    except (OSError, EOFError, zlib.error) as error:
        raise problem("folder", f"{path.name} whole and readable", str(error), _AGAIN) from error


def _header(header: bytes, path: Path, dims: int) -> tuple[int, ...]:
    what = f"n × {_SIDE} × {_SIDE} bytes" if dims == 3 else "n bytes"
    magic = bytes((0, 0, _UNSIGNED_BYTE, dims))
    expected = f"{path.name} to be an IDX file of {what}, starting with {magic.hex(' ')}"
    if header[:4] != magic:
        raise problem("folder", expected, header[:4].hex(" ") or "an empty file")
    if len(header) < 4 + 4 * dims:
        raise problem("folder", expected, "a header cut short")
    numbers = [int(n) for n in np.frombuffer(header, ">u4", dims, offset=4)]
    total, *sides = numbers
    if not 1 <= total <= _MOST or any(side != _SIDE for side in sides):
        expected = f"{path.name} to have {what}, n from 1 to {_MOST}"
        raise problem("folder", expected, " × ".join(map(str, numbers)))
    return tuple(numbers)


def _sizes(path: Path, dims: int) -> tuple[int, ...]:
    with _opened(path, dims) as (_, sizes):
        return sizes


def _values(path: Path, dims: int) -> NDArray[np.uint8]:
    with _opened(path, dims) as (file, sizes):
        found = file.read(prod(sizes) + 1)  # one more tells a file that goes on
    _require(path, prod(sizes), len(found))
    return np.frombuffer(found, dtype=np.uint8).reshape(sizes)


def _require(path: Path, expected: int, found: int) -> None:
    if found != expected:
        told = f"{path.name} to hold the {expected} bytes that its header tells of"
        raise problem("folder", told, "more" if found > expected else str(found), _AGAIN)
