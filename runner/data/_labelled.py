"""What the sources of labelled images share: which of their images to take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limited

from runner.config.errors import problem
from runner.data import Data


class Labelled(Data):
    """A run of consecutive images out of a larger set.

    Attributes:
        start: the first image, counted from 0.
        images: how many; null for all from `start` on.
    """

    start: Annotated[int, Limited(ge=0, le=2**31 - 1)] = 0
    images: Annotated[int, Limited(ge=1, le=2**31 - 1)] | None = 16

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
