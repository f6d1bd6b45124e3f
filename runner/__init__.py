"""A declarative lab for convolution.

From the command line: ``python -m runner task=edge data=photo``. From Python, the same overrides:

    >>> import runner
    >>> result = runner.run("task=edge", "data=photo")
    >>> result.metrics["output_shape"], result.directory
    >>> runner.plan("stack=lenet", "data.height=32", "data.width=32").parameters
    >>> runner.conv2d(x, weight, op="loops", padding=1)

Importing this package doesn't import torch; the first call that computes does.
"""

from __future__ import annotations

from runner import signals

if signals.is_program():  # before all that takes time to import
    signals.listen()

from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.errors import ConfigError, Problem

# Imported before `plan` below is defined: importing a submodule sets the package's attribute of
# its name, and must not do so later, when the attribute is the function.
try:
    from runner.plan import Plan
except Exception as error:  # whatever a library raises that is missing or doesn't fit
    from runner import installation

    installation.explain(error)
    raise

if TYPE_CHECKING:
    from runner.execute import Result
    from runner.functional import conv2d, pool2d

__all__ = ["ConfigError", "Plan", "Problem", "conv2d", "plan", "pool2d", "run"]


def run(
    *overrides: str,
    config_dir: str | Path | None = None,
    quiet: bool = True,
    resume: str | Path | None = None,
) -> Result:
    """Run a job, as ``python -m runner`` does, with its directory and everything in it.

    Args:
        *overrides: as on the command line: ``"task=edge"``, ``"data=photo"``.
        config_dir: a folder of your own configs.
        quiet: print nothing.
        resume: the directory of a run that was interrupted, killed or failed, to take it up again
            there, with all that it was told; then there must be no overrides.

    Returns:
        Metrics, outputs by layer name, the outcome of every expectation, the directory, the plan.

    Raises:
        ConfigError: the config is wrong; every problem is in it, and nothing was run.
    """
    from runner.launch import launch

    return launch(overrides, config_dir=config_dir, quiet=quiet, resume=resume)


def plan(*overrides: str, config_dir: str | Path | None = None) -> Plan:
    """Plan a stack on data: shapes, parameters, cost, receptive field. Never imports torch.

    Args:
        *overrides: as on the command line: ``"stack=pair"``, ``"data=digits"``. The task is
            ``plan``, and the data a blank 28×28 image, unless a task or an experiment is named.
        config_dir: a folder of your own configs.

    Raises:
        ConfigError: the config is wrong, or the layers don't fit together.
    """
    from runner.launch import plan_only

    named = any(text.startswith(("task=", "experiment=")) for text in overrides)
    return plan_only(overrides if named else ["task=plan", *overrides], config_dir=config_dir)


def __getattr__(name: str) -> Any:
    """The operators, with torch, when they are first asked for."""
    if name in ("conv2d", "pool2d"):
        from runner import functional

        return getattr(functional, name)
    raise AttributeError(f"module 'runner' has no attribute '{name}'")
