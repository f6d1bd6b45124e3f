"""Which operator a result is judged by: of `auto`, the one that it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.choices import choices
from runner.geometry import Shape
from runner.ops import Operator, conv_op, pool_op
from runner.ops._cases import BOTH, ConvCase, PoolCase, place
from runner.tasks._verify_case import FORWARD, INPUT, WEIGHT, Case

AUTO = "auto"


def operators(case: Case, name: str) -> dict[str, str]:
    """By result, the name of the operator that computed it; ``auto: native`` of what `auto` took.

    Args:
        case: the layer, after it was computed in this run.
        name: of the operator that was asked for.
    """
    results = case.terms()
    if name != AUTO:
        return dict.fromkeys(results, name)
    layer, taken = _layer(case), {}
    for choice in choices.made:
        if (choice.layer, choice.batch) == (layer, len(case.x)):
            taken[choice.computation] = choice.picked
    pooled, forward = taken.get(BOTH), taken.get("forward")
    found = {FORWARD: forward, INPUT: pooled or taken.get("input gradient")}
    found[WEIGHT] = taken.get("weight gradient")
    # The bias is added after a convolution, whatever that is.
    return {one: f"{AUTO}: {op}" if (op := found.get(one, forward)) else AUTO for one in results}


def operator(named: str, case: Case, asked: Operator) -> Operator:
    """The operator of a name that `operators` gave; `asked`, if that is it."""
    taken = named.removeprefix(f"{AUTO}: ")
    if taken == named:
        return asked
    return pool_op(taken) if case.weight is None else conv_op(taken)


def _layer(case: Case) -> str:
    """As `runner.choices` names it."""
    x, weight, geometry = case.as_computed()
    size = Shape(*x.shape[1:])
    channels = size.channels if weight is None else weight.shape[0]
    y = Shape(channels, *case.grad.shape[2:])
    where: Mapping[str, Any] = place(x)
    if weight is None:
        mode = case.module.mode
        return PoolCase(FORWARD, len(x), size, y, geometry, **where, mode=str(mode)).layer
    return ConvCase(FORWARD, len(x), size, y, geometry, **where).layer
