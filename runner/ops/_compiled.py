"""Loops compiled with Numba, and shared out among threads.

Compiled functions release Python's lock and allocate nothing shared, so that plain threads run
them side by side: as many as torch may use, from any thread, after a fork too.
"""

from __future__ import annotations

import ctypes
import logging
import os
import pickle
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import FunctionType
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numpy.typing import NDArray
from torch import Tensor

from runner.config.contents import contents
from runner.ops._sources import digest

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

FASTMATH = frozenset({"contract", "reassoc", "nsz", "arcp"})
"""Sums may be reordered and fused, so that they vectorise; NaN and infinity keep their meaning."""


CHECKSUM = 32
"""Bytes of a SHA-256."""


class _CacheFile(IndexDataCacheFile):
    """Numba's files of one function, which are believed only where they are whole.

    Numba loads machine code and runs it, whatever became of the file. And two processes that
    compile a function for different types at once can give their files the same name.
    """

    def load(self, key: Any) -> Any:
        found = super().load(key)  # type: ignore[no-untyped-call]  # Numba's
        return found[1] if found is not None and found[0] == key else None

    def save(self, key: Any, data: Any) -> None:
        super().save(key, (key, data))  # type: ignore[no-untyped-call]  # as above

    def _load_index(self) -> Any:
        path = Path(self._index_path)
        if path.exists() and not path.is_file():
            raise OSError("not a regular file")  # reading a pipe would wait for ever
        return super()._load_index()  # type: ignore[no-untyped-call]  # as above

    def _load_data(self, name: str) -> Any:
        content = contents(Path(self._data_path(name)))  # type: ignore[no-untyped-call]  # as above
        checksum, data = content[:CHECKSUM], content[CHECKSUM:]
        if sha256(data).digest() != checksum:
            raise OSError("as if there were none: it will be written anew")
        return pickle.loads(data)

    def _save_data(self, name: str, data: Any) -> None:
        content: bytes = self._dump(data)  # type: ignore[no-untyped-call]  # as above
        with self._open_for_write(self._data_path(name)) as file:  # type: ignore[no-untyped-call]  # as above
            file.write(sha256(content).digest() + content)


class _Cache(FunctionCache):
    """Numba's cache on disk; one that is damaged or can't be written is done without.

    Numba looks at the file of a function alone, but what it calls is compiled into it: here any
    change of the operators' sources is one of the function. And where a function closes over
    compiled ones, Numba would take them for others in every process; what tells them apart is what
    they close over in turn.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]  # Numba's
        self._cache_file = _CacheFile(  # type: ignore[no-untyped-call]  # Numba's
            self._cache_path, self._impl.filename_base, digest(str(Path(__file__).parent))
        )

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return sig, codegen.magic_tuple(), _described(self._py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]  # Numba's
        except Exception as error:
            logger.warning("Numba's cache is damaged and will be written anew: %s", error)
            with suppress(Exception):
                self.flush()  # type: ignore[no-untyped-call]  # as above
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]  # as above
        except Exception as error:
            logger.warning("Numba's cache can't be written: %s", error)


def _described(value: Any) -> Any:
    """A function by its name and what it closes over; plain values as they are."""
    function = getattr(value, "py_func", value)
    if not isinstance(function, FunctionType):
        return repr(value)
    inside = [cell.cell_contents for cell in function.__closure__ or ()]
    return function.__module__, function.__qualname__, tuple(map(_described, inside))


def compiled(function: F) -> F:
    """Compile a function when it is first called with types it hasn't seen; cached on disk."""
    dispatcher: Any = njit(nogil=True, error_model="numpy", fastmath=set(FASTMATH))(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError:  # no folder can be written: compiled anew in every process
        logger.warning("Numba finds no folder to cache compiled code in; see NUMBA_CACHE_DIR")
    return dispatcher  # type: ignore[no-any-return]  # stands for the function


def inlined(function: F) -> F:
    """Compile a function into those that call it, where parts of arrays are handed to it.

    In a call of its own each such part would be counted in and out, which takes as long as a row.
    """
    dispatcher: Any = njit(error_model="numpy", fastmath=set(FASTMATH), forceinline=True)(function)
    return dispatcher  # type: ignore[no-any-return]  # stands for the function


def ordered(function: F) -> F:
    """As `inlined`, for sums that nothing may reorder, those around them included."""
    flags = set(FASTMATH - {"reassoc"})
    dispatcher: Any = njit(error_model="numpy", fastmath=flags, forceinline=True)(function)
    return dispatcher  # type: ignore[no-any-return]  # stands for the function


def array(x: Tensor) -> NDArray[Any]:
    """A CPU tensor as an array that shares its memory; only a tensor in another order is copied."""
    found: NDArray[Any] = x.detach().contiguous().numpy()
    return found


def empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A CPU tensor that is still to be written, of the type of another.

    NumPy asks the system for huge pages, torch doesn't: the first writing of a large tensor is
    several times faster with them.
    """
    return torch.from_numpy(np.empty(shape, array(like.new_empty(0)).dtype))


PARTS = 4
"""Parts for each thread, at most."""

LEAST = 200.0
"""Microseconds that a part takes at the least, roughly; a thread wakes within some tens."""


def share(work: Callable[[int, int], Any], count: int, cost: float = float("inf")) -> None:
    """Call ``work(start, stop)`` for parts of ``range(count)``, on the threads that torch may use.

    Whoever is free takes the next part, so that a thread which wakes late, or is held up by
    something else on the machine, holds nobody up for longer than its part takes.

    Args:
        work: computes a part and releases Python's lock; parts must not write to the same place.
        count: how many pieces there are.
        cost: of all pieces together, in microseconds on one core, roughly. Below some hundreds of
            them, waking a thread takes longer than it saves.
    """
    parts = int(min(count, PARTS * torch.get_num_threads(), cost / LEAST))
    threads = min(torch.get_num_threads(), parts)
    if threads <= 1:
        if count:
            work(0, count)
        return
    bounds = [count * i // parts for i in range(parts + 1)]
    left = iter(list(pairwise(bounds)))  # of a list: threads may take from it at the same time

    def take() -> None:
        for start, stop in left:
            work(start, stop)

    pool = _pool(threads - 1)
    _keep_off(pool)
    others = [pool.submit(take) for _ in range(threads - 1)]
    try:
        take()
    finally:
        for other in others:
            if not other.cancel():  # it has begun
                other.result()


_pools: dict[int, ThreadPoolExecutor] = {}


def _pool(threads: int) -> ThreadPoolExecutor:
    """Waiting threads; made anew after a fork, which only the forking thread survives."""
    found = _pools.get(os.getpid())
    if found is None or found._max_workers < threads:
        found = _pools[os.getpid()] = ThreadPoolExecutor(threads, "runner")
    return found


def _keep_off(pool: ThreadPoolExecutor) -> None:
    """Let a pool's threads run anywhere but where the caller does; on Linux.

    Torch's own threads go on spinning for milliseconds after they were needed. Where that leaves no
    processor idle, Linux wakes a thread on its waker's, and the two take turns on one.
    """
    if _where is None:
        return
    here = _where()
    for thread in tuple(pool._threads):
        if _kept_off.get(thread) != here and thread.native_id:
            elsewhere = os.sched_getaffinity(0) - {here}
            if elsewhere:
                with suppress(OSError):
                    os.sched_setaffinity(thread.native_id, elsewhere)
            _kept_off[thread] = here


_where: Callable[[], int] | None = None
"""On which processor the caller runs."""
if sys.platform == "linux":
    _where = getattr(ctypes.PyDLL(None), "sched_getcpu", None)

_kept_off: WeakKeyDictionary[Thread, int] = WeakKeyDictionary()
"""Where each thread doesn't run."""
