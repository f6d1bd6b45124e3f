"""An attacker for the session, and attacks in a directory of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attacking import MARKER, Answer, Attack, Attacker


@pytest.fixture(scope="session")
def attacker() -> Iterator[Attacker]:
    made = Attacker()
    yield made
    made.stop()


@pytest.fixture
def attack(attacker: Attacker, tmp_path: Path) -> Attack:
    """Run ``python -m runner`` where there are certain files; ``MARKER`` becomes a path."""
    cwd = tmp_path / "case" / "work"
    cwd.mkdir(parents=True)
    marker = str(tmp_path / "case" / MARKER)

    def run(*words: str, files: Mapping[str, str | bytes] | None = None) -> Answer:
        for name, content in (files or {}).items():
            path = cwd / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, str):
                content = content.replace(MARKER, marker).encode()
            path.write_bytes(content)
        return attacker.run(cwd, *(word.replace(MARKER, marker) for word in words))

    return run
