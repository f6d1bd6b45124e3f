"""Every YAML that ships: it composes, plans, explains itself, and its commands can be typed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import yaml

import runner
from runner import menu
from runner.config.compose import Composer, config_folder
from runner.plan import Plan
from runner.report.gather import SECTIONS
from runner.tasks import Task

FOLDER = config_folder()
FILES = sorted(FOLDER.rglob("*.yaml"))
EXPERIMENTS = [
    str(f.relative_to(FOLDER / "experiment"))[:-5] for f in FILES if "experiment" in f.parts
]
PLAIN = "task=plan"


def name(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def lines_above(path: Path) -> str:
    """The comment that heads a file."""
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return "\n".join(comment)


def commands(text: str) -> list[str]:
    """The commands in a text: what follows two spaces or more is their explanation."""
    found = re.findall(r"python -m runner [^\n`]+", text)
    return [re.split(r"\s{2,}", line)[0] for line in found]


def idx(path: Path, array: np.ndarray) -> None:
    """An IDX file of bytes: magic number, sizes, values, big-endian."""
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes())


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    """The files that data sources ask for, by the override that names them."""
    for prefix in ("train", "t10k"):
        idx(tmp_path / f"{prefix}-images-idx3-ubyte", np.zeros((20, 28, 28)))
        idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.zeros(20))
    PIL.Image.new("L", (32, 28)).save(tmp_path / "picture.png")
    return {
        "mnist": f"data.folder='{tmp_path}'",
        "fashion_mnist": f"data.folder='{tmp_path}'",
        "image": f"data.path='{tmp_path}/picture.png'",
    }


def plan(words: list[str], sources: dict[str, str]) -> Plan:
    """Plan what the words describe; where they name a file, one that is there."""
    for word in list(words):
        if word.startswith("data=") and word[5:] in sources:
            words = [w for w in words if not w.startswith(("data.folder", "data.path"))]
            words.append(sources[word[5:]])
    return runner.plan(*words)


def test_there_is_something_to_test() -> None:
    assert len(FILES) > 30
    assert {f.parent.name for f in FILES} >= {"configs", "task", "stack", "data", "ops"}
    assert "6_2/corr2d" in EXPERIMENTS


@pytest.mark.parametrize("path", FILES, ids=name)
def test_file_composes_and_plans(path: Path, sources: dict[str, str]) -> None:
    group, _, option = name(path).removesuffix(".yaml").partition("/")
    words = {
        "config": ["task=edge"],
        "task": [f"task={option}"],
        # Stacks for larger images say so in their header.
        "stack": shlex.split(commands(lines_above(path))[0])[3:],
        "data": [PLAIN, "stack=empty", f"data={option}"],
        # Not every operator can do the default stack: headers name one that it can.
        "ops": shlex.split(commands(lines_above(path))[0])[3:],
        "experiment": [f"experiment={option}"],
        "hydra": [PLAIN, "stack=empty", "hydra/" + option.replace("/", "=")],
    }[group]
    found = plan(words, sources)
    assert all(n > 0 for n in found.output.dims)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_file_is_data_with_a_header_that_can_be_tried(path: Path, sources: dict[str, str]) -> None:
    content = path.read_text()
    header = lines_above(path)
    data = yaml.safe_load(content)
    assert ("hydra" in data) == (name(path) == "config.yaml")
    keys = re.findall(r"[\w-]+(?=\s*:)", content)
    assert not {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"} & set(keys)
    assert header.replace("@package _global_", "").strip()
    assert commands(header), "no command in the header"
    if name(path) == "config.yaml":
        header = content  # its help text lists commands too
    for command in commands(header):
        words = shlex.split(command)[3:]
        if words == ["--help"]:
            continue
        if words[0] == "-m":
            with Composer() as composer:
                words = composer.jobs_of_sweep(words[1:], grid=False)[0]
        plan(words, sources)


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_experiment_holds(option: str, workplace: Path) -> None:
    result = runner.run(f"experiment={option}")
    assert result.outcomes, "an experiment states what it expects"
    assert result.holds, [o.failure for o in result.outcomes if not o.holds]
    task = json.loads((result.directory / "status.json").read_text())["task"]
    assert set(result.metrics) <= set(menu.load("runner.tasks", task, Task).measures.split())


@pytest.mark.parametrize("option", EXPERIMENTS)
def test_experiment_says_what_it_asks_and_where_in_the_book_it_comes_from(option: str) -> None:
    path = FOLDER / "experiment" / f"{option}.yaml"
    folder = option.partition("/")[0]
    assert folder in SECTIONS
    if folder[0].isdigit():  # a section of the book
        section = re.escape(folder.replace("_", "."))
        assert re.match(rf"@package _global_\n{section}(\.\d+)? ", lines_above(path))
    assert f"python -m runner experiment={option}" in lines_above(path)
    assert "?" in lines_above(path)


def test_experiments_can_fail(workplace: Path) -> None:
    """The check that every experiment holds is worth something only if one can not hold."""
    result = runner.run("experiment=6_2/corr2d", "stack.layers.conv.weight=[[0, 1], [2, 4]]")
    assert not result.holds
