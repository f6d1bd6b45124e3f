"""Checkpoints are whole or refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch

from runner.config.errors import ConfigError
from runner.tasks import _checkpoint
from runner.tasks._checkpoint import load_checkpoint, save_checkpoint

CONTENT = {"step": 7, "model": {"weight": torch.arange(3.0)}, "lr": [0.1, 0.2], "best": None}


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, {"step": 1})
    save_checkpoint(tmp_path, CONTENT)
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert torch.equal(found["model"]["weight"], torch.tensor([0.0, 1.0, 2.0]))
    assert (found["step"], found["lr"], found["best"]) == (7, [0.1, 0.2], None)
    # In the form that sha256sum --check reads, one line.
    digest = hashlib.sha256((tmp_path / "checkpoint.pt").read_bytes()).hexdigest()
    assert (tmp_path / "checkpoint.pt.sha256").read_text() == f"{digest}  checkpoint.pt\n"
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "checkpoint.pt.sha256"}


def refusal(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(folder)
    return str(caught.value)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_flipped_bit_is_noticed(tmp_path: Path, place: int) -> None:
    save_checkpoint(tmp_path, CONTENT)
    path = tmp_path / "checkpoint.pt"
    damaged = bytearray(path.read_bytes())
    damaged[place] ^= 1
    path.write_bytes(damaged)
    message = refusal(tmp_path)
    assert message.startswith(f"{path}: expected the content whose SHA-256 checkpoint.pt.sha256")
    assert "remove checkpoint.pt" in message


def test_cut_short_or_without_a_checksum(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, CONTENT)
    path = tmp_path / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "SHA-256" in refusal(tmp_path)
    path.write_bytes(whole)
    (tmp_path / "checkpoint.pt.sha256").unlink()
    assert "expected its checksum in checkpoint.pt.sha256, got no such file" in refusal(tmp_path)


def test_code_in_it_is_not_run(tmp_path: Path) -> None:
    """A file that somebody else made, its checksum right: unpickling it must not call anything."""

    class Call:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "called",))

    for packed in (pickle.dumps(Call()), None):
        path = tmp_path / "checkpoint.pt"
        if packed is None:
            torch.save({"format": 1, "call": Call()}, path)
        else:
            path.write_bytes(packed)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        (tmp_path / "checkpoint.pt.sha256").write_text(f"{digest}  checkpoint.pt\n")
        assert "expected tensors and plain types" in refusal(tmp_path)
        assert not (tmp_path / "called").exists()


def test_another_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpoint, "FORMAT", 99)
    save_checkpoint(tmp_path, CONTENT)
    monkeypatch.undo()
    assert "expected a checkpoint of format 1, got format 99" in refusal(tmp_path)


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_killed_at_any_moment_of_saving_one_of_both_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """After any number of the files that saving writes, the pair on disk is a good one."""
    save_checkpoint(tmp_path, {"step": 1})
    real, done = _checkpoint.write_atomically, []

    class Killed(BaseException):
        pass

    def write(path: Path, content: bytes, *, at_once: bool) -> None:
        if len(done) == writes:
            raise Killed
        done.append(path.name)
        real(path, content, at_once=at_once)

    monkeypatch.setattr(_checkpoint, "write_atomically", write)
    with pytest.raises(Killed):
        save_checkpoint(tmp_path, {"step": 2})
    found = load_checkpoint(tmp_path)
    assert found is not None
    assert found["step"] == (2 if "checkpoint.pt" in done else 1)
    monkeypatch.undo()
    save_checkpoint(tmp_path, {"step": 3})
    assert len((tmp_path / "checkpoint.pt.sha256").read_text().splitlines()) == 1
