"""Verdicts as text: a table that fits a terminal, and what has to be said beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Any

from runner.plan import Row
from runner.tasks._error_bound import DIGITS

if TYPE_CHECKING:
    from runner.tasks._verify_error import Error

WIDTH, LINES = 80, 60
"""Of a table in a terminal, at most; in the file it is as wide and as long as it is."""
SHORT = {
    "forward": "forward",
    "input_gradient": "input grad",
    "weight_gradient": "weight grad",
    "bias_gradient": "bias grad",
}
HEADINGS = ("layer", "op", "against", "pass", "relL2", "max", "gate", "equal", "verdict")
SPARE = ("against", "op")
"""What a table that would be too wide leaves out first."""
NUMBERS = ("relL2", "max", "equal")
"""Set to the right."""
FILE = "verify.txt"


@dataclass(frozen=True)
class Verified:
    """A layer that was checked.

    Attributes:
        row: the layer.
        against: which operator gave the reference, if any did.
        errors: by what is computed.
        ops: by what is computed, the operator that did.
        agreement: how far native is from loops on a crop, where native gave the reference.
        given: whether all that came in were numbers.
    """

    row: Row
    against: str
    errors: dict[str, Error]
    ops: dict[str, str]
    agreement: float = 0.0
    given: bool = True

    @property
    def name(self) -> str:
        """Of the layer."""
        return self.row.name

    @property
    def worst(self) -> str:
        """What comes closest to its gate, or is farthest beyond it."""

        def badness(name: str) -> tuple[bool, float, float]:
            error = self.errors[name]
            # Beyond gates of zero, all shares are infinite.
            return not error.holds, error.share, error.relative

        return max(self.errors, key=badness)

    def metrics(self) -> dict[str, Any]:
        """For ``metrics.json`` and `expect`."""
        found = {name: error.metrics() for name, error in self.errors.items()}
        for name, op in self.ops.items():
            found[name]["op"] = op
        return {"op": self.row.op, "reference": self.against, **found}


def table(layers: Sequence[Verified], width: int | None = None) -> list[str]:
    """A line for everything that was computed.

    Args:
        layers: what was checked.
        width: columns to keep within, by cutting the beginning of long names; default: no bound.
            Of a table that would be too long there is then one line per layer, its worst.
    """
    whole = width is None or sum(len(layer.errors) for layer in layers) <= LINES
    rows = [HEADINGS, *(line for layer in layers for line in _lines(layer, whole))]
    widths = {h: max(len(row[i]) for row in rows) for i, h in enumerate(HEADINGS)}
    for spare in SPARE:
        if width is not None and sum(widths.values()) + len(widths) - 1 > width:
            del widths[spare]
    gap = 2
    if width is not None:
        gap = 2 if sum(widths.values()) + 2 * (len(widths) - 1) <= width else 1
        rest = sum(widths.values()) - widths["layer"] + gap * (len(widths) - 1)
        widths["layer"] = min(widths["layer"], width - rest)
    return [_line(row, widths, " " * gap) for row in rows]


def _lines(layer: Verified, whole: bool) -> list[tuple[str, ...]]:
    names = list(layer.errors) if whole else [layer.worst]
    lines, op = [], ""
    for i, name in enumerate(names):
        same, op = op == layer.ops[name], layer.ops[name]
        where, against = ("", "") if i else (layer.name, layer.against or "–")
        head = (where, "" if same else op, against)
        lines.append((*head, *_cells(SHORT[name], layer.errors[name])))
    return lines


def _cells(name: str, error: Error) -> tuple[str, ...]:
    gate = "/".join(map(_short, error.gate))
    if not error.finite:
        return name, "–", "–", gate, "–", error.verdict
    star = "*" if _starred(error) else ""
    equal = f"{int(100 * error.equal)} %" if error.equal < 1 else "all"
    verdict = error.verdict if error.holds else error.verdict.upper()
    return name, _short(error.relative) + star, _short(error.largest) + star, gate, equal, verdict


def _starred(error: Error) -> bool:
    """Whether something else than the reference is what the error is relative to."""
    return error.cancelled > 1 and error.equal < 1


def _line(row: Sequence[str], widths: Mapping[str, int], gap: str) -> str:
    cells = []
    for heading, cell in zip(HEADINGS, row, strict=True):
        if heading in widths:
            width = widths[heading]
            cell = cell if len(cell) <= width else "…" + cell[1 - width :]
            cells.append(cell.rjust(width) if heading in NUMBERS else cell.ljust(width))
    return gap.join(cells).rstrip()


def _short(number: float) -> str:
    """``2.4e-7``: two digits; ``2e-6`` where the second is 0."""
    if number == 0 or not isfinite(number):
        return f"{number:g}"
    digits, _, exponent = f"{number:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def legend(dtype: str) -> str:
    """What the columns say."""
    return (
        "relL2: ‖e‖ / ‖reference‖, e being the error; max: max|e| / max|reference|; gate: the most "
        "that each of the two may be. equal: how many numbers are the reference's as rounded to "
        f"{dtype}; exact: all of them; holds: within both gates; FAILS: beyond one."
    )


def notes(layers: Sequence[Verified], dtype: str) -> list[str]:
    """What has to be said beside the table."""
    said = []
    native = [layer for layer in layers if layer.against == "native"]
    if native:
        apart = max(layer.agreement for layer in native)
        said.append(
            "Where loops would take too long, native in double precision is the reference; on "
            f"crops of these layers' inputs it is {_short(apart)} from loops, at most."
        )
    own = [layer.name for layer in native if layer.row.op == "native" and dtype == "float64"]
    if own:
        said.append(
            f"Beyond those crops, {', '.join(own)} was compared with itself: native in float64 is "
            "the reference. Raise task.work, or set task.reference=loops."
        )
    if any(_starred(error) for layer in layers for error in layer.errors.values()):
        said.append(
            "* Large terms cancel here to a small sum, as an edge detector's do on flat gray. What "
            "is left is rounding, in every operator; so the error is relative to the size that the "
            "sum would have with random signs."
        )
    said += _long_sums(layers, dtype)
    bad = [layer.name for layer in layers if not layer.given]
    if bad:
        said.append(f"Not checked: {', '.join(bad)}; what comes in is infinite, or not a number.")
    return said


def _long_sums(layers: Sequence[Verified], dtype: str) -> Iterator[str]:
    """What fails by no more than what adding one number after the other takes.

    Errors of n additions are as good as random, each of up to half a unit of a sum that grows to
    √n: together about √n / 2 units beside it (Higham & Mary 2019).
    """
    for layer in layers:
        for name, error in layer.errors.items():
            alone = sqrt(error.terms) * 2.0 ** -DIGITS[dtype]
            if error.finite and not error.holds and error.relative <= alone:
                yield (
                    f"{layer.name}, {SHORT[name]}: {error.terms:,} numbers added one after the "
                    f"other in {dtype} are off by about {_short(alone / 2)}, by rounding alone; "
                    "added in parts, by less."
                )
