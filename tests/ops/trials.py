"""Random trials by number: the same number is always the same geometry, type and memory layout.

Sizes are drawn so that small ones are common and large ones occur: most trials take milliseconds,
and now and then there are hundreds of channels, a kernel of 31×31, an image of 130 columns. To see
what the operators make of them, with the worst errors of each:

    python tests/ops/trials.py 10000
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import NamedTuple

import torch
from checker import Conv, ConvCase, Pool, PoolCase, conv_ops, integers, normal, pool_ops
from torch import Tensor

from runner.geometry import ConvGeometry, PoolGeometry, output_size
from runner.ops import _compiled, conv_op, im2col, pool_op
from runner.ops.direct import bands
from runner.ops.fft import spectra
from runner.ops.fft.tiles import Correlation, Tile

WORK, STEPS = 5_000_000, 400
"""Multiply-adds and positions of the output, at most: `loops` shall take a fraction of a second."""

MEASURED = 500_000
"""Multiply-adds from which on `auto` would time its candidates, which takes longest of all."""

SELDOM = {"loops": 8, "auto": 4}
"""Operators that compute every so manieth trial alone: one is slow, the other hands it on."""

POOLED = 0.25
"""The share of trials that pool."""

TYPES = {"float32": 0.5, "float64": 0.25, "bfloat16": 0.15, "float16": 0.1}


@dataclass(frozen=True)
class Trial:
    """One call, of whatever operator.

    Attributes:
        number: that it was drawn from.
        case: the geometry.
        mode: of pooling; empty for convolutions.
        dtype: of all numbers.
        whole: whether these are small integers, many of them equal, or normal.
        threads: of torch.
        layouts: how input, weight and the output's gradient lie in memory.
        small: whether everything is cut into pieces as small as can be, as large images are.
    """

    number: int
    case: ConvCase | PoolCase
    mode: str
    dtype: str
    whole: bool
    threads: int
    layouts: tuple[str, str, str]
    small: bool


class Found(NamedTuple):
    """How far one result of an operator is from its reference.

    Attributes:
        op: the operator's name.
        result: output, or gradient of what.
        relative: ‖e‖ / ‖reference‖.
        largest: max|e| / max|reference|. Where what is added up nearly cancels, both are relative
            to what random signs would leave of it.
        finite: whether all numbers are.
    """

    op: str
    result: str
    relative: float
    largest: float
    finite: bool


# What is drawn ------------------------------------------------------------------------------------


def trial(number: int) -> Trial:
    """The trial of a number."""
    rng = random.Random(number)
    pooled = rng.random() < POOLED
    case = _pooling(rng) if pooled else _convolution(rng)
    return Trial(
        number,
        case,
        rng.choice(("max", "avg", "min")) if pooled else "",
        rng.choices(list(TYPES), list(TYPES.values()))[0],
        rng.random() < (0.5 if pooled else 0.2),
        rng.choice((1, 2)),
        (rng.choice(LAYOUTS), rng.choice(LAYOUTS), rng.choice(LAYOUTS)),
        rng.random() < 0.5,
    )


def _size(rng: random.Random, most: int) -> int:
    """From 1 on; half as many of twice the size."""
    return int(most ** rng.random() + rng.random() * 0.999)


def _convolution(rng: random.Random) -> ConvCase:
    while True:
        h, w = _size(rng, 32), _size(rng, 32)
        if rng.random() < 0.06:
            h, w = rng.randint(1, 5), rng.randint(97, 130)
        kernel, stride, dilation = (3, 3), (1, 1), (1, 1)
        if rng.random() < 0.4:
            kernel = rng.choice([(1, 2), (2, 1), (2, 2), (1, 3), (3, 1), (5, 5), (7, 7)])
        if rng.random() < 0.3:
            kernel = _size(rng, 7), _size(rng, 7)
        if rng.random() < 0.04:
            kernel = _size(rng, 31), _size(rng, 31)
        if rng.random() < 0.3:
            stride, dilation = (
                (rng.randint(1, 5), rng.randint(1, 4)),
                (_size(rng, 4), _size(rng, 4)),
            )
        padding = [0, 0, 0, 0]
        if rng.random() < 0.7:
            padding = [rng.randint(0, kernel[i // 2] + 1) for i in range(4)]
        groups = rng.choice((1, 1, 1, 2, 3, _size(rng, 32)))
        most = 1 if groups > 3 and rng.random() < 0.6 else 512 if rng.random() < 0.25 else 12
        ins, outs = _size(rng, most), _size(rng, most)
        window = ConvGeometry(kernel, stride, tuple(padding), dilation, groups)
        n = 0 if rng.random() < 0.03 else rng.choice((1, 1, 2, 2, 3, _size(rng, 9)))
        oh, ow = window.output_size((h, w))
        positions = max(oh, 0) * max(ow, 0) * groups
        work = n * groups * outs * ins * prod(kernel) * max(oh, 0) * max(ow, 0)
        if oh > 0 and ow > 0 and positions <= STEPS and work <= WORK:
            return ConvCase("random", (n, groups * ins, h, w), groups * outs, window)


def _pooling(rng: random.Random) -> PoolCase:
    while True:
        n, c = 0 if rng.random() < 0.03 else _size(rng, 4), _size(rng, 24)
        h, w = _size(rng, 40), _size(rng, 40)
        if rng.random() < 0.2:
            window = PoolGeometry(output=(rng.randint(1, h), rng.randint(1, w)))
        else:
            kernel = _size(rng, 9), _size(rng, 9)
            stride = rng.choice([kernel, (1, 1), (2, 2), (rng.randint(1, 5), rng.randint(1, 5))])
            padding = [0, 0, 0, 0]
            if rng.random() < 0.6:
                padding = [rng.randint(0, kernel[i // 2] - 1) for i in range(4)]
            flags = rng.random() < 0.5, rng.random() < 0.5
            window = PoolGeometry(kernel, stride, tuple(padding), *flags)
            rows, columns = (
                output_size(size, kernel[i], 1, sum(padding[2 * i : 2 * i + 2]))
                for i, size in enumerate((h, w))
            )
            if rows < 1 or columns < 1:
                continue
        if prod(window.output_size((h, w))) <= STEPS:
            return PoolCase("random", (n, c, h, w), window)


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _transposed(x: Tensor) -> Tensor:
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def _spread(x: Tensor) -> Tensor:
    """Every second number of rows that are twice as long; what lies between is no number."""
    wide = torch.full((*x.shape, 2), float("nan"), dtype=x.dtype)
    wide[..., 0] = x
    return wide[..., 0]


def _inside(x: Tensor) -> Tensor:
    """Cut out of something larger."""
    large = torch.full((x.shape[0], x.shape[1] + 1, x.shape[2] + 3, x.shape[3] + 5), float("nan"))
    large = large.to(x.dtype)
    large[:, 1:, 2:-1, 3:-2] = x
    return large[:, 1:, 2:-1, 3:-2]


def _expanded(x: Tensor) -> Tensor:
    """One example or kernel for all; other numbers than the ones given."""
    return x[:1].expand(x.shape) if len(x) else x


LAYOUT: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda x: x,
    "channels_last": _channels_last,
    "transposed": _transposed,
    "spread": _spread,
    "inside": _inside,
    "expanded": _expanded,
}
LAYOUTS = ("contiguous", *LAYOUT)
"""The usual one twice as often."""


# What is computed ---------------------------------------------------------------------------------

CONVS, POOLS = conv_ops(), pool_ops()


def results(what: Trial) -> Iterator[Found]:
    """What every operator that can do a trial makes of it, against `loops` in float64.

    Raises:
        AssertionError: a result of another shape or type, or an operator without a reason why not.
    """
    dtype = getattr(torch, what.dtype)
    if isinstance(what.case, ConvCase):
        yield from _convolutions(what, what.case, dtype)
    else:
        yield from _poolings(what, what.case, dtype)


def _convolutions(what: Trial, case: ConvCase, dtype: torch.dtype) -> Iterator[Found]:
    tensors = case.tensors(integers if what.whole else normal, dtype)
    x, weight = (LAYOUT[how](t) for how, t in zip(what.layouts, tensors[:2], strict=False))
    given, geometry = (x, weight, tensors[2]), case.geometry
    size = (x.shape[0], case.c_out, *geometry.output_size(case.x[2:]))
    grad = LAYOUT[what.layouts[2]](_gradient(what, size, dtype))
    terms = {
        "forward": prod(weight.shape[1:]) + 1,
        "input gradient": case.c_out // geometry.groups * prod(geometry.kernel),
        "weight gradient": size[0] * prod(size[2:]),
        "bias gradient": size[0] * prod(size[2:]),
    }
    exact = _wide(given)
    right = _differentiated(partial(_call, Conv(conv_op("loops")), geometry), exact, grad.double())
    sizes = _differentiated(
        partial(_call, Conv(conv_op("native")), geometry),
        tuple(t.abs() for t in exact),
        grad.double().abs(),
    )
    heavy = size[0] * prod(size[1:]) * prod(weight.shape[1:]) > MEASURED
    for subject in CONVS:
        reasons = subject.op.unsupported(geometry, what.dtype, subject.device)
        assert all(len(reason) > 10 for reason in reasons), f"{subject.name}: {reasons}"
        if not reasons and _due(subject, what) and not (subject.name == "auto" and heavy):
            with settings(what):
                mine = _differentiated(partial(_call, subject, geometry), given, grad)
            yield from _compared(subject.name, subject.op.sums, mine, right, sizes, terms, dtype)


def _poolings(what: Trial, case: PoolCase, dtype: torch.dtype) -> Iterator[Found]:
    x = LAYOUT[what.layouts[0]]((integers if what.whole else normal)(*case.x, seed=1).to(dtype))
    geometry, mode = case.geometry, what.mode
    size = (*case.x[:2], *geometry.output_size(case.x[2:]))
    grad = LAYOUT[what.layouts[2]](_gradient(what, size, dtype))
    exact = _wide((x,))
    right = _differentiated(
        lambda t: Pool(pool_op("loops"))(t, mode, geometry), exact, grad.double()
    )
    # Where extremes are must not depend on signs: of those, the gradients' sizes alone.
    seen = tuple(t.abs() for t in exact) if mode == "avg" else exact
    sizes = _differentiated(
        lambda t: Pool(pool_op("loops"))(t, mode, geometry), seen, grad.double().abs()
    )
    # Every number is in few windows, and an extreme is no sum at all.
    terms = {"forward": 1, "input gradient": 1}
    if mode == "avg":
        terms = {"forward": prod(case.x[2:]), "input gradient": prod(size[2:])}
    for subject in POOLS:
        if subject.can(geometry, mode, what.dtype) and _due(subject, what):
            with settings(what):
                mine = _differentiated(lambda t: subject(t, mode, geometry), (x,), grad)  # noqa: B023  # called at once
            yield from _compared(subject.name, True, mine, right, sizes, terms, dtype)


def _due(subject: Conv | Pool, what: Trial) -> bool:
    return what.number % SELDOM.get(subject.name, 1) == 0


def _gradient(what: Trial, size: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return (integers if what.whole else normal)(*size, seed=4).to(dtype)


def _wide(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same numbers in double precision, one after the other in memory."""
    return tuple(t.double().contiguous() for t in tensors)


def _call(subject: Conv, geometry: ConvGeometry, *tensors: Tensor) -> Tensor:
    return subject(*tensors, geometry)


def _differentiated(
    compute: Callable[..., Tensor], tensors: tuple[Tensor, ...], grad: Tensor
) -> dict[str, Tensor]:
    """Output and gradients, by name."""
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = compute(*leaves)
    assert y.shape == grad.shape, f"shape {y.shape}, not {grad.shape}"
    names = ("input gradient", "weight gradient", "bias gradient")
    found = torch.autograd.grad(y, leaves, grad)
    return {"forward": y.detach(), **dict(zip(names, found, strict=False))}


def _compared(
    op: str,
    sums: bool,
    mine: dict[str, Tensor],
    right: dict[str, Tensor],
    sizes: dict[str, Tensor],
    terms: dict[str, int],
    dtype: torch.dtype,
) -> Iterator[Found]:
    assert list(mine) == list(right)
    for name, reference in right.items():
        actual = mine[name]
        assert actual.dtype == dtype, f"{op}, {name}: {actual.dtype}, not {dtype}"
        assert actual.shape == reference.shape, f"{op}, {name}: {actual.shape}"
        e, usual = actual.double() - reference, sizes[name] / max(terms[name], 1) ** 0.5
        if not e.numel():
            continue
        if not sums:
            # Of what few windows see, or none, transforms leave the rounding of whole sums.
            usual = usual.clamp(min=0.5 * max(terms[name], 1) ** 0.5)
        yield Found(
            op,
            name,
            _ratio(e.norm(), max(reference.norm(), usual.norm())),
            _ratio(e.abs().max(), max(reference.abs().max(), usual.max())),
            bool(actual.isfinite().all()),
        )


def _ratio(part: Tensor, whole: Tensor) -> float:
    return float(part / whole) if part else 0.0


@contextmanager
def settings(what: Trial) -> Iterator[None]:
    """Threads, and pieces of the size that a trial asks for."""
    before = torch.get_num_threads()
    parts = (_compiled.LEAST, bands.BAND, im2col.PART, spectra.best_tile)
    torch.set_num_threads(what.threads)
    if what.small:
        _compiled.LEAST, bands.BAND, im2col.PART = 1e-9, 64, 8
        spectra.best_tile = partial(_small_tile, random.Random(what.number))
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _compiled.LEAST, bands.BAND, im2col.PART, spectra.best_tile = parts


def _small_tile(rng: random.Random, what: Correlation, examples: int = 1) -> Tile:
    """Tiles that reach a few pixels farther than the kernel."""
    (kh, kw), (down, across) = what.kernel, (rng.randint(3, 9), rng.randint(3, 9))
    return Tile((kh + down, kw + across), (1 + down, 1 + across), rng.randint(1, 2), 0, 0.0)


# What the operators make of many ------------------------------------------------------------------


def worst(numbers: range) -> dict[tuple[str, str, str], tuple[float, float, int]]:
    """By type, operator and result: the largest of both errors, and of how many trials."""
    found: dict[tuple[str, str, str], tuple[float, float, int]] = {}
    for number in numbers:
        what = trial(number)
        kind = "pool" if what.mode else "conv"
        for one in results(what):
            key = (what.dtype, f"{kind} {one.op}", one.result)
            relative, largest, count = found.get(key, (0.0, 0.0, 0))
            found[key] = (max(relative, one.relative), max(largest, one.largest), count + 1)
    return found


if __name__ == "__main__":
    first, count = (int(word) for word in [*["0"][: len(sys.argv) < 3], *sys.argv[1:]])
    for (dtype, op, result), values in sorted(worst(range(first, first + count)).items()):
        print(f"{dtype:9} {op:18} {result:16} {values[0]:.1e} {values[1]:.1e} {values[2]:6}")
