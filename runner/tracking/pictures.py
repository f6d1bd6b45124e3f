"""Pictures of feature maps and kernels that show what is there.

Feature maps have signs, and both signs mean something: −1 and +1 are both edges. So signed numbers
are drawn on a diverging colour map (blue, white, red) with a symmetric scale that is printed
beside them; small maps are enlarged with sharp pixels and carry their numbers. Pictures that
belong together share one scale.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from runner.tracking.boxes import PAPER, Box, Colour, draw_boxes, with_room

Array = NDArray[np.floating]

BLUE_TO_RED = np.array(
    [(5, 48, 97), (67, 147, 195), (209, 229, 240), (255, 255, 255), (253, 219, 199),
     (214, 96, 77), (103, 0, 31)],
    dtype=np.float64,
)  # fmt: skip
"""From −scale over 0 to +scale; after ColorBrewer's RdBu."""

INK, FAINT = (30, 30, 30), (110, 110, 110)
TITLE_SIZE, NUMBER_SIZE, GAP = 15, 13, 14
PANEL = 240
"""Pixels that a small picture is enlarged to, at the least."""
CELL = 40
"""Pixels of one number's cell, where a map is small enough to carry its numbers."""
MANY = 10_000
"""Numbers from which on a map is large."""
LARGEST = 640
"""Pixels that a large picture is reduced to."""
WORDS = 1024
"""How many words of one size are remembered: about 1 MB."""


def signed(
    values: Array,
    title: str,
    scale: float | None = None,
    boxes: Sequence[Box] = (),
    *,
    numbers: bool = True,
) -> Image.Image:
    """A map with signs, h × w: blue below zero, white at zero, red above.

    Args:
        values: the numbers.
        title: written above.
        scale: the number drawn in full colour; default: the largest magnitude.
        boxes: drawn on it.
        numbers: whether a small map carries its numbers.
    """
    scale = symmetric_scale([values]) if scale is None else scale
    values, boxes = _reduced(values), [box.reduced(_block(values)) for box in boxes]
    less, more = np.any(values < -1.0001 * scale), np.any(values > 1.0001 * scale)
    labels = (
        f"{-scale:.3g}{' or less' if less else ''}",
        "0",
        f"{scale:.3g}{' or more' if more else ''}",
    )
    return _panel(
        diverging(values, scale),
        title,
        values if numbers else None,
        bar=partial(_scale, colours=BLUE_TO_RED, labels=labels),
        boxes=boxes,
    )


def brightness(
    values: Array, title: str, scale: float | None = None, boxes: Sequence[Box] = ()
) -> Image.Image:
    """A map without signs, h × w: black at zero, white at `scale` (default: the maximum)."""
    scale = symmetric_scale([values]) if scale is None else scale
    values, boxes = _reduced(values), [box.reduced(_block(values)) for box in boxes]
    more = np.any(values > 1.0001 * scale)
    gray = np.clip(np.nan_to_num(values) / scale, 0, 1)[..., None].repeat(3, axis=-1) * 255
    ramp = np.array([(0, 0, 0), (255, 255, 255)], dtype=np.float64)
    return _panel(
        gray,
        title,
        values,
        bar=partial(_scale, colours=ramp, labels=("0", f"{scale:.3g}{' or more' if more else ''}")),
        boxes=boxes,
    )


def photograph(x: Array, title: str, boxes: Sequence[Box] = ()) -> Image.Image:
    """An input image, c × h × w: colour if it has three channels, else its first channel.

    Numbers outside 0 to 1 are drawn as `signed` draws them. Of the boxes the last is on top, and
    the picture grows to hold those that reach beyond the border.
    """
    if x.min() < 0 or x.max() > 1:
        return signed(x[0], title, boxes=boxes)
    if x.shape[0] == 3:
        colours = x.transpose(1, 2, 0) * 255
        return _panel(colours, title, boxes=boxes)
    return brightness(x[0], title, 1.0, boxes)


def orientation(angle: Array, magnitude: Array, title: str) -> Image.Image:
    """Directions as colours of a wheel, as bright as their magnitude.

    Args:
        angle: h × w, in radians; red points right (0°), and hue runs as the angle does.
        magnitude: h × w.
        title: written above.
    """
    wheel = np.array([colorsys.hsv_to_rgb(i / 360, 1, 1) for i in range(360)]) * 255
    scale, block = symmetric_scale([magnitude]), ceil(max(angle.shape) / LARGEST)
    angle, magnitude = angle[::block, ::block], magnitude[::block, ::block]
    degrees = np.round(np.degrees(angle)).astype(int) % 360
    strength = np.clip(magnitude / scale, 0, 1)
    colours = wheel[degrees] * strength[..., None]
    return _panel(
        colours,
        title,
        bar=partial(_scale, colours=wheel, labels=("0°", "90°", "180°", "270°", "360°")),
    )


def marked(kinds: NDArray[np.integer], title: str, legend: dict[str, Colour]) -> Image.Image:
    """A map of kinds, h × w: number i is drawn in the legend's colour i; 0 is the first."""
    colours = np.array(list(legend.values()), dtype=np.uint8)[_reduced(kinds)]
    return _panel(colours, title, bar=partial(_legend, legend=legend))


def sheet(
    panels: Sequence[Image.Image], columns: int | None = None, margin: int = GAP
) -> Image.Image:
    """Pictures side by side, `columns` in a row; by default as square as they get."""
    across = columns or min(len(panels), max(1, ceil(len(panels) ** 0.5)))
    rows = [panels[i : i + across] for i in range(0, len(panels), across)]
    widths = [max(row[c].width for row in rows if c < len(row)) for c in range(len(rows[0]))]
    heights = [max(panel.height for panel in row) for row in rows]
    page = Image.new(
        "RGB",
        (
            sum(widths) + GAP * (len(widths) - 1) + 2 * margin,
            sum(heights) + GAP * (len(heights) - 1) + 2 * margin,
        ),
        PAPER,
    )
    y = margin
    for row, height in zip(rows, heights, strict=True):
        x = margin
        for panel, width in zip(row, widths, strict=False):
            page.paste(panel, (x, y))
            x += width + GAP
        y += height + GAP
    return page


def symmetric_scale(maps: Sequence[Array]) -> float:
    """One scale for several maps: the largest finite magnitude, or 1 where all is zero.

    On large maps a few extremes would leave everything else pale; there, the scale is what 99.8 %
    of the numbers stay within, and the picture says that there is more.
    """
    # Of very large maps, every so many numbers will do.
    thin = (m.ravel()[:: max(1, m.size // 1_000_000)] for m in maps)
    finite = np.concatenate([np.abs(m[np.isfinite(m)]) for m in thin])
    if not finite.size:
        return 1.0
    largest = float(finite.max())
    if finite.size > MANY:
        largest = float(np.quantile(finite, 0.998)) or largest
    return largest or 1.0


def _block(values: NDArray[Any]) -> int:
    """How many pixels a side become one, where a map is large."""
    longest: int = max(values.shape)
    return ceil(longest / LARGEST)


def _reduced(values: NDArray[Any]) -> NDArray[Any]:
    """A large map brought to at most `LARGEST` pixels a side: each block's strongest number.

    A mean would let the two signs of a thin edge cancel, and show it as nothing.
    """
    block = _block(values)
    if block == 1:
        return values
    # Row of blocks by row of blocks: copies of a whole large map would be what takes most memory.
    bands = range(0, values.shape[0], block)
    return np.stack([_strongest(values[top : top + block], block) for top in bands])


def _strongest(band: NDArray[Any], block: int) -> NDArray[Any]:
    """The strongest number of each of the blocks that lie side by side in a band."""
    count = -(-band.shape[1] // block)
    padded = np.zeros((block, count * block), band.dtype)
    padded[: band.shape[0], : band.shape[1]] = band
    tiles = padded.reshape(block, count, block).swapaxes(0, 1).reshape(count, block * block)
    strongest = np.abs(np.nan_to_num(tiles)).argmax(axis=1)[:, None]
    reduced: NDArray[Any] = np.take_along_axis(tiles, strongest, axis=1)[:, 0]
    return reduced


def _panel(
    colours: Array,
    title: str,
    values: Array | None = None,
    bar: Callable[[int], Image.Image] | None = None,
    boxes: Sequence[Box] = (),
) -> Image.Image:
    """A titled picture: the map enlarged with sharp pixels, its numbers if small, its scale.

    Args:
        colours: h × w × 3, from 0 to 255.
        title: written above.
        values: written into the pixels of a small map.
        bar: draws what goes below, given a width.
        boxes: drawn on the map, and explained below it.
    """
    h, w = colours.shape[:2]
    above, left, colours = with_room(colours, boxes)
    picture = Image.fromarray(colours.round().astype(np.uint8), "RGB")
    tall, wide = colours.shape[:2]
    small = tall * wide <= 144 and max(tall, wide) <= 16
    factor: float = max(ceil(PANEL / max(tall, wide)), CELL if small else 1)
    if max(tall, wide) > LARGEST:
        picture.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
        factor = picture.width / wide
    else:
        picture = picture.resize((wide * int(factor), tall * int(factor)), Image.Resampling.NEAREST)
    if small and values is not None:
        _write_numbers(picture, values, int(factor), (above, left))
    if (tall, wide) != (h, w):
        edge = (left * factor, above * factor, (left + w) * factor, (above + h) * factor)
        ImageDraw.Draw(picture).rectangle(edge, outline=FAINT)
    draw_boxes(picture, boxes, factor, (above * factor, left * factor))
    font = _font(TITLE_SIZE)
    legend = {box.label: box.colour for box in boxes if box.label}
    feet = [bar(max(picture.width, PANEL))] if bar else []
    feet += [_legend(0, legend)] if legend else []
    width = max([picture.width, ceil(font.getlength(title)), *(foot.width for foot in feet)]) + 2
    top = TITLE_SIZE + 6
    height = top + picture.height + 8 + sum(foot.height for foot in feet)
    page = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((1, 0), title, INK, font)
    page.paste(picture, (1, top + 1))
    draw.rectangle((0, top, picture.width + 1, top + picture.height + 1), outline=FAINT)
    y = top + picture.height + 6
    for foot in feet:
        page.paste(foot, (1, y))
        y += foot.height
    return page


def _write_numbers(
    picture: Image.Image, values: Array, factor: int, origin: tuple[int, int]
) -> None:
    draw, font = ImageDraw.Draw(picture), _font(NUMBER_SIZE)
    scale = symmetric_scale([values])
    for (row, column), value in np.ndenumerate(values):
        y, x = (row + origin[0]) * factor, (column + origin[1]) * factor
        pixel = picture.getpixel((x, y))
        dark = isinstance(pixel, tuple) and np.dot(pixel[:3], (0.299, 0.587, 0.114)) < 150
        draw.text(
            (x + factor / 2, y + factor / 2),
            short_number(float(value), scale),
            PAPER if dark else INK,
            font,
            anchor="mm",
        )


def short_number(value: float, scale: float = 1.0) -> str:
    """At most six characters or so: ``−1``, ``0.25``, ``0.003``, ``1e+06``, ``6e-08``.

    Beside numbers as large as `scale`, what would round to nothing is a plain ``0``.
    """
    if abs(value) < 0.005 * min(scale, 1):
        return "0"
    if abs(value) < 0.005:
        return f"{value:.1g}"
    return f"{value:.2f}".rstrip("0").rstrip(".") if abs(value) < 100 else f"{value:.3g}"


def diverging(values: Array, scale: float) -> Array:
    """Colours of signed numbers, h × w × 3 from 0 to 255: full colour at `scale`."""
    with np.errstate(invalid="ignore"):
        position = (np.clip(values / scale, -1, 1) + 1) / 2 * (len(BLUE_TO_RED) - 1)
    colours = _between(BLUE_TO_RED, position)
    # What is not a number is drawn gray: it must not pass for a zero.
    colours[~np.isfinite(values)] = 128
    return colours


def _between(colours: Array, position: Array) -> Array:
    """The colour at each position along a list of colours; 0 is the first, 1 the second."""
    stops = np.arange(len(colours))
    return np.stack([np.interp(position, stops, colours[:, c]) for c in range(3)], axis=-1)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which it would unpack anew for every word; words are shaped once.

    Titles and short numbers come again and again, and shaping one takes longer than drawing it.
    """
    font = ImageFont.load_default(size)
    if isinstance(font, ImageFont.FreeTypeFont):
        font.getmask2 = lru_cache(WORDS)(font.getmask2)  # type: ignore[method-assign, assignment]
    return font


def _scale(width: int, colours: Array, labels: Sequence[str]) -> Image.Image:
    """A colour scale with its numbers beneath, evenly spaced."""
    return _drawn_scale(width, colours.tobytes(), tuple(labels))


@lru_cache(maxsize=16)
def _drawn_scale(width: int, stops: bytes, labels: tuple[str, ...]) -> Image.Image:
    """Pictures of a kernel that forms all have the same one; nothing is drawn on it."""
    height, colours = 8, np.frombuffer(stops).reshape(-1, 3)
    positions = np.linspace(0, len(colours) - 1, width)
    line = _between(colours, positions)
    picture = Image.new("RGB", (width, height + NUMBER_SIZE + 3), PAPER)
    picture.paste(Image.fromarray(line.round().astype(np.uint8)[None].repeat(height, 0), "RGB"))
    draw, font = ImageDraw.Draw(picture), _font(NUMBER_SIZE - 1)
    for i, label in enumerate(labels):
        anchor = "la" if i == 0 else "ra" if i == len(labels) - 1 else "ma"
        x = (width - 1) * i / (len(labels) - 1)
        draw.text((x, height + 1), label, FAINT, font, anchor=anchor)
    return picture


def _legend(_width: int, legend: dict[str, Colour]) -> Image.Image:
    """What each colour means."""
    font = _font(NUMBER_SIZE - 1)
    widths = [ceil(font.getlength(label)) + 26 for label in legend]
    picture = Image.new("RGB", (sum(widths), NUMBER_SIZE + 4), PAPER)
    draw = ImageDraw.Draw(picture)
    x = 0
    for (label, colour), width in zip(legend.items(), widths, strict=True):
        draw.rectangle((x, 3, x + 10, 13), fill=colour, outline=FAINT)
        draw.text((x + 15, 0), label, FAINT, font)
        x += width
    return picture
