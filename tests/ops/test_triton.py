"""The kernels of `direct` for CUDA: in Triton's interpreter where there is no GPU, and compiled.

The interpreter runs kernels on the CPU with NumPy, one program after another: it shows that they
compute what they should, not that they compile, nor how fast they are. Compiling needs no GPU
either. With a GPU, this file and all tests of operators run there.
"""

# ruff: noqa: E402
# Whether Triton interprets must be decided before it is imported.

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, and for every kernel

pytest.importorskip("triton", reason="Triton is not installed", exc_type=ImportError)

from checker import (
    CONV_CASES,
    MODES,
    POOL_CASES,
    Conv,
    ConvCase,
    Pool,
    PoolCase,
    assert_close_to_reference,
    assert_exact,
    conv_loops,
    conv_reference,
    integers,
    label,
    normal,
    pool_loops,
    pool_reference,
)
from hypothesis import given, settings
from test_random_geometries import conv_cases, modes, pool_cases

from runner.config.errors import ConfigError
from runner.geometry import ConvGeometry, PoolGeometry, Shape
from runner.layers.conv import Conv as ConvLayer
from runner.layers.pool import Pool as PoolLayer
from runner.ops import Ops, conv_op, pool_op
from runner.ops.direct import DirectConv, DirectPool, triton_conv, triton_pool

FEW = settings(max_examples=5, deadline=None, derandomize=True, database=None)
MANY = settings(max_examples=300, deadline=None, derandomize=True, database=None)


class TritonConv(DirectConv):
    """`direct` as it is on CUDA, wherever the tensors are."""

    def unsupported(self, geometry, dtype, device):
        return super().unsupported(geometry, dtype, "cuda")

    def forward(self, x, weight, bias, geometry):
        return triton_conv.forward(x, weight, bias, geometry)

    def input_gradient(self, grad, weight, size, geometry):
        return triton_conv.input_gradient(grad, weight, size, geometry)

    def weight_gradient(self, grad, x, geometry):
        return triton_conv.weight_gradient(grad, x, geometry)


class TritonPool(DirectPool):
    """As above."""

    def unsupported(self, geometry, mode, dtype, device):
        return super().unsupported(geometry, mode, dtype, "cuda")

    def forward(self, x, mode, geometry):
        return triton_pool.forward(x, mode, geometry)

    def forward_with_indices(self, x, mode, geometry):
        return triton_pool.forward_with_indices(x, mode, geometry)

    def input_gradient(self, grad, x, indices, size, mode, geometry):
        return triton_pool.input_gradient(grad, x, indices, size, mode, geometry)


conv, pool = Conv(TritonConv(), "direct", DEVICE), Pool(TritonPool(), "direct", DEVICE)


@pytest.fixture(autouse=True)
def few_programs(monkeypatch):
    """The interpreter runs one after another; sums still come in parts."""
    monkeypatch.setattr(triton_conv, "PROGRAMS", 16)


@pytest.fixture(params=[False, True], ids=["any_geometry", "sliding"])
def sliding(request, monkeypatch):
    """Small kernels as large images have them, and as small images have them."""
    monkeypatch.setattr(triton_conv, "WORTH_COMPILING", 0 if request.param else 1 << 60)


def quick(cases, names):
    """Only these in every run of the tests: the interpreter is slow."""
    known = {case.name for case in cases}
    assert set(names) <= known, set(names) - known
    slow = pytest.mark.slow
    return [case if case.name in names else pytest.param(case, marks=slow) for case in cases]


CONVS = quick(
    CONV_CASES,
    {
        "batch_of_none",
        "one_pixel_padded",
        "even_kernel_same_lower",
        "stride_beyond_kernel",
        "uneven_stride_padded",
        "padding_beyond_kernel",
        "dilated_strided",
        "depthwise_multiplied",
        "everything",
    },
)
POOLS = quick(
    POOL_CASES,
    {
        "batch_of_none",
        "stride_beyond_kernel",
        "uneven_uncounted",
        "padded_beyond_half",
        "ceil_uneven_uncounted",
        "ceil_drops_window_in_padding",
        "adaptive_uneven",
    },
)


def exact_convolution(subject: Conv, case: ConvCase) -> None:
    """Output and gradients of small integers, which nothing may round."""
    found = []
    for op in (subject, Conv(conv_op("loops"))):
        tensors = [t.requires_grad_() for t in case.tensors(integers)]
        y = op(*tensors, case.geometry)
        found.append([y, *torch.autograd.grad(y, tensors, integers(*y.shape, seed=4))])
    for mine, expected in zip(*found, strict=True):
        assert_exact(mine, expected)


def pooling(subject: Pool, case: PoolCase, mode: str) -> None:
    """Output and gradient of small integers, many of which are equal."""
    found = []
    for op in (subject, Pool(pool_op("loops"))):
        x = integers(*case.x).requires_grad_()
        y = op(x, mode, case.geometry)
        found.append([y, *torch.autograd.grad(y, x, integers(*y.shape, seed=4))])
    for mine, expected in zip(*found, strict=True):
        if mode == "avg":
            assert_close_to_reference(mine, expected)
        else:
            assert_exact(mine, expected)


@pytest.mark.usefixtures("sliding")
class TestConvolution:
    @pytest.mark.parametrize("case", CONVS, ids=label)
    def test_integers_are_exact(self, case):
        exact_convolution(conv, case)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_precision(self, dtype):
        # 28 products a sum
        case = ConvCase("", (1, 4, 3, 9), 2, ConvGeometry((1, 7), padding=(0, 0, 3, 3)))
        conv_reference(conv, case, dtype)

    def test_gradients_in_float32(self):
        case = ConvCase("", (2, 2, 4, 9), 2, ConvGeometry((2, 3), (1, 1), (1, 1, 1, 1)))
        found = []
        for op, dtype in ((conv, torch.float32), (Conv(conv_op("loops")), torch.float64)):
            tensors = [t.requires_grad_() for t in case.tensors(dtype=dtype)]
            y = op(*tensors, case.geometry)
            found.append(torch.autograd.grad(y, tensors, normal(*y.shape, seed=4).to(dtype)))
        # float32 rounds what it is given: the reference sees the same only up to 2⁻²⁴
        for mine, expected in zip(*found, strict=True):
            assert_close_to_reference(mine, expected)

    def test_more_columns_and_rows_than_a_block_has(self):
        # 257 columns are blocks of 256 and 1, nine rows blocks of eight and one
        case = ConvCase("", (1, 1, 9, 257), 1, ConvGeometry((1, 2), padding=(0, 0, 1, 0)))
        exact_convolution(conv, case)

    def test_memory_layouts(self):
        window = ConvGeometry((2, 2), padding=(1, 0, 0, 1))
        weight = integers(2, 1, 2, 2, seed=1).transpose(2, 3)
        for x in (integers(1, 1, 4, 6)[..., ::2], integers(1, 1, 4, 1).expand(2, 1, 4, 3)):
            assert_exact(conv(x, weight, None, window), conv_loops(x, weight, None, window))

    def test_nan_and_infinity_reach_only_the_windows_they_are_in(self):
        x = torch.zeros(1, 1, 5, 5).double()
        x[0, 0, 0, 4], x[0, 0, 4, 0] = float("nan"), float("inf")
        y = conv(x, torch.ones(1, 1, 3, 3).double())[0, 0]
        assert y.isnan().tolist() == [[False, False, True], [False] * 3, [False] * 3]
        assert y.isinf().tolist() == [[False] * 3, [False] * 3, [True, False, False]]

    @given(case=conv_cases())
    @FEW
    def test_random_geometries(self, case):
        exact_convolution(conv, case)

    @pytest.mark.slow
    @pytest.mark.timeout(1_800)  # the interpreter takes 4 to 6 minutes
    @given(case=conv_cases())
    @MANY
    def test_many_random_geometries(self, case):
        exact_convolution(conv, case)


@pytest.mark.usefixtures("sliding")
class TestWeightGradientOfNaN:
    """Blocks go on where there are no outputs, and zero times NaN is not zero."""

    def gradient(self, x, kernel, stride=(1, 1)):
        x = torch.tensor(x, dtype=torch.float64)[None, None]
        weight = torch.ones(1, 1, *kernel, dtype=torch.float64, requires_grad=True)
        conv(x, weight, None, ConvGeometry(kernel, stride)).sum().backward()
        return weight.grad.flatten()

    def test_in_a_column_that_no_window_sees(self):
        # two outputs of a row of five
        found = self.gradient([[1.0, 2.0, 3.0, 4.0, float("nan")]], (1, 2), (1, 2))
        assert found.tolist() == [1 + 3, 2 + 4]

    def test_in_the_last_row(self):
        # three outputs, one short of a block of four; only the last tap of the last sees the NaN
        found = self.gradient([[1.0], [2.0], [3.0], [4.0], [float("nan")]], (3, 1))
        assert found[:2].tolist() == [1 + 2 + 3, 2 + 3 + 4]
        assert found[2].isnan()


@pytest.mark.parametrize(("longest", "close"), [(16, True), (1 << 60, False)])
def test_a_long_sum_is_taken_in_parts(monkeypatch, longest, close):
    # One weight between 200 pairs in one column: 0.1 added up one by one in float32 gives
    # 20.00004, off by 2e-6.
    monkeypatch.setattr(triton_conv, "PROGRAMS", 1)
    monkeypatch.setattr(triton_conv, "LONGEST_SUM", longest)
    x = torch.full((1, 1, 200, 1), 0.1, device=DEVICE)
    found = triton_conv.weight_gradient(torch.ones_like(x), x, ConvGeometry((1, 1)))
    expected = 200 * float(torch.tensor(0.1))
    assert (abs(found.item() - expected) < 1e-6 * expected) == close


class TestPooling:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("case", POOLS, ids=label)
    def test_integers(self, case, mode):
        pooling(pool, case, mode)

    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_precision(self, mode, dtype):
        case = PoolCase("", (1, 1, 6, 5), PoolGeometry((3, 2), (2, 1), (1, 0, 0, 1)))
        pool_reference(pool, case, mode, dtype)

    @pytest.mark.parametrize("mode", MODES)
    def test_windows_of_more_than_256_places(self, mode):
        case = PoolCase("", (1, 1, 2, 140), PoolGeometry((2, 130), (1, 10)))
        pooling(pool, case, mode)

    @pytest.mark.parametrize("mode", MODES)
    def test_more_columns_and_rows_than_a_block_has(self, mode):
        pooling(pool, PoolCase("", (1, 1, 9, 270), PoolGeometry((2, 2), (1, 2))), mode)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_the_first_nan_wins(self, mode):
        x = torch.tensor([[[[1.0, float("nan"), 9.0, -9.0, float("nan"), 2.0]]]]).double()
        x.requires_grad_()
        y = pool(x, mode, PoolGeometry((1, 6)))
        y.sum().backward()
        assert y.isnan().item()
        assert x.grad.flatten().tolist() == [0, 1, 0, 0, 0, 0]

    @pytest.mark.parametrize(("mode", "worst"), [("max", -1), ("min", 1)])
    def test_nothing_but_infinities(self, mode, worst):
        x = (worst * torch.full((1, 1, 2, 2), float("inf"))).double().requires_grad_()
        y = pool(x, mode, PoolGeometry((2, 2), padding=(1, 0, 0, 0)))
        y.sum().backward()
        assert y.flatten().tolist() == [worst * float("inf")] * 2
        # two windows begin with the upper left number
        assert x.grad.flatten().tolist() == [2, 0, 0, 0]

    @pytest.mark.parametrize("mode", MODES)
    def test_memory_layouts(self, mode):
        x = integers(1, 1, 4, 6)[..., ::2].expand(2, 2, 4, 3)
        window = PoolGeometry((2, 2), (1, 1))
        assert_close_to_reference(pool(x, mode, window), pool_loops(x, mode, window))

    @given(case=pool_cases(), mode=modes)
    @FEW
    def test_random_windows(self, case, mode):
        pooling(pool, case, mode)

    @pytest.mark.slow
    @given(case=pool_cases(), mode=modes)
    @MANY
    def test_many_random_windows(self, case, mode):
        pooling(pool, case, mode)


class TestBrokenOnPurpose:
    """What these tests would not notice, they would not test."""

    CASE = ConvCase("", (1, 2, 5, 6), 2, ConvGeometry((3, 2), (2, 1), (1, 1, 1, 0)))

    def fails(self, check, *args):
        with pytest.raises(AssertionError):
            check(*args)

    @pytest.mark.parametrize("kernel", ["slide", "correlate"])
    def test_padding_off_by_one(self, monkeypatch, kernel):
        worth = 0 if kernel == "slide" else 1 << 60
        monkeypatch.setattr(triton_conv, "WORTH_COMPILING", worth)
        exact_convolution(conv, self.CASE)
        off = ConvGeometry((3, 2), (2, 1), (0, 2, 1, 0))
        name = f"_{kernel}"
        right = getattr(triton_conv, name)

        def wrong(x, weight, bias, y, geometry, **spread):
            right(x, weight, bias, y, off if geometry == self.CASE.geometry else geometry, **spread)

        monkeypatch.setattr(triton_conv, name, wrong)
        self.fails(exact_convolution, conv, self.CASE)

    def test_parts_that_overlap(self, monkeypatch):
        right = triton_conv.launch

        def wrong(kernel, programs, grad, x, parts, lines, splits, *args, **constants):
            right(kernel, programs, grad, x, parts, lines, 1, *args, **constants)

        exact_convolution(conv, self.CASE)
        real = triton_conv.weight_gradient

        def weight_gradient(*args):
            with monkeypatch.context() as broken:
                broken.setattr(triton_conv, "launch", wrong)
                return real(*args)

        monkeypatch.setattr(triton_conv, "weight_gradient", weight_gradient)
        self.fails(exact_convolution, conv, self.CASE)

    @pytest.mark.parametrize("mode", ["max", "min"])
    def test_the_wrong_extreme(self, monkeypatch, mode):
        case = POOL_CASES[0]
        monkeypatch.setitem(triton_pool.SIGN, mode, -triton_pool.SIGN[mode])
        self.fails(pooling, pool, case, mode)

    def test_places_in_rows_of_another_width(self, monkeypatch):
        case = PoolCase("", (1, 1, 6, 6), PoolGeometry((2, 3), (2, 3)))
        pooling(pool, case, "max")
        real = triton_pool.forward_with_indices

        def wrong(x, mode, geometry):
            y, places = real(x, mode, geometry)
            return y, places // 3 * 2 + places % 3

        monkeypatch.setattr(triton_pool, "forward_with_indices", wrong)
        self.fails(pooling, pool, case, "max")


@pytest.mark.parametrize(
    "layer",
    [ConvLayer(kind="conv", channels=1, kernel=3), PoolLayer(kind="pool", kernel=2)],
    ids=["conv", "pool"],
)
def test_without_triton_an_error_names_the_layer_the_reason_and_who_can(monkeypatch, layer):
    case = Shape(1, 8, 8), Ops(conv="direct", pool="direct"), "float32", "cuda"
    layer.check_operator(*case, "stack.layers.first.ops")
    monkeypatch.setattr("runner.ops.direct.find_spec", lambda _: None)
    with pytest.raises(ConfigError) as raised:
        layer.check_operator(*case, "stack.layers.first.ops")
    message = str(raised.value)
    assert message.startswith("stack.layers.first.ops: expected one of ")
    assert "native, got 'direct', which can't: on CUDA it needs Triton" in message


def test_everything_compiles_for_a_gpu(tmp_path):
    """The compiler is stricter than the interpreter: a variable keeps its type, for example."""
    pytest.importorskip("triton.backends.nvidia")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("compiled_kernels.py")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert {name for name, _, _ in found} == {
        "slide",
        "correlate",
        "slide_products",
        "products",
        "pool",
        "hand_back",
    }
    assert all(programs > 0 and code > 0 for _, programs, code in found)
