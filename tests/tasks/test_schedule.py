"""Learning rates by epoch, against their formulas."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import pytest
import torch

from runner.config.spec import check
from runner.tasks._schedule import Schedule


def rates(epochs: int, **fields: Any) -> list[float]:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=2.0)
    schedule = Schedule(**fields).build(optimizer, epochs)
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [2, 2, 2, 2, 2, 2]),
        ({"name": "step", "step_size": 2}, [2, 2, 0.2, 0.2, 0.02, 0.02]),
        ({"name": "step", "step_size": 4, "gamma": 0.5}, [2, 2, 2, 2, 1, 1]),
        ({"name": "exponential", "gamma": 0.5}, [2, 1, 0.5, 0.25, 0.125, 0.0625]),
        ({"name": "exponential"}, [2 * 0.95**k for k in range(6)]),
        ({"name": "cosine"}, [1 + cos(pi * k / 6) for k in range(6)]),
        # Two epochs at a third and two thirds, then the schedule as if it began there.
        ({"warmup": 2}, [2 / 3, 4 / 3, 2, 2, 2, 2]),
        ({"warmup": 2, "name": "cosine"}, [2 / 3, 4 / 3, *(1 + cos(pi * k / 4) for k in range(4))]),
        ({"warmup": 1, "name": "exponential", "gamma": 0.5}, [1, 2, 1, 0.5, 0.25, 0.125]),
        ({"warmup": 1, "name": "step", "step_size": 2}, [1, 2, 2, 0.2, 0.2, 0.02]),
    ],
)
def test_rates(fields: dict[str, Any], expected: list[float]) -> None:
    assert rates(6, **fields) == pytest.approx(expected)


def test_a_gamma_without_use_is_refused() -> None:
    _, (problem,) = check(Schedule, {"name": "cosine", "gamma": 0.5}, "task.schedule")
    assert str(problem) == (
        "task.schedule.gamma: expected null with cosine, got 0.5. "
        "Only step and exponential have one."
    )
