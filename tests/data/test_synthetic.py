"""Images that are drawn or written down: bar, tensor, checkerboard, shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from runner.config.errors import Problem
from runner.data import Data

Make = Callable[..., Data]
Complaint = Callable[..., Problem]


def test_bar_is_the_books_image(make: Make) -> None:
    images = make("bar").load()
    assert images.x.tolist() == [[[[1, 1, 0, 0, 0, 0, 1, 1]] * 6]]
    assert images.regions is not None
    assert images.regions.tolist() == [[[0, 0, 1, 1, 1, 1, 0, 0]] * 6]


def test_bar_laid_across(make: Make) -> None:
    spec = make("bar", height=2, width=3, start=1, stop=2, transpose=True, foreground=0.5)
    assert str(spec.shape()) == "1×3×2"
    assert spec.load().x.tolist() == [[[[1, 1], [0.5, 0.5], [1, 1]]]]


def test_bar_outside_the_image(complaint: Complaint) -> None:
    assert str(complaint("bar", width=4)) == (
        "data.stop: expected from start (2) to width (4), got 6."
    )


@pytest.mark.parametrize(
    ("values", "shape", "count"),
    [
        ([[1, 2, 3]], "1×1×3", 1),
        ([[[1, 2]], [[3, 4]]], "2×1×2", 1),
        ([[[[1]], [[2]]], [[[3]], [[4]]], [[[5]], [[6]]]], "2×1×1", 3),
    ],
)
def test_tensor_of_any_depth(make: Make, values: Any, shape: str, count: int) -> None:
    spec = make("tensor", values=values)
    assert str(spec.shape()) == shape
    assert spec.count() == count
    assert spec.load().x.ravel().tolist() == [float(n) for n in np.ravel(values)]


def test_tensor_of_one_row(complaint: Complaint) -> None:
    problem = complaint("tensor", values=[1, 2])
    assert problem.path == "data.values"
    assert problem.hint == "Put one row into brackets too: [[…]]."


def test_ragged_tensor(complaint: Complaint) -> None:
    assert complaint("tensor", values=[[1, 2], [3]]).path == "data.values[1]"


def test_checkerboard_with_cut_squares(make: Make) -> None:
    spec = make("checkerboard", height=3, width=5, square=2, background=0.75, foreground=0.25)
    a, b = 0.75, 0.25
    images = spec.load()
    assert images.x.tolist() == [[[[a, a, b, b, a], [a, a, b, b, a], [b, b, a, a, b]]]]
    assert images.regions is not None
    assert images.regions.tolist() == [[[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [1, 1, 0, 0, 1]]]


@pytest.mark.parametrize("kind", ["checkerboard", "shapes"])
@pytest.mark.parametrize("height", [0, -1, 2**61])
def test_absurd_sizes(complaint: Complaint, kind: str, height: int) -> None:
    problem = complaint(kind, height=height)
    assert problem.path == "data.height"
    assert problem.got == str(height)


def art(*rows: str) -> list[list[int]]:
    return [[0 if letter == "." else int(letter) for letter in row] for row in rows]


def test_one_square_in_the_middle(make: Make) -> None:
    # 8 × 8 pixels, a square of ⌊5·8/8⌋ = 5, starting at ⌊(8 − 5)/2⌋ = 1
    images = make("shapes", height=8, width=8, shapes=["square"], foreground=0.25).load()
    assert images.regions is not None
    (regions,) = images.regions.tolist()
    assert regions == art(
        "........",
        ".11111..",
        ".11111..",
        ".11111..",
        ".11111..",
        ".11111..",
        "........",
        "........",
    )
    assert images.x.tolist() == [[[[1 - 0.75 * pixel for pixel in row] for row in regions]]]


def test_disc_bar_and_diagonal(make: Make) -> None:
    # Cells of 16 × 16; shapes of 10 start at row and column 3. The bar is ⌊10/4⌋ = 2 wide, and
    # the diagonal reaches ⌊10/8⌋ = 1 to both sides.
    images = make("shapes", height=16, width=48, shapes=["disc", "bar", "diagonal"]).load()
    assert images.regions is not None
    regions = images.regions[0]
    assert regions[3:13, 3:13].tolist() == art(
        "...1111...",
        ".11111111.",
        ".11111111.",
        "1111111111",
        "1111111111",
        "1111111111",
        "1111111111",
        ".11111111.",
        ".11111111.",
        "...1111...",
    )
    assert regions[3:13, 19:29].tolist() == art(*["....22...."] * 10)
    assert regions[3:13, 35:45].tolist() == art(
        "33........",
        "333.......",
        ".333......",
        "..333.....",
        "...333....",
        "....333...",
        ".....333..",
        "......333.",
        ".......333",
        "........33",
    )
    assert np.count_nonzero(regions) == 80 + 20 + 28


def test_a_brightness_for_each_shape(make: Make) -> None:
    images = make("shapes", shapes=["square", "disc"], foreground=[0.25, 0.5]).load()
    assert images.regions is not None
    by_region = [np.unique(images.x[:, 0][images.regions == i]).tolist() for i in range(3)]
    assert by_region == [[1.0], [0.25], [0.5]]


def test_colours_differ(make: Make) -> None:
    spec = make("shapes", color="rgb", shapes=["disc"] * 8)
    images = spec.load()
    assert str(spec.shape()) == "3×64×64"
    assert len(np.unique(images.x[0].reshape(3, -1), axis=1).T) == 9


def test_binary_is_the_last_step(make: Make) -> None:
    images = make("shapes", color="binary", background=0.7, foreground=0.3, noise=0.3).load()
    assert images.regions is not None
    assert np.unique(images.x).tolist() == [0, 1]
    assert 0 < np.mean(images.x[:, 0] == (images.regions > 0)) < 0.4


def test_noise_leaves_regions_and_stays_within_0_and_1(make: Make) -> None:
    plain = make("shapes", background=0.5, foreground=0.5).load()
    noisy = make("shapes", background=0.5, foreground=0.5, noise=0.1).load()
    assert np.array_equal(plain.regions, noisy.regions)  # type: ignore[arg-type]
    noise = noisy.x - 0.5
    # 4096 pixels: the mean's deviation is 0.1/64, the deviation's about 0.1/90
    assert abs(noise.mean()) < 5 * 0.1 / 64
    assert abs(noise.std() - 0.1) < 5 * 0.1 / 90
    wild = make("shapes", noise=5.0).load().x
    assert (wild.min(), wild.max()) == (0, 1)


def test_seeds(make: Make) -> None:
    options = {"placement": "random", "noise": 0.1}
    first = make("shapes", images=2, **options).load()
    again = make("shapes", images=2, **options).load()
    other = make("shapes", images=2, seed=1, **options).load()
    assert np.array_equal(first.x, again.x)
    assert not np.array_equal(first.regions, other.regions)  # type: ignore[arg-type]
    # More images leave the first ones alone; noise leaves the places alone.
    more = make("shapes", images=3, **options).load()
    assert np.array_equal(first.x, more.x[:2])
    quiet = make("shapes", images=2, placement="random").load()
    assert np.array_equal(first.regions, quiet.regions)  # type: ignore[arg-type]


def test_placement(make: Make) -> None:
    def distinct(**fields: Any) -> int:
        regions = make("shapes", images=4, **fields).load().regions
        assert regions is not None
        return len(np.unique(regions, axis=0))

    assert distinct() == 4
    assert distinct(placement="fixed") == 1
    fixed = make("shapes").load().regions
    random = make("shapes", placement="random").load().regions
    assert not np.array_equal(fixed, random)  # type: ignore[arg-type]


@pytest.mark.parametrize("names", [["square"] * 4, ["disc"] * 7, ["bar", "diagonal"], ["disc"]])
@pytest.mark.parametrize("size", [(32, 32), (24, 61), (57, 32)])
def test_random_shapes_neither_touch_nor_vanish(
    make: Make, names: list[str], size: tuple[int, int]
) -> None:
    height, width = size
    spec = make("shapes", shapes=names, height=height, width=width, images=60, placement="random")
    regions = spec.load().regions
    assert regions is not None
    for image in regions:
        assert set(np.unique(image)) == set(range(len(names) + 1))
        for rows, columns in ((slice(1, None), slice(None)), (slice(None), slice(1, None))):
            one = image[rows, columns]
            two = image[: one.shape[0], : one.shape[1]]
            assert not np.any((one != two) & (one > 0) & (two > 0))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"shapes": ["square", "disk"]},
            "data.shapes[1]: expected one of square, disc, bar, diagonal, got 'disk' (text). "
            "Did you mean 'disc'?",
        ),
        (
            {"shapes": []},
            "data.shapes: expected a list of 1 to 8 shapes (square, disc, bar, diagonal), got [].",
        ),
        (
            {"shapes": "disc"},
            "data.shapes: expected a list of 1 to 8 shapes (square, disc, bar, diagonal), "
            "got 'disc' (text).",
        ),
        (
            {"height": 15},
            "data.height: expected at least 16, 8 for each of 2 shapes, got 15. "
            "Or draw fewer shapes.",
        ),
        (
            {"foreground": [0.1, 0.2]},
            "data.foreground: expected a number, or 4 of them, one for each shape, got 2 of them.",
        ),
        (
            {"foreground": [0, 0, 0, 1.5]},
            "data.foreground: expected a brightness from 0 to 1, or a list with one for each "
            "shape, got [0, 0, 0, 1.5].",
        ),
        (
            {"placement": "randm"},
            "data.placement: expected one of auto, fixed, random, got 'randm' (text). "
            "Did you mean 'random'?",
        ),
        ({"noise": -0.1}, "data.noise: expected at least 0, got -0.1."),
        ({"images": 0}, "data.images: expected at least 1, got 0."),
    ],
)
def test_mistakes_in_shapes(complaint: Complaint, fields: dict[str, Any], expected: str) -> None:
    assert str(complaint("shapes", **fields)) == expected
