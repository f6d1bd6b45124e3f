"""Frames of an animation, pixel by pixel: cells, signs, and a GIF that keeps its colours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest

from runner.tracking import frames
from runner.tracking.boxes import ORANGE, OUTSIDE, PAPER, Box
from runner.tracking.frames import CELL, below, beside, captioned, gif, grid, same_size

TOP, LEFT = frames.TITLE_SIZE + 7, 1
"""Where a grid's cells begin, below its title and its frame."""
BLUE, WHITE, RED = (5, 48, 97), (255, 255, 255), (103, 0, 31)
BLACK = (0, 0, 0)


def cell(picture: PIL.Image.Image, row: int, column: int, size: int = CELL) -> Any:
    """The colour of a cell, in its corner, away from the number and the line through it."""
    return picture.getpixel((LEFT + column * size + 4, TOP + row * size + 3))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that is written into pictures."""
    texts: list[str] = []
    text = frames.ImageDraw.ImageDraw.text

    def spy(self: Any, xy: Any, string: str, *rest: Any, **more: Any) -> None:
        texts.append(string)
        text(self, xy, string, *rest, **more)

    monkeypatch.setattr(frames.ImageDraw.ImageDraw, "text", spy)
    return texts


def test_cells_carry_their_numbers(written: list[str]) -> None:
    picture = grid(np.array([[-2.0, 0], [1.25, 2]]), "title", 2.0)
    assert written == ["-2", "0", "1.25", "2", "title"]
    assert cell(picture, 0, 0) == BLUE
    assert cell(picture, 0, 1) == WHITE
    assert cell(picture, 1, 1) == RED


def test_without_a_scale_numbers_are_brightness() -> None:
    picture = grid(np.array([[0.0, 1.0]]), "", None)
    assert (cell(picture, 0, 0), cell(picture, 0, 1)) == (BLACK, WHITE)


def test_empty_cells_and_padding_are_gray_and_crossed_through(written: list[str]) -> None:
    faint = np.array([[False, True, False]])
    picture = grid(np.array([[np.nan, 5.0, 5.0]]), "", 5.0, faint)
    assert written == ["5", "5", ""]  # nothing in the first
    assert [cell(picture, 0, c) for c in range(3)] == [OUTSIDE, OUTSIDE, RED]
    # The lines run from the lower left corner to the upper right one.
    for column, line in ((0, frames.STROKE), (1, frames.STROKE), (2, RED)):
        at = (LEFT + column * CELL + 4, TOP + CELL - 1 - 4)
        assert picture.getpixel(at) == line


@pytest.mark.parametrize(
    ("value", "scale", "text"),
    [
        (25, 43, "25"), (0.3059, 1, "0.31"), (-0.001, 1, "0"), (0.0123, 0.05, "0.012"),
        (-0.5, 1, "-0.5"), (123.456, 200, "123.5"), (123456, 2e5, "1e5"), (0.00123, 0.005, "1e-3"),
        (0, 0.005, "0"),
    ],
)  # fmt: skip
def test_numbers_fit_their_cells(value: float, scale: float, text: str, written: list[str]) -> None:
    grid(np.array([[value]], dtype=float), "", scale)
    assert written[0] == text


def test_many_cells_are_small_and_without_numbers(written: list[str]) -> None:
    picture = grid(np.ones((50, 20)), "", 1.0)
    assert written == [""]
    assert picture.height == TOP + 50 * 8 + 1  # 400 pixels in all


def test_boxes_lie_on_their_cells() -> None:
    picture = grid(np.zeros((3, 3)), "", 1.0, boxes=[Box(1, 1, 2, 1)])
    rows, columns = np.nonzero((np.asarray(picture) == ORANGE).all(axis=-1))
    assert (rows.min() - TOP, rows.max() - TOP) == (CELL, 3 * CELL - 1)
    assert (columns.min() - LEFT, columns.max() - LEFT) == (CELL, 2 * CELL - 1)


def test_pictures_in_rows_and_columns() -> None:
    small, large = PIL.Image.new("RGB", (10, 20), BLUE), PIL.Image.new("RGB", (30, 60), RED)
    row = beside([small, "×", large])
    assert row.size == (10 + 30 + frames.SIGN + 2 * frames.GAP, 60)
    assert row.getpixel((5, 30)) == BLUE  # in the middle
    assert row.getpixel((5, 5)) == PAPER
    column = below([small, large])
    assert column.size == (30, 80 + frames.GAP)
    assert column.getpixel((15, 5)) == PAPER
    text = captioned(small, ["a line that is much wider than the picture", "another"])
    assert text.width > 100
    assert text.height > captioned(small, ["one"]).height
    assert [p.size for p in same_size([small, large, row])] == [(row.width, 60)] * 3


@pytest.mark.parametrize("sign", ["×", "=", "→"])
def test_signs_are_drawn(sign: str) -> None:
    blank = PIL.Image.new("RGB", (1, 40), PAPER)
    drawn = np.asarray(beside([blank, sign])) != PAPER
    assert drawn.any(axis=-1).sum() > 20


def test_a_gif_keeps_white_white_and_its_frames_apart() -> None:
    ramp = np.linspace(0, 255, 300).astype(np.uint8)
    pages = []
    for i in range(3):
        pixels = np.full((40, 300, 3), 255, np.uint8)
        pixels[20:, :, i] = ramp  # far more colours than a GIF holds
        pixels[:5] = [BLUE, RED, ORANGE][i]
        pages.append(PIL.Image.fromarray(pixels))
    with PIL.Image.open(io.BytesIO(gif(pages, 250))) as film:
        assert (film.n_frames, film.info["duration"]) == (3, 250)  # type: ignore[attr-defined]  # of GIF files
        for i, colour in enumerate((BLUE, RED, ORANGE)):
            film.seek(i)
            frame = film.convert("RGB")
            assert frame.getpixel((9, 2)) == colour
            assert frame.getpixel((9, 10)) == WHITE
            apart = np.abs(np.asarray(frame).astype(int) - np.asarray(pages[i]))
            assert apart.max() < 10


def test_a_gif_of_one_frame() -> None:
    with PIL.Image.open(io.BytesIO(gif([PIL.Image.new("RGB", (8, 8), RED)], 100))) as film:
        assert film.convert("RGB").getpixel((4, 4)) == RED
