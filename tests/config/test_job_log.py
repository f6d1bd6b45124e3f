"""Logs of jobs: as Hydra sets them up, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import configure_log
from omegaconf import DictConfig, OmegaConf

from runner.config import job_log
from runner.config.job_log import JobLog

FILE = {
    "class": "logging.FileHandler",
    "formatter": "simple",
    "filename": "${hydra.runtime.output_dir}/run.log",
}
LOGGING = {
    "version": 1,
    "formatters": {"simple": {"format": "%(levelname)s %(message)s"}},
    "handlers": {"file": FILE},
    "root": {"level": "INFO", "handlers": ["file"]},
    "disable_existing_loggers": False,
}


def hydra(folder: Path, **changes: Any) -> DictConfig:
    """The part of Hydra's config that a job's log depends on."""
    folder.mkdir(exist_ok=True)
    verbose = changes.pop("verbose", False)
    node = {
        "job_logging": LOGGING | changes,
        "verbose": verbose,
        "runtime": {"output_dir": str(folder)},
    }
    config: DictConfig = OmegaConf.create({"hydra": node}).hydra
    return config


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[DictConfig]]:
    """What Hydra's own function is called with; the log is put back at the end."""
    root = logging.getLogger()
    before, level, calls = root.handlers[:], root.level, []

    def configure(told: DictConfig, verbose: Any) -> None:
        calls.append(told)
        configure_log(told, verbose)

    monkeypatch.setattr(job_log, "configure_log", configure)
    yield calls
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)


def test_the_file_is_utf_8_whatever_the_terminal(
    tmp_path: Path, configured: list[DictConfig]
) -> None:
    JobLog().set_up(hydra(tmp_path / "a"))
    (file,) = logging.getLogger().handlers
    assert isinstance(file, logging.FileHandler)
    assert file.stream.encoding == "utf-8"
    logging.getLogger().info("1×2 \udcff")
    assert (tmp_path / "a/run.log").read_text(encoding="utf-8") == "INFO 1×2 \\udcff\n"


def test_each_job_has_its_own_file(tmp_path: Path, configured: list[DictConfig]) -> None:
    log, root = JobLog(), logging.getLogger()
    for name in ("a", "b", "c"):
        log.set_up(hydra(tmp_path / name))
        root.info("of %s", name)
        root.debug("not said")
        root.setLevel(logging.ERROR)  # what a job does is not the next one's
    assert [(tmp_path / name / "run.log").read_text() for name in "abc"] == [
        "INFO of a\n",
        "INFO of b\n",
        "INFO of c\n",
    ]
    assert len(configured) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"root": {"level": "DEBUG", "handlers": ["file"]}},
        {"formatters": {"simple": {"format": "%(message)s!"}}},
        {"handlers": {"file": FILE | {"filename": "${hydra.runtime.output_dir}/other.log"}}},
        {"handlers": {"file": FILE | {"level": "ERROR", "mode": "w"}}},
        {"verbose": True},
    ],
)
def test_a_job_that_logs_otherwise_is_set_up_by_hydra(
    tmp_path: Path, configured: list[DictConfig], changes: dict[str, Any]
) -> None:
    log, root = JobLog(), logging.getLogger()
    told = []
    for name in ("one", "two"):
        log.set_up(hydra(tmp_path / name))
        log.set_up(hydra(tmp_path / f"{name}-changed", **changes))
        log.set_up(hydra(tmp_path / name, **changes))
        told.append(_look(root, tmp_path / name))
    JobLog().set_up(hydra(tmp_path / "alone", **changes))  # by Hydra
    assert told == [_look(root, tmp_path / "alone")] * 2
    assert len(configured) == 5  # two and two changes, and the last; the others by exchange


def _look(root: logging.Logger, folder: Path) -> list[Any]:
    """Everything that decides how the root logger logs."""
    found: list[Any] = [root.level]
    for one in root.handlers:
        assert isinstance(one, logging.FileHandler)
        assert one.formatter is not None
        place = Path(one.baseFilename).relative_to(folder).as_posix()
        found.append((one.name, place, one.mode, one.level, one.formatter._fmt, one.filters))
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {"loggers": {"a": {"level": "DEBUG"}}},
        {"disable_existing_loggers": True},
        {"formatters": {"simple": {"format": "${hydra.runtime.output_dir} %(message)s"}}},
        {"handlers": {"file": FILE, "spare": FILE | {"delay": True}}},
        {"root": None},
        {"verbose": ["a"]},
    ],
)
def test_what_depends_on_the_job_otherwise_is_set_up_by_hydra_each_time(
    tmp_path: Path, configured: list[DictConfig], changes: dict[str, Any]
) -> None:
    log = JobLog()
    for name in ("a", "b"):
        log.set_up(hydra(tmp_path / name, **changes))
    assert len(configured) == (1 if "verbose" in changes else 2)


def test_a_log_that_somebody_changed_is_set_up_by_hydra(
    tmp_path: Path, configured: list[DictConfig]
) -> None:
    log, root = JobLog(), logging.getLogger()
    log.set_up(hydra(tmp_path / "a"))
    root.addHandler(logging.NullHandler())
    log.set_up(hydra(tmp_path / "b"))
    assert len(configured) == 2
    assert len(root.handlers) == 1
