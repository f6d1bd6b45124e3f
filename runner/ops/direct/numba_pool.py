"""Pooling on the CPU: which rows and columns every window covers, and who computes which rows.

The loops themselves are in `numba_pool_kernels`. They take planes, the channels of all examples
one after another, and a range of rows counted through all planes, so that a single large image is
shared out among threads like a batch of small ones.
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
from runner.ops.direct import numba_pool_kernels as kernels


class Windows(NamedTuple):
    """The windows of a geometry on an input.

    Attributes:
        rows: a line per output row, as the kernels take it.
        columns: a line per output column.
        width: the distance in a place's number from one row to the next.
        offsets: where each place of a window lies in the plane, from where its places are counted
            from; empty where a place's number says so itself.
        size: height and width of the output.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    width: int
    offsets: NDArray[np.int64]
    size: Pair


@lru_cache(maxsize=256)
def _windows(geometry: PoolGeometry, size: Pair) -> Windows:
    (kh, kw), (oh, ow) = geometry.kernel, geometry.output_size(size)
    lines = [np.array(geometry.windows(size, axis), np.int64) for axis in (0, 1)]
    numbered = geometry.output is None and kh * kw <= 256
    starts = [
        (np.arange(count) * stride - before) * numbered
        for count, stride, before in zip(
            (oh, ow), geometry.stride, geometry.padding[::2], strict=True
        )
    ]
    rows, columns = (np.column_stack(pair) for pair in zip(lines, starts, strict=True))
    if not numbered:
        return Windows(rows, columns, size[1], np.empty(0, np.int64), (oh, ow))
    offsets = np.add.outer(np.arange(kh) * size[1], np.arange(kw)).reshape(-1)
    return Windows(rows, columns, kw, offsets, (oh, ow))


def forward(x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """Each output is the largest, smallest or mean number of a window."""
    windows = _windows(geometry, (x.shape[2], x.shape[3]))
    y = x.new_empty(*x.shape[:2], *windows.size)
    source, result = _planes(x), _planes(y)
    if mode == "avg":
        _by_rows(kernels.means, result, source, result, *windows[:2])
    else:
        sign = _sign(source, mode)
        _by_rows(kernels.extremes, result, source, result, *windows[:2], sign)
    return y


def forward_with_indices(x: Tensor, mode: str, geometry: PoolGeometry) -> tuple[Tensor, Tensor]:
    """As `forward`, with the place of each extreme.

    Places are numbered row by row, within the window where a byte can hold that, otherwise
    within the whole plane.
    """
    windows = _windows(geometry, (x.shape[2], x.shape[3]))
    y = x.new_empty(*x.shape[:2], *windows.size)
    indices = torch.empty(y.shape, dtype=torch.uint8 if windows.offsets.size else torch.int64)
    source, result, found = _planes(x), _planes(y), _planes(indices)
    line, sign = windows[:3], _sign(source, mode)
    _by_rows(kernels.places, result, source, result, found, *line, sign)
    return y, indices


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
    windows = _windows(geometry, size)
    found = grad.new_empty(*grad.shape[:2], *size)
    source, result = _planes(grad), _planes(found)
    if indices is None:
        _by_rows(kernels.spread, result, source, result, *windows[:2])
    else:
        line = (*windows[:2], windows.offsets)
        _by_rows(kernels.scatter, result, source, _planes(indices), result, *line)
    return found


def _planes(x: Tensor) -> NDArray[Any]:
    """Channels of all examples one after another."""
    return array(x).reshape(-1, x.shape[2], x.shape[3])


def _sign(x: NDArray[Any], mode: str) -> Any:
    return x.dtype.type(1 if mode == "max" else -1)


def _by_rows(kernel: Callable[..., None], result: NDArray[Any], *args: Any) -> None:
    """Compute the rows of all planes of a result."""
    share(lambda start, stop: kernel(*args, start, stop), result.shape[0] * result.shape[1])
