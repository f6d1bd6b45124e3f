"""Times that can be compared: taken in turns, over and over, and no more exact than they are."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from math import nan, sqrt
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Call = Callable[[], object]


class Clock(Protocol):
    """Measures a call."""

    def __call__(self, call: Call, least: float = ...) -> float:
        """Seconds that one takes; of as many as fill `least` seconds, the median."""


BLOCK = 1e-3
"""Seconds that a measurement takes at the least: shorter calls are repeated."""
HOPELESS = 5.0
"""Whoever takes so many times as long as the fastest in the first round isn't measured again …"""
LONG = 0.1
"""… if a call takes more seconds than this: what it needs is known well enough."""
SHARE = 0.1
"""Of the yardstick's time: what a quick call is repeated for, so that as many count as fit in."""
NOISY = 0.05
"""How uncertain a ratio may be, relative to it, before it is marked."""


def clock(device: str) -> Clock:
    """A function that takes another and says how many seconds one call takes.

    It calls as often as it takes to fill the seconds it is given. On a device, it waits until all
    is computed.
    """
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda":
        return lambda call, least=BLOCK: _cuda_seconds(call, device, least)
    wait = torch.mps.synchronize if kind == "mps" else None

    def seconds(call: Call, least: float = BLOCK) -> float:
        taken: list[float] = []
        begun = last = perf_counter()
        while last - begun < least:
            call()
            if wait is not None:
                wait()
            now = perf_counter()
            taken.append(now - last)
            last = now
        return median(taken)

    return seconds


def _cuda_seconds(call: Call, device: str, least: float) -> float:
    """By events in the stream, so that what starting the first kernel takes isn't counted."""
    import torch

    calls = 1
    while True:
        start, stop = _event(), _event()
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(calls):
            call()
        stop.record()
        stop.synchronize()
        spent = start.elapsed_time(stop) / 1000
        if spent >= least:
            return float(spent) / calls
        calls *= 2


def _event() -> Any:
    import torch

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected meanwhile."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def rounds(
    calls: Mapping[str, Call],
    seconds: Clock,
    budget: float,
    repeats: int,
    seed: int,
    aside: str = "",
) -> dict[str, list[float]]:
    """Measure several calls in turns, so that whatever drifts hits all of them alike.

    Args:
        calls: by name; the first is the yardstick.
        seconds: measures a call.
        budget: seconds to spend; a new round begins only if the last one's time is left.
        repeats: rounds, at the least.
        seed: of the order, which changes from round to round.
        aside: a call that does less than the others, which need not keep up with it.

    Returns:
        By name, the seconds of each round; NaN in rounds that an operator was left out of, being
        far slower than the fastest.
    """
    yardstick, *_ = calls
    found: dict[str, list[float]] = {name: [] for name in calls}
    random, active, least, last = Random(seed), list(calls), BLOCK, 0.0
    with undisturbed():
        begun = perf_counter()
        while len(found[yardstick]) < repeats or perf_counter() - begun + last < budget:
            started = perf_counter()
            for name in active:
                found[name].append(seconds(calls[name], least))
            for name in set(calls) - set(active):
                found[name].append(nan)
            if len(found[yardstick]) == 1:
                fastest = min(times[0] for name, times in found.items() if name != aside)
                limit = max(HOPELESS * fastest, LONG)
                for name in set(active) - {yardstick}:
                    if found[name][0] > limit:  # it may have been a single stall
                        found[name][0] = min(found[name][0], seconds(calls[name], least))
                active = [n for n in active if found[n][0] <= limit or n == yardstick]
                least = max(BLOCK, SHARE * found[yardstick][0])
            random.shuffle(active)
            last = perf_counter() - started
    return found


@dataclass(frozen=True)
class Statistics:
    """What a series of measurements says.

    Attributes:
        rounds: how many there are.
        median: seconds.
        spread: interquartile range relative to the median; None of fewer than three.
        ratio: the yardstick's median seconds per one's own.
        paired: the median of the ratios of each round; the same, unless there was noise.
        ratio_spread: the interquartile range of these, relative to it; None of fewer than three.
    """

    rounds: int
    median: float
    spread: float | None
    ratio: float
    paired: float
    ratio_spread: float | None

    @property
    def noisy(self) -> bool:
        """Whether the ratio is uncertain: by about the interquartile range / √rounds.

        Or by how far the ratio of the medians is from the median of the rounds' ratios.
        """
        if self.ratio_spread is None:
            return True
        apart = abs(self.paired / self.ratio - 1)
        return max(self.ratio_spread / sqrt(self.rounds), apart) > NOISY

    @staticmethod
    def of(seconds: Sequence[float], yardstick: Sequence[float]) -> Statistics:
        """Of a series, and the yardstick's in the same rounds."""
        taken, beside = np.asarray(seconds), np.asarray(yardstick)
        there = np.isfinite(taken)
        paired, ratio_spread = _middle(beside[there] / taken[there])
        middle, spread = _middle(taken[there])
        ratio = float(np.median(beside)) / middle
        return Statistics(int(there.sum()), middle, spread, ratio, paired, ratio_spread)


def _middle(values: Any) -> tuple[float, float | None]:
    """Median, and interquartile range relative to it."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    return middle, (high - low) / middle if len(values) >= 3 else None


def peak(call: Callable[[], Tensor | tuple[Tensor, ...]], device: str) -> int | None:
    """Bytes by which memory grows, at most, during a call, besides what it gives.

    On CUDA by torch's count. On the CPU by the process's resident pages, which is exact to some
    hundred KiB; None where the system doesn't tell.
    """
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        given = call()
        torch.cuda.synchronize(device)
        grown = torch.cuda.max_memory_allocated(device) - before
        return max(0, grown - _size(given))
    if device != "cpu":
        return None
    _give_back()
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak (Linux)
        before = _pages("VmRSS")
        given = call()
        grown = _pages("VmHWM") - before
    except OSError:
        return None
    return max(0, grown - _size(given))


def _size(given: Tensor | tuple[Tensor, ...]) -> int:
    tensors = given if isinstance(given, tuple) else (given,)
    sizes: list[int] = [one.numel() * one.element_size() for one in tensors]
    return sum(sizes)


def _pages(field: str) -> int:
    """A field of the process's status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"no {field}")


@cache
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return lambda _: 0


def _give_back() -> None:
    """Free memory that the allocator keeps would hide what a call takes."""
    _trim()(0)
