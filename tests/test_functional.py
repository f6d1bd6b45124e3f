"""The public functions: what they compute, and how they refuse what they can't."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from runner import menu
from runner.config.errors import ConfigError
from runner.functional import conv2d, pool2d
from runner.ops import ConvOp, PoolOp

CONVS = [n for n in menu.names("runner.ops") if menu.find("runner.ops", n, ConvOp)]
POOLS = [n for n in menu.names("runner.ops") if menu.find("runner.ops", n, PoolOp)]
X = torch.arange(9.0, dtype=torch.float64).reshape(3, 3)
K = torch.tensor([[0.0, 1.0], [2.0, 3.0]], dtype=torch.float64)


def integers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=generator).double()


def or_skip(function, *args, **kwargs):
    """The result, unless the operator says that it can't."""
    try:
        return function(*args, **kwargs)
    except ConfigError as error:
        if all(problem.path == "op" for problem in error.problems):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("op", CONVS)
class TestConv:
    def test_rows_and_columns_alone(self, op):
        y = or_skip(conv2d, X, K, op=op)
        assert y.round().tolist() == [[19, 25], [37, 43]]
        assert conv2d(X, K, mode="convolution", op=op).round().tolist() == [[5, 11], [23, 29]]
        bias = torch.tensor([100.0], dtype=torch.float64)
        y = conv2d(X, K, bias, padding=1, stride=(3, 2), op=op)
        assert y.round().tolist() == [[100, 108], [106, 108]]

    @pytest.mark.parametrize(
        ("padding", "sides"),
        [
            (1, ((1, 1), (1, 1))),
            ((2, 1), ((2, 2), (1, 1))),
            ((0, 1, 2, 3), ((0, 1), (2, 3))),
            ((0, 0, 1, 0), ((0, 0), (1, 0))),
        ],
        ids=str,
    )
    @pytest.mark.parametrize(
        ("pad_mode", "numpys"),
        [
            ("zeros", "constant"),
            ("reflect", "reflect"),
            ("replicate", "edge"),
            ("circular", "wrap"),
        ],
    )
    def test_pad_modes_are_numpys(self, op, padding, sides, pad_mode, numpys):
        x, weight = integers(2, 2, 4, 5), integers(3, 2, 2, 3, seed=1)
        padded = np.pad(x.numpy(), ((0, 0), (0, 0), *sides), numpys)
        expected = F.conv2d(torch.from_numpy(padded), weight)
        y = or_skip(conv2d, x, weight, padding=padding, pad_mode=pad_mode, op=op)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-11)

    @pytest.mark.parametrize("kernel", [(2, 4), (3, 3), (1, 2), (5, 2)], ids=str)
    @pytest.mark.parametrize("dilation", [1, (2, 1)], ids=str)
    @pytest.mark.filterwarnings(
        "ignore:Using padding='same':UserWarning"
    )  # torch, on its own speed
    def test_same_is_torchs(self, op, kernel, dilation):
        x, weight = integers(1, 2, 7, 8), integers(2, 2, *kernel, seed=1)
        y = or_skip(conv2d, x, weight, padding="same", dilation=dilation, op=op)
        expected = F.conv2d(x, weight, padding="same", dilation=dilation)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-11)

    def test_same_lower_is_shifted_by_the_odd_pixel(self, op):
        # an even kernel: one more row above and column on the left, so everything moves there
        x, weight = integers(1, 1, 6, 7), integers(1, 1, 2, 4, seed=1)
        upper = or_skip(conv2d, x, weight, padding="same", op=op)
        lower = conv2d(x, weight, padding="same_lower", op=op)
        assert upper.shape == lower.shape == x.shape
        torch.testing.assert_close(lower[:, :, 1:, 1:], upper[:, :, :-1, :-1])

    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            # padded by a row below and a column on the right: 0 1 2 0 / … ; windows at 0 and 2
            ("same", [[19, 10], [7, 0]]),
            # by a row above and a column on the left: the corners of the padded result, 6.3.1
            ("same_lower", [[0, 8], [21, 43]]),
            ("valid", [[19]]),
        ],
    )
    def test_rules_with_a_stride(self, op, rule, expected):
        # same: [0,1,3,4]·K = 19; [2,·,5,·]: 2·0 + 5·2 = 10; [6,7]: 7·1 = 7; [8]: 8·0 = 0
        y = or_skip(conv2d, X, K, padding=rule, stride=2, op=op)
        assert y.round().tolist() == expected

    def test_tuples_of_torch(self, op):
        # torch.Size is a tuple too
        y = or_skip(conv2d, X, K, stride=torch.Size((2, 1)), op=op)
        assert y.round().tolist() == [[19, 25]]

    def test_batch_of_none(self, op):
        x = torch.zeros(0, 2, 5, 5, dtype=torch.float64, requires_grad=True)
        weight = integers(4, 2, 3, 3).requires_grad_()
        y = or_skip(conv2d, x, weight, padding=(1, 0, 2, 0), pad_mode="circular", op=op)
        assert y.shape == (0, 4, 4, 5)
        y.sum().backward()
        assert x.grad.shape == x.shape
        assert (weight.grad == 0).all()


@pytest.mark.parametrize("op", POOLS)
class TestPool:
    def test_rows_and_columns_alone(self, op):
        assert or_skip(pool2d, X, 2, stride=1, op=op).tolist() == [[4, 5], [7, 8]]
        assert pool2d(X, 2, "avg", stride=1, op=op).tolist() == [[2, 3], [5, 6]]
        assert pool2d(X, output_size=1, mode="avg", op=op).tolist() == [[4]]

    def test_stride_is_the_kernels_by_default(self, op):
        sixteen = torch.arange(16.0).reshape(4, 4)
        assert or_skip(pool2d, sixteen, 3, op=op).tolist() == [[10]]
        assert pool2d(sixteen, 3, padding=1, stride=2, op=op).tolist() == [[5, 7], [13, 15]]
        y = pool2d(sixteen, (2, 3), stride=(2, 3), padding=(0, 1), op=op)
        assert y.tolist() == [[5, 7], [13, 15]]

    def test_same(self, op):
        # one column more on the right, so that row 0 1 2 gives 1 2 2
        assert or_skip(pool2d, X, 2, stride=1, padding="same", op=op).tolist() == [
            [4, 5, 5],
            [7, 8, 8],
            [7, 8, 8],
        ]

    def test_largest_window(self, op):
        # a window of 2³¹ − 1 that sees everything; nothing of that size is allocated
        y = or_skip(pool2d, X, 2**31 - 1, padding=2**30 - 1, op=op)
        assert y.tolist() == [[8]]


def x(*shape):
    return torch.ones(*(shape or (1, 2, 4, 4)))


def w(*shape):
    return torch.ones(*(shape or (3, 2, 3, 3)))


CONV_MISTAKES = {
    "three dimensions": (
        lambda: conv2d(x(2, 4, 4), w()),
        "x: expected a tensor of 4 dimensions, got 2×4×4.",
    ),
    "one without dimensions": (
        lambda: conv2d(x(), torch.tensor(1.0)),
        "weight: expected a tensor of 4 dimensions, got a single number.",
    ),
    "no channels": (
        lambda: conv2d(torch.ones(1, 0, 4, 4), w()),
        "x: expected no empty dimension but the batch, got 1×0×4×4.",
    ),
    "no outputs": (
        lambda: conv2d(x(), torch.ones(0, 2, 3, 3)),
        "weight: expected no empty dimension but the batch, got 0×2×3×3.",
    ),
    "integers": (
        lambda: conv2d(x().long(), w().long()),
        "x: expected one of float64, float32, bfloat16, float16, got int64. "
        "No operator computes whole numbers: convert them, .float().",
    ),
    "complex": (
        lambda: conv2d(x().to(torch.complex64), w()),
        "x: expected one of float64, float32, bfloat16, float16, got complex64. "
        "No operator computes complex numbers: convolve .real and .imag.",
    ),
    "eight bits": (
        lambda: conv2d(x().to(torch.float8_e4m3fn), w()),
        "x: expected one of float64, float32, bfloat16, float16, got float8_e4m3fn. "
        "Convert it: .float().",
    ),
    "two precisions": (
        lambda: conv2d(x(), w().double()),
        "weight: expected float32 on cpu, like x, got float64 on cpu.",
    ),
    "two devices": (
        lambda: conv2d(x(), w(), torch.ones(3, device="meta")),
        "bias: expected float32 on cpu, like x, got float32 on meta.",
    ),
    "channels": (
        lambda: conv2d(x(), w(3, 5, 3, 3)),
        "weight: expected 2 input channels per group, got 5 (weight is 3×5×3×3, x is 1×2×4×4).",
    ),
    "channels per group": (
        lambda: conv2d(x(1, 4, 4, 4), w(4, 4, 3, 3), groups=2),
        "weight: expected 2 input channels per group, got 4 (weight is 4×4×3×3, x is 1×4×4×4).",
    ),
    "bias": (lambda: conv2d(x(), w(), torch.ones(2)), "bias: expected 3 numbers, got 2."),
    "bias of two dimensions": (
        lambda: conv2d(x(), w(), torch.ones(3, 1)),
        "bias: expected a tensor of 1 dimensions, got 3×1.",
    ),
    "kernel too large": (
        lambda: conv2d(x(), w(3, 2, 5, 3)),
        "kernel: expected height at most 4 (input 4 + padding 0), got 5. The output would have "
        "height ⌊(4 + 0 − 5) / 1⌋ + 1 < 1. Use a smaller kernel, 1 more padding in total, or "
        "larger images.",
    ),
    "dilated too large": (
        lambda: conv2d(x(), w(), dilation=(1, 3), padding=(0, 1)),
        "kernel: expected width at most 6 (input 4 + padding 2), got 3, which spans 7 when "
        "dilated. The output would have width ⌊(4 + 2 − 7) / 1⌋ + 1 < 1. "
        "Use a smaller kernel, 1 more padding in total, or larger images.",
    ),
    "groups of inputs": (
        lambda: conv2d(x(), w(), groups=3),
        "groups: expected a divisor of the 2 input channels, got 3.",
    ),
    "groups of outputs": (
        lambda: conv2d(x(), w(3, 1, 3, 3), groups=2),
        "channels: expected a multiple of the 2 groups, got 3.",
    ),
    "no groups": (lambda: conv2d(x(), w(), groups=0), "groups: expected at least 1 or depthwise"),
    "stride": (
        lambda: conv2d(x(), w(), stride=0),
        "stride: expected an integer or [height, width], each from 1 to 2147483647, got 0.",
    ),
    "three strides": (
        lambda: conv2d(x(), w(), stride=(1, 2, 3)),
        "stride: expected an integer or [height, width], got [1, 2, 3].",
    ),
    "half a stride": (
        lambda: conv2d(x(), w(), stride=1.5),
        "stride: expected an integer or [height, width], got 1.5.",
    ),
    "negative padding": (lambda: conv2d(x(), w(), padding=-1), "padding: expected an integer"),
    "padding rule": (
        lambda: conv2d(x(), w(), padding="sane"),
        "padding: expected an integer, [h, w], [top, bottom, left, right], same, same_lower or "
        "valid, got 'sane'. Did you mean 'same'?",
    ),
    "pad mode": (
        lambda: conv2d(x(), w(), pad_mode="reflekt"),
        "pad_mode: expected one of zeros, reflect, replicate, circular, got 'reflekt' (text). "
        "Did you mean 'reflect'?",
    ),
    "reflect too far": (
        lambda: conv2d(x(), w(), padding=(0, 4), pad_mode="reflect"),
        "padding: expected at most 3 with pad_mode reflect on an input of 2×4×4, got 4. "
        "Use pad_mode zeros or replicate.",
    ),
    "around more than once": (
        lambda: conv2d(x(), w(), padding=(5, 0, 0, 0), pad_mode="circular"),
        "padding: expected at most 4 with pad_mode circular on an input of 2×4×4, got 5. "
        "Use pad_mode zeros or replicate.",
    ),
    "mode": (
        lambda: conv2d(x(), w(), mode="conv"),
        "mode: expected one of correlation, convolution, got 'conv' (text).",
    ),
    "operator": (lambda: conv2d(x(), w(), op="nativ"), "op: expected one of "),
    "operator in a folder": (lambda: conv2d(x(), w(), op="../ops/loops"), "op: expected one of "),
    "not an operator": (
        lambda: conv2d(x(), w(), op=5),
        "op: expected one of auto, direct, fft, im2col, loops, native, winograd, winograd_2x2, "
        "got 5.",
    ),
    "padding beyond machines": (
        lambda: conv2d(x(), w(), padding=2**61),
        "padding: expected an integer, [h, w], [top, bottom, left, right], same, same_lower or "
        "valid, each from 0 to 2147483647, got 2305843009213693952.",
    ),
    "dilation beyond machines": (
        lambda: conv2d(x(), w(), dilation=2**62),
        "dilation: expected an integer or [height, width], each from 1 to 2147483647",
    ),
    "output beyond machines": (
        # (4 + 2 · (2³¹ − 1) − 3 + 1)² · 3 = 3 · 2⁶⁴
        lambda: conv2d(x(), w(), padding=2**31 - 1),
        f"padding: expected at most {2**40} numbers to compute and hold, got {3 * 2**64}.",
    ),
    "operator beyond this machine": (
        # a window of 2²⁰ numbers for each of 2²⁰ + 1 places is 2⁴⁰ and some; the input is small
        lambda: conv2d(x(1, 1, 2, 2**21), w(1, 1, 1, 2**20), op="im2col"),
        "op: expected one that fits into this machine's memory (",
    ),
    "a mapping": (
        lambda: conv2d(x(), w(), stride={"down": 1}),
        "stride: expected an integer or [height, width], got a mapping with down.",
    ),
    "a truth within what was given before": (
        lambda: [conv2d(x(), w(), stride=(1, 1)), conv2d(x(), w(), stride=(True, 1))],
        "stride: expected an integer or [height, width], got [True, 1].",
    ),
    "no operator": (
        lambda: conv2d(x(), w(), op=None),
        "op: expected one of auto, direct, ",
    ),
    "truth as a number that was given before": (
        lambda: [conv2d(x(), w(), stride=1), conv2d(x(), w(), stride=True)],
        "stride: expected an integer or [height, width], got true.",
    ),
    "copy beyond machines": (
        lambda: conv2d(x(), w(), padding=2**30, stride=2**30, pad_mode="replicate"),
        f"padding: expected at most {2**40} numbers to compute and hold, got ",
    ),
    "copy beyond machines without a batch": (
        lambda: conv2d(x(1, 2, 4, 4)[:0], w(), padding=2**30, pad_mode="circular"),
        "padding: expected at most 4 with pad_mode circular",
    ),
}


@pytest.mark.parametrize(("call", "message"), CONV_MISTAKES.values(), ids=CONV_MISTAKES)
def test_mistakes_of_convolution(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value).startswith(message)


POOL_MISTAKES = {
    "dimensions": (lambda: pool2d(x(4), 2), "x: expected a tensor of 4 dimensions, got 4."),
    "an operator without pooling": (
        lambda: pool2d(x(), 2, op="fft"),
        "op: expected an operator with pooling (auto, direct, loops, native), got 'fft'.",
    ),
    "boolean": (
        lambda: pool2d(x().bool(), 2),
        "x: expected one of float64, float32, bfloat16, float16, got bool. "
        "No operator computes whole numbers: convert them, .float().",
    ),
    "no window": (
        lambda: pool2d(x()),
        "kernel: expected a window size, got nothing. "
        "Or give output_size for adaptive pooling; 1 is global.",
    ),
    "two ways": (
        lambda: pool2d(x(), 2, output_size=1),
        "kernel: expected nothing beside output_size, got (2, 2). "
        "Adaptive pooling finds its windows by itself.",
    ),
    "stride beside output_size": (
        lambda: pool2d(x(), stride=2, output_size=1),
        "stride: expected nothing beside output_size",
    ),
    "padding beside output_size": (
        lambda: pool2d(x(), padding=1, output_size=1),
        "padding: expected 0 beside output_size, got (1, 1, 1, 1).",
    ),
    "more outputs than inputs": (
        lambda: pool2d(x(), output_size=(4, 5)),
        "output_size: expected width at most 4, the input's, got 5.",
    ),
    "nothing but padding": (
        lambda: pool2d(x(), (2, 3), padding=2),
        "padding: expected less than the kernel's height 2, got 2. "
        "A window of nothing but padding has no maximum.",
    ),
    "too large": (lambda: pool2d(x(), 5), "kernel: expected height at most 4"),
    "mode": (
        lambda: pool2d(x(), 2, "mex"),
        "mode: expected one of max, avg, min, got 'mex' (text). Did you mean 'max'?",
    ),
    "operator": (lambda: pool2d(x(), 2, op="nativ"), "op: expected one of "),
    "operator beyond this machine": (
        # a window of 2²⁰ numbers for each of 2²⁰ + 1 places is 2⁴⁰ and some; the input is small
        lambda: conv2d(x(1, 1, 2, 2**21), w(1, 1, 1, 2**20), op="im2col"),
        "op: expected one that fits into this machine's memory (",
    ),
    "copy beyond machines": (
        lambda: pool2d(x(), 2**31 - 1, padding=2**30),
        f"padding: expected at most {2**40} numbers to compute and hold, got ",
    ),
}


@pytest.mark.parametrize(("call", "message"), POOL_MISTAKES.values(), ids=POOL_MISTAKES)
def test_mistakes_of_pooling(call, message):
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value).startswith(message)


def test_every_mistake_is_named_at_once():
    with pytest.raises(ConfigError) as caught:
        conv2d(x(), w(), stride=0, padding=-1, groups=0, mode="no", op="no")
    paths = {problem.path for problem in caught.value.problems}
    assert paths == {"stride", "padding", "groups", "mode", "op"}


def test_depthwise_by_name():
    x, weight = torch.rand(1, 3, 5, 5), torch.rand(3, 1, 3, 3)
    found = conv2d(x, weight, groups="depthwise")
    torch.testing.assert_close(found, conv2d(x, weight, groups=3))


@pytest.mark.parametrize("call", [conv2d, pool2d])
def test_arrays_are_not_tensors(call):
    with pytest.raises(ConfigError, match="x: expected a torch tensor, got ndarray"):
        call(torch.rand(1, 1, 4, 4).numpy(), torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize("op", ["loops", "native"])
@pytest.mark.parametrize("padding", [0, (0, 1, 0, 1)])
def test_half_precision_averages_do_not_overflow(op, padding):
    ones = torch.ones(1, 1, 300, 300, dtype=torch.float16)
    found = pool2d(ones, 290, "avg", stride=10, padding=padding, count_include_pad=False, op=op)
    assert found.dtype == torch.float16
    assert torch.equal(found, torch.ones_like(found))  # the sum, 84,100, is beyond 65,504
