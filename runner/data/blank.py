"""Images of one brightness: for planning, where only the size matters."""

from __future__ import annotations

from runner.config.fields import Count
from runner.data import Data, Images
from runner.geometry import Shape


class Blank(Data):
    """Nothing to see.

    Attributes:
        channels: of each image.
        height: in pixels.
        width: in pixels.
        value: of every pixel.
        images: how many.
    """

    channels: Count = 1
    height: Count = 28
    width: Count = 28
    value: float = 0.0
    images: Count = 1

    def shape(self) -> Shape:
        """As given."""
        return Shape(self.channels, self.height, self.width)

    def count(self) -> int:
        """As given."""
        return self.images

    def load(self) -> Images:
        """The images."""
        import numpy as np  # here, so that planning doesn't wait for it

        x = np.full((self.images, *self.shape().dims), self.value)
        return Images(x, regions=np.zeros((self.images, self.height, self.width), dtype=np.int64))
