"""The files of a run: metrics.jsonl, the source of truth, and pictures as PNG."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from runner.tracking import Tracker
from runner.tracking.directory import json_safe, write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

STEPS = "metrics.jsonl"
LEVEL = 3
"""Of compression: half of the default's time, for files that are a fifth to a half larger."""


class Files(Tracker):
    """Writes each step as a line of JSON, and each picture as a file named after its tag."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / STEPS
        self._steps = self._path.open("a", encoding="utf-8")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append ``{"step": 3, "train/loss": 0.5}`` and hand it to the operating system."""
        line = json.dumps(json_safe({"step": step, **values}), allow_nan=False)
        self._steps.write(f"{line}\n")
        self._steps.flush()

    def image(self, tag: str, picture: Image, step: int = 0) -> None:
        """Write ``images/<tag>.png``, with the step in the name from the second on."""
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
            buffer = io.BytesIO()
            picture.save(buffer, format="PNG", compress_level=LEVEL)
            self._pixels, self._encoded = pixels, buffer.getvalue()
        return self._encoded


_LAST = _Last()


def safe_name(tag: str) -> str:
    """A tag as a file name: letters, digits, ``-`` and ``_``; it can't leave the folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", tag).strip("_") or "unnamed"
