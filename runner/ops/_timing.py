"""Time ways to compute the same thing against each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import perf_counter

import torch

logger = logging.getLogger(__name__)

LEAST, MOST, BUDGET = 3, 30, 0.2
"""Times that each call is timed, at least and at most, and seconds from which on the least do."""

HOPELESS, FAR_BEHIND, GRACE = 20.0, 1.5, 0.05
"""A call is not timed again that takes so many times as long as the fastest: after its first time,
in which memory may still be new to it, and after more; but each has some seconds to warm up in."""


def compare(
    calls: Mapping[str, Callable[[], object]], device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """Time calls in turns, so that whatever else the machine does hits all alike.

    Args:
        calls: by name; each is called once before it is timed, which may compile it.
        device: where they compute.

    Returns:
        The least seconds of each, as disturbances only add; and why those failed that have none.
    """
    failed: dict[str, str] = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:
            logger.warning("auto leaves %s out, which failed", name, exc_info=True)
            failed[name] = f"{type(error).__name__}: {error}"
    alive = [name for name in calls if name not in failed]
    seconds: dict[str, list[float]] = {name: [] for name in alive}
    begun = perf_counter()
    for done in range(MOST):
        # To and fro, so that none always follows the same one.
        for name in alive if done % 2 else reversed(alive):
            seconds[name].append(_time(calls[name], device))
        best = min((min(times) for times in seconds.values()), default=0.0)
        factor = FAR_BEHIND if done else HOPELESS
        alive = [
            name
            for name in alive
            if min(seconds[name]) <= factor * best or sum(seconds[name]) < GRACE
        ]
        enough = len(alive) < 2 or perf_counter() - begun > BUDGET
        if enough and done + 1 >= LEAST:
            break
    return {name: min(times) for name, times in seconds.items()}, failed


def _time(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        begun = perf_counter()
        call()
        return perf_counter() - begun
    # Calls are queued; several hide how long that takes.
    torch.cuda.synchronize(device)
    begun = perf_counter()
    for _ in range(5):
        call()
    torch.cuda.synchronize(device)
    return (perf_counter() - begun) / 5
