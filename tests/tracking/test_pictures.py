"""Pictures, looked at pixel by pixel: both signs of an edge show, on one scale."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import runner
from runner.tracking import pictures
from runner.tracking.pictures import (
    brightness,
    marked,
    orientation,
    photograph,
    sheet,
    short_number,
    signed,
    symmetric_scale,
)

BLUE, WHITE, RED, GRAY = (5, 48, 97), (255, 255, 255), (103, 0, 31), (128, 128, 128)
TOP, LEFT = pictures.TITLE_SIZE + 7, 1
"""Where a panel's map begins, below its title and its frame."""


def cell(picture: PIL.Image.Image, row: int, column: int, size: int) -> tuple[int, ...]:
    """The colour of an entry of a map, in its corner, away from the number."""
    pixel = picture.getpixel((LEFT + column * size + 2, TOP + row * size + 2))
    assert isinstance(pixel, tuple)
    return pixel


def strokes(picture: PIL.Image.Image, row: int, column: int, size: int) -> int:
    """How many pixels of an entry differ from its corner: those of its number."""
    box = (LEFT + column * size + 2, TOP + row * size + 2)
    part = picture.crop((*box, box[0] + size - 4, box[1] + size - 4))
    return int((np.asarray(part) != np.asarray(part)[0, 0]).any(axis=-1).sum())


def words(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is written into pictures from here on."""
    written: list[str] = []
    pictures._drawn_scale.cache_clear()
    text = pictures.ImageDraw.ImageDraw.text

    def spy(self: Any, xy: Any, string: str, *rest: Any, **more: Any) -> None:
        written.append(string)
        text(self, xy, string, *rest, **more)

    monkeypatch.setattr(pictures.ImageDraw.ImageDraw, "text", spy)
    return written


def test_both_edges_of_the_book_are_seen() -> None:
    picture = signed(np.array([[0.0, 1, 0, 0, 0, -1, 0]] * 6), "edges")
    size = pictures.CELL
    colours = [cell(picture, 3, column, size) for column in range(7)]
    assert colours == [WHITE, RED, WHITE, WHITE, WHITE, BLUE, WHITE]


def test_the_runs_picture_shows_both_edges(workplace: Path) -> None:
    result = runner.run("task=edge")
    with PIL.Image.open(result.directory / "images" / "edge_maps.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
        counts = {c: n for n, c in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {BLUE, RED, WHITE} <= colours
    # As much of the one as of the other: six cells each, but for the numbers and the scale.
    assert counts[BLUE] == pytest.approx(counts[RED], rel=0.1)
    assert counts[BLUE] > 6 * 0.7 * pictures.CELL**2


def test_one_scale_for_what_belongs_together() -> None:
    strong, weak = np.array([[4.0]]), np.array([[1.0]])
    scale = symmetric_scale([strong, weak, -np.eye(2)])
    assert scale == 4
    one, other = signed(strong, "a", scale), signed(weak, "b", scale)
    size = pictures.PANEL
    assert cell(one, 0, 0, size) == RED
    # A quarter of the scale is three quarters of the way from white to (253, 219, 199).
    assert cell(other, 0, 0, size) == (254, 228, 213)
    assert symmetric_scale([np.zeros((2, 2))]) == 1
    assert symmetric_scale([np.array([nan, np.inf, -2.0])]) == 2
    assert symmetric_scale([np.array([nan])]) == 1


def test_signs_are_symmetric() -> None:
    values = np.array([[-1.0, -0.5, 0.5, 1.0]])
    picture = signed(values, "", scale=2.0)
    size = pictures.PANEL // 4
    blue, pale_blue, pale_red, red = (cell(picture, 0, c, size) for c in range(4))
    # Half of the scale is half way along the ramp of three steps: 1.5 steps from white.
    assert blue == (138, 188, 218)  # between (67, 147, 195) and (209, 229, 240)
    assert red == (234, 158, 138)  # between (253, 219, 199) and (214, 96, 77)
    assert pale_blue[2] > pale_blue[0]
    assert pale_red[0] > pale_red[2]


def test_small_maps_carry_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    written = words(monkeypatch)
    picture = signed(np.array([[0.0, 1], [-1, 0.25]]), "title")
    assert written[0] != ""
    assert {"0", "1", "-1", "0.25", "title"} <= set(written)
    for row in range(2):
        for column in range(2):
            assert strokes(picture, row, column, pictures.PANEL // 2) > 5
    written = words(monkeypatch)
    large = signed(np.ones((40, 40)), "title")
    assert set(written) == {"title", "-1", "0", "1"}  # the scale's numbers only
    assert strokes(large, 3, 3, 6) == 0


def test_what_is_not_a_number_is_gray() -> None:
    picture = signed(np.array([[nan, 1.0], [np.inf, -1.0]]), "")
    size = pictures.PANEL // 2
    assert cell(picture, 0, 0, size) == GRAY
    assert cell(picture, 1, 0, size) == GRAY
    assert cell(picture, 0, 1, size) == RED
    assert cell(picture, 1, 1, size) == BLUE


def test_the_scale_says_when_there_is_more(monkeypatch: pytest.MonkeyPatch) -> None:
    written = words(monkeypatch)
    values = np.full((200, 200), 1.0)
    values[0, :20] = 100.0  # 20 of 40,000 numbers, fewer than 0.2 %
    assert symmetric_scale([values]) == pytest.approx(1, rel=1e-6)
    signed(values, "large")
    assert "1 or more" in written
    assert "-1" in written  # nothing lies below, so nothing is said of it
    written = words(monkeypatch)
    signed(-values, "large")
    assert {"-1 or less", "1"} <= set(written)
    written = words(monkeypatch)
    signed(np.full((200, 200), 1.0), "large")
    assert "1" in written
    assert not any("or more" in text for text in written)
    # In a small map nothing is left out.
    assert symmetric_scale([values[:10, :20]]) == 100


def test_large_maps_are_reduced_and_small_ones_enlarged() -> None:
    small = signed(np.eye(3), "")
    assert small.width >= pictures.PANEL
    large = signed(np.zeros((1000, 2000)), "")
    assert large.width <= pictures.LARGEST + 2


def test_brightness_and_photograph() -> None:
    picture = brightness(np.array([[0.0, 2.0, nan]]), "")
    size = pictures.PANEL // 3
    assert [cell(picture, 0, c, size) for c in range(2)] == [(0, 0, 0), (255, 255, 255)]
    gray = photograph(np.array([[[0.0, 1.0]]]), "")
    assert [cell(gray, 0, c, 120) for c in range(2)] == [(0, 0, 0), (255, 255, 255)]
    # A pale image stays pale: its scale is 0 to 1, not its maximum.
    assert cell(photograph(np.array([[[0.2]]]), ""), 0, 0, 240) == (51, 51, 51)
    colour = photograph(np.array([[[1.0]], [[0.2]], [[0.0]]]), "")
    assert cell(colour, 0, 0, 240) == (255, 51, 0)
    # Numbers that aren't brightness are drawn with their signs.
    numbers = photograph(np.array([[[-1.0, 8.0]]]), "")
    assert cell(numbers, 0, 1, 120) == RED


def test_orientation_is_a_colour_wheel() -> None:
    angle = np.radians([[0.0, 120, 240, 0]])
    picture = orientation(angle, np.array([[1.0, 1, 1, 0]]), "")
    found = [cell(picture, 0, c, pictures.PANEL // 4) for c in range(4)]
    assert found == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]


def test_marked_kinds_have_the_legends_colours() -> None:
    legend = {"none": (1, 2, 3), "one": (40, 50, 60)}
    picture = marked(np.array([[0, 1]]), "", legend)
    assert [cell(picture, 0, c, 120) for c in range(2)] == [(1, 2, 3), (40, 50, 60)]


def test_sheet_keeps_every_panel() -> None:
    panels = [PIL.Image.new("RGB", (10, 10), (i, i, i)) for i in range(1, 6)]
    page = sheet(panels, columns=2)
    colours = {colour for _, colour in page.getcolors() or []}
    assert colours == {(i, i, i) for i in range(1, 6)} | {pictures.PAPER}
    assert page.height > page.width  # three rows of two


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (-1.0, "-1"), (0.25, "0.25"), (-0.001, "0"), (0.0, "0"), (1e6, "1e+06"),
     (123.4, "123"), (-0.5, "-0.5"), (99.999, "100")],
)  # fmt: skip
def test_short_numbers(value: float, text: str) -> None:
    assert short_number(value) == text


def test_numbers_that_are_all_small_are_not_written_as_zero() -> None:
    assert short_number(-0.001, scale=0.002) == "-0.001"
    assert short_number(6e-8, scale=6e-8) == "6e-08"
    assert short_number(1e-5, scale=0.01) == "0"  # a thousandth of the largest
