"""The log of a job: that of Hydra, without configuring Python's logging anew for every job."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import DictConfig

from runner.config.yaml_text import written

HERE = "${hydra.runtime.output_dir}"
"""The job's directory, in which its log is."""


class JobLog:
    """The log of the job that was set up last."""

    def __init__(self) -> None:
        self._told: Any = None
        self._level = logging.NOTSET
        self._handlers: list[logging.Handler] = []

    def set_up(self, hydra: DictConfig) -> None:
        """Log as Hydra's config says.

        Jobs of a sweep mostly log the same way, each to its own directory. Then, files are all
        that has to be exchanged.
        """
        root, told = logging.getLogger(), written(hydra._get_node("job_logging"))
        what = (told, written(hydra._get_node("verbose")))
        if what == self._told and root.handlers == self._handlers:
            root.setLevel(self._level)
            directory = hydra.runtime.output_dir
            root.handlers[:] = [_moved(one, told["handlers"], directory) for one in self._handlers]
        else:
            configure_log(hydra.job_logging, hydra.verbose)
            movable = _movable(told, root.handlers) and "${" not in str(what[1])
            self._told = what if movable else None
        self._handlers, self._level = root.handlers[:], root.level


JOB_LOG = JobLog()


def _movable(told: Any, handlers: list[logging.Handler]) -> bool:
    """Whether the files of the handlers are all that depends on the job."""
    if not isinstance(told, dict) or not told.get("root") or told.get("loggers"):
        return False
    if told.get("incremental") or told.get("disable_existing_loggers", True):
        return False
    files = [one.name for one in handlers if type(one) is logging.FileHandler]
    apart = {name: about for name, about in told["handlers"].items() if name not in files}
    found = set(re.findall(r"\$\{.*?\}", str(told)))
    return found <= {HERE} and HERE not in str(told | {"handlers": apart})


def _moved(handler: logging.Handler, told: Mapping[str, Any], directory: str) -> logging.Handler:
    """The same, in a job's own directory."""
    if type(handler) is not logging.FileHandler:
        return handler
    handler.close()
    name = told[str(handler.name)]["filename"].replace(HERE, directory)
    moved = logging.FileHandler(name, handler.mode, handler.encoding, handler.delay, handler.errors)
    moved.name, moved.filters = handler.name, handler.filters
    moved.setLevel(handler.level)
    moved.setFormatter(handler.formatter)
    return moved
