"""Pooling on the CPU: which rows and columns every window covers, and who computes which rows.

The loops themselves are in `numba_pool_kernels` and `numba_pool_gradients`. They take planes, the
channels of all examples one after another, and a range of rows counted through all planes, so that
a single large image is shared out among threads like a batch of small ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from runner.geometry import Pair, PoolGeometry
from runner.ops._compiled import array, share
from runner.ops.direct import numba_pool_gradients as gradients
from runner.ops.direct import numba_pool_kernels as kernels

VECTORISED = ((2, 2), (2, 3), (1, 3))
"""Steps and widths of windows across a row for which the places of extremes have own loops."""


class Windows(NamedTuple):
    """The windows of a geometry on an input.

    Attributes:
        rows: a line per output row, as the kernels take it.
        columns: a line per output column.
        grid: padding on the left, step and width; a step of 0 where windows differ.
        distance: how much a place's number grows from one row of a window to the next.
        offsets: how far each place of a window lies in memory from the window's first; empty
            where a place's number says that itself.
        size: height and width of the output.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    grid: tuple[int, int, int]
    distance: int
    offsets: NDArray[np.int64]
    size: Pair


@lru_cache(maxsize=256)
def _windows(geometry: PoolGeometry, size: Pair) -> Windows:
    (kh, kw), (oh, ow), w = geometry.kernel, geometry.output_size(size), size[1]
    rows, columns = (_lines(geometry, size, axis) for axis in (0, 1))
    grid = (geometry.padding[2], geometry.stride[1], kw)
    if geometry.output is not None:
        grid = (0, 0, 0) if w % ow else (0, w // ow, w // ow)
    elif max(grid[0] + w, (ow - 1) * grid[1] + kw) > 4 * w + 64:
        grid = (0, 0, 0)  # mostly padding: a padded row is not worth its memory
    if geometry.output is not None or kh * kw > 256:
        return Windows(rows, columns, grid, w, np.empty(0, np.int64), (oh, ow))
    offsets = np.add.outer(np.arange(kh) * w, np.arange(kw)).reshape(-1)
    return Windows(rows, columns, grid, kw, offsets, (oh, ow))


def _lines(geometry: PoolGeometry, size: Pair, axis: int) -> NDArray[np.int64]:
    windows = np.array(geometry.windows(size, axis), np.int64)
    origins = windows[:, 0]
    if geometry.output is None:
        origins = np.arange(len(windows)) * geometry.stride[axis] - geometry.padding[2 * axis]
    return np.column_stack((windows, origins))


def forward(x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """Each output is the largest, smallest or mean number of a window."""
    windows, source = _windows(geometry, (x.shape[2], x.shape[3])), _planes(x)
    y = np.empty((len(source), *windows.size), source.dtype)
    if mode == "avg":
        _by_rows(kernels.means, y, source, source, y, *windows[:3])
    else:
        _by_rows(kernels.extremes, y, source, source, y, *windows[:3], _sign(source, mode))
    return _channels(y, x)


def forward_with_indices(x: Tensor, mode: str, geometry: PoolGeometry) -> tuple[Tensor, Tensor]:
    """As `forward`, with the place of each extreme.

    Places are numbered row by row from the window's first, in the padding or not: within the
    window where a byte can hold that, otherwise by their distance in memory.
    """
    windows, source = _windows(geometry, (x.shape[2], x.shape[3])), _planes(x)
    y = np.empty((len(source), *windows.size), source.dtype)
    found = np.empty(y.shape, np.uint8 if windows.offsets.size else np.int64)
    (rows, columns, grid, distance), sign = windows[:4], _sign(source, mode)
    if grid[1:] in VECTORISED:
        line = (source, y, found, rows, columns, grid, distance, sign)
        _by_rows(kernels.places(*grid[1:]), y, source, *line)
    else:
        _by_rows(kernels.extremes, y, source, source, y, rows, columns, grid, sign)
        _by_rows(kernels.find, y, source, source, y, found, rows, columns, distance)
    return _channels(y, x), _channels(found, x)


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
    windows, source = _windows(geometry, size), _planes(grad)
    found = np.empty((len(source), *size), source.dtype)
    if indices is None:
        _by_rows(gradients.spread, found, found, source, found, *windows[:3])
    elif windows.grid[1:] == (2, 2) and windows.offsets.size:
        pairs = (source, _planes(indices), found, windows.rows, windows.grid[0])
        _by_rows(gradients.scatter_pairs, found, found, *pairs)
    else:
        scattered = (source, _planes(indices), found, *windows[:2], windows.offsets)
        _by_rows(gradients.scatter, found, found, *scattered)
    return _channels(found, grad)


def _planes(x: Tensor) -> NDArray[Any]:
    """Channels of all examples one after another."""
    return array(x).reshape(-1, x.shape[2], x.shape[3])


def _channels(planes: NDArray[Any], like: Tensor) -> Tensor:
    """Examples and channels as they were; not a view, which couldn't be changed in place."""
    return torch.from_numpy(planes.reshape(*like.shape[:2], *planes.shape[1:]))


def _sign(x: NDArray[Any], mode: str) -> Any:
    return x.dtype.type(1 if mode == "max" else -1)


def _by_rows(
    kernel: Callable[..., None], result: NDArray[Any], larger: NDArray[Any], *args: Any
) -> None:
    """Compute the rows of all planes of a result; the larger array says how long that takes."""
    cost = larger.nbytes * 1e-4
    share(lambda start, stop: kernel(*args, start, stop), result.shape[0] * result.shape[1], cost)
