"""Programs that can be started quickly, to be killed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from zygote import Zygote


@pytest.fixture(scope="session")
def zygote(cache: None) -> Iterator[Zygote]:
    """A process that has torch, and forks into the program."""
    found = Zygote()
    yield found
    found.close()
