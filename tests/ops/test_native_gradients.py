"""Torch's gradients called by name, as `auto` does, against those of autograd in float64.

Autograd itself never calls these methods of `native`: it differentiates the forward computation.
"""

import pytest
import torch
from checker import (
    CONV_CASES,
    MODES,
    POOL_CASES,
    assert_close_to_reference,
    integers,
    label,
    normal,
)
from torch import Tensor

from runner.geometry import PoolGeometry
from runner.ops import conv_op, pool_op

CONV, POOL = conv_op("native"), pool_op("native")

every_dtype = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str
)


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual.dtype == dtype
    assert actual.is_contiguous()
    assert_close_to_reference(actual, expected)


@every_dtype
@pytest.mark.parametrize("case", CONV_CASES, ids=label)
def test_convolution(case, dtype):
    # Rounded to the type first, so that float64 sees the same numbers.
    x, weight, _ = (t.to(dtype) for t in case.tensors())
    exact = [t.double().requires_grad_() for t in (x, weight)]
    y = CONV.forward(*exact, None, case.geometry)
    grad = normal(*y.shape, seed=4).to(dtype)
    for_x, for_weight = torch.autograd.grad(y, exact, grad.double())
    found = CONV.input_gradient(grad, weight, tuple(x.shape[2:]), case.geometry)
    close(found, for_x, dtype)
    close(CONV.weight_gradient(grad, x, case.geometry), for_weight, dtype)


@pytest.mark.parametrize("case", CONV_CASES, ids=label)
def test_convolution_of_tensors_in_another_order(case):
    x, weight, _ = case.tensors()
    y = CONV.forward(x.requires_grad_(), weight.requires_grad_(), None, case.geometry)
    for_x, for_weight = torch.autograd.grad(y.sum(), (x, weight))
    last = x.detach().contiguous(memory_format=torch.channels_last)
    ones = torch.ones(()).double().expand(y.shape)
    turned = weight.detach().transpose(2, 3).contiguous().transpose(2, 3)
    found = CONV.input_gradient(ones, turned, tuple(x.shape[2:]), case.geometry)
    assert_close_to_reference(found, for_x)
    assert_close_to_reference(CONV.weight_gradient(ones, last, case.geometry), for_weight)


def pooled(x: Tensor, mode: str, geometry: PoolGeometry) -> tuple[Tensor, Tensor | None]:
    """What autograd keeps, by the contract."""
    if POOL.indices(mode, geometry) is None:
        return POOL.forward(x, mode, geometry), None
    return POOL.forward_with_indices(x, mode, geometry)


@every_dtype
@pytest.mark.parametrize("draw", [normal, integers], ids=["distinct", "ties"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", POOL_CASES, ids=label)
def test_pooling(case, mode, draw, dtype):
    x = draw(*case.x).to(dtype)
    exact = x.double().requires_grad_()
    expected = POOL.forward(exact, mode, case.geometry)
    grad = normal(*expected.shape, seed=4).to(dtype)
    (for_x,) = torch.autograd.grad(expected, exact, grad.double())
    y, indices = pooled(x, mode, case.geometry)
    assert y.dtype == dtype
    assert_close_to_reference(y, expected)
    size = tuple(x.shape[2:])
    found = POOL.input_gradient(grad, None, indices, size, mode, case.geometry)
    close(found, for_x, dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", POOL_CASES, ids=label)
def test_pooling_of_tensors_in_another_order(case, mode):
    x = normal(*case.x).requires_grad_()
    expected = POOL.forward(x, mode, case.geometry)
    (for_x,) = torch.autograd.grad(expected.sum(), x)
    last = x.detach().contiguous(memory_format=torch.channels_last)
    _, indices = pooled(last, mode, case.geometry)
    ones = torch.ones(()).double().expand(expected.shape)
    size = tuple(x.shape[2:])
    found = POOL.input_gradient(ones, None, indices, size, mode, case.geometry)
    assert_close_to_reference(found, for_x)


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_type_of_the_indices_is_what_is_said(mode):
    for case in POOL_CASES:
        _, indices = POOL.forward_with_indices(normal(*case.x), mode, case.geometry)
        assert indices.dtype == getattr(torch, str(POOL.indices(mode, case.geometry)))
    assert POOL.indices("avg", PoolGeometry((2, 2))) is None
