"""What a layer must compute, in double precision: by loops, or by native where these take long.

`loops` is the definition. One Python step per output position makes it slow on large images; there
`native` takes its place, once both were seen to agree on a crop with the same windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

from runner.ops import Operator, conv_op, pool_op
from runner.plan import Row

if TYPE_CHECKING:
    from torch import Tensor

    from runner.tasks._verify_case import Case

Choice = Literal["auto", "loops", "native"]

STEP = 3_000
"""Multiply-adds that take as long as one step of `loops` takes besides its own."""


def work(row: Row, batch: int) -> int:
    """How long `loops` takes for a layer, forward, in multiply-adds."""
    layer: Any = row.layer
    groups = getattr(layer.geometry(row.input), "groups", 1)
    return batch * row.operations + STEP * groups * prod(row.output.dims[1:])


def chosen(choice: Choice, row: Row, batch: int, most: int) -> str:
    """Which operator gives a layer's reference."""
    if choice == "auto":
        return "loops" if work(row, batch) <= most else "native"
    return choice


@dataclass(frozen=True)
class Reference:
    """A layer's results in double precision, by what they are of.

    Attributes:
        op: which operator gave them.
        results: output, and gradients if they were asked for.
        magnitudes: the same sums, without signs.
        agreement: how far native is from loops on a crop, where native gave them.
    """

    op: str
    results: dict[str, Tensor]
    magnitudes: dict[str, Tensor]
    agreement: float = 0.0


def reference(case: Case, op: str, path: str, gradients: bool) -> Reference:
    """Compute it.

    Args:
        case: the layer and its arguments.
        op: loops or native.
        path: of the layer in the config.
        gradients: whether they are asked for.

    Raises:
        RuntimeError: native is not fit for a reference here.
    """
    case = case.double()
    apart = 0.0 if op == "loops" else _checked(case.crop(), path)
    magnitudes = computed(case.magnitudes(), "native", gradients)
    return Reference(op, computed(case, op, gradients), magnitudes, apart)


def computed(case: Case, op: str, gradients: bool) -> dict[str, Tensor]:
    """Output, and gradients if they are asked for, by an operator."""
    from runner.tasks._verify_case import FORWARD

    made = pool_op(op) if case.weight is None else conv_op(op)
    return case.gradients(made) if gradients else {FORWARD: case.forward(made)}


def _checked(crop: Case, path: str) -> float:
    """How far native is from loops.

    Raises:
        RuntimeError: farther than double precision explains.
    """
    from runner.tasks._verify_error import Error

    found, expected, sizes = (
        computed(case, op, gradients=True)
        for case, op in ((crop, "native"), (crop, "loops"), (crop.magnitudes(), "loops"))
    )
    gate, terms = Operator.gates["float64"], crop.terms()
    errors = {
        name: Error.of(found[name], expected[name], sizes[name], terms[name], gate)
        for name in found
    }
    for name, error in errors.items():
        if not error.holds:
            raise RuntimeError(
                f"{path}: in double precision, native's {name.replace('_', ' ')} differs from "
                f"that of loops by {error.relative:.2g} on {'×'.join(map(str, crop.x.shape))} of "
                f"the layer's input, so that it can't be a reference; set task.reference=loops"
            )
    return max(error.relative for error in errors.values())
