"""What tests of tasks share."""

from __future__ import annotations

import pytest

from runner.tasks.equivariance import Equivariance
from runner.tasks.locality import Locality
from runner.tasks.match import Match
from runner.tasks.receptive_field import ReceptiveField


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pictures: they take longer than all the rest."""
    for task in (Equivariance, Locality, Match, ReceptiveField):
        monkeypatch.setattr(task, "_draw", lambda *_: None)
