"""Command lines that a file recorded, and that are given again without anybody typing them.

Hydra's own config may call any Python, read YAML from anywhere and write anywhere. That is the
right of whoever types it; a record may come with a folder that somebody else has sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from omegaconf import DictConfig

from runner.config.errors import ConfigError, Problem, describe, problem
from runner.config.nodes import read

_WORD = re.compile(
    r"(?:\+\+?|~)?(?P<key>[\w./$-]+)"
    r"(?P<package>@task(?:\.(?!\w*_(?:global|group|here|name)_)[a-zA-Z]\w*)+)?"
    r"(?:=(?P<value>.*))?",
    re.ASCII,
)
"""An override of one line that puts nothing into another package, but for one of the task's own.

``stack@hydra.callbacks`` would reach Hydra's config, and so would ``stack@task.x_global_hydra``:
Hydra reads a package from the last ``_global_`` in it on.
"""

_SETTINGS = re.compile(
    r"hydra/(launcher|sweeper)(/\w+)*"
    r"|hydra\.launcher\.(?!python$|setup$)\w+"
    r"|hydra\.sweeper\.(?!custom_search_space$)[\w.]+"
    r"|hydra\.job\.(chdir|name)",
    re.ASCII,
)
"""What of Hydra's config may be set to a scalar; those left out name commands or functions."""

_FOLDER = re.compile(r"\.?[\w-]+", re.ASCII)
"""Names of folders that a run's own files don't have."""

HINT = "If you trust it, give the same overrides again beside it."


def check_recorded(
    overrides: Iterable[object],
    config_dir: str | None,
    config_name: str,
    file: Path,
    hint: str = HINT,
) -> None:
    """Refuse what calls Python, or leads out of the directory or the config folders.

    Args:
        overrides: as recorded.
        config_dir: the recorded folder of the user's own configs.
        config_name: of the recorded primary config.
        file: the record.
        hint: what to do about what is refused, if the record is trusted.

    Raises:
        ConfigError: everything that is refused.
    """
    expected = "overrides that can't run code"
    problems = [
        Problem(str(file), expected, f"'{word}'", hint)
        for word in overrides
        if not (isinstance(word, str) and _is_harmless(word))
    ]
    if ".." in config_name or config_name.startswith("/"):
        expected = "a config in one of the config folders"
        problems.append(Problem(str(file), expected, f"'{config_name}'", hint))
    if config_dir is not None and not _is_apart(Path(config_dir), file.parent):
        expected = "an absolute config folder that isn't in the same directory"
        problems.append(Problem(str(file), expected, f"'{config_dir}'", hint))
    if problems:
        raise ConfigError(*problems)


def record_folder(config: DictConfig) -> str | None:
    """The folder of a run's directory where its config is recorded, or None if it isn't.

    Raises:
        ConfigError: it isn't within the directory, or could be one of the run's own files.
    """
    name = read(config, "hydra.output_subdir")
    if name is not None and (name == ".lock" or not _FOLDER.fullmatch(str(name))):
        expected = "a folder's name of letters, digits, - and _, or null"
        raise problem("hydra.output_subdir", expected, describe(name))
    return None if name is None else str(name)


def _is_harmless(word: str) -> bool:
    found = _WORD.fullmatch(word)
    if found is None or "_target_" in word:
        return False
    key, value = found["key"], found["value"] or ""
    if "." not in key and ".." in value:
        return False  # a group's option from outside of the config folders
    if key.partition(".")[0].partition("/")[0] != "hydra":
        return True
    if found["package"]:
        return False
    if key.startswith(("hydra.sweep.", "hydra.run.")):
        return True  # where those lead is checked when they are used
    if key == "hydra.output_subdir":
        return _FOLDER.fullmatch(value) is not None
    if key == "hydra.job.env_copy":
        return "$" not in value
    # No mapping, no list, and no interpolation that becomes one.
    return _SETTINGS.fullmatch(key) is not None and not set(value) & set("{[$")


def _is_apart(folder: Path, directory: Path) -> bool:
    return folder.is_absolute() and not folder.resolve().is_relative_to(directory.resolve())
