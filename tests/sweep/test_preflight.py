"""Every job is checked before the first starts, and one answer names all that is wrong."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty

import runner.sweep.preflight
from runner.config.compose import Composer
from runner.config.errors import ConfigError
from runner.sweep.composition import SweepComposer
from runner.sweep.preflight import MOST, Checks, check_count, preflight
from runner.sweep.sweep import sweep

PLAN = ["task=plan", "stack=lenet"]


def checked(jobs: Sequence[Sequence[str]]) -> Checks:
    with Composer() as composer:
        return preflight(
            SweepComposer(composer), [[*PLAN, *words] for words in jobs], lambda _: None
        )


def refusal(jobs: Sequence[Sequence[str]]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        checked(jobs)
    return [str(problem) for problem in caught.value.problems]


def refused_sweep(*words: str, **named: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        sweep([*words], **named)
    return [str(problem) for problem in caught.value.problems]


def test_good_jobs_are_known() -> None:
    checks = checked(
        [["seed=3"], ["seed=4", "stack.layers.conv1.stride=1"], ["data=blank", "task=verify"]]
    )
    assert [job.number for job in checks.good] == [0, 1, 2]
    assert [job.wanted for job in checks.good] == ["0", "1", "2"]
    assert len({job.digest for job in checks.good}) == 3
    assert checks.good[0].overrides == (*PLAN, "seed=3")
    assert list(checks.tasks) == ["plan", "verify"]
    assert checks.mended == {"stack.layers.conv1.stride"}
    assert checks.bad == []


@pytest.mark.parametrize("what", ["sweeper", "launcher"])
def test_there_is_no(what: str) -> None:
    assert refused_sweep(*PLAN, f"~hydra/{what}") == [
        f"hydra/{what}: expected the name of a {what}, got nothing. The default is runner."
    ]
    for word in (f"hydra.{what}=null", f"hydra.{what}=3", f"~hydra.{what}._target_"):
        (told,) = refused_sweep(*PLAN, word)
        assert told.startswith(f"hydra.{what}: expected a {what}'s settings, with its class as")


@pytest.mark.parametrize("word", ["sweep=null", "sweep=3"])
def test_settings_of_the_sweep_that_are_none(word: str) -> None:
    assert refused_sweep(*PLAN, word)[0].startswith("sweep: expected a mapping with vectorize")


def test_all_problems_of_all_jobs_at_once() -> None:
    assert refusal(
        [
            ["seed=-1"],
            [],
            ["seed=-1", "dtype=float31"],
            ["stack.layers.conv1.kernel=99"],  # found only when planned
            ["task.nonsense=1"],  # found when composed
        ]
    ) == [
        "job #0, #2: seed: expected at least 0, got -1.",
        "job #2: dtype: expected one of float32, float64, bfloat16, float16, got 'float31' (text). "
        "Did you mean 'float32'?",
        # 28 + 2·2 = 32 pixels, 67 fewer than 99.
        "job #3: stack.layers.conv1.kernel: expected height at most 32 (input 28 + padding 4), got "
        "99. The output would have height ⌊(28 + 4 − 99) / 1⌋ + 1 < 1. Use a smaller kernel, 67 "
        "more padding in total, or larger images.",
        "job #4: task.nonsense: expected one of kind, got 'nonsense'.",
    ]


def test_what_all_jobs_share_has_no_numbers() -> None:
    (found,) = refusal([["dtype=x", f"seed={i}"] for i in range(7)])
    assert found.startswith("dtype: expected one of ")


def test_many_jobs_are_counted() -> None:
    jobs = [["seed=x"] if i % 2 else [] for i in range(16)]
    assert refusal(jobs) == [
        "job #1, #3, #5, #7, #9 and 3 more: seed: expected an integer, got 'x' (text)."
    ]


def test_values_that_are_wrong_in_one_way_are_told_together() -> None:
    assert refusal([*([f"seed={-i}"] for i in range(7, 0, -1)), ["dtype=x", "seed=-7"], []])[0] == (
        "job #0, #1, #2, #3, #4 and 3 more: seed: expected at least 0, got -7, -6, -5, -4 and "
        "3 other values."
    )


def test_jobs_with_nothing_new_to_say_are_not_all_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.sweep.preflight, "ALIKE", 10)
    jobs = [["dtype=x", f"seed={-i}"] for i in range(1, 100_000)]
    seed, dtype = sorted(refusal(jobs), reverse=True)
    # The first has something new, ten have not.
    assert seed == (
        "seed: expected at least 0, got -1, -2, -3, -4 and 7 other values. "
        "The other 99,988 jobs were not checked."
    )
    assert dtype.startswith("dtype: expected one of ")


@pytest.mark.parametrize("good", [[], ["dtype=x", "sweep.on_invalid=skip"], ["dtype=x"]])
def test_all_are_checked_while_it_can_matter(
    good: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job is valid, or wrong ones are skipped, or there is something new."""
    monkeypatch.setattr(runner.sweep.preflight, "ALIKE", 10)
    jobs = [*([f"seed={-i}"] for i in range(1, 9)), good, *([f"seed={-i}"] for i in range(9, 18))]
    (found,) = [line for line in refusal(jobs) if "seed:" in line]
    assert found == (
        "job #0, #1, #2, #3, #4 and 12 more: seed: expected at least 0, got -1, -2, -3, -4 and "
        "13 other values."
    )


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["seed=range(0,10000000)"], "seed 10,000,000"),
        (["seed=range(1000000000,0,-1)", "task=plan"], "seed 1,000,000,000"),
        (["seed=shuffle(range(0,10000000))"], "seed 10,000,000"),
        (["a=range(0,400)", "b=range(0,1,0.004)", "c=1,2"], "a 400 × b 250 × c 2"),
        (["a=range(0,1,1e-300)"], "a countless"),
    ],
)
def test_too_many_jobs_are_refused_before_they_are_listed(words: list[str], count: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError) as caught:
            check_count(words)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert f"sweep: expected at most 100,000 jobs, got {count}" in str(caught.value)
    assert most < 2**20  # a list of ten millions takes 80 MB


def test_as_many_as_are_allowed() -> None:
    check_count([f"seed=range(0,{MOST})", "x=1", "y=range(3,0)", "z=[1,2,3]", "bad=["])
    check_count(["seed=interval(0,1)", "a=choice(1,2)", "b=range(0,10,-1)"])
    with pytest.raises(ConfigError, match="seed: expected a step other than 0, got"):
        check_count(["seed=range(0,3,0)"])


def test_devices_that_are_absent(workplace: Path) -> None:
    found = refused_sweep("task=edge", "device=cpu,cuda:99", "seed=0,1")
    assert len(found) == 1
    assert found[0].startswith("job #2, #3: device: expected a device of this machine (")
    assert list(workplace.iterdir()) == []
    # Another machine may have it, and who only plans needs none.
    assert len(checked([["device=cuda:99"], ["device=cuda:99", "seed=2"]]).good) == 2
    elsewhere = ["task=edge", "stack=sobel", "device=cuda:99", "hydra/launcher=submitit_slurm"]
    assert len(checked([elsewhere]).good) == 1


class TestSkipping:
    def test_the_others_run_and_the_reasons_are_kept(self, here: Faulty, workplace: Path) -> None:
        words = ["task=faulty", "seed=0,-1,2", "sweep.on_invalid=skip", "hydra.sweep.dir=out"]
        swept = sweep(words, config_dir=here.configs)
        assert here.noted("end") == {0: 1, 2: 1}
        assert [(one.number, one.state) for one in swept.records] == [
            (0, "completed"), (1, "skipped"), (2, "completed")
        ]  # fmt: skip
        (skipped,) = json.loads((workplace / "out" / "sweep.json").read_text())["skipped"]
        assert skipped["number"] == 1
        assert "seed=-1" in skipped["overrides"]
        assert skipped["problems"] == ["seed: expected at least 0, got -1."]
        for name in ("summary.csv", "summary.md"):
            assert "seed: expected at least 0, got -1." in (workplace / "out" / name).read_text()

    def test_none_is_left(self, workplace: Path) -> None:
        found = refused_sweep("task=plan", "seed=-1,-2", "sweep.on_invalid=skip")
        assert found == [
            "job #0: seed: expected at least 0, got -1.",
            "job #1: seed: expected at least 0, got -2.",
        ]
        assert list(workplace.iterdir()) == []


class TestWhatTheSweepIsTold:
    def test_one_thing(self, workplace: Path) -> None:
        found = refused_sweep("task=plan", "sweep.on_error=stop,continue", "seed=0,-1")
        assert found == [
            "sweep.on_error: expected the same for all jobs of a sweep, got 'stop' (text) for job "
            "#0 and 'continue' (text) for job #2.",
            "job #1, #3: seed: expected at least 0, got -1.",
        ]

    def test_an_objective_is_told_as_yaml_says_it(self, workplace: Path) -> None:
        objectives = "{metric: loss, goal: min},{metric: kernel_error, goal: min}"
        (found,) = refused_sweep("task=learn_kernel", f"sweep.objective={objectives}")
        assert found == (
            "sweep.objective: expected the same for all jobs of a sweep, got "
            "{metric: loss, goal: min} for job #0 and {metric: kernel_error, goal: min} for job #1."
        )

    def test_not_even_when_others_are_skipped(self, workplace: Path) -> None:
        (found,) = refused_sweep("task=plan", "sweep.on_invalid=skip,refuse")
        assert found.startswith("sweep.on_invalid: expected the same for all jobs")

    @pytest.mark.parametrize(
        ("word", "says"),
        [
            ("sweep.on_error=stpo", "sweep.on_error: expected one of continue, stop, got 'stpo'"),
            ("sweep.on_invalid=no", "sweep.on_invalid: expected one of refuse, skip, got 'no'"),
            ("sweep.vectorize=2", "sweep.vectorize: expected true or false, got 2"),
            (
                "sweep.objective={metric: loss}",
                "sweep.objective.goal: expected one of min, max, got nothing.",
            ),
            ("sweep.objective=loss", "sweep.objective: expected "),
            ("sweep.vectorise=false", "Did you mean 'vectorize'?"),
            ("sweep.resume=nowhere", "sweep.resume: expected a sweep's directory, got 'nowhere'"),
            ("sweep.resume=", "sweep.resume: expected a sweep's directory, got ''"),
            ("hydra.sweep.subdir=../x", "hydra.sweep.subdir: expected a directory within the swe"),
            ("hydra.sweep.subdir=/x", "hydra.sweep.subdir: expected a directory within the sweep"),
            ("hydra.sweep.subdir=.", "hydra.sweep.subdir: expected a directory within the sweep"),
            ("hydra.sweep.subdir=${nope}", "hydra.sweep.subdir: expected a directory's name, got"),
            (
                f"hydra.sweep.subdir={'x' * 300}",
                "hydra.sweep.subdir: expected names of at ",
            ),
            ("hydra.sweep.dir=", "hydra.sweep.dir: expected a directory, got an empty name"),
            ("hydra.sweep.dir=${nope}/x", "hydra.sweep.dir: expected "),
            ("hydra.sweep.dir=a,b", "hydra.sweep.dir: expected one value, got 'a,b'."),
            ("hydra.sweep.dir=[", "hydra.sweep.dir: expected a value that can be read, got '['."),
            ("hydra.sweep.dri=x", "hydra.sweep.dri: expected one of"),
        ],
    )
    def test_wrong_values(self, word: str, says: str, workplace: Path) -> None:
        (found,) = refused_sweep("task=plan", "seed=0,1", word)
        assert says in found
        assert list(workplace.iterdir()) == []

    def test_a_place_is_named_once(self, workplace: Path) -> None:
        (found,) = refused_sweep("task=plan", "sweep.resume=a", "hydra.sweep.dir=b")
        assert found.startswith("sweep.resume: expected no hydra.sweep.dir besides, got 'hydra.")
