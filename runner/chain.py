"""Chains of named layers, each fed by the one before: what a stack is, and what containers hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runner.config.errors import join, problem
from runner.geometry import AnyShape, Field
from runner.layers import Layer
from runner.ops import Ops
from runner.plan import Row

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


def plan_chain(
    layers: Mapping[str, Layer], name: str, path: str, x: AnyShape, field: Field, ops: Ops
) -> tuple[Row, ...]:
    """A row per layer.

    Args:
        layers: by name, in order.
        name: of what holds the chain, in the model; empty for the model itself.
        path: of the mapping of layers in the config.
        x: shape of the first layer's input.
        field: what one number of that input sees of the stack's input.
        ops: the operators that compute.

    Raises:
        ConfigError: layers that don't fit together, by path.
    """
    rows = []
    for key, layer in layers.items():
        if key in RESERVED:
            expected = "a name that torch.nn.Module doesn't use"
            raise problem(join(path, key), expected, f"'{key}'", f"Call it '{key}1'.")
        row = layer.row(join(name, key), join(path, key), x, field, ops)
        rows.append(row)
        x, field = row.output, row.field
    return tuple(rows)


def build_chain(
    rows: Sequence[Row], ops: Ops, generator: torch.Generator, chain: nn.Sequential | None = None
) -> nn.Sequential:
    """The torch modules of planned layers, their weights drawn from `generator` in order.

    Args:
        rows: the planned layers.
        ops: the operators that compute.
        generator: the source of randomness.
        chain: the empty module to add them to, one that joins them in its own way.
    """
    from torch import nn

    chain = nn.Sequential() if chain is None else chain
    for row in rows:
        chain.add_module(row.name.rpartition(".")[2], row.layer.build(row.input, ops, generator))
    return chain
