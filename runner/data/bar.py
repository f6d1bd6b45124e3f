"""The book's image of an edge (6.2.3): white, with a black bar from top to bottom."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field as Limited
from pydantic import model_validator

from runner.config.errors import problem
from runner.config.fields import Count
from runner.data import Data, Images
from runner.geometry import Shape


class Bar(Data):
    """A bar on a plain background; the defaults are the book's 6×8 image.

    Attributes:
        height: of the image, in pixels.
        width: of the image, in pixels.
        start: the bar's first column.
        stop: the column after the bar's last.
        background: brightness outside the bar.
        foreground: brightness of the bar.
        transpose: lay the bar across: rows and columns of the finished image change places.
    """

    height: Count = 6
    width: Count = 8
    start: Annotated[int, Limited(ge=0)] = 2
    stop: Annotated[int, Limited(ge=0)] = 6
    background: Annotated[float, Limited(ge=0, le=1)] = 1.0
    foreground: Annotated[float, Limited(ge=0, le=1)] = 0.0
    transpose: bool = False

    @model_validator(mode="after")
    def _inside(self) -> Bar:
        if not self.start <= self.stop <= self.width:
            raise problem(
                "stop", f"from start ({self.start}) to width ({self.width})", str(self.stop)
            )
        return self

    def shape(self) -> Shape:
        """One gray channel."""
        size = (self.width, self.height) if self.transpose else (self.height, self.width)
        return Shape(1, *size)

    def load(self) -> Images:
        """The image, and where its edges are."""
        import numpy as np  # here, so that planning doesn't wait for it

        regions = np.zeros((1, self.height, self.width), dtype=np.int64)
        regions[:, :, self.start : self.stop] = 1
        if self.transpose:
            regions = regions.transpose(0, 2, 1)
        x = np.where(regions == 1, self.foreground, self.background)[:, None]
        return Images(x, regions=regions, note="gray, 0 black to 1 white")
