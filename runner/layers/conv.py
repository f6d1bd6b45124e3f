"""Convolution: a kernel slides over the input and answers with one number per position."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from runner.config.errors import describe, problem
from runner.config.fields import Count, Padding, Size
from runner.config.numbers import farthest
from runner.geometry import AnyShape, ConvGeometry, Field, Shape, elements, resolve_padding
from runner.layers import Layer, check_window, maps
from runner.ops import OpName, Ops, conv_op
from runner.weights import Bias, Initializer, Kernels, Weight

if TYPE_CHECKING:
    import torch
    from torch import nn


class Conv(Layer):
    """Two-dimensional cross-correlation, the operation that deep learning calls convolution.

    Attributes:
        channels: output channels; left out when `weight` gives them.
        kernel: kernel height and width; left out when `weight` gives them.
        stride: step of the kernel.
        padding: what is added around the input, per side (`runner.config.fields.Padding`).
        pad_mode: what the added positions hold: zeros, or the input continued.
        dilation: distance between the kernel's elements.
        groups: channel groups convolved separately; ``depthwise`` is one group per channel.
        bias: whether a learnable bias is added, or its values. Default: yes, unless `weight`
            gives the kernel itself; with such a kernel, ``true`` starts it at zero.
        mode: ``correlation`` slides the kernel as written (the book, 6.2.1), ``convolution``
            flips it first, as mathematics does (6.2.5).
        weight: an initializer, a kernel of the bank, numbers, or a list of kernels stacked into
            output channels (`runner.weights`).
        trainable: whether learning may change the weight and the bias.
        ops: the operator for this layer alone; default: the stack's ``ops.conv``.
    """

    channels: Count | None = None
    kernel: Size | None = None
    stride: Size = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    pad_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros"
    dilation: Size = (1, 1)
    groups: Count | Literal["depthwise"] = 1
    bias: Bias = None
    mode: Literal["correlation", "convolution"] = "correlation"
    weight: Weight = Initializer("default")
    trainable: bool = True
    ops: OpName | None = None

    @model_validator(mode="after")
    def _complete(self) -> Conv:
        if isinstance(self.weight, Kernels):
            if self.kernel not in (None, self.weight.size):
                raise problem(
                    "kernel",
                    f"{list(self.weight.size)}, the size of weight",
                    describe(list(self.kernel or ())),
                    "Leave kernel out.",
                )
        else:
            for name in ("channels", "kernel"):
                if getattr(self, name) is None:
                    raise problem(
                        name,
                        "a value",
                        "nothing",
                        "Only a weight given by name or numbers says it by itself.",
                    )
        return self

    def geometry(self, x: Shape) -> ConvGeometry:
        """The resolved window for an input, without the padding that `pad_mode` adds beforehand."""
        kernel = self.weight.size if isinstance(self.weight, Kernels) else self.kernel
        assert kernel is not None  # _complete
        padding = resolve_padding(self.padding, kernel, self.dilation)
        groups = x.channels if self.groups == "depthwise" else self.groups
        return ConvGeometry(kernel, self.stride, padding, self.dilation, groups)

    def output_shape(self, x: AnyShape) -> Shape:
        """Channels by `channels` or `weight`; sizes by the book's formula (6.3.2)."""
        x = maps(x, "conv")
        geometry = self.geometry(x)
        channels = self._channels(x, geometry)
        if isinstance(self.bias, tuple) and len(self.bias) not in (1, channels):
            raise problem("bias", f"one number for all, or {channels}", str(len(self.bias)))
        check_window(x, geometry.kernel, geometry.extent, geometry.padding, geometry.stride)
        self._check_pad_mode(x, geometry)
        return Shape(channels, *geometry.output_size(x.size))

    def _channels(self, x: Shape, geometry: ConvGeometry) -> int:
        groups = geometry.groups
        if x.channels % groups:
            raise problem("groups", f"a divisor of the {x.channels} input channels", str(groups))
        if not isinstance(self.weight, Kernels):
            assert self.channels is not None  # _complete
            if self.channels % groups:
                raise problem("channels", f"a multiple of the {groups} groups", str(self.channels))
            return self.channels
        per_group = x.channels // groups
        if self.weight.channels not in (1, per_group):
            raise problem(
                "weight",
                f"kernels of {per_group} input channels (or of one, for all)",
                f"kernels of {self.weight.channels}",
            )
        # A bank without a channel axis is laid on every group; one with it spells out every output.
        shared = self.weight.channels == 1 and self.weight.shared
        given = self.weight.count * (groups if shared else 1)
        if given % groups:
            raise problem("weight", f"a multiple of the {groups} groups", f"{given} kernels")
        if self.channels not in (None, given):
            raise problem(
                "channels",
                f"{given}, the kernels in weight",
                str(self.channels),
                "Leave channels out.",
            )
        return given

    def _check_pad_mode(self, x: Shape, geometry: ConvGeometry) -> None:
        limits = {"reflect": -1, "circular": 0}
        if self.pad_mode not in limits:
            return
        top, bottom, left, right = geometry.padding
        for n, pad in ((x.height, max(top, bottom)), (x.width, max(left, right))):
            if pad > n + limits[self.pad_mode]:
                raise problem(
                    "padding",
                    f"at most {n + limits[self.pad_mode]} with pad_mode "
                    f"{self.pad_mode} on an input of {x}",
                    str(pad),
                    "Use pad_mode zeros or replicate.",
                )

    def parameters(self, x: AnyShape) -> int:
        """Weights c_out · c_in / groups · k_h · k_w, and c_out biases."""
        x = maps(x, "conv")
        geometry, out = self.geometry(x), self.output_shape(x).channels
        per_output = x.channels // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
        return out * (per_output + self.has_bias)

    def cost(self, x: AnyShape) -> int:
        """c_out · c_in / groups · k_h · k_w · o_h · o_w (the book, 6.4 exercise 2)."""
        x = maps(x, "conv")
        geometry = self.geometry(x)
        per_output = x.channels // geometry.groups * geometry.kernel[0] * geometry.kernel[1]
        return elements(self.output_shape(x)) * per_output

    def workspace(self, x: AnyShape, ops: Ops) -> int:
        """What the operator allocates, and a padded copy where `pad_mode` needs one."""
        x = maps(x, "conv")
        geometry = self.geometry(x)
        top, bottom, left, right = geometry.padding
        copies = self.pad_mode != "zeros" and any(geometry.padding)
        padded = x.channels * (x.height + top + bottom) * (x.width + left + right)
        out = self.output_shape(x)
        return padded * copies + conv_op(self.operator(ops), ops.auto).workspace(x, out, geometry)

    def scratch(self, x: AnyShape, ops: Ops) -> int:
        """The operator's."""
        x = maps(x, "conv")
        op = conv_op(self.operator(ops), ops.auto)
        return op.scratch(x, self.output_shape(x), self.geometry(x))

    def given(self) -> Mapping[str, float]:
        """Of the weight, or of what it is drawn by, and of the bias."""
        return {"weight": farthest(self.weight.values), "bias": farthest(self.bias)}

    def field(self, x: AnyShape, field: Field) -> Field:
        """Grows by (extent − 1) · jump; the jump is multiplied by the stride."""
        geometry = self.geometry(maps(x, "conv"))
        return field.through(geometry.extent, geometry.stride, geometry.padding[::2])

    def operator(self, ops: Ops) -> str:
        """The layer's own choice, or the stack's."""
        return self.ops or ops.conv

    def unsupported(self, x: AnyShape, ops: Ops, dtype: str, device: str) -> list[str]:
        """The operator's reasons."""
        geometry = self.geometry(maps(x, "conv"))
        return conv_op(self.operator(ops), ops.auto).unsupported(geometry, dtype, device)

    @property
    def has_bias(self) -> bool:
        """Whether a bias is added: as asked for, or when the weight is drawn, not given."""
        if self.bias is None:
            return not isinstance(self.weight, Kernels)
        return self.bias is not False

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `runner.modules.Conv2d`."""
        from runner import modules

        x = maps(x, "conv")
        geometry, out = self.geometry(x), self.output_shape(x)
        shape = (out.channels, x.channels // geometry.groups, *geometry.kernel)
        weight = modules.draw(self.weight, shape, generator)
        bias = None
        if self.has_bias:
            # Beside a kernel that is given, a bias drawn at random would only be in the way.
            zero = (0.0,) if isinstance(self.weight, Kernels) else None
            given = self.bias if isinstance(self.bias, tuple) else zero
            bias = modules.draw_bias(given, weight, generator)
        return modules.Conv2d(
            weight,
            bias,
            geometry=geometry,
            pad_mode=self.pad_mode,
            flip=self.mode == "convolution",
            op=self.operator(ops),
            auto=ops.auto,
            trainable=self.trainable,
        )
