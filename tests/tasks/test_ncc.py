"""Normalized cross-correlation against NumPy's sums, window by window, and its peaks by hand."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import correlate2d

from runner.config.errors import ConfigError
from runner.tasks._interior import Span
from runner.tasks._ncc import correlation, missed, ncc, peaks, position_error, workspace

SEEDS = range(200)


def by_definition(x: NDArray[Any], pattern: NDArray[Any]) -> NDArray[Any]:
    """The cosine of every window less its channels' means with the pattern less its own."""
    _, kh, kw = pattern.shape
    t = pattern - pattern.mean(axis=(1, 2), keepdims=True)
    size = (x.shape[1] - kh + 1, x.shape[2] - kw + 1)
    scores = np.zeros(size)
    for i, j in np.ndindex(*size):
        window = x[:, i : i + kh, j : j + kw]
        window = window - window.mean(axis=(1, 2), keepdims=True)
        norms = np.sqrt((window**2).sum() * (t**2).sum())
        scores[i, j] = (window * t).sum() / norms
    return scores


def score(x: NDArray[Any], pattern: NDArray[Any], op: str = "native") -> NDArray[Any]:
    return ncc(torch.from_numpy(x), torch.from_numpy(pattern), op).numpy()


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("channels", [1, 3])
def test_against_the_definition(seed: int, channels: int) -> None:
    draw = np.random.default_rng(seed)
    h, w = draw.integers(5, 12, 2)
    kh, kw = draw.integers(2, h + 1), draw.integers(1, w + 1)  # odd and even, up to the image's
    x = draw.normal(3, 2, (channels, h, w))
    pattern = draw.normal(-1, 5, (channels, kh, kw))
    expected = by_definition(x, pattern)
    np.testing.assert_allclose(score(x, pattern), expected, atol=1e-12)
    if seed < 3:
        np.testing.assert_allclose(score(x, pattern, "loops"), expected, atol=1e-12)
    single = score(x.astype(np.float32), pattern.astype(np.float32))
    np.testing.assert_allclose(single, expected, atol=2e-5)


@pytest.mark.parametrize("op", ["native", "loops"])
def test_plain_correlation_against_scipy(op: str) -> None:
    draw = np.random.default_rng(0)
    x, pattern = draw.normal(size=(2, 9, 8)), draw.normal(size=(2, 3, 4))
    expected = sum(correlate2d(a, b, mode="valid") for a, b in zip(x, pattern, strict=True))
    found = correlation(torch.from_numpy(x), torch.from_numpy(pattern), op)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-12)


def test_by_hand() -> None:
    # Windows of 0 1 3: (0, 1) and (1, 3) rise like the pattern, (3, 0) falls: +1, +1, −1.
    x = np.array([[[0.0, 1, 3, 0]]])
    np.testing.assert_allclose(score(x, np.array([[[5.0, 6]]])), [[1, 1, -1]], atol=1e-12)
    # (0, 1, 3) less 4/3 is (−4, −1, 5)/3, the pattern (−1, 0, 1): 9/√(42·2).
    found = score(x, np.array([[[1.0, 2, 3]]]))[0, 0]
    assert found == pytest.approx(9 / np.sqrt(84))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_planted_pattern_is_found(seed: int) -> None:
    """At any place, border and corners included, at any contrast, in noise a fifth as strong."""
    draw = np.random.default_rng(seed)
    channels = int(draw.choice([1, 3]))
    kh, kw = (int(k) for k in draw.integers(5, 9, 2))
    pattern = draw.normal(size=(channels, kh, kw)).astype(np.float32)
    x = draw.normal(size=(channels, 24, 29)).astype(np.float32)
    last = (24 - kh, 29 - kw)
    corners = [(0, 0), (0, last[1]), (last[0], 0), last]
    place = corners[seed] if seed < 4 else tuple(int(draw.integers(n + 1)) for n in last)
    gain, offset = draw.uniform(0.1, 10), draw.uniform(-5, 5)
    noise = 0.2 * gain * draw.normal(size=pattern.shape)
    x[:, place[0] : place[0] + kh, place[1] : place[1] + kw] = gain * pattern + offset + noise
    scores = score(x, pattern)
    assert peaks(scores, 1, (kh / 2, kw / 2)) == [place]
    # A cosine of about 1/√(1 + 0.2²) = 0.98 for 25 numbers and more; others rarely pass 0.8.
    assert scores[place] > 0.9


@pytest.mark.parametrize("gain", [1e-3, 0.5, 300.0])
@pytest.mark.parametrize("offset", [-7.0, 0.0, 100.0])
def test_brightness_and_contrast_do_not_matter(gain: float, offset: float) -> None:
    draw = np.random.default_rng(1)
    x, pattern = draw.normal(size=(3, 12, 13)), draw.normal(size=(3, 4, 5))
    expected = score(x, pattern)
    np.testing.assert_allclose(score(gain * x + offset, pattern), expected, atol=1e-8)
    np.testing.assert_allclose(score(x, gain * pattern + offset), expected, atol=1e-8)
    np.testing.assert_allclose(score(-x, pattern), -expected, atol=1e-12)


def test_every_channel_has_a_mean_of_its_own() -> None:
    draw = np.random.default_rng(2)
    x, pattern = draw.normal(size=(3, 9, 9)), draw.normal(size=(3, 3, 3))
    cast = np.array([5.0, -3, 0.25])[:, None, None]
    np.testing.assert_allclose(score(x + cast, pattern), score(x, pattern), atol=1e-12)
    # But one gain for all: a channel that is dimmed alone changes the score.
    dim = x * np.array([0.1, 1, 1])[:, None, None]
    assert np.abs(score(dim, pattern) - score(x, pattern)).max() > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [0.0, 0.1, 0.7, 255.0, 1e6])
def test_constant_windows_score_zero(dtype: type, level: float) -> None:
    x = np.full((1, 20, 20), level, dtype)
    pattern = np.random.default_rng(3).normal(size=(1, 6, 6)).astype(dtype)
    assert (score(x, pattern) == 0).all()
    x[0, 12:18, 3:9] += 0.1 * (level + 1) * pattern[0]
    scores = score(x, pattern)
    assert scores[12, 3] == pytest.approx(1, abs=1e-4)
    assert (scores[:7] == 0).all()  # windows that end above row 12
    assert np.isfinite(scores).all()
    assert np.abs(scores).max() <= 1


def test_a_constant_pattern_is_refused() -> None:
    x = np.random.default_rng(4).normal(size=(1, 8, 8))
    with pytest.raises(
        ConfigError, match=r"task.pattern: expected a pattern with contrast after the"
    ):
        score(x, np.full((1, 3, 3), 0.1))


def test_peaks_leave_room_for_each_other() -> None:
    scores = np.array([[0.1, 0.9, 0.8, 0.2, 0.7], [0.0, 0.3, 0.95, 0.1, 0.6]])
    # Around (1, 2) rows 0 and 1, columns 1 to 3 are taken; then (0, 4), then (0, 0).
    assert peaks(scores, 3, (2, 2)) == [(1, 2), (0, 4), (0, 0)]
    assert peaks(scores, 9, (2, 2)) == [(1, 2), (0, 4), (0, 0)]
    assert peaks(scores, 3, (0.5, 0.5)) == [(1, 2), (0, 1), (0, 2)]


def test_of_equal_peaks_the_first_row_by_row() -> None:
    scores = np.zeros((4, 9))
    scores[[2, 0, 0], [0, 7, 2]] = 1
    assert peaks(scores, 3, (2, 2)) == [(0, 2), (0, 7), (2, 0)]


def test_position_error_is_the_largest_distance_to_the_nearest_found() -> None:
    assert position_error([(3, 4)], [(3, 4)]) == 0
    assert position_error([(3, 4)], [(5, 1)]) == 3  # the larger of 2 rows and 3 columns
    assert position_error([(0, 0), (9, 9)], [(9, 8), (0, 0)]) == 1
    assert position_error([(0, 1), (0, 2)], [(0, 0), (20, 0)]) == 2
    # One that nothing was found for is far from all that was found.
    assert position_error([(0, 0), (9, 7)], [(0, 0)]) == 9
    assert position_error([(9, 9)], [(9, 9), (0, 0)]) == 0


def test_missed_are_those_without_a_found_one_of_their_own() -> None:
    near = (2.5, 2.5)
    assert missed([(0, 0), (9, 9)], [(9, 9), (0, 0)], near) == []
    assert missed([(0, 0), (9, 9)], [(9, 9)], near) == [(0, 0)]
    # Two pixels away is within half of five, three are not; in rows and in columns.
    assert missed([(0, 0), (9, 9)], [(2, 1), (7, 11)], near) == []
    assert missed([(0, 0), (9, 9)], [(3, 0), (9, 6)], near) == [(0, 0), (9, 9)]
    # (0, 1) is nearest to (0, 0) and takes it.
    assert missed([(0, 2), (0, 1)], [(0, 0)], near) == [(0, 2)]
    assert missed([(4, 4)], [(4, 5)], (0.5, 0.5)) == [(4, 4)]  # of one pixel, only its own place


def test_workspace_of_the_largest_step() -> None:
    # 5 × 7 places of a 3×2 pattern lie in 7×8 features. The loops copy the input and hold one
    # window times the kernel: 2·7·8 + 2·3·2 for the correlation; for the sums over windows, one
    # channel at a time, 2·(7·8 + 2) across and 2·(7·7 + 3) down.
    sides = Span(0, 3, 5, Fraction(1)), Span(0, 2, 7, Fraction(1))
    assert workspace(2, sides, "loops") == 124
    # torch fills channels up to 16: 16·7·8 + 16·5·7, then 2·16·7·7 and 2·16·5·7.
    assert workspace(2, sides, "native") == 1568
