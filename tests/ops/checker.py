"""What it means for an operator to be right.

Each check takes the operator under test and a case, and raises AssertionError when it is wrong;
`test_broken_ops.py` shows that they do. Gates are those of the project's reliability notes:
relL2 = ‖e‖/‖ref‖ and max = max|e|/max|ref|, both, because one wrong pixel barely moves the first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from runner import autograd, menu
from runner.geometry import ConvGeometry, PoolGeometry
from runner.ops import ConvOp, PoolOp, conv_op, pool_op

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]

# Beside them what the 10,000 trials of `trials.py` gave at worst, outputs and all gradients.
GATES = {
    "float64": (1e-12, 1e-12),  # 1.0e-14, 2.7e-14: winograd's
    "float32": (1e-6, 2e-6),  # native 9.6e-7, 2.0e-6; loops 4.7e-7, 7.9e-7; direct 3.1e-7, 5.8e-7
    "bfloat16": (1e-2, 2e-2),  # 5.2e-3, 7.9e-3: im2col's
    "float16": (2e-3, 4e-3),  # 1.0e-3, 2.1e-3: native's
}
"""relL2 and max; for every operator that has no gate of its own."""

OWN_GATES = {
    ("im2col", "float32"): (1.5e-6, 3e-6),  # 8.8e-7, 1.6e-6
    ("fft", "float32"): (2e-6, 2e-6),  # 2.7e-7, 5.8e-7
    ("winograd_2x2", "float32"): (2e-6, 3e-6),  # 7.0e-7, 1.1e-6
    ("winograd", "float32"): (1.5e-5, 6e-5),  # 4.7e-6, 1.3e-5
    ("auto", "float32"): (2e-6, 3e-6),  # 7.6e-7, 8.0e-7
}

TRANSFORMED = {"fft", "winograd", "auto"}
"""Operators that compute in another domain: integers are exact after rounding, NaN is smeared."""


def assert_close_to_reference(actual: Tensor, reference: Tensor, op: str = "") -> None:
    """Pass both gates of the actual tensor's type against a float64 reference."""
    gate_l2, gate_max = gates(op, actual.dtype)
    assert actual.shape == reference.shape, f"shape {actual.shape}, not {reference.shape}"
    assert bool(torch.isfinite(actual).all()), "not finite"
    if reference.numel() == 0:
        return
    error = actual.detach().double() - reference.detach().double()
    size, largest = reference.detach().norm(), reference.detach().abs().max()
    assert error.norm() <= gate_l2 * size, f"relL2 {error.norm() / size:.2e} > {gate_l2:.0e}"
    worst = error.abs().max()
    assert worst <= gate_max * largest, f"max {worst / largest:.2e} > {gate_max:.0e}"


def gates(op: str, dtype: torch.dtype) -> tuple[float, float]:
    name = str(dtype).removeprefix("torch.")
    return OWN_GATES.get((op, name), GATES[name])


def assert_exact(actual: Tensor, expected: Tensor, op: str = "") -> None:
    """Equal integers; after rounding where the operator computes in another domain."""
    assert actual.shape == expected.shape, f"shape {actual.shape}, not {expected.shape}"
    if op in TRANSFORMED and actual.numel():
        # What is expected may be the operator's own work, as where a law compares it with itself.
        whole, (_, gate) = expected.detach().double().round(), gates(op, actual.dtype)
        worst, scale = (actual.detach() - whole).abs().max(), whole.abs().max().clamp(min=1)
        assert worst <= gate * scale, f"max {worst / scale:.2e} > {gate:.0e}"
        actual, expected = actual.round(), whole
    assert torch.equal(actual.detach(), expected.to(actual.dtype)), f"{actual} is not {expected}"


def integers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Small integers, so that sums are exact in every precision."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-4, 5, shape, generator=generator).to(dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@dataclass(frozen=True)
class Conv:
    """A convolution operator under test, on a device; tensors come from and go to the CPU."""

    op: ConvOp
    name: str = ""
    device: str = "cpu"

    def __call__(
        self, x: Tensor, weight: Tensor, bias: Tensor | None = None, geometry: object = None
    ) -> Tensor:
        if geometry is None:
            geometry = ConvGeometry((weight.shape[2], weight.shape[3]))
        assert isinstance(geometry, ConvGeometry)
        there = [None if t is None else t.to(self.device) for t in (x, weight, bias)]
        return autograd.convolve(self.op, *there, geometry).cpu()  # type: ignore[arg-type]

    def can(self, geometry: ConvGeometry, dtype: str = "float64") -> bool:
        return not self.op.unsupported(geometry, dtype, self.device)


@dataclass(frozen=True)
class Pool:
    """A pooling operator under test."""

    op: PoolOp
    name: str = ""
    device: str = "cpu"

    def __call__(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        return autograd.pool(self.op, x.to(self.device), mode, geometry).cpu()

    def can(self, geometry: PoolGeometry, mode: str, dtype: str = "float64") -> bool:
        return not self.op.unsupported(geometry, mode, dtype, self.device)


def conv_ops() -> list[Conv]:
    """Every operator of the menu that has a convolution, on every device."""
    able = [n for n in menu.names("runner.ops") if menu.find("runner.ops", n, ConvOp)]  # type: ignore[type-abstract]
    return [Conv(conv_op(name), name, device) for name in able for device in DEVICES]


def pool_ops() -> list[Pool]:
    """Every operator of the menu that has a pooling, on every device."""
    able = [n for n in menu.names("runner.ops") if menu.find("runner.ops", n, PoolOp)]  # type: ignore[type-abstract]
    return [Pool(pool_op(name), name, device) for name in able for device in DEVICES]


def label(subject: object) -> str:
    """A test's id."""
    if isinstance(subject, Conv | Pool):
        return subject.name if subject.device == "cpu" else f"{subject.name}-{subject.device}"
    return str(getattr(subject, "name", subject))


def skip_unless(supported: bool) -> None:
    if not supported:
        pytest.skip("the operator says that it can't")


@dataclass(frozen=True)
class ConvCase:
    """A point of the edge grid: x is n × c_in × h × w."""

    name: str
    x: tuple[int, int, int, int]
    c_out: int
    geometry: ConvGeometry = field(default_factory=lambda: ConvGeometry((3, 3)))

    def tensors(self, draw=normal, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        """The input, a weight and a bias."""
        weight = (self.c_out, self.x[1] // self.geometry.groups, *self.geometry.kernel)
        drawn = (draw(*self.x, seed=1), draw(*weight, seed=2), draw(self.c_out, seed=3))
        return tuple(t.to(dtype) for t in drawn)


def _conv(name: str, x: tuple[int, int, int, int], c_out: int, *args, **kwargs) -> ConvCase:  # type: ignore[no-untyped-def]
    return ConvCase(name, x, c_out, ConvGeometry(*args, **kwargs))


CONV_CASES = [
    _conv("plain", (2, 3, 6, 7), 4, (3, 3)),
    _conv("batch_of_none", (0, 2, 5, 5), 3, (3, 3)),
    _conv("one_pixel", (2, 2, 1, 1), 3, (1, 1)),
    _conv("one_pixel_padded", (1, 1, 1, 1), 2, (3, 3), padding=(1, 1, 1, 1)),
    _conv("one_by_one", (2, 3, 5, 5), 6, (1, 1)),
    _conv("kernel_is_image", (2, 2, 5, 4), 3, (5, 4)),
    _conv("even_kernel", (1, 2, 6, 7), 2, (2, 4)),
    _conv("even_kernel_same", (1, 2, 6, 7), 2, (2, 4), padding=(0, 1, 1, 2)),
    _conv("even_kernel_same_lower", (1, 2, 6, 7), 2, (2, 4), padding=(1, 0, 2, 1)),
    _conv("one_row", (1, 2, 4, 9), 2, (1, 5), padding=(0, 0, 2, 2)),
    _conv("one_column", (1, 2, 9, 4), 2, (5, 1)),
    _conv("wide_image", (1, 1, 1, 13), 2, (1, 3)),
    _conv("stride_beyond_kernel", (1, 2, 9, 9), 2, (2, 2), stride=(3, 4)),
    _conv("stride_leaves_rest", (2, 2, 8, 9), 3, (3, 3), stride=(2, 4)),
    _conv("uneven_stride_padded", (1, 2, 7, 8), 3, (3, 2), stride=(3, 2), padding=(1, 1, 1, 1)),
    _conv("uneven_padding", (2, 2, 5, 6), 3, (3, 3), padding=(0, 1, 2, 3)),
    _conv("padding_beyond_kernel", (1, 1, 3, 3), 2, (2, 2), padding=(4, 4, 3, 3)),
    _conv("dilated", (1, 2, 9, 10), 2, (3, 3), dilation=(2, 3)),
    _conv("dilated_strided", (2, 2, 9, 9), 2, (2, 3), (2, 1), (2, 2, 1, 1), (3, 2)),
    _conv("grouped", (2, 4, 6, 6), 6, (3, 3), groups=2),
    _conv("depthwise", (2, 3, 6, 6), 3, (3, 3), padding=(1, 1, 1, 1), groups=3),
    _conv("depthwise_multiplied", (1, 3, 5, 5), 6, (2, 2), groups=3),
    _conv("everything", (2, 4, 8, 9), 6, (3, 2), (2, 1), (2, 0, 1, 3), (1, 2), 2),
    _conv("many_channels", (2, 64, 6, 6), 5, (3, 3), padding=(1, 1, 1, 1)),
]


def conv_loops(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry) -> Tensor:
    """The specification, in float64."""
    return autograd.convolve(
        conv_op("loops"),
        x.double(),
        weight.double(),
        None if bias is None else bias.double(),
        geometry,
    )


# The checks of a convolution -------------------------------------------------------------------


def conv_small_integers(subject: Conv, case: ConvCase) -> None:
    """Catches indexing, padding, groups: nothing may be off at all."""
    x, weight, bias = case.tensors(integers)
    expected = conv_loops(x, weight, bias, case.geometry)
    assert_exact(subject(x, weight, bias, case.geometry), expected, subject.name)
    assert_exact(
        subject(x, weight, None, case.geometry), expected - bias[:, None, None], subject.name
    )


def conv_reference(subject: Conv, case: ConvCase, dtype: torch.dtype = torch.float64) -> None:
    x, weight, bias = case.tensors(dtype=dtype)
    before = [t.clone() for t in (x, weight, bias)]
    y = subject(x, weight, bias, case.geometry)
    assert y.dtype == dtype
    assert_close_to_reference(y, conv_loops(x, weight, bias, case.geometry), subject.name)
    assert all(map(torch.equal, (x, weight, bias), before)), "the input was changed"


def conv_gradients(subject: Conv, case: ConvCase, reference: Conv | None = None) -> None:
    """Against the reference's, for a random gradient of the output."""
    reference = reference or Conv(conv_op("loops"))
    found = []
    for op in (subject, reference):
        tensors = [t.requires_grad_() for t in case.tensors()]
        y = op(*tensors, case.geometry)
        found.append(torch.autograd.grad(y, tensors, normal(*y.shape, seed=4)))
    for mine, expected in zip(*found, strict=True):
        assert_close_to_reference(mine, expected, subject.name)


def conv_gradcheck(subject: Conv, case: ConvCase) -> None:
    """Against finite differences."""
    x, weight, bias = (t.requires_grad_() for t in case.tensors())
    assert torch.autograd.gradcheck(
        lambda *tensors: subject(*tensors, case.geometry),
        (x, weight, bias),
        atol=1e-6,
        rtol=1e-5,
        raise_exception=False,
        fast_mode=True,
    ), "the gradient is not that of finite differences"


def conv_linearity(subject: Conv, case: ConvCase) -> None:
    x, weight, bias = case.tensors(integers)
    other_x, other_weight = integers(*x.shape, seed=5), integers(*weight.shape, seed=6)
    g, name = case.geometry, subject.name
    y = subject(x, weight, None, g)
    assert_exact(
        subject(2 * x - 3 * other_x, weight, None, g),
        2 * y - 3 * subject(other_x, weight, None, g),
        name,
    )
    assert_exact(
        subject(x, 2 * weight - 3 * other_weight, None, g),
        2 * y - 3 * subject(x, other_weight, None, g),
        name,
    )
    assert_exact(subject(x, weight, bias, g), y + bias[:, None, None], name)


def conv_adjoint(subject: Conv, case: ConvCase) -> None:
    """⟨conv(x), y⟩ = ⟨x, convᵀ(y)⟩, for the map from x and for the map from the weight."""
    x, weight, _ = (t.requires_grad_() for t in case.tensors())
    out = subject(x, weight, None, case.geometry)
    y = normal(*out.shape, seed=7)
    left = (out.detach() * y).sum()
    for tensor, grad in zip((x, weight), torch.autograd.grad(out, (x, weight), y), strict=True):
        scale = out.detach().norm() * y.norm()
        assert abs(left - (tensor.detach() * grad).sum()) <= 1e-12 * scale


def conv_batch_invariance(subject: Conv, case: ConvCase) -> None:
    x, weight, bias = case.tensors(integers)
    y = subject(x, weight, bias, case.geometry)
    for i in range(len(x)):
        assert_exact(y[i : i + 1], subject(x[i : i + 1], weight, bias, case.geometry), subject.name)


def conv_shift(subject: Conv, case: ConvCase) -> None:
    """Shifting the input by the stride shifts the output by one; at the border new pixels enter."""
    (sh, sw), (top, bottom, left, right) = case.geometry.stride, case.geometry.padding
    x, weight, bias = case.tensors(integers)
    # Without padding every output is interior, so that the law holds wherever both exist.
    inner = ConvGeometry(
        case.geometry.kernel, (sh, sw), (0, 0, 0, 0), case.geometry.dilation, case.geometry.groups
    )
    x = torch.nn.functional.pad(x, (left, right, top, bottom))
    y = subject(x, weight, bias, inner)
    eh, ew = inner.extent
    if x.shape[2] >= sh + eh:
        assert_exact(subject(x[:, :, sh:], weight, bias, inner), y[:, :, 1:], subject.name)
    if x.shape[3] >= sw + ew:
        assert_exact(subject(x[..., sw:], weight, bias, inner), y[..., 1:], subject.name)


CONV_CHECKS = [
    conv_small_integers,
    conv_reference,
    conv_gradients,
    conv_linearity,
    conv_adjoint,
    conv_batch_invariance,
    conv_shift,
]


# Pooling ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolCase:
    """A point of the edge grid of pooling."""

    name: str
    x: tuple[int, int, int, int]
    geometry: PoolGeometry


def _pool(name: str, x: tuple[int, int, int, int], *args, **kwargs) -> PoolCase:  # type: ignore[no-untyped-def]
    return PoolCase(name, x, PoolGeometry(*args, **kwargs))


POOL_CASES = [
    _pool("halves", (2, 3, 6, 8), (2, 2), (2, 2)),
    _pool("overlapping", (1, 2, 5, 6), (3, 2), (1, 1)),
    _pool("batch_of_none", (0, 2, 4, 4), (2, 2), (2, 2)),
    _pool("one_pixel", (2, 1, 1, 1), (1, 1), (1, 1)),
    _pool("kernel_is_image", (1, 2, 4, 5), (4, 5), (4, 5)),
    _pool("stride_beyond_kernel", (1, 2, 9, 9), (2, 2), (3, 4)),
    _pool("padded", (2, 2, 7, 8), (3, 3), (2, 2), (1, 1, 1, 1)),
    _pool("padded_uncounted", (2, 2, 7, 8), (3, 3), (2, 2), (1, 1, 1, 1), False, False),
    _pool("uneven_padding", (1, 2, 6, 7), (3, 4), (2, 2), (0, 2, 3, 1)),
    _pool("uneven_uncounted", (1, 2, 6, 7), (3, 4), (2, 2), (0, 2, 3, 1), False, False),
    _pool("padded_beyond_half", (1, 2, 5, 5), (3, 3), (2, 1), (2, 2, 2, 2)),
    _pool("ceil", (1, 2, 5, 6), (2, 2), (2, 4), ceil_mode=True),
    _pool("ceil_padded", (2, 2, 6, 5), (3, 3), (2, 2), (1, 1, 1, 1), True),
    _pool("ceil_uncounted", (2, 2, 6, 5), (3, 3), (2, 2), (1, 1, 1, 1), True, False),
    _pool("ceil_uneven", (1, 2, 6, 5), (3, 3), (3, 2), (1, 0, 0, 2), True),
    _pool("ceil_uneven_uncounted", (1, 2, 6, 5), (3, 3), (3, 2), (1, 0, 0, 2), True, False),
    _pool("ceil_drops_window_in_padding", (1, 1, 2, 2), (2, 2), (3, 3), (1, 1, 1, 1), True),
    _pool("mostly_padding", (2, 3, 5, 4), (3, 201), (1, 2), (1, 1, 100, 100)),
    _pool(
        "mostly_padding_uncounted", (1, 2, 5, 4), (3, 201), (2, 1), (1, 1, 100, 100), False, False
    ),
    _pool("global", (2, 3, 5, 4), output=(1, 1)),
    _pool("adaptive_divides", (1, 2, 6, 8), output=(3, 2)),
    _pool("adaptive_uneven", (2, 2, 7, 5), output=(3, 4)),
    _pool("adaptive_identity", (1, 2, 3, 4), output=(3, 4)),
]

MODES = ["max", "avg", "min"]


def pool_loops(x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
    """The specification, in float64."""
    return autograd.pool(pool_op("loops"), x.double(), mode, geometry)


def pool_small_integers(subject: Pool, case: PoolCase, mode: str) -> None:
    x = integers(*case.x)
    expected = pool_loops(x, mode, case.geometry)
    found = subject(x, mode, case.geometry)
    if mode == "avg":  # a division; where it comes out even doesn't matter
        assert_close_to_reference(found, expected, subject.name)
    else:
        assert_exact(found, expected)


def pool_reference(
    subject: Pool, case: PoolCase, mode: str, dtype: torch.dtype = torch.float64
) -> None:
    x = normal(*case.x).to(dtype)
    before = x.clone()
    y = subject(x, mode, case.geometry)
    assert y.dtype == dtype
    assert_close_to_reference(y, pool_loops(x, mode, case.geometry), subject.name)
    assert torch.equal(x, before), "the input was changed"


def pool_gradients(subject: Pool, case: PoolCase, mode: str, reference: Pool | None = None) -> None:
    """Also where integers tie: the first of equal extremes gets all."""
    reference = reference or Pool(pool_op("loops"))
    for draw in (normal, integers):
        found = []
        for op in (subject, reference):
            x = draw(*case.x).requires_grad_()
            y = op(x, mode, case.geometry)
            found += torch.autograd.grad(y, x, normal(*y.shape, seed=4))
        assert_close_to_reference(*found, subject.name)


def pool_gradcheck(subject: Pool, case: PoolCase, mode: str) -> None:
    # Distinct numbers a whole step apart: finite differences never cross a tie.
    n = torch.Size(case.x).numel()
    x = torch.randperm(n, generator=torch.Generator().manual_seed(0)).reshape(case.x)
    assert torch.autograd.gradcheck(
        lambda t: subject(t, mode, case.geometry),
        x.double().requires_grad_(),
        raise_exception=False,
        fast_mode=True,
    ), "the gradient is not that of finite differences"


POOL_CHECKS = [pool_small_integers, pool_reference, pool_gradients]
