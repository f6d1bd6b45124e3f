"""Search by Optuna: what is searched, by which metric, and what of an earlier try is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from faulty import Faulty
from shell import Finished

from runner.config.errors import ConfigError

if find_spec("optuna") is None:
    pytest.skip("needs optuna", allow_module_level=True)

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from runner.sweep.engines.optuna import OptunaSweeper, distribution
from runner.tasks import Objective

FOLDER = Path("s")
SEARCH = ["hydra/sweeper=optuna", f"hydra.sweep.dir={FOLDER}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=interval(0.1,1)", FloatDistribution(0.1, 1)),
        ("x=interval(1,10)", FloatDistribution(1, 10)),
        ("x=tag(log,interval(0.1,1))", FloatDistribution(0.1, 1, log=True)),
        ("x=int(interval(1,10))", IntDistribution(1, 10)),
        ("x=int(tag(log,interval(1,10)))", IntDistribution(1, 10, log=True)),
        # The values of a range are those of a grid over it: its end isn't one.
        ("x=range(3,9,2)", IntDistribution(3, 7, step=2)),
        ("x=range(3,10,2)", IntDistribution(3, 9, step=2)),
        ("x=range(5,1,-2)", IntDistribution(3, 5, step=2)),
        ("x=range(0,1000000000000)", IntDistribution(0, 999999999999)),  # never listed
        ("x=range(0.5,2.5,0.5)", FloatDistribution(0.5, 2.0, step=0.5)),
        ("x=1,b,'c d',[1,2]", CategoricalDistribution(["1", "b", "'c d'", "[1,2]"])),
        ("stack=choice(lenet,nin)", CategoricalDistribution(["lenet", "nin"])),
        ("x=3", None),
        ("x=[1,2]", None),
    ],
)
def test_what_an_override_says_can_be_searched(text: str, expected: Any) -> None:
    assert distribution(text) == expected


@pytest.mark.parametrize("text", ["lr=interval(2,1)", "lr=tag(log,interval(0,1))", "lr=range(3,3)"])
def test_what_cannot_be_searched_is_told_by_its_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^lr: expected values that can be searched"):
        distribution(text)


@pytest.mark.parametrize(("goal", "direction"), [("min", "MINIMIZE"), ("max", "MAXIMIZE")])
def test_the_goal_is_the_direction(goal: Any, direction: str) -> None:
    sweeper = OptunaSweeper()
    sweeper.settings = OptunaSweeper.check({})
    assert sweeper._study(Objective("loss", goal)).direction.name == direction


def seeds() -> dict[int, int]:
    """What was tried: the seed of each job by its number."""
    found = {}
    for file in FOLDER.glob("*/status.json"):
        status = json.loads(file.read_text())
        found[status["job"]] = status["parameters"]["seed"]
    return found


def test_a_search_comes_near_to_the_best_and_is_taken_up_again(faulty: Faulty) -> None:
    """The task's value is its seed, and less is better."""
    words = [*SEARCH, "seed=range(0,1000)"]
    code, out, err = faulty.sweep(*words, "hydra.sweeper.n_trials=25")
    assert code == 0, err
    first = seeds()
    assert sorted(first) == list(range(len(first)))
    # Ten trials are random; the best of 25 random ones is above 60 in one search of five.
    assert min(first.values()) < 60
    assert f"seed={min(first.values())}" in out

    code, _, err = faulty.sweep(*words, "hydra.sweeper.n_trials=30")
    assert code == 0, err
    more = seeds()
    assert first.items() < more.items()
    assert len(more) <= 30
    assert set(faulty.noted("begin").values()) == {1}


@pytest.mark.slow
def test_a_search_for_the_most_goes_the_other_way(faulty: Faulty) -> None:
    words = [*SEARCH, "seed=range(0,1000)", "hydra.sweeper.n_trials=25"]
    code, _, err = faulty.sweep(*words, "sweep.objective={metric: value, goal: max}")
    assert code == 0, err
    assert max(seeds().values()) > 940


def test_a_failed_trial_does_not_end_the_search_and_is_tried_again(faulty: Faulty) -> None:
    words = [*SEARCH, "seed=3,4,5", "hydra.sweeper.n_trials=12", "hydra.sweeper.sampler=random"]
    code, out, _ = faulty.sweep(*words, fault="raise@4")
    assert code == 1
    assert sorted(seeds().values()) == [3, 4, 5]  # those that came twice were run once
    assert faulty.noted("begin") == {3: 1, 4: 1, 5: 1}
    assert "2 completed, 1 failed" in out
    number = {seed: job for job, seed in seeds().items()}

    code, out, err = faulty.sweep(*words)
    assert code == 0, err
    assert faulty.noted("begin") == {3: 1, 4: 2, 5: 1}
    assert {seed: job for job, seed in seeds().items()} == number


@pytest.mark.slow
def test_trials_run_at_once_and_one_that_dies_is_one_trial(faulty: Faulty) -> None:
    words = [*SEARCH, "hydra/launcher=joblib", "seed=3,4,5,6", "hydra.sweeper.sampler=random"]
    settings = ["hydra.sweeper.n_trials=16", "hydra.sweeper.n_jobs=2"]
    code, out, _ = faulty.sweep(*words, *settings, fault="SIGKILL@4")
    assert code == 1
    assert faulty.noted("begin") == {3: 1, 4: 1, 5: 1, 6: 1}
    assert "3 completed, 1 killed" in out


@pytest.mark.slow
def test_the_seed_decides_what_is_tried(faulty: Faulty) -> None:
    found = []
    for place, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ["hydra/sweeper=optuna", f"hydra.sweep.dir={place}", "task.x=interval(0,1)"]
        settings = ["hydra.sweeper.n_trials=3", f"hydra.sweeper.seed={seed}"]
        code, _, err = faulty.sweep(*words, *settings)
        assert code == 0, err
        files = sorted(Path(place).glob("*/status.json"))
        found.append([json.loads(f.read_text())["parameters"]["task.x"] for f in files])
    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 3


def test_every_value_of_a_choice_is_checked_before_the_first_trial(faulty: Faulty) -> None:
    code, _, err = faulty.sweep(*SEARCH, "seed=1,-1", "task.x=interval(0,1)")
    assert code == 2
    assert "seed: expected at least 0, got -1" in err
    assert not FOLDER.exists()


@pytest.mark.parametrize("launcher", ["runner", pytest.param("joblib", marks=pytest.mark.slow)])
def test_values_that_are_wrong_together_fail_one_trial(
    launcher: str, cli: Callable[..., Finished]
) -> None:
    """A kernel of 9 needs images larger than 12: conv1 gives 8, pool1 4, and conv2 needs 5."""
    done = cli(
        "-m", *SEARCH, f"hydra/launcher={launcher}", "hydra.sweeper.sampler=random",
        "hydra.sweeper.n_trials=12", "sweep.objective={metric: multiply_adds, goal: min}",
        "task=plan", "stack=lenet", "data=noise", "data.width=28", "data.height=28,12",
        "stack.layers.conv1.kernel=5,9",
    )  # fmt: skip
    assert done.rc == 1, done.stderr
    assert "3 completed, 1 failed" in done.stdout
    assert "stack.layers.conv2.kernel: expected height at most 4" in done.stdout
    assert "best" in next(
        line for line in done.stdout.splitlines() if line.startswith("5       12")
    )


def test_a_search_does_what_hydra_is_told(faulty: Faulty) -> None:
    """Hydra's sweepers hand over what jobs are told, and not what Hydra is."""
    words = [*SEARCH, "seed=3,4,5", "hydra.sweeper.n_trials=9", "hydra.sweeper.sampler=random"]
    hydra = ["hydra.output_subdir=null", "hydra.sweep.subdir=same"]
    code, _, err = faulty.sweep(*words, *hydra)
    assert code == 0, err
    assert sorted(seeds().values()) == [3, 4, 5]
    folders = sorted(file.parent.name for file in FOLDER.glob("*/status.json"))
    assert folders == ["same", "same-1", "same-2"]
    assert not list(FOLDER.rglob(".hydra"))
    code, _, err = faulty.sweep(*words, *hydra)
    assert code == 0, err
    assert faulty.noted("begin") == {3: 1, 4: 1, 5: 1}


def test_a_metric_that_was_mistyped_ends_the_search_at_the_first_trial(faulty: Faulty) -> None:
    words = [*SEARCH, "seed=range(0,1000)", "hydra.sweeper.n_trials=4"]
    told = "expected one of value, got 'valeu', which no job has. Did you mean 'value'?"
    for _ in range(2):  # the second goes on with what the first left
        code, out, err = faulty.sweep(*words, "sweep.objective={metric: valeu, goal: min}")
        assert code == 1
        assert f"sweep.objective.metric: {told}" in err
        assert "no job has the metric 'valeu'; there is value. Did you mean 'value'?" in out
        assert len(faulty.noted("begin")) == 1
    objective = "sweep.objective={metric: value, goal: min}"
    process = faulty.start("-m", f"sweep.resume={FOLDER}", objective)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert set(faulty.noted("begin").values()) == {1}
    assert sorted(seeds()) == [0, 1, 2, 3]  # the first is known, whatever it was to be ranked by


def test_a_search_may_have_more_values_than_a_grid_has_jobs(faulty: Faulty) -> None:
    words = [*SEARCH, "seed=range(0,1000000)", "hydra.sweeper.n_trials=2"]
    code, _, err = faulty.sweep(*words)
    assert code == 0, err
    assert len(seeds()) == 2
    code, _, err = faulty.sweep("seed=range(0,1000000)", "hydra.sweep.dir=grid")
    assert code == 2
    assert "sweep: expected at most 100,000 jobs" in err


def test_the_sweeper_may_be_chosen_by_a_config(faulty: Faulty) -> None:
    (faulty.configs / "search.yaml").write_text(
        "defaults:\n  - config\n  - override /hydra/sweeper: optuna\n  - _self_\n"
    )
    words = ["--config-name", "search", f"hydra.sweep.dir={FOLDER}", "task.x=interval(0,1)"]
    words.append("hydra.sweeper.n_trials=2")
    code, _, err = faulty.sweep(*words)
    assert code == 0, err
    assert sorted(seeds()) == [0, 1]
