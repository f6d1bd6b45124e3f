"""Pictures that are none, or far more than they seem, by the command line."""

from __future__ import annotations

import io
import os
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
from attacking import TORCH, Attack

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *before: bytes, rows: int = 0) -> bytes:
    """A gray PNG of 8 bits, of which so many rows are there."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes((1 + width) * rows), 9))
    return b"".join([SIGNATURE, header, *before, pixels, chunk(b"IEND", b"")])


def encoded(form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(buffer, form, **options)
    return buffer.getvalue()


FRAMES = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
ORIENTATION = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\x99\0"
ZEROS = zlib.compress(bytes(2**26))

REFUSED = {
    "a bomb of 10,000×25,000": png(10_000, 25_000, rows=2_500),
    "a bomb of 2^31": png(2**31 - 1, 2**31 - 1),
    "no pixels": png(0, 0),
    "negative": png(2**32 - 1, 1),
    "text that unpacks to 64 MiB": png(4, 4, chunk(b"zTXt", b"a\0\0" + ZEROS), rows=4),
    "a short file": png(4_000, 4_000),
    "GIF": encoded("GIF"),
    "TIFF": encoded("TIFF"),
    "ICO": encoded("ICO"),
    "PPM": encoded("PPM"),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\n",
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 4, 4, 8, 3) + bytes(200),
    "PDF": b"%PDF-1.4\n" + bytes(100),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "an icon within a PNG's name": b"\0\0\1\0\1\0" + bytes(100),
    "a library": b"\x7fELF" + bytes(200),
    "a pickle": b"\x80\4cos\nmkdir\n(V/tmp/MARKER\ntR.",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(attack: Attack, name: str) -> None:
    answer = attack("task=edge", "data=image", "data.path=x.png", files={"x.png": REFUSED[name]})
    answer.refused("data.path")


TAKEN = {
    "a name that lies": encoded("JPEG"),
    "more frames than it has": png(4, 4, FRAMES, rows=4),
    "a profile that unpacks to 64 MiB": png(4, 4, chunk(b"iCCP", b"a\0\0" + ZEROS), rows=4),
    "EXIF of nonsense": encoded("JPEG", exif=b"Exif\0\0II*\0" + b"\xff" * 60),
    "an orientation that is none": encoded("PNG", exif=ORIENTATION),
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_harmless(attack: Attack, name: str) -> None:
    """Either answer will do, as long as it costs nothing."""
    answer = attack("task=edge", "data=image", "data.path=x.png", files={"x.png": TAKEN[name]})
    assert answer.rc in (2, TORCH), answer.stderr
    answer.harmless()


@pytest.mark.parametrize("what", ["pipe", "folder", "/dev/zero", "loop"])
def test_what_is_no_file(attack: Attack, what: str) -> None:
    cwd = attack("--version").cwd
    path = cwd / "x.png"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if what == "loop" else what)
    attack("task=edge", "data=image", "data.path=x.png").refused("data.path")
    attack("task=edge", "data=mnist", "data.folder=x.png").refused("data.folder")
