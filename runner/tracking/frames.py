"""Frames of an animation about numbers: grids of cells with signs between them, and GIF files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from runner.tracking.boxes import OUTSIDE, PAPER, Box, draw_boxes
from runner.tracking.pictures import (
    FAINT,
    GAP,
    INK,
    NUMBER_SIZE,
    TITLE_SIZE,
    Array,
    diverging,
)

SIGN = 16
"""Pixels of a sign between pictures."""
CELL = 44
"""Pixels of a cell where there are few."""
SIDE = 400
"""Pixels that a grid of many cells is fitted into."""
STROKE = (195, 195, 195)
"""Through cells that are empty."""
READABLE = 30
"""Pixels of a cell from which on its number is written into it."""


def grid(
    values: Array,
    title: str,
    scale: float | None,
    faint: NDArray[np.bool_] | None = None,
    boxes: Sequence[Box] = (),
) -> Image.Image:
    """Numbers in cells of one size, however few there are.

    Args:
        values: h × w; NaN is an empty cell. Those and the faint ones are crossed through.
        title: written above.
        scale: numbers are signed, and this one is drawn in full colour; None: from 0, black, to 1,
            white.
        faint: cells that are no real part of it, such as padding.
        boxes: drawn on it, within it.
    """
    h, w = values.shape
    size = max(4, min(CELL, SIDE // max(h, w)))
    if scale is None:
        colours = np.clip(values, 0, 1)[..., None].repeat(3, axis=-1) * 255
    else:
        colours = diverging(values, scale)
    crossed = np.isnan(values) if faint is None else faint | np.isnan(values)
    colours[crossed] = OUTSIDE
    picture = Image.fromarray(colours.round().astype(np.uint8), "RGB")
    picture = picture.resize((w * size, h * size), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    for row, column in np.ndindex(h, w):
        left, top = column * size, row * size
        if crossed[row, column]:
            draw.line((left, top + size - 1, left + size - 1, top), STROKE)
        if size < READABLE:
            continue
        draw.rectangle((left, top, left + size, top + size), outline=OUTSIDE)
        value = float(values[row, column])
        if np.isnan(value):
            continue
        dark = np.dot(colours[row, column], (0.299, 0.587, 0.114)) < 150
        ink = FAINT if crossed[row, column] else PAPER if dark else INK
        centre = (left + size / 2, top + size / 2)
        text = _cell_text(value, scale or 1.0)
        font = ImageFont.load_default(NUMBER_SIZE - 2 * (len(text) > 5))
        draw.text(centre, text, ink, font, anchor="mm")
    draw_boxes(picture, boxes, size, (0, 0))
    return _titled(picture, title)


def _cell_text(value: float, scale: float) -> str:
    """As many digits as a cell holds; beside a large scale, what would round to nothing is 0."""
    if scale < 0.01:
        return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-")
    if abs(value) >= 100:
        return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0e}".replace("e+0", "e")
    text = f"{value:.{2 if scale >= 0.1 else 3}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _titled(picture: Image.Image, title: str) -> Image.Image:
    font = ImageFont.load_default(TITLE_SIZE)
    top = TITLE_SIZE + 6
    width = max(picture.width + 2, ceil(font.getlength(title)) + 2)
    page = Image.new("RGB", (width, top + picture.height + 2), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((1, 0), title, INK, font)
    draw.rectangle((0, top, picture.width + 1, top + picture.height + 1), outline=FAINT)
    page.paste(picture, (1, top + 1))
    return page


def beside(parts: Sequence[Image.Image | str]) -> Image.Image:
    """Pictures and signs (×, = or →) in a row, about one middle."""
    widths = [SIGN if isinstance(part, str) else part.width for part in parts]
    height = max(SIGN if isinstance(part, str) else part.height for part in parts)
    page = Image.new("RGB", (sum(widths) + GAP * (len(parts) - 1), height), PAPER)
    x = 0
    for part, width in zip(parts, widths, strict=True):
        if isinstance(part, str):
            # The grids' middle lies below the pictures' by half a title.
            _sign(page, part, x, (height + TITLE_SIZE + 6 - SIGN) // 2)
        else:
            page.paste(part, (x, (height - part.height) // 2))
        x += width + GAP
    return page


def _sign(page: Image.Image, sign: str, left: int, top: int) -> None:
    """Drawn in strokes: Pillow's own font has no × and no →."""
    strokes = {
        "×": ((3, 3, 13, 13), (3, 13, 13, 3)),
        "=": ((2, 5, 14, 5), (2, 11, 14, 11)),
        "→": ((0, 8, 15, 8), (9, 2, 15, 8), (9, 14, 15, 8)),
    }
    draw = ImageDraw.Draw(page)
    for x1, y1, x2, y2 in strokes[sign]:
        draw.line((left + x1, top + y1, left + x2, top + y2), INK, 2)


def below(parts: Sequence[Image.Image]) -> Image.Image:
    """Pictures one below the other, from the left."""
    height = sum(part.height for part in parts) + GAP * (len(parts) - 1)
    page = Image.new("RGB", (max(part.width for part in parts), height), PAPER)
    y = 0
    for part in parts:
        page.paste(part, (0, y))
        y += part.height + GAP
    return page


def captioned(picture: Image.Image, lines: Sequence[str]) -> Image.Image:
    """A picture with lines of text below it and a margin around."""
    font = ImageFont.load_default(TITLE_SIZE + 3)
    step = TITLE_SIZE + 10
    width = max([picture.width, *(ceil(font.getlength(line)) for line in lines)])
    size = (width + 2 * GAP, picture.height + 3 * GAP + step * len(lines))
    page = Image.new("RGB", size, PAPER)
    page.paste(picture, (GAP, GAP))
    draw = ImageDraw.Draw(page)
    for i, line in enumerate(lines):
        draw.text((GAP, picture.height + 2 * GAP + step * i), line, INK, font)
    return page


def same_size(pictures: Sequence[Image.Image]) -> list[Image.Image]:
    """Every picture on paper of the largest one's size, so that they can follow one another."""
    size = (max(p.width for p in pictures), max(p.height for p in pictures))
    pages = [Image.new("RGB", size, PAPER) for _ in pictures]
    for page, picture in zip(pages, pictures, strict=True):
        page.paste(picture, (0, 0))
    return pages


def gif(pictures: Sequence[Image.Image], milliseconds: int) -> bytes:
    """An endless animation of pictures of one size, as the bytes of a GIF file.

    All frames share one palette, the 256 most frequent colours of all, so that a colour means the
    same in each; the shades between them that are lost are those at the edges of letters.
    """
    codes = [_codes(picture) for picture in pictures]
    uniques = [np.unique(code, return_counts=True) for code in codes]
    colours, group = np.unique(np.concatenate([u for u, _ in uniques]), return_inverse=True)
    counts = np.bincount(group, np.concatenate([count for _, count in uniques]))
    palette = _channels(colours[np.argsort(-counts, kind="stable")[:256]])
    # Pillow's own search for the nearest colour rounds: white comes out as light gray.
    apart = np.abs(_channels(colours)[:, None] - palette).sum(axis=2)
    nearest = apart.argmin(axis=1).astype(np.uint8)
    first, *rest = (Image.fromarray(nearest[np.searchsorted(colours, code)]) for code in codes)
    for frame in (first, *rest):
        frame.putpalette(palette.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=rest,
        duration=milliseconds,
        loop=0,
        optimize=False,
    )
    return buffer.getvalue()


def _codes(picture: Image.Image) -> NDArray[np.int32]:
    """Each pixel's colour as one number, h × w."""
    red, green, blue = np.moveaxis(np.asarray(picture, dtype=np.int32), 2, 0)
    codes: NDArray[np.int32] = red << 16 | green << 8 | blue
    return codes


def _channels(codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """Such numbers as red, green and blue, n × 3."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
