"""Repeat: the same layers again and again, with parameters that may differ (VGG; the book, 7.2)."""

from __future__ import annotations

from runner.geometry import AnyShape, Field
from runner.layers._container import Inside, Repeated
from runner.ops import Ops


class Repeat(Repeated):
    """Each repetition is fed by the one before."""

    def inside(self, name: str, path: str, x: AnyShape, field: Field, ops: Ops) -> Inside:
        """One after the other."""
        rows = []
        for number in range(1, len(self.children()) + 1):
            rows.append(self.repetition(number, name, path, x, field, ops))
            x, field = rows[-1].output, rows[-1].field
        return Inside(tuple(rows), x, field)
