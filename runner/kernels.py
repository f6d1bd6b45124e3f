"""A bank of standard kernels, by name.

Written as they are used here: for cross-correlation, so that `sobel_x` answers with a positive
number where the image gets brighter from left to right. Plain Python numbers; no torch.

Sources: Roberts 1963, Prewitt 1970, Sobel & Feldman 1968, Kirsch 1971, Scharr 2000, Marr &
Hildreth 1980 (Laplacian of Gaussian), Gabor 1946 in the two-dimensional form of Daugman 1985.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from math import comb, cos, exp, floor, hypot, pi, sin

from runner.config.errors import describe, did_you_mean, one_of, problem
from runner.config.numbers import array

Matrix = tuple[tuple[float, ...], ...]

FIXED: dict[str, Matrix] = {
    "edge_vertical": ((1, -1),),  # the book's kernel, 6.2.3
    "edge_horizontal": ((1,), (-1,)),
    "edge_diagonal": ((0, 1), (-1, 0)),
    "edge_antidiagonal": ((1, 0), (0, -1)),
    "roberts_x": ((1, 0), (0, -1)),
    "roberts_y": ((0, 1), (-1, 0)),
    "prewitt_x": ((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)),
    "prewitt_y": ((-1, -1, -1), (0, 0, 0), (1, 1, 1)),
    "sobel_x": ((-1, 0, 1), (-2, 0, 2), (-1, 0, 1)),
    "sobel_y": ((-1, -2, -1), (0, 0, 0), (1, 2, 1)),
    "sobel_diagonal": ((-2, -1, 0), (-1, 0, 1), (0, 1, 2)),
    "sobel_antidiagonal": ((0, 1, 2), (-1, 0, 1), (-2, -1, 0)),
    "scharr_x": ((-3, 0, 3), (-10, 0, 10), (-3, 0, 3)),
    "scharr_y": ((-3, -10, -3), (0, 0, 0), (3, 10, 3)),
    "kirsch_north": ((5, 5, 5), (-3, 0, -3), (-3, -3, -3)),
    "kirsch_west": ((5, -3, -3), (5, 0, -3), (5, -3, -3)),
    "laplacian_4": ((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "laplacian_8": ((1, 1, 1), (1, -8, 1), (1, 1, 1)),
    "line_vertical": ((-1, 2, -1), (-1, 2, -1), (-1, 2, -1)),
    "line_horizontal": ((-1, -1, -1), (2, 2, 2), (-1, -1, -1)),
    "line_diagonal": ((2, -1, -1), (-1, 2, -1), (-1, -1, 2)),
    "line_antidiagonal": ((-1, -1, 2), (-1, 2, -1), (2, -1, -1)),
    "sharpen": ((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "emboss": ((-2, -1, 0), (-1, 1, 1), (0, 1, 2)),
}
"""Kernels without parameters."""


def identity(size: int = 3) -> Matrix:
    """One in the middle: the output is the input. Odd `size` only."""
    middle = _odd(size) // 2
    return _matrix(size, lambda y, x: float(y == x == 0), middle)


def box(size: int = 3) -> Matrix:
    """The mean of a square window."""
    return ((1 / _positive(size) ** 2,) * size,) * size


def gaussian(size: int = 5, sigma: float = 1.0) -> Matrix:
    """A Gaussian blur with standard deviation `sigma` pixels, summing to one."""
    _positive(sigma, "sigma")
    return _normalized(_matrix(size, lambda y, x: exp(-(x * x + y * y) / (2 * sigma * sigma))))


def log(size: int = 9, sigma: float = 1.4) -> Matrix:
    """The Laplacian of a Gaussian, shifted to sum to zero, so that flat areas answer zero."""
    _positive(sigma, "sigma")

    def value(y: float, x: float) -> float:
        r = (x * x + y * y) / (2 * sigma * sigma)
        return -(1 - r) * exp(-r) / (pi * sigma**4)

    return _balanced(_matrix(size, value))


def gabor(
    size: int = 15,
    theta: float = 0.0,
    wavelength: float = 6.0,
    sigma: float = 3.0,
    gamma: float = 0.5,
    phase: float = 0.0,
) -> Matrix:
    """A sinusoid under a Gaussian: answers to stripes of one width and direction.

    Args:
        size: window size in pixels.
        theta: direction across the stripes, in degrees; 0 answers to vertical stripes.
        wavelength: pixels from stripe to stripe.
        sigma: standard deviation of the Gaussian across the stripes, in pixels.
        gamma: aspect ratio; below one, the Gaussian is longer along the stripes.
        phase: of the sinusoid, in degrees; 0 is a line detector, 90 an edge detector.
    """
    for name, given in (("wavelength", wavelength), ("sigma", sigma), ("gamma", gamma)):
        _positive(given, name)
    angle, offset = theta * pi / 180, phase * pi / 180

    def value(y: float, x: float) -> float:
        across = x * cos(angle) + y * sin(angle)
        along = y * cos(angle) - x * sin(angle)
        envelope = exp(-(across**2 + (gamma * along) ** 2) / (2 * sigma**2))
        return envelope * cos(2 * pi * across / wavelength + offset)

    return _balanced(_matrix(size, value))


def ring(size: int = 7, radius: float = 2.5, width: float = 1.0) -> Matrix:
    """A circle's outline, shifted to sum to zero: answers most in the centre of such a circle."""
    _positive(radius, "radius")
    _positive(width, "width")
    return _balanced(_matrix(size, lambda y, x: float(abs(hypot(y, x) - radius) <= width / 2)))


def disc(size: int = 7, radius: float = 2.5) -> Matrix:
    """A filled circle, shifted to sum to zero."""
    _positive(radius, "radius")
    return _balanced(_matrix(size, lambda y, x: float(hypot(y, x) <= radius)))


def derivative_x(order: int = 1) -> Matrix:
    """The finite difference of some order from left to right: order 2 is [1, −2, 1].

    It needs order + 1 columns, the fewest that can tell a polynomial of that degree.
    """
    _positive(order, "order")
    return (tuple(float((-1) ** (order - i) * comb(order, i)) for i in range(order + 1)),)


def derivative_y(order: int = 1) -> Matrix:
    """As `derivative_x`, from top to bottom."""
    return tuple((value,) for value in derivative_x(order)[0])


PARAMETRIC: dict[str, Callable[..., Matrix]] = {
    function.__name__: function
    for function in (identity, box, gaussian, log, gabor, ring, disc, derivative_x, derivative_y)
}
"""Kernels with parameters; every parameter has a default, so the bare name works too."""

NAMES = sorted([*FIXED, *PARAMETRIC])
"""Every kernel that can be asked for by name."""

LARGEST = 1024
"""The largest `size` of a kernel by name: beyond any image it could be laid on."""


def kernel(name: str, **parameters: object) -> Matrix:
    """A kernel of the bank.

    Args:
        name: one of `NAMES`.
        **parameters: of that kernel, such as ``size`` and ``sigma``.

    Returns:
        Rows of numbers.

    Raises:
        ConfigError: no such kernel, or parameters it doesn't have or can't use.
    """
    if name not in NAMES:
        raise problem("", one_of(NAMES), f"'{name}'", did_you_mean(name, NAMES))
    if name in FIXED:
        if parameters:
            expected = f"no parameters for '{name}'"
            raise problem("", expected, ", ".join(parameters), "Its size and values are fixed.")
        return FIXED[name]
    function = PARAMETRIC[name]
    known = inspect.signature(function).parameters
    for key, given in parameters.items():
        if key not in known:
            raise problem(key, one_of(known), f"'{key}'", did_you_mean(key, known))
        whole = isinstance(known[key].default, int)
        if isinstance(given, bool) or not isinstance(given, int if whole else int | float):
            raise problem(key, "an integer" if whole else "a number", describe(given))
        if whole and not 1 <= given <= LARGEST:
            raise problem(key, f"an integer from 1 to {LARGEST}", describe(given))
        array(given, key)  # finite
    try:
        return function(**parameters)
    except ArithmeticError:  # an exponential that vanishes everywhere, a square beyond every float
        got = ", ".join(f"{key} {given}" for key, given in parameters.items())
        raise problem("", f"sizes and widths that '{name}' can be drawn with", got) from None


def _matrix(
    size: int, value: Callable[[float, float], float], middle: float | None = None
) -> Matrix:
    """Sample a function of (y, x) on a square grid around its centre."""
    centre = (_positive(size) - 1) / 2 if middle is None else middle
    return tuple(
        tuple(value(row - centre, column - centre) for column in range(size)) for row in range(size)
    )


def _normalized(matrix: Matrix) -> Matrix:
    total = sum(map(sum, matrix))
    return tuple(tuple(value / total for value in row) for row in matrix)


def _balanced(matrix: Matrix) -> Matrix:
    mean = sum(map(sum, matrix)) / (len(matrix) * len(matrix[0]))
    return tuple(tuple(value - mean for value in row) for row in matrix)


def _positive(value: float, name: str = "size") -> int:
    if not value > 0:
        raise problem(name, "more than 0", describe(value))
    return floor(value)


def _odd(size: int) -> int:
    if _positive(size) % 2 == 0:
        raise problem("size", "an odd number, so that there is a middle", describe(size))
    return size
