"""The checkers themselves: each must catch operators that are broken on purpose."""

import pytest
import test_conv_ops
import test_pool_ops
import test_random_geometries
import torch
import torch.nn.functional as F
import trials
from checker import (
    CONV_CASES,
    MODES,
    POOL_CASES,
    Conv,
    Pool,
    assert_close_to_reference,
    assert_exact,
    conv_adjoint,
    conv_batch_invariance,
    conv_gradcheck,
    conv_gradients,
    conv_linearity,
    conv_reference,
    conv_shift,
    conv_small_integers,
    normal,
    pool_gradcheck,
    pool_gradients,
    pool_reference,
    pool_small_integers,
)

from runner.geometry import PoolGeometry
from runner.ops.loops import LoopsConv, LoopsPool


def windowed(x, weight, bias, geometry, shift=(0, 0)):
    """Right, unless `shift` moves the padded input."""
    (top, bottom, left, right), (down, across) = geometry.padding, shift
    x = F.pad(x, (left + across, right - across, top + down, bottom - down))
    return F.conv2d(x, weight, bias, geometry.stride, 0, geometry.dilation, geometry.groups)


class PaddingOffByOne(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        return windowed(x, weight, bias, geometry, (1 if geometry.padding[1] else 0, 0))


class PaddingTransposed(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        top, bottom, left, right = geometry.padding
        x = F.pad(x, (right, left, bottom, top))
        return F.conv2d(x, weight, bias, geometry.stride, 0, geometry.dilation, geometry.groups)


class StrideStartsLate(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        return windowed(x, weight, bias, geometry, (0, -1 if geometry.stride[1] > 1 else 0))


class FlippedKernel(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        return super().forward(x, weight.flip(2, 3), bias, geometry)


class DroppedChannel(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        x = x.clone()
        if x.shape[1] > 1:
            x[:, -1] = 0
        return super().forward(x, weight, bias, geometry)


class SwappedGroups(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        n, c, h, w = x.shape
        x = x.reshape(n, c // geometry.groups, geometry.groups, h, w).transpose(1, 2)
        return super().forward(x.reshape(n, c, h, w), weight, bias, geometry)


class IgnoredDilation(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        (dh, dw), (oh, ow) = geometry.dilation, geometry.output_size(x.shape[2:])
        y = F.conv2d(
            F.pad(x, tuple(geometry.padding[i] for i in (2, 3, 0, 1))),
            weight,
            bias,
            geometry.stride,
            groups=geometry.groups,
        )
        return y[:, :, :oh, :ow] if (dh, dw) != (1, 1) else y


class ForgottenBias(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        return super().forward(x, weight, None, geometry)


class OneWrongPixel(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        y = super().forward(x, weight, bias, geometry)
        y[-1:, -1, -1, -1] += 1
        return y


class SinglePrecision(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        y = super().forward(x.float(), weight.float(), bias, geometry)
        return y.to(x.dtype)


class Clipped(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        return super().forward(x, weight, bias, geometry).clamp(-5, 5)


class MixedBatch(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        y = super().forward(x, weight, bias, geometry)
        return y + y.mean(dim=0) if len(x) > 1 else y


class WorksInPlace(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        y = super().forward(x, weight, bias, geometry)
        x.zero_()
        return y


class InputGradientUnflipped(LoopsConv):
    def input_gradient(self, grad, weight, size, geometry):
        return super().input_gradient(grad, weight.flip(2, 3), size, geometry)


class InputGradientSlightlyOff(LoopsConv):
    def input_gradient(self, grad, weight, size, geometry):
        return super().input_gradient(grad, weight, size, geometry) * (1 + 1e-4)


class WeightGradientForgetsBatch(LoopsConv):
    def weight_gradient(self, grad, x, geometry):
        return super().weight_gradient(grad[:1], x[:1], geometry)


class WeightGradientTransposed(LoopsConv):
    def weight_gradient(self, grad, x, geometry):
        found = super().weight_gradient(grad, x, geometry)
        return found.transpose(2, 3).reshape(found.shape)


class PositionDependent(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        y = super().forward(x, weight, bias, geometry)
        y[:, :, :, 2] *= 2
        return y


FORWARD = (conv_small_integers, conv_reference)

CAUGHT = {
    PaddingOffByOne: (*FORWARD, conv_adjoint),
    PaddingTransposed: (*FORWARD, conv_adjoint),
    StrideStartsLate: (*FORWARD, conv_adjoint, conv_gradcheck),
    FlippedKernel: (*FORWARD, conv_adjoint, conv_gradcheck),
    DroppedChannel: (*FORWARD, conv_adjoint, conv_gradcheck),
    SwappedGroups: (*FORWARD, conv_adjoint),
    IgnoredDilation: (*FORWARD,),
    ForgottenBias: (*FORWARD, conv_linearity, conv_gradcheck),
    OneWrongPixel: (*FORWARD, conv_linearity, conv_batch_invariance),
    SinglePrecision: (conv_reference,),
    Clipped: (*FORWARD, conv_linearity, conv_adjoint),
    MixedBatch: (*FORWARD, conv_batch_invariance),
    WorksInPlace: (conv_reference,),
    InputGradientUnflipped: (conv_gradients, conv_adjoint, conv_gradcheck),
    InputGradientSlightlyOff: (conv_gradients, conv_adjoint, conv_gradcheck),
    WeightGradientForgetsBatch: (conv_gradients, conv_adjoint, conv_gradcheck),
    WeightGradientTransposed: (conv_gradients, conv_adjoint, conv_gradcheck),
    PositionDependent: (*FORWARD, conv_shift),
}


@pytest.mark.parametrize(
    ("broken", "check"),
    [(broken, check) for broken, checks in CAUGHT.items() for check in checks],
    ids=lambda f: f.__name__,
)
def test_broken_convolutions_are_caught(broken, check):
    cases = [c for c in CONV_CASES if c.x[0] and c.x[1] < 10]
    with pytest.raises(AssertionError):
        for case in cases:
            check(Conv(broken()), case)


def test_the_checks_pass_what_is_right():
    for check in {check for checks in CAUGHT.values() for check in checks}:
        check(Conv(LoopsConv()), CONV_CASES[0])


class FlipsSomeKernels(LoopsConv):
    """A wrong flip that isn't a symmetry of convolution: of the rows, where there are three."""

    def forward(self, x, weight, bias, geometry):
        return super().forward(
            x, weight.flip(2) if weight.shape[2] == 3 else weight, bias, geometry
        )


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (FlippedKernel, "impulse_returns_the_flipped_kernel"),
        (FlipsSomeKernels, "full_convolution_commutes"),
        (FlipsSomeKernels, "two_kernels_in_a_row_are_one"),
        (FlipsSomeKernels, "transposed_input_is_transposed_kernel"),
        (SwappedGroups, "groups_are_a_block_diagonal_kernel"),
        (PositionDependent, "circular_shift_everywhere"),
        (PositionDependent, "zero_padding_breaks_the_shift_only_at_the_border"),
        (DroppedChannel, "one_by_one_is_a_dense_layer_per_pixel"),
    ],
    ids=lambda p: getattr(p, "__name__", p),
)
def test_broken_convolutions_break_the_law(broken, law):
    with pytest.raises(AssertionError):
        getattr(test_conv_ops.TestLaws(), f"test_{law}")(Conv(broken()))


class TestGates:
    REFERENCE = normal(1, 1, 100, 100)

    def test_one_wrong_pixel_passes_the_first_gate_but_not_the_second(self):
        # 5e-6 of the largest at one of 10,000 pixels: relL2 about 5e-6 · 4 / 100 = 2e-7
        wrong = self.REFERENCE.float()
        wrong[0, 0, 50, 50] += 5e-6 * self.REFERENCE.abs().max()
        with pytest.raises(AssertionError, match="max"):
            assert_close_to_reference(wrong, self.REFERENCE)

    def test_an_error_everywhere_fails_the_first_gate(self):
        with pytest.raises(AssertionError, match="relL2"):
            assert_close_to_reference(self.REFERENCE * (1 + 1e-11), self.REFERENCE)

    def test_rounding_passes(self):
        assert_close_to_reference(self.REFERENCE.float(), self.REFERENCE)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_nan_fails(self, bad):
        wrong = self.REFERENCE.clone()
        wrong[0, 0, 0, 0] = bad
        with pytest.raises(AssertionError, match="finite"):
            assert_close_to_reference(wrong, self.REFERENCE)

    def test_a_shape_that_broadcasts_fails(self):
        with pytest.raises(AssertionError, match="shape"):
            assert_close_to_reference(torch.zeros(1, 3).double(), torch.zeros(2, 3).double())
        with pytest.raises(AssertionError, match="shape"):
            assert_exact(torch.zeros(1, 3), torch.zeros(2, 3))

    def test_anything_but_zero_for_zero_fails(self):
        zero = torch.zeros(3, 3).double()
        assert_close_to_reference(zero, zero)
        with pytest.raises(AssertionError):
            assert_close_to_reference(zero + 1e-30, zero)

    def test_half_an_integer_fails_even_after_rounding(self):
        with pytest.raises(AssertionError):
            assert_exact(torch.tensor([1.0, 2.4]).double(), torch.tensor([1, 2]), "fft")


# Pooling ---------------------------------------------------------------------------------------


class PadsWithZero(LoopsPool):
    def forward(self, x, mode, geometry):
        y = super().forward(x, mode, geometry)
        if not any(geometry.padding) or mode == "avg":
            return y
        return y.clamp(min=0) if mode == "max" else y.clamp(max=0)


class DividesByKernel(LoopsPool):
    def forward(self, x, mode, geometry):
        y = super().forward(x, mode, geometry)
        if mode != "avg" or geometry.output is not None:
            return y
        size = (x.shape[2], x.shape[3])
        rows = torch.tensor([c for _, _, c in geometry.windows(size, 0)])
        columns = torch.tensor([c for _, _, c in geometry.windows(size, 1)])
        return y * (rows[:, None] * columns) / (geometry.kernel[0] * geometry.kernel[1])


class NeverCountsPadding(LoopsPool):
    def forward(self, x, mode, geometry):
        inside = PoolGeometry(
            geometry.kernel,
            geometry.stride,
            geometry.padding,
            geometry.ceil_mode,
            False,
            geometry.output,
        )
        return super().forward(x, mode, inside)


class IgnoresCeil(LoopsPool):
    def forward(self, x, mode, geometry):
        floor = PoolGeometry(
            geometry.kernel, geometry.stride, geometry.padding, output=geometry.output
        )
        return super().forward(x, mode, floor)


class MixesChannels(LoopsPool):
    def forward(self, x, mode, geometry):
        return super().forward(x.flip(1), mode, geometry)


class AdaptiveWindowsDontOverlap(LoopsPool):
    def forward(self, x, mode, geometry):
        if geometry.output is None:
            return super().forward(x, mode, geometry)
        kernel = tuple(n // m for n, m in zip(x.shape[2:], geometry.output, strict=True))
        return super().forward(x, mode, PoolGeometry(kernel, kernel))[
            :, :, : geometry.output[0], : geometry.output[1]
        ]


class LastWins(LoopsPool):
    def input_gradient(self, grad, x, indices, size, mode, geometry):
        if mode == "avg" or any(geometry.padding) or geometry.ceil_mode or geometry.output:
            return super().input_gradient(grad, x, indices, size, mode, geometry)
        (kh, kw), (sh, sw) = geometry.kernel, geometry.stride
        oh, ow = grad.shape[2:]
        seen = x[:, :, : (oh - 1) * sh + kh, : (ow - 1) * sw + kw]
        back = (
            super()
            .input_gradient(
                grad.flip(2, 3), seen.flip(2, 3), indices, tuple(seen.shape[2:]), mode, geometry
            )
            .flip(2, 3)
        )
        return F.pad(back, (0, x.shape[3] - seen.shape[3], 0, x.shape[2] - seen.shape[2]))


class ClippedGradient(LoopsPool):
    def input_gradient(self, grad, x, indices, size, mode, geometry):
        return super().input_gradient(grad, x, indices, size, mode, geometry).clamp(-1, 1)


class HidesNan(LoopsPool):
    def forward(self, x, mode, geometry):
        return super().forward(x.nan_to_num(-9.0), mode, geometry)


POOL_CAUGHT = {
    PadsWithZero: (pool_small_integers, pool_reference),
    DividesByKernel: (pool_small_integers, pool_reference, pool_gradcheck),
    NeverCountsPadding: (pool_small_integers, pool_reference, pool_gradcheck),
    IgnoresCeil: (pool_small_integers, pool_reference),
    MixesChannels: (pool_small_integers, pool_reference, pool_gradcheck),
    AdaptiveWindowsDontOverlap: (pool_small_integers, pool_reference),
    LastWins: (pool_gradients,),
    ClippedGradient: (pool_gradients,),
}


@pytest.mark.parametrize(
    ("broken", "check"),
    [(broken, check) for broken, checks in POOL_CAUGHT.items() for check in checks],
    ids=lambda f: f.__name__,
)
def test_broken_poolings_are_caught(broken, check):
    cases = [(case, mode) for case in POOL_CASES if case.x[0] for mode in MODES]
    with pytest.raises(AssertionError):
        for case, mode in cases:
            check(Pool(broken()), case, mode)


def test_a_padding_of_zero_loses_to_negative_input():
    window = PoolGeometry((3, 3), (2, 2), (1, 1, 1, 1))
    with pytest.raises(AssertionError):
        test_pool_ops.TestByHand().test_padding_never_wins(Pool(PadsWithZero()), window)


def test_hidden_nan_is_caught():
    with pytest.raises(AssertionError):
        test_pool_ops.TestByHand().test_nan_is_not_hidden(Pool(HidesNan()), "max", (0, 0, 0, 0))


def test_the_last_of_equals_is_caught():
    with pytest.raises(AssertionError):
        test_pool_ops.TestTies().test_apart(Pool(LastWins()), "max")


# Random trials ---------------------------------------------------------------------------------


class TakesAnyLayoutForContiguous(LoopsConv):
    def forward(self, x, weight, bias, geometry):
        if x.numel() and not x.is_contiguous() and 0 not in x.stride():
            x = torch.as_strided(x, x.shape, x.new_empty(x.shape).stride())
        return super().forward(x, weight, bias, geometry)


class HalfThePrecision(LoopsConv):
    """In single precision alone."""

    def weight_gradient(self, grad, x, geometry):
        found = super().weight_gradient(grad, x, geometry)
        return found.bfloat16().to(x.dtype) if x.dtype == torch.float32 else found


class NeedsOneThread(LoopsConv):
    def input_gradient(self, grad, weight, size, geometry):
        found = super().input_gradient(grad, weight, size, geometry)
        return found if torch.get_num_threads() == 1 else found * (1 + 1e-2)


def tried(count=300):
    for number in range(count):
        test_random_geometries.check(number)


@pytest.mark.parametrize(
    "broken",
    [*CAUGHT, FlipsSomeKernels, TakesAnyLayoutForContiguous, HalfThePrecision, NeedsOneThread],
)
def test_trials_catch_broken_convolutions(broken, monkeypatch):
    if broken is WorksInPlace:
        pytest.skip("another check's: gradients are asked for, so that autograd refuses it")
    monkeypatch.setattr(trials, "POOLS", [])
    monkeypatch.setattr(trials, "CONVS", [Conv(broken(), "broken")])
    with pytest.raises(AssertionError):
        tried()


@pytest.mark.parametrize("broken", POOL_CAUGHT)
def test_trials_catch_broken_poolings(broken, monkeypatch):
    monkeypatch.setattr(trials, "CONVS", [])
    monkeypatch.setattr(trials, "POOLS", [Pool(broken(), "broken")])
    with pytest.raises(AssertionError):
        tried()
