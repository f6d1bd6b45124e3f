"""A pattern that is searched for: where it comes from."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import PlainValidator, model_validator

from runner.config.errors import ConfigError, problem, under
from runner.config.fields import REGION, Region
from runner.config.numbers import Nested, array
from runner.config.spec import Spec, check_kind
from runner.data import Data
from runner.geometry import Pair, Shape
from runner.tasks import load


def _values(value: object) -> Nested | None:
    if value is None:
        return None
    numbers, shape = array(value)
    if len(shape) not in (2, 3):
        expected = "rows of numbers: [h, w] or [c, h, w]"
        raise problem("", expected, f"{len(shape)} dimensions")
    return (numbers,) if len(shape) == 2 else numbers


class Pattern(Spec):
    """What is searched for; the middle of the image, if nothing is said.

    Attributes:
        crop: a part of the data's image, [top, left, height, width].
        values: the numbers, h × w or c × h × w.
        path: of a picture file, read with as many channels as the data's image has.
    """

    crop: Region | None = None
    values: Annotated[Nested | None, PlainValidator(_values)] = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_of_three(self) -> Pattern:
        given = [name for name in ("crop", "values", "path") if getattr(self, name) is not None]
        if len(given) > 1:
            raise problem("", "one of crop, values and path", " and ".join(given))
        return self

    def shape(self, image: Shape) -> Shape:
        """Its shape; it is one that fits into the image.

        Raises:
            ConfigError: it doesn't, or there is no such pattern.
        """
        if self.values is not None:
            path, shape = "task.pattern.values", Shape(*array(self.values)[1])
        elif self.path is not None:
            path, shape = "task.pattern.path", self._file(image).shape()
        else:
            path, shape = "task.pattern.crop", self._cropped(image)
        if shape.channels != image.channels:
            raise problem(
                path,
                f"{image.channels} channel{'s' * (image.channels > 1)}, as many as the image has",
                f"{shape.channels} (a pattern of {shape})",
                "Pictures have three with data.color=rgb, one with gray.",
            )
        if shape.height > image.height or shape.width > image.width:
            raise problem(
                path,
                f"at most the image's {image.height}×{image.width} (height × width)",
                f"{shape.height}×{shape.width}",
                "Take a smaller pattern, or a larger image.",
            )
        return shape

    def read(self, image: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its numbers, c × h × w, for an image of c × h × w."""
        shape = Shape(*image.shape)
        if self.values is not None:
            return np.array(self.values, dtype=np.float64)
        if self.path is not None:
            pixels: NDArray[np.float64] = load(self._file(shape)).x[0]
            return pixels
        top, left, h, w = self._region(shape)
        part: NDArray[np.float64] = image[:, top : top + h, left : left + w]
        return part

    def place(self, image: Shape) -> Pair | None:
        """Where in the image it was taken from; None if it comes from elsewhere."""
        if self.values is not None or self.path is not None:
            return None
        return self._region(image)[:2]

    def _region(self, image: Shape) -> tuple[int, int, int, int]:
        """As asked for, or the middle quarter of each side; two pixels at least have contrast."""
        if self.crop is not None:
            return self.crop
        h, w = (min(n, max(2, n // 4)) for n in image.size)
        return ((image.height - h) // 2, (image.width - w) // 2, h, w)

    def _cropped(self, image: Shape) -> Shape:
        top, left, h, w = self._region(image)
        if h <= image.height and w <= image.width:
            nearest = [min(top, image.height - h), min(left, image.width - w), h, w]
            if nearest[:2] != [top, left]:
                raise problem(
                    "task.pattern.crop",
                    f"{REGION} within the image's {image.height}×{image.width} (height × width)",
                    str([top, left, h, w]),
                    f"It ends at row {top + h} and column {left + w}; the nearest is {nearest}.",
                )
        return Shape(image.channels, h, w)

    def _file(self, image: Shape) -> Data:
        """The file as a data source."""
        color = "rgb" if image.channels == 3 else "gray"
        raw = {"kind": "image", "path": self.path, "color": color}
        source, problems = check_kind("runner.data", raw, "task.pattern")
        if not isinstance(source, Data):
            raise ConfigError(*problems)
        with under("task.pattern"):
            source.shape()
        return source
