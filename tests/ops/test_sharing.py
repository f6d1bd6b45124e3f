"""Work shared out among threads: all of it, once, and nobody waits for one who is late."""

import os
import sys
from threading import Event, get_ident

import pytest
import torch

from runner.ops import _compiled
from runner.ops._compiled import share


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
class TestTwoThreads:
    @pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 1000])
    def test_every_piece_is_computed_once(self, count):
        done = []
        share(lambda start, stop: done.extend(range(start, stop)), count)
        assert sorted(done) == list(range(count))

    def test_both_take_part(self):
        # Each waits until the other has begun, which fails if one computes all.
        begun = {}, Event()

        def work(start, stop):
            begun[0][get_ident()] = True
            if len(begun[0]) == 2:
                begun[1].set()
            assert begun[1].wait(timeout=10)

        share(work, 8)
        assert len(begun[0]) == 2

    def test_one_that_is_held_up_holds_up_nobody_else(self):
        # Whoever takes the first piece keeps it until all others are done, by the other thread.
        others, finished = [], Event()

        def work(start, stop):
            if start == 0:
                assert finished.wait(timeout=10)
            else:
                others.extend(range(start, stop))
                if len(others) == 7:
                    finished.set()

        share(work, 8)
        assert sorted(others) == list(range(1, 8))

    def test_little_work_stays_with_the_caller(self):
        seen = []
        share(lambda *part: seen.append((get_ident(), part)), 100, cost=_compiled.LEAST)
        assert seen == [(get_ident(), (0, 100))]

    @pytest.mark.parametrize("bad", range(8))
    def test_what_fails_is_raised(self, bad):
        def work(start, stop):
            if start == bad:
                raise ArithmeticError("a part failed")

        with pytest.raises(ArithmeticError, match="a part failed"):
            share(work, 8)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux says where threads may run")
    def test_threads_keep_off_the_callers_processor(self, monkeypatch):
        assert _compiled._where is not None
        allowed = os.sched_getaffinity(0)
        if len(allowed) < 2:
            pytest.skip("there is one processor")
        assert _compiled._where() in allowed
        pool = _compiled._pool(1)
        pool.submit(int).result()  # there is a thread now
        for processor in sorted(allowed):
            monkeypatch.setattr(_compiled, "_where", lambda here=processor: here)
            share(lambda *_: None, 8)
            for thread in pool._threads:
                assert os.sched_getaffinity(thread.native_id) == allowed - {processor}
        assert os.sched_getaffinity(0) == allowed
