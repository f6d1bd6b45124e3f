"""Jobs that are computed together: the time and the log of each, and what is said of them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner import menu
from runner.sweep.sweep import sweep
from runner.tasks import Task

pytestmark = pytest.mark.usefixtures("few_together")

WORDS = ("task=learn_kernel", "seed=0,1,2,3", "tensorboard=false", "hydra.sweep.dir=out")


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Has something done before the jobs are computed together."""
    lesson = menu.find("runner.tasks", "learn_kernel", Task)  # type: ignore[type-abstract]
    assert lesson is not None
    whole = lesson.run_together.__func__  # type: ignore[attr-defined]

    def replace(do: Callable[[], None]) -> None:
        def more(cls: type[Task], tasks: Any, runs: Any) -> Any:
            do()
            return whole(cls, tasks, runs)

        monkeypatch.setattr(lesson, "run_together", classmethod(more))

    return replace


def status(folder: Path) -> Any:
    return json.loads((folder / "status.json").read_text())


def fail() -> None:
    raise ValueError("told to")


def test_time_is_counted_once(
    before: Callable[[Callable[[], None]], None], workplace: Path
) -> None:
    before(lambda: time.sleep(1))
    begun = time.monotonic()
    sweep(WORDS)
    whole = time.monotonic() - begun
    found = [status(workplace / "out" / str(i)) for i in range(4)]
    assert [one["together"] for one in found] == [4] * 4
    assert min(one["seconds"] for one in found) >= 0.25  # a second among four
    assert sum(one["seconds"] for one in found) <= whole + 4 * 0.0005  # they are rounded


def test_time_of_what_failed_together_is_counted_once(
    before: Callable[[Callable[[], None]], None], workplace: Path
) -> None:

    def late() -> None:
        time.sleep(1)
        fail()

    before(late)
    begun = time.monotonic()
    sweep(WORDS)
    whole = time.monotonic() - begun
    found = [status(workplace / "out" / str(i)) for i in range(4)]
    assert all("together" not in one for one in found)
    assert min(one["seconds"] for one in found) >= 0.25
    assert sum(one["seconds"] for one in found) <= whole + 8 * 0.0005


def test_what_is_logged_of_all_is_in_the_log_of_each(
    before: Callable[[Callable[[], None]], None], workplace: Path
) -> None:
    before(lambda: logging.getLogger("runner").warning("said of all"))
    sweep(WORDS)
    for i in range(4):
        log = (workplace / "out" / str(i) / "run.log").read_text()
        assert log.count("said of all") == 1
        assert log.count("metrics [") == 1


def test_what_failed_together_says_so(
    before: Callable[[Callable[[], None]], None],
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before(fail)
    sweep(WORDS)
    said = " ".join(capsys.readouterr().out.split())
    again = "4 jobs that were learned together failed (ValueError: told to); each is done by itself"
    assert again in said
    for i in range(4):
        log = (workplace / "out" / str(i) / "run.log").read_text()
        assert log.count("ValueError: told to") == 1  # its traceback
        assert log.count("metrics [") == 1
