"""What Hydra puts around a job: its log, its environment, `.hydra/`, and callbacks."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, env_override
from omegaconf import DictConfig, open_dict, read_write

from runner.config.copies import twin
from runner.config.job_log import JOB_LOG
from runner.config.nodes import node_at, put, read
from runner.config.process import refer_to
from runner.config.recorded import record_folder
from runner.config.yaml_text import to_yaml, written


@contextmanager
def hydra_job(
    config: DictConfig, directory: Path, callbacks: Callbacks | None = None, *, record: bool = True
) -> Iterator[tuple[DictConfig, JobReturn]]:
    """Do for a job what Hydra's `run_job` does, and leave what it raises to the caller.

    Hydra keeps the exception of a job and prints about it, and writes its YAML with a dumper in
    Python, which takes longer than a small job.

    Args:
        config: composed, with its ``hydra`` node; ``hydra.runtime.output_dir`` is set in it.
        directory: of the job; it exists.
        callbacks: to be told when the job starts and ends.
        record: whether to write `.hydra/`; a resumed job has it already.

    Yields:
        The config without its ``hydra`` node, and what callbacks are told of the job.
    """
    before, cwd = HydraConfig.instance().cfg, Path.cwd()
    put(config, "hydra.runtime.output_dir", str(directory.absolute()))
    refer_to(config)
    done = JobReturn()
    done.cfg = task_config = _part(config, [str(key) for key in config if key != "hydra"])
    done.hydra_cfg = _part(config, ["hydra"])
    done.overrides = written(node_at(config, "hydra.overrides.task"))
    done.task_name, done.working_dir = read(config, "hydra.job.name"), str(cwd)
    elsewhere = read(config, "hydra.job.chdir")
    try:
        if elsewhere:
            os.chdir(directory)
            done.working_dir = str(directory)
        JOB_LOG.set_up(node_at(config, "hydra"))
        if record and (folder := record_folder(config)) is not None:
            _record(config, directory / folder)
        with env_override(read(config, "hydra.job.env_set")):
            if callbacks is not None:
                callbacks.on_job_start(config=config, task_function=_nothing)
            try:
                yield task_config, done
                done.status = JobStatus.COMPLETED
            except Exception as error:
                done.return_value, done.status = error, JobStatus.FAILED
                raise
            finally:
                if callbacks is not None:
                    callbacks.on_job_end(config=config, job_return=done)
    finally:
        HydraConfig.instance().cfg = before
        if elsewhere:
            os.chdir(cwd)


def handlers() -> list[logging.Handler]:
    """What writes the log of the job that was set up last."""
    return logging.getLogger().handlers[:]


@contextmanager
def logged_by(handlers: list[logging.Handler]) -> Iterator[None]:
    """Go on with the log of a job that was set up earlier; a closed file is opened again."""
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], handlers
    try:
        yield
    finally:
        root.handlers[:] = before
        for handler in handlers:
            handler.close()


def _record(config: DictConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "config": to_yaml(config, [str(key) for key in config if key != "hydra"]),
        "hydra": to_yaml(_without_environment(config), ["hydra"]),
        "overrides": to_yaml(node_at(config, "hydra.overrides.task")),
    }
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            error.filename = str(path)  # which Python doesn't say where the disk is full
            raise


def _without_environment(config: DictConfig) -> DictConfig:
    """The config with the names of variables in the place of what was copied from them."""
    names = read(config, "hydra.job.env_copy")
    if not names:
        return config
    told: DictConfig = twin(config)
    with read_write(told.hydra), open_dict(told.hydra):
        for name in names:
            told.hydra.job.env_set[name] = f"${{oc.env:{name}}}"
    return told


def _part(config: DictConfig, keys: Iterable[str]) -> DictConfig:
    """Some of a config's nodes as a config of their own; they are shared, where Hydra copies."""
    part = DictConfig({}, flags={"struct": True})
    part.__dict__["_content"] = {key: node_at(config, key) for key in keys}
    part._metadata.resolver_cache = config._metadata.resolver_cache
    return part


def _nothing(_: DictConfig) -> None:
    """What callbacks are given as the job's function: the job is in the caller's hands."""
