"""Independent random numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import runner
from runner.config.errors import Problem
from runner.data import Data


def test_uniform_between_its_ends(make: Callable[..., Data]) -> None:
    spec = make("noise", channels=3, height=40, width=50, low=-2.0, high=6.0, images=2)
    assert (str(spec.shape()), spec.count()) == ("3×40×50", 2)
    x = spec.load().x
    assert x.shape == (2, 3, 40, 50)
    assert -2 <= x.min() < -1.99
    assert 5.99 < x.max() <= 6
    # Of a uniform distribution over 8: mean 2, variance 8²/12; 12,000 numbers.
    assert abs(x.mean() - 2) < 0.1
    assert abs(x.var() - 64 / 12) < 0.2
    assert len(np.unique(x)) == x.size


def test_seed(make: Callable[..., Data]) -> None:
    first, again, other = (make("noise", seed=seed).load().x for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_can_follow_the_runs_seed(workplace: object) -> None:
    words = ("task=forward", "stack=empty", "data=noise", "data.seed=${seed}")
    found = [runner.run(*words, f"seed={seed}").metrics["mean"] for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]


def test_ends_the_wrong_way_round(complaint: Callable[..., Problem]) -> None:
    assert str(complaint("noise", low=2.0)) == "data.high: expected at least low (2), got 1."
