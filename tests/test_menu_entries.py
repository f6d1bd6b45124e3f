"""A new task, and a new source of data, is one file and its YAML."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import runner
from runner import ConfigError, menu

TASK = '''
"""Count: how many of the output's numbers are not zero."""

from runner.tasks import Run, Task


class Count(Task):
    """Count numbers."""

    factor: int = 1

    def run(self, run: Run) -> dict[str, object]:
        """Their number."""
        return {"count": self.factor * int((run.model(run.x) != 0).sum())}
'''

DATA = '''
"""Cross: a white cross on black."""

import numpy as np

from runner.data import Data, Images
from runner.geometry import Shape


class Cross(Data):
    """One row and one column."""

    size: int = 5

    def shape(self) -> Shape:
        """Square."""
        return Shape(1, self.size, self.size)

    def load(self) -> Images:
        """The picture, and where its edges are."""
        x = np.zeros((self.size, self.size))
        x[self.size // 2] = x[:, self.size // 2] = 1
        return Images(x[None, None], regions=x[None].astype(int))
'''


@pytest.fixture
def add(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Add an entry to a menu: a Python file and a YAML file; the config folder is returned."""
    added: list[tuple[str, str, str]] = []

    def entry(package: str, name: str, python: str, yaml: str) -> Path:
        code = tmp_path / "code" / package
        config = tmp_path / "configs" / {"runner.tasks": "task", "runner.data": "data"}[package]
        for folder in (code, config):
            folder.mkdir(parents=True, exist_ok=True)
        (code / f"{name}.py").write_text(python)
        (config / f"{name}.yaml").write_text(yaml)
        importlib.import_module(package).__path__.append(str(code))
        importlib.invalidate_caches()
        added.append((package, name, str(code)))
        return config.parent

    yield entry
    for package, name, code in added:
        module = importlib.import_module(package)
        module.__path__.remove(code)
        sys.modules.pop(f"{package}.{name}", None)
        vars(module).pop(name, None)
    importlib.invalidate_caches()


def test_new_task(add: Callable[..., Path], workplace: Path) -> None:
    yaml = "# @package _global_\ntask: {kind: count, factor: 2}\n"
    configs = add("runner.tasks", "count", TASK, yaml)
    assert "count" in menu.names("runner.tasks")
    # The book's map has twelve edges, and twice that is 24.
    result = runner.run("task=count", "expect.count=24", config_dir=configs)
    assert result.holds, result.outcomes
    assert result.metrics == {"count": 24}
    assert result.directory.parent.name == "count"
    assert runner.run("task=count", "task.factor=1", config_dir=configs).metrics["count"] == 12
    with pytest.raises(ConfigError) as caught:
        runner.run("task=count", "task.facter=1", config_dir=configs)
    assert str(caught.value).endswith("Did you mean 'factor'?")
    with pytest.raises(ConfigError, match=r"Did you mean 'count'\?"):
        runner.run("task=cuont", config_dir=configs)


def test_new_data(add: Callable[..., Path], workplace: Path) -> None:
    configs = add("runner.data", "cross", DATA, "kind: cross\nsize: 5\n")
    result = runner.run("task=edge", "data=cross", "task.tolerance=0", config_dir=configs)
    # Rows without the bar: 0 0 1 0 0 gives 0 −1 1 0; the bar's row is all ones and gives none.
    lone = [0, -1, 1, 0]
    assert result.metrics["output"] == [lone, lone, [0, 0, 0, 0], lone, lone]
    # Edges of the cross: two beside each of eight arm pixels; the detector finds the vertical ones.
    assert result.metrics["true_edges"] == 16
    assert result.metrics["detected"] == 8
    assert result.metrics["precision"] == 1
    assert result.metrics["recall"] == 1 / 2
    plan = runner.plan("stack=pair", "data=cross", "data.size=9", config_dir=configs)
    assert plan.output.dims == (1, 7, 7)


def test_nothing_is_left_of_them() -> None:
    assert "count" not in menu.names("runner.tasks")
    assert "cross" not in menu.names("runner.data")
    with pytest.raises(ConfigError):
        runner.plan("task=count")


def test_entry_without_a_class_is_a_programmers_mistake(
    add: Callable[..., Path], workplace: Path
) -> None:
    configs = add("runner.data", "hollow", '"""Nothing."""\n', "kind: hollow\n")
    with pytest.raises(TypeError, match=r"runner\.data\.hollow defines no"):
        runner.run("data=hollow", config_dir=configs)
