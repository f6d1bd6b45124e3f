"""Launchers and a sweeper that leave the work to other programs: joblib, Ray, submitit, Optuna.

Each is a file, imports its program when that is first used, and has presets in ``configs/hydra/``.
What the jobs did is in their directories, whoever ran them.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig

from runner.config.errors import describe, problem
from runner.config.nodes import read
from runner.sweep.engines.joblib import JoblibLauncher
from runner.sweep.engines.launcher import EngineLauncher
from runner.sweep.engines.optuna import OptunaSweeper
from runner.sweep.engines.ray import RayLauncher
from runner.sweep.engines.submitit import LocalLauncher, SlurmLauncher

LAUNCHERS: tuple[type[EngineLauncher], ...] = (
    JoblibLauncher,
    RayLauncher,
    LocalLauncher,
    SlurmLauncher,
)
PLUGINS: tuple[type[Launcher | Sweeper], ...] = (*LAUNCHERS, OptunaSweeper)


def check_chosen(config: DictConfig) -> None:
    """Check that a sweep has a sweeper and a launcher.

    Args:
        config: of one of its jobs, with its ``hydra`` node.

    Raises:
        ConfigError: one was deleted, or replaced by what is none.
    """
    for what in ("sweeper", "launcher"):
        group, key = f"hydra/{what}", f"hydra.{what}"
        if config.hydra.runtime.choices.get(group) is None:
            raise problem(group, f"the name of a {what}", "nothing", "The default is runner.")
        found = read(config, key)
        if not (isinstance(found, DictConfig) and isinstance(found.get("_target_"), str)):
            expected = f"a {what}'s settings, with its class as _target_"
            raise problem(key, expected, describe(found), f"Choose one: {group}=….")


def check(config: DictConfig, overrides: Sequence[str]) -> None:
    """Check what can be known of a sweep's launcher and sweeper before anything is made.

    Args:
        config: of one of its jobs, with its ``hydra`` node.
        overrides: of the sweep.

    Raises:
        ConfigError: a setting is wrong, a program isn't installed, or there is nothing to search.
    """
    node = config.hydra
    for launcher in LAUNCHERS:
        if _names(node.launcher, launcher):
            launcher.check(node.launcher)
    if _names(node.sweeper, OptunaSweeper):
        OptunaSweeper.check(node.sweeper)
        OptunaSweeper.check_search(config, overrides)


def _names(node: DictConfig, plugin: type) -> bool:
    return bool(node.get("_target_") == f"{plugin.__module__}.{plugin.__name__}")
