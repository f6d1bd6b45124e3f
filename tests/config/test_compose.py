"""Composition: what is wrong with an override, said once, by path, with the nearest fix."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir, version
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

import runner
from runner.config.compose import Composer, config_folder
from runner.config.errors import ConfigError
from runner.config.plain import plain
from runner.launch import check


def complaints(*overrides: str, config_dir: Path | None = None) -> list[str]:
    """What is said about overrides that are wrong."""
    with pytest.raises(ConfigError) as caught:
        check(overrides, config_dir=config_dir)
    return [str(problem) for problem in caught.value.problems]


def composed(*overrides: str, config_dir: Path | None = None) -> dict[str, object]:
    """The config of overrides that are right."""
    with Composer(config_dir) as composer:
        found = composer.compose(overrides)
        assert not found.problems
        return plain(found.config)


def folder(tmp_path: Path, **files: str) -> Path:
    """A config folder of one's own: ``stack__mine="layers: {}"`` is ``stack/mine.yaml``."""
    for name, content in files.items():
        path = tmp_path / "mine" / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("override", "path", "meant"),
    [
        ("task=edgee", "task", "edge"),
        ("stack=lenett", "stack", "lenet"),
        ("data=phto", "data", "photo"),
        ("ops=nativ", "ops", "native"),
        ("experiment=6_2/corr2", "experiment", "6_2/corr2d"),
        ("experiment=corr2d", "experiment", "6_2/corr2d"),
        ("sede=1", "sede", "seed"),
        ("+sede=1", "sede", "seed"),
        ("++sede=1", "sede", "seed"),
        ("stak=lenet", "stak", "stack"),
        ("tsk.kind=edge", "tsk", "task"),
        ("stack.layer.conv.stride=2", "stack.layer", "layers"),
        ("stack.layers.conv.strid=2", "stack.layers.conv.strid", "stride"),
        ("+stack.layers.conv.paddng=2", "stack.layers.conv.paddng", "padding"),
        ("stack.layers.conv.kind=convv", "stack.layers.conv.kind", "conv"),
        ("stack.layers.conv.mode=corelation", "stack.layers.conv.mode", "correlation"),
        ("stack.layers.conv.padding=sam", "stack.layers.conv.padding", "same"),
        ("stack.layers.conv.weight=sobelx", "stack.layers.conv.weight", "sobel_x"),
        (
            "stack.layers.conv.weight={kernel: gausian}",
            "stack.layers.conv.weight.kernel",
            "gaussian",
        ),
        (
            "stack.layers.conv.weight={kernel: gaussian, sigm: 1}",
            "stack.layers.conv.weight.sigm",
            "sigma",
        ),
        ("stack.layers.conv.ops=natve", "stack.layers.conv.ops", "native"),
        ("data.hieght=3", "data.hieght", "height"),
        ("data.kind=baar", "data.kind", "bar"),
        ("task.treshold=1", "task.treshold", "threshold"),
        ("task.kind=edeg", "task.kind", "edge"),
        ("ops.conv=nativ", "ops.conv", "native"),
        ("ops.cnov=native", "ops.cnov", "conv"),
        ("device=cdua", "device", "cuda"),
        ("dtype=flot32", "dtype", "float32"),
        ("expect={f1: {mx: 1}}", "expect.f1.mx", "max"),
        ("~stack.layers.cnv", "stack.layers.cnv", "conv"),
        ("hydra.run.dri=x", "hydra.run.dri", "dir"),
        ("hydra/job_logging=defalt", "hydra/job_logging", "default"),
    ],
)
def test_typo_is_answered_with_what_was_meant(override: str, path: str, meant: str) -> None:
    (complaint,) = complaints(override)
    assert complaint.startswith(f"{path}: expected ")
    assert complaint.endswith(f"Did you mean '{meant}'?")


def test_nothing_is_suggested_where_nothing_comes_near() -> None:
    (complaint,) = complaints("stack=xyzzy")
    assert "Did you mean" not in complaint
    assert "lenet" in complaint


def test_many_mistakes_are_one_answer() -> None:
    found = complaints(
        "seed=abc",
        "dtype=float3",
        "stack.layers.conv.padding=sam",
        "data.height=0",
        "tsk=1",
        "+dtype=float64",
        "~threds",
        "x=[",
        "ops=nativ",
        "memory_limit_gib=1,2",
        "hydra.run.dri=x",
    )
    paths = [complaint.partition(": expected ")[0] for complaint in found]
    assert sorted(paths) == sorted(
        [
            "seed",
            "dtype",  # wrong twice, once said
            "stack.layers.conv.padding",
            "data.height",
            "tsk",
            "threds",
            "x",
            "ops",
            "memory_limit_gib",
            "hydra.run.dri",
        ]
    )


def test_two_missing_groups_are_both_named() -> None:
    found = complaints("stack=nope", "stack.layers.conv.kernel=3", "data=nope", "seed=x")
    # Overrides of the missing stack can't be judged, and aren't.
    assert [c.partition(":")[0] for c in found] == ["data", "stack", "seed"]


def test_keys_that_only_the_spec_knows_need_no_plus() -> None:
    config = composed("stack.layers.conv.stride=2", "data.transpose=true")
    assert config["stack"] == {
        "layers": {"conv": {"kind": "conv", "weight": "edge_vertical", "stride": 2}}
    }
    # (6 − 1)//2 + 1 = 3 rows, (8 − 2)//2 + 1 = 4 columns
    assert runner.plan("task=edge", "stack.layers.conv.stride=2").output.dims == (1, 3, 4)


TASKS = (
    "benchmark, benchmark_stack, classify, compare, diagnose, doctor, edge, equivariance, forward, "
    "learn_kernel, locality, match, plan, receptive_field, trace, verify"
)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("+seed=1", "seed: expected a new key after +, got one that is there. Change it: seed=…."),
        ("+stack=lenet", "stack: expected a new key after +, got one that is there. Change it"),
        ("task.x='\udcff'", "task.x: expected text in UTF-8, got other bytes."),
        (
            "+experiment=6_2/corr2d",
            "experiment: expected a new key after +, got one that is there.",
        ),
        ("~nothing", "nothing: expected one of "),
        ("~threads", "threads: expected a key that has a value, got one that is null already."),
        ("~stack.layers.nope", "stack.layers.nope: expected one of conv, got 'nope'."),
        ("~no.such.key", "no.such.key: expected a key that is there, got 'key'."),
        ("~stack.layers.conv=3", "~stack.layers.conv removes it, whatever it is."),
        ("~stack=lenet", "stack: expected a value that can be composed, got 'lenet'."),
        (
            "seed=1,2",
            "seed: expected one value, got '1,2'. To sweep over the values add --multirun",
        ),
        ("seed=range(1,3)", "seed: expected one value, got 'range(1,3)'. To sweep"),
        ("seed=choice(1,2)", "seed: expected one value, got 'choice(1,2)'. To sweep"),
        ("stack=lenet,pair", "stack: expected one value, got 'lenet,pair'. To sweep"),
        (
            "stack.layers.conv.kernel=3,5",
            "stack.layers.conv.kernel: expected one value, got '3,5'.",
        ),
        ("task=", f"task: expected one of {TASKS}, got nothing."),
        ("task=null", f"task: expected one of {TASKS}, got 'null'."),
        ("stack=3", "stack: expected one of "),
        ("seed", "seed: expected key=value, got 'seed'."),
        ("=3", "=3: expected key=value, got '=3'."),
        ("seed=[", "seed: expected a value that can be read, got '['. Quote what has"),
        ("seed='a", "seed: expected a value that can be read, got ''a'. Quote what has"),
        ("se ed=1", "se ed=1: expected key=value, got 'se ed=1'."),
        ("data.values={a", "data.values: expected a value that can be read, got '{a'. Quote"),
        ("data=mnist", "data.folder: expected a value, got nothing (???). Give it: data.folder=…."),
        ("seed=???", "seed: expected a value, got nothing (???). Give it: seed=…."),
        ("seed=${nope}", "seed: expected an interpolation that leads somewhere, got"),
        ("seed=${seed}", "seed: expected an interpolation that leads somewhere, got Recursive"),
        (
            "seed=${oc.env:NO_SUCH_VARIABLE}",
            "seed: expected data: YAML here can't read the environment, got "
            "'${oc.env:NO_SUCH_VARIABLE}'. A shell fills it in: in double quotes, key=$NAME.",
        ),
        ("data.height=${no_such_resolver:1}", "data.height: expected an interpolation that leads"),
        ("seed=${data.}", "seed: expected a value that can be composed, got '${data.}'."),
        ("stack.layers=[]", "stack.layers: expected a value that can be composed, got '[]'."),
        ("stack.layers=null", "stack.layers: expected a mapping from names to specs, got nothing"),
        ("~data", "data: expected "),
        ("threads=0", "threads: expected at least 1, got 0."),
        ("seed=1.5", "seed: expected an integer, got 1.5."),
        ("seed='1'", "seed: expected an integer, got '1' (text)."),
        (
            "stack.layers.größe.kernel=5",
            "a key of English letters, digits and _, got 'stack.layers.g",
        ),
        (
            "hydra.job.env_set={A: x}",
            "got others. Give new ones by themselves: +hydra.job.env_set.NA",
        ),
        ("tensorboard=1", "tensorboard: expected true or false, got 1."),
    ],
)
def test_misuse_is_explained(override: str, says: str) -> None:
    (complaint,) = complaints(override)
    assert says in complaint


def test_the_others_are_still_judged_after_one_that_cannot_be_used() -> None:
    for broken in ("=3", "seed=[", "seed=range(1,3)", "task=null", "~a.b", "seed=${data.}"):
        first, second = complaints(broken, "dtype=nope")
        assert first.partition(":")[0] in (broken, "seed", "task", "a.b")
        assert second.startswith("dtype: ")


@pytest.mark.parametrize("key", ["_target_", "_partial_", "_args_", "_recursive_", "_convert_"])
def test_calls_are_refused_wherever_they_stand(key: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    value = "os.mkdir" if key == "_target_" else "true"
    for path in (key, f"data.{key}", f"stack.layers.conv.{key}", f"task.deep.er.{key}"):
        (complaint,) = complaints(f"+{path}={value}")
        assert complaint == f"{path}: expected data: YAML here can't call Python, got '{key}'."
    (complaint,) = complaints(f"data.values=[1, {{{key}: {value}}}]", f"+data.path={marker}")
    assert complaint.startswith(f"data.values[1].{key}: ")
    assert not marker.exists()


def test_calls_in_a_file_of_ones_own_are_refused(tmp_path: Path) -> None:
    mine = folder(tmp_path, stack__mine="layers: {c: {_target_: os.getcwd}}\n")
    (complaint,) = complaints("stack=mine", config_dir=mine)
    assert complaint.startswith("stack.layers.c._target_: expected data")


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        ("layers:\n  conv: {kind: conv,\n  other: [1\n", 4, 1),
        ("layers:\n\tconv: 1\n", 2, 1),
        ("layers: {}\nlayers: {}\n", 2, 1),
    ],
)
def test_broken_yaml_is_located(content: str, line: int, column: int, tmp_path: Path) -> None:
    mine = folder(tmp_path, stack__mine=content)
    (complaint,) = complaints("stack=mine", config_dir=mine)
    assert complaint.startswith(
        f"{mine}/stack/mine.yaml:{line}:{column}: expected valid YAML, got an error: "
    )
    # What else is wrong is said too, but what was meant for this file can't be judged.
    words = ("stack=mine", "stack.layers.x.kernel=0", "x=[", "dtype=nope")
    found = [c.partition(": ")[0] for c in complaints(*words, config_dir=mine)]
    assert found == ["x", f"{mine}/stack/mine.yaml:{line}:{column}", "dtype"]


def test_file_that_is_no_text_is_blamed_on_who_asked_for_it(tmp_path: Path) -> None:
    mine = folder(tmp_path, stack__mine="")
    (mine / "stack" / "mine.yaml").write_bytes(b"layers: \xff\xfe")
    (complaint,) = complaints("stack=mine", config_dir=mine)
    assert complaint.startswith("stack: expected a value that can be composed, got 'mine'.")


def test_defaults_of_a_file_in_a_folder(tmp_path: Path) -> None:
    mine = folder(
        tmp_path, stack__nets__n="defaults: [base, _self_]\n", stack__nets__base="layers: {}\n"
    )
    (complaint,) = complaints("stack=nets/n", config_dir=mine)
    assert complaint.endswith("A file's defaults ask for it: there, write nets/base@_here_.")
    (mine / "stack/nets/n.yaml").write_text("defaults: [nets/base@_here_, _self_]\n")
    assert composed("stack=nets/n", config_dir=mine)["stack"] == {"layers": {}}


def test_config_dir_must_be_a_folder(tmp_path: Path) -> None:
    for wrong in (tmp_path / "absent", folder(tmp_path, config="") / "config.yaml"):
        (complaint,) = complaints(config_dir=wrong)
        assert complaint == f"--config-dir: expected a folder, got '{wrong}', which is not one."


def test_config_name_that_is_absent_is_named() -> None:
    with pytest.raises(ConfigError, match="--config-name: expected a config in the config folders"):
        check([], config_name="nope")


def test_config_of_ones_own_appears_among_the_options(tmp_path: Path) -> None:
    mine = folder(tmp_path, stack__mystack="layers: {}\n")
    assert composed("stack=mystack", config_dir=mine)["stack"] == {"layers": {}}
    (complaint,) = complaints("stack=mistack", config_dir=mine)
    assert "Did you mean 'mystack'?" in complaint


TASK = """# @package _global_
defaults:
  - override /stack: pair
  - override /data: checkerboard
  - _self_
seed: 1
task: {kind: edge, threshold: 0.1}
"""
EXPERIMENT = """# @package _global_
defaults:
  - override /task: mine
  - override /stack: sobel
  - _self_
seed: 2
task: {threshold: 0.2}
"""


def test_command_line_beats_experiment_beats_task(tmp_path: Path) -> None:
    mine = folder(tmp_path, task__mine=TASK, experiment__mine=EXPERIMENT)

    def chosen(*overrides: str) -> tuple[object, ...]:
        config = composed(*overrides, config_dir=mine)
        task, stack, data = config["task"], config["stack"], config["data"]
        assert isinstance(task, dict)
        assert isinstance(stack, dict)
        assert isinstance(data, dict)
        return list(stack["layers"]), data["kind"], config["seed"], task["threshold"]

    assert chosen("task=mine") == (["conv1", "conv2"], "checkerboard", 1, 0.1)
    assert chosen("task=mine", "stack=lenet", "seed=9")[0][0] == "conv1"  # type: ignore[index]
    assert chosen("experiment=mine") == (["sobel"], "checkerboard", 2, 0.2)
    assert chosen("experiment=mine", "stack=edge_vertical", "data=bar", "seed=3") == (
        ["conv"],
        "bar",
        3,
        0.2,
    )
    assert chosen("experiment=mine", "task.threshold=0.9")[3] == 0.9
    # The order of the words makes no difference.
    assert chosen("seed=3", "stack=edge_vertical", "experiment=mine")[::2] == (["conv"], 3)


def test_jobs_of_a_sweep() -> None:
    words = ["seed=3,4", "stack=lenet,pair", "data.height=range(5,7)", "dtype=float32", "~expect"]
    with Composer() as composer:
        jobs = composer.jobs_of_sweep(words)
        assert len(jobs) == 2 * 2 * 2
        # The last varies fastest, as in Hydra's basic sweeper.
        assert jobs[0] == ["seed=3", "stack=lenet", "data.height=5", "dtype=float32", "~expect"]
        assert jobs[1] == ["seed=3", "stack=lenet", "data.height=6", "dtype=float32", "~expect"]
        assert jobs[-1] == ["seed=4", "stack=pair", "data.height=6", "dtype=float32", "~expect"]
        assert composer.jobs_of_sweep(["data.values=[[1,2],[3,4]]"]) == [
            ["data.values=[[1,2],[3,4]]"]
        ]
        assert composer.jobs_of_sweep(["stack=glob(kernel_*)"]) == [
            ["stack=kernel_1x2"],
            ["stack=kernel_3x3"],
        ]
        with pytest.raises(ConfigError, match=r"seed: expected a value that can be read, got '\['"):
            composer.jobs_of_sweep(["seed=["])
        with pytest.raises(ConfigError, match=r"seed: expected at least one value, got 'range\(3"):
            composer.jobs_of_sweep(["seed=range(3,3)"])


@pytest.mark.parametrize(
    ("word", "ends"),
    [
        ("seed=range(0,1000000000000)", ["0", "999999999999"]),
        ("seed=range(7,1,-3)", ["7", "4"]),
        ("seed=range(3,4)", ["3"]),
        ("seed=range(0,1,9.5367431640625e-07)", ["0.0", "0.9999990463256836"]),  # 2^-20
        ("seed=range(0.5,2,0.5)", ["0.5", "1.5"]),
        ("seed=shuffle(range(0,9))", ["0", "8"]),
        ("seed=interval(1,9)", ["1.0", "9.0"]),
    ],
)
def test_what_stands_for_all_values_of_a_search(word: str, ends: list[str]) -> None:
    """Ends of ranges, which are never listed; each with the first value of the others."""
    with Composer() as composer:
        jobs = composer.jobs_of_sweep(["stack=a,b", word], grid=False)
    assert jobs == [
        ["stack=a", f"seed={ends[0]}"],
        ["stack=b", f"seed={ends[0]}"],
        *(["stack=a", f"seed={end}"] for end in ends[1:]),
    ]


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("seed=range(0,3,0)", "seed: expected a step other than 0"),
        ("seed=range(3,3)", "seed: expected at least one value"),
        ("seed=range(0.5,0.5)", "seed: expected at least one value"),
        ("seed=range(0,inf)", "seed: expected a range of finite numbers"),
    ],
)
def test_a_range_without_values_is_no_search(word: str, says: str) -> None:
    with Composer() as composer, pytest.raises(ConfigError, match=says):
        composer.jobs_of_sweep([word], grid=False)


def test_values_are_in_one_list() -> None:
    with Composer() as composer, pytest.raises(ConfigError) as caught:
        composer.jobs_of_sweep(["seed=0,1", "task=plan", "seed=range(2,4)"])
    says = "seed: expected one list of values, got '0,1' and 'range(2,4)'. Write all of them into"
    assert str(caught.value.problems[0]).startswith(says)


@pytest.mark.parametrize(
    "word",
    [
        "seed=1,range(0,3)",
        "seed=choice(choice(1,2),3)",
        "task=glob(p*),edge",
        "+a={b:[range(2)]},3",
    ],
)
def test_what_stands_for_several_stands_alone(word: str) -> None:
    says = "expected values, or one range, choice or glob, got one among others: "
    with Composer() as composer, pytest.raises(ConfigError, match=says):
        composer.jobs_of_sweep([word])


def test_globs_reach_into_nested_folders(tmp_path: Path) -> None:
    empty = "# @package _global_\n"
    names = ["own/deep/a", "own/b", "own/b2", "top", "own/1e5", "own/it's, two", "own/null"]
    mine = folder(tmp_path, **{f"experiment__{n.replace('/', '__')}": empty for n in names})
    with Composer(mine) as composer:

        def chosen(glob: str) -> list[str]:
            jobs = composer.jobs_of_sweep([f"experiment={glob}"])
            found = [composer.compose(words) for words in jobs]
            assert not [one.problems for one in found if one.problems]
            return [one.config.hydra.runtime.choices.experiment for one in found]

        def listed(glob: str) -> list[str]:
            """As `chosen`, without composing."""
            jobs = composer.jobs_of_sweep([f"experiment={glob}"])
            return [word.removeprefix("experiment=") for (word,) in jobs]

        # A star stands for any characters, slashes too; what is quoted is still a name.
        assert chosen("glob(own/*)") == sorted(name for name in names if name != "top")
        assert chosen("glob(own/b?)") == ["own/b2"]
        assert chosen("glob([top,*/b])") == ["own/b", "top"]
        assert chosen("glob(own/*,exclude=[*deep*,own/b*,own/1*,*it*])") == ["own/null"]
        everything = listed("glob(**)")
        assert listed("glob(*)") == everything
        assert {"6_2/corr2d", "own/deep/a", "top"} <= set(everything)
        assert len(everything) == len(composer.options("experiment"))
        assert "null" not in everything
        assert listed("glob(**,exclude=[0*,1*,2*,3*,4*,5*,6*,7*,ops/*,own/*])") == ["top"]
        two = composer.jobs_of_sweep(["experiment=glob(own/b*)", "seed=1,2"])
        assert two == [[f"experiment=own/{n}", f"seed={s}"] for n in ("b", "b2") for s in (1, 2)]
        assert composer.jobs_of_sweep(["+experiment=glob(t*)"]) == [["+experiment=top"]]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stack=glob(lenet?)", "stack: expected a glob that matches one of "),
        ("stack=glob(lenet?)", ", got 'glob(lenet?)'. Did you mean 'lenet'?"),
        ("experiment=glob(62/*)", ", got 'glob(62/*)'. Did you mean '6_2/*'?"),
        ("experiment=glob(6_2/cor2d)", "Did you mean '6_2/corr2d'?"),
        ("stack=glob(pair,exclude=p*)", "got 'glob(pair,exclude=p*)'. exclude= leaves nothing."),
        ("stack=glob(7)", "got 'glob(7)'."),
        ("seed=glob(*)", "seed: expected a config group, whose names a glob can match, got"),
        ("stack=glob(", "stack: expected a value that can be read, got 'glob('."),
    ],
)
def test_glob_that_matches_nothing_is_explained(override: str, says: str) -> None:
    with Composer() as composer, pytest.raises(ConfigError) as caught:
        composer.jobs_of_sweep([override])
    (found,) = caught.value.problems
    assert says in str(found)


def test_composing_leaves_hydra_as_it_was() -> None:
    before = GlobalHydra.instance().hydra, HydraConfig.instance().cfg, version.getbase()
    check(["task=plan"])
    with pytest.raises(ConfigError):
        check(["task=nope"])
    assert (
        GlobalHydra.instance().hydra,
        HydraConfig.instance().cfg,
        version.getbase(),
    ) == before


def test_run_inside_somebody_elses_hydra_program(tmp_path: Path, workplace: Path) -> None:
    """A notebook or program that uses Hydra itself isn't disturbed, nor is its logging."""
    own = folder(tmp_path, config="a: 1\nb: ${hydra:job.name}\n")
    handler = logging.StreamHandler()
    root = logging.getLogger()
    root.addHandler(handler)
    before = root.handlers[:], root.level
    try:
        with initialize_config_dir(str(own), job_name="host", version_base="1.2"):
            base = version.getbase()
            runner.run("task=edge")
            with pytest.raises(ConfigError):
                runner.run("task=nope")
            assert version.getbase() == base
            config = compose("config", overrides=["a=2"], return_hydra_config=True)
            assert config.a == 2
            assert config.hydra.job.name == "host"
        assert (root.handlers, root.level) == before
    finally:
        root.removeHandler(handler)
    assert Path.cwd() == workplace


def test_configs_lie_in_the_checkout() -> None:
    assert (config_folder() / "config.yaml").is_file()
    assert config_folder().name == "configs"


def test_plain_resolves_and_leaves_hydra_out() -> None:
    config = OmegaConf.create({"a": 1, "b": "${a}", "hydra": {"_target_": "x"}})
    assert plain(config) == {"a": 1, "b": 1}


def test_a_name_that_ships_is_taken(tmp_path: Path) -> None:
    """The project's own configs come first: a file of that name would never be read."""
    mine = folder(tmp_path, stack__pair="layers: {}\n", config="seed: 3\n")
    says = "expected a name of its own, got 'pair', the name of a config that ships."
    assert complaints("stack=lenet", config_dir=mine) == [
        f"{mine}/config.yaml: {says.replace('pair', 'config')} Call it my_config.yaml."
    ]
    (mine / "config.yaml").unlink()
    assert complaints("stack=pair", config_dir=mine) == [
        f"{mine}/stack/pair.yaml: {says} Call it my_pair.yaml."
    ]
    assert composed("stack=edge_vertical", config_dir=mine)["seed"] == 0  # nobody asked for pair


LONG, DEEP = "9" * 1_001, "[" * 51 + "]" * 51


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("", "override: expected key=value, got ''."),
        (" ", "override: expected key=value, got ' '."),
        ("+=", "+=: expected key=value, got '+='."),
        ("~", "~: expected key=value, got '~'."),
        ("experiment=[[6_2/corr2d]]", "experiment: expected one of "),
        ("task=[1,2]", "task: expected one of "),
        (f"experiment={'x' * 300}", "experiment: expected one of "),
        ("hydra/launcher=[[x]]", "hydra/launcher: expected one of "),
        (f"seed={LONG}", "seed: expected numbers of at most 1,000 digits, got a longer one."),
        (f"{'k.' * 200}=1", "k.k.k.k."),
        (f"++seed={DEEP}", "seed: expected at most 50 levels, got more. Write it into a YAML"),
        (f"data.path={'x' * 10_000}", "data.path: expected at most 10,000 characters, got 10,010."),
        ("hydra.job.env_copy=[NO_SUCH]", "hydra.job.env_copy: expected variables of the env"),
        ("hydra.searchpath=[pkg://nope]", "hydra.searchpath: expected folders that are there"),
        ("seed=\udcff", "seed: expected text in UTF-8, got other bytes."),
    ],
)
def test_what_hydra_stumbles_over_is_explained(override: str, says: str) -> None:
    (complaint,) = complaints(override)
    assert complaint.startswith(says)


def test_an_entry_of_a_list_is_no_key() -> None:
    (complaint,) = complaints("data=tensor", "data.values=[[1]]", "data.values.first=1")
    assert complaint.startswith("data.values.first: expected a value that can be composed")


@pytest.mark.parametrize("value", ["!!bool x", "!!int x", "!!float x"])
def test_values_that_are_not_what_their_tag_says(value: str, tmp_path: Path) -> None:
    mine = folder(tmp_path, stack__mine=f"layers: {value}\n")
    (complaint,) = complaints("stack=mine", config_dir=mine)
    assert complaint.startswith(f"{mine}/stack/mine.yaml: expected values that are what their tags")


def test_half_characters_are_refused(tmp_path: Path) -> None:
    mine = folder(tmp_path, stack__mine='layers: {}\nlegend: "\\ud800"\n')
    (complaint,) = complaints("stack=mine", config_dir=mine)
    path = f"{mine}/stack/mine.yaml"
    assert complaint == f"{path}: expected whole characters, got half of one in line 2."
