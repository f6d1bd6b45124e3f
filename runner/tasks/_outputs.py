"""What tasks that run a stack forward share: its outputs, as arrays, files and metrics."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from runner.tasks import Run
from runner.tracking.directory import write_atomically
from runner.weights import Kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SMALL = 1024
"""Outputs of at most so many numbers are metrics, so that `expect` can compare them."""


def layer_outputs(run: Run) -> dict[str, Any]:
    """Every layer's output for the run's images, as arrays by layer name; half types as float32."""
    import torch

    model, y = run.model.eval(), run.x
    outputs = {}
    with torch.no_grad(), run.progress(len(model), "forward") as advance:
        for row, (name, layer) in zip(run.plan.rows, model.named_children(), strict=True):
            y = layer(y)
            if y.shape[1:] != row.output.dims:
                raise RuntimeError(
                    f"stack.layers.{name}: planned an output of {row.output}, computed "
                    f"{'×'.join(map(str, y.shape[1:]))}; the layer's output_shape is wrong"
                )
            outputs[name] = to_numpy(y)
            advance(name)
    return outputs


def channel_titles(run: Run, name: str, count: int) -> list[str]:
    """What to write above each channel of a layer's output: its kernel's name, if it has one."""
    layer = run.stack.layers.get(name)
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Kernels) and len(weight.labels) == count:
        return [f"{name}: {label}" for label in weight.labels]
    return [name] if count == 1 else [f"{name}, channel {c}" for c in range(count)]


def to_numpy(y: Tensor) -> NDArray[Any]:
    """A tensor as an array, its memory shared if it can be; half types become float32."""
    y = y.detach().cpu()  # first: not every device has the wider types
    return (y.float() if y.element_size() < 4 else y).numpy()


def save_outputs(run: Run) -> None:
    """Write ``outputs.npz``: one array per layer, n × c × h × w or n × features."""

    def write(file: BinaryIO) -> None:
        # As np.savez_compressed, which can't take a layer named "file".
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, y in run.outputs.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.ascontiguousarray(y), allow_pickle=False)

    write_atomically(run.directory / "outputs.npz", write)


def numbers(y: Any) -> Any:
    """An output as nested lists: a batch of one and a single channel need no brackets.

    What is left is what the book prints: h × w for one channel, c × h × w for several. Whole
    numbers are integers.
    """
    while y.ndim > 2 and y.shape[0] == 1:
        y = y[0]
    whole = bool(np.all(np.isfinite(y)) and np.all(y == np.round(y)) and np.all(abs(y) < 2**53))
    return (y.astype(np.int64) if whole else y.astype(np.float64)).tolist()
