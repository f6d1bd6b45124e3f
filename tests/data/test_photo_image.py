"""How pictures become numbers: photo, and image where its file is fine."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from runner.config.errors import Problem
from runner.data import Data

Make = Callable[..., Data]
Complaint = Callable[..., Problem]
Picture = Callable[..., str]

COLOURS = [[(255, 0, 0), (0, 255, 0)], [(0, 0, 255), (255, 255, 255)]]


def bytes_of(spec: Data) -> list[Any]:
    """The pixels of one image as 0 … 255, one list per channel."""
    x = spec.load().x * 255
    assert np.allclose(x, np.round(x), atol=1e-9)
    assert x.shape == (1, *spec.shape().dims)
    found: list[Any] = np.round(x[0]).astype(int).tolist()
    return found


@pytest.mark.parametrize("name", ["china", "flower"])
@pytest.mark.parametrize("color", ["gray", "rgb", "binary"])
@pytest.mark.parametrize(
    ("crop", "resize", "size"),
    [
        (None, None, (427, 640)),
        ([10, 20, 30, 40], None, (30, 40)),
        (None, [50, 60], (50, 60)),
        ([0, 0, 427, 640], 7, (7, 7)),
        ([426, 639, 1, 1], [3, 2], (3, 2)),
    ],
)
def test_photo_is_as_large_as_it_says(
    make: Make, name: str, color: str, crop: Any, resize: Any, size: tuple[int, int]
) -> None:
    spec = make("photo", name=name, color=color, crop=crop, resize=resize)
    x = spec.load().x
    assert x.shape == (1, *spec.shape().dims)
    assert spec.shape().dims == (3 if color == "rgb" else 1, *size)
    assert x.min() >= 0
    assert x.max() <= 1


def test_china_starts_with_its_known_colour(make: Make) -> None:
    # scikit-learn's documentation shows (174, 201, 231); JPEG decoders may differ by a little.
    rgb = make("photo", color="rgb", crop=[0, 0, 1, 1]).load().x.ravel() * 255
    assert np.abs(rgb - (174, 201, 231)).max() <= 2
    gray = make("photo", crop=[0, 0, 1, 1]).load().x.item() * 255
    assert abs(gray - (0.299 * 174 + 0.587 * 201 + 0.114 * 231)) <= 2.5


def test_photos_differ(make: Make) -> None:
    china, flower = (make("photo", name=name).load().x for name in ("china", "flower"))
    assert not np.array_equal(china, flower)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"name": "chna"},
            "data.name: expected one of china, flower, got 'chna' (text). Did you mean 'china'?",
        ),
        (
            {"crop": [400, 0, 100, 100]},
            "data.crop: expected [top, left, height, width] within the picture's 427×640 "
            "(height × width), got [400, 0, 100, 100]. It ends at row 500 and column 100.",
        ),
        (
            {"crop": [0, 0, 0, 5]},
            "data.crop: expected [top, left, height, width], height and width at least 1, "
            "got [0, 0, 0, 5].",
        ),
        ({"crop": 5}, "data.crop: expected [top, left, height, width], got 5."),
        ({"crop": [1, 2, 3]}, "data.crop: expected [top, left, height, width], got [1, 2, 3]."),
        (
            {"crop": [-1, 0, 3, 3]},
            "data.crop: expected [top, left, height, width], each from 0 to 2147483647, "
            "got [-1, 0, 3, 3].",
        ),
        (
            {"resize": [16385, 1]},
            "data.resize: expected sides of at most 16384, got [16385, 1].",
        ),
        (
            {"resiz": 3},
            "data.resiz: expected one of kind, color, threshold, crop, resize, name, "
            "got 'resiz'. Did you mean 'resize'?",
        ),
    ],
)
def test_mistakes_in_photo(complaint: Complaint, fields: dict[str, Any], expected: str) -> None:
    assert str(complaint("photo", **fields)) == expected


def test_gray_is_luma(make: Make, picture: Picture) -> None:
    # 0.299 · 255 = 76.2, 0.587 · 255 = 149.7, 0.114 · 255 = 29.1
    assert bytes_of(make("image", path=picture(COLOURS))) == [[[76, 150], [29, 255]]]


def test_rgb(make: Make, picture: Picture) -> None:
    assert bytes_of(make("image", path=picture(COLOURS), color="rgb")) == [
        [[255, 0], [0, 255]],
        [[0, 255], [0, 255]],
        [[0, 0], [255, 255]],
    ]


def test_binary_includes_the_threshold(make: Make, picture: Picture) -> None:
    path = picture([[101, 102, 103]])
    spec = make("image", path=path, color="binary", threshold=0.4)
    assert spec.load().x.tolist() == [[[[0, 1, 1]]]]
    assert spec.load().note == "binary: 1 where gray (ITU-R 601 luma) is at least 0.4"


def test_crop_comes_before_resize(make: Make, picture: Picture) -> None:
    path = picture([[9, 9, 9, 9], [9, 0, 51, 9], [9, 102, 255, 9]])
    spec = make("image", path=path, crop=[1, 1, 2, 2])
    assert bytes_of(spec) == [[[0, 51], [102, 255]]]
    # (0 + 51 + 102 + 255) / 4
    assert bytes_of(make("image", path=path, crop=[1, 1, 2, 2], resize=1)) == [[[102]]]


def test_threshold_comes_after_resize(make: Make, picture: Picture) -> None:
    path = picture([[0, 255, 0, 0, 255, 255]])
    spec = make("image", path=path, resize=[1, 2], color="binary")
    assert set(spec.load().x.ravel().tolist()) <= {0, 1}


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.jpg", "a.webp"])
@pytest.mark.parametrize("color", ["gray", "rgb", "binary"])
@pytest.mark.parametrize("value", [0, 255])
def test_one_pixel(make: Make, picture: Picture, name: str, color: str, value: int) -> None:
    spec = make("image", path=picture([[(value, value, value)]], name), color=color)
    assert set(np.ravel(bytes_of(spec)).tolist()) == {value}


@pytest.mark.parametrize(
    ("orientation", "expected"),
    [
        (1, [[0, 51, 102], [153, 204, 255]]),
        (2, [[102, 51, 0], [255, 204, 153]]),
        (3, [[255, 204, 153], [102, 51, 0]]),
        (4, [[153, 204, 255], [0, 51, 102]]),
        (5, [[0, 153], [51, 204], [102, 255]]),
        (6, [[153, 0], [204, 51], [255, 102]]),
        (7, [[255, 102], [204, 51], [153, 0]]),
        (8, [[102, 255], [51, 204], [0, 153]]),
        (9, [[0, 51, 102], [153, 204, 255]]),
    ],
)
def test_exif_orientation(
    make: Make, picture: Picture, orientation: int, expected: list[list[int]]
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = picture([[0, 51, 102], [153, 204, 255]], exif=exif)
    assert bytes_of(make("image", path=path)) == [expected]
    # The crop counts in the upright picture: its last pixel.
    last = [len(expected) - 1, len(expected[0]) - 1, 1, 1]
    assert bytes_of(make("image", path=path, crop=last)) == [[[expected[-1][-1]]]]


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_exif_orientation_of_other_formats(make: Make, picture: Picture, name: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    spec = make("image", path=picture(np.zeros((8, 24)), name, exif=exif))
    assert str(spec.shape()) == "1×24×8"
    assert spec.load().x.shape == (1, 1, 24, 8)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"nonsense", b"Exif\0\0MM\0*\xff\xff\xff\xff"])
def test_damaged_exif_is_ignored(make: Make, picture: Picture, exif: bytes) -> None:
    path = picture([[(0, 0, 0)] * 16] * 8, "a.jpg", exif=exif)
    assert str(make("image", path=path).shape()) == "1×8×16"
    assert make("image", path=path).load().x.shape == (1, 1, 8, 16)


def test_transparency_is_laid_on_white(make: Make, picture: Picture) -> None:
    # 255 − 128 = 127 for black at 128/255
    pixels = PIL.Image.new("RGBA", (3, 1))
    pixels.putdata([(0, 0, 0, 0), (0, 0, 0, 128), (0, 0, 0, 255)])
    assert bytes_of(make("image", path=picture(pixels))) == [[[255, 127, 0]]]
    gray = pixels.convert("LA")
    assert bytes_of(make("image", path=picture(gray, "gray.png"))) == [[[255, 127, 0]]]


def test_palette_with_a_transparent_entry(make: Make, picture: Picture) -> None:
    pixels = PIL.Image.new("P", (3, 1))
    pixels.putpalette([255, 0, 0, 0, 0, 255, 0, 0, 0])
    pixels.putdata([0, 1, 2])
    plain = make("image", path=picture(pixels), color="rgb")
    assert bytes_of(plain) == [[[255, 0, 0]], [[0, 0, 0]], [[0, 255, 0]]]
    assert bytes_of(make("image", path=picture(pixels))) == [[[76, 29, 0]]]
    clear = make("image", path=picture(pixels, transparency=2), color="rgb")
    assert bytes_of(clear) == [[[255, 0, 255]], [[0, 0, 255]], [[0, 255, 255]]]


def test_one_bit(make: Make, picture: Picture) -> None:
    pixels = PIL.Image.new("1", (2, 1))
    pixels.putpixel((1, 0), 1)
    assert bytes_of(make("image", path=picture(pixels))) == [[[0, 255]]]


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_sixteen_bits_of_gray_are_kept(make: Make, picture: Picture, color: str) -> None:
    values = np.array([[0, 1, 256], [32768, 65534, 65535]], dtype=np.uint16)
    spec = make("image", path=picture(PIL.Image.fromarray(values)), color=color)
    x = spec.load().x[0]
    assert x.shape == spec.shape().dims
    assert all(np.array_equal(channel * 65535, values) for channel in x)


def test_sixteen_bits_with_a_transparent_value(make: Make, picture: Picture) -> None:
    pixels = PIL.Image.fromarray(np.array([[0, 257]], dtype=np.uint16))
    assert bytes_of(make("image", path=picture(pixels, transparency=0))) == [[[255, 1]]]


def test_cmyk(make: Make, picture: Picture) -> None:
    # Full black ink is black, no ink white; (1 − C)(1 − K) for the rest.
    for ink, rgb in (((0, 0, 0, 255), (0, 0, 0)), ((0, 0, 0, 0), (255, 255, 255))):
        path = picture(PIL.Image.new("CMYK", (8, 8), ink), "ink.jpg")
        found = make("image", path=path, color="rgb").load().x[0, :, 4, 4] * 255
        assert np.abs(found - rgb).max() <= 2
    path = picture(PIL.Image.new("CMYK", (8, 8), (255, 0, 0, 127)), "ink.jpg")
    cyan = make("image", path=path, color="rgb").load().x[0, :, 4, 4] * 255
    assert np.abs(cyan - (0, 128, 128)).max() <= 3


def test_modes_and_options_keep_shape_and_load_together(make: Make, picture: Picture) -> None:
    modes = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]
    crops: list[Any] = [None, [1, 2, 3, 4]]
    resizes: list[Any] = [None, 5, [2, 9]]
    for mode in modes:
        path = picture(PIL.Image.new(mode, (7, 6)))
        for color, crop, resize in itertools.product(("gray", "rgb", "binary"), crops, resizes):
            spec = make("image", path=path, color=color, crop=crop, resize=resize)
            images = spec.load()
            assert images.x.shape == (spec.count(), *spec.shape().dims), (mode, color)


def test_first_frame_of_an_animation(make: Make, picture: Picture) -> None:
    frames = [PIL.Image.new("L", (2, 1), value) for value in (51, 204)]
    path = picture(frames[0], save_all=True, append_images=frames[1:])
    assert bytes_of(make("image", path=path)) == [[[51, 51]]]


def test_the_file_decides_not_its_name(make: Make, picture: Picture) -> None:
    path = picture([[51]])
    renamed = Path(path).rename(Path(path).with_suffix(".jpg"))
    assert bytes_of(make("image", path=str(renamed))) == [[[51]]]


def test_relative_and_home_paths(
    make: Make, picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture([[51]])
    monkeypatch.chdir(tmp_path)
    assert bytes_of(make("image", path="picture.png")) == [[[51]]]
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    assert bytes_of(make("image", path="~/picture.png")) == [[[51]]]
