"""Gradient descent on a quadratic, mode by mode: what it must do, and what it did."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runner.tasks._optimizer import Optimizer
from runner.tasks._quadratic import Curvature

Array = NDArray[np.float64]

UNSEEN = 1e-12
"""Eigenvalues below this part of the largest are zero but for rounding."""
MEASURABLE = 1e3
"""How many times its own rounding an error must be, to tell how it changes."""


@dataclass(frozen=True)
class Modes:
    """The error of the weights along the Hessian's eigenvectors.

    Errors are taken from where descent leads: the target, or with weight decay a point short of it.

    Attributes:
        values: groups × modes eigenvalues of what is descended, weight decay included.
        steepness: … of the squared error alone.
        shift: groups × outputs × modes: from the target to where descent leads.
        measured: steps + 1 × groups × outputs × modes: the error before each step and at the end.
        predicted: the same, from the first error alone.
        factor: groups × modes: what a step must multiply the error by, 1 − lr·λ.
        contraction: … and what it did; NaN where the error was never much above its rounding.
    """

    values: Array
    steepness: Array
    shift: Array
    measured: Array
    predicted: Array
    factor: Array
    contraction: Array

    @staticmethod
    def of(
        found: Curvature,
        weights: Array,
        target: Array,
        divisor: int,
        optimizer: Optimizer,
        eps: float,
    ) -> Modes:
        """Predict and measure.

        Args:
            found: the Hessian of the sum of squared errors.
            weights: steps + 1 × groups × outputs × weights.
            target: groups × outputs × weights.
            divisor: of that sum.
            optimizer: learning rate and weight decay.
            eps: relative rounding of the weights.
        """
        steepness, vectors = found.values.numpy() / divisor, found.vectors.numpy()
        values = steepness + optimizer.weight_decay
        goal = np.einsum("gok,gkm->gom", target, vectors)
        # Decay pulls to zero along λ of the data: the balance is at λ / (λ + decay) of the target.
        share = np.divide(optimizer.weight_decay, values, where=values > 0, out=0 * values)
        shift = -share[:, None] * goal
        measured = np.einsum("tgok,gkm->tgom", weights - target, vectors) - shift
        factor = 1 - optimizer.lr * values
        powers = factor ** np.arange(len(weights))[:, None, None]
        return Modes(
            values=values,
            steepness=steepness,
            shift=shift,
            measured=measured,
            predicted=powers[:, :, None] * measured[0],
            factor=factor,
            contraction=_contraction(measured, weights, eps),
        )

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which modes the loss depends on at all."""
        seen: NDArray[np.bool_] = self.values > UNSEEN * self.values.max()
        return seen

    @property
    def ends(self) -> tuple[float, float]:
        """The largest and the smallest eigenvalue that isn't zero; zeros where all are."""
        values = self.values[self.seen]
        return (float(values.max()), float(values.min())) if values.size else (0.0, 0.0)

    def losses(self) -> Array:
        """The predicted squared error before each step and at the end: ½ Σ λ·(w − w*)²."""
        apart = self.predicted + self.shift
        losses: Array = 0.5 * np.einsum("gm,tgom->t", self.steepness, apart**2)
        return losses


def _contraction(errors: Array, weights: Array, eps: float) -> Array:
    """The factor that explains each step best, least squares with each step's rounding as weight.

    Where one mode grows without bound, what the others lose in its digits counts for little.
    """
    size = np.abs(weights).max(axis=(1, 2, 3))
    if len(weights) < 2:
        return np.full(errors.shape[1::2], np.nan)
    rounding = eps * np.maximum(size[1:], size[:-1]).clip(min=np.finfo(float).tiny)
    before, after = (e / rounding[:, None, None, None] for e in (errors[:-1], errors[1:]))
    clear = np.maximum(np.abs(before), np.abs(after)).max(axis=(0, 2)) > MEASURABLE
    top, bottom = (before * after).sum(axis=(0, 2)), (before**2).sum(axis=(0, 2))
    factor: Array = np.divide(top, bottom, where=clear, out=np.full_like(top, np.nan))
    return factor
