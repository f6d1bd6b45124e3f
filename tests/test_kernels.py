"""The bank of kernels: sizes, sums, symmetries, signs, and parameters that make no sense."""

from math import exp, pi

import numpy as np
import pytest

from runner.config.errors import ConfigError
from runner.kernels import FIXED, NAMES, PARAMETRIC, kernel


def bank(name, **parameters):
    return np.array(kernel(name, **parameters), dtype=np.float64)


def respond(k, image):
    """Cross-correlation where the kernel fits."""
    kh, kw = k.shape
    image = np.asarray(image, dtype=np.float64)
    return np.array(
        [
            [(image[i : i + kh, j : j + kw] * k).sum() for j in range(image.shape[1] - kw + 1)]
            for i in range(image.shape[0] - kh + 1)
        ]
    )


def test_there_are_at_least_twenty():
    assert len(set(NAMES)) >= 20
    assert sorted(FIXED | PARAMETRIC) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_bare_name_gives_a_kernel(name):
    rows = kernel(name)
    assert isinstance(rows, tuple)
    assert {len(row) for row in rows} == {len(rows[0])}
    k = np.array(rows, dtype=np.float64)
    assert np.isfinite(k).all()
    assert np.abs(k).max() > 0


ANSWERS_ONE_TO_ONE = {"identity", "box", "gaussian", "sharpen", "emboss"}


@pytest.mark.parametrize("name", NAMES)
def test_flat_areas(name):
    # Blurs keep a flat area as it is, detectors answer it with nothing.
    expected = 1 if name in ANSWERS_ONE_TO_ONE else 0
    assert bank(name).sum() == pytest.approx(expected, abs=1e-14)


UP, DOWN, LEFT, RIGHT = (-1, 0), (1, 0), (0, -1), (0, 1)

POSITIVE_TOWARDS = {
    # The book's [1, −1] is 1 where white turns black: brighter towards the left.
    "edge_vertical": LEFT,
    "edge_horizontal": UP,
    "edge_diagonal": (-1, 1),
    "edge_antidiagonal": (-1, -1),
    "roberts_x": (-1, -1),
    "roberts_y": (-1, 1),
    "prewitt_x": RIGHT,
    "prewitt_y": DOWN,
    "sobel_x": RIGHT,
    "sobel_y": DOWN,
    "sobel_diagonal": (1, 1),
    "sobel_antidiagonal": (-1, 1),
    "scharr_x": RIGHT,
    "scharr_y": DOWN,
    "kirsch_north": UP,
    "kirsch_west": LEFT,
    "derivative_x": RIGHT,
    "derivative_y": DOWN,
}


@pytest.mark.parametrize(("name", "towards"), POSITIVE_TOWARDS.items())
def test_gradients_point_towards_the_light(name, towards):
    rows, columns = np.mgrid[:6, :6]
    ramp = rows * towards[0] + columns * towards[1]
    along = rows * towards[1] - columns * towards[0]
    assert (respond(bank(name), ramp) > 0).all()
    assert (respond(bank(name), -ramp) < 0).all()
    assert (respond(bank(name), along) == 0).all()


ODD_UNDER = {
    # what negates the kernel: turning its columns, its rows, or both
    "prewitt_x": lambda k: k[:, ::-1],
    "sobel_x": lambda k: k[:, ::-1],
    "scharr_x": lambda k: k[:, ::-1],
    "prewitt_y": lambda k: k[::-1],
    "sobel_y": lambda k: k[::-1],
    "scharr_y": lambda k: k[::-1],
    "edge_vertical": lambda k: k[:, ::-1],
    "edge_horizontal": lambda k: k[::-1],
    "sobel_diagonal": lambda k: k[::-1, ::-1],
    "sobel_antidiagonal": lambda k: k[::-1, ::-1],
    "roberts_x": lambda k: k[::-1, ::-1],
    "roberts_y": lambda k: k[::-1, ::-1],
}


@pytest.mark.parametrize(("name", "turned"), ODD_UNDER.items())
def test_antisymmetry(name, turned):
    assert (turned(bank(name)) == -bank(name)).all()


ROUND = ["identity", "box", "gaussian", "log", "ring", "disc", "laplacian_4", "laplacian_8"]


@pytest.mark.parametrize("name", [*ROUND, "sharpen"])
def test_round_kernels_are_the_same_from_every_side(name):
    k = bank(name)
    for turned in (k.T, k[::-1], k[:, ::-1], np.rot90(k)):
        assert turned == pytest.approx(k, abs=1e-16)


@pytest.mark.parametrize(
    ("across", "down"),
    [
        ("edge_vertical", "edge_horizontal"),
        ("prewitt_x", "prewitt_y"),
        ("sobel_x", "sobel_y"),
        ("scharr_x", "scharr_y"),
        ("line_vertical", "line_horizontal"),
        ("derivative_x", "derivative_y"),
        ("kirsch_west", "kirsch_north"),
    ],
)
def test_pairs_are_transposes(across, down):
    assert np.array_equal(bank(down), bank(across).T)


def test_the_books_kernel():
    assert kernel("edge_vertical") == ((1, -1),)
    row = [1, 1, 0, 0, 0, 0, 1, 1]
    assert respond(bank("edge_vertical"), [row] * 6).tolist() == [[0, 1, 0, 0, 0, -1, 0]] * 6


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("line_vertical", np.fliplr(np.pad([[1]] * 5, ((0, 0), (2, 2))))),
        ("line_horizontal", np.pad([[1] * 5], ((2, 2), (0, 0)))),
        ("line_diagonal", np.eye(5)),
        ("line_antidiagonal", np.fliplr(np.eye(5))),
    ],
)
def test_lines(name, line):
    # three pixels of the line under 2 each, nothing under −1
    centre = respond(bank(name), line)[1, 1]
    assert centre == 6
    others = [n for n in FIXED if n.startswith("line_") and n != name]
    assert all(respond(bank(other), line)[1, 1] < centre for other in others)


def test_laplacians_answer_a_bright_point_with_minus():
    point = np.pad([[1]], 4)
    assert respond(bank("laplacian_4"), point).min() == -4
    assert respond(bank("laplacian_8"), point).min() == -8
    log = respond(bank("log", size=5, sigma=1), point)
    assert log[2, 2] == log.min() < 0


def test_sharpen_overshoots_at_an_edge():
    # 5·0 − 3·0 − 1 on the dark side, 5 − 3 on the bright one
    row = [0, 0, 0, 1, 1, 1]
    assert respond(bank("sharpen"), [row] * 3).tolist() == [[0, -1, 2, 1]]


class TestParameters:
    def test_identity(self):
        assert kernel("identity") == ((0, 0, 0), (0, 1, 0), (0, 0, 0))
        assert kernel("identity", size=1) == ((1,),)

    def test_box(self):
        assert kernel("box", size=2) == ((0.25, 0.25), (0.25, 0.25))

    def test_gaussian(self):
        # e^(−1/2) at the sides and e^(−1) at the corners of 1, divided by 4.89764…
        total = 1 + 4 * exp(-0.5) + 4 * exp(-1)
        k = bank("gaussian", size=3, sigma=1)
        assert k[1, 1] == pytest.approx(1 / total, rel=1e-15)
        assert k[0, 1] == pytest.approx(exp(-0.5) / total, rel=1e-15)
        assert k[0, 0] == pytest.approx(exp(-1) / total, rel=1e-15)
        assert k[1] == pytest.approx([0.1238, 0.2042, 0.1238], abs=5e-5)  # the textbook's table

    def test_gaussian_is_separable_and_wider_with_sigma(self):
        k = bank("gaussian", size=7, sigma=2)
        assert k == pytest.approx(np.outer(k.sum(0), k.sum(1)), rel=1e-14)
        assert k[3, 3] < bank("gaussian", size=7, sigma=1)[3, 3]
        assert kernel("gaussian", size=4) == kernel("gaussian", size=4, sigma=1)

    def test_log_is_minus_one_over_pi_sigma_four_in_the_middle(self):
        # before it is balanced, which moves every number by the same
        k = bank("log", size=9, sigma=1.0)
        assert k[4, 4] - k[4, 5] == pytest.approx(-1 / pi + (1 - 0.5) * exp(-0.5) / pi, rel=1e-12)

    def test_gabor_answers_to_its_own_stripes(self):
        columns = np.tile(np.cos(2 * pi * np.arange(-7, 8) / 6), (15, 1))
        upright, lying = bank("gabor", theta=0), bank("gabor", theta=90)
        assert lying == pytest.approx(upright.T, abs=1e-12)
        assert respond(upright, columns)[0, 0] > 10 * abs(respond(lying, columns)[0, 0])
        wide = np.tile(np.cos(2 * pi * np.arange(-7, 8) / 12), (15, 1))
        assert respond(upright, columns)[0, 0] > respond(upright, wide)[0, 0]

    def test_gabor_phase(self):
        line, edge = bank("gabor", phase=0), bank("gabor", phase=90)
        assert line[:, ::-1] == pytest.approx(line, abs=1e-15)
        assert edge[:, ::-1] == pytest.approx(-edge, abs=1e-15)

    @pytest.mark.parametrize("name", ["ring", "disc"])
    def test_circles_are_found_in_their_centre(self, name):
        rows, columns = np.mgrid[-8:9, -8:9]
        distance = np.hypot(rows, columns)
        image = distance <= 2.5 if name == "disc" else abs(distance - 2.5) <= 0.5
        answer = respond(bank(name), image)
        assert np.unravel_index(answer.argmax(), answer.shape) == (5, 5)

    def test_derivatives(self):
        assert kernel("derivative_x") == ((-1, 1),)
        assert kernel("derivative_x", order=2) == ((1, -2, 1),)
        assert kernel("derivative_x", order=3) == ((-1, 3, -3, 1),)
        assert kernel("derivative_y", order=2) == ((1,), (-2,), (1,))

    @pytest.mark.parametrize("order", [1, 2, 3, 4])
    def test_derivatives_of_polynomials(self, order):
        x = np.arange(8)[None]
        factorial = {1: 1, 2: 2, 3: 6, 4: 24}[order]
        k = bank("derivative_x", order=order)
        assert k.shape == (1, order + 1)
        assert (respond(k, x**order) == factorial).all()
        assert (respond(k, x ** (order - 1)) == 0).all()

    @pytest.mark.parametrize("order", [1024])
    def test_largest_order_is_finite(self, order):
        assert np.isfinite(bank("derivative_y", order=order)).all()


MISTAKES = {
    "name": (("sobel_z", {}), "", "one of box, derivative_x", "'sobel_z'"),
    "parameter of a fixed one": (("sobel_x", {"size": 3}), "", "no parameters for", "size"),
    "parameter": (("gaussian", {"sgima": 1}), "sgima", "one of size, sigma", "'sgima'"),
    "text": (("gaussian", {"sigma": "1"}), "sigma", "a number", "'1' (text)"),
    "half a size": (("gaussian", {"size": 3.5}), "size", "an integer", "3.5"),
    "true": (("gaussian", {"size": True}), "size", "an integer", "true"),
    "no size": (("box", {"size": 0}), "size", "an integer from 1 to 1024", "0"),
    "huge size": (("box", {"size": 2**61}), "size", "an integer from 1 to 1024", "230584300"),
    "no order": (("derivative_x", {"order": 0}), "order", "an integer from 1 to 1024", "0"),
    "even identity": (("identity", {"size": 4}), "size", "an odd number", "4"),
    "no sigma": (("gaussian", {"sigma": 0}), "sigma", "more than 0", "0"),
    "negative": (("log", {"sigma": -1.0}), "sigma", "more than 0", "-1.0"),
    "wavelength": (("gabor", {"wavelength": 0}), "wavelength", "more than 0", "0"),
    "gamma": (("gabor", {"gamma": -0.5}), "gamma", "more than 0", "-0.5"),
    "radius": (("disc", {"radius": 0.0}), "radius", "more than 0", "0.0"),
    "width": (("ring", {"width": 0.0}), "width", "more than 0", "0.0"),
    "infinite": (("gaussian", {"sigma": float("inf")}), "sigma", "a finite number", "inf"),
    "infinite angle": (("gabor", {"theta": float("inf")}), "theta", "a finite number", "inf"),
    "no number": (("gabor", {"phase": float("nan")}), "phase", "a finite number", "nan"),
    "beyond floats": (("gabor", {"sigma": 10**400}), "sigma", "a finite number", "1000"),
    "vanishes": (("gaussian", {"size": 4, "sigma": 0.01}), "", "sizes and widths", "sigma 0.01"),
    "overflows": (("log", {"sigma": 1e100}), "", "sizes and widths", "sigma 1e+100"),
    "underflows": (("gabor", {"sigma": 1e-200}), "", "sizes and widths", "sigma 1e-200"),
}


@pytest.mark.parametrize(("call", "path", "expected", "got"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(call, path, expected, got):
    name, parameters = call
    with pytest.raises(ConfigError) as caught:
        kernel(name, **parameters)
    (problem,) = caught.value.problems
    assert problem.path == path
    assert problem.expected.startswith(expected)
    assert problem.got.startswith(got) or got in problem.got


def test_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'gaussian'"):
        kernel("gausian")
