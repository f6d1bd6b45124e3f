"""Where Waldo is: planted patterns, crops, stacks; positions in pixels of the input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from bare_run import bare_run
from scipy.ndimage import gaussian_filter

import runner
from runner.config.errors import ConfigError
from runner.tracking import pictures
from runner.tracking.boxes import GREEN, ORANGE

SMALL = [[0, 9, 0], [9, 0, 5], [0, 5, 1]]
BLUR = {"kind": "conv", "weight": "box", "padding": "same"}


def noise(*size: int, seed: int = 0) -> dict[str, Any]:
    """An image in which every place looks different."""
    values = np.random.default_rng(seed).uniform(0, 1, size).tolist()
    return {"kind": "tensor", "values": values}


def find(data: dict[str, Any], layers: dict[str, Any] | None = None, **fields: Any) -> Any:
    options = {name: fields.pop(name) for name in ("seed", "dtype") if name in fields}
    task, run = bare_run({"kind": "match", **fields}, layers or {}, data, **options)
    return task.run(run)


def test_a_crop_is_found_where_it_was(undrawn: None) -> None:
    found = find(noise(20, 30), pattern={"crop": [3, 17, 5, 6]})
    assert found["found"] == found["true_positions"] == [[3, 17]]
    assert found["position_error"] == 0
    assert found["scores"] == [pytest.approx(1, abs=1e-5)]
    assert found["margin"] == found["scores"][0] - found["runner_up"]
    assert found["pattern"] == [1, 5, 6]


def test_the_middle_is_the_default(undrawn: None) -> None:
    # A quarter of 20×30 is 5×7; (20 − 5) // 2 = 7, (30 − 7) // 2 = 11.
    found = find(noise(20, 30))
    assert found["found"] == [[7, 11]]
    assert found["pattern"] == [1, 5, 7]


@pytest.mark.parametrize("place", [[0, 0], [0, 24], [15, 0], [15, 24]])
def test_corners(place: list[int], undrawn: None) -> None:
    found = find(noise(20, 30), pattern={"crop": [*place, 5, 6]})
    assert found["found"] == [place]


@pytest.mark.parametrize("seed", range(200))
def test_planted_patterns_are_found_for_every_seed(seed: int, undrawn: None) -> None:
    """Three of one pattern, of other contrast and brightness, in noise, in one or three channels.

    The places are on a grid of 8 pixels, so that the 7×7 patterns don't overlap.
    """
    draw = np.random.default_rng(seed)
    channels = int(draw.choice([1, 3]))
    cells = draw.choice(12, 3, replace=False)
    places = [[int(8 * (cell // 4)), int(8 * (cell % 4))] for cell in cells]
    found = find(
        {"kind": "blank", "channels": channels, "height": 24, "width": 32, "value": 0.5},
        pattern={"values": draw.uniform(0, 1, (channels, 7, 7)).tolist()},
        plant=places,
        gain=draw.uniform(0.3, 3, 3).tolist(),
        offset=draw.uniform(-1, 1, 3).tolist(),
        noise=0.02,
        seed=seed,
    )
    assert found["position_error"] == 0
    assert sorted(found["found"]) == sorted(places)


def test_in_double_precision(undrawn: None) -> None:
    found = find(noise(20, 30), pattern={"crop": [3, 17, 5, 6]}, dtype="float64")
    assert found["scores"] == [pytest.approx(1, abs=1e-12)]


def test_contrast_and_brightness_change_the_image_not_the_score(undrawn: None) -> None:
    data, pattern = noise(20, 30), {"crop": [3, 17, 5, 6]}
    task, run = bare_run(
        {"kind": "match", "pattern": pattern, "gain": -0.5, "offset": 2.0}, {}, data
    )
    metrics = task.run(run)
    before = np.array(data["values"])[3:8, 17:23]
    np.testing.assert_allclose(run.outputs["match/image"][0, 3:8, 17:23], 2 - before / 2)
    np.testing.assert_array_equal(run.outputs["match/pattern"][0], before)
    np.testing.assert_array_equal(run.images.x[0, 0], data["values"])  # the data stay as they were
    # Upside down, it is the last place where one would look.
    assert run.outputs["match/scores"][3, 17] == pytest.approx(-1, abs=1e-5)
    assert metrics["position_error"] > 0
    paler = find(data, pattern=pattern, gain=0.01, offset=2.0)
    assert paler["position_error"] == 0


def test_each_planting_has_its_own_contrast(undrawn: None) -> None:
    task, run = bare_run(
        {"kind": "match", "pattern": {"values": [[1, 2]]}, "plant": [[0, 0], [1, 2]],
         "gain": [1.0, 10.0], "offset": [0.5, 0.0]},
        {}, {"kind": "blank", "height": 2, "width": 4},
    )  # fmt: skip
    task.run(run)
    assert run.outputs["match/image"].tolist() == [[[1.5, 2.5, 0, 0], [0, 0, 10, 20]]]


def test_a_crop_that_is_also_planted_is_in_two_places(undrawn: None) -> None:
    found = find(noise(20, 30), pattern={"crop": [3, 17, 5, 6]}, plant=[[12, 2]])
    assert found["true_positions"] == [[12, 2], [3, 17]]
    assert found["position_error"] == 0
    # Planted over half of itself, the original is gone.
    found = find(noise(20, 30), pattern={"crop": [3, 17, 5, 6]}, plant=[[5, 19]])
    assert found["true_positions"] == [[5, 19]]


def test_without_a_true_position_there_is_no_error(undrawn: None) -> None:
    found = find(noise(9, 9), pattern={"values": SMALL}, peaks=2)
    assert "position_error" not in found
    assert "true_positions" not in found
    assert len(found["found"]) == 2


def test_what_was_not_looked_for_is_missed(undrawn: None) -> None:
    fields = {"pattern": {"crop": [3, 17, 5, 6]}, "plant": [[12, 2], [3, 17], [12, 20]]}
    task, run = bare_run({"kind": "match", **fields, "peaks": 1}, {}, noise(20, 30))
    found = task.run(run)
    (place,) = found["found"]
    assert place in fields["plant"]
    assert found["missed"] == 2
    # From any of the three to the farthest other: 15 or 18 columns.
    assert found["position_error"] == (15 if place == [3, 17] else 18)
    assert run.notes[-1].startswith("Missed 2 of 3 true positions: ")
    assert run.notes[-1].endswith("Only 1 place was looked for (task.peaks is 1).")
    assert find(noise(20, 30), **fields)["missed"] == 0


def test_a_pattern_that_is_not_found_is_missed(undrawn: None) -> None:
    # Upside down, it is the last place where one would look.
    found = find(noise(20, 30), pattern={"crop": [3, 17, 5, 6]}, gain=-1.0)
    assert found["missed"] == 1
    assert found["position_error"] > 0


def test_noise_is_drawn_from_the_seed(undrawn: None) -> None:
    images = []
    for seed in (0, 0, 1):
        task, run = bare_run({"kind": "match", "noise": 0.1}, {}, noise(12, 12), seed=seed)
        task.run(run)
        images.append(run.outputs["match/image"])
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).all()
    # Of 144 numbers the standard deviation is within 0.1 ± 4 · 0.1/√288.
    assert np.std(images[0] - run.images.x[0]) == pytest.approx(0.1, abs=0.024)


def test_plain_correlation_prefers_what_is_bright(undrawn: None) -> None:
    values = np.random.default_rng(5).uniform(0, 0.2, (20, 20))
    values[12:18, 12:18] = 1
    data = {"kind": "tensor", "values": values.tolist()}
    pattern = {"crop": [2, 3, 6, 6]}
    assert find(data, pattern=pattern)["position_error"] == 0
    plain = find(data, pattern=pattern, normalize=False)
    assert plain["found"] == [[12, 12]]
    assert plain["position_error"] == 10
    # Every pixel is at most 1, so the sum is at most the pattern's own.
    assert plain["scores"] == [pytest.approx(values[2:8, 3:9].sum(), rel=1e-5)]


def test_colour_alone_tells_patterns_apart(undrawn: None) -> None:
    rng = np.random.default_rng(6)
    shape = (rng.uniform(size=(6, 6)) > 0.5).astype(float)
    image = np.zeros((3, 8, 30))
    for i, colour in enumerate([(1, 0.2, 0.2), (0.2, 1, 0.2), (0.2, 0.2, 1)]):
        image[:, 1:7, 2 + 9 * i : 8 + 9 * i] = shape * np.array(colour)[:, None, None]
    data = {"kind": "tensor", "values": image.tolist()}
    found = find(data, pattern={"crop": [1, 11, 6, 6]})
    assert found["found"] == [[1, 11]]
    # The decoys' cosine is that of their colours: (0.2 + 0.2 + 0.04) / 1.08.
    assert found["runner_up"] == pytest.approx(0.44 / 1.08, abs=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same", "same_lower", [3, 0, 1, 4]])
def test_padding_in_the_stack_plays_no_part(padding: Any, undrawn: None) -> None:
    layers = {
        "a": {"kind": "conv", "weight": {"kernel": "gaussian", "size": 4}, "padding": padding},
        "b": {"kind": "conv", "weight": ["sobel_x", "sobel_y"], "padding": padding},
    }
    for place in ([0, 0], [5, 9], [11, 20]):  # 11 = 20 − 9, 20 = 30 − 10
        found = find(noise(20, 30), layers, pattern={"crop": [*place, 9, 10]})
        assert found["found"] == [place]
        assert found["scores"] == [pytest.approx(1, abs=1e-5)]


@pytest.mark.parametrize(("place", "error"), [([4, 8], 0), ([5, 8], 1), ([4, 7], 1)])
def test_after_a_stride_places_are_multiples_of_it(
    place: list[int], error: int, undrawn: None
) -> None:
    layers = {"blur": BLUR, "pool": {"kind": "pool", "mode": "avg", "kernel": 2}}
    values = gaussian_filter(np.random.default_rng(7).uniform(0, 1, (24, 30)), 2.0)
    data = {"kind": "tensor", "values": values.tolist()}
    found = find(data, layers, pattern={"crop": [*place, 10, 12]})
    assert [n % 2 for n in found["found"][0]] == [0, 0]
    assert found["position_error"] == error


def test_a_picture_file(tmp_path: Path, undrawn: None) -> None:
    values = np.random.default_rng(8).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    PIL.Image.fromarray(values).save(tmp_path / "image.png")
    PIL.Image.fromarray(values[4:12, 6:13]).save(tmp_path / "pattern.png")
    for color in ("rgb", "gray"):
        data = {"kind": "image", "path": str(tmp_path / "image.png"), "color": color}
        found = find(data, pattern={"path": str(tmp_path / "pattern.png")})
        assert found["found"] == [[4, 6]]
        assert found["pattern"][0] == (3 if color == "rgb" else 1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": {"crop": [0, 0, 9, 3]}}, "task.pattern.crop: expected at most the image's "
         "8×9 (height × width), got 9×3. Take a smaller pattern, or a larger image."),
        ({"pattern": {"crop": [6, 0, 4, 3]}}, "task.pattern.crop: expected [top, left, height, "
         "width] within the image's 8×9 (height × width), got [6, 0, 4, 3]. It ends at row 10 and "
         "column 3; the nearest is [4, 0, 4, 3]."),
        ({"pattern": {"crop": [0, 0, 3]}}, "task.pattern.crop: expected [top, left, height, w"),
        ({"pattern": {"crop": [0, 0, 3, 0]}}, "height and width at least 1"),
        ({"pattern": {"values": [[[1, 2]], [[3, 4]]]}}, "task.pattern.values: expected 1 channel, "
         "as many as the image has, got 2 (a pattern of 2×1×2)."),
        ({"pattern": {"values": [1, 2]}}, "task.pattern.values: expected rows of numbers"),
        ({"pattern": {"values": [[1, 2]], "path": "x.png"}}, "task.pattern: expected one of crop, "
         "values and path, got values and path."),
        ({"pattern": {"path": "nowhere.png"}}, "task.pattern.path: expected a PNG"),
        ({"pattern": {"values": [[2, 2]]}}, "task.pattern: expected a pattern with contrast, got "
         "a constant one, 2 everywhere."),
        ({"pattern": {"values": SMALL}, "plant": [[0, 0], [6, 0]]}, "task.plant[1]: expected [row, "
         "column] from [0, 0] to [5, 6], so that the 3×3 pattern lies within the 8×9 image, got "
         "[6, 0]. Rows and columns count from 0; the nearest is [5, 0]."),
        ({"pattern": {"values": SMALL}, "plant": [[0, 0], [3, 0]], "gain": [1, 2, 3]},
         "task.gain: expected one number, or 2, one per planting, got 3 numbers."),
        ({"pattern": {"values": SMALL}, "plant": [[0, 0], [5, 5], [2, 2]]}, "task.plant[2]: "
         "expected a place whose 3×3 copy doesn't overlap the one at [0, 0] (task.plant[0]), got "
         "[2, 2]. Keep 3 rows or 3 columns between their corners."),
        ({"pattern": {"values": SMALL}, "plant": [[0, 0], [3, 0]], "gain": [1, 0]},
         "task.gain[1]: expected a number other than 0, which leaves no contrast to find, got 0."),
        ({"gain": 0}, "task.gain: expected a number other than 0"),
        ({"plant": [3, 4]}, "task.plant[0]: expected two integers: [row, column], got 3."),
        ({"gain": [[1]]}, "task.gain: expected a number, or a list"),
        ({"peaks": 0}, "task.peaks: expected at least 1"),
        ({"image": 1}, "task.image: expected an image of the data, 0, the only one, got 1."),
    ],
)  # fmt: skip
def test_bad_input_is_answered_by_path(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find(noise(8, 9), **fields)
    assert message in str(caught.value)


def test_plantings_side_by_side_and_plain_correlation_of_nothing(undrawn: None) -> None:
    places = [[0, 0], [0, 3], [3, 0]]
    found = find(noise(8, 9), pattern={"values": SMALL}, plant=places)
    assert sorted(found["found"]) == places
    assert find(noise(8, 9), gain=0, normalize=False)["position_error"] > 0


@pytest.mark.parametrize(("offset", "scale"), [(0, "brightness"), (-5, "signed")])
def test_scores_that_have_no_sign_are_drawn_without(
    offset: int, scale: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[str, str]] = []
    for name in ("signed", "brightness"):
        inner = getattr(pictures, name)

        def noted(*given: Any, name: str = name, inner: Any = inner, **rest: Any) -> Any:
            drawn.append((name, given[1]))
            return inner(*given, **rest)

        monkeypatch.setattr(pictures, name, noted)
    # A pattern of ones, planted as 1 − 5 in an image of ones.
    words = ("task=match", "data=blank", "data.value=1", "task.normalize=false")
    runner.run(*words, f"task.offset={offset}")
    assert (scale, "cross-correlation") in drawn


def test_stacks_that_leave_nothing_to_search() -> None:
    with pytest.raises(ConfigError, match=r"stack.layers: .* got 72 features from 'flat'"):
        find(noise(8, 9), {"flat": {"kind": "flatten"}})
    with pytest.raises(ConfigError) as caught:
        find(noise(8, 9), {"blur": {**BLUR, "dilation": 2}}, pattern={"crop": [0, 0, 4, 6]})
    assert str(caught.value) == (
        "task.pattern: expected a pattern of at least 5×5 (height × width), what one output of "
        "'blur' sees, got 4×6. Take a larger pattern, or fewer layers."
    )


def test_an_operator_that_cannot_correlate_with_the_pattern(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from runner.ops.native import NativeConv

    monkeypatch.setattr(NativeConv, "unsupported", lambda *_: ["no 3×4 kernels"])
    with pytest.raises(ConfigError) as caught:
        find(noise(8, 9), pattern={"crop": [0, 0, 3, 4]})
    assert str(caught.value) == (
        "ops.conv: expected an operator that can correlate with a 3×4 kernel, got 'native', which "
        "can't: no 3×4 kernels. Try ops=native."
    )


def test_a_pattern_that_the_stack_makes_flat() -> None:
    # The difference of neighbours of a ramp is the same everywhere.
    layers = {"edges": {"kind": "conv", "weight": "edge_vertical"}}
    values = np.arange(10.0) * np.ones((8, 1))
    data = {"kind": "tensor", "values": values.tolist()}
    with pytest.raises(ConfigError, match=r"task.pattern: .* one that the stack makes constant"):
        find(data, layers, pattern={"crop": [1, 1, 4, 4]})


@pytest.mark.parametrize("ops", ["native", "loops"])
def test_pictures_and_metrics_of_a_run(ops: str, workplace: Path) -> None:
    result = runner.run(
        "task=match", "data=shapes", "data.height=24", "data.width=32", f"ops={ops}", "device=cpu",
        "data.shapes=[square,disc]", "task.pattern.crop=[4,4,14,10]",
    )  # fmt: skip
    assert result.metrics["found"] == [[4, 4]]
    images = result.directory / "images"
    names = {"match_found.png", "match_overview.png", "match_pattern.png", "match_scores.png"}
    assert {p.name for p in images.iterdir()} == names
    with PIL.Image.open(images / "match_found.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert {GREEN, ORANGE} <= colours
    assert result.outputs["match/scores"].shape == (24 - 14 + 1, 32 - 10 + 1)
