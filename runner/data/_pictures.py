"""What `photo` and `image` share: how a picture becomes numbers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from runner.config.errors import problem
from runner.config.fields import REGION, Region
from runner.data import Data, Images
from runner.data._fields import Brightness, Resize
from runner.geometry import Pair, Shape


class Pictures(Data):
    """How a picture becomes numbers: upright, cropped, on white, in these colours, resized.

    Colour profiles are not applied. Transparent pixels are laid on white. Gray pictures of 16 bits
    keep them; colour of 16 bits is cut to 8 by Pillow. CMYK becomes RGB as (1 − C)·(1 − K) etc.

    Attributes:
        color: ``gray`` is ITU-R 601 luma, 0.299 R + 0.587 G + 0.114 B, rounded to 8 bits; ``rgb``
            has three channels; ``binary`` is 1 where gray is at least `threshold`, else 0.
        threshold: for ``binary``; it is applied last, so that resized pictures are binary too.
        crop: [top, left, height, width] of the part to keep, in pixels of the upright picture.
        resize: height and width afterwards, or one number for both. Bilinear; where it shrinks,
            over as many pixels as one replaces.
    """

    color: Literal["gray", "rgb", "binary"] = "gray"
    threshold: Brightness = 0.5
    crop: Region | None = None
    resize: Resize | None = None

    def _shape(self, size: Pair) -> Shape:
        """What `_images` will give for an upright picture of this height and width."""
        part = self._part(size)
        return Shape(3 if self.color == "rgb" else 1, *(self.resize or part[2:]))

    def _images(self, picture: PIL.Image.Image) -> Images:
        """One upright picture as numbers."""
        top, left, height, width = self._part((picture.height, picture.width))
        part = picture.crop((left, top, left + width, top + height))
        planes, white = _planes(part, rgb=self.color == "rgb")
        if self.resize:
            size = self.resize[::-1]
            # In floating point; Pillow would round 8 bits after the rows and after the columns.
            bilinear = PIL.Image.Resampling.BILINEAR
            planes = [plane.convert("F").resize(size, bilinear) for plane in planes]
        x: NDArray[np.float64] = np.stack([np.asarray(p, dtype=np.float64) for p in planes])
        x = (x / white).clip(0, 1)
        if self.color == "binary":
            x = (x >= self.threshold).astype(np.float64)
        return Images(x[None], note=self._note())

    def _part(self, size: Pair) -> tuple[int, int, int, int]:
        if self.crop is None:
            return (0, 0, *size)
        top, left, height, width = self.crop
        if top + height > size[0] or left + width > size[1]:
            raise problem(
                "crop",
                f"{REGION} within the picture's {size[0]}×{size[1]} (height × width)",
                str(list(self.crop)),
                f"It ends at row {top + height} and column {left + width}.",
            )
        return self.crop

    def _note(self) -> str:
        return {
            "gray": "gray (ITU-R 601 luma), 0 black to 1 white",
            "rgb": "red, green, blue, each 0 to 1",
            "binary": f"binary: 1 where gray (ITU-R 601 luma) is at least {self.threshold:g}",
        }[self.color]


def _planes(picture: PIL.Image.Image, rgb: bool) -> tuple[list[PIL.Image.Image], int]:
    """A picture's channels, and the number that means white in them."""
    if picture.mode.startswith("I"):  # 16 bits of gray; Pillow's own conversion would clip them
        values = np.array(picture, dtype=np.float32)
        if isinstance(clear := picture.info.get("transparency"), int):
            values[values == clear] = 65_535
        return [PIL.Image.fromarray(values)] * (3 if rgb else 1), 65_535
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        paper = PIL.Image.new("RGBA", picture.size, "white")
        picture = PIL.Image.alpha_composite(paper, picture)
    if picture.mode not in ("1", "L"):  # from a palette to gray at once, Pillow rounds otherwise
        picture = picture.convert("RGB")
    return (list(picture.convert("RGB").split()) if rgb else [picture.convert("L")]), 255
