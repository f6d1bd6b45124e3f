"""What a run's files may say, and that whatever else they say is refused by its name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from runner.config.errors import ConfigError
from runner.tracking.status import Metrics, Resumable, Status, read

GOOD = {
    "state": "FAILED",
    "started": "2026-01-02T03:04:05+00:00",
    "seconds": 3,
    "overrides": ["task=plan"],
    "config_name": "config",
}


def refusal(kind: type[Any], path: Path, text: str) -> str:
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read(kind, path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("state", ["DEAD", 5, None, ["FAILED"]]),
        ("overrides", ["all", [None], None]),
        ("config_dir", [5]),
        ("config_name", [None, 5]),
        ("resumed", ["x", -1, 1.5]),
        ("started", ["x", 5, None, "2026-01-02T03:04:05", "9999-12-31T23:59:59+00:00"]),
        ("seconds", ["x", None, -1, 1e300, math.nan, math.inf, True]),
        ("command", [5, None]),
        ("experiment", [5, []]),
        ("about", [5]),
        ("versions", [[], None, {"torch": 2}]),
        ("threads", ["x"]),
    ],
)
def test_a_field_that_is_wrong_is_named(field: str, values: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    for value in values:
        found = refusal(Resumable, path, json.dumps({**GOOD, field: value}))
        start = f"{path}: expected what a run recorded, got an error ({field}"
        assert found.startswith(start), value


@pytest.mark.parametrize(
    "text", ["", "{", "{}", "[]", "null", "[" * 100_000, '{"state": "\\ud800"}']
)
def test_what_is_no_record(text: str, tmp_path: Path) -> None:
    assert "expected what a run recorded" in refusal(Status, tmp_path / "status.json", text)


def test_what_is_recorded_is_read(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_text(json.dumps({**GOOD, "of another version": [1]}))
    found = read(Resumable, path)
    assert (found.seconds, found.overrides, found.config_dir) == (3, ("task=plan",), None)
    with pytest.raises(OSError, match="No such file"):
        read(Status, tmp_path / "absent.json")


def test_expectations_are_mappings(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    for value in (5, None, ["a"]):
        text = json.dumps({"expectations": value})
        assert "an error (expectations" in refusal(Metrics, path, text)
    path.write_text('{"loss": 1, "expectations": [{"metric": "loss"}]}')
    assert read(Metrics, path).expectations == ({"metric": "loss"},)
