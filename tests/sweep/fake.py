"""Sweep directories written by hand, as a sweep leaves them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BASE = {
    "device": "auto",
    "dtype": "float32",
    "seed": 0,
    "task.kind": "learn_kernel",
    "task.optimizer.lr": 0.01,
    "task.optimizer.name": "sgd",
}


def job(
    sweep: Path,
    number: int,
    values: Mapping[str, Any],
    metrics: Mapping[str, Any] | None = None,
    *,
    folder: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    **status: Any,
) -> Path:
    """A job's directory; values are what the overrides say, parameters what the config says."""
    path = sweep / (folder or str(number))
    path.mkdir(parents=True)
    words = [f"{key}={value}" for key, value in values.items()]
    found = {
        "state": "COMPLETED",
        "reason": None,
        "seconds": 0.25,
        "started": "2026-01-02T03:04:05+00:00",
        "task": "learn_kernel",
        "command": " ".join(["python -m runner task=learn_kernel", *words]),
        "overrides": words,
        "job": number,
        "key": f"key{number}",
        "parameters": {**BASE, **(values if parameters is None else parameters)},
        "choices": {"stack": values.get("stack", "edge"), "hydra/launcher": "basic"},
    } | status
    (path / "status.json").write_text(json.dumps(found))
    if found["state"] == "COMPLETED":
        content = {"losses": [3, 2, 1], "expectations": [], **(metrics or {})}
        (path / "metrics.json").write_text(json.dumps(content))
    return path


def manifest(
    sweep: Path,
    jobs: Sequence[Mapping[str, Any]] = (),
    objective: Mapping[str, str] | None = None,
    skipped: Sequence[Mapping[str, Any]] = (),
) -> None:
    """sweep.json, whose jobs are numbered in order."""
    sweep.mkdir(exist_ok=True)
    listed = [
        {
            "number": i,
            "key": f"key{i}",
            "directory": str(i),
            "overrides": [f"{key}={value}" for key, value in values.items()],
        }
        for i, values in enumerate(jobs)
    ]
    content = {
        "command": "python -m runner -m task=learn_kernel seed=0,1,2",
        "overrides": ["task=learn_kernel", "seed=0,1,2"],
        "config_dir": None,
        "config_name": "config",
        "task": "learn_kernel",
        "objective": objective,
        "started": "2026-01-02T03:04:05+00:00",
        "jobs": listed,
        "skipped": list(skipped),
    }
    (sweep / "sweep.json").write_text(json.dumps(content))


def grid(
    sweep: Path,
    name: str,
    errors: Mapping[Any, Sequence[float]],
    objective: Mapping[str, str] | None = None,
) -> Path:
    """Values of one parameter, each with as many seeds as it has errors."""
    jobs = [
        ({"seed": seed, name: value}, error)
        for value, found in errors.items()
        for seed, error in enumerate(found)
    ]
    objective = objective or {"metric": "kernel_error", "goal": "min"}
    manifest(sweep, [values for values, _ in jobs], objective)
    for number, (values, error) in enumerate(jobs):
        job(sweep, number, values, {"loss": 2.0, "kernel_error": error})
    return sweep
