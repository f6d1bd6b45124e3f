"""Minimal filtering on the CPU: compiled transforms around matrix products, block by block.

For each of the t² elements of a tile, all channels of a block of tiles are one matrix product:
c_out × c_in times c_in × tiles. Blocks are small enough for their transforms and products to stay
in the cache, and large enough for the products to run at full speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runner.geometry import Pair
from runner.ops._compiled import array, share
from runner.ops._winograd import block_of, reference, tiles


def correlate(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    corner: Pair,
    size: Pair,
    groups: int,
    m: int,
) -> Tensor:
    """As `reference.correlate`."""
    n, c_in, c_out = x.shape[0], weight.shape[1], weight.shape[0] // groups
    y = x.new_empty(n, groups * c_out, *size)
    rows, columns = -(-size[0] // m), -(-size[1] // m)
    images, maps = array(x).reshape(-1), array(y).reshape(-1)
    biases = array(y.new_zeros(groups * c_out) if bias is None else bias)
    for group in range(groups):
        kernels = reference.transform_kernels(weight[group * c_out : (group + 1) * c_out], m)
        taken = (*x.shape[1:], group * c_in, rows, columns, *corner)
        laid = (*y.shape[1:], group * c_out, rows, columns, 0, 0)
        for first, count in _blocks(n * rows * columns, c_in + c_out, m):
            inputs = x.new_empty((m + 2) ** 2, c_in, count)
            _transform(tiles.to_products, images, taken, m, first, inputs)
            _lay(_products(kernels, inputs), biases, laid, m, first, maps)
    return y


def weight_gradient(grad: Tensor, x: Tensor, corner: Pair, groups: int, m: int) -> Tensor:
    """As `reference.weight_gradient`."""
    n, c_in, c_out = x.shape[0], x.shape[1] // groups, grad.shape[1] // groups
    rows, columns = -(-grad.shape[2] // m), -(-grad.shape[3] // m)
    images, maps = array(x).reshape(-1), array(grad).reshape(-1)
    found = []
    for group in range(groups):
        taken = (*x.shape[1:], group * c_in, rows, columns, *corner)
        given = (*grad.shape[1:], group * c_out, rows, columns, 0, 0)
        sums = x.new_zeros((m + 2) ** 2, c_out, c_in)
        for first, count in _blocks(n * rows * columns, c_in + c_out, m):
            inputs = x.new_empty((m + 2) ** 2, c_in, count)
            _transform(tiles.to_products, images, taken, m, first, inputs)
            outputs = x.new_empty((m + 2) ** 2, c_out, count)
            _transform(tiles.outputs_to_products, maps, given, m, first, outputs)
            for total, product in zip(sums, _products(outputs, inputs.mT), strict=True):
                total += product
        found.append(reference.transform_back(sums, m))
    return torch.cat(found)


def _blocks(count: int, channels: int, m: int) -> Iterator[tuple[int, int]]:
    """First tile and number of tiles of every block; blocks are about equal."""
    parts = max(-(-count // block_of(channels, m)), 1)
    for part in range(parts):
        first, stop = count * part // parts, count * (part + 1) // parts
        if stop > first:
            yield first, stop - first


def _transform(
    transform: Any, images: tiles.Array, tiling: tiles.Tiling, m: int, first: int, found: Tensor
) -> None:
    """Transform a block's tiles: t² × channels × tiles."""
    _, channels, count = found.shape
    target = array(found).reshape(-1)

    def work(start: int, stop: int) -> None:
        transform(images, tiling, m, first, count, target, channels * count, start, stop)

    share(work, channels * -(-count // tiles.STRIP), channels * count * COST)


def _lay(
    products: Sequence[Tensor],
    biases: tiles.Array,
    tiling: tiles.Tiling,
    m: int,
    first: int,
    maps: tiles.Array,
) -> None:
    """Transform a block's products back to where they belong in the output."""
    channels, count = products[0].shape
    # oneDNN's products lie apart: they are found by their distance from the first in memory.
    lowest = min(products, key=Tensor.data_ptr)
    places = np.array([product.data_ptr() for product in products])
    places = (places - lowest.data_ptr()) // lowest.element_size()
    taken = array(lowest).reshape(-1)

    def work(start: int, stop: int) -> None:
        args = (biases, tiling, m, first, count, maps, start, stop)
        tiles.from_products(taken, places, *args)

    share(work, channels * -(-count // tiles.STRIP), channels * count * COST)


COST = 0.05
"""Microseconds that transforming one tile takes, about."""


def _products(left: Tensor, right: Tensor) -> Sequence[Tensor]:
    """One matrix product for every element of a tile: t² × p × q times t² × q × r."""
    if (
        _has_onednn()
        and left.dtype == torch.float32
        and min(left.shape[1:] + right.shape[2:]) >= 32
    ):
        linear: Any = torch.ops.mkldnn._linear_pointwise
        return [linear(p, q.T, None, "none", [], "") for p, q in zip(left, right, strict=True)]
    return torch.bmm(left, right).unbind()


def _has_onednn() -> bool:
    """Whether torch can be asked for oneDNN's product.

    It is up to twice as fast as the one behind `torch.bmm` where MKL makes no use of a
    processor's AVX-512.
    """
    there: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # torch's
    return there and hasattr(torch.ops.mkldnn, "_linear_pointwise")
