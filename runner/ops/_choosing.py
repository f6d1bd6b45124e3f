"""Choose an operator for a case: by rule, by memory, or by measurement."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Generic, NamedTuple, TypeVar

import torch

from runner.choices import Choice, choices
from runner.ops import Auto, ConvOp, PoolOp
from runner.ops._cases import FORWARD, Case
from runner.ops._timing import compare
from runner.ops._tuning import key_of, recall, remember

logger = logging.getLogger(__name__)

T = TypeVar("T", ConvOp, PoolOp)

FORWARD_FACTOR, GRADIENT_FACTOR = 3.0, 8.0
"""An operator whose estimate is so many times the lowest is not tried; of gradients, an estimate
says less."""

WORTH = 1e-4
"""Seconds a call that another operator than native must save by estimate, where none is timed."""

CLEARLY, CALL = 0.9, 1e-4
"""Another operator is taken where it needs at most this part of native's time, less the seconds
that calling it through torch's dispatcher takes; noise alone shouldn't decide against native."""

SKETCH, HOPELESS = 1 / 32, 10.0
"""The share of the time that a first, small trial takes, and how many times as long as the fastest
an operator may take there to be tried on more."""

AGREE, BELIEVED = 2.0, 20.0
"""Two times of one operator agree that differ by at most this factor, and `CALL`; where times
contradict the estimates by more than the other, they are not believed."""

TF32 = 1e-3
"""The rounding error of TF32, which has 10 bits of mantissa."""


_lock = RLock()
"""Held while one is chosen: what is timed side by side is slower."""


def _renew() -> None:
    """In a process that was forked, nobody would release what another thread held."""
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_renew)


class Chooser(Generic[T]):
    """Chooses, keeps what it chose for as long as the process lives, and tells every run once."""

    def __init__(self, auto: Auto) -> None:
        self._auto = auto
        self._made: dict[Case, tuple[Choice, T]] = {}
        self._told: set[Case] = set()
        self._run = choices.run

    def choose(self, case: Case, able: Callable[[], Mapping[str, T]]) -> T:
        """The operator for a case, among those that can compute it."""
        with _lock:
            if case not in self._made:
                candidates = able()
                choice = self._decide(case, candidates)
                self._made[case] = choice, candidates[choice.picked]
            found, op = self._made[case]
            if self._run != choices.run:
                self._told.clear()
                self._run = choices.run
            if case not in self._told:
                self._told.add(case)
                choices.made.append(found)
                logger.info("auto: %s", found)
        return op

    def _decide(self, case: Case, able: Mapping[str, T]) -> Choice:
        estimates = {name: case.estimate(op) for name, op in able.items()}
        known = [seconds for seconds in estimates.values() if seconds]
        factor = FORWARD_FACTOR if case.computation == FORWARD else GRADIENT_FACTOR
        most = factor * min(known, default=0)
        tried = {n: op for n, op in able.items() if n == "native" or estimates[n] <= most}
        if len(tried) == 1:
            return _choice(case, next(iter(tried)), self._why_alone(able))
        if case.work < max(self._auto.measure_from, 1):
            return _choice(case, _by_rule(estimates), "too little to measure")
        key = key_of(str(case), torch.device(case.device))
        seconds, why = recall(key, set(tried)), "remembered"
        if seconds is None:
            # They are of CPUs, which may be slow at half precision.
            of_this = case.device == "cpu" and case.dtype in ("float32", "float64")
            believed = estimates if of_this else dict.fromkeys(estimates, 0.0)
            seconds, failed, steady = _measure(case, tried, believed)
            if not seconds:
                return _choice(case, _by_rule(estimates), "none could be measured")
            why = "measured" if steady else "measured, too noisy to remember"
            if steady and not failed:
                seconds = dict(remember(key, seconds))
        return _choice(case, _fastest(seconds), why, seconds)

    def _why_alone(self, able: Mapping[str, T]) -> str:
        if len(able) > 1:
            return "no other comes near"
        alone = self._auto.allow is not None and len(set(self._auto.allow)) == 1
        return "the only one allowed" if alone else "no other can"


def _choice(
    case: Case, picked: str, why: str, seconds: Mapping[str, float] | None = None
) -> Choice:
    return Choice(case.layer, case.batch, case.computation, picked, seconds or {}, why)


def _by_rule(estimates: Mapping[str, float]) -> str:
    """The lowest estimate, where it is lower than native's by enough to be believed and to matter.

    What is tiny stays native, so that nothing is compiled or imported for it.
    """
    known = {name: seconds for name, seconds in estimates.items() if seconds}
    best = min(known, key=lambda name: known[name], default=next(iter(estimates)))
    if "native" not in estimates:
        return best
    native = known.get("native", 0)
    sure = native - known.get(best, 0) >= WORTH and 2 * known[best] <= native
    return best if sure else "native"


def _fastest(seconds: Mapping[str, float]) -> str:
    best = min(seconds, key=lambda name: seconds[name])
    if "native" in seconds and seconds[best] > CLEARLY * seconds["native"] - CALL:
        return "native"
    return best


class _Measured(NamedTuple):
    """Seconds of each operator, why those failed that have none, and whether the times agree."""

    seconds: dict[str, float]
    failed: dict[str, str]
    steady: bool


def _measure(case: Case, tried: Mapping[str, T], estimates: Mapping[str, float]) -> _Measured:
    """Time all, and once more those that could be picked; all again where the two disagree.

    Of the two passes the one holds that speaks less against native, so that only what is clearly
    faster in both takes its place. Load from elsewhere may outlast them: threads that wait for one
    another then take a hundred times as long, which only the estimates show.
    """
    for _ in range(2):
        first, failed = _pass(case, tried)
        again = {name: tried[name] for name in _contenders(first, estimates)}
        if len(again) < 2:
            return _Measured(first, failed, True)
        second, wrong = _pass(case, again)
        failed |= wrong
        steady = all(_agree(seconds, first[name]) for name, seconds in second.items())
        if steady:
            break
    cautious = min((first, first | second), key=_gain)
    steady &= not _contradicting(cautious, estimates)
    return _Measured({n: s for n, s in cautious.items() if n not in failed}, failed, steady)


def _contenders(seconds: Mapping[str, float], estimates: Mapping[str, float]) -> list[str]:
    """Native, those near the fastest, and those that by their estimates should be near."""
    best = min(seconds.values(), default=0)
    odd = _contradicting(seconds, estimates)
    return [n for n, s in seconds.items() if n == "native" or s <= AGREE * best or n in odd]


def _contradicting(seconds: Mapping[str, float], estimates: Mapping[str, float]) -> list[str]:
    """Those much further behind the fastest than by their estimates; 0 says nothing."""
    best = min(seconds, key=lambda name: seconds[name], default="")
    most = BELIEVED * seconds[best] / estimates[best] if seconds and estimates[best] else 0
    return [name for name, time in seconds.items() if time > most * estimates[name] > 0]


def _agree(one: float, other: float) -> bool:
    return max(one, other) <= AGREE * min(one, other) + CALL


def _gain(seconds: Mapping[str, float]) -> float:
    """How many times as fast as native the fastest is."""
    return seconds.get("native", 0) / min(seconds.values())


def _pass(case: Case, tried: Mapping[str, T]) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of each for the whole case, and why those failed that have none.

    A sketch first shows what can't win; often that is native, which can take seconds.
    """
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    for part in dict.fromkeys((case.within_reach(SKETCH), case.within_reach())):
        scale = case.batch * case.y.height / (part.batch * part.y.height)
        with torch.no_grad():
            calls = {name: part.call(op) for name, op in tried.items()}
            found, wrong = compare(calls, torch.device(case.device))
        seconds |= {name: scale * time for name, time in found.items()}
        failed |= wrong
        near = [n for n, time in found.items() if time <= HOPELESS * min(found.values())]
        tried = {name: tried[name] for name in near}
        if len(tried) < 2:
            break
    return {name: time for name, time in seconds.items() if name not in failed}, failed


@contextmanager
def exact(x: torch.Tensor, accuracy: float) -> Iterator[None]:
    """Without TF32 while an operator computes in float32 on CUDA, unless that is exact enough."""
    if not shortcut(x, accuracy):
        yield
        return
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def shortcut(x: torch.Tensor, accuracy: float) -> bool:
    """Whether torch would compute with TF32 where more digits are asked for."""
    if not x.is_cuda or x.dtype != torch.float32 or accuracy >= TF32:
        return False
    return torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32
