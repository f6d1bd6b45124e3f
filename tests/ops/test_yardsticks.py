"""`loops` is the specification, so it is measured against code that nobody here wrote."""

import numpy as np
import pytest
import scipy.signal
import torch
from checker import Conv, Pool, assert_close_to_reference, normal
from numpy.lib.stride_tricks import sliding_window_view

from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import conv_op, pool_op

conv, pool = Conv(conv_op("loops")), Pool(pool_op("loops"))
SIZES = [((7, 9), (3, 3)), ((5, 5), (2, 4)), ((4, 8), (1, 5)), ((6, 3), (6, 3)), ((9, 9), (4, 1))]


@pytest.mark.parametrize(("size", "kernel"), SIZES)
@pytest.mark.parametrize("flip", [False, True], ids=["correlate", "convolve"])
def test_scipy(size, kernel, flip):
    x, k = normal(*size), normal(*kernel, seed=1)
    kh, kw = kernel
    theirs = scipy.signal.convolve2d if flip else scipy.signal.correlate2d
    mine = k.flip(0, 1) if flip else k
    # scipy centres `same` like the middle of `full`, the later one of two for even kernels
    paddings = {
        "valid": (0, 0, 0, 0),
        "full": (kh - 1, kh - 1, kw - 1, kw - 1),
    }
    for mode, padding in paddings.items():
        window = ConvGeometry(kernel, padding=padding)
        y = conv(x[None, None], mine[None, None], None, window)[0, 0]
        assert_close_to_reference(y, torch.from_numpy(theirs(x.numpy(), k.numpy(), mode)))


@pytest.mark.parametrize("boundary", ["circular", "reflect"])
def test_scipy_same_size(boundary):
    from runner.functional import conv2d

    x, k = normal(6, 7), normal(3, 3, seed=1)
    if boundary == "circular":
        expected = scipy.signal.correlate2d(x.numpy(), k.numpy(), "same", "wrap")
    else:
        # torch's reflect doesn't repeat the border: ndimage's mirror
        expected = scipy.ndimage.correlate(x.numpy(), k.numpy(), mode="mirror")
    y = conv2d(x, k, padding="same", pad_mode=boundary, op="loops")
    assert_close_to_reference(y, torch.from_numpy(expected))


@pytest.mark.parametrize(
    "window",
    [
        ConvGeometry((3, 3)),
        ConvGeometry((2, 4), (2, 3)),
        ConvGeometry((3, 2), (2, 1), dilation=(2, 3)),
        ConvGeometry((3, 3), (1, 2), (0, 1, 2, 3)),
    ],
    ids=["plain", "strided", "dilated", "padded"],
)
def test_numpy_convolution(window):
    x, weight, bias = normal(2, 3, 8, 9), normal(4, 3, *window.kernel, seed=1), normal(4, seed=2)
    top, bottom, left, right = window.padding
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)))
    (sh, sw), (dh, dw), (eh, ew) = window.stride, window.dilation, window.extent
    windows = sliding_window_view(padded, (eh, ew), (2, 3))[:, :, ::sh, ::sw, ::dh, ::dw]
    expected = np.einsum("nchwij,ocij->nohw", windows, weight.numpy())
    expected += bias.numpy()[:, None, None]
    y = conv(x, weight, bias, window)
    assert_close_to_reference(y, torch.from_numpy(expected))


@pytest.mark.parametrize("mode", ["max", "avg", "min"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((2, 2), (2, 2), (0,) * 4), ((3, 2), (1, 2), (0,) * 4), ((3, 4), (2, 3), (2, 0, 1, 3))],
    ids=["halves", "overlapping", "padded"],
)
def test_numpy_pooling(mode, kernel, stride, padding):
    x = normal(2, 3, 8, 9)
    fill, reduce = {
        "max": (-np.inf, np.max),
        "min": (np.inf, np.min),
        "avg": (np.nan, np.nanmean),
    }[mode]
    top, bottom, left, right = padding
    sides = ((0, 0), (0, 0), (top, bottom), (left, right))
    padded = np.pad(x.numpy(), sides, constant_values=fill)
    windows = sliding_window_view(padded, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]
    y = pool(x, mode, PoolGeometry(kernel, stride, padding, count_include_pad=False))
    assert_close_to_reference(y, torch.from_numpy(reduce(windows, axis=(4, 5))))
