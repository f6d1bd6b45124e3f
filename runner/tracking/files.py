"""The files of a run: metrics.jsonl, the source of truth, and pictures as PNG."""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.tracking import Tracker
from runner.tracking.directory import check_place, json_safe, named, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

STEPS = "metrics.jsonl"

UP, RGB = 2, 2
"""PNG's numbers for a row as its difference from the one above, and for three colours a pixel."""


class Files(Tracker):
    """Writes each step as a line of JSON, and each picture as a file named after its tag.

    A run whose directory is removed or replaced ends at the next step: nothing of it would be kept.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / STEPS
        self._steps = self._path.open("a", encoding="utf-8")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append ``{"step": 3, "train/loss": 0.5}`` and hand it to the operating system."""
        line = json.dumps(json_safe({"step": step, **values}), allow_nan=False)
        check_place(self._steps, self._path)
        try:
            self._steps.write(f"{line}\n")
            self._steps.flush()
        except OSError as error:
            raise named(error, self._path) from None

    def image(self, tag: str, picture: Image, step: int = 0) -> None:
        """Write ``images/<tag>.png``, with the step in the name from the second on."""
        check_place(self._steps, self._path)
        folder = self.directory / "images"
        folder.mkdir(exist_ok=True)
        name = safe_name(tag) + (f"_{step:06d}" if step else "")
        write_atomically(folder / f"{name}.png", png(picture), sync=False)

    def rewind(self, step: int) -> None:
        """Keep the lines of the steps from 1 to `step`; one that was half written goes too."""
        self._steps.close()
        lines = self._path.read_bytes().splitlines(keepends=True)
        write_atomically(self._path, b"".join(one for one in lines if 0 < _step(one) <= step))
        self._steps = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Close metrics.jsonl."""
        self._steps.close()


def _step(line: bytes) -> int:
    """The step that a line of metrics.jsonl is about; 0 of a line that isn't whole."""
    try:
        found = json.loads(line)["step"] if line.endswith(b"\n") else 0
    except (ValueError, KeyError, TypeError):
        return 0
    return int(found)


def png(picture: Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    return _LAST.png(picture)


class _Last:
    """Encodes a picture once, though every tracker asks for it in turn."""

    def __init__(self) -> None:
        self._pixels: tuple[str, tuple[int, int], bytes] | None = None
        self._encoded = b""

    def png(self, picture: Image) -> bytes:
        """The bytes; comparing pixels takes a tenth of the time that encoding takes."""
        pixels = (picture.mode, picture.size, picture.tobytes())
        if pixels != self._pixels:
            self._pixels, self._encoded = pixels, _encode(picture, pixels[2])
        return self._encoded


_LAST = _Last()


def _encode(picture: Image, pixels: bytes) -> bytes:
    """A PNG file; of a colour picture without Pillow's search for each row's best filter.

    Rows of drawings mostly equal the one above, so every row says how it differs from that. This
    takes a third of the time, for files that are a half larger: a small job draws for longer than
    it computes. See https://www.w3.org/TR/png-3/, 5 and 9.
    """
    if picture.mode != "RGB":
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        return buffer.getvalue()
    import numpy as np  # here, so that what draws nothing doesn't wait for it

    colours = np.frombuffer(pixels, np.uint8).reshape(picture.height, -1)
    rows = np.empty((colours.shape[0], 1 + colours.shape[1]), np.uint8)
    rows[:, 0], rows[0, 1:] = UP, colours[0]
    np.subtract(colours[1:], colours[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, RGB, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows.data, level=1), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in chunks.items()
    )


def safe_name(tag: str) -> str:
    """A tag as a file name: letters, digits, ``-`` and ``_``; it can't leave the folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", tag).strip("_") or "unnamed"
