"""A checkerboard: edges in both directions, and corners, at known places."""

from __future__ import annotations

import numpy as np

from runner.data import Data, Images
from runner.data._fields import Brightness, Side
from runner.geometry import Shape


class Checkerboard(Data):
    """Squares of two brightnesses in turn; the last row and column are cut where they don't fit.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        square: side of a square, in pixels.
        background: brightness of the square at the top left, and of every other one.
        foreground: brightness of the squares between.
    """

    height: Side = 64
    width: Side = 64
    square: Side = 8
    background: Brightness = 1.0
    foreground: Brightness = 0.0

    def shape(self) -> Shape:
        """One gray channel."""
        return Shape(1, self.height, self.width)

    def load(self) -> Images:
        """The image, and where its edges are."""
        rows = np.arange(self.height, dtype=np.int64)[:, None] // self.square
        columns = np.arange(self.width, dtype=np.int64) // self.square
        regions = ((rows + columns) % 2)[None]
        x = np.where(regions == 1, self.foreground, self.background)[:, None]
        return Images(x, regions=regions, note="gray, 0 black to 1 white")
