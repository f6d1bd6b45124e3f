"""Finding the files that sources read, and saying what is there when they aren't."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from runner.config.errors import did_you_mean, problem

_LISTED = 2_000  # names of a folder that are compared with a missing one


def located(field: str, text: str, expected: str, *, folder: bool = False, hint: str = "") -> Path:
    """The existing file, or folder, that a field names.

    Args:
        field: the field, for the error.
        text: what was written; ``~`` is the home folder, and a relative path starts at the
            current directory.
        expected: what should have been there.
        folder: whether it should be a folder.
        hint: what to do when it isn't there.

    Raises:
        ConfigError: nothing is there, or something else.
    """
    try:
        path = Path(text).expanduser()
        mode = path.stat().st_mode
    except FileNotFoundError:
        hint = " ".join(part for part in (_nearby(path), hint) if part)
        raise problem(field, expected, f"{quoted(text)}, which does not exist", hint) from None
    except (OSError, RuntimeError, ValueError) as error:  # no such home, no permission, \0
        why = getattr(error, "strerror", None) or error
        raise problem(field, expected, f"{quoted(text)}: {why}", hint) from None
    if folder and not S_ISDIR(mode):
        raise problem(field, expected, f"{quoted(text)}, which is no folder", hint)
    if not folder and not S_ISREG(mode):  # opening a pipe would wait for ever
        what = "a folder" if S_ISDIR(mode) else "no regular file"
        raise problem(field, expected, f"{quoted(text)}, which is {what}", hint)
    return path


def sklearn_file(field: str, *parts: str) -> Path:
    """A file of scikit-learn's datasets, found without importing it, which takes seconds.

    Raises:
        ConfigError: scikit-learn isn't installed, or comes without the file.
    """
    spec = find_spec("sklearn")
    hint = "Install it: pip install scikit-learn"
    if spec is None or spec.origin is None:
        raise problem(field, f"scikit-learn's {parts[-1]}", "no scikit-learn", hint)
    path = Path(spec.origin).parent.joinpath("datasets", *parts)
    if not path.is_file():
        raise problem(field, f"scikit-learn's {parts[-1]}", f"no file at {path}", hint)
    return path


def quoted(text: str) -> str:
    """A path in quotes; of one too long to read, both ends."""
    return repr(text if len(text) <= 200 else f"{text[:90]}…{text[-90:]}")


def _nearby(path: Path) -> str:
    """The nearest name in a missing path's folder, or where the path was looked for."""
    try:
        near = did_you_mean(path.name, [p.name for p in islice(path.parent.iterdir(), _LISTED)])
    except OSError:
        return f"There is no folder '{path.parent}'."
    if near or path.is_absolute():
        return near
    return f"It was looked for in {Path.cwd()}."
