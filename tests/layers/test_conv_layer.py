"""`kind: conv`: its fields, what they may be together, and what they resolve to."""

import pytest
import torch

from runner.config.errors import ConfigError
from runner.config.spec import check
from runner.geometry import Shape
from runner.layers.conv import Conv
from runner.ops import Ops


def conv(**fields) -> Conv:
    layer, problems = check(Conv, {"kind": "conv", **fields})
    assert problems == []
    return layer


def refused(**fields) -> list:
    layer, problems = check(Conv, {"kind": "conv", **fields})
    assert layer is None
    return [str(problem) for problem in problems]


class TestFields:
    def test_sizes(self):
        layer = conv(channels=2, kernel=3, stride=[1, 2], dilation=[2, 1])
        assert (layer.kernel, layer.stride, layer.dilation) == ((3, 3), (1, 2), (2, 1))

    @pytest.mark.parametrize(
        ("padding", "sides"),
        [
            (2, (2, 2, 2, 2)),
            ([2, 1], (2, 2, 1, 1)),
            ([0, 1, 2, 3], (0, 1, 2, 3)),
            ("same", (0, 1, 1, 1)),
            ("same_lower", (1, 0, 1, 1)),
            ("valid", (0, 0, 0, 0)),
        ],
        ids=str,
    )
    def test_padding(self, padding, sides):
        layer = conv(channels=1, kernel=[2, 3], padding=padding)
        assert layer.geometry(Shape(1, 8, 8)).padding == sides

    def test_same_counts_the_dilation(self):
        layer = conv(channels=1, kernel=3, padding="same", dilation=2)
        assert layer.geometry(Shape(1, 8, 8)).padding == (2, 2, 2, 2)
        assert layer.output_shape(Shape(1, 8, 8)) == Shape(1, 8, 8)

    def test_depthwise_is_a_group_per_channel(self):
        assert conv(channels=6, kernel=3, groups="depthwise").geometry(Shape(3, 8, 8)).groups == 3

    def test_it_is_frozen(self):
        with pytest.raises(ValueError, match="frozen"):
            conv(channels=1, kernel=3).channels = 2

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "channels: expected a value, got nothing. Only a weight given by name or"),
            ({"channels": 2}, "kernel: expected a value, got nothing."),
            ({"channels": "2", "kernel": 3}, "channels: expected an integer, got '2' (text)."),
            ({"channels": 2.0, "kernel": 3}, "channels: expected an integer, got 2.0. Write 2."),
            ({"channels": True, "kernel": 3}, "channels: expected an integer, got true."),
            ({"channels": 0, "kernel": 3}, "channels: expected at least 1, got 0."),
            (
                {"channels": 2**31, "kernel": 3},
                "channels: expected at most 2147483647, got 2147483648.",
            ),
            (
                {"channels": 1, "kernel": [3]},
                "kernel: expected an integer or [height, width], got [3].",
            ),
            (
                {"channels": 1, "kernel": [3, True]},
                "kernel: expected an integer or [height, width], got [3, True].",
            ),
            (
                {"channels": 1, "kernel": 3, "padding": [1, 2, 3]},
                "padding: expected an integer, [h, w], [top, bottom, left, right], same, "
                "same_lower or valid, got [1, 2, 3].",
            ),
            (
                {"channels": 1, "kernel": 3, "groups": "depthwize"},
                "groups: expected an integer or depthwise, got 'depthwize' (text). "
                "Did you mean 'depthwise'?",
            ),
            (
                {"channels": 1, "kernel": 3, "paddng": 2},
                "paddng: expected one of kind, channels, kernel, stride, padding, pad_mode, "
                "dilation, groups, bias, mode, weight, trainable, ops, got 'paddng'. "
                "Did you mean 'padding'?",
            ),
            (
                {"channels": 1, "kernel": 3, "trainable": "no"},
                "trainable: expected true or false, got 'no' (text).",
            ),
            (
                {"channels": 1, "kernel": 3, "bias": "yes"},
                "bias: expected true, false, a number or a list of numbers, got 'yes' (text). "
                "Write true.",
            ),
            (
                {"channels": 1, "kernel": 3, "bias": [[1]]},
                "bias: expected true, false, a number or a list of numbers, got [[1]].",
            ),
            (
                {"channels": 1, "kernel": 3, "bias": [1, float("inf")]},
                "bias[1]: expected a finite number, got inf.",
            ),
            (
                {"weight": "sobel_x", "kernel": 5},
                "kernel: expected [3, 3], the size of weight, got [5, 5]. Leave kernel out.",
            ),
            (
                {"weight": ["sobel_x", [[1]]]},
                "weight[1]: expected a 3×3 kernel, like the first, got 'numbers' of 1×1. "
                "The kernels of one layer share one size.",
            ),
            ({"weight": {"kernel": "box", "size": 0}}, "weight.size: expected an integer from 1"),
            (
                {"channels": 1, "kernel": 3, "ops": "loop"},
                "ops: expected one of ",
            ),
        ],
    )
    def test_mistakes(self, fields, message):
        (found,) = refused(**fields)
        assert found.startswith(message)


class TestChannels:
    def test_weights_say_them(self):
        x = Shape(3, 8, 8)
        assert conv(weight="sobel_x").output_shape(x) == Shape(1, 6, 6)
        assert conv(weight=["sobel_x", "sobel_y"]).output_shape(x) == Shape(2, 6, 6)
        # a bank is laid on every group
        assert conv(weight="sobel_x", groups="depthwise").output_shape(x) == Shape(3, 6, 6)
        both = conv(weight=["sobel_x", "sobel_y"], groups="depthwise")
        assert both.output_shape(x) == Shape(6, 6, 6)
        assert conv(weight="sobel_x", channels=1, kernel=3).output_shape(x).channels == 1

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"weight": "sobel_x", "channels": 2},
                "channels: expected 1, the kernels in weight, got 2. Leave channels out.",
            ),
            (
                {"weight": [[[[1]], [[1]]]]},
                "weight: expected kernels of 3 input channels (or of one, for all), "
                "got kernels of 2.",
            ),
            (
                {"weight": [[[[1]]], [[[2]]]], "groups": 3},
                "weight: expected a multiple of the 3 groups, got 2 kernels.",
            ),
            (
                {"channels": 4, "kernel": 1, "groups": 3},
                "channels: expected a multiple of the 3 groups, got 4.",
            ),
            (
                {"channels": 4, "kernel": 1, "groups": 2},
                "groups: expected a divisor of the 3 input channels, got 2.",
            ),
        ],
    )
    def test_misfits(self, fields, message):
        with pytest.raises(ConfigError) as caught:
            conv(**fields).output_shape(Shape(3, 8, 8))
        assert str(caught.value) == message

    def test_a_kernel_of_one_input_channel_spelled_out_fits_every_channel_count_it_says(self):
        spelled = conv(weight=[[[[1, -1]]]])
        assert spelled.output_shape(Shape(1, 4, 4)) == Shape(1, 4, 3)


class TestBias:
    def test_given_kernels_have_none_unless_asked(self):
        assert conv(channels=1, kernel=3).has_bias
        assert not conv(weight="sobel_x").has_bias
        assert conv(weight="sobel_x", bias=True).has_bias
        assert not conv(channels=1, kernel=3, bias=False).has_bias

    def test_zero_is_a_bias(self):
        layer = conv(weight="sobel_x", bias=0)
        assert layer.has_bias
        module = layer.build(Shape(1, 5, 5), Ops(), torch.Generator())
        assert module.bias.tolist() == [0]

    def test_numbers(self):
        layer = conv(weight=["sobel_x", "sobel_y"], bias=[1, -2.5])
        module = layer.build(Shape(1, 5, 5), Ops(), torch.Generator())
        assert module.bias.tolist() == [1, -2.5]
        one = conv(channels=3, kernel=2, bias=0.5)
        assert one.build(Shape(1, 5, 5), Ops(), torch.Generator()).bias.tolist() == [0.5] * 3

    def test_too_many_numbers(self):
        with pytest.raises(ConfigError, match="bias: expected one number for all, or 2, got 3"):
            conv(channels=2, kernel=3, bias=[1, 2, 3]).output_shape(Shape(1, 5, 5))


class TestPadMode:
    def test_limits(self):
        x = Shape(1, 4, 6)
        near = {"channels": 1, "kernel": 3, "padding": [3, 5]}
        assert conv(**near, pad_mode="reflect").output_shape(x) == Shape(1, 8, 14)
        round_ = near | {"padding": [4, 6]}
        assert conv(**round_, pad_mode="circular").output_shape(x) == Shape(1, 10, 16)
        far = near | {"padding": 100}
        assert conv(**far, pad_mode="replicate").output_shape(x) == Shape(1, 202, 204)
        with pytest.raises(ConfigError, match="padding: expected at most 3 with pad_mode reflect"):
            conv(**round_, pad_mode="reflect").output_shape(x)
        with pytest.raises(ConfigError, match="padding: expected at most 4 with pad_mode circular"):
            conv(**near | {"padding": [5, 0]}, pad_mode="circular").output_shape(x)

    def test_one_uneven_side_counts(self):
        layer = conv(channels=1, kernel=3, padding=[0, 4, 0, 0], pad_mode="reflect")
        with pytest.raises(ConfigError, match="got 4"):
            layer.output_shape(Shape(1, 4, 6))


def test_what_is_held_besides():
    # a padded copy of 10×10 by pad_mode; `loops` then pads what it was told, by its own count
    x = Shape(2, 8, 8)
    plain = conv(channels=1, kernel=3, padding=1)
    assert plain.workspace(x, Ops(conv="native")) == 0
    reflected = conv(channels=1, kernel=3, padding=1, pad_mode="reflect")
    assert reflected.workspace(x, Ops(conv="native")) == 2 * 10 * 10
    assert plain.workspace(x, Ops(conv="loops")) == 2 * 10 * 10
