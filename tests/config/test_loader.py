"""Composition with a memory gives the config that Hydra composes, whatever the overrides."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra._internal.config_repository import ConfigRepository
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import OverrideParseException
from hydra.types import RunMode
from yardstick import Yardstick, nodes

from runner.config import loader
from runner.config.compose import Composer
from runner.config.copies import Mold
from runner.config.overrides import parse
from runner.config.process import refer_to


@pytest.fixture(scope="module")
def yardstick() -> Iterator[Yardstick]:
    made = Yardstick(quick=True)
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A config folder of one's own, and a further one."""
    files = {
        "mine/stack/bespoke.yaml": "layers: {own: {kind: conv, out_channels: 2}}\n",
        "mine/experiment/own.yaml": "# @package _global_\ndefaults:\n  - override /stack: bespoke\n"
        "  - override /data: digits\n  - _self_\nseed: ${threads}\nthreads: 2\n",
        "mine/main.yaml": "defaults: [config, extra: null, _self_]\nwhere: ${hydra.runtime.cwd}\n",
        "mine/other.yaml": "defaults: [config, _self_]\nseed: 3\n",
        "further/extra/one.yaml": "a: 1\n",
        "further/extra/two.yaml": "# @package extra.inner\na: ${seed}\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


EDGE_CASES = [
    "",
    "seed=1",
    "task=learn_kernel task.optimizer.lr=0.02 seed=3",
    "seed=3 task.optimizer.lr=0.02 task=learn_kernel",  # values before the group
    "seed=1 seed=2 +seed.a=1",
    "stack=lenet stack=nin",  # the last choice counts
    "stack=nin stack=lenet",
    "task=compare stack@task.other.stack=pool ops@task.other.ops=native",
    "+stack@task.second=pool",
    "stack@task.other.stack=pool",  # there is no such choice to override
    "+stack=pool",  # chosen twice
    "++stack=pool",
    "stack=[pool,pair]",
    "stack=1",
    "task={kind:trace}",  # a value, not a choice
    "stack=lenet stack.layers.conv1.stride=2 stack.layers.conv1.padding=[1,1]",
    "~experiment",
    "~stack",
    "~stack=edge_vertical",
    "~stack=lenet",
    "~expect ~seed=0 ~device",
    "~seed=7",
    "~nothing",
    "+seed=1",
    "+expect={loss:{max:1}} expect.loss.max=2",
    "expect={loss:{max:1}}",
    "+note='a b' +more=[1,{a:2},null,'3'] ++note=\"it's\"",
    "note.deep=1 note.deeper.list=[x] note.deep=2",
    "seed=${threads} threads=3",
    "seed=${hydra:job.num} +name=${hydra.job.name} +choice=${hydra:runtime.choices.task}",
    "+a=${hydra.runtime.cwd} ~a",
    "+a=${hydra.job.override_dirname} +a=2",  # missing while values are applied
    "+a=${hydra.runtime} ++a.output_dir=there",  # a value that is put into the hydra node
    "+b=${hydra} ++b.runtime.choices.x=1 ++b.job.num=5",
    "hydra.sweep.dir=out hydra.job.chdir=true hydra.output_subdir=null",
    "+hydra.job.env_set.NAME=value hydra.job.env_copy=[HOME]",
    "hydra.job.env_set={NAME:value}",
    "hydra.job.name=mine hydra.job.config_name=other hydra.job.num=99",
    "hydra.job.config.override_dirname.exclude_keys=[seed] seed=1 dtype=float64",
    "hydra.job.config.override_dirname.kv_sep=: seed=1",
    "hydra.runtime.cwd=elsewhere hydra.runtime.version=0",
    "+hydra.runtime.choices.stack=other +hydra.runtime.choices.more=1",
    "hydra.overrides.task=[before] seed=1",
    "hydra/job_logging=none hydra/hydra_logging=disabled",
    "hydra/launcher=basic hydra/sweeper=basic hydra.mode=MULTIRUN",
    "hydra.nothing=1 seed=2",
    "~hydra.job.env_copy seed=2",
    "~hydra.runtime.cwd",
    "seed=1,2",
    "stack=pool,pair",
    "seed=range(3)",
    "a b",
    "seed=[1",
    "=",
    "stack=lenett seed=1",
    "sede=1 hydra.nothing=1 data=phto",
    "hydra.searchpath=3",
    "hydra.searchpath=[1] seed=1,2",
    "experiment=6_2/learn_kernel task.steps=3",
    "experiment=6_2/learn_kernel experiment=6_5/pool_max",
    "experiment=null",
]


@pytest.mark.parametrize("case", EDGE_CASES)
def test_a_job_has_the_config_that_hydra_composes(yardstick: Yardstick, case: str) -> None:
    overrides = case.split(" ") if "'" not in case and "a b" not in case else shell(case)
    yardstick.check(*overrides)


def shell(case: str) -> list[str]:
    """Words of which some contain spaces."""
    if case == "a b":
        return [case]
    return ["+note='a b'", "+more=[1,{a:2},null,'3']", '++note="it\'s"']


@pytest.mark.slow
@pytest.mark.parametrize("group", ["experiment", "stack", "data", "task", "ops"])
def test_every_choice_is_composed_as_by_hydra(yardstick: Yardstick, group: str) -> None:
    for name in yardstick.composer.options(group):
        yardstick.check(f"{group}={name}", "seed=3", "+note=1")


def test_configs_of_ones_own(folder: Path) -> None:
    further = f"hydra.searchpath=[file://{(folder / 'further').as_posix()}]"
    for name, cases in {
        "config": [
            ["stack=bespoke"],
            ["experiment=own", "threads=4"],
            ["+extra=one"],  # not without the further folder
            [further, "+extra=one"],
            ["+extra=two", further, "seed=4"],
            [further, "seed=1"],
        ],
        "main": [
            ["extra=one"],  # not without the further folder
            [further, "extra=one"],
            [further, "extra=two", "seed=5"],
            ["~where"],
            ["where=1", "+extra.x=2"],
        ],
        "other": [["seed=1"], ["+hydra.run.dir=x"], ["~hydra.run.dir"]],
        "absent": [["seed=1"]],
    }.items():
        yardstick = Yardstick(folder / "mine", name)
        try:
            for overrides in [*cases, *cases]:
                yardstick.check(*overrides)
        finally:
            yardstick.close()


def test_the_environment_and_the_directory_are_those_of_the_moment(
    yardstick: Yardstick, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for value in "one", "two":
        monkeypatch.setenv("OF_THE_MOMENT", value)
        (tmp_path / value).mkdir()
        monkeypatch.chdir(tmp_path / value)
        yardstick.check("hydra.job.env_copy=[OF_THE_MOMENT]", "seed=1")
        config = yardstick.sweep.compose(["hydra.job.env_copy=[OF_THE_MOMENT]"]).config
        assert value == config.hydra.job.env_set.OF_THE_MOMENT
        assert config.hydra.runtime.cwd == str(tmp_path / value)


def test_a_file_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = ConfigRepository.load_config

    def counted(files: ConfigRepository, config_path: str) -> object:
        read.append(config_path)
        return load(files, config_path)

    monkeypatch.setattr(ConfigRepository, "load_config", counted)
    with Composer() as composer:
        for stack in ("lenet", "pool", "lenet"):
            for data in ("bar", "photo"):
                composer.compose([f"stack={stack}", f"data={data}"])
    assert {"config", "stack/lenet", "stack/pool", "data/photo"} < {*read}
    assert len(read) == len({*read})


def test_what_is_remembered_of_choices_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "REMEMBERED", 2)
    with Composer() as composer:
        for name in ("lenet", "pool", "absent", "pair", "lenet"):
            composer.compose([f"stack={name}"])
        assert len(composer.hydra.config_loader._bases) == 2
        config = composer.compose(["stack=lenet"]).config
    assert config.hydra.runtime.choices.stack == "lenet"
    assert "conv1" in config.stack.layers


def test_what_cannot_be_pickled_is_copied_all_the_same() -> None:
    class Local:
        def __init__(self) -> None:
            self.values = [1]

    made = Local()
    mold = Mold(made)
    made.values.append(2)
    first, second = mold.cast(), mold.cast()
    first.values.append(3)
    assert second.values == [1]


def test_another_process_can_go_on_with_what_is_remembered() -> None:
    words = ["task=learn_kernel", "seed=3"]
    with Composer() as composer:
        want = composer.compose(words).config
        composer.compose(["stack=absent"])
        twin = pickle.loads(pickle.dumps(composer.hydra.config_loader))
        got = twin.load_configuration("config", words, RunMode.RUN)
        refer_to(got)
        assert list(nodes(got)) == list(nodes(want))


NUMBERS = "0 5 -5 +5 -0 00 05 1_0 0.5 -0.5 05.5 -0.0 0.50 1. .5 1e3 1.5e3 1.5.1 0x1 999999999999"


@pytest.mark.parametrize("value", NUMBERS.split())
@pytest.mark.parametrize("key", ["seed", "a.b_1.c", "a.1", "1", "a/b", "a@b", "a-b", "+a", "null"])
def test_numbers_are_read_as_by_hydra_s_grammar(key: str, value: str) -> None:
    text = f"{key}={value}"
    try:
        (want,) = OverridesParser.create().parse_overrides([text])
    except OverrideParseException:
        with pytest.raises(OverrideParseException):
            parse(text)
        return
    got = parse(text)
    assert got == want
    # 5 == 5.0, and -0.0 == 0.0
    assert repr(got.value()) == repr(want.value())
