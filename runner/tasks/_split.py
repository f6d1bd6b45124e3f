"""Which images are learned from, which choose the best weights, and which are kept for the end."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from runner.config.errors import problem

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Positions of images; nobody is in two parts.

    Attributes:
        train: what is learned from.
        validation: what chooses the best weights.
        test: what is looked at once, at the end; empty where the test images come from elsewhere.
    """

    train: Indices
    validation: Indices
    test: Indices


def sizes(count: int, validation: float, test: float) -> tuple[int, int, int]:
    """How many of `count` images learn, validate and test.

    Args:
        count: how many there are.
        validation: fraction that validates.
        test: fraction that tests; 0 for none.

    Raises:
        ConfigError: a part would be empty.
    """
    validating, testing = round(count * validation), round(count * test)
    training = count - validating - testing
    short = {
        "task.validation": (validating < 1, validation),
        "task.test": (test > 0 and testing < 1, test),
    }
    for path, (empty, fraction) in short.items():
        if empty:
            least = -(-1 // fraction)
            raise problem(
                "data",
                f"at least {least:.0f} images, so that {path}={fraction:g} of them is one",
                f"{count}",
                "data.images=null takes all there are.",
            )
    if training < 1:
        raise problem(
            "data",
            f"images that are left for training after {validating} for validation "
            f"and {testing} for the test",
            f"{count} in all",
            "Lower task.validation and task.test.",
        )
    return training, validating, testing


def stratified(labels: Indices, validation: float, test: float, seed: int) -> Split:
    """Shuffle by the seed, and give each part its share of every class.

    Each image's rank within its class, as a fraction of the class, says where it goes: the lowest
    fractions test, the next validate, the rest learn. So the parts' sizes don't depend on the
    labels, and each class is within an image of its share.

    Raises:
        ConfigError: a part would be empty.
    """
    _, validating, testing = sizes(len(labels), validation, test)
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    ordered = shuffled[np.argsort(place, kind="stable")]
    return Split(
        train=np.sort(ordered[testing + validating :]),
        validation=np.sort(ordered[testing : testing + validating]),
        test=np.sort(ordered[:testing]),
    )


def in_common(images: NDArray[np.float64], others: NDArray[np.float64]) -> int:
    """How many of the images, n × c × h × w, are among the others, pixel for pixel.

    Digests of the bytes are compared: sixty thousand images would fill the memory once more.
    """
    known = {_digest(x) for x in others}
    return sum(_digest(x) in known for x in images)


def _digest(x: NDArray[np.float64]) -> bytes:
    return blake2b(x.tobytes(), digest_size=16).digest()
