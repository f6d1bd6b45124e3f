"""Boxes on pictures, pixel by pixel: where they are, how they are told apart, what they need."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from runner.tracking import pictures
from runner.tracking.boxes import GREEN, ORANGE, OUTSIDE, Box, with_room
from runner.tracking.pictures import photograph, signed

TOP, LEFT = pictures.TITLE_SIZE + 7, 1
"""Where a panel's map begins, below its title and its frame."""


def bounds(picture: PIL.Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """First and last row, first and last column of a colour, counted from the map's corner."""
    rows, columns = np.nonzero((np.asarray(picture) == colour).all(axis=-1))
    found = (rows.min() - TOP, rows.max() - TOP, columns.min() - LEFT, columns.max() - LEFT)
    return tuple(map(int, found))  # type: ignore[return-value]  # four of them


def test_a_box_surrounds_its_cells() -> None:
    # A 4×6 map is small: 40 pixels a cell (240 / 6), and the box covers rows 1, 2 and columns 2..4.
    picture = signed(np.zeros((4, 6)), "map", boxes=[Box(1, 2, 2, 3)])
    assert bounds(picture, ORANGE) == (40, 119, 80, 199)


def test_fractions_of_a_pixel_count() -> None:
    picture = photograph(np.zeros((1, 4, 6)), "image", [Box(0.5, 0.25, 2, 3, GREEN)])
    assert bounds(picture, GREEN) == (20, 99, 10, 129)


@pytest.mark.parametrize("channels", [1, 3])
def test_boxes_find_their_place_on_reduced_images(channels: int) -> None:
    # 1280 columns become 640; a box at rows 200..399 and columns 400..599 lies at half of that.
    picture = photograph(np.ones((channels, 640, 1280)), "image", [Box(200, 400, 200, 200)])
    assert bounds(picture, ORANGE) == (100, 199, 200, 299)


def test_a_narrow_image_is_reduced_by_its_longer_side() -> None:
    picture = photograph(np.ones((1, 1280, 3)), "image", [Box(640, 0, 200, 2)])
    assert bounds(picture, ORANGE)[:2] == (320, 419)


def test_the_picture_grows_where_a_box_reaches_beyond_the_border() -> None:
    picture = photograph(np.full((1, 3, 3), 0.5), "image", [Box(-1, -1, 3, 3)])
    # 4×4 cells of 60 pixels; the image begins at the second of them.
    assert bounds(picture, ORANGE) == (0, 179, 0, 179)
    assert picture.getpixel((LEFT + 30, TOP + 30)) == OUTSIDE
    assert picture.getpixel((LEFT + 70, TOP + 70)) == (128, 128, 128)


def test_room_is_made_on_the_sides_that_need_it_and_not_without_end() -> None:
    ground = np.zeros((4, 5, 3))
    assert with_room(ground, [])[2].shape == (4, 5, 3)
    above, left, room = with_room(ground, [Box(-0.5, 1, 2, 6.5)])
    assert (above, left, room.shape) == (1, 0, (5, 8, 3))
    assert (room[0] == OUTSIDE).all()
    assert (room[1:, :5] == 0).all()
    above, left, room = with_room(ground, [Box(-1e9, -1e9, 2e9, 2e9)])
    assert (above, left, room.shape) == (4, 5, (12, 15, 3))


def test_boxes_at_one_place_are_all_seen() -> None:
    boxes = [Box(2, 2, 3, 3, GREEN), Box(2, 2, 3, 3)]
    picture = signed(np.zeros((8, 8)), "map", boxes=boxes)
    inner, outer = bounds(picture, ORANGE), bounds(picture, GREEN)
    assert inner == (80, 199, 80, 199)
    assert outer == (76, 203, 76, 203)


def test_the_legend_names_each_kind_once() -> None:
    plain = signed(np.zeros((2, 2)), "", boxes=[Box(0, 0, 1, 1), Box(1, 1, 1, 1)])
    labelled = signed(
        np.zeros((2, 2)), "", boxes=[Box(0, 0, 1, 1, label="found"), Box(1, 1, 1, 1, label="found")]
    )
    assert labelled.height == plain.height + pictures.NUMBER_SIZE + 4
    below = labelled.crop((0, plain.height, labelled.width, labelled.height))
    squares = (np.asarray(below) == ORANGE).all(axis=-1).any(axis=0).sum()
    assert squares == 9  # one square of 11 pixels, less its frame
