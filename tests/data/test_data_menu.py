"""What holds for every source and its YAML."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from runner import menu
from runner.config.spec import Kind
from runner.data import Data

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
KINDS = menu.names("runner.data")


def test_every_source_has_a_yaml() -> None:
    # One source may have several: digits_all is digits with another number of images.
    kinds = {f: yaml.safe_load(f.read_text()).get("kind") for f in CONFIGS.glob("*.yaml")}
    assert sorted(f.stem for f, kind in kinds.items() if kind is not None) == KINDS
    assert [f.stem for f, kind in kinds.items() if kind is None] == ["digits_all"]


@pytest.mark.parametrize("kind", KINDS)
def test_yaml_writes_out_every_field_with_its_default(kind: str) -> None:
    text = (CONFIGS / f"{kind}.yaml").read_text()
    written = yaml.safe_load(text)
    fields = menu.load("runner.data", kind, Kind).model_fields
    assert next(iter(written)) == "kind"
    assert set(written) == set(fields)
    required = {name for name, field in fields.items() if field.is_required()} - {"kind"}
    given = {"tensor": {"values"}}.get(kind, set())
    assert {name for name, value in written.items() if value == "???"} == required - given
    for name in set(fields) - required - {"kind"}:
        default = fields[name].default
        value = tuple(written[name]) if isinstance(written[name], list) else written[name]
        assert (value, type(value)) == (default, type(default)), name


@pytest.mark.parametrize("kind", KINDS)
def test_yaml_starts_with_what_it_is_and_a_command(kind: str) -> None:
    comment = [
        line for line in (CONFIGS / f"{kind}.yaml").read_text().split("\n") if line[:1] == "#"
    ]
    assert len(comment) >= 2
    assert re.match(rf"# +python -m runner task=\w+ .*\bdata={kind}\b", comment[-1])


@pytest.mark.parametrize("kind", sorted({*KINDS} - {"image", "mnist", "fashion_mnist"}))
def test_shipped_yaml_loads_as_it_says(kind: str, make: Callable[..., Data]) -> None:
    spec = make(**yaml.safe_load((CONFIGS / f"{kind}.yaml").read_text()))
    images = spec.load()
    assert images.x.shape == (spec.count(), *spec.shape().dims)
    assert images.x.dtype == np.float64
    if kind != "tensor":
        assert images.x.min() >= 0
        assert images.x.max() <= 1


def test_no_source_imports_anything_heavy() -> None:
    program = f"""
import importlib, sys
for kind in {KINDS}:
    importlib.import_module(f"runner.data.{{kind}}")
from runner.data.digits import Digits
from runner.data.photo import Photo
Digits(kind="digits").load()
Photo(kind="photo").load()
heavy = ["torch", "sklearn", "scipy", "matplotlib", "hydra", "omegaconf", "tensorboard"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
