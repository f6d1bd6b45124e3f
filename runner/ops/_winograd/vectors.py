"""The innermost parts, written in LLVM's vectors.

Numba writes loops over single numbers, and leaves it to LLVM to find what can be done side by side.
LLVM does so for lines; it doesn't keep a block of sums in registers, or transpose by exchanging
halves. Functions here write such instructions down themselves, as part of the compiled function
that calls them. They look at no sizes: what they are handed must be long enough.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from itertools import product
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]  # it has no types
from llvmlite.binding import get_host_cpu_features  # type: ignore[import-untyped]  # as above
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FEATURES = get_host_cpu_features()

BYTES = 64 if _FEATURES.get("avx512f") else 32 if _FEATURES.get("avx") else 16
"""Of a vector register."""

ROWS = 4 if BYTES == 32 else 8
"""Rows of sums kept in registers: with AVX and AVX2 there are 16, with AVX-512 and on ARM 32."""

LANES = 16
"""Numbers that are copied or transposed together."""


def _written(write: Callable[..., None]) -> Any:
    """A function for compiled code, from one that writes its instructions.

    Arrays are handed to it as pointers to their first number.
    """

    @wraps(write)
    def typed(_: Any, *given: Any) -> Any:
        kinds = [kind if isinstance(kind, types.Array) else types.intp for kind in given]

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            del signature
            write(
                builder,
                *(
                    context.make_array(kind)(context, builder, value).data
                    if isinstance(kind, types.Array)
                    else value
                    for kind, value in zip(kinds, args, strict=True)
                ),
            )
            return context.get_dummy_value()

        return types.void(*kinds), generate

    return intrinsic(typed)


@_written
def add_block(
    builder: Any,
    a: Any,
    row: Any,
    step: Any,
    b: Any,
    pitch: Any,
    c: Any,
    to: Any,
    depth: Any,
    add: Any,
) -> None:
    """C = A B or C += A B, for ROWS rows of A and C, and two vectors' columns of B and C.

    Every step of the sum takes one column of A and one row of B.

    Args:
        builder: writes instructions.
        a: begins with A.
        row: how far A's rows are apart.
        step: how far A's columns are apart.
        b: begins with B.
        pitch: how far B's rows are apart.
        c: begins with C.
        to: how far C's rows are apart.
        depth: columns of A and rows of B.
        add: 1 to add to what C holds.
    """
    lanes = BYTES // _bytes(a)
    block = list(product(range(ROWS), range(2)))
    zero = ir.Constant(ir.VectorType(a.type.pointee, lanes), [0.0] * lanes)
    sums = {place: cgutils.alloca_once_value(builder, zero) for place in block}  # type: ignore[no-untyped-call]  # Numba's
    with cgutils.for_range(builder, depth) as loop:
        line = builder.gep(b, [builder.mul(loop.index, pitch)])
        column = builder.gep(a, [builder.mul(loop.index, step)])
        right = [_load(builder, _beyond(builder, line, lanes * v), lanes) for v in range(2)]
        left = [_splat(builder, _beyond(builder, column, row, r), lanes) for r in range(ROWS)]
        for r, v in block:
            term = builder.fmul(left[r], right[v], flags=["contract"])
            total = builder.fadd(builder.load(sums[r, v]), term, flags=["contract"])
            builder.store(total, sums[r, v])
    results = {(r, v): _beyond(builder, _beyond(builder, c, to, r), lanes * v) for r, v in block}
    with builder.if_then(builder.trunc(add, ir.IntType(1))):
        for place in block:
            before = _load(builder, results[place], lanes)
            builder.store(builder.fadd(before, builder.load(sums[place])), sums[place])
    for place in block:
        _store(builder, builder.load(sums[place]), results[place])


@_written
def copy(builder: Any, source: Any, at: Any, target: Any, to: Any) -> None:
    """Copy LANES numbers; in Numba making slices takes longer than copying what is in them."""
    _store(builder, _load(builder, builder.gep(source, [at]), LANES), builder.gep(target, [to]))


@_written
def turn(builder: Any, source: Any, at: Any, pitch: Any, target: Any, to: Any, turned: Any) -> None:
    """Transpose a square of LANES × LANES numbers.

    Of rows that are 8 apart opposite halves are exchanged, of those 4 apart quarters, and so on.

    Args:
        builder: writes instructions.
        source: holds the square.
        at: where it begins there.
        pitch: how far its rows are apart.
        target: filled.
        to: where the result begins there.
        turned: how far its rows are apart.
    """
    start, end = builder.gep(source, [at]), builder.gep(target, [to])
    rows = [_load(builder, _beyond(builder, start, pitch, r), LANES) for r in range(LANES)]
    kind = ir.VectorType(ir.IntType(32), LANES)
    step = LANES // 2
    while step:
        # Numbers of the second row count on from those of the first.
        upper = ir.Constant(kind, [k + LANES - step if k & step else k for k in range(LANES)])
        lower = ir.Constant(kind, [k + LANES if k & step else k + step for k in range(LANES)])
        for r in (r for r in range(LANES) if not r & step):
            pair = rows[r], rows[r + step]
            rows[r] = builder.shuffle_vector(*pair, upper)
            rows[r + step] = builder.shuffle_vector(*pair, lower)
        step //= 2
    for r in range(LANES):
        _store(builder, rows[r], _beyond(builder, end, turned, r))


def _beyond(builder: Any, pointer: Any, distance: Any, times: int = 1) -> Any:
    if isinstance(distance, int):
        distance = ir.Constant(ir.IntType(64), distance)
    return builder.gep(pointer, [builder.mul(distance, distance.type(times))])


def _load(builder: Any, pointer: Any, lanes: int) -> Any:
    vector = ir.VectorType(pointer.type.pointee, lanes).as_pointer()
    return builder.load(builder.bitcast(pointer, vector), align=_bytes(pointer))


def _store(builder: Any, vector: Any, pointer: Any) -> None:
    builder.store(vector, builder.bitcast(pointer, vector.type.as_pointer()), align=_bytes(pointer))


def _splat(builder: Any, pointer: Any, lanes: int) -> Any:
    """A vector of the same number everywhere."""
    number, index = builder.load(pointer), ir.IntType(32)
    nothing = ir.Constant(ir.VectorType(number.type, lanes), ir.Undefined)
    one = builder.insert_element(nothing, number, index(0))
    return builder.shuffle_vector(
        one, nothing, ir.Constant(ir.VectorType(index, lanes), [0] * lanes)
    )


def _bytes(pointer: Any) -> int:
    """Of a number pointed to."""
    return 4 if isinstance(pointer.type.pointee, ir.FloatType) else 8
