"""The matrices of Winograd's minimal filtering, for three taps.

F(m, 3) computes m outputs of a filter with three taps from t = m + 2 inputs with t
multiplications instead of 3m (Winograd, *Arithmetic Complexity of Computations*, 1980):

    y = Aᵀ [(G g) ⊙ (Bᵀ d)]

It is the Toom–Cook algorithm turned around. Toom–Cook multiplies polynomials of degree m − 1 and
2: it evaluates both at t points (row (1, p, p², …) for a point p, and the leading coefficient for
∞), multiplies value by value, and interpolates. Multiplying polynomials is the full convolution,
a linear map from t products; filtering is its transpose. So A evaluates a polynomial with m
coefficients, G one with three, divided by the point's Lagrange denominator ∏(p − q) over the
other finite points, and B interpolates: its columns are the Lagrange numerators, and the product
of all (z − q) for ∞. The sign of a column of B may be exchanged with that row of G; here they are
those of Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016
(arXiv:1509.09308).

Points 0, 1, −1, ∞ give F(2, 3); 0, 1, −1, 2, −2, ∞ give F(4, 3). In two dimensions F(m×m, 3×3)
does so down the columns and across the rows: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A.

The powers of the points are what costs accuracy: large terms cancel. The larger the tile, the
fewer multiplications and the more it costs.
"""

from __future__ import annotations

from typing import NamedTuple

Matrix = tuple[tuple[float, ...], ...]


class Matrices(NamedTuple):
    """Bᵀ (t × t), G (t × 3) and Aᵀ (m × t)."""

    input: Matrix
    kernel: Matrix
    output: Matrix


MATRICES = {
    2: Matrices(
        input=(
            (1, 0, -1, 0),
            (0, 1, 1, 0),
            (0, -1, 1, 0),
            (0, 1, 0, -1),
        ),
        kernel=(
            (1, 0, 0),
            (1 / 2, 1 / 2, 1 / 2),
            (1 / 2, -1 / 2, 1 / 2),
            (0, 0, 1),
        ),
        output=(
            (1, 1, 1, 0),
            (0, 1, -1, -1),
        ),
    ),
    4: Matrices(
        input=(
            (4, 0, -5, 0, 1, 0),
            (0, -4, -4, 1, 1, 0),
            (0, 4, -4, -1, 1, 0),
            (0, -2, -1, 2, 1, 0),
            (0, 2, -1, -2, 1, 0),
            (0, 4, 0, -5, 0, 1),
        ),
        kernel=(
            (1 / 4, 0, 0),
            (-1 / 6, -1 / 6, -1 / 6),
            (-1 / 6, 1 / 6, -1 / 6),
            (1 / 24, 1 / 12, 1 / 6),
            (1 / 24, -1 / 12, 1 / 6),
            (0, 0, 1),
        ),
        output=(
            (1, 1, 1, 1, 1, 0),
            (0, 1, -1, 2, -2, 0),
            (0, 1, 1, 4, 4, 0),
            (0, 1, -1, 8, -8, 1),
        ),
    ),
}
"""By m, the outputs of a tile along one axis."""
