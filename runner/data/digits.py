"""scikit-learn's handwritten digits: 1797 small images with labels, read without importing it.

From the test set of "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository.
"""

from __future__ import annotations

import numpy as np
from pydantic import model_validator

from runner.data import Images
from runner.data._files import sklearn_file
from runner.data._labelled import Labelled
from runner.geometry import Shape

_TOTAL = 1797


class Digits(Labelled):
    """Digits of 8 × 8 pixels with 17 levels, and which each is; the fields are `Labelled`'s."""

    @model_validator(mode="after")
    def _there(self) -> Digits:
        self._range(_TOTAL)
        return self

    def shape(self) -> Shape:
        """One gray channel."""
        sklearn_file("kind", "data", "digits.csv.gz")
        return self._sized(Shape(1, 8, 8))

    def count(self) -> int:
        """As many as `images` says."""
        return len(self._range(_TOTAL))

    def load(self) -> Images:
        """The digits and their labels."""
        file = sklearn_file("kind", "data", "digits.csv.gz")
        # A line is 64 pixels from 0 to 16, row by row, and the label.
        lines = np.loadtxt(file, delimiter=",", skiprows=self.start, max_rows=self.count(), ndmin=2)
        return Images(
            self._resized(lines[:, :64].reshape(-1, 1, 8, 8) / 16),
            labels=lines[:, 64].astype(np.int64),
            classes=tuple("0123456789"),
            note="gray, 0 paper to 1 ink",
        )
