"""What the sources of labelled images share: which of their images to take, and how large."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import PIL.Image
from numpy.typing import NDArray
from pydantic import Field as Limited

from runner.config.errors import problem
from runner.data import Data
from runner.data._fields import Resize
from runner.geometry import Shape


class Labelled(Data):
    """A run of consecutive images out of a larger set.

    Attributes:
        start: the first image, counted from 0.
        images: how many; null for all from `start` on.
        resize: height and width afterwards, or one number for both; null as they are. Bilinear;
            where it shrinks, over as many pixels as one replaces.
    """

    start: Annotated[int, Limited(ge=0, le=2**31 - 1)] = 0
    images: Annotated[int, Limited(ge=1, le=2**31 - 1)] | None = 16
    resize: Resize | None = None

    def _range(self, total: int) -> range:
        """The images to take out of `total`.

        Raises:
            ConfigError: there aren't that many.
        """
        if self.start >= total:
            raise problem("start", f"less than {total}, the number of images", str(self.start))
        left = total - self.start
        if self.images is not None and self.images > left:
            expected = f"at most {left}, the images from {self.start} to {total - 1}"
            raise problem("images", expected, str(self.images), "null takes all of them.")
        return range(self.start, self.start + (self.images or left))

    def _sized(self, shape: Shape) -> Shape:
        """The shape after `resize`."""
        return Shape(shape.channels, *self.resize) if self.resize else shape

    def _resized(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Images of one channel, n × 1 × h × w, after `resize`."""
        if self.resize is None or self.resize == x.shape[2:]:
            return x
        size, bilinear = self.resize[::-1], PIL.Image.Resampling.BILINEAR
        planes = (PIL.Image.fromarray(plane.astype(np.float32)) for plane in x[:, 0])
        resized = [np.asarray(plane.resize(size, bilinear), dtype=np.float64) for plane in planes]
        return np.stack(resized)[:, None].clip(0, 1)
