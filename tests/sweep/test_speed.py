"""What a job of a sweep costs besides its work, beside Hydra's own sweeper and launcher."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra

from runner.config.compose import Composer, config_folder
from runner.sweep.sweep import sweep


def by_hydra(words: list[str], jobs: int) -> float:
    """Seconds of processor time a job, with a function that does nothing."""
    basic = ["hydra/sweeper=basic", "hydra/launcher=basic", "hydra.sweep.dir=stock"]
    with Composer():  # puts back what Hydra keeps for the process
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2("stock", create_config_search_path(str(config_folder())))
        began = process_time()
        hydra.multirun("config", lambda _: None, [*words, f"seed=range({jobs})", *basic])
        return (process_time() - began) / jobs


def by_runner(words: list[str], jobs: int) -> float:
    """Seconds of processor time a job that is planned, in its own directory, and summarised."""
    began = process_time()
    assert sweep([*words, f"seed=range({jobs})"]).holds
    return (process_time() - began) / jobs


@pytest.mark.slow
def test_a_job_costs_a_fraction_of_what_it_costs_hydra(workplace: Path) -> None:
    words = ["task=plan", "stack=kernel_1x2", "hydra.job.chdir=false"]
    by_runner(words, 2)
    # Some 15 times on a quiet machine.
    hydra, runner = by_hydra(words, 8), by_runner(words, 60)
    print(f"{1000 * hydra:.1f} ms, {1000 * runner:.1f} ms")
    assert hydra > 4 * runner
