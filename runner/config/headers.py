"""What a config file says about itself: the comment that heads it."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_loader import ConfigLoader

COMMAND = "python -m runner"


def header(loader: ConfigLoader, config: str) -> str:
    """The first comment of a config file as one line of text, up to the commands to try.

    Args:
        loader: knows the config folders; the first that has the file counts, as for Hydra.
        config: such as ``experiment/6_2/corr2d``.
    """
    for source in loader.get_sources():
        path = Path(source.path) / f"{config}.yaml"
        if source.scheme() == "file" and path.is_file():
            return _comment(path.read_text(encoding="utf-8", errors="replace"))
    return ""


def _comment(text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("#") or COMMAND in line:
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(line.strip() for line in lines if line.strip())
