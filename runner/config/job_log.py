"""The log of a job: that of Hydra, without configuring Python's logging anew for every job."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from hydra.core.utils import configure_log
from omegaconf import DictConfig

from runner.config.errors import first_line, problem
from runner.config.nodes import node_at, read
from runner.config.yaml_text import written

HERE = "${hydra.runtime.output_dir}"
"""The job's directory, in which its log is."""


class LogFile(logging.FileHandler):
    """A log that ends nothing where it can't be written, as on a full disk: that is told once."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell it in a line, where logging would print a traceback for every record."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._told:
            self._told = True
            sys.stderr.write(f"can't write {self.baseFilename}: {error.strerror}\n")

    def close(self) -> None:
        """Close the file, though something may still be held back that can't be written."""
        with suppress(OSError):
            super().close()


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

        Raises:
            ConfigError: Python's logging refuses it.
        """
        root, told = logging.getLogger(), written(node_at(hydra, "job_logging"))
        what = (told, written(node_at(hydra, "verbose")))
        if what == self._told and root.handlers == self._handlers:
            root.setLevel(self._level)
            directory = read(hydra, "runtime.output_dir")
            root.handlers[:] = [_moved(one, told["handlers"], directory) for one in self._handlers]
        else:
            try:
                configure_log(hydra.job_logging, hydra.verbose)
            except (ValueError, TypeError, AttributeError) as error:
                got = f"'{first_line(error)}'"
                raise problem("hydra.job_logging", "a log that can be set up", got) from None
            root.handlers[:] = [_lenient(one) for one in root.handlers]
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
    files = [one.name for one in handlers if type(one) is LogFile]
    apart = {name: about for name, about in told["handlers"].items() if name not in files}
    found = set(re.findall(r"\$\{.*?\}", str(told)))
    return found <= {HERE} and HERE not in str(told | {"handlers": apart})


def _lenient(handler: logging.Handler) -> logging.Handler:
    """The same; a plain file as a `LogFile`."""
    if type(handler) is not logging.FileHandler:
        return handler
    handler.close()
    if handler.encoding == "locale":  # none was asked for, and plans have × and →
        handler.encoding, handler.errors = "utf-8", handler.errors or "backslashreplace"
    return _like(handler, handler.baseFilename)


def _moved(handler: logging.Handler, told: Mapping[str, Any], directory: str) -> logging.Handler:
    """The same, in a job's own directory."""
    if type(handler) is not LogFile:
        return handler
    handler.close()
    return _like(handler, told[str(handler.name)]["filename"].replace(HERE, directory))


def _like(handler: logging.FileHandler, name: str) -> LogFile:
    """A log that is kept as another one is, in a file of its own."""
    log = LogFile(name, handler.mode, handler.encoding, handler.delay, handler.errors)
    log.name, log.filters = handler.name, handler.filters
    log.setLevel(handler.level)
    log.setFormatter(handler.formatter)
    return log
