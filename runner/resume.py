"""Take a run up again in its own directory: what it was told, and whether that still holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from runner.config.errors import ConfigError, Problem, describe, problem
from runner.tracking.directory import STATUS, state

FLAG = "--resume"


@dataclass(frozen=True)
class Recorded:
    """What a run's directory says of how the run was started.

    Attributes:
        directory: of the run, absolute.
        overrides: as on the command line.
        config_dir: the user's own config folder, or None.
        config_name: of the primary config.
        resumed: how often the run has been taken up again so far.
    """

    directory: Path
    overrides: list[str]
    config_dir: str | None
    config_name: str
    resumed: int

    def check(self, config: DictConfig) -> None:
        """The config that the overrides give now must be the one that the run had.

        Args:
            config: the composed config; its ``hydra`` node isn't looked at.

        Raises:
            ConfigError: every value that differs, by path.
        """
        path = self.directory / ".hydra" / "config.yaml"
        if not path.is_file():
            raise problem(FLAG, f"a recorded config at {path}", "no such file")
        before, now = _flat(OmegaConf.load(path)), _flat(config)
        found = [
            Problem(
                key,
                f"{_told(before, key)}, as {path} has it",
                _told(now, key),
                "The YAML has changed since; start a new run.",
            )
            for key in [*before, *(key for key in now if key not in before)]
            if _told(before, key) != _told(now, key)
        ]
        if found:
            raise ConfigError(*found)


def recorded(folder: str | Path, overrides: Sequence[str]) -> Recorded:
    """Read what is needed to resume the run in a directory.

    Args:
        folder: the run's directory.
        overrides: given besides, of which there must be none.

    Raises:
        ConfigError: no run's directory, a run that is completed or still running, or overrides.
    """
    path = Path(folder).expanduser().absolute()
    if overrides:
        hint = "A resumed run is told what it was told before; for anything else start a new one."
        raise problem(FLAG, "no overrides besides", " ".join(overrides), hint)
    try:
        status: dict[str, Any] = json.loads((path / STATUS).read_text())
    except OSError:
        raise problem(FLAG, "a run's directory", _instead(folder, path), _newest(path)) from None
    except ValueError:
        found = f"'{folder}', whose {STATUS} can't be read"
        raise problem(FLAG, "a run's directory", found) from None
    now = state(path)
    if now == "COMPLETED":
        hint = f"Run it anew: {status.get('command')}"
        raise problem(FLAG, "a run that was interrupted, killed or failed", "a completed one", hint)
    if now == "RUNNING":
        found = f"one that is still running (process {status.get('pid')})"
        raise problem(FLAG, "a run that was interrupted, killed or failed", found)
    if "overrides" not in status:
        raise problem(FLAG, f"a run whose {STATUS} has its overrides", f"'{folder}' without")
    return Recorded(
        path,
        list(status["overrides"]),
        status.get("config_dir"),
        str(status["config_name"]),
        int(status.get("resumed", 0)),
    )


def _instead(folder: str | Path, path: Path) -> str:
    if not path.exists():
        return f"'{folder}', which does not exist"
    return f"'{folder}', which " + ("has no " + STATUS if path.is_dir() else "is a file")


def _newest(path: Path) -> str:
    """The newest run below a folder that was given instead of a run's own."""
    found = [file for depth in ("*", "*/*") for file in path.glob(f"{depth}/{STATUS}")]
    if not found:
        return ""
    newest = max(found, key=lambda file: file.stat().st_mtime)
    return f"The newest run in it is {newest.parent}."


def _flat(config: Any) -> dict[str, Any]:
    """Every value by its dotted name, interpolations as written, without Hydra's node."""
    flat: dict[str, Any] = {}

    def visit(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                visit(value, f"{path}.{key}" if path else str(key))
        else:
            flat[path] = node

    plain = OmegaConf.to_container(config, resolve=False)
    assert isinstance(plain, dict)
    visit({key: value for key, value in plain.items() if key != "hydra"}, "")
    return flat


def _told(values: dict[str, Any], key: str) -> str:
    return describe(values[key]) if key in values else "no such key"
