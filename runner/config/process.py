"""What Hydra keeps for the whole process: its state, its config, and the plugins it knows of."""

from __future__ import annotations

import logging

from hydra import version
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobRuntime
from omegaconf import DictConfig, OmegaConf

from runner.config.nodes import node_at

PLUGINS = {
    ("hydra/sweeper", "runner"): "Sweeper",
    ("hydra/sweeper", "_optuna"): "OptunaSweeper",
    ("hydra/launcher", "runner"): "Launcher",
    ("hydra/launcher", "_joblib"): "JoblibLauncher",
    ("hydra/launcher", "_ray"): "RayLauncher",
    ("hydra/launcher", "_submitit_local"): "LocalLauncher",
    ("hydra/launcher", "_submitit_slurm"): "SlurmLauncher",
}
"""Classes of `runner.sweep.plugins` by the configs that stand for them.

YAML here names no Python, so these configs are not files. Those that begin with ``_`` are for the
files of the same name, which say the settings.
"""

for (group, name), plugin in PLUGINS.items():
    ConfigStore.instance().store(name, {"_target_": f"hydra_plugins.runner.{plugin}"}, group)


class Globals:
    """What Hydra keeps for the whole process, so that it can be put back."""

    def __init__(self) -> None:
        root = logging.getLogger()
        self._handlers, self._level = root.handlers[:], root.level
        self._hydra, self._config = GlobalHydra.instance().hydra, HydraConfig.instance().cfg
        self._name = JobRuntime.instance().conf.get("name")
        self._base = version.getbase()

    def restore(self) -> None:
        """Put it back, and close the logs of jobs."""
        root = logging.getLogger()
        for handler in set(root.handlers) - set(self._handlers):
            handler.close()
        root.handlers[:] = self._handlers
        root.setLevel(self._level)
        GlobalHydra.instance().hydra, HydraConfig.instance().cfg = self._hydra, self._config
        JobRuntime.instance().set("name", self._name)
        version.VersionBase.instance().version_base = self._base


def refer_to(config: DictConfig) -> None:
    """Make ``${hydra:…}`` refer to a config, as ``HydraConfig.set_config`` does, without a copy."""
    OmegaConf.set_readonly(node_at(config, "hydra"), True)
    HydraConfig.instance().cfg = config  # type: ignore[assignment]  # Hydra does the same
