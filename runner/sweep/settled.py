"""Spares Python's garbage collector, and the C library, work that each small job would cause.

Configs refer to themselves in circles, so the collector runs often. Looking through everything that
was there before the first job, each time, would take a third of what a small job costs; and a job
makes more than the 700 objects after which it looks through the new ones.

The C library of Linux gives blocks of more than 128 KB back to the system as soon as they are free,
and a picture takes a dozen such blocks: getting them again, page by page, would take a sixth. Once
a larger one was freed, it keeps those up to that size (mallopt(3), ``M_MMAP_THRESHOLD``).
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

KEPT = 2**25 - 2**16
"""Bytes of the largest block that is kept: a bit less than the most that the C library allows."""

OBJECTS = 10_000, 20, 50
"""After how many new objects the collector looks, and how often it looks at older ones, too."""


@contextmanager
def settled() -> Iterator[None]:
    """Leave alone what is there now, until the end."""
    settle(collect=False)  # what of it is garbage goes afterwards: finding it takes a while
    bytes(KEPT)  # made, never touched, and freed
    before = gc.get_threshold()
    gc.set_threshold(*OBJECTS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def settle(*, collect: bool = True) -> None:
    """Leave alone what has come since, too; first `collect` what of it is garbage."""
    if collect:
        gc.collect()
    gc.freeze()
