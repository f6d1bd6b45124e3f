"""A server that runs cases for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from verdict import Server, server


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server(tmp_path_factory.mktemp("watch")) as one:
        yield one
