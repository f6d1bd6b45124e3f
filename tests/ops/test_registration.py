"""Every operator as torch's dispatcher sees it: registered, traced, compiled, differentiated."""

import copy
import pickle

import pytest
import torch
from checker import (
    CONV_CASES,
    POOL_CASES,
    Conv,
    ConvCase,
    Pool,
    conv_ops,
    integers,
    label,
    normal,
    pool_ops,
    skip_unless,
)
from torch.autograd import forward_ad
from torch.library import opcheck

from runner.autograd import convolve, pool
from runner.config.errors import ConfigError
from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import Auto, conv_op, pool_op
from runner.ops.loops import LoopsConv

REGISTERED = torch.ops.runner
# Those that are differentiated by autograd itself are ordinary torch code and need no registration.
CONVS = [op for op in conv_ops() if op.device == "cpu" and not op.op.own_gradient]
POOLS = [op for op in pool_ops() if op.device == "cpu" and not op.op.own_gradient]
CASES = ("plain", "everything", "depthwise", "even_kernel_same")
WINDOWS = ("halves", "padded_uncounted", "ceil_uneven", "adaptive_uneven")


def named(names, cases):
    return [case for case in cases if case.name in names]


def window(geometry: ConvGeometry) -> tuple[object, ...]:
    return (geometry.stride, geometry.padding, geometry.dilation, geometry.groups)


def windows(mode: str, geometry: PoolGeometry) -> tuple[object, ...]:
    given = (geometry.kernel, geometry.stride, geometry.padding, geometry.ceil_mode)
    return (mode, *given, geometry.count_include_pad, geometry.output)


@pytest.fixture(params=CONVS, ids=label)
def subject(request) -> Conv:
    return request.param


@pytest.fixture(params=POOLS, ids=label)
def pooling(request) -> Pool:
    return request.param


@pytest.mark.parametrize("case", named(CASES, CONV_CASES), ids=label)
def test_convolutions_pass_torchs_own_check(subject, case):
    skip_unless(subject.can(case.geometry))
    x, weight, bias = (t.requires_grad_() for t in case.tensors())
    rest = (*window(case.geometry), subject.name)
    opcheck(REGISTERED.conv2d.default, (x, weight, bias, *rest))
    grad = normal(*REGISTERED.conv2d(x, weight, None, *rest).shape).requires_grad_()
    size, kernel = x.shape[2:], weight.shape[2:]
    opcheck(REGISTERED.conv2d_input_gradient.default, (grad, weight, size, *rest))
    opcheck(REGISTERED.conv2d_weight_gradient.default, (grad, x, kernel, *rest))


@pytest.mark.parametrize("mode", ["max", "avg"])
@pytest.mark.parametrize("case", named(WINDOWS, POOL_CASES), ids=label)
def test_poolings_pass_torchs_own_check(pooling, case, mode):
    skip_unless(pooling.can(case.geometry, mode))
    x, rest = normal(*case.x), windows(mode, case.geometry)
    opcheck(REGISTERED.pool2d.default, (x.clone().requires_grad_(), *rest, True, pooling.name))
    y, indices = REGISTERED.pool2d(x, *rest, True, pooling.name)
    kept = (None, indices) if indices.numel() else (x, None)
    kept = (None, None) if mode == "avg" else kept
    given = (normal(*y.shape), *kept, x.shape[2:], *rest, pooling.name)
    opcheck(REGISTERED.pool2d_input_gradient.default, given)


def test_compiles_as_a_whole(subject):
    geometry = ConvGeometry((3, 3), padding=(1, 1, 1, 1))
    skip_unless(subject.can(geometry))
    x, weight, bias = ConvCase("", (2, 3, 6, 5), 4, geometry).tensors()

    def squared(x, weight):
        return (convolve(subject.op, x, weight, bias, geometry) ** 2).sum()

    compiled = torch.compile(squared, fullgraph=True, backend="aot_eager")
    found = []
    for function in (squared, compiled):
        x, weight = (t.detach().requires_grad_() for t in (x, weight))
        y = function(x, weight)
        found.append((y, *torch.autograd.grad(y, (x, weight))))
    for plain, other in zip(*found, strict=True):
        torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["max", "avg"])
def test_pooling_compiles_as_a_whole(pooling, mode):
    geometry = PoolGeometry((3, 3), (2, 2), (1, 1, 1, 1))
    skip_unless(pooling.can(geometry, mode))
    x = normal(2, 3, 6, 5).requires_grad_()

    def squared(x):
        return (pool(pooling.op, x, mode, geometry) ** 2).sum()

    compiled = torch.compile(squared, fullgraph=True, backend="aot_eager")
    (plain,), (other,) = (torch.autograd.grad(f(x), x) for f in (squared, compiled))
    torch.testing.assert_close(other, plain, rtol=1e-12, atol=1e-12)


def test_an_operator_beside_the_menu_compiles_too():
    class Doubled(LoopsConv):
        def forward(self, x, weight, bias, geometry):
            return 2 * super().forward(x, weight, bias, geometry)

    first, second = Doubled(), Doubled()
    x, weight = integers(1, 1, 4, 4), integers(1, 1, 2, 2)
    geometry = ConvGeometry((2, 2))
    expected = 2 * convolve(conv_op("loops"), x, weight, None, geometry)
    for op in (first, second):
        compiled = torch.compile(
            lambda x, op=op: convolve(op, x, weight, None, geometry),
            fullgraph=True,
            backend="aot_eager",
        )
        assert torch.equal(compiled(x), expected)
        assert torch.equal(convolve(op, x, weight, None, geometry), expected)
    assert first.handle != second.handle


@pytest.mark.parametrize("case", named(("plain", "everything"), CONV_CASES), ids=label)
def test_second_derivatives(subject, case):
    """The gradients are convolutions themselves: against finite differences of them."""
    skip_unless(subject.can(case.geometry))
    tensors = tuple(t.requires_grad_() for t in case.tensors())
    assert torch.autograd.gradgradcheck(
        lambda *given: subject(*given, case.geometry), tensors, fast_mode=True
    )


def test_the_second_derivative_of_pooling_is_refused(pooling):
    # Such a small case `auto` hands to native itself, which can be differentiated twice.
    skip_unless(pooling.can(PoolGeometry((2, 2), (2, 2)), "max") and pooling.name != "auto")
    x = normal(1, 1, 4, 4).requires_grad_()
    y = pool(pooling.op, x, "max", PoolGeometry((2, 2), (2, 2)))
    (grad,) = torch.autograd.grad((y**2).sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="op='native'"):
        grad.sum().backward()


class Counting(LoopsConv):
    """Says which gradients were computed."""

    def __init__(self):
        self.calls = []

    def input_gradient(self, *given):
        self.calls.append("input")
        return super().input_gradient(*given)

    def weight_gradient(self, *given):
        self.calls.append("weight")
        return super().weight_gradient(*given)


@pytest.mark.parametrize(
    ("wanted", "calls"), [((True, False), ["input"]), ((False, True), ["weight"])]
)
def test_only_what_is_wanted_is_computed_and_kept(wanted, calls):
    op, (x, weight, _) = Counting(), ConvCase("", (1, 2, 5, 5), 3).tensors()
    x.requires_grad_(wanted[0])
    weight.requires_grad_(wanted[1])
    y = convolve(op, x, weight, None, ConvGeometry((3, 3)))
    # The gradient of each needs the other alone.
    saved = [t for t in y.grad_fn.saved_tensors if t is not None]
    assert [t.data_ptr() for t in saved] == [(weight if wanted[0] else x).data_ptr()]
    y.sum().backward()
    assert op.calls == calls


def test_pooling_without_gradients_keeps_no_indices(pooling):
    geometry = PoolGeometry((2, 2), (2, 2))
    skip_unless(pooling.can(geometry, "max"))
    rest = windows("max", geometry)
    assert REGISTERED.pool2d(normal(1, 1, 4, 4), *rest, False, pooling.name)[1].numel() == 0


def test_an_operator_with_settings_is_another_one():
    plain, bounded = conv_op("auto"), conv_op("auto", Auto(accuracy=1e-4))
    assert conv_op("auto", Auto()) is plain
    assert conv_op("auto", Auto(accuracy=1e-4)) is bounded
    assert plain is not bounded


def test_an_operator_of_ones_own_lives_until_its_gradient():
    x, weight, _ = ConvCase("", (1, 2, 5, 5), 3).tensors()
    y = convolve(LoopsConv(), x, weight.requires_grad_(), None, ConvGeometry((3, 3)))
    y.sum().backward()
    assert weight.grad is not None


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own, in make_dual
def test_forward_mode_is_refused(subject):
    x, weight, _ = ConvCase("", (1, 2, 5, 5), 3).tensors()
    skip_unless(subject.can(ConvGeometry((3, 3))))
    if subject.name == "auto":
        pytest.skip("such a small case it hands to native, which knows forward mode")
    with forward_ad.dual_level(), pytest.raises(NotImplementedError, match="op='native'"):
        dual = forward_ad.make_dual(weight, weight)
        convolve(subject.op, x, dual, None, ConvGeometry((3, 3)))


def test_a_type_that_an_operator_lacks_is_named_after_planning_too():
    x, weight, _ = ConvCase("", (1, 2, 5, 5), 3).tensors()
    with pytest.raises(ConfigError, match=r"^ops: expected .*'direct', which can't: .*float16"):
        convolve(conv_op("direct"), x.half(), weight.half(), None, ConvGeometry((3, 3)))


@pytest.mark.parametrize("settings", [Auto(), Auto(allow=("direct",))], ids=["plain", "set"])
def test_a_stored_model_finds_its_operator(settings):
    for op in (conv_op("auto", settings), pool_op("auto", settings), conv_op("direct", settings)):
        assert pickle.loads(pickle.dumps(op)) is op
        assert copy.deepcopy(op) is op


def test_outputs_can_be_changed_in_place(subject, pooling):
    x, weight, _ = ConvCase("", (2, 3, 8, 8), 4).tensors()
    x.requires_grad_()
    if subject.can(ConvGeometry((3, 3))):
        convolve(subject.op, x, weight, None, ConvGeometry((3, 3))).relu_().sum().backward()
    for mode in ("max", "avg"):
        pool(pooling.op, x, mode, PoolGeometry((2, 2), (2, 2))).relu_().sum().backward()
