"""What tasks that run a stack forward share: its outputs, as arrays, files and metrics."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL.Image import Image

from runner.config.errors import problem
from runner.geometry import Features
from runner.plan import Plan, Row
from runner.tasks import Advance, Run
from runner.tracking import pictures
from runner.tracking.directory import write_atomically
from runner.weights import Kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SMALL = 1024
"""Outputs of at most so many numbers are metrics, so that `expect` can compare them."""


def layer_outputs(run: Run, depth: int = 1) -> dict[str, Any]:
    """Layers' outputs for the run's images, as arrays by layer name; half types as float32.

    Args:
        run: the run.
        depth: 1 for the stack's own layers; 2 for those in its containers too, and so on.

    Raises:
        RuntimeError: a layer gave another shape than planned.
    """
    with run.progress(len(list(run.plan.walk())), "forward") as advance:
        return outputs_for(run, run.x, depth, advance)


def outputs_for(
    run: Run, x: Tensor, depth: int = 1, advance: Advance = lambda _: None
) -> dict[str, Any]:
    """As `layer_outputs`, for other images `x`, n × c × h × w; `advance` is told of each layer.

    Raises:
        RuntimeError: a layer gave another shape than planned.
    """
    import torch

    model, outputs = run.model.eval(), {}

    def kept(row: Row) -> Any:
        def hook(_module: object, _input: object, y: Tensor) -> None:
            if y.shape[1:] != row.output.dims:
                raise RuntimeError(
                    f"{row.path}: planned an output of {row.output}, computed "
                    f"{'×'.join(map(str, y.shape[1:]))}; the layer's output_shape is wrong"
                )
            if row.name.count(".") < depth:
                outputs[row.name] = to_numpy(y)
            advance(row.name)

        return hook

    hooks = []
    try:
        with torch.no_grad():
            for row in run.plan.walk():
                module = model.get_submodule(row.name)
                hooks.append(module.register_forward_hook(kept(row)))
            model(x)
    finally:
        for one in hooks:
            one.remove()
    return outputs


def at_layer(run: Run, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's input and output when the model, in evaluation mode, sees `x`."""
    seen: list[tuple[Tensor, Tensor]] = []
    layer, model = run.model.get_submodule(name), run.model.eval()
    hook = layer.register_forward_hook(lambda _, given, y: seen.append((given[0], y)))
    try:
        model(x)
    finally:
        hook.remove()
    return seen[0]


def check_feature_maps(plan: Plan) -> None:
    """The stack must end in feature maps.

    Raises:
        ConfigError: it ends in a flat vector.
    """
    if isinstance(plan.output, Features):
        raise problem(
            "stack.layers",
            "a last layer that gives feature maps",
            f"{plan.output} features from '{plan.rows[-1].name}'",
            "Remove flatten and what follows it.",
        )


def map_panels(run: Run, name: str, maps: NDArray[Any], most: int, scale: float) -> list[Image]:
    """A picture of each of a layer's feature maps, c × h × w, `most` at the most, on one scale."""
    titles = channel_titles(run, name, len(maps))[:most]
    return [pictures.signed(y, title, scale) for y, title in zip(maps, titles, strict=False)]


def channel_titles(run: Run, name: str, count: int) -> list[str]:
    """What to write above each channel of a layer's output: its kernel's name, if it has one."""
    layers = (row.layer for row in run.plan.walk() if row.name == name)
    weight = getattr(next(layers, None), "weight", None)
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
