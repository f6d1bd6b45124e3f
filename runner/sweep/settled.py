"""Spares Python's garbage collector what lasts longer than a sweep.

Configs refer to themselves in circles, so the collector runs often. Looking through everything that
was there before the first job, each time, would take a third of what a small job costs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def settled() -> Iterator[None]:
    """Leave alone what is there now, until the end."""
    settle()
    try:
        yield
    finally:
        gc.unfreeze()


def settle() -> None:
    """Leave alone what has come since, too."""
    gc.collect()
    gc.freeze()
