"""A picture of your own: a PNG, JPEG, BMP or WebP file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import PIL.Image
from pydantic import Field as Limited

from runner.config.errors import ConfigError, problem
from runner.data import Images
from runner.data._files import located, quoted
from runner.data._pictures import Pictures
from runner.geometry import Shape

_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_EXPECTED = "a PNG, JPEG, BMP or WebP file"

# EXIF's values of Orientation other than 1, and what sets such a picture upright.
_UPRIGHT = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)


class Image(Pictures):
    """A file, with `Pictures`' options. Set upright by its EXIF orientation; its first frame.

    Attributes:
        path: of the file; ``~`` is the home folder, and a relative path starts at the current
            directory.
        max_pixels: larger pictures are refused before they are decoded: a small file can decode
            to gigabytes.
    """

    path: str
    max_pixels: Annotated[int, Limited(ge=1, le=2**30)] = 25_000_000

    def shape(self) -> Shape:
        """As set upright, cropped and resized; read from the file's header."""
        with self._opened() as picture:
            on_its_side = _orientation(picture) in _ON_ITS_SIDE
            width, height = picture.size
        return self._shape((width, height) if on_its_side else (height, width))

    def load(self) -> Images:
        """The picture."""
        with self._opened() as picture:
            orientation = _orientation(picture)
            try:
                picture.load()
            except Exception as error:  # a decoder may raise anything at a damaged file
                raise self._damaged(error) from error
            if orientation in _UPRIGHT:
                return self._images(picture.transpose(_UPRIGHT[orientation]))
            return self._images(picture)

    @contextmanager
    def _opened(self) -> Iterator[PIL.Image.Image]:
        """The picture, its header read and its size checked."""
        path = located("path", self.path, _EXPECTED)
        # WebP files are read whole to be opened. Nothing needs more than 8 bytes per pixel.
        most = 8 * self.max_pixels + 2**24
        if path.stat().st_size > most:
            got = f"{quoted(self.path)} of {path.stat().st_size:,} bytes"
            raise problem("path", f"a file of at most {most:,} bytes", got, "See max_pixels.")
        with _pillow_limit(self.max_pixels):
            try:
                picture = PIL.Image.open(path, formats=_FORMATS)
            except PIL.Image.DecompressionBombError as error:
                found = re.search(r"\d+(?= pixels)", str(error))
                raise self._too_large(int(found[0]) if found else None) from None
            except PIL.UnidentifiedImageError:
                got = f"{quoted(self.path)}, which is none of these"
                hint = "Save it anew in one of these formats."
                raise problem("path", _EXPECTED, got, hint) from None
            except Exception as error:  # as in load
                raise self._damaged(error) from error
            with picture:
                if picture.width * picture.height > self.max_pixels:
                    raise self._too_large(picture.width * picture.height)
                yield picture

    def _too_large(self, pixels: int | None) -> ConfigError:
        got = f"{quoted(self.path)} of {f'{pixels:,}' if pixels else 'far more'} pixels"
        hint = "Make it smaller, or raise max_pixels if you trust the file."
        return problem("path", f"at most {self.max_pixels:,} pixels (max_pixels)", got, hint)

    def _damaged(self, error: Exception) -> ConfigError:
        got = f"{quoted(self.path)}, which can't be read: {error or type(error).__name__}"
        return problem("path", f"{_EXPECTED} that is whole", got.rstrip("."))


@contextmanager
def _pillow_limit(pixels: int) -> Iterator[None]:
    """Our limit instead of Pillow's, which warns from one fixed size on and fails from twice it.

    Pillow applies it before it makes a WebP decoder, which allocates the whole picture at once.
    """
    before = PIL.Image.MAX_IMAGE_PIXELS
    PIL.Image.MAX_IMAGE_PIXELS = pixels
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)  # flaws that Pillow reads around
            yield
    finally:
        PIL.Image.MAX_IMAGE_PIXELS = before


def _orientation(picture: PIL.Image.Image) -> int:
    """EXIF's Orientation, 1 if there is none; only what precedes the pixels is read."""
    # Pillow's own getexif decodes a whole PNG in search of EXIF after the pixels.
    exif = PIL.Image.Exif()
    try:
        exif.load(picture.info.get("exif", b""))
        found = exif.get(0x0112, 1)
    except Exception:  # damaged EXIF is no reason to refuse the picture
        return 1
    return found if isinstance(found, int) else 1
