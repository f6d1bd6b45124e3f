"""How far a result is from its reference, and whether that is within an operator's gate."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from runner.ops import Gate

if TYPE_CHECKING:
    from torch import Tensor

EXACT, HOLDS, FAILS, NOT_FINITE = "exact", "holds", "fails", "not finite"
"""Verdicts: equal to the reference as the run's type rounds it; within the gate; beyond it; with
numbers that are none, or infinite."""


@dataclass(frozen=True)
class Error:
    """One result against its reference; e is their difference.

    Attributes:
        relative: ‖e‖ / ‖reference‖.
        largest: max|e| / max|reference|.
        equal: the share of numbers that are the reference's, as the run's type rounds them.
        cancelled: how many times smaller the reference is than what is added up to it would leave
            if its signs were random. Where that is more than 1, both errors are relative to that:
            an edge detector's answer to a flat image is what rounding leaves, of whatever size.
        gate: the largest errors that the operator may have.
        terms: how many numbers are added up for one, at most.
        finite: whether all that was given and found are numbers.
    """

    relative: float
    largest: float
    equal: float
    cancelled: float
    gate: Gate
    terms: int = 1
    finite: bool = True

    @staticmethod
    def of(found: Tensor, reference: Tensor, magnitude: Tensor, terms: int, gate: Gate) -> Error:
        """Measure.

        Args:
            found: in the run's type.
            reference: in double precision.
            magnitude: the sums that the reference's are, without signs.
            terms: how many numbers are added up.
            gate: the largest errors that the operator may have.
        """
        if not (found.isfinite().all() and reference.isfinite().all()):
            return Error.undefined(gate)
        equal = float((found == reference.to(found.dtype)).double().mean())
        e = found.double() - reference
        # Of n random signs, ±1 ± 1 … is about √n, and without them n.
        usual = magnitude.abs() / sqrt(terms)
        relative, cancelled = _ratio(e.norm(), reference.norm(), usual.norm())
        largest, peaks = _ratio(e.abs().max(), reference.abs().max(), usual.max())
        return Error(relative, largest, equal, max(cancelled, peaks), gate, terms)

    @staticmethod
    def undefined(gate: Gate) -> Error:
        """Of what is not all numbers."""
        return Error(inf, inf, 0.0, 1.0, gate, finite=False)

    @property
    def share(self) -> float:
        """The worse of the errors, as a share of what the gate allows."""
        return max(
            _quotient(error, limit)
            for error, limit in zip((self.relative, self.largest), self.gate, strict=True)
        )

    @property
    def verdict(self) -> str:
        """In a word or two."""
        if not self.finite:
            return NOT_FINITE
        if self.equal == 1:
            return EXACT
        return HOLDS if self.share <= 1 else FAILS

    @property
    def holds(self) -> bool:
        """Whether it is within the gate."""
        return self.verdict in (EXACT, HOLDS)

    def metrics(self) -> dict[str, Any]:
        """For ``metrics.json`` and `expect`."""
        return {
            "relative": self.relative,
            "largest": self.largest,
            "equal": self.equal,
            "cancelled": self.cancelled,
            "gate": list(self.gate),
            "verdict": self.verdict,
        }


def _ratio(error: Tensor, reference: Tensor, usual: Tensor) -> tuple[float, float]:
    """An error beside the reference or what is usual, whichever is larger; and how much larger."""
    scale = max(float(reference), float(usual))
    return _quotient(float(error), scale), max(1.0, _quotient(scale, float(reference)))


def _quotient(part: float, whole: float) -> float:
    """Nothing is no part, even of nothing."""
    return 0.0 if part == 0 else part / whole if whole else inf
