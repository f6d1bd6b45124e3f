"""The same machine, seed and threads: the same bits, through the whole program.

Everything is run twice, in two processes at the same time whose hashes of text differ, as they do
from one start of Python to the next: what depended on the order of a set would come out otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from many import Ran, finish, start

from runner import menu

PHOTO = ("data=photo", "data.crop=[0,0,40,56]")
SMALL = ("data.images=60", "task.epochs=2", "task.images=2")

EVERY_OP = {
    "edge": ("task=edge", "stack=sobel", *PHOTO),
    "forward": ("task=forward", "stack=digits_cnn", "data=digits"),
    "learn_kernel": (
        "task=learn_kernel", "stack=kernel_3x3", "data=shapes", "data.height=24", "data.width=24",
        "task.target.weight=sobel_x", "task.optimizer.lr=0.1", "task.reduction=mean",
    ),
    "classify": ("task=classify", *SMALL),
}  # fmt: skip
"""Tasks that are tried with each operator."""

OTHERS = {
    "compare": ("task=compare", "stack=sobel", *PHOTO),
    "match": ("task=match", "data.crop=[0,0,60,80]"),
    "locality": ("task=locality",),
    "equivariance": ("task=equivariance",),
    "receptive_field": ("task=receptive_field",),
    "verify": ("task=verify", "ops=direct"),
    "diagnose": ("task=diagnose",),
    "trace": ("task=trace",),
}

COMPUTED = {*EVERY_OP, *OTHERS}
"""Of the tasks in the menu; the rest compute nothing, or measure time."""


TEXTS = ("metrics.json", "metrics.jsonl", "plan.json", "trace.txt", "verify.txt")


def commands(threads: int, names: Sequence[str], ops: Sequence[str]) -> list[tuple[str, ...]]:
    """Every task, some with each of these operators."""
    end = (f"threads={threads}", "seed=3")
    found = []
    for name in names:
        if name in OTHERS:
            found.append((*OTHERS[name], *end))
        else:
            # By its rule alone: measured, auto takes what is fastest on the day.
            rule = ("ops.auto.measure_from=1000000000000",)
            found += [
                (*EVERY_OP[name], f"ops={op}", *(rule if op == "auto" else ()), *end) for op in ops
            ]
    return found


def twice(folder: Path, told: Sequence[Sequence[str]], threads: int) -> list[tuple[Ran, Ran]]:
    """Each command in two processes."""
    cores = {"OMP_NUM_THREADS": str(threads)}
    places = [folder / "one", folder / "other"]
    processes = [
        start(place, told, {"PYTHONHASHSEED": str(seed), **cores})
        for seed, place in enumerate(places)
    ]
    ran = [finish(process, place) for process, place in zip(processes, places, strict=True)]
    for words, *both in zip(told, *ran, strict=True):
        for one in both:
            assert one.rc == 0, f"{' '.join(words)}\n{one.said}"
    return list(zip(*ran, strict=True))


def results(directory: Path) -> dict[str, Any]:
    """All that a run found, to the last bit: metrics, steps, outputs, weights, pictures."""
    found: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.name in TEXTS or path.suffix in (".png", ".gif"):
            found[name] = path.read_bytes()
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                found[name] = {key: bits(arrays[key]) for key in arrays.files}
        elif path.suffix == ".pt":
            found[name] = flat(torch.load(path, weights_only=True))
    assert any(name.endswith("metrics.json") for name in found)
    return found


def bits(x: np.ndarray[Any, Any]) -> tuple[str, tuple[int, ...], bytes]:
    return str(x.dtype), x.shape, x.tobytes()


def flat(value: Any) -> Any:
    """Nested data with tensors as their bits."""
    if isinstance(value, torch.Tensor):
        return bits(value.numpy())
    if isinstance(value, dict):
        return {key: flat(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [flat(one) for one in value]
    return value


def differing(one: Path, other: Path) -> list[str]:
    """Which files of two runs differ in what they say."""
    mine, theirs = results(one), results(other)
    assert list(mine) == list(theirs)
    return [name for name, content in mine.items() if content != theirs[name]]


def check(folder: Path, told: Sequence[Sequence[str]], threads: int) -> None:
    off = {}
    for words, (one, other) in zip(told, twice(folder, told, threads), strict=True):
        status = json.loads((one.directory / "status.json").read_text())
        assert (status["threads"], status["parameters"]["seed"]) == (threads, 3)
        if differ := differing(one.directory, other.directory):
            off[" ".join(words)] = differ
    assert off == {}


def test_every_task_is_here() -> None:
    idle = {"plan", "doctor"}  # they compute nothing
    timed = {"benchmark"}
    assert COMPUTED | idle | timed >= set(menu.names("runner.tasks"))


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    for name, last in (("one", 1.0), ("other", np.nextafter(np.float32(1), np.float32(2)))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.json").write_text("{}")
        torch.save({"weight": torch.tensor([0.5, float(last)])}, folder / "weights.pt")
        np.savez(folder / "outputs.npz", conv=np.array([-0.0 if name == "one" else 0.0]))
    assert differing(tmp_path / "one", tmp_path / "one") == []
    assert differing(tmp_path / "one", tmp_path / "other") == ["outputs.npz", "weights.pt"]


@pytest.mark.parametrize("threads", [1, 2])
def test_some_runs(tmp_path: Path, threads: int) -> None:
    """With two threads those whose work they share."""
    told = {
        1: [
            (*EVERY_OP["classify"], "ops=direct"),
            (*EVERY_OP["learn_kernel"], "ops=winograd"),
            (*EVERY_OP["edge"], "ops=fft"),
            OTHERS["verify"],
        ],
        2: [(*EVERY_OP["classify"], "ops=native"), (*EVERY_OP["learn_kernel"], "ops=direct")],
    }[threads]
    check(tmp_path, [(*words, f"threads={threads}", "seed=3") for words in told], threads)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # sixteen runs, of half a minute where the machine is busy
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [*EVERY_OP, "others"])
def test_all_runs(tmp_path: Path, name: str, threads: int) -> None:
    ops = menu.names("runner.ops")
    names = list(OTHERS) if name == "others" else [name]
    check(tmp_path, commands(threads, names, ops), threads)


LEARN = ("task=learn_kernel", "task.steps=20", "threads=1")
TRAIN = ("task=classify", *SMALL, "threads=1")


def jobs(sweep: Path) -> list[Path]:
    """The directories of its jobs, in order."""
    return sorted((path.parent for path in sweep.glob("*/status.json")), key=lambda p: int(p.name))


def test_alone_as_in_a_sweep(tmp_path: Path) -> None:
    """And a sweep whose jobs are learned together as one that is done again."""
    told = [
        (*LEARN, "seed=3"),
        (*TRAIN, "seed=3"),
        ("-m", *LEARN, "seed=2,3", "sweep.vectorize=false"),
        ("-m", *TRAIN, "seed=2,3"),
        ("-m", *LEARN, "seed=range(0,9)"),
    ]
    ran = twice(tmp_path, told, 1)
    learned, trained = ran[0][0].directory, ran[1][0].directory
    apart, few, together = (jobs(one.directory) for one, _ in ran[2:])
    assert (len(apart), len(few), len(together)) == (2, 2, 9)
    assert differing(learned, apart[1]) == []
    assert differing(trained, few[1]) == []
    assert differing(apart[0], apart[1]) != []  # other seeds, other numbers
    status = json.loads((together[3] / "status.json").read_text())
    assert status["together"] == 9
    for mine, other in zip(together, jobs(ran[4][1].directory), strict=True):
        assert differing(mine, other) == []
