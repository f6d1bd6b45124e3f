"""The wheel: it carries its configs, and works without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from runner.config.compose import config_folder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the build backend isn't installed")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    command += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_everything_is_inside(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    configs = {
        f"runner/configs/{p.relative_to(ROOT / 'configs')}"
        for p in (ROOT / "configs").rglob("*.yaml")
    }
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "runner").rglob("*.py")}
    assert len(configs) > 30
    assert names >= configs
    assert names >= modules
    assert "runner/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "configs", "outputs"))]
    assert not [name for name in names if name.endswith((".pyc", ".tmp"))]


def test_installed_package_uses_its_own_configs(wheel: Path, tmp_path: Path) -> None:
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A mark that only the unpacked configs carry.
    lenet = site / "runner" / "configs" / "stack" / "lenet.yaml"
    lenet.write_text(lenet.read_text().replace("features: 84", "features: 85"))
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-m", "runner", "task=plan"],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # One feature more: 120 weights and a bias in fc2, ten weights in fc3.
    assert f"{61_706 + 131:,}" in done.stdout
    (directory,) = (elsewhere / "outputs" / "plan").iterdir()
    # There is no commit to record, whatever repository it is installed into.
    status = json.loads((directory / "status.json").read_text())
    assert (status["git_commit"], status["git_changed"]) == (None, None)
    assert config_folder() == ROOT / "configs"
