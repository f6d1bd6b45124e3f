"""Numbers written in YAML, for examples small enough to check by hand."""

from __future__ import annotations

from typing import Annotated

from pydantic import PlainValidator

from runner.config.errors import problem
from runner.config.numbers import Nested, array
from runner.data import Data, Images
from runner.geometry import Shape


def _images(value: object) -> Nested:
    """Any depth from rows × columns up to n × c × h × w, brought to the latter."""
    numbers, shape = array(value)
    if not 2 <= len(shape) <= 4:
        raise problem(
            "",
            "rows of numbers: [h, w], [c, h, w] or [n, c, h, w]",
            f"{len(shape)} dimensions",
            "Put one row into brackets too: [[…]]." if len(shape) == 1 else "",
        )
    for _ in range(4 - len(shape)):
        numbers = (numbers,)
    return numbers


class Tensor(Data):
    """The numbers themselves.

    Attributes:
        values: h × w, c × h × w or n × c × h × w numbers.
    """

    values: Annotated[Nested, PlainValidator(_images)]

    def shape(self) -> Shape:
        """As written."""
        return Shape(*array(self.values)[1][1:])

    def count(self) -> int:
        """As written; one, unless there are four dimensions."""
        return array(self.values)[1][0]

    def load(self) -> Images:
        """The numbers as an array."""
        import numpy as np  # here, so that planning doesn't wait for it

        return Images(np.array(self.values, dtype=np.float64), note="numbers as written")
