"""Pooling on CUDA: tables of windows, and blocks of which size."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from runner.geometry import Pair, PoolGeometry
from runner.ops.direct import triton_pool_kernels as kernels
from runner.ops.direct._triton import launch, number, power_of_two

SIGN = {"max": 1, "min": -1, "avg": 0}


class Axis(NamedTuple):
    """The windows along one axis.

    Attributes:
        windows: 4 × windows, as the kernels take them.
        extent: positions of the widest window.
        spans: 2 × positions: the first window that each is in, and the one after the last.
        overlap: the most windows that a position is in.
    """

    windows: Tensor
    extent: int
    spans: Tensor
    overlap: int


def forward(x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """Each output is the largest, smallest or mean number of a window."""
    return _pool(x, None, mode, geometry)


def forward_with_indices(x: Tensor, mode: str, geometry: PoolGeometry) -> tuple[Tensor, Tensor]:
    """As `forward`, with the place of each extreme.

    Places are numbered row by row, within the window where a byte can hold that, otherwise
    within the whole plane.
    """
    shape = (*x.shape[:2], *geometry.output_size((x.shape[2], x.shape[3])))
    places = x.new_empty(shape, dtype=torch.uint8 if _numbered(geometry) else torch.int64)
    return _pool(x, places, mode, geometry), places


def input_gradient(
    grad: Tensor,
    x: Tensor | None,
    indices: Tensor | None,
    size: Pair,
    mode: str,
    geometry: PoolGeometry,
) -> Tensor:
    """An average shares its gradient out evenly; an extreme gives it to where it was found."""
    if mode != "avg" and indices is None:
        assert x is not None
        _, indices = forward_with_indices(x, mode, geometry)
    rows, columns = (_axis(geometry, size, axis, grad.device) for axis in (0, 1))
    found = grad.new_empty(*grad.shape[:2], *size)
    places = None if indices is None else indices.contiguous()
    tables = (rows.windows, columns.windows, rows.spans, columns.spans)
    launch(
        kernels.hand_back,
        _programs(found),
        *(grad.contiguous(), places, found, *tables, *size, *grad.shape[2:]),
        *(rows.overlap, columns.overlap, _width(geometry, size)),
        **_constants(found),
    )
    return found


def _pool(x: Tensor, places: Tensor | None, mode: str, geometry: PoolGeometry) -> Tensor:
    """Every window's extreme or mean, and where extremes are if there is room for that."""
    size = (x.shape[2], x.shape[3])
    rows, columns = (_axis(geometry, size, axis, x.device) for axis in (0, 1))
    y = x.new_empty(*x.shape[:2], *geometry.output_size(size))
    launch(
        kernels.pool,
        _programs(y),
        *(x.contiguous(), y, places, rows.windows, columns.windows, *size, *y.shape[2:]),
        *(rows.extent, columns.extent, _width(geometry, size)),
        SIGN=SIGN[mode],
        **_constants(y),
    )
    return y


def _block(result: Tensor) -> Pair:
    """Rows and columns of a program's 512 results: as wide as the image is, up to 128 columns."""
    columns = min(128, max(8, power_of_two(result.shape[3])))
    return min(512 // columns, power_of_two(result.shape[2])), columns


def _programs(result: Tensor) -> int:
    rows, columns = _block(result)
    n, c, h, w = result.shape
    return n * c * int(triton.cdiv(h, rows)) * int(triton.cdiv(w, columns))


def _constants(result: Tensor) -> dict[str, Any]:
    """What a kernel for that result is compiled for."""
    rows, columns = _block(result)
    warps = min(4, max(1, rows * columns // 32))
    return {"ROWS": rows, "COLUMNS": columns, "NUMBER": number(result.dtype), "num_warps": warps}


def _numbered(geometry: PoolGeometry) -> bool:
    """Whether places are numbered within their window; as `DirectPool.indices` says."""
    return geometry.output is None and geometry.kernel[0] * geometry.kernel[1] <= 256


def _width(geometry: PoolGeometry, size: Pair) -> int:
    """The distance in a place's number from one row to the next."""
    return geometry.kernel[1] if _numbered(geometry) else size[1]


@lru_cache(maxsize=256)
def _axis(geometry: PoolGeometry, size: Pair, axis: int, device: torch.device) -> Axis:
    """Kept, because copying a table to the GPU takes longer than pooling a small image."""
    windows = geometry.windows(size, axis)
    stride, before = geometry.stride[axis], geometry.padding[2 * axis]
    origins = [(i * stride - before) * _numbered(geometry) for i in range(len(windows))]
    starts, stops, counts = zip(*windows, strict=True)
    # Both grow, so that the windows of a position follow each other.
    firsts = [bisect_right(stops, at) for at in range(size[axis])]
    lasts = [bisect_right(starts, at) for at in range(size[axis])]
    return Axis(
        torch.tensor([starts, stops, counts, origins], dtype=torch.int32, device=device),
        max(stop - start for start, stop, _ in windows),
        torch.tensor([firsts, lasts], dtype=torch.int32, device=device),
        max(last - first for first, last in zip(firsts, lasts, strict=True)),
    )
