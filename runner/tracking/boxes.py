"""Rectangles on pictures: windows, receptive fields, what was found and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, floor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

PAPER = (255, 255, 255)
OUTSIDE = (228, 228, 228)
"""What lies beyond an image's border, where a box reaches that far."""
ORANGE, GREEN = (240, 120, 0), (0, 150, 60)
"""Colours that can be told from the blue and red of signed maps, and from gray."""


@dataclass(frozen=True)
class Box:
    """A rectangle to be drawn on a picture.

    Attributes:
        top: its upper edge, in pixels of the map; 0 is the first row's upper edge.
        left: its left edge, likewise.
        height: in pixels of the map; fractions are drawn as they are.
        width: likewise. A box may reach beyond the map: the picture grows to hold it.
        colour: of the line.
        label: said in the legend below the picture, once for all boxes that share it.
    """

    top: float
    left: float
    height: float
    width: float
    colour: Colour = ORANGE
    label: str = ""

    @property
    def place(self) -> tuple[float, float, float, float]:
        """Top, left, height and width."""
        return (self.top, self.left, self.height, self.width)

    def reduced(self, by: float) -> Box:
        """The same on a map of so many times fewer pixels a side."""
        return replace(
            self,
            top=self.top / by,
            left=self.left / by,
            height=self.height / by,
            width=self.width / by,
        )


def with_room(colours: NDArray[Any], boxes: Sequence[Box]) -> tuple[int, int, NDArray[Any]]:
    """Make room for boxes that reach beyond a map, at most as much per side as the map is long.

    Args:
        colours: h × w × 3.
        boxes: what the map must hold.

    Returns:
        Rows added above, columns added at the left, and the larger map.
    """
    h, w = colours.shape[:2]
    above = min(h, -floor(min([0, *(box.top for box in boxes)])))
    left = min(w, -floor(min([0, *(box.left for box in boxes)])))
    bottom = min(2 * h, ceil(max([h, *(box.top + box.height for box in boxes)])))
    right = min(2 * w, ceil(max([w, *(box.left + box.width for box in boxes)])))
    room = np.empty((above + bottom, left + right, 3))
    room[:] = OUTSIDE
    room[above : above + h, left : left + w] = colours
    return above, left, room


def draw_boxes(
    picture: Image.Image, boxes: Sequence[Box], factor: float, origin: tuple[float, float]
) -> None:
    """Lines of two or three pixels, on a lighter one so that they show on any ground.

    Boxes at the very same place are drawn one inside the other, so that all of them are seen.

    Args:
        picture: drawn upon.
        boxes: the last on top.
        factor: pixels of the picture for one of the map.
        origin: where the map begins in the picture: pixels from the top and from the left.
    """
    draw = ImageDraw.Draw(picture)
    line = 3 if factor >= 4 else 2
    for i, box in enumerate(boxes):
        top, left = origin[0] + box.top * factor, origin[1] + box.left * factor
        bottom = max(top, top + box.height * factor - 1)
        right = max(left, left + box.width * factor - 1)
        around = (line + 1) * sum(box.place == other.place for other in boxes[i + 1 :])
        for margin, colour in ((around + 1, PAPER), (around, box.colour)):
            corners = (left - margin, top - margin, right + margin, bottom + margin)
            draw.rectangle(corners, outline=colour, width=line + 2 * (margin - around))
