"""This application's sweeper and launcher, as Hydra's plugins.

The sweeper takes every combination of the values that the command line lists, as Hydra's basic
one does. The launcher runs jobs in this process, and composes them faster. Both can be exchanged
for others by ``hydra/sweeper=`` and ``hydra/launcher=``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher as HydraLauncher
from hydra.plugins.sweeper import Sweeper as HydraSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from runner.sweep.engines import PLUGINS
from runner.sweep.engines.launcher import PACKAGE

if TYPE_CHECKING:
    from runner.sweep.conductor import Conductor


class Launcher(HydraLauncher):
    """Runs jobs one after the other, or several together, in this process."""

    __module__ = PACKAGE

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take the conductor of the sweep; Hydra calls it the task function."""
        self.conductor: Conductor = task_function  # type: ignore[assignment]  # Hydra's name for it
        self.callbacks = hydra_context.callbacks

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run the jobs that another sweeper asks for."""
        return self.conductor.run_asked(job_overrides, initial_job_idx, self.callbacks)


class Sweeper(HydraSweeper):
    """Launches every combination of the listed values at once."""

    __module__ = PACKAGE

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take the conductor of the sweep; Hydra calls it the task function."""
        self.conductor: Conductor = task_function  # type: ignore[assignment]  # Hydra's name for it
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what the conductor has checked before: the combinations of these same arguments."""
        if isinstance(self.launcher, Launcher):
            return self.conductor.run_all(self.launcher.callbacks)
        assert self.launcher is not None
        return self.launcher.launch(self.conductor.remaining(), initial_job_idx=0)


def register() -> None:
    """Make the plugins known to Hydra, under the name that their configs give."""
    try:
        import hydra_plugins  # type: ignore[import-not-found]  # it is, if another plugin is
    except ImportError:  # no other plugin is installed
        hydra_plugins = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        hydra_plugins.__path__ = []
    module = hydra_plugins.runner = sys.modules[PACKAGE] = ModuleType(PACKAGE)
    for plugin in (Launcher, Sweeper, *PLUGINS):
        setattr(module, plugin.__name__, plugin)
        Plugins.instance().register(plugin)
