"""Stacks: named layers in order, planned without torch and built with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from runner.config.errors import ConfigError, problem
from runner.config.spec import Menu, Spec
from runner.geometry import AnyShape, Field, Shape
from runner.layers import Layer
from runner.ops import Ops
from runner.plan import Plan, Row

if TYPE_CHECKING:
    import torch
    from torch import nn


_TORCH = """
T_destination add_module append apply bfloat16 buffers call_super_init children compile cpu cuda
double dump_patches eval extend extra_repr float forward get_buffer get_extra_state
get_parameter get_submodule half insert ipu load_state_dict modules mtia named_buffers
named_children named_modules named_parameters parameters pop register_backward_hook
register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook
register_load_state_dict_pre_hook register_module register_parameter
register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
set_submodule share_memory state_dict to to_empty train training type xpu zero_grad
"""
RESERVED = frozenset(_TORCH.split())
"""Names that torch's modules use themselves; a layer can't have them."""


class Stack(Spec):
    """A chain of layers, each fed by the one before.

    Attributes:
        layers: names to layers, in order; the names are those of errors, pictures and weights.
    """

    layers: Annotated[dict[str, Layer], Menu("runner.layers", named=True)]

    def plan(self, x: Shape, ops: Ops, batch: int = 1, dtype: str = "float32") -> Plan:
        """Every layer's shape, size and cost for an input of shape `x`; nothing is allocated.

        Raises:
            ConfigError: layers that don't fit together, by path.
        """
        for name in self.layers:
            if name in RESERVED:
                expected = "a name that torch.nn.Module doesn't use"
                hint = f"Call it '{name}1'."
                raise problem(f"stack.layers.{name}", expected, f"'{name}'", hint)
        rows = []
        shape: AnyShape = x
        field = Field()
        for name, layer in self.layers.items():
            try:
                output = layer.output_shape(shape)
                row = Row(
                    name=name,
                    kind=layer.kind,
                    input=shape,
                    output=output,
                    parameters=layer.parameters(shape),
                    cost=layer.cost(shape),
                    workspace=layer.workspace(shape, ops),
                    field=layer.field(shape, field),
                    op=layer.operator(ops),
                    scratch=layer.scratch(shape, ops),
                )
            except ConfigError as error:
                raise error.under(f"stack.layers.{name}") from None
            rows.append(row)
            shape, field = output, row.field
        return Plan(x, tuple(rows), batch, dtype)

    def check_ops(self, plan: Plan, ops: Ops, dtype: str, device: str) -> None:
        """Check that every layer's operator can compute it.

        Raises:
            ConfigError: one can't: which layer, why, and which operators can.
        """
        for row in plan.rows:
            path = f"stack.layers.{row.name}.ops"
            self.layers[row.name].check_operator(row.input, ops, dtype, device, path)

    def build(self, plan: Plan, ops: Ops, generator: torch.Generator) -> nn.Sequential:
        """The torch model, its weights drawn from `generator` layer by layer."""
        from torch import nn

        model = nn.Sequential()
        for row in plan.rows:
            model.add_module(row.name, self.layers[row.name].build(row.input, ops, generator))
        return model
