"""The two photographs that come with scikit-learn: a Chinese temple and a flower."""

from __future__ import annotations

from typing import Literal

import PIL.Image

from runner.data import Images
from runner.data._files import sklearn_file
from runner.data._pictures import Pictures
from runner.geometry import Shape


class Photo(Pictures):
    """A photograph of 427 × 640 pixels (height × width), with `Pictures`' options.

    Attributes:
        name: ``china``, the roof of a temple in Beijing's Summer Palace, or ``flower``, a dahlia.
    """

    name: Literal["china", "flower"] = "china"

    def shape(self) -> Shape:
        """As cropped and resized."""
        sklearn_file("name", "images", f"{self.name}.jpg")
        return self._shape((427, 640))

    def load(self) -> Images:
        """The photograph."""
        file = sklearn_file("name", "images", f"{self.name}.jpg")
        with PIL.Image.open(file, formats=["JPEG"]) as picture:
            return self._images(picture)
