"""What a task writes down so that it can be killed: everything it needs to go on, and a checksum.

A checkpoint is ``checkpoint.pt`` with ``checkpoint.pt.sha256`` beside it, in the form that
``sha256sum --check`` reads. It holds tensors and plain types alone, and is read as such, so that
a file from elsewhere can't run code.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.errors import ConfigError, first_line, problem
from runner.tracking.directory import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINT, WEIGHTS = "checkpoint.pt", "weights.pt"
FORMAT = 1
"""Of the checkpoint's content; raised when it changes."""


def save_weights(directory: Path, weights: Mapping[str, Tensor]) -> None:
    """Write ``weights.pt``: a state dict, tensors only, on the CPU."""
    # A tensor that is a part of a larger one would be saved with all of that.
    own = {name: weight.cpu().clone() for name, weight in weights.items()}
    write_atomically(directory / WEIGHTS, _packed(own))


def save_checkpoint(directory: Path, content: Mapping[str, Any]) -> None:
    """Write ``checkpoint.pt`` and its checksum, so that at any moment the two on disk agree.

    Two files can't be replaced in one step. So the checksum file first names the new content and
    the old, then the content is replaced, then the old checksum is dropped.
    """
    packed = _packed({"format": FORMAT, **content})
    path, sums = directory / CHECKPOINT, _sums(directory)
    line = f"{hashlib.sha256(packed).hexdigest()}  {CHECKPOINT}\n"
    before = sums.read_text() if sums.exists() else ""
    write_atomically(sums, (line + before).encode(), at_once=True)
    write_atomically(path, packed, at_once=True)
    write_atomically(sums, line.encode(), at_once=True)


def load_checkpoint(directory: Path, device: str = "cpu") -> dict[str, Any] | None:
    """Read the checkpoint of a run's directory.

    Returns:
        Its content, or None where there is none.

    Raises:
        ConfigError: it is damaged; the path is the file's.
    """
    import torch

    path, sums = directory / CHECKPOINT, _sums(directory)
    if not path.exists():
        return None
    packed = path.read_bytes()
    if not sums.exists():
        raise _damaged(path, f"its checksum in {sums.name}", "no such file")
    digest = hashlib.sha256(packed).hexdigest()
    known = [line.partition(" ")[0] for line in sums.read_text(errors="replace").splitlines()]
    if digest not in known:
        expected = f"the content whose SHA-256 {sums.name} has ({known[0][:12] if known else ''}…)"
        raise _damaged(path, expected, f"{len(packed):,} bytes with {digest[:12]}…")
    try:
        _check_stored(packed)
        content = torch.load(io.BytesIO(packed), map_location=device, weights_only=True)
    except Exception as error:  # whatever an unpickler can trip over
        lines = str(error).splitlines() or [""]
        raise _damaged(path, "tensors and plain types", lines[0]) from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise _damaged(path, f"a checkpoint of format {FORMAT}", f"format {found}")
    return dict(content)


def _check_stored(packed: bytes) -> None:
    """Refuse an archive that unpacks to more than it is; torch writes none.

    Raises:
        ValueError: it would.
        zipfile.BadZipFile: it is no archive.
    """
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        entries = archive.infolist()
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or sum(entry.file_size for entry in entries) > len(packed):
        raise ValueError("compressed or overlapping entries")


@contextmanager
def restoring(directory: Path) -> Iterator[None]:
    """What can't be restored from a checkpoint's content is told as damage of its file.

    Raises:
        ConfigError: something in it is missing, or isn't what this run had saved.
    """
    try:
        yield
    except (
        AttributeError,
        LookupError,
        OverflowError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise _damaged(directory / CHECKPOINT, "what this run saved", said) from error


def _sums(directory: Path) -> Path:
    return directory / f"{CHECKPOINT}.sha256"


def _packed(content: Mapping[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def _damaged(path: Path, expected: str, got: str) -> ConfigError:
    hint = f"Put a good copy there, or start over without it: remove {path.name}."
    return problem(str(path), expected, got, hint)
