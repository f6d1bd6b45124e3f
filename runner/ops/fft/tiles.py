"""How a convolution is cut up for its transforms: into phases by its stride, and into tiles.

Plain arithmetic, so that a plan can ask for memory and time.
"""

from __future__ import annotations

from functools import cache, lru_cache
from itertools import product
from math import log2
from typing import NamedTuple

from runner.geometry import ConvGeometry, Pair

PARTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
"""Into how many tiles an axis may be cut."""
CACHED = 2**18
"""Numbers of the examples that are transformed together: 1 MiB of float32, a processor's cache."""
PER_POINT, PER_PRODUCT, PER_TILE = 1.7e-10, 0.35e-9, 4e-5
"""Seconds of one core: of a transform per point and log₂ of its points, of a product of spectra
per point, and of the calls that a tile takes."""
SPILLED = 1.4
"""How much longer a transform takes that leaves the cache."""


class Phases(NamedTuple):
    """A strided, dilated, padded convolution as a correlation at stride 1 of more channels.

    An output only meets every s-th pixel with every s-th element of the dilated kernel. Sorted by
    their remainders modulo s, pixels and elements fall into s phases per axis that correlate at
    stride 1, and add up like channels (a polyphase decomposition).

    Attributes:
        stride: step down and across.
        number: of phases down and across; a kernel shorter than the stride doesn't reach all.
        kernel: rows and columns of each phase of the dilated kernel, filled up with zeros.
        reach: rows and columns of each phase of the padded input that the windows see.
        first: row and column of each phase with the image's first pixels; before, all is padding.
        stop: row and column after its last ones.
        padded: height and width to which the input is padded: whole strides, all of the input.
    """

    stride: Pair
    number: Pair
    kernel: Pair
    reach: Pair
    first: Pair
    stop: Pair
    padded: Pair

    @property
    def dilated(self) -> Pair:
        """Height and width of the dilated kernel, filled up to whole strides."""
        (kh, kw), (sh, sw) = self.kernel, self.stride
        return (kh * sh, kw * sw)

    @classmethod
    def of(cls, geometry: ConvGeometry, size: Pair) -> Phases:
        """The phases for an input of this height and width."""
        axes = zip(
            geometry.extent,
            geometry.stride,
            geometry.output_size(size),
            size,
            geometry.padding[::2],
            strict=True,
        )
        found = []
        for extent, stride, outputs, n, before in axes:
            kernel = -(-extent // stride)
            reach = outputs + kernel - 1
            first, stop = before // stride, -(-(before + n) // stride)
            phases = min(stride, extent)
            found.append((stride, phases, kernel, reach, first, stop, stride * max(reach, stop)))
        return cls(*zip(*found, strict=True))


class Correlation(NamedTuple):
    """A correlation at stride 1, without padding or dilation.

    Attributes:
        output: height and width of the output.
        kernel: height and width of the kernels.
        inputs: channels of a group that are summed.
        outputs: channels of a group that come out.
        groups: of channels.
    """

    output: Pair
    kernel: Pair
    inputs: int
    outputs: int
    groups: int


class Tile(NamedTuple):
    """The size of the transforms. Tiles of the input overlap by a kernel less one: overlap-save.

    Attributes:
        transform: rows and columns of input that are transformed at once.
        block: rows and columns of output that come of it.
        together: how many examples are transformed at once.
        numbers: held for one example's tile and for the kernels, at most.
        seconds: that one core takes for all, about.
    """

    transform: Pair
    block: Pair
    together: int
    numbers: int
    seconds: float


@lru_cache(maxsize=4096)
def best_tile(what: Correlation, examples: int = 1) -> Tile:
    """The tile that takes the least time.

    Large tiles repeat less of the overlap; small ones stay in the cache, and so do the kernels'
    spectra, which are as large as a tile.
    """
    heights, widths = (
        {fast_length(-(-n // parts) + k - 1) for parts in PARTS if parts <= max(n, 1)}
        for n, k in zip(what.output, what.kernel, strict=True)
    )
    tiles = (_tile(what, examples, size) for size in product(heights, widths))
    return min(tiles, key=lambda tile: tile.seconds)


def _tile(what: Correlation, examples: int, transform: Pair) -> Tile:
    (h, w), (kh, kw) = transform, what.kernel
    block = (h - kh + 1, w - kw + 1)
    points = h * 2 * (w // 2 + 1)  # numbers of a spectrum, whose other half mirrors it
    maps = (what.inputs + what.outputs) * what.groups
    kernels = what.inputs * what.outputs * what.groups
    together = max(1, min(examples, CACHED // (maps * points)))
    tiles = -(-what.output[0] // block[0]) * -(-what.output[1] // block[1])
    transformed = PER_POINT * points * log2(points) * (SPILLED if points > CACHED else 1)
    each = transformed * maps + PER_PRODUCT * points * kernels
    calls = PER_TILE * -(-examples // together)
    seconds = tiles * (each * examples + calls) + transformed * kernels
    numbers = (3 * maps + 2 * kernels) * points
    return Tile(transform, block, together, numbers, seconds)


@cache
def fast_length(n: int) -> int:
    """The least multiple of 4 from n up without a prime factor above 7: those transform fast."""
    best, odds = max(4, 1 << (n - 1).bit_length()), [1]
    for prime in (3, 5, 7):
        odds += [odd * prime**e for odd in odds for e in range(1, 64) if odd * prime**e < best]
    for odd in odds:
        best = min(best, odd * max(4, 1 << (-(-n // odd) - 1).bit_length()))
    return best
