"""What there is in a folder of configs, found in little time whatever links to whatever in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType

from runner.config.errors import problem

FOLDERS = 500
"""In an added folder, when somebody asks what there is."""

Names = list[str]


class ConfigFolder(FileConfigSource):
    """A folder of configs whose listing comes to an end."""

    def __init__(self, provider: str, path: str) -> None:
        super().__init__(provider, path)
        self._listed: set[str] = set()
        self._resolved: dict[PurePosixPath, str] = {}

    def is_group(self, config_path: str) -> bool:
        """Whether it is one of its folders."""
        return _holds(Path.is_dir, Path(self.path, config_path))

    def list(self, config_path: str, results_filter: ObjectType | None) -> Names:
        """The configs in one of its folders, or the folders; no link back to where it came from.

        Raises:
            ConfigError: there are too many folders.
        """
        inside = sorted(Path(self.path, config_path).iterdir())
        if results_filter is ObjectType.CONFIG:
            configs = [place for place in inside if place.suffix == ".yaml"]
            return [place.stem for place in configs if _holds(Path.is_file, place)]
        group, names = PurePosixPath(config_path), []
        for place in inside:
            if place.name.startswith((".", "__")) or not _holds(Path.is_dir, place):
                continue
            if place.is_symlink() and self._leads_back(group / place.name):
                continue
            names.append(place.name)
            self._listed.add(str(place))
            if len(self._listed) > FOLDERS:
                expected = f"at most {FOLDERS:,} folders in it"
                raise problem(self.path, expected, "more", "Give configs a folder of their own.")
        return names

    def _leads_back(self, link: PurePosixPath) -> bool:
        """Whether a folder is one through which it was reached: that way has no end."""
        target, *around = map(self._real, (link, *link.parents))
        return any(folder.startswith(target) for folder in around)

    def _real(self, group: PurePosixPath) -> str:
        """A folder without links, and a slash; remembered: what is deep in it starts there."""
        if group not in self._resolved:
            above = self._real(group.parent) if group.name else self.path
            self._resolved[group] = f"{Path(above, group.name).resolve()}/".replace("//", "/")
        return self._resolved[group]


def _holds(question: Callable[[Path], bool], place: Path) -> bool:
    """The answer about a place; of one that can't be looked at, no."""
    try:
        return question(place)
    except OSError:
        return False
