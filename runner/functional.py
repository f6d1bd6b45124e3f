"""The public operators on tensors: validate once, then hand over to the chosen implementation."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from runner import batching as _batching  # noqa: F401  # the operators' rules for torch.vmap
from runner import menu
from runner.autograd import convolve, pool
from runner.config.errors import ConfigError, describe, one_of, problem
from runner.config.spec import check
from runner.geometry import Shape, elements
from runner.layers import Layer
from runner.layers.conv import Conv
from runner.layers.pool import Pool
from runner.machine import memory
from runner.ops import PACKAGE, Ops, conv_op, pool_op
from runner.plan import ITEM_BYTES
from runner.readable import readable_bytes

MOST = 2**40
"""Numbers in one call; beyond what a machine holds, torch's own arithmetic may overflow."""


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    pad_mode: str = "zeros",
    mode: str = "correlation",
    op: str = "native",
) -> Tensor:
    """Two-dimensional cross-correlation, or strict convolution, by a chosen operator.

    Args:
        x: n × c_in × h × w; or h × w together with a weight of kh × kw, as in the book's 6.2.1.
        weight: c_out × c_in / groups × kh × kw.
        bias: c_out, or None.
        stride: step down and across.
        padding: per side: a number, (h, w), (top, bottom, left, right), or ``same``,
            ``same_lower``, ``valid``.
        dilation: distance between kernel elements, down and across.
        groups: channel groups that are convolved separately.
        pad_mode: ``zeros``, ``reflect``, ``replicate`` or ``circular``.
        mode: ``correlation``, or ``convolution`` to flip the kernel first.
        op: the implementation, a name from ``runner/ops/``.

    Returns:
        n × c_out × oh × ow; differentiable with respect to `x`, `weight` and `bias`.

    Raises:
        ConfigError: shapes, sizes or types that don't fit, or an operator that can't compute the
            case; the operator is never replaced by another.
    """
    _check_types(x=x, weight=weight)
    if x.dim() == weight.dim() == 2:
        options: Any = {"stride": stride, "padding": padding, "dilation": dilation}
        options |= {"groups": groups, "pad_mode": pad_mode, "mode": mode, "op": op}
        return conv2d(x[None, None], weight[None, None], bias, **options)[0, 0]
    _check_tensors({"x": x, "weight": weight, "bias": bias}, {"x": 4, "weight": 4, "bias": 1})
    geometry = _geometry(
        Conv,
        x,
        channels=weight.shape[0],
        kernel=tuple(weight.shape[2:]),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        pad_mode=pad_mode,
        mode=mode,
        ops=op,
    )
    if weight.shape[1] * geometry.groups != x.shape[1]:
        raise problem(
            "weight",
            f"{x.shape[1] // geometry.groups} input channels per group",
            f"{weight.shape[1]} (weight is {_dims(weight)}, x is {_dims(x)})",
        )
    if bias is not None and bias.shape[0] != weight.shape[0]:
        raise problem("bias", f"{weight.shape[0]} numbers", str(bias.shape[0]))
    return convolve(conv_op(op), x, weight, bias, geometry, pad_mode, flip=mode == "convolution")


def pool2d(
    x: Tensor,
    kernel: int | tuple[int, int] | None = None,
    mode: str = "max",
    *,
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, ...] | str = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    output_size: int | tuple[int, int] | None = None,
    op: str = "native",
) -> Tensor:
    """Two-dimensional pooling by a chosen operator.

    Args:
        x: n × c × h × w, or h × w.
        kernel: window height and width; left out with `output_size`.
        mode: ``max``, ``avg`` or ``min``.
        stride: step down and across; default: the kernel's size.
        padding: as in `conv2d`; padded positions never win a maximum or minimum.
        ceil_mode: keep a last window that hangs over the end.
        count_include_pad: divide averages by the window's positions in the padded input.
        output_size: adaptive pooling to that many windows; 1 is global pooling.
        op: the implementation, a name from ``runner/ops/``.

    Returns:
        n × c × oh × ow (or oh × ow), differentiable with respect to `x`.

    Raises:
        ConfigError: as `conv2d`.
    """
    _check_types(x=x)
    if x.dim() == 2:
        options: Any = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        options |= {"count_include_pad": count_include_pad, "output_size": output_size, "op": op}
        return pool2d(x[None, None], kernel, mode, **options)[0, 0]
    _check_tensors({"x": x}, {"x": 4})
    geometry = _geometry(
        Pool,
        x,
        mode=mode,
        kernel=kernel,
        stride=stride,
        padding=padding,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        output_size=output_size,
        ops=op,
    )
    return pool(pool_op(op), x, mode, geometry)


def _geometry(spec: type[Any], x: Tensor, **fields: Any) -> Any:
    """The geometry of a call; its arguments are checked when they first come."""
    known = (Shape(*x.shape[1:]), x.shape[0], _dtype(x), x.device.type)
    given = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
    if not isinstance(given["ops"], str):
        raise problem("op", one_of(menu.names(PACKAGE)), describe(given["ops"]))
    checked: Any = _checked.__wrapped__ if torch.compiler.is_compiling() else _checked
    try:
        return checked(spec, repr(given), *known, **given)
    except TypeError:  # something that can't be remembered, and is wrong anyway: {}, [[1], 2]
        return _checked.__wrapped__(spec, "", *known, **given)
    except ConfigError as error:
        # A layer's `ops` is called `op` here.
        found = (replace(p, path="op") if p.path == "ops" else p for p in error.problems)
        raise ConfigError(*found) from None


# The same call comes again, in a loop. What it says, word for word, is part of the key: True equals
# 1, but is no stride.
@lru_cache(maxsize=1024)
def _checked(
    spec: type[Any], _: str, x: Shape, batch: int, dtype: str, device: str, **fields: object
) -> Any:
    layer = _layer(spec, **fields)
    layer.output_shape(x)
    _check_size(layer, x, batch, dtype, device)
    layer.check_operator(x, Ops(), dtype, device, "op")
    return layer.geometry(x)


def _layer(spec: type[Any], **fields: object) -> Any:
    """The layer that the arguments describe, so that they are checked where YAML's are."""
    kind = spec.__module__.rsplit(".", 1)[1]
    raw = {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}
    layer, problems = check(spec, {"kind": kind, **raw})
    if problems:
        raise ConfigError(*problems)
    return layer


def _check_types(**given: object) -> None:
    for name, value in given.items():
        if not isinstance(value, Tensor):
            hint = "Convert it: torch.as_tensor(…)."
            raise problem(name, "a torch tensor", type(value).__name__, hint)


def _check_tensors(tensors: dict[str, Tensor | None], dims: dict[str, int]) -> None:
    x = tensors["x"]
    assert x is not None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dim() != dims[name]:
            raise problem(name, f"a tensor of {dims[name]} dimensions", _dims(tensor))
        if 0 in (tensor.shape[1:] if name == "x" else tensor.shape):
            raise problem(name, "no empty dimension but the batch", _dims(tensor))
        if _dtype(tensor) not in ITEM_BYTES:
            raise problem(name, one_of(ITEM_BYTES), _dtype(tensor), _conversion(tensor))
        if tensor.dtype != x.dtype or tensor.device != x.device:
            raise problem(
                name, f"{_dtype(x)} on {x.device}, like x", f"{_dtype(tensor)} on {tensor.device}"
            )


def _conversion(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "No operator computes complex numbers: convolve .real and .imag."
    if not tensor.is_floating_point():
        return "No operator computes whole numbers: convert them, .float()."
    return "Convert it: .float()."


def _check_size(layer: Layer, x: Shape, batch: int, dtype: str, device: str) -> None:
    output, batch = elements(layer.output_shape(x)), max(batch, 1)
    numbers = batch * (output + layer.workspace(x, Ops()))
    if numbers > MOST:
        raise problem("padding", f"at most {MOST} numbers to compute and hold", str(numbers))
    if device != "cpu":
        return

    def needed(layer: Layer) -> int:
        held = layer.workspace(x, Ops()) + layer.scratch(x, Ops())
        return ITEM_BYTES[dtype] * batch * (output + held)

    room = memory()
    if needed(layer) > room:
        others = layer.operators(x, Ops(), dtype, "cpu")
        able = [name for name, other in others if needed(other) <= room]
        raise problem(
            "op",
            f"one that fits into this machine's memory ({readable_bytes(room)}): "
            + (", ".join(able) or "none does"),
            f"'{layer.operator(Ops())}', which needs {readable_bytes(needed(layer))}",
        )


def _dims(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a single number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
