"""The convolution and its gradients by transforms, tile by tile.

All three see input and kernels as phases (`tiles.Phases`), so that stride and dilation are gone.
Letters: n examples, g groups, c and o channels of a group, summed and coming out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch.nn.functional as F
from torch import Tensor, unflatten
from torch.fft import irfft2, rfft2

from runner.geometry import ConvGeometry, Pair
from runner.ops.fft.tiles import Correlation, Phases, Tile, best_tile

Index = Any  # what a tensor takes between brackets


def forward(x: Tensor, weight: Tensor, geometry: ConvGeometry) -> Tensor:
    """The cross-correlation, without a bias."""
    size, groups = (x.shape[2], x.shape[3]), geometry.groups
    phases = Phases.of(geometry, size)
    y = x.new_empty(x.shape[0], weight.shape[0], *geometry.output_size(size))
    kernels = _kernel_phases(weight, geometry, phases)
    _correlate(_input_phases(x, geometry, phases), kernels, unflatten(y, 1, (groups, -1)))
    return y


def input_gradient(grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry) -> Tensor:
    """The correlation of the gradient, zeros all around it, with the flipped kernels."""
    groups, (top, _, left, _) = geometry.groups, geometry.padding
    phases = Phases.of(geometry, size)
    kh, kw = phases.kernel
    around = unflatten(F.pad(grad, (kw - 1, kw - 1, kh - 1, kh - 1)), 1, (groups, -1))
    kernels = _kernel_phases(weight, geometry, phases).flip(-2, -1).transpose(1, 2)
    # Windows may leave pixels out: zeros.
    padded = grad.new_zeros(grad.shape[0], groups, weight.shape[1], *phases.padded)
    # The padding's rows and columns are left out.
    (i, j), (m, n) = phases.first, phases.stop
    _correlate(around[..., i:, j:], kernels, _phased(padded, phases, phases.reach)[..., i:m, j:n])
    inside = padded[..., top : top + size[0], left : left + size[1]]
    return inside.flatten(1, 2).contiguous()


def weight_gradient(grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
    """The correlation of input and gradient, at as many lags as a kernel has elements."""
    phases = Phases.of(geometry, (x.shape[2], x.shape[3]))
    inputs, outputs = _input_phases(x, geometry, phases), unflatten(grad, 1, (geometry.groups, -1))
    g, o, c = *outputs.shape[1:3], inputs.shape[2:5].numel()
    tile = _tile(outputs, phases.kernel, c, o)
    total = _spectra(x.new_zeros(g, o, c, 1, 1), tile)
    for window, block in _tiles(outputs, tile):
        left = _spectra(inputs[window].flatten(2, -3), tile)[:, :, None]
        right = _spectra(outputs[block], tile).conj_physical_()[:, :, :, None]
        total += _sum_of_products(left, right)
    kh, kw = phases.kernel
    lags = irfft2(total, s=tile.transform)[..., :kh, :kw]
    dilated = x.new_zeros(g, o, inputs.shape[2], *phases.dilated)
    _phased(dilated, phases, phases.kernel).copy_(unflatten(lags, 2, inputs.shape[2:5]))
    return _elements(dilated, geometry).flatten(0, 1).contiguous()


def _correlate(x: Tensor, kernels: Tensor, y: Tensor) -> None:
    """Fill y, n × g × … × oh × ow, from x, n × g × … × h × w, and kernels, g × o × c × kh × kw."""
    o, c, kh, kw = kernels.shape[1:]
    tile = _tile(y, (kh, kw), c, o)
    conjugate = _spectra(kernels, tile).conj_physical_().movedim(2, 0)
    for window, block in _tiles(y, tile):
        spectra = _spectra(x[window].flatten(2, -3), tile).movedim(2, 0)[:, :, :, None]
        found = irfft2(_sum_of_products(spectra, conjugate), s=tile.transform)
        place = y[block]
        h, w = place.shape[-2:]
        place.copy_(unflatten(found[..., :h, :w], 2, place.shape[2:-2]))


PART = 64
"""Products that are added up one by one, at most."""


def _sum_of_products(left: Tensor, right: Tensor) -> Tensor:
    """Σ left[i] · right[i], broadcast; one product at a time, so that the sum stays in cache.

    Long sums are added up in halves: one by one, each product would be rounded to all before it.
    """
    if len(left) > PART:
        half = len(left) // 2
        first = _sum_of_products(left[:half], right[:half])
        return first.add_(_sum_of_products(left[half:], right[half:]))
    total: Tensor = left[0] * right[0]
    for one, other in zip(left[1:], right[1:], strict=True):
        total.addcmul_(one, other)
    return total


def _spectra(x: Tensor, tile: Tile) -> Tensor:
    """Spectra of maps that are at most as large as a tile, in single precision at least."""
    found: Tensor = rfft2(x.float() if x.element_size() < 4 else x, s=tile.transform)
    return found


# Tiles -------------------------------------------------------------------------------------------


def _tile(y: Tensor, kernel: Pair, inputs: int, outputs: int) -> Tile:
    size = (y.shape[-2], y.shape[-1])
    return best_tile(Correlation(size, kernel, inputs, outputs, y.shape[1]), y.shape[0])


def _tiles(y: Tensor, tile: Tile) -> Iterator[tuple[Index, Index]]:
    """What each tile reads of the input, and what of y it gives."""
    (th, tw), (bh, bw) = tile.transform, tile.block
    for n in range(0, y.shape[0], tile.together):
        examples = slice(n, n + tile.together)
        for i in range(0, y.shape[-2], bh):
            for j in range(0, y.shape[-1], bw):
                window = (examples, ..., slice(i, i + th), slice(j, j + tw))
                yield window, (examples, ..., slice(i, i + bh), slice(j, j + bw))


# Phases ------------------------------------------------------------------------------------------


def _phased(x: Tensor, phases: Phases, reach: Pair) -> Tensor:
    """… × whole strides down × across as … × phases × rows × columns of each, a view."""
    (sh, sw), (ph, pw), (h, w) = phases.stride, phases.number, reach
    by_stride = unflatten(unflatten(x, -2, (-1, sh)), -1, (-1, sw))
    sorted_out = by_stride.movedim((-3, -1), (-4, -3))
    return sorted_out[..., :ph, :pw, :h, :w]


def _input_phases(x: Tensor, geometry: ConvGeometry, phases: Phases) -> Tensor:
    """Of the padded input: n × g × c × phases × rows × columns."""
    (top, _, left, _), (h, w) = geometry.padding, phases.padded
    sides = (left, w - left - x.shape[3], top, h - top - x.shape[2])
    padded = F.pad(x, sides) if any(sides) else x
    return _phased(unflatten(padded, 1, (geometry.groups, -1)), phases, phases.reach)


def _kernel_phases(weight: Tensor, geometry: ConvGeometry, phases: Phases) -> Tensor:
    """Of the dilated kernels, to be summed like channels: g × o × c · phases × rows × columns."""
    dilated = weight.new_zeros(*weight.shape[:2], *phases.dilated)
    _elements(dilated, geometry).copy_(weight)
    grouped = unflatten(dilated, 0, (geometry.groups, -1))
    return _phased(grouped, phases, phases.kernel).flatten(2, 4)


def _elements(dilated: Tensor, geometry: ConvGeometry) -> Tensor:
    """The elements of dilated kernels, a view."""
    (eh, ew), (dh, dw) = geometry.extent, geometry.dilation
    return dilated[..., :eh:dh, :ew:dw]
