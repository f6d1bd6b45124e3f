"""From an operator to a differentiable function, registered with torch's dispatcher.

Registered as ``torch.ops.runner.…``, an operator's forward and gradients are opaque calls to
autograd, `torch.compile` and export, with output shapes that are known without computing. The
three computations of a convolution are linear in each argument and each other's derivatives, so
that it can be differentiated as often as one likes; in reverse mode, forward mode is refused.

Layers come here directly, because what they pass was validated when the stack was planned;
`runner.functional` validates first.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C._functorch import is_batchedtensor
from torch.autograd import forward_ad

from runner.config.errors import problem
from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import BY_HANDLE, ConvOp, PoolOp, conv_op, pool_op


def convolve(
    op: ConvOp,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: ConvGeometry,
    pad_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """Compute a convolution whose arguments are known to be valid."""
    if flip:
        weight = weight.flip(2, 3)
    if pad_mode != "zeros" and any(geometry.padding):
        top, bottom, left, right = geometry.padding
        x = F.pad(x, (left, right, top, bottom), mode=pad_mode)
        geometry = ConvGeometry(
            geometry.kernel, geometry.stride, (0, 0, 0, 0), geometry.dilation, geometry.groups
        )
    if not torch.compiler.is_compiling():
        _refuse(op, x, (weight, bias), geometry)
        if is_batchedtensor(x) or is_batchedtensor(weight):
            return _dispatched(op, x, weight, bias, geometry)  # to its rule in `runner.batching`
        op = op.pick(x, weight, geometry)
    return computed(op, x, weight, bias, geometry)


def computed(
    op: ConvOp, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    """A convolution by this very operator."""
    if op.own_gradient:
        return op.forward(x, weight, bias, geometry)
    return _dispatched(op, x, weight, bias, geometry)


def _dispatched(
    op: ConvOp, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
) -> Tensor:
    y: Tensor = _RUNNER.conv2d(x, weight, bias, *_window(geometry), op.handle)
    return y


def pool(op: PoolOp, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """Pool with arguments that are known to be valid."""
    if not torch.compiler.is_compiling():
        _refuse(op, x, (), geometry, mode)
        if is_batchedtensor(x):
            return _dispatched_pool(op, x, mode, geometry)
        op = op.pick(x, mode, geometry)
    return pooled(op, x, mode, geometry)


def pooled(op: PoolOp, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """Pooling by this very operator."""
    if op.own_gradient:
        return op.forward(x, mode, geometry)
    return _dispatched_pool(op, x, mode, geometry)


def _dispatched_pool(op: PoolOp, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    keep = torch.is_grad_enabled() and x.requires_grad
    window = (geometry.kernel, geometry.stride, geometry.padding, geometry.ceil_mode)
    y: Tensor = _RUNNER.pool2d(
        x, mode, *window, geometry.count_include_pad, geometry.output, keep, op.handle
    )[0]
    return y


def _refuse(
    op: Any, x: Tensor, others: tuple[Tensor | None, ...], geometry: Any, *mode: str
) -> None:
    """Say what isn't computed, before something wrong is.

    A plan has asked the operator already; but a model may have been converted since.

    Raises:
        ConfigError: the operator can't compute this type of number, or on this device.
        NotImplementedError: a tensor carries a forward-mode derivative.
    """
    found = reasons(op, x, geometry, *mode)
    if found:
        expected = "an operator that can compute this"
        raise problem("ops", expected, f"'{op.handle}', which can't: " + "; ".join(found))
    if op.own_gradient:
        return
    unpacked: Any = forward_ad.unpack_dual
    for tensor in (x, *others):
        if tensor is not None and unpacked(tensor).tangent is not None:
            raise NotImplementedError("forward-mode derivatives are computed by op='native' only")


def reasons(op: Any, x: Tensor, *case: Any) -> list[str]:
    """Why the operator can't compute this case with such numbers."""
    return _reasons(op, *case, str(x.dtype).removeprefix("torch."), x.device.type)


@lru_cache(maxsize=4096)
def _reasons(op: Any, *case: Any) -> list[str]:
    found: list[str] = op.unsupported(*case)
    return found


_RUNNER: Any = torch.ops.runner  # torch leaves its operators untyped


# Looking a name up in the menu takes longer than computing something small.
_named_conv, _named_pool = cache(conv_op), cache(pool_op)


def conv_by_handle(handle: str) -> ConvOp:
    """The operator that a call was dispatched with."""
    op = BY_HANDLE.get(handle) or _named_conv(handle)
    assert isinstance(op, ConvOp)
    return op


def pool_by_handle(handle: str) -> PoolOp:
    """As `conv_by_handle`."""
    op = BY_HANDLE.get(handle) or _named_pool(handle)
    assert isinstance(op, PoolOp)
    return op


# Registration ------------------------------------------------------------------------------------
#
# Each operator has three functions: what it computes, the shape of that (`_shape`), and, where it
# can be differentiated, its gradient (`_backward`).

_WINDOW = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, int groups, str op"
_WINDOWS = (
    "str mode, int[] kernel, int[] stride, int[] padding, bool ceil_mode, bool count_include_pad, "
    "int[]? output"
)
_SCHEMAS = {
    "conv2d": f"(Tensor x, Tensor weight, Tensor? bias, {_WINDOW}) -> Tensor",
    "conv2d_input_gradient": f"(Tensor grad, Tensor weight, SymInt[] size, {_WINDOW}) -> Tensor",
    "conv2d_weight_gradient": f"(Tensor grad, Tensor x, SymInt[] kernel, {_WINDOW}) -> Tensor",
    "pool2d": f"(Tensor x, {_WINDOWS}, bool keep, str op) -> (Tensor, Tensor)",
    "pool2d_input_gradient": (
        f"(Tensor grad, Tensor? x, Tensor? indices, SymInt[] size, {_WINDOWS}, str op) -> Tensor"
    ),
}


def _window(geometry: ConvGeometry) -> tuple[Any, ...]:
    return geometry.stride, geometry.padding, geometry.dilation, geometry.groups


def conv_geometry(kernel: Any, window: Sequence[Any]) -> ConvGeometry:
    """The geometry that a call was dispatched with."""
    stride, padding, dilation, groups = window
    return ConvGeometry(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), groups)


def _conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, *rest: Any) -> Tensor:
    *window, handle = rest
    return conv_by_handle(handle).forward(x, weight, bias, conv_geometry(weight.shape[2:], window))


def _conv2d_shape(x: Tensor, weight: Tensor, _: Tensor | None, *rest: Any) -> Tensor:
    *window, _op = rest
    geometry = conv_geometry(weight.shape[2:], window)
    size = geometry.output_size((x.shape[2], x.shape[3]))
    return x.new_empty(x.shape[0], weight.shape[0], *size)


def _conv2d_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    needs_x, needs_weight, needs_bias, *_ = ctx.needs_input_grad
    return (
        _RUNNER.conv2d_input_gradient(grad, weight, ctx.size, *ctx.rest) if needs_x else None,
        _RUNNER.conv2d_weight_gradient(grad, x, ctx.kernel, *ctx.rest) if needs_weight else None,
        grad.sum(dim=(0, 2, 3)) if needs_bias else None,
        *[None] * len(ctx.rest),
    )


def _keep_conv2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # by name
    x, weight, _bias, *ctx.rest = inputs
    ctx.op = conv_by_handle(ctx.rest[-1])  # not to be gone before its gradient is asked for
    ctx.size, ctx.kernel = x.shape[2:], weight.shape[2:]
    needs_x, needs_weight, *_ = ctx.needs_input_grad
    # Each gradient needs the other argument.
    ctx.save_for_backward(x if needs_weight else None, weight if needs_x else None)


def _input_gradient(grad: Tensor, weight: Tensor, size: Any, *rest: Any) -> Tensor:
    *window, handle = rest
    geometry = conv_geometry(weight.shape[2:], window)
    return conv_by_handle(handle).input_gradient(grad, weight, tuple(size), geometry)


def _input_gradient_shape(grad: Tensor, weight: Tensor, size: Any, *rest: Any) -> Tensor:
    return grad.new_empty(grad.shape[0], weight.shape[1] * rest[3], *size)


def _input_gradient_backward(ctx: Any, wanted: Tensor) -> tuple[Any, ...]:
    # ⟨wanted, convᵀ(grad, weight)⟩ = ⟨conv(wanted, weight), grad⟩
    grad, weight = ctx.saved_tensors
    needs_grad, needs_weight, *_ = ctx.needs_input_grad
    return (
        _RUNNER.conv2d(wanted, weight, None, *ctx.rest) if needs_grad else None,
        _RUNNER.conv2d_weight_gradient(grad, wanted, ctx.kernel, *ctx.rest)
        if needs_weight
        else None,
        None,
        *[None] * len(ctx.rest),
    )


def _keep_input_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # by name
    grad, weight, _size, *ctx.rest = inputs
    ctx.op = conv_by_handle(ctx.rest[-1])
    ctx.kernel = weight.shape[2:]
    ctx.save_for_backward(grad, weight)


def _weight_gradient(grad: Tensor, x: Tensor, kernel: Any, *rest: Any) -> Tensor:
    *window, handle = rest
    return conv_by_handle(handle).weight_gradient(grad, x, conv_geometry(kernel, window))


def _weight_gradient_shape(grad: Tensor, x: Tensor, kernel: Any, *rest: Any) -> Tensor:
    return grad.new_empty(grad.shape[1], x.shape[1] // rest[3], *kernel)


def _weight_gradient_backward(ctx: Any, wanted: Tensor) -> tuple[Any, ...]:
    # ⟨wanted, ∂conv(x, ·)ᵀ(grad)⟩ = ⟨conv(x, wanted), grad⟩
    grad, x = ctx.saved_tensors
    needs_grad, needs_x, *_ = ctx.needs_input_grad
    return (
        _RUNNER.conv2d(x, wanted, None, *ctx.rest) if needs_grad else None,
        _RUNNER.conv2d_input_gradient(grad, wanted, x.shape[2:], *ctx.rest) if needs_x else None,
        None,
        *[None] * len(ctx.rest),
    )


def _keep_weight_gradient(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # by name
    grad, x, _kernel, *ctx.rest = inputs
    ctx.op = conv_by_handle(ctx.rest[-1])
    ctx.save_for_backward(grad, x)


def pool_geometry(windows: Sequence[Any]) -> PoolGeometry:
    """As `conv_geometry`."""
    kernel, stride, padding, ceil_mode, count_include_pad, output = windows
    sizes = (tuple(kernel), tuple(stride), tuple(padding))
    adaptive = None if output is None else tuple(output)
    return PoolGeometry(*sizes, ceil_mode, count_include_pad, adaptive)


def _pool2d(x: Tensor, mode: str, *rest: Any) -> tuple[Tensor, Tensor]:
    *windows, keep, handle = rest
    op, geometry = pool_by_handle(handle), pool_geometry(windows)
    if keep and op.indices(mode, geometry):
        return op.forward_with_indices(x, mode, geometry)
    return op.forward(x, mode, geometry), x.new_empty(0, dtype=torch.uint8)


def _pool2d_shape(x: Tensor, mode: str, *rest: Any) -> tuple[Tensor, Tensor]:
    *windows, keep, handle = rest
    geometry = pool_geometry(windows)
    y = x.new_empty(*x.shape[:2], *geometry.output_size((x.shape[2], x.shape[3])))
    kind = pool_by_handle(handle).indices(mode, geometry) if keep else None
    indices = x.new_empty(0, dtype=torch.uint8) if kind is None else y.to(getattr(torch, kind))
    return y, indices


def _pool2d_backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Any, ...]:
    x, indices = ctx.saved_tensors
    *windows, _, handle = ctx.rest
    found = _RUNNER.pool2d_input_gradient(grad, x, indices, ctx.size, *windows, handle)
    return (found, *[None] * len(ctx.rest))


def _keep_pool2d(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *ctx.rest = inputs
    ctx.size = x.shape[2:]
    mode, *windows, keep, handle = ctx.rest
    ctx.op = pool_by_handle(handle)
    indexed = keep and ctx.op.indices(mode, pool_geometry(windows))
    ctx.save_for_backward(None if indexed or mode == "avg" else x, output[1] if indexed else None)


def _pool_gradient(
    grad: Tensor, x: Tensor | None, indices: Tensor | None, size: Any, mode: str, *rest: Any
) -> Tensor:
    *windows, handle = rest
    geometry = pool_geometry(windows)
    return pool_by_handle(handle).input_gradient(grad, x, indices, tuple(size), mode, geometry)


def _pool_gradient_shape(grad: Tensor, _x: Any, _indices: Any, size: Any, *_: Any) -> Tensor:
    return grad.new_empty(*grad.shape[:2], *size)


def _no_second_derivative(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    raise NotImplementedError("the gradient of pooling can be differentiated with op='native' only")


LIBRARY: Any = torch.library.Library("runner", "DEF")  # type: ignore[no-untyped-call]  # torch's
_COMPUTED: dict[str, tuple[Any, ...]] = {
    "conv2d": (_conv2d, _conv2d_shape, _conv2d_backward, _keep_conv2d),
    "conv2d_input_gradient": (
        _input_gradient, _input_gradient_shape, _input_gradient_backward, _keep_input_gradient,
    ),
    "conv2d_weight_gradient": (
        _weight_gradient, _weight_gradient_shape, _weight_gradient_backward, _keep_weight_gradient,
    ),
    "pool2d": (_pool2d, _pool2d_shape, _pool2d_backward, _keep_pool2d),
    "pool2d_input_gradient": (_pool_gradient, _pool_gradient_shape, _no_second_derivative, None),
}  # fmt: skip
for _name, (_compute, _shape, _backward, _keep) in _COMPUTED.items():
    LIBRARY.define(_name + _SCHEMAS[_name])
    LIBRARY.impl(_name, _compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"runner::{_name}", _shape, lib=LIBRARY)
    torch.library.register_autograd(f"runner::{_name}", _backward, setup_context=_keep, lib=LIBRARY)
