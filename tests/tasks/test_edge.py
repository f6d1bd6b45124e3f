"""Edge detection: the book's maps, and precision and recall counted by hand.

Positions are in pixels of the input, 0 the centre of the first one; an edge between columns 1 and
2 lies at 1.5.
"""

from __future__ import annotations

from math import atan2, hypot, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

import runner
from runner.config.errors import ConfigError
from runner.plan import Plan
from runner.tasks.edge import FOUND, Score, combine

ROW = np.array([[[0, 0, 1, 1, 1, 1, 0, 0]]])  # n × h × w regions: edges at 1.5 and 5.5


def score(plan: Plan, regions: np.ndarray, at: list[tuple[int, int]], tolerance: float) -> Score:
    """Count detections at the given output positions."""
    assert plan.output.dims[0] == 1
    detected = np.zeros((1, *plan.output.dims[1:]), dtype=bool)
    for position in at:
        detected[0][position] = True
    return Score.of(regions, detected, plan, tolerance)


def on_a_row(*overrides: str) -> Plan:
    return runner.plan("task=edge", "data.height=1", *overrides)


def test_the_books_edges(workplace: Path) -> None:
    result = runner.run("task=edge")  # 6.2.3
    assert result.metrics["output"] == [[0, 1, 0, 0, 0, -1, 0]] * 6
    assert (result.metrics["min"], result.metrics["max"]) == (-1, 1)
    # Both signs are edges: two columns of six; six rows times two true edges.
    assert result.metrics["detected"] == 12
    assert result.metrics["true_edges"] == 12
    assert [result.metrics[name] for name in ("precision", "recall", "f1")] == [1, 1, 1]


def test_the_books_transposed_image(workplace: Path) -> None:
    result = runner.run("task=edge", "data.transpose=true")
    assert result.metrics["output"] == [[0] * 5] * 8
    assert result.metrics["detected"] == 0
    assert [result.metrics[name] for name in ("precision", "recall", "f1")] == [0, 0, 0]
    result = runner.run("task=edge", "data.transpose=true", "stack=edge_horizontal")
    # The image is 8×6 and the kernel 2×1, so the map is 7×6.
    ends = {1: [1] * 6, 5: [-1] * 6}
    assert result.metrics["output"] == [ends.get(i, [0] * 6) for i in range(7)]
    assert result.metrics["f1"] == 1


@pytest.mark.parametrize(
    ("columns", "tolerance", "hits", "reached"),
    [
        # A 1×2 kernel's output j is centred at j + 0.5, so 1 and 5 lie on the edges.
        ([1, 5], 0, 2, 2),
        ([2, 6], 1, 2, 2),  # at 2.5 and 6.5, one pixel off: just within
        ([2, 6], 0.9, 0, 0),  # … and just outside
        ([1, 3], 1, 1, 1),  # 3.5 is two pixels from both edges
        ([1, 3], 2, 2, 2),  # 3.5 reaches both
        ([1], 1, 1, 1),
        (range(7), 1, 6, 2),  # all but 3.5
        (range(7), 0, 2, 2),
        ([], 1, 0, 0),
    ],
)
def test_tolerance(columns: list[int], tolerance: float, hits: int, reached: int) -> None:
    found = score(on_a_row(), ROW, [(0, c) for c in columns], tolerance)
    assert found == Score(hits=hits, detections=len(columns), reached=reached, edges=2)


@pytest.mark.parametrize(
    ("counts", "precision", "recall", "f1"),
    [
        (Score(1, 1, 1, 2), 1, 1 / 2, 2 / 3),  # 2 · 1 · ½ / 1½
        (Score(6, 7, 2, 2), 6 / 7, 1, 12 / 13),  # 2 · 6/7 / (13/7)
        (Score(1, 2, 1, 2), 1 / 2, 1 / 2, 1 / 2),
        (Score(0, 3, 0, 2), 0, 0, 0),
        (Score(0, 0, 0, 2), 0, 0, 0),  # nothing found
        (Score(0, 2, 0, 0), 0, 0, 0),  # nothing there
    ],
)
def test_precision_recall_and_f1(counts: Score, precision: float, recall: float, f1: float) -> None:
    metrics = counts.metrics()
    assert metrics["precision"] == pytest.approx(precision)
    assert metrics["recall"] == pytest.approx(recall)
    assert metrics["f1"] == pytest.approx(f1)
    assert metrics["true_edges"] == counts.edges


def test_distance_is_euclidean() -> None:
    # One vertical edge along three rows, at (0, ½), (1, ½) and (2, ½); a detector of 3×3 with
    # padding is centred on pixels; it answers at (0, 0) only.
    plan = runner.plan(
        "task=edge", "data.height=3", "data.width=2", "data.start=1", "data.stop=2",
        "stack=kernel", "stack.layers.conv.padding=same",
    )  # fmt: skip
    regions = np.array([[[0, 1]] * 3])
    distances = [0.5, sqrt(1.25), sqrt(4.25)]  # 0.5, 1.118, 2.062
    for tolerance, reached in ((0.4, 0), (0.5, 1), (1, 1), (1.2, 2), (2, 2), (2.1, 3)):
        found = score(plan, regions, [(0, 0)], tolerance)
        assert sum(d <= tolerance for d in distances) == reached
        assert (found.reached, found.hits) == (reached, int(reached > 0))


def test_stride_moves_outputs_apart(workplace: Path) -> None:
    plan = on_a_row("stack.layers.conv.stride=[1,2]")
    # Four outputs, at 0.5, 2.5, 4.5 and 6.5: each one pixel from an edge at 1.5 or 5.5.
    for column in range(4):
        assert score(plan, ROW, [(0, column)], 1).hits == 1
        assert score(plan, ROW, [(0, column)], 0.5).hits == 0
    # Output 3 reaches the right edge, not the left one (were it at 3.5, it would reach neither).
    assert score(plan, ROW, [(0, 3)], 1).reached == 1
    # With the bar at columns 3 to 6 the windows at 2.5 and 6.5 lie on the edges, exactly:
    # 1 1|1 0|0 0|0 1 gives 0, 1, 0, −1.
    result = runner.run(
        "task=edge", "task.tolerance=0", "data.start=3", "data.stop=7",
        "stack.layers.conv.stride=[1,2]",
    )  # fmt: skip
    assert result.metrics["output"] == [[0, 1, 0, -1]] * 6
    assert result.metrics["f1"] == 1


def test_pooling_before_the_detector_moves_its_centre(workplace: Path) -> None:
    words = ["task=edge", "stack=empty"]
    words += ["+stack.layers.pool={kind: pool, mode: avg, kernel: 2}"]
    words += ["+stack.layers.conv={kind: conv, weight: edge_vertical}"]
    # 1 1 0 0 0 0 1 1 is pooled to 1 0 0 1, at 0.5, 2.5, 4.5, 6.5; the detector gives 1, 0, −1 at
    # 1.5, 3.5, 5.5: on the edges. Pooled rows lie between the edges' rows, half a pixel off.
    result = runner.run(*words, "task.tolerance=0.5")
    assert result.metrics["output"] == [[1, 0, -1]] * 3
    assert [result.metrics[name] for name in ("precision", "recall")] == [1, 1]
    result = runner.run(*words, "task.tolerance=0.4")
    assert [result.metrics[name] for name in ("precision", "recall")] == [0, 0]


def test_padding_makes_false_edges(workplace: Path) -> None:
    # 0 |1 1 0 0 0 0 1 1| 0 gives −1 0 1 0 0 0 −1 0 1, centred from −0.5 to 7.5: the first and the
    # last are edges of the image, not in it, two pixels from a true one.
    result = runner.run("task=edge", "stack.layers.conv.padding=[0,1]")
    assert result.metrics["output"] == [[-1, 0, 1, 0, 0, 0, -1, 0, 1]] * 6
    assert result.metrics["precision"] == 1 / 2
    assert result.metrics["recall"] == 1
    assert result.metrics["f1"] == pytest.approx(2 / 3)
    # Padding far beyond the image doesn't fall off the grid, nor around to the other side.
    result = runner.run("task=edge", "stack.layers.conv.padding=[0,40]")
    assert result.metrics["precision"] == 1 / 2
    replicated = runner.run(
        "task=edge", "stack.layers.conv.padding=[0,1]", "stack.layers.conv.pad_mode=replicate"
    )
    assert replicated.metrics["f1"] == 1


def test_square_has_the_edges_it_was_drawn_with(workplace: Path) -> None:
    # The square covers 10×10 of 16×16 pixels, so it has 40 edges. Sobel answers in the 36 pixels
    # just inside and the 40 just outside of them, half a pixel off. In the four outer corners only
    # one of nine pixels is dark: gx = gy = −1, magnitude √2. The largest is that of the inner
    # corners, gx = gy = −3: 3√2; √2 is a third of it, so it counts at threshold 0.3. These four
    # lie √(1² + ½²) = 1.118 from the nearest edge.
    words = ["task=edge", "stack=sobel", "data=shapes", "data.shapes=[square]"]
    words += ["data.height=16", "data.width=16"]
    result = runner.run(*words)
    assert result.metrics["true_edges"] == 40
    assert result.metrics["detected"] == 80
    assert result.metrics["precision"] == pytest.approx(76 / 80)
    assert result.metrics["recall"] == 1
    assert result.outputs["edge/magnitude"].max() == pytest.approx(3 * sqrt(2))
    assert runner.run(*words, "task.tolerance=1.2").metrics["precision"] == 1
    assert runner.run(*words, "task.threshold=0.34").metrics["detected"] == 76


def test_checkerboard_has_the_edges_it_was_drawn_with() -> None:
    regions = np.kron([[0, 1], [1, 0]], np.ones((2, 2), dtype=int))[None]
    plan = runner.plan("task=edge", "data=blank", "stack=empty", "data.height=4", "data.width=4")
    # Four pixels along each of the two lines.
    found = score(plan, regions, [(1, 0)], 0.5)
    assert found.edges == 8
    # Pixel (1, 0) touches the horizontal line at (1.5, 0) only.
    assert (found.hits, found.reached) == (1, 1)


def test_two_detectors_are_a_gradient() -> None:
    maps = np.array([[[[3.0, 0, -1, 0]], [[4.0, 2, 0, 0]]]])
    magnitude, direction = combine(maps)
    assert magnitude.tolist() == [[[5, 2, 1, 0]]]
    assert direction is not None
    assert direction[0, 0].tolist() == pytest.approx([atan2(4, 3), pi / 2, pi, 0])


def test_one_or_many_detectors_count_by_the_strongest() -> None:
    magnitude, direction = combine(np.array([[[[-3.0, 1]]]]))
    assert magnitude.tolist() == [[[3, 1]]]
    assert direction is None
    magnitude, direction = combine(np.array([[[[1.0]], [[-4.0]], [[3.0]]]]))
    assert magnitude.tolist() == [[[4]]]
    assert direction is None


def test_sobel_gives_strength_and_direction(workplace: Path) -> None:
    # A plane that rises by 2 a column and 1 a row: Sobel sums (1 + 2 + 1) differences over two
    # pixels, so gx = 4 · 4 = 16 and gy = 4 · 2 = 8 inside.
    values = [[2 * c + r for c in range(4)] for r in range(4)]
    result = runner.run("task=edge", "stack=sobel", "data=tensor", f"data.values={values}")
    gx, gy = result.outputs["sobel"][0]
    assert (gx[1:3, 1:3] == 16).all()
    assert (gy[1:3, 1:3] == 8).all()
    assert result.outputs["edge/magnitude"][0, 1, 1] == pytest.approx(hypot(16, 8))
    _, direction = combine(result.outputs["sobel"])
    assert direction is not None
    assert direction[0, 2, 2] == pytest.approx(atan2(8, 16))
    assert (result.directory / "images" / "edge_orientation.png").is_file()


def test_threshold_is_a_fraction_of_each_images_largest_magnitude(workplace: Path) -> None:
    # Differences 1 and 0.5 in the first image, 10 and 2 in the second, none in the third.
    values = "data.values=[[[[0, 1, 1.5]]], [[[0, 10, 12]]], [[[3, 3, 3]]]]"

    def detected(*words: str) -> list[list[bool]]:
        found = runner.run("task=edge", "data=tensor", values, *words).outputs["edge/detected"]
        return [row.ravel().tolist() for row in found]

    assert detected("task.threshold=0.5") == [[True, True], [True, False], [False, False]]
    assert detected("task.threshold=0.51") == [[True, False], [True, False], [False, False]]
    assert detected("task.threshold=0.2") == [[True, True], [True, True], [False, False]]
    absolute = detected("task.threshold=1.5", "task.absolute=true")
    assert absolute == [[False, False], [True, True], [False, False]]


def test_without_known_edges_there_is_no_score(workplace: Path) -> None:
    result = runner.run("task=edge", "data=tensor")
    assert "precision" not in result.metrics
    assert "detected" in result.metrics


def test_counts_add_up_over_images(workplace: Path) -> None:
    one = runner.run("task=edge", "stack=sobel", "data=shapes", "data.placement=random")
    three = runner.run(
        "task=edge", "stack=sobel", "data=shapes", "data.placement=random", "data.images=3",
        "task.images=2",
    )  # fmt: skip
    assert three.metrics["true_edges"] > 2 * one.metrics["true_edges"]
    pictures = {p.name for p in (three.directory / "images").iterdir()}
    assert "edge_overview_1.png" in pictures
    assert "edge_overview_2.png" not in pictures


def test_outputs_are_saved(workplace: Path) -> None:
    result = runner.run("task=edge", "stack=blur_sobel")
    with np.load(result.directory / "outputs.npz", allow_pickle=False) as saved:
        assert set(saved) == {"blur", "sobel"}
        np.testing.assert_array_equal(saved["sobel"], result.outputs["sobel"])
    assert set(result.outputs) == {"blur", "sobel", "edge/magnitude", "edge/detected"}


def test_stack_must_end_in_maps(workplace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        runner.run("task=edge", "stack=lenet", "data=blank")
    assert str(caught.value) == (
        "stack.layers: expected a last layer that gives feature maps, got 10 features from 'fc3'. "
        "Remove flatten and what follows it."
    )
    with pytest.raises(ConfigError, match=r"task.threshold: expected a fraction .* got 1.5"):
        runner.run("task=edge", "task.threshold=1.5")
    assert not (workplace / "outputs").exists()


@pytest.mark.parametrize("padding", ["[0,4,0,0]", "[0,0,0,4]", "[4,0,0,0]", "[0,0,4,0]"])
def test_padding_on_one_side_may_reach_far_out(padding: str, workplace: Path) -> None:
    result = runner.run("task=edge", f"stack.layers.conv.padding={padding}")
    assert result.metrics["recall"] == 1


def test_rounding_is_no_edge_however_large_the_kernel(workplace: Path) -> None:
    gabor = "stack.layers.conv.weight={kernel: gabor, size: 31, sigma: 8, wavelength: 12}"
    flat = ("data=blank", "data.value=0.3", "data.height=40", "data.width=40")
    assert runner.run("task=edge", "stack=kernel", gabor, *flat).metrics["detected"] == 0


@pytest.mark.parametrize("op", ["fft", "winograd", "winograd_2x2", "auto"])
def test_rounding_of_transforms_is_no_edge(op: str, workplace: Path) -> None:
    flat = ("stack=sobel", "data=blank", "data.value=0.7", f"ops={op}")
    assert runner.run("task=edge", *flat).metrics["detected"] == 0


def test_small_kernels_find_edges_too(workplace: Path) -> None:
    tiny = "stack.layers.conv.weight=[[1e-7,-1e-7]]"
    assert runner.run("task=edge", tiny).metrics["detected"] == 12
    above = ("task.absolute=true", "task.threshold=5e-8")
    assert runner.run("task=edge", tiny, *above).metrics["detected"] == 12


def test_missed_edges_are_drawn(workplace: Path) -> None:
    from PIL import Image

    words = ("task=edge", "stack=sobel", "data=shapes", "task.threshold=0.95")
    result = runner.run(*words)
    assert result.metrics["recall"] < 0.5
    with Image.open(result.directory / "images" / "edge_detected.png") as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    assert FOUND["missed"] in colours
    assert FOUND["false"] in colours  # of the legend
