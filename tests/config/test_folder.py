"""Folders of configs: what is in them, whatever that is."""

from __future__ import annotations

from pathlib import Path

from hydra.core.object_type import ObjectType

from runner.config.folder import ConfigFolder


def test_what_is_listed(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yaml", "c.yml", "notes.txt", "inner/d.yaml", ".hidden/e.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "x.yaml").symlink_to("x.yaml")
    folder = ConfigFolder("somebody", str(tmp_path))
    assert folder.list("", ObjectType.CONFIG) == ["a", "b"]
    assert folder.list("", ObjectType.GROUP) == ["inner"]
    assert not folder.is_group("x" * 300)  # longer than a name can be
