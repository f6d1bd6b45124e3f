"""Who learns, who validates, who tests."""

from __future__ import annotations

import numpy as np
import pytest

from runner.config.errors import ConfigError
from runner.tasks._split import in_common, sizes, stratified

LABELS = np.repeat(np.arange(3), (100, 50, 10))


def test_every_image_is_in_one_part_and_every_class_has_its_share() -> None:
    split = stratified(LABELS, validation=0.1, test=0.2, seed=0)
    parts = (split.train, split.validation, split.test)
    assert [len(part) for part in parts] == [112, 16, 32]  # of 160: 0.7, 0.1 and 0.2
    assert sorted(np.concatenate(parts).tolist()) == list(range(160))
    counts = [np.bincount(LABELS[part], minlength=3).tolist() for part in parts]
    # 0.7, 0.1 and 0.2 of 100, 50 and 10.
    assert counts == [[70, 35, 7], [10, 5, 1], [20, 10, 2]]


def test_the_seed_decides() -> None:
    first, again, other = (stratified(LABELS, 0.1, 0.2, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.test, again.test)
    assert np.array_equal(first.validation, again.validation)
    assert not np.array_equal(first.test, other.test)


def test_images_are_drawn_from_all_over_a_class() -> None:
    """Not its first or last: sources may be ordered, by writer for example."""
    split = stratified(np.zeros(1000, dtype=np.int64), 0.1, 0.2, seed=0)
    # The mean of 200 of 0 … 999 without bias is 499.5 ± 1000/√12/√200 ≈ 20.
    assert abs(split.test.mean() - 499.5) < 80
    assert abs(split.validation.mean() - 499.5) < 120


def test_without_a_test_fraction_nothing_is_kept_back() -> None:
    split = stratified(LABELS, validation=0.1, test=0.0, seed=0)
    assert (len(split.train), len(split.validation), len(split.test)) == (144, 16, 0)


@pytest.mark.parametrize(
    ("count", "validation", "test", "message"),
    [
        (4, 0.1, 0.2, "at least 10 images, so that task.validation=0.1 of them is one, got 4"),
        (6, 0.4, 0.01, "at least 100 images, so that task.test=0.01 of them is one, got 6"),
        (10, 0.5, 0.5, "after 5 for validation and 5 for the test, got 10 in all"),
    ],
)
def test_too_few_images(count: int, validation: float, test: float, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sizes(count, validation, test)
    assert message in str(caught.value)
    assert str(caught.value).startswith("data: expected ")


def test_images_in_common_are_the_same_in_every_pixel() -> None:
    x = np.arange(24.0).reshape(3, 2, 2, 2)
    near = x[1:2] + 1e-12
    assert in_common(np.concatenate([x[2:], near, x[2:], x[:1]]), x) == 3
    assert in_common(x[::-1, :, ::-1], x) == 0
    assert in_common(x[:, ::-1][:, ::-1], x) == 3  # not how it lies in memory counts
