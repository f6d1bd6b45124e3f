"""What `auto` picked while a run went on, and why, for whoever shows the run.

Operators write it; a run begins it anew and reads it at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby

from runner.readable import readable_time

SHOWN = 12
"""Layers in a summary; the others are counted."""


@dataclass(frozen=True)
class Choice:
    """Which operator computes a case.

    Attributes:
        layer: what is computed, without the batch: ``conv 1×28×28 → 6, 5×5``.
        batch: how many examples at once.
        computation: ``forward``, ``input gradient``, ``weight gradient``; of a pooling that is
            learned through, ``forward and gradient``.
        picked: the operator's name.
        seconds: of every operator that was timed, for the whole call; empty where a rule decided.
        why: ``measured``, ``remembered``, or the rule.
    """

    layer: str
    batch: int
    computation: str
    picked: str
    seconds: Mapping[str, float]
    why: str

    def __str__(self) -> str:
        return (
            f"{self.layer}, batch {self.batch}, {self.computation}: {self.told(len(self.seconds))}"
        )

    def told(self, timed: int) -> str:
        """The pick, the times of it and the next fastest, `timed` in all, and why."""
        if not self.seconds:
            return f"{self.picked} ({self.why})"
        others = sorted((s, name) for name, s in self.seconds.items() if name != self.picked)
        order = [(self.seconds[self.picked], self.picked), *others][:timed]
        times = ", ".join(f"{name} {readable_time(seconds)}" for seconds, name in order)
        return f"{times} ({self.why})"


class Choices:
    """The choices of a run.

    Attributes:
        run: counts the runs, so that who keeps choices knows when to tell them again.
        made: in the order in which they were needed.
    """

    def __init__(self) -> None:
        self.run = 0
        self.made: list[Choice] = []

    def begin(self) -> None:
        """Forget those of the run before."""
        self.run += 1
        self.made.clear()

    def summary(self) -> list[str]:
        """A line for each layer's geometry, at most `SHOWN` and one that counts the rest."""
        layers = dict.fromkeys(choice.layer for choice in self.made)
        lines = [
            f"auto  {layer}: " + "; ".join(_told([c for c in self.made if c.layer == layer]))
            for layer in layers
        ]
        rest = len(lines) - SHOWN
        more = [f"auto  … and {rest} more layers, in run.log"] if rest > 1 else []
        return [*lines[:SHOWN], *more] if more else lines


choices = Choices()
"""Those of the run that goes on in this process."""


def _told(made: Iterable[Choice]) -> Iterable[str]:
    """What was picked for each computation of a layer: for the largest batch, then what differs."""
    order = ["forward", "forward and gradient", "input gradient", "weight gradient"]
    by_computation = sorted(made, key=lambda c: (order.index(c.computation), -c.batch))
    for computation, group in groupby(by_computation, key=lambda c: c.computation):
        largest, *others = group
        word = "" if computation.startswith("forward") else f"{computation} "
        differ = [
            f"{c.picked} for a batch of {c.batch}" for c in others if c.picked != largest.picked
        ]
        yield ", ".join([word + largest.told(2), *differ])
