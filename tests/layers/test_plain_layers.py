"""Layers that are torch's own modules: activation, batchnorm, dropout, flatten, linear."""

import pytest
import torch

from runner.config.errors import ConfigError
from runner.config.spec import check_kind
from runner.geometry import WHOLE, Features, Field, Shape
from runner.ops import Ops

X = Shape(3, 4, 5)


def layer(kind, **fields):
    spec, problems = check_kind("runner.layers", {"kind": kind, **fields}, "")
    assert problems == []
    return spec


def problem(kind, **fields):
    spec, problems = check_kind("runner.layers", {"kind": kind, **fields}, "")
    assert spec is None
    (found,) = problems
    return str(found)


def build(kind, x=X, **fields):
    return layer(kind, **fields).build(x, Ops(), torch.Generator().manual_seed(0))


class TestActivation:
    @pytest.mark.parametrize(
        ("function", "values"),
        [
            # at −1, 0 and 2, from the definitions
            ("relu", [0, 0, 2]),
            ("leaky_relu", [-0.01, 0, 2]),
            ("elu", [-0.63212056, 0, 2]),  # e⁻¹ − 1
            ("gelu", [-0.15865525, 0, 1.95449974]),  # x · Φ(x)
            ("silu", [-0.26894142, 0, 1.76159416]),  # x / (1 + e⁻ˣ)
            ("sigmoid", [0.26894142, 0.5, 0.88079708]),
            ("tanh", [-0.76159416, 0, 0.96402758]),
            ("softplus", [0.31326169, 0.69314718, 2.12692801]),  # ln(1 + eˣ)
            ("identity", [-1, 0, 2]),
        ],
    )
    def test_values(self, function, values):
        y = build("activation", function=function)(torch.tensor([-1.0, 0.0, 2.0]).double())
        assert y.tolist() == pytest.approx(values, abs=1e-8)

    def test_slope(self):
        y = build("activation", function="leaky_relu", slope=0.5)(torch.tensor([-4.0, 4.0]))
        assert y.tolist() == [-2, 4]

    def test_mistakes(self):
        assert problem("activation", function="rellu").endswith("Did you mean 'relu'?")
        assert problem("activation").startswith("function: expected")
        assert problem("activation", function="relu", slope=0.1) == (
            "slope: expected nothing unless function is leaky_relu, got 0.1."
        )
        assert problem("activation", function="leaky_relu", slope=-1.0) == (
            "slope: expected at least 0, got -1.0."
        )
        assert problem("activation", function="leaky_relu", slope=float("nan")).startswith(
            "slope: expected "
        )

    def test_nothing_changes_but_the_numbers(self):
        spec = layer("activation", function="relu")
        assert spec.output_shape(X) == X
        assert spec.output_shape(Features(7)) == Features(7)
        assert spec.field(X, Field()) == Field()
        assert spec.parameters(X) == spec.cost(X) == 0


class TestBatchNorm:
    def test_normalises_each_channel(self):
        x = torch.randn(4, 3, 4, 5) * 7 + torch.tensor([1.0, -20.0, 300.0])[:, None, None]
        y = build("batchnorm")(x)
        assert y.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-4)
        assert y.var(dim=(0, 2, 3), correction=0).tolist() == pytest.approx([1] * 3, abs=1e-3)

    def test_a_vector_over_the_batch(self):
        y = build("batchnorm", Features(2))(torch.tensor([[0.0, 5.0], [2.0, 9.0]]))
        assert y.tolist() == [pytest.approx([-1, -1], abs=1e-4), pytest.approx([1, 1], abs=1e-4)]

    def test_momentum(self):
        module = build("batchnorm", Features(1), momentum=0.25)
        module(torch.tensor([[0.0], [8.0]]))
        assert module.running_mean.tolist() == [1]  # a quarter of the batch's mean, 4

    def test_parameters_and_cost(self):
        assert layer("batchnorm").parameters(X) == 6
        assert layer("batchnorm", affine=False).parameters(X) == 0
        assert layer("batchnorm").parameters(Features(9)) == 18
        assert layer("batchnorm").cost(X) == 60

    def test_mistakes(self):
        assert problem("batchnorm", eps=0.0) == "eps: expected more than 0, got 0.0."
        assert problem("batchnorm", momentum=1.5) == "momentum: expected at most 1, got 1.5."
        assert problem("batchnorm", eps=float("inf")) == "eps: expected a finite number, got inf."
        assert problem("batchnorm", eps="small") == "eps: expected a number, got 'small' (text)."


class TestDropout:
    def test_only_while_training(self):
        module, x = build("dropout", p=0.25), torch.ones(100, 100)
        y = module(x)
        assert y.unique().tolist() == pytest.approx([0, 4 / 3])
        assert (y == 0).double().mean() == pytest.approx(0.25, abs=0.03)
        assert torch.equal(module.eval()(x), x)

    @pytest.mark.parametrize(
        ("p", "message"),
        [
            (1.0, "p: expected less than 1, got 1.0."),
            (-0.1, "p: expected at least 0, got -0.1."),
            (None, "p: expected a number, got nothing (null)."),
        ],
    )
    def test_mistakes(self, p, message):
        assert problem("dropout", p=p) == message


class TestFlatten:
    def test_channel_by_channel_row_by_row(self):
        x = torch.arange(24).reshape(2, 3, 2, 2)
        assert build("flatten")(x).tolist() == [list(range(12)), list(range(12, 24))]
        assert layer("flatten").output_shape(X) == Features(60)
        assert layer("flatten").output_shape(Features(5)) == Features(5)
        assert layer("flatten").field(X, Field()) == WHOLE


class TestLinear:
    def test_shape_parameters_cost(self):
        spec = layer("linear", features=10)
        assert spec.output_shape(Features(84)) == Features(10)
        assert (spec.parameters(Features(84)), spec.cost(Features(84))) == (850, 840)
        assert layer("linear", features=10, bias=False).parameters(Features(84)) == 840
        assert spec.field(Features(84), Field()) == WHOLE

    def test_computes(self):
        module = build("linear", Features(3), features=2, weight="ones", bias=False)
        assert module(torch.tensor([[1.0, 2.0, 4.0]])).tolist() == [[7, 7]]
        assert not any("bias" in name for name in module.state_dict())

    def test_initializer(self):
        weight = {"initializer": "constant", "value": 0.5}
        assert (build("linear", Features(3), features=2, weight=weight).weight == 0.5).all()

    def test_mistakes(self):
        assert problem("linear") == (
            "features: expected a value, got nothing. "
            "Only a weight given as numbers says it by itself."
        )
        assert problem("linear", features=0) == "features: expected at least 1, got 0."
        found = problem("linear", features=2, weight="sobel_x")
        assert found.startswith("weight: expected an initializer, one of default, uniform")
        assert found.endswith("got 'sobel_x'.")
        found = problem("linear", features=2, weight={"kernel": "sobel_x"})
        assert found.endswith("or rows of numbers, one per feature, got a kernel (sobel_x).")
        assert problem("linear", features=2, weight="xavier_unifrom").endswith(
            "Did you mean 'xavier_uniform'?"
        )

    def test_maps_are_refused(self):
        with pytest.raises(ConfigError, match="it gives 60 features"):
            layer("linear", features=2).output_shape(X)


class TestLinearWithNumbers:
    X = torch.tensor([[1.0, 2.0, 4.0]])

    def test_computes(self):
        # 1 − 4 and 2 · 2 + 3 · 4
        module = build("linear", Features(3), weight=[[1, 0, -1], [0, 2, 3]])
        assert module.float()(self.X).tolist() == [[-3, 16]]
        spec = layer("linear", weight=[[1, 0, -1], [0, 2, 3]])
        assert spec.output_shape(Features(3)) == Features(2)
        # A given weight comes alone, as a given kernel does.
        assert (spec.parameters(Features(3)), spec.cost(Features(3))) == (6, 6)

    def test_bias(self):
        weight = [[1, 0, -1], [0, 2, 3]]
        for bias, values in (([10, 20], [7, 36]), (5, [2, 21]), (True, [-3, 16])):
            module = build("linear", Features(3), weight=weight, bias=bias)
            assert module.float()(self.X).tolist() == [values]
            assert layer("linear", weight=weight, bias=bias).parameters(Features(3)) == 8
        drawn = build("linear", Features(3), features=2, bias=[10, 20])
        assert drawn.bias.tolist() == [10, 20]

    def test_nothing_is_lost_in_double_precision(self):
        module = build("linear", Features(1), weight=[[0.1]])
        assert module.double().weight.item() == 0.1

    def test_mistakes(self):
        matrix = [[1, 0, -1], [0, 2, 3]]
        assert problem("linear", weight=matrix, features=3) == (
            "features: expected 2, the rows of weight, got 3. Leave features out."
        )
        assert problem("linear", weight=matrix, bias=[1, 2, 3]) == (
            "bias: expected one number for all, or 2, one per feature, got 3."
        )
        assert problem("linear", weight=[1, 2]).endswith(
            "got numbers in 1 dimensions. Put one row into brackets too: [[…]]."
        )
        assert problem("linear", weight=[[1, 2], [3]]).startswith("weight[1]: expected a list of 2")
        assert problem("linear", weight=[["one"]]).startswith("weight[0][0]: expected a number")
        with pytest.raises(ConfigError) as caught:
            layer("linear", weight=matrix).output_shape(Features(4))
        assert str(caught.value) == (
            "weight: expected rows of 4 numbers, one per input, got 2×3 numbers."
        )


class TestPerPixelLinear:
    def test_one_matrix_for_every_pixel(self):
        # Channels a and b become a + 2b, −b and 3a; by hand at each of the four pixels.
        x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]])
        weight = [[1, 2], [0, -1], [3, 0]]
        module = build("linear", Shape(2, 2, 2), weight=weight, per_pixel=True).float()
        assert module(x).tolist() == [
            [[[11, 14], [17, 20]], [[-5, -6], [-7, -8]], [[3, 6], [9, 12]]]
        ]
        module = build("linear", Shape(2, 2, 2), weight=weight, per_pixel=True, bias=[1, 0, -1])
        assert module.float()(x)[0, :, 0, 0].tolist() == [12, -5, 2]

    def test_shape_parameters_cost(self):
        spec = layer("linear", features=6, per_pixel=True)
        assert spec.output_shape(X) == Shape(6, 4, 5)
        # 6 · 3 weights and 6 biases; 18 multiply-adds at each of 20 pixels
        assert (spec.parameters(X), spec.cost(X)) == (24, 360)
        assert spec.field(X, Field()) == Field()
        module = build("linear", features=6, per_pixel=True)
        assert sum(p.numel() for p in module.parameters()) == 24
        assert module(torch.zeros(2, 3, 4, 5)).shape == (2, 6, 4, 5)

    def test_drawn_as_a_dense_layer_of_so_many_inputs(self):
        pixel = build("linear", Shape(3, 4, 5), features=2, per_pixel=True)
        flat = build("linear", Features(3), features=2)
        assert torch.equal(pixel.weight, flat.weight)
        assert torch.equal(pixel.bias, flat.bias)

    def test_mistakes(self):
        with pytest.raises(ConfigError, match="flat vector of 60"):
            layer("linear", features=2, per_pixel=True).output_shape(Features(60))
        with pytest.raises(ConfigError) as caught:
            layer("linear", weight=[[1, 2]], per_pixel=True).output_shape(X)
        assert str(caught.value) == (
            "weight: expected rows of 3 numbers, one per channel, got 1×2 numbers."
        )
        with pytest.raises(ConfigError, match=r"Or set per_pixel: true\."):
            layer("linear", features=2).output_shape(X)
