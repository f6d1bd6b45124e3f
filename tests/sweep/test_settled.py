"""The garbage collector during a sweep, and after it."""

from __future__ import annotations

import gc

import pytest

from runner.sweep.settled import OBJECTS, settle, settled


def test_what_was_there_is_left_alone_until_the_end() -> None:
    before = gc.get_threshold()
    assert gc.get_freeze_count() == 0
    with pytest.raises(ValueError, match="told to"), settled():
        old = gc.get_freeze_count()
        assert old > 0
        assert gc.get_threshold() == OBJECTS
        new: list[list[int]] = [[] for _ in range(100)]
        settle()
        assert gc.get_freeze_count() >= old + len(new)
        raise ValueError("told to")
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == before
