"""Linear: every output is a weighted sum of all inputs, the book's fully connected layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import PlainValidator, model_validator

from runner.config.errors import did_you_mean, one_of, problem
from runner.config.fields import Count
from runner.config.numbers import Nested, array, farthest
from runner.geometry import WHOLE, AnyShape, Features, Field, Shape, elements
from runner.layers import Layer, maps
from runner.ops import Ops
from runner.weights import INITIALIZERS, Bias, Initializer, parse

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Matrix:
    """Weights that are given: a row per feature, a column per input."""

    rows: Nested
    features: int
    inputs: int


def _weight(value: object) -> Initializer | Matrix:
    """An initializer, or numbers as a matrix.

    Raises:
        ConfigError: a kernel, ragged numbers, numbers of other than two dimensions.
    """
    if isinstance(value, Initializer | Matrix):
        return value
    expected = f"an initializer, {one_of(INITIALIZERS)}, or rows of numbers, one per feature"
    if isinstance(value, str) and value not in INITIALIZERS:
        raise problem("", expected, f"'{value}'", did_you_mean(value, INITIALIZERS))
    if isinstance(value, list):
        rows, shape = array(value)
        if len(shape) != 2:
            hint = "Put one row into brackets too: [[…]]." if len(shape) == 1 else ""
            raise problem("", expected, f"numbers in {len(shape)} dimensions", hint)
        return Matrix(rows, *shape)
    found = parse(value)
    if not isinstance(found, Initializer):
        raise problem("", expected, f"a kernel ({found})")
    return found


class Linear(Layer):
    """A dense layer on a flat vector, or on the channels of every pixel.

    Attributes:
        features: how many outputs; left out when `weight` gives them.
        per_pixel: act on feature maps, c × h × w to features × h × w, by one matrix for the
            channels of every pixel: what a 1×1 convolution does (the book, 6.4.3).
        bias: whether a learnable bias is added, or its values. Default: yes, unless `weight` gives
            the numbers; with such a weight, ``true`` starts it at zero.
        weight: an initializer (`runner.weights`), or features × inputs numbers.
        trainable: whether learning may change the weight and the bias.
    """

    features: Count | None = None
    per_pixel: bool = False
    bias: Bias = None
    weight: Annotated[Initializer | Matrix, PlainValidator(_weight)] = Initializer("default")
    trainable: bool = True

    @model_validator(mode="after")
    def _complete(self) -> Linear:
        given = self.weight.features if isinstance(self.weight, Matrix) else None
        if self.features is None and given is None:
            hint = "Only a weight given as numbers says it by itself."
            raise problem("features", "a value", "nothing", hint)
        if None not in (self.features, given) and self.features != given:
            expected = f"{given}, the rows of weight"
            raise problem("features", expected, str(self.features), "Leave features out.")
        if isinstance(self.bias, tuple) and len(self.bias) not in (1, self._outputs):
            expected = f"one number for all, or {self._outputs}, one per feature"
            raise problem("bias", expected, str(len(self.bias)))
        return self

    @property
    def _outputs(self) -> int:
        features = self.weight.features if isinstance(self.weight, Matrix) else self.features
        assert features is not None  # _complete
        return features

    @property
    def has_bias(self) -> bool:
        """Whether a bias is added: as asked for, or when the weight is drawn, not given."""
        return not isinstance(self.weight, Matrix) if self.bias is None else self.bias is not False

    def output_shape(self, x: AnyShape) -> AnyShape:
        """`features`, whatever came in; with `per_pixel` at every pixel."""
        if isinstance(x, Shape) and not self.per_pixel:
            raise problem(
                "",
                "a flat vector as input of a linear layer",
                f"feature maps of {x}",
                f"Put a flatten layer before it; it gives {elements(x)} features. "
                "Or set per_pixel: true.",
            )
        inputs = self._inputs(x)
        if isinstance(self.weight, Matrix) and self.weight.inputs != inputs:
            what = "channel" if self.per_pixel else "input"
            raise problem(
                "weight",
                f"rows of {inputs} numbers, one per {what}",
                f"{self.weight.features}×{self.weight.inputs} numbers",
            )
        if isinstance(x, Shape):
            return Shape(self._outputs, *x.size)
        return Features(self._outputs)

    def _inputs(self, x: AnyShape) -> int:
        """Columns of the matrix."""
        return maps(x, "per-pixel linear").channels if self.per_pixel else elements(x)

    def parameters(self, x: AnyShape) -> int:
        """Features · inputs, and one bias per output."""
        return self._outputs * (self._inputs(x) + self.has_bias)

    def cost(self, x: AnyShape) -> int:
        """Features · inputs, at every pixel with `per_pixel`."""
        return self._outputs * elements(x)

    def given(self) -> Mapping[str, float]:
        """Of the weight, or of what it is drawn by, and of the bias."""
        given = self.weight.rows if isinstance(self.weight, Matrix) else self.weight.values
        return {"weight": farthest(given), "bias": farthest(self.bias)}

    def field(self, x: AnyShape, field: Field) -> Field:
        """The whole input; with `per_pixel`, as the input's."""
        return field if self.per_pixel else WHOLE

    def build(self, x: AnyShape, ops: Ops, generator: torch.Generator) -> nn.Module:
        """A `torch.nn.Linear`, or a `runner.modules.PerPixelLinear`."""
        import torch
        from torch import nn

        from runner import modules

        shape = (self._outputs, self._inputs(x))
        if isinstance(self.weight, Matrix):
            # In double precision, so that a float64 run loses nothing; the run converts the model.
            weight = torch.tensor(self.weight.rows, dtype=torch.float64)
        else:
            weight = modules.draw(self.weight, shape, generator)
        kind = modules.PerPixelLinear if self.per_pixel else nn.Linear
        module = kind(shape[1], shape[0], self.has_bias, device="meta")
        module.weight = nn.Parameter(weight)
        if self.has_bias:
            zero = (0.0,) if isinstance(self.weight, Matrix) else None
            given = self.bias if isinstance(self.bias, tuple) else zero
            module.bias = nn.Parameter(modules.draw_bias(given, weight, generator))
        return module.requires_grad_(self.trainable)
