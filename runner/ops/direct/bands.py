"""How a convolution's input is cut into bands of rows; plain Python, so that a plan can ask."""

from __future__ import annotations

from runner.geometry import ConvGeometry

BAND = 2**15
"""Numbers of input in a band; 128 KiB in float32, a fraction of a core's second-level cache."""

UNROLLED = {(1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (3, 3), (5, 5), (7, 7)}
"""Kernels that have loops of their own; each takes some seconds to compile, once."""

NARROW = 96
"""Below this width the rows of a band are computed as one long row, which vectorises better.

What comes out between the rows, of windows that reach around an edge, is left out."""

MOST_CHANNELS = 256
"""Of a group; beyond, adding them up one by one in float32 would lose too much."""


def rows(ins: int, oh: int, ow: int, geometry: ConvGeometry) -> int:
    """How many rows of the output are computed from one band of `ins` input channels."""
    return min(max(BAND // (ins * width(ow, geometry) * geometry.stride[0]), 1), oh)


def width(ow: int, geometry: ConvGeometry) -> int:
    """Columns of the padded input that the windows of a row see."""
    return (ow - 1) * geometry.stride[1] + geometry.extent[1]


def unrolled(ins: int, geometry: ConvGeometry) -> bool:
    """Whether there are loops for this very kernel."""
    simple = geometry.stride == geometry.dilation == (1, 1) and ins <= MOST_CHANNELS
    return simple and geometry.kernel in UNROLLED


def in_place(w: int, ow: int, ins: int, geometry: ConvGeometry) -> bool:
    """Whether outputs whose windows reach into padding are computed by themselves.

    The others are then computed from the input as it is. Elsewhere bands of the input are copied
    with their padding.

    Args:
        w: the input's width.
        ow: the output's.
        ins: input channels of a group.
        geometry: the window.
    """
    return unrolled(ins, geometry) and ow >= NARROW and w > geometry.kernel[1]


def seconds(products: int, moved: int, ins: int, geometry: ConvGeometry) -> float:
    """About how long one core takes, measured on a 3 GHz core with AVX-512.

    Args:
        products: multiply-adds.
        moved: numbers read or written once.
        ins: input channels of a group.
        geometry: the window.
    """
    rate = 3e10 if unrolled(ins, geometry) else 6e9 if geometry.stride[1] == 1 else 1.5e9
    return products / rate + 1.5e-10 * moved
