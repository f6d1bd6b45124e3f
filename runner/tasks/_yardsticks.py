"""What else computes the same: OpenCV and SciPy, where they are installed.

They are yardsticks, not operators: forward only, on the CPU, for the cases that they can do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from runner.tasks._benchmark_cases import Case

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

LIBRARIES = {"opencv": "cv2", "scipy": "scipy"}
"""Yardsticks by the module that they need."""
SMALL = 49
"""Kernel elements up to which SciPy's sum is quicker than its Fourier transform."""

Compute = Callable[[], "Tensor"]


def missing() -> list[str]:
    """The yardsticks that aren't installed."""
    return [name for name, module in LIBRARIES.items() if find_spec(module) is None]


def yardsticks(case: Case, x: Tensor, weight: Tensor | None) -> dict[str, Compute]:
    """What can be measured beside a case's operators.

    Args:
        case: the case.
        x: its input.
        weight: the kernel as cross-correlation sees it, c_out × c_in × kh × kw, or None.

    Returns:
        By name, functions that compute the layer's output. OpenCV and SciPy compute images of the
        input's size, of which the output is a part: with *valid* padding, a few rows more.
    """
    found: dict[str, Compute] = {}
    if weight is None or not _one_map(case, x):
        return found
    image, kernel = x.numpy()[0, 0], weight.numpy()[0, 0]
    rows = _part(case.x.height, case.y.height, case.geometry.padding[0], kernel.shape[0])
    columns = _part(case.x.width, case.y.width, case.geometry.padding[2], kernel.shape[1])
    if rows is None or columns is None:
        return found
    for name, compute in (("opencv", _opencv), ("scipy", _scipy)):
        if find_spec(LIBRARIES[name]) is not None:
            found[name] = _cut(compute(image, kernel), rows, columns)
    return found


@contextmanager
def opencv_threads() -> Iterator[None]:
    """As many threads for OpenCV as torch has; its own setting comes back afterwards."""
    if find_spec("cv2") is None:
        yield
        return
    import cv2
    import torch

    before = cv2.getNumThreads()
    cv2.setNumThreads(torch.get_num_threads())
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _one_map(case: Case, x: Tensor) -> bool:
    """One image, one channel, step 1, surrounded by zeros, no bias: what both libraries filter."""
    layer: Any = case.layer
    window = case.geometry
    return (
        x.device.type == "cpu"
        and case.dtype in ("float32", "float64")
        and (case.batch, case.x.channels, case.y.channels) == (1, 1, 1)
        and window.stride == window.dilation == (1, 1)
        and (layer.pad_mode == "zeros" or not any(window.padding))
        and not layer.has_bias
    )


def _part(inside: int, outside: int, padding: int, kernel: int) -> slice | None:
    """Where along an axis the output lies in a filtered image, whose kernels are centred.

    None where padding makes the output reach beyond the image.
    """
    start = kernel // 2 - padding
    return slice(start, start + outside) if start >= 0 and start + outside <= inside else None


def _cut(filtered: Callable[[], NDArray[Any]], rows: slice, columns: slice) -> Compute:
    import torch

    return lambda: torch.from_numpy(filtered()[rows, columns])[None, None]


def _opencv(image: NDArray[Any], kernel: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    import cv2

    border = cv2.BORDER_CONSTANT
    return lambda: cv2.filter2D(image, -1, kernel, borderType=border)


def _scipy(image: NDArray[Any], kernel: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    from scipy import ndimage, signal  # type: ignore[import-untyped]  # it ships without types

    if kernel.size <= SMALL:
        return lambda: ndimage.correlate(image, kernel, mode="constant")
    flipped = kernel[::-1, ::-1].copy()  # a convolution flips it back
    return lambda: signal.oaconvolve(image, flipped, mode="same")
