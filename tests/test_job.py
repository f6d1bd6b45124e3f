"""What is known of a job before anything is computed."""

from __future__ import annotations

import re

import pytest

from runner import menu
from runner.config.compose import Composer
from runner.config.errors import ConfigError
from runner.config.plain import plain
from runner.job import Job
from runner.plan import LARGEST_NUMBER
from runner.prepare import inspect
from runner.tasks import Task


def complaints(*words: str) -> list[str]:
    """What is wrong with a job that the words describe."""
    with Composer() as composer:
        raw = plain(composer.compose(words).config)
    try:
        Job.parse(raw).plan()
    except ConfigError as error:
        return [str(one) for one in error.problems]
    return []


EDGE = "one of output_shape, output, min, max, detected, precision, recall, f1, true_edges"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("expect.f1=1", []),
        ("expect.fi=1", [f"expect.fi: expected {EDGE}, got 'fi'."]),
        ("expect.F1=1", [f"expect.F1: expected {EDGE}, got 'F1'. Did you mean 'f1'?"]),
        (
            "expect={nope:1,recal:{min:1}}",
            [
                f"expect.nope: expected {EDGE}, got 'nope'.",
                f"expect.recal: expected {EDGE}, got 'recal'. Did you mean 'recall'?",
            ],
        ),
        (
            "sweep.objective={metric:detectd,goal:max}",
            [f"sweep.objective.metric: expected {EDGE}, got 'detectd'. Did you mean 'detected'?"],
        ),
    ],
)
def test_what_the_task_never_measures_cannot_be_asked_for(words: str, says: list[str]) -> None:
    assert complaints("task=edge", *words.split()) == says


def test_every_task_says_what_it_can_measure() -> None:
    tasks = {name: menu.load("runner.tasks", name, Task) for name in menu.names("runner.tasks")}
    for name, task in tasks.items():
        known = task.measures.split()
        assert len(known) == len(set(known))
        if task.objective is not None:
            assert task.objective.metric in known, name


MOST = {"float16": 65_504.0, "float32": 3.4028234663852886e38, "bfloat16": 3.3895313892515355e38}


@pytest.mark.parametrize(("dtype", "most"), MOST.items())
def test_weights_that_would_be_infinite(dtype: str, most: float) -> None:
    assert LARGEST_NUMBER[dtype] == most
    more = most * 1.001
    conv, says = "stack.layers.conv.", f"expected numbers up to {most:.6g}, the most of {dtype}"
    assert complaints(f"dtype={dtype}", f"{conv}weight=[[{-most!r},1]]") == []
    for word, path in [
        (f"{conv}weight=[[1,{-more!r}]]", f"{conv}weight"),
        (f"{conv}bias={more!r}", f"{conv}bias"),
        (f"{conv}weight={{initializer:constant,value:{more!r}}}", f"{conv}weight"),
        (f"stack.layers.conv={{kind:linear,per_pixel:true,weight:[[{more!r}]]}}", f"{conv}weight"),
    ]:
        sized = [f"+{conv}channels=1", f"+{conv}kernel=1"] if "constant" in word else []
        (found,) = complaints("stack=kernel", f"dtype={dtype}", word, *sized)
        assert found.startswith(f"{path}: {says}, got "), word
        assert found.endswith("Use smaller ones, or dtype=float64.")
        assert complaints("stack=kernel", "dtype=float64", word, *sized) == []


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ("data=tensor data.values=[[0,-1e39]]", "-1e+39"),
        ("data=blank data.value=7e4 dtype=float16", "70000"),
        ("data=noise data.low=-1e39", ""),  # drawn: some number
    ],
)
def test_images_that_would_be_infinite(words: str, number: str) -> None:
    with Composer() as composer:
        raw = plain(composer.compose(["task=forward", "stack=empty", *words.split()]).config)
    job = Job.parse(raw)
    says = rf"data: expected numbers up to .*, got {re.escape(number)}"
    with pytest.raises(ConfigError, match=says):
        inspect(job, job.plan())
    double = Job.parse(raw | {"dtype": "float64"})
    assert inspect(double, double.plan()).run.images.x.size


def test_settings_of_auto_that_nothing_uses() -> None:
    word = "ops.auto.accuracy=1e-3"
    (found,) = complaints(word)
    assert found == (
        "ops.auto.accuracy: expected the operator auto to be in use, got native. "
        "Choose it: ops=auto, or ops: auto in a layer."
    )
    assert complaints(word, "ops=auto") == []
    assert complaints(word, "stack.layers.conv.ops=auto") == []
    assert complaints("ops.auto.accuracy=2e-6") == []  # as it is anyway
    assert complaints("task=benchmark", word) == []  # it tries operators of its own


def test_a_limit_that_is_none() -> None:
    (found,) = complaints("memory_limit_gib=1e300")
    assert found == "memory_limit_gib: expected at most 1048576, got 1e+300."
