"""The jobs of a sweep have the configs that Hydra composes for them, in copies of their own."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hydra._internal.defaults_list import create_defaults_list
from omegaconf import DictConfig, ListConfig, OmegaConf
from yardstick import Yardstick, nodes

from runner.config import loader
from runner.config.compose import Composer
from runner.config.errors import ConfigError
from runner.config.plain import plain
from runner.sweep.composition import SweepComposer


@pytest.fixture(scope="module")
def yardstick() -> Iterator[Yardstick]:
    made = Yardstick(quick=True)
    yield made
    made.close()


CHOICES = """
    task=learn_kernel task=edge task=compare task=classify stack=lenet stack=kernel_1x2 data=bar
    data=digits ops=loops ops=auto experiment=6_2/learn_kernel experiment=6_3/same ~experiment
    +stack@task.second=pool ops@task.other.ops=native hydra/job_logging=none
"""
VALUES = """
    seed=1 seed=2 seed=-0.5e3 seed=${threads} seed=${hydra:job.num} seed='1' threads=null
    dtype=float64 device=cpu memory_limit_gib=1e-3 tensorboard=off expect.loss={max:1}
    +expect={a:[1,2]} task.optimizer.lr=0.02 task.steps=5 task.kind=edge
    stack.layers.conv.stride=2 stack.layers.conv.weight=[[1,-1],[0.5,1e9]] stack.layers={}
    +note=x ++note={a:{b:c}} ++note.a=[] +at=${now:%Y} +own=${oc.env:HOME} note=${.missing}
    ~expect ~tensorboard ~task.kind ~dtype=float32
"""
OF_HYDRA = """
    hydra.sweep.dir=out/${hydra:job.num} hydra.sweep.subdir=${seed} hydra.job.chdir=false
    +hydra.job.env_set.NAME=value hydra.job.env_copy=[PATH] hydra.job.name=mine hydra.verbose=x
    hydra.job.config.override_dirname.item_sep=_ hydra.runtime.cwd=x hydra.run.dir=${now:%H}
    +hydra.runtime.choices.more=1 hydra.output_subdir=null hydra.searchpath=[]
"""
WRONG = """
    stack=lenett sede=1 +seed=1 seed=1,2 ~nothing hydra.nothing=1 seed=[ +stack=pool ~seed=5
"""


def sweep(seed: int, jobs: int) -> Iterator[list[str]]:
    """Jobs of a random sweep over random overrides: some the same for all, some varied."""
    rng = random.Random(seed)
    fixed = rng.sample(OF_HYDRA.split(), rng.randint(0, 3))
    choices = rng.sample(CHOICES.split(), rng.randint(0, 2))
    values = rng.sample(VALUES.split(), 12)
    for _ in range(jobs):
        words = choices + rng.sample(values, rng.randint(0, 5))
        if rng.random() < 0.1:
            words = [*words, rng.choice(WRONG.split())]
        if rng.random() < 0.2:
            words = [*words, rng.choice(CHOICES.split())]
        rng.shuffle(words)
        yield fixed + words


def test_jobs_of_random_sweeps_have_the_configs_that_hydra_composes(yardstick: Yardstick) -> None:
    for seed in range(12):
        for overrides in sweep(seed, 10):
            yardstick.check(*overrides)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_jobs_of_many_random_sweeps(yardstick: Yardstick, seed: int) -> None:
    for overrides in sweep(seed, 20):
        yardstick.check(*overrides)


def test_what_was_mended_is_mended_beforehand_where_it_must_be(yardstick: Yardstick) -> None:
    stride = "stack.layers.conv.stride"
    for words in (
        [f"{stride}=1", "seed=1"],
        [f"{stride}=2", "seed=2"],
        ["seed=1", f"{stride}=2"],
        ["stack.layers.conv={stride:3}", f"{stride}=2"],  # it is there now
        ["stack.layers.conv={kind:conv}", f"{stride}=2"],
        [f"++{stride}=1", f"{stride}=2"],
        [f"{stride}=1", f"{stride}=2"],
        ["stack=lenet", "stack.layers.conv1.stride=1", "hydra.job.num=1"],
        ["stack=lenet", "stack.layers.conv1.stride=1", "hydra.job.num=1.5"],  # not an integer
        [f"{stride}=2", "sede=1"],
    ):
        yardstick.check(*words)


def test_what_was_mended_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = []
    load = Composer._load
    monkeypatch.setattr(Composer, "_load", lambda c, words: loaded.append(words) or load(c, words))
    with Composer() as composer:
        sweep = SweepComposer(composer)
        for stride in range(1, 6):
            composed = sweep.compose([f"stack.layers.conv.stride={stride}", f"seed={stride}"])
            assert composed.mended == [f"++stack.layers.conv.stride={stride}"]
            assert composed.config.stack.layers.conv.stride == stride
    assert len(loaded) == 2 + 4  # the first is tried as it is


def test_without_a_number_a_job_is_what_composition_gives(yardstick: Yardstick) -> None:
    words = ["task=learn_kernel", "seed=3", "stack.layers.conv.stride=2"]
    got, want = yardstick.sweep.compose(words), yardstick.reference.compose(words)
    assert list(nodes(got.config)) == list(nodes(want.config))
    assert got.overrides == want.overrides
    assert OmegaConf.is_missing(got.config.hydra.job, "num")


def test_a_changed_config_changes_no_other() -> None:
    words = ["task=learn_kernel", "+list=[1]", "expect.loss={max:1}", "seed=1"]

    def change(node: Any) -> None:
        OmegaConf.set_struct(node, False)
        OmegaConf.set_readonly(node, False)
        if isinstance(node, DictConfig) and isinstance(node._value(), dict):
            for key in list(node):
                child = node._get_node(key)
                if isinstance(child, DictConfig | ListConfig):
                    change(child)
                elif not node._is_typed():
                    node[key] = "changed"
        elif isinstance(node, ListConfig) and isinstance(node._value(), list):
            node.clear()

    with Composer() as composer:
        sweep = SweepComposer(composer)
        earlier = sweep.compose(words, number=0).config
        before = list(nodes(earlier))
        changed = sweep.compose(words, number=0).config
        change(changed)
        assert list(nodes(changed)) != before
        assert list(nodes(earlier)) == before
        assert list(nodes(sweep.compose(words, number=0).config)) == before


def test_now_is_the_same_moment_in_all_jobs() -> None:
    with Composer() as composer:
        sweep = SweepComposer(composer)
        first, second, third = (sweep.compose(["+at=${now:%f}"], number=n).config for n in range(3))
        moments = set()
        for config in (second, first, third):  # whichever is looked at first
            moments.add(plain(config)["at"])
            moments.add(config.at)
            time.sleep(0.001)
        assert len(moments) == 1
        assert plain(SweepComposer(composer).compose(["+at=${now:%f}"]).config)["at"] not in moments


def test_interpolations_into_hydra_refer_to_the_last_job_composed() -> None:
    with Composer() as composer:
        sweep = SweepComposer(composer)
        for number in range(3):
            config = sweep.compose(["seed=${hydra:job.num}"], number=number).config
            assert plain(config)["seed"] == number


def test_memory_does_not_grow_with_jobs() -> None:
    def objects() -> int:
        gc.collect()
        return len(gc.get_objects())

    with Composer() as composer:
        sweep = SweepComposer(composer)

        def compose(first: int, last: int) -> None:
            for seed in range(first, last):
                sweep.compose(["task=learn_kernel", f"seed={seed % 50}"], number=seed)

        compose(0, 60)
        before = objects()
        compose(60, 160)
        # One config is some 2,000 objects.
        assert objects() < before + 500


def test_the_same_mistake_in_many_jobs_is_composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    composed = 0

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal composed
        composed += 1
        return create_defaults_list(*args, **more)

    monkeypatch.setattr(loader, "create_defaults_list", counted)
    with Composer() as composer:
        sweep = SweepComposer(composer)
        for mistake in ("hydra.nothing=1", "stack=lenett", "seed=[", "+seed=1"):
            composed, told = 0, set()
            for seed in range(40):
                try:
                    told.add(tuple(sweep.compose([mistake, f"threads={seed}"]).problems))
                except ConfigError as error:
                    told.add(error.problems)
            assert len(told) == 1
            assert told != {()}
            # Finding which files to merge, and merging them, takes Hydra some 60 ms for each.
            assert composed <= 2


def test_a_draft_shares_what_its_overrides_leave_alone() -> None:
    with Composer() as composer:
        sweep = SweepComposer(composer)
        words = ["task=learn_kernel", "task.optimizer.lr=0.5"]
        first, second = (
            sweep.compose([*words, f"seed={n}"], number=n, draft=True) for n in range(2)
        )
        assert first.draft is not None
        assert first.config._get_node("stack") is second.config._get_node("stack")
        assert first.config._get_node("task") is not second.config._get_node("task")
        assert [one.config.seed for one in (first, second)] == [0, 1]
        more = ["hydra.mode=MULTIRUN"]
        configs = [sweep.finish(one, more, n) for n, one in enumerate((first, second))]
        assert [str(one.hydra.job.num) for one in configs] == ["0", "1"]
        assert configs[0].hydra.overrides.task == [*words, "seed=0"]
        assert configs[1].hydra.overrides.hydra == more


@pytest.mark.parametrize(
    "word", ["++note=${hydra:job.num}", "hydra.runtime.cwd=x", "+hydra.runtime.choices.more=1"]
)
def test_what_depends_on_the_whole_config_is_no_draft(word: str) -> None:
    with Composer() as composer:
        assert SweepComposer(composer).compose([word], draft=True).draft is None
