"""What `auto` picked while a run went on, and why, for whoever shows the run.

Operators write it; a run begins it anew and reads it at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        case = f"{self.layer}, batch {self.batch}, {self.computation}"
        return f"{case}: {self.told(len(self.seconds))} ({self.why})"

    def told(self, timed: int) -> str:
        """The pick and, fastest first, others that were timed; `timed` in all."""
        if not self.seconds:
            return self.picked
        others = sorted((s, name) for name, s in self.seconds.items() if name != self.picked)
        order = [(self.seconds[self.picked], self.picked), *others][:timed]
        return ", ".join(f"{name} {readable_time(seconds)}" for seconds, name in order)


class Choices:
    """The choices of a run.

    Attributes:
        run: counts the runs, so that who keeps choices knows when to tell them again.
        made: in the order in which they were needed.
        remarks: what else is to be said of them, each once.
    """

    def __init__(self) -> None:
        self.run = 0
        self.made: list[Choice] = []
        self.remarks: dict[str, None] = {}

    def begin(self) -> None:
        """Forget those of the run before."""
        self.run += 1
        self.made.clear()
        self.remarks.clear()

    def remark(self, text: str) -> None:
        """Say something beside the choices, once."""
        self.remarks[text] = None

    def summary(self) -> list[str]:
        """A line for each layer's geometry, at most `SHOWN` and one for the rest; remarks."""
        layers = dict.fromkeys(choice.layer for choice in self.made)
        lines = [_line(layer, [c for c in self.made if c.layer == layer]) for layer in layers]
        rest = len(lines) - SHOWN
        more = [f"auto  … and {rest} more layers, in run.log"] if rest > 1 else []
        lines = [*lines[:SHOWN], *more] if more else lines
        return [*lines, *(f"auto  {remark}" for remark in self.remarks)]


choices = Choices()
"""Those of the run that goes on in this process."""


ORDER = ("forward", "forward and gradient", "input gradient", "weight gradient")


def _line(layer: str, made: Sequence[Choice]) -> str:
    """What was picked for each computation of a layer: for the largest batch, then for smaller."""
    head, whys = f"auto  {layer}", {choice.why for choice in made}
    if len({choice.picked for choice in made}) == 1 and not any(c.seconds for c in made):
        return f"{head}: {made[0].picked} ({', '.join(sorted(whys))})"
    parts = []
    by_computation = sorted(made, key=lambda c: (ORDER.index(c.computation), -c.batch))
    for computation, group in groupby(by_computation, key=lambda c: c.computation):
        largest, *others = group
        word = "" if computation == "forward" else f"{computation} "
        why = "" if len(whys) == 1 else f" ({largest.why})"
        parts.append(word + largest.told(2) + why)
        differs = [c.picked != largest.picked for c in others]
        if any(differs):
            smaller = others[differs.index(True) :]
            picked = " or ".join(dict.fromkeys(c.picked for c in smaller))
            parts.append(f"{picked} up to {smaller[0].batch} at once")
    return f"{head}: {'; '.join(parts)}" + (f" ({whys.pop()})" if len(whys) == 1 else "")
