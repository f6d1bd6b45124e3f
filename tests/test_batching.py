"""Several calls of an operator as one: equal to torch's own functions, called one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from runner import batching
from runner.functional import conv2d, pool2d

RUNS = 3
OPS = ("native", "loops", "direct", "im2col", "fft", "auto")
COMPILED_LONG = pytest.param("winograd", marks=pytest.mark.slow)


def numbers(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True)


def one_by_one(function: Any, dims: tuple[int | None, ...], *given: Tensor) -> Tensor:
    calls = [
        function(*(g if d is None else g.select(d, i) for g, d in zip(given, dims, strict=True)))
        for i in range(RUNS)
    ]
    return torch.stack(calls)


def check(ours: Tensor, theirs: Tensor, given: tuple[Tensor, ...]) -> None:
    """Both outputs, and their gradients with respect to everything given, are equal."""
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    grad = torch.cos(torch.arange(theirs.numel(), dtype=torch.float64)).view(theirs.shape)
    found = torch.autograd.grad(ours, given, grad)
    expected = torch.autograd.grad(theirs, given, grad)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("grouped", [0, 2**18])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("op", [*OPS, COMPILED_LONG])
def test_convolutions(op: str, groups: int, grouped: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "GROUPED", grouped)
    weight, bias = numbers(RUNS, 4, 2 // groups, 3, 3), numbers(RUNS, 4)
    options: dict[str, Any] = {"padding": 1, "groups": groups}

    def ours(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return conv2d(x, weight, bias, op=op, **options)

    def theirs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.conv2d(x, weight, bias, **options)

    each, one = numbers(RUNS, 2, 2, 6, 7), numbers(2, 2, 6, 7)
    cases: list[tuple[tuple[Tensor, ...], tuple[int | None, ...]]] = [
        ((each, weight, bias), (0, 0, 0)),  # a kernel each on an input each
        ((one, weight, bias), (None, 0, 0)),  # … on one input
        ((each, numbers(4, 2 // groups, 3, 3), numbers(4)), (0, None, None)),  # one kernel for all
        ((each, weight, numbers(4)), (0, 0, None)),
        ((numbers(2, RUNS, 2, 6, 7), numbers(4, 2 // groups, 3, 3, RUNS), bias), (1, 4, 0)),
    ]
    for given, dims in cases:
        found = torch.vmap(ours, in_dims=dims)(*given)
        check(found, one_by_one(theirs, dims, *given), given)


def test_a_run_without_numbers_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for op in OPS:
        for grouped in (0, 2**18):
            monkeypatch.setattr(batching, "GROUPED", grouped)
            x = numbers(RUNS, 2, 2, 6, 6).detach().clone()
            weight = numbers(RUNS, 4, 2, 3, 3).detach().clone()
            x[1, 0, 0, 0, 0], weight[1, 0, 0, 0, 0] = float("inf"), float("nan")
            x.requires_grad_(), weight.requires_grad_()
            y = torch.vmap(lambda x, w, op=op: conv2d(x, w, op=op))(x, weight)
            (y**2).sum().backward()
            for place, finite in ((0, True), (1, False), (2, True)):
                for tensor in (y, x.grad, weight.grad):
                    assert bool(tensor[place].isfinite().all()) == finite, (op, grouped)


@pytest.mark.parametrize("mode", ["max", "avg", "min"])
@pytest.mark.parametrize("op", ["native", "loops", "direct", "auto"])
def test_pooling(op: str, mode: str) -> None:
    x = numbers(RUNS, 2, 3, 7, 8)

    def theirs(x: Tensor) -> Tensor:
        if mode == "avg":
            return F.avg_pool2d(x, 3, 2, 1)
        sign = 1 if mode == "max" else -1
        return sign * F.max_pool2d(sign * x, 3, 2, 1)

    found = torch.vmap(lambda x: pool2d(x, 3, mode, stride=2, padding=1, op=op))(x)
    check(found, one_by_one(theirs, (0,), x), (x,))
    adaptive = torch.vmap(lambda x: pool2d(x, mode="avg", output_size=2, op=op))(x)
    check(adaptive, one_by_one(lambda x: F.adaptive_avg_pool2d(x, 2), (0,), x), (x,))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_other_paddings(mode: str) -> None:
    x, weight = numbers(RUNS, 2, 1, 6, 7), numbers(RUNS, 1, 1, 3, 3)
    found = torch.vmap(lambda x, w: conv2d(x, w, padding=1, pad_mode=mode))(x, weight)

    def theirs(x: Tensor, weight: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode=mode), weight)

    check(found, one_by_one(theirs, (0, 0), x, weight), (x, weight))


@pytest.mark.parametrize("op", ["direct", "native"])
def test_many_gradients_at_once(op: str) -> None:
    """`torch.autograd.grad` with a batch of output gradients: the gradients' own rules."""
    x, weight = numbers(2, 2, 6, 7), numbers(4, 2, 3, 3)
    y, z = conv2d(x, weight, op=op), F.conv2d(x, weight)
    grads = numbers(RUNS, *y.shape).detach()
    options: dict[str, Any] = {"retain_graph": True}
    found = torch.autograd.grad(y, (x, weight), grads, is_grads_batched=True, **options)
    for i, grad in enumerate(grads):
        for batch, single in zip(
            found, torch.autograd.grad(z, (x, weight), grad, **options), strict=True
        ):
            torch.testing.assert_close(batch[i], single, rtol=1e-10, atol=1e-10)
    p, q = pool2d(x, 2, op=op), F.max_pool2d(x, 2)
    grads = numbers(RUNS, *p.shape).detach()
    (found_pool,) = torch.autograd.grad(p, x, grads, is_grads_batched=True)
    for i, grad in enumerate(grads):
        expected = torch.autograd.grad(q, x, grad, retain_graph=True)[0]
        torch.testing.assert_close(found_pool[i], expected)
