"""YAML of somebody else's that wants to run code, or to take all time and memory."""

from __future__ import annotations

import pytest
from attacking import Attack

CALL = "{_target_: os.mkdir, path: MARKER}"
"""What Hydra would instantiate."""

GLOBAL = "# @package _global_\n"
NODE = f"hydra: {{callbacks: {{x: {CALL}}}}}\n"
PLAN = "task=plan"

OF_HYDRA = {
    "a hydra node": {"experiment/evil": GLOBAL + NODE},
    "beside a choice": {
        "experiment/evil": f"{GLOBAL}defaults: [{{override /task: plan}}, _self_]\n{NODE}"
    },
    "in a package of Hydra's": {
        "experiment/evil": f"# @package hydra.callbacks\nx: {CALL}\n",
    },
    "in Hydra's own package": {"experiment/evil": f"# @package hydra\ncallbacks: {{x: {CALL}}}\n"},
    "in a package that looks like another": {
        "experiment/evil": f"# @package _global_.hydra.callbacks\nx: {CALL}\n"
    },
    "in a package that Hydra cuts off": {
        "experiment/evil": f"# @package _global_xhydra.callbacks\nx: {CALL}\n"
    },
    "in a file that is only included": {
        "experiment/evil": f"{GLOBAL}defaults: [/stack/more, _self_]\n",
        "stack/more": GLOBAL + NODE,
    },
    "in a file that is included three times over": {
        "experiment/evil": f"{GLOBAL}defaults: [/stack/more, _self_]\n",
        "stack/more": f"{GLOBAL}defaults: [/data/more]\n",
        "data/more": f"{GLOBAL}defaults: [{{/extra: [one, two]}}]\n",
        "extra/one": f"{GLOBAL}seed: 1\n",
        "extra/two": GLOBAL + NODE,
    },
    "by the package of an included file": {
        "experiment/evil": f"{GLOBAL}defaults: [/stack/more@hydra.callbacks, _self_]\n",
        "stack/more": f"x: {CALL}\n",
    },
    "by the package of a choice": {
        "experiment/evil": f"{GLOBAL}defaults: [{{/stack@hydra.callbacks: more}}, _self_]\n",
        "stack/more": f"x: {CALL}\n",
    },
    "by a package of a choice that Hydra cuts off": {
        "experiment/evil": f"{GLOBAL}defaults: [{{/stack@_global_xhydra.callbacks: more}}]\n",
        "stack/more": f"x: {CALL}\n",
    },
    "by a global package": {
        "experiment/evil": f"{GLOBAL}defaults: [/stack/more@_global_, _self_]\n",
        "stack/more": NODE,
    },
    "a log of one's own": {
        "experiment/evil": f"{GLOBAL}defaults: [{{override /hydra/job_logging: evil}}, _self_]\n",
        "hydra/job_logging/evil": "version: 1\nhandlers: {x: {(): os.mkdir, path: MARKER}}\n",
    },
    "callbacks of one's own": {
        "experiment/evil": f"{GLOBAL}defaults: [/hydra/callbacks/evil, _self_]\n",
        "hydra/callbacks/evil": f"x: {CALL}\n",
    },
    "by a merge key": {"experiment/evil": f"{GLOBAL}<<: {{hydra: {{callbacks: {{x: {CALL}}}}}}}\n"},
    "by an alias": {
        "experiment/evil": f"{GLOBAL}expect: {{a: &a {{callbacks: {{x: {CALL}}}}}}}\nhydra: *a\n"
    },
    "in escapes": {"experiment/evil": GLOBAL + NODE.replace("hydra", '"\\x68ydra"')},
    "as a text": {"experiment/evil": GLOBAL + '"' + NODE.strip().replace('"', '\\"') + '"\n'},
    "with dots": {"experiment/evil": f"{GLOBAL}hydra.callbacks.x: {CALL}\n"},
    "a search path": {
        "experiment/evil": f"{GLOBAL}hydra: {{searchpath: ['file://MARKER']}}\n",
    },
}


@pytest.mark.parametrize("name", OF_HYDRA)
@pytest.mark.parametrize("added", ["--config-dir", "hydra.searchpath"])
def test_a_file_says_nothing_of_hydras_own_config(attack: Attack, name: str, added: str) -> None:
    files = {f"own/{path}.yaml": text for path, text in OF_HYDRA[name].items()}
    words = ["--config-dir", "own"] if added == "--config-dir" else ["hydra.searchpath=[own]"]
    answer = attack(*words, PLAN, "experiment=evil", files=files)
    answer.refused("a mapping" if name == "as a text" else "hydra")


@pytest.mark.parametrize("layer", ["hydra", "hydra_block", "dehydrate"])
def test_a_layer_may_be_called_hydra(attack: Attack, layer: str) -> None:
    files = {
        "own/stack/mine.yaml": f"defaults: [/part/b@layers.{layer}, _self_]\n",
        "own/part/b.yaml": "{kind: activation, function: relu}\n",
    }
    answer = attack("--config-dir", "own", "task=plan", "stack=mine", files=files)
    assert (answer.rc, answer.stderr) == (0, "")


@pytest.mark.parametrize(
    "package",
    [
        "hydra.x",
        "_global_.hydra",
        "a._global_.hydra",
        "a_global_xhydra.x",
        "h_group_.hydra",
        "a:hydra.x",
    ],
)
def test_other_packages_are_refused(attack: Attack, package: str) -> None:
    files = {
        "own/stack/evil.yaml": f"defaults: ['/ydra/more@{package}']\n",
        "own/ydra/more.yaml": NODE,
    }
    attack("--config-dir", "own", PLAN, "stack=evil", files=files).refused("Hydra's own config")


PRIMARY = {
    "a hydra node": {"evil": f"defaults: [config, _self_]\n{NODE}"},
    "alone": {"evil": NODE},
    "a search path": {"evil": "defaults: [config, _self_]\nhydra: {searchpath: [MARKER]}\n"},
    "a launcher of one's own": {
        "evil": "defaults: [config, override hydra/launcher: evil, _self_]\n",
        "hydra/launcher/evil": CALL,
    },
    "a sweeper of one's own": {
        "evil": "defaults: [config, override hydra/sweeper: evil, _self_]\n",
        "hydra/sweeper/evil": CALL,
    },
    "a launcher in a package": {
        "evil": "defaults: [config, stack@hydra.callbacks: more, _self_]\n",
        "stack/more": f"x: {CALL}\n",
    },
    "Hydra's package": {"evil": f"# @package hydra\ncallbacks: {{x: {CALL}}}\n"},
    "nothing but a package": {
        "evil": "defaults: [config, inner@_global_]\n",
        "inner": NODE,
    },
}


@pytest.mark.parametrize("name", PRIMARY)
@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job"], ["--help"], ["--info=config"]])
def test_a_primary_config_says_nothing_of_it_either(
    attack: Attack, name: str, flags: list[str]
) -> None:
    files = {f"own/{path}.yaml": text for path, text in PRIMARY[name].items()}
    words = ["--config-dir", "own", "--config-name", "evil", *flags, PLAN]
    attack(*words, files=files).refused("hydra")


def test_what_is_typed_may_be_anything(attack: Attack) -> None:
    """Nothing is refused to who could as well type ``python -c``: the attacks above are real."""
    answer = attack(PLAN, f"+hydra.callbacks.x={CALL}")
    assert answer.rc == 0
    assert (answer.cwd.parent / "MARKER").is_dir()


@pytest.mark.parametrize(
    "name", ["/../outside", "/../own/../outside", "//CWD/outside", "stack/../../outside"]
)
def test_paths_lead_nowhere_else(attack: Attack, name: str) -> None:
    """Hydra looks beside its own configs first, where files are trusted."""
    cwd = attack("--version").cwd
    # As many steps up as there can be, and down again.
    far = name.replace("/..", "/.." * 40 + str(cwd), 1).replace("CWD", str(cwd))
    for path in (name.replace("CWD", str(cwd)), far):
        files = {
            "own/experiment/evil.yaml": f"{GLOBAL}defaults: ['{path}', _self_]\n",
            "outside.yaml": GLOBAL + NODE,
        }
        attack("--config-dir", "own", PLAN, "experiment=evil", files=files).refused("outside")
        attack("--config-dir", "own", PLAN, f"experiment={path}").refused()
    attack(PLAN, "--config-name", "../outside").refused("outside")
    attack(PLAN, f"--config-name={cwd}/outside").refused("outside")


OTHERS = ("_partial_", "_args_", "_recursive_", "_convert_")
CALLS = ["_target_", *(pytest.param(key, marks=pytest.mark.slow) for key in OTHERS)]

CALLED = {
    "in a stack": {"stack/evil": "layers: {c: {KEY: os.mkdir}}\n"},
    "in a list": {"stack/evil": "layers: {c: {kind: conv, weight: [1, [{KEY: os.mkdir}]]}}\n"},
    "as the only key": {"stack/evil": "KEY: os.mkdir\n"},
    "by an alias": {"stack/evil": "layers: {a: &a {KEY: os.mkdir}, b: {c: [*a]}}\n"},
    "by a merge": {"stack/evil": "layers: {a: {<<: {KEY: os.mkdir}}}\n"},
    "in an included file": {
        "stack/evil": "defaults: [/extra/more@layers.c, _self_]\n",
        "extra/more": "KEY: os.mkdir\n",
    },
    "where another file puts it": {
        "stack/evil": "defaults: [/extra/more@_global_.expect, _self_]\nlayers: {}\n",
        "extra/more": "metric: {KEY: os.mkdir, path: MARKER}\n",
    },
    "through a reference": {
        "stack/evil": "defaults: [/extra/more, _self_]\nlayers: {}\n",
        "extra/more": "# @package _global_\nexpect: {x: {KEY: os.mkdir}, y: '${expect.x}'}\n",
    },
}


@pytest.mark.parametrize("key", CALLS)
@pytest.mark.parametrize("name", CALLED)
def test_calls_are_refused_by_their_name(attack: Attack, name: str, key: str) -> None:
    files = {f"own/{path}.yaml": text.replace("KEY", key) for path, text in CALLED[name].items()}
    attack("--config-dir", "own", PLAN, "stack=evil", files=files).refused(f"'{key}'")


@pytest.mark.parametrize("key", CALLS)
@pytest.mark.parametrize(
    "word",
    [
        "+KEY=os.mkdir",
        "++task.KEY=os.mkdir",
        "stack.layers.conv.KEY=os.mkdir",
        "+stack.layers.c={KEY: os.mkdir, path: MARKER}",
        "expect={metric: {KEY: os.mkdir}}",
        "stack.layers.conv.weight=[1, {KEY: os.mkdir}]",
        "+stack.layers.KEY={kind: flatten}",
    ],
)
def test_and_where_they_are_typed(attack: Attack, word: str, key: str) -> None:
    word = word.replace("KEY", key)
    attack("task=forward", word).refused(f"'{key}'")
    attack("-m", "task=forward", word, "seed=1,2").refused(f"'{key}'")


MERGED = {
    "callbacks": "expect: ${hydra.callbacks}\n",
    "a log": "expect: ${hydra.job_logging.handlers}\n",
    "all": "expect: ${hydra}\n",
}


@pytest.mark.parametrize("name", MERGED)
def test_what_refers_to_hydras_node_is_no_way_in(attack: Attack, name: str) -> None:
    """OmegaConf merges into what a value refers to."""
    inner = f"callbacks: {{x: {CALL}}}" if name == "all" else f"x: {CALL}"
    files = {
        "own/experiment/evil.yaml": f"{GLOBAL}defaults: [/stack/more, _self_]\n"
        f"expect: {{{inner}}}\n",
        "own/stack/more.yaml": GLOBAL + MERGED[name],
    }
    attack("--config-dir", "own", PLAN, "experiment=evil", files=files).refused()
