"""A task for sweeps whose jobs can be made to fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import SOURCE, Faulty

from runner.sweep import together


@pytest.fixture
def faulty(workplace: Path) -> Faulty:
    """The task ``faulty``, for processes that are started by it; the workplace is current."""
    return Faulty(workplace / "faulty")


@pytest.fixture
def few_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs are enough to be done together."""
    monkeypatch.setattr(together, "FEW", 2)


@pytest.fixture
def here(faulty: Faulty, entry: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """The same, and the task is in the menu of this process too."""
    entry("runner.tasks", "faulty", SOURCE)
    monkeypatch.delenv("FAULT", raising=False)
    return faulty
