"""Long runs and large sweeps: what they take doesn't grow with what they did."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
from shell import COMMAND

from runner.launch import launch
from runner.tasks.learn_kernel import PICTURES, Lesson

MIB = 2**20


def resident(process: int | str = "self") -> int:
    """Bytes of memory that a process has; 0 when it has ended."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")
class TestMemory:
    @pytest.mark.parametrize(
        ("steps", "words"),
        [
            (2000, ()),
            pytest.param(10_000, (), marks=pytest.mark.slow),
            pytest.param(10_000, ("task.log_every=1",), marks=pytest.mark.slow),
        ],
    )
    def test_of_a_long_lesson(
        self, steps: int, words: tuple[str, ...], workplace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        launch(["task=learn_kernel"], quiet=True)  # loads what is loaded once, a chart's too
        sizes, times = [], [time.process_time()]
        stepped = Lesson.stepped

        def watched(lesson: Lesson) -> None:
            stepped(lesson)
            if len(lesson.losses) % (steps // 10) == 0:
                sizes.append(resident())
                times.append(time.process_time())

        monkeypatch.setattr(Lesson, "stepped", watched)
        words = ("task=learn_kernel", f"task.steps={steps}", *words)
        directory = launch(words, quiet=True).directory
        assert len(sizes) == 10
        assert sizes[-1] - sizes[0] < 20 * MIB  # from a tenth of the steps on
        # A tenth takes what another one does; the factor is for a machine that is busy.
        tenths = sorted(after - before for before, after in pairwise(times))
        assert tenths[5] < 5 * tenths[1] + 0.1
        logged = [json.loads(x) for x in (directory / "metrics.jsonl").read_text().splitlines()]
        assert [one["step"] for one in logged][-2:] == [steps, 0]
        pictures = list((directory / "images").iterdir())
        assert len(pictures) <= PICTURES + 3
        files = [*directory.glob("*"), *pictures]
        assert sum(path.stat().st_size for path in files) < 5 * MIB

    @pytest.mark.slow
    @pytest.mark.timeout(3000)
    @pytest.mark.parametrize(
        "words",
        [("task=learn_kernel",), ("task=learn_kernel", "sweep.vectorize=false"), ("task=plan",)],
    )
    def test_of_a_large_sweep(self, words: tuple[str, ...], workplace: Path) -> None:
        """Through the whole program: once a fifth of the jobs is done, nothing is added."""
        count = 2000
        process = subprocess.Popen(
            [*COMMAND, "-m", *words, f"seed=range(0,{count})", "hydra.sweep.dir=out"],
            cwd=workplace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        sizes: dict[int, int] = {}
        while process.poll() is None:
            done = len(list((workplace / "out").glob("*/metrics.json")))
            if 0 < done < count and (size := resident(process.pid)):
                sizes[done] = size
            time.sleep(1)
        output = process.communicate()[0]
        assert process.returncode == 0, output[-2000:]
        assert f"{count} completed" in output
        early = max(size for done, size in sizes.items() if done <= max(count // 5, min(sizes)))
        late = max(size for done, size in sizes.items() if done >= count // 2)
        assert late - early < 40 * MIB, sizes
        assert re.search(rf"Over {count} seeds|Nothing varied|seed", output)
