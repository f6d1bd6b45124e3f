"""Torch's settings that trade digits for speed: none is on in a run, and all are given back."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import runner
from runner import exactness

NEWER = hasattr(torch.backends.cudnn, "conv")
"""Whether torch has names for the precision of each library."""

CHOICES: dict[str, list[Any]] = {
    "cudnn.allow_tf32": [True, False],
    "cuda.matmul.allow_tf32": [True, False],
    **{name: [True, False] for name in exactness.SWITCHES},
    **({"fp32_precision": ["tf32", "ieee", "none"]} if NEWER else {}),
    **(
        {f"{name}.fp32_precision": ["tf32", "ieee", "none"] for name in exactness.FLOAT32}
        if NEWER
        else {}
    ),
    **({"mkldnn.conv.fp32_precision": ["bf16", "tf32", "ieee"]} if NEWER else {}),
}


@pytest.fixture(autouse=True)
def given_back() -> Iterator[None]:
    before, general = exactness.settings(), exactness._get("fp32_precision")
    yield
    if NEWER:
        put("fp32_precision", general)
    exactness.restore(before)


def put(name: str, value: Any) -> None:
    *where, what = name.split(".")
    found: Any = torch.backends
    for part in where:
        found = getattr(found, part)
    setattr(found, what, value)


def choose(rng: random.Random) -> list[tuple[str, Any]]:
    """What a program may have set before it calls a run, in some order."""
    chosen = [(name, rng.choice(CHOICES[name])) for name in rng.sample(sorted(CHOICES), 4)]
    for name, value in chosen:
        put(name, value)
    if rng.random() < 0.5:
        precision = rng.choice(["highest", "high", "medium"])
        torch.set_float32_matmul_precision(precision)
        chosen.append(("matmul", precision))
    return chosen


def test_whatever_was_set_is_off_and_comes_back() -> None:
    rng = random.Random(0)
    for _ in range(500):
        chosen, before = choose(rng), exactness.settings()
        exactness.be_exact()
        said = exactness.recorded()
        off = {name: said[name] for name in ("tf32", "bf16", "half_sums", "benchmark")}
        assert not any(off.values()), (chosen, off)
        assert said["deterministic"], chosen
        # Torch itself may ask by the older names, which fail where the two disagree.
        assert torch.get_float32_matmul_precision() == "highest", chosen
        assert not torch.backends.cuda.matmul.allow_tf32, chosen
        assert not torch.backends.cudnn.allow_tf32, chosen
        exactness.restore(before)
        after = exactness.settings()
        assert (after.switches, after.float32) == (before.switches, before.float32), chosen
        # An older setting that couldn't be read may be read now.
        for mine, right in ((after.matmul, before.matmul), (after.cudnn, before.cudnn)):
            assert right is None or mine == right, chosen


@pytest.mark.skipif(not NEWER, reason="this torch has the older names only")
def test_a_program_with_torchs_newer_names(workplace: Path) -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.conv.fp32_precision = "bf16"  # type: ignore[attr-defined]  # untyped
    result = runner.run("task=edge", quiet=True)
    status = json.loads((result.directory / "status.json").read_text())
    assert (status["exactness"]["tf32"], status["exactness"]["bf16"]) == (False, False)
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    assert exactness._get("mkldnn.conv.fp32_precision") == "bf16"


def test_a_program_in_double_precision_draws_the_same_weights(workplace: Path) -> None:
    words = ("task=learn_kernel", "task.steps=3", "threads=1")
    expected = runner.run(*words, quiet=True).metrics
    torch.set_default_dtype(torch.float64)
    assert runner.run(*words, quiet=True).metrics == expected
    assert torch.get_default_dtype() == torch.float64


class TestRecorded:
    def test_what_is_on_is_said(self) -> None:
        exactness.be_exact()
        torch.set_float32_matmul_precision("high")
        assert exactness.recorded()["tf32"]
        exactness.be_exact()
        torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = True
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.deterministic = False
        said = exactness.recorded()
        assert (said["tf32"], said["half_sums"], said["benchmark"]) == (False, True, True)
        assert not said["deterministic"]

    def test_algorithms(self) -> None:
        torch.use_deterministic_algorithms(True)
        try:
            assert exactness.recorded()["deterministic_algorithms"]
        finally:
            torch.use_deterministic_algorithms(False)
        assert not exactness.recorded()["deterministic_algorithms"]

    def test_numbers_too_small_for_all_their_digits(self) -> None:
        assert not exactness.recorded()["flush_denormal"]
        if not torch.set_flush_denormal(True):
            pytest.skip("this processor can't")
        try:
            assert exactness.recorded()["flush_denormal"]
        finally:
            torch.set_flush_denormal(False)

    def test_variables_that_libraries_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in exactness.VARIABLES:
            monkeypatch.delenv(name, raising=False)
        assert exactness.recorded()["variables"] == {}
        monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
        assert exactness.recorded()["variables"] == {"NVIDIA_TF32_OVERRIDE": "1"}
        assert "HOME" in os.environ  # nothing else is recorded


def test_a_torch_without_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names come and go between versions."""
    monkeypatch.setattr(exactness, "FLOAT32", ("cudnn.absent", "absent.absent"))
    switches = {"cudnn.deterministic": True, "cudnn.benchmark": False, "cuda.absent": True}
    monkeypatch.setattr(exactness, "SWITCHES", switches)
    torch.set_float32_matmul_precision("high")
    assert exactness.recorded()["tf32"]
    exactness.be_exact()
    said = exactness.recorded()
    assert (said["tf32"], said["bf16"], said["deterministic"]) == (False, False, True)
