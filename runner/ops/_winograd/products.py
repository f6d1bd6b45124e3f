"""Products of small matrices, block by block in registers.

After Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication*, 2008.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from runner.ops._compiled import compiled, inlined
from runner.ops._winograd.vectors import BYTES, LANES, ROWS, add_block, turn

Array = NDArray[Any]


@compiled
def multiply(
    a: Array,
    row: int,
    step: int,
    panel: int,
    b: Array,
    pitch: int,
    c: Array,
    to: int,
    sizes: tuple[int, int, int],
    add: bool,
) -> None:
    """C = A B, or C += A B.

    Args:
        a: begins with A.
        row: how far A's rows are apart, ROWS to a panel.
        step: how far its columns are apart.
        panel: how far panels are apart.
        b: begins with B.
        pitch: how far B's rows are apart.
        c: begins with C.
        to: how far C's rows are apart.
        sizes: rows of A, columns of A and columns of B; the first and last multiples of PAD.
        add: whether to add to what C holds.
    """
    rows, depth, columns = sizes
    width = 2 * BYTES // c.itemsize
    for j in range(0, columns, width):  # two vectors' columns of B stay in the first-level cache
        for i in range(0, rows, ROWS):
            above = a[i // ROWS * panel :]
            add_block(above, row, step, b[j:], pitch, c[i * to + j :], to, depth, add)


@inlined
def transpose(a: Array, pitch: int, b: Array, to: int, rows: int, columns: int) -> None:
    """B = Aᵀ, rounded up to whole squares of LANES.

    Args:
        a: begins with A.
        pitch: how far A's rows are apart.
        b: begins with B.
        to: how far B's rows are apart.
        rows: of A.
        columns: of A.
    """
    for i in range(0, rows, LANES):
        for j in range(0, columns, LANES):
            turn(a, i * pitch + j, pitch, b, j * to + i, to)
