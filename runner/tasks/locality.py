"""Locality: a convolution is a dense layer with few weights (the book, 6.1.2 and 6.1.3).

A dense layer from image to image has a weight for each pair of an output and a pixel,
W[o, i', j', c, k, l]. Written by the offset from the output's own place, V[i, j, a, b] =
W[i, j, i + a, j + b], two properties leave a convolution's few weights: translation invariance, V
is the same for all (i, j); and locality, V is zero but for few offsets (a, b).

The task builds the whole matrix of any affine stack by pushing single ones through it, multiplies
with it, and looks for both properties.
"""

from __future__ import annotations

from math import ceil, prod, sqrt
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL.Image import Image

from runner.config.fields import Count
from runner.config.spec import Spec
from runner.geometry import elements
from runner.ops import Ops
from runner.plan import ITEM_BYTES, Plan
from runner.stack import Stack
from runner.tasks import Run, Task
from runner.tasks._dense import Array, Layout, Weights
from runner.tasks._outputs import SMALL, numbers, to_numpy
from runner.tasks._rounding import MARGIN, NONE, estimates, same, untold
from runner.tracking import charts, pictures

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64
"""Inputs that are pushed through the stack at once."""


class Budget(Spec):
    """An image and a layer whose weights are counted (the book, 6.1).

    Attributes:
        height: of the image.
        width: of the image.
        units: outputs of a small dense layer.
        radius: Δ: offsets beyond it have no weight.
    """

    height: Count = 1000
    width: Count = 1000
    units: Count = 1000
    radius: Count = 10

    def weights(self) -> dict[str, int]:
        """Of the layers of 6.1, in the book's own formulas: 2h · 2w offsets, and 4Δ² of them."""
        pixels = self.height * self.width
        return {
            "dense": pixels * self.units,
            "image_to_image": pixels**2,
            "translation_invariant": 2 * self.height * 2 * self.width,
            "local": 4 * self.radius**2,
        }

    def chart(self) -> Image:
        """Them as bars."""
        names = {
            "dense": f"to {self.units}\nunits",
            "image_to_image": "to an\nimage",
            "translation_invariant": "translation\ninvariant",
            "local": f"and local,\nΔ = {self.radius}",
        }
        named = {names[key]: count for key, count in self.weights().items()}
        title = f"Weights of a layer from\nan image of {self.height}×{self.width}"
        return charts.bars(named, title, "weights", log=True)


class Locality(Task):
    """A stack as one dense layer.

    Attributes:
        budget: what to count weights for, besides: in numbers and as bars. By default nothing.
    """

    # Whoever asks for a budget asks for nothing else.
    measures: ClassVar[str] = """
        matrix_shape budget affine agrees dense_error translation_invariant deviation local window
        radius receptive_field parameters matrix
    """
    showcase: ClassVar[tuple[str, ...]] = ("locality/budget", "locality/blocks", "locality/matrix")

    budget: Budget | None = None

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """The matrix, its magnitudes and its picture in double precision, a batch of impulses."""
        matrix = 8 * elements(plan.output) * elements(plan.input)
        held = sum(elements(row.output) + row.workspace + row.scratch for row in plan.leaves())
        return 4 * matrix + BATCH * ITEM_BYTES[plan.dtype] * (elements(plan.input) + held)

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """Outputs must have places on the image, a whole number of pixels apart."""
        Layout.of(plan)

    def run(self, run: Run) -> dict[str, Any]:
        """The matrix, whether it gives the stack's output, and its two properties."""
        import torch

        metrics: dict[str, Any] = {
            "matrix_shape": [elements(run.plan.output), elements(run.plan.input)],
        }
        if self.budget is not None:
            metrics["budget"] = self.budget.weights()
            run.tracker.image("locality/budget", self.budget.chart())
        deviation, allowed, size = affinity(run)
        eps = torch.finfo(run.x.dtype).eps
        affine = same(deviation, allowed, size, MARGIN * eps * size)
        if affine is None:
            run.notes.append(untold("the stack is affine", allowed, size, run.dtype))
            return metrics
        metrics["affine"] = affine
        if not affine:
            run.notes.append(
                "The stack is not affine: f(u) + f(v) and f(u + v) + f(0) differ by "
                f"{deviation:.3g} for random u and v; no matrix gives its output."
            )
            return metrics
        matrix, constant = dense(run)
        run.outputs |= {"locality/matrix": matrix, "locality/constant": constant}
        zero = NONE * eps * float(max(np.abs(matrix).max(), np.abs(constant).max()))
        weights = Weights(matrix, Layout.of(run.plan), zero, allowed)
        metrics |= agreement(run, matrix, constant) | weights.metrics()
        if matrix.size <= SMALL:
            metrics["matrix"] = numbers(matrix)
        if not weights.several:
            run.notes.append("Only one output sees no padding: there is none to compare it with.")
        elif "translation_invariant" not in metrics:
            what = "the stack is translation invariant"
            run.notes.append(untold(what, allowed, float(np.abs(matrix).max()), run.dtype))
        self._draw(run, weights)
        return metrics

    def _draw(self, run: Run, weights: Weights) -> None:
        scale = float(np.abs(weights.matrix).max()) or 1.0
        h, w = weights.matrix.shape
        title = f"W: a row for {_each(h, 'output')}, a column for {_each(w, 'pixel')}"
        run.tracker.image("locality/matrix", pictures.signed(weights.matrix, title, scale))
        title = "V: a block for each output, its weights over the image"
        run.tracker.image("locality/blocks", pictures.signed(weights.blocks(), title, scale))


def _each(count: int, noun: str) -> str:
    return f"each of {count} {noun}s" if count > 1 else f"1 {noun}"


def affinity(run: Run) -> tuple[float, float, float]:
    """How far a stack is from affine: f(u) + f(v) − f(u + v) − f(0) for random u and v.

    Returns:
        Its largest magnitude, what rounding explains, and the largest magnitude of these outputs.
    """
    import torch

    u, v = torch.randn(2, *run.plan.input.dims, generator=run.generator).to(run.x)
    x = torch.stack([u, v, u + v, torch.zeros_like(u)])
    y = push(run, x)
    deviation = float(np.abs(y[0] + y[1] - y[2] - y[3]).max())
    return deviation, estimates(run.model, x)[""], float(np.abs(y).max())


def dense(run: Run) -> tuple[Array, Array]:
    """The matrix and the constant of an affine stack, by its answers to impulses.

    Returns:
        W, outputs × inputs, and b: f(x) = W · x + b with everything flat.
    """
    import torch

    shape = run.plan.input.dims
    n = prod(shape)
    constant = push(run, torch.zeros_like(run.x[:1]))
    matrix = np.empty((elements(run.plan.output), n))
    with run.progress(ceil(n / BATCH), "impulses") as advance:
        for start in range(0, n, BATCH):
            stop = min(start + BATCH, n)
            impulses = torch.eye(n)[start:stop].reshape(-1, *shape).to(run.x)
            answers = push(run, impulses)
            matrix[:, start:stop] = (answers - constant).T
            advance(f"{stop} of {n}")
    return matrix, constant[0]


def agreement(run: Run, matrix: Array, constant: Array) -> dict[str, Any]:
    """The matrix's product with the images against the stack's output, relative to its largest."""
    import torch

    error = allowed = largest = 0.0
    # Every weight in a row is off by as much as an output is: what they add up to is also random.
    terms = 1 + int((matrix != 0).sum(axis=1).max())
    for start in range(0, len(run.x), BATCH):
        x = run.x[start : start + BATCH]
        y = push(run, x)
        product = to_numpy(x).reshape(len(x), -1).astype(np.float64) @ matrix.T + constant
        error = max(error, float(np.abs(y - product).max()))
        largest = max(largest, float(np.abs(y).max()))
        allowed = max(allowed, sqrt(terms) * estimates(run.model, x)[""])
    metrics: dict[str, Any] = {"dense_error": error / largest if largest else error}
    negligible = MARGIN * torch.finfo(run.x.dtype).eps * largest
    agrees = same(error, allowed, largest, negligible)
    if agrees is None:
        run.notes.append(untold("the matrix gives the stack's output", allowed, largest, run.dtype))
        return metrics
    return {"agrees": agrees, **metrics}


def push(run: Run, x: Tensor) -> Array:
    """Outputs for inputs n × c × h × w, flat and in double precision."""
    import torch

    with torch.no_grad():
        y = run.model.eval()(x)
    return to_numpy(y).reshape(len(x), -1).astype(np.float64)
