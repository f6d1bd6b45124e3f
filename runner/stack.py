"""Stacks: named layers in order, planned without torch and built with it."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Annotated, Any

from runner.chain import build_chain, plan_chain
from runner.config.spec import Menu, Spec
from runner.geometry import Field, Shape
from runner.layers import Layer
from runner.ops import Ops
from runner.plan import Plan

if TYPE_CHECKING:
    import torch
    from torch import nn


class Stack(Spec):
    """A chain of layers, each fed by the one before.

    Attributes:
        layers: names to layers, in order; the names are those of errors, pictures and weights.
    """

    layers: Annotated[dict[str, Layer], Menu("runner.layers", named=True)]

    def plan(
        self,
        x: Shape,
        ops: Ops,
        batch: int = 1,
        dtype: str = "float32",
        path: str = "stack.layers",
    ) -> Plan:
        """Every layer's shape, size and cost for an input of shape `x`; nothing is allocated.

        Raises:
            ConfigError: layers that don't fit together, by path.
        """
        # Most jobs of a sweep have equal plans. By ==, layers in another order would be equal.
        what = pickle.dumps((self, x, ops, batch, dtype, path))
        if not _last or _last[0] != what:
            rows = plan_chain(self.layers, "", path, x, Field(), ops)
            _last[:] = [what, Plan(x, rows, batch, dtype)]
        plan: Plan = _last[1]
        return plan

    def check_ops(self, plan: Plan, ops: Ops, dtype: str, device: str) -> None:
        """Check that every layer's operator can compute it.

        Raises:
            ConfigError: one can't: which layer, why, and which operators can.
        """
        for row in plan.leaves():
            row.layer.check_operator(row.input, ops, dtype, device, f"{row.path}.ops")

    def build(self, plan: Plan, ops: Ops, generator: torch.Generator) -> nn.Sequential:
        """The torch model, its weights drawn from `generator` layer by layer."""
        return build_chain(plan.rows, ops, generator)


_last: list[Any] = []
"""What was planned last, and the plan."""
