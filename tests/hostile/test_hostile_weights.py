"""Checkpoints of somebody else's: code, bombs, and tensors that are none of the run's."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from runner.config.errors import ConfigError
from runner.launch import launch
from runner.tasks._checkpoint import load_checkpoint

WORDS = [
    *("task=classify", "task.epochs=3", "data.images=60", "device=cpu", "tensorboard=false"),
    *("task.batch_size=16", "stack=digits_cnn"),
]


class Call:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that has ended, though it says that it failed."""
    directory = tmp_path_factory.mktemp("trained") / "run"
    launch([*WORDS, f"hydra.run.dir={directory}"], quiet=True)
    status = json.loads((directory / "status.json").read_text())
    (directory / "status.json").write_text(json.dumps(status | {"state": "FAILED"}))
    return directory


@pytest.fixture
def directory(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def put(directory: Path, packed: bytes) -> None:
    """A checkpoint whose checksum is right."""
    (directory / "checkpoint.pt").write_bytes(packed)
    line = f"{hashlib.sha256(packed).hexdigest()}  checkpoint.pt\n"
    (directory / "checkpoint.pt.sha256").write_text(line)


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def test_its_own_is_taken(directory: Path) -> None:
    assert launch([], resume=directory, quiet=True).metrics["epochs"] >= 1


def changed(path: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    *parents, name = path.split(".")

    def apply(content: dict[str, Any]) -> None:
        for parent in parents:
            content = content[parent]
        key = next(iter(content)) if name == "*" else name
        content[key] = change(content[key])

    return apply


FOREIGN = {
    "no step": lambda content: content.pop("step"),
    "a step that is text": changed("step", lambda _: "x"),
    "an infinite step": changed("step", lambda _: float("inf")),
    "no model": lambda content: content.pop("model"),
    "an empty model": changed("model", lambda _: {}),
    "a model that is a list": changed("model", lambda _: [1]),
    "more in the model": changed("model", lambda model: model | {"more": torch.ones(1)}),
    "another shape": changed("model.*", lambda _: torch.ones(2, 2)),
    "an expanded weight": changed("model.*", lambda _: torch.ones(1).expand(2**40)),
    "a weight that is text": changed("model.*", lambda _: "x"),
    "a weight without numbers": changed("model.*", lambda w: torch.empty_like(w, device="meta")),
    "no best": changed("best", lambda _: None),
    "another best": changed("best", lambda _: {"epoch": 1, "evil": 2}),
    "no optimizer": changed("optimizer", lambda _: {}),
    "a schedule that is text": changed("schedule", lambda _: "x"),
    "an order that is none": changed("order", lambda _: torch.zeros(3, dtype=torch.uint8)),
    "a random state that is none": changed("random", lambda _: torch.zeros(3)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_content_of_another_run_is_damage(directory: Path, name: str) -> None:
    content = torch.load(directory / "checkpoint.pt", weights_only=True)
    FOREIGN[name](content)
    put(directory, saved(content))
    with pytest.raises(ConfigError) as caught:
        launch([], resume=directory, quiet=True)
    assert f"{directory}/checkpoint.pt: expected " in str(caught.value)
    assert json.loads((directory / "status.json").read_text())["state"] == "FAILED"


def zipped(entries: dict[str, bytes], compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def repacked(packed: bytes, **more: bytes) -> bytes:
    """The same archive, compressed, and with more entries."""
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    return zipped(entries | more, zipfile.ZIP_DEFLATED)


def test_code_and_bombs_are_not_unpacked(directory: Path, tmp_path: Path) -> None:
    call, whole = Call(tmp_path / "MARKER"), (directory / "checkpoint.pt").read_bytes()
    bombs = {
        "a pickle": pickle.dumps(call),
        "a pickle of a dictionary": pickle.dumps({"format": 1, "x": call}),
        "an old one of torch's": legacy({"format": 1, "x": call}),
        "one of torch's": saved({"format": 1, "x": call}),
        "a pickle in an archive": zipped({"archive/data.pkl": pickle.dumps(call)}, 0),
        "a gigabyte of zeros": zipped({"archive/data.pkl": bytes(2**30)}, zipfile.ZIP_DEFLATED),
        "compressed": repacked(whole),
        "with a path": repacked(whole, **{"../../MARKER": b"x"}),
        "nothing": b"",
        "no archive": b"PK\3\4" + bytes(100),
        "cut": whole[: len(whole) // 2],
        "a script": b"#!/bin/sh\n",
    }
    for name, packed in bombs.items():
        put(directory, packed)
        with pytest.raises(ConfigError, match="expected tensors and plain types"):
            load_checkpoint(directory)
        assert not list(tmp_path.rglob("MARKER")), name


def legacy(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_the_call_is_one(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Call(tmp_path / "MARKER")))
    assert (tmp_path / "MARKER").exists()
