"""What the README shows is done here as it stands there."""

import re
import shlex
import sys
from pathlib import Path

import pytest

import runner
import runner.layers
from runner.config.compose import Composer
from runner.config.globs import without_globs
from runner.launch import plan_only
from runner.sweep.sweep import sweep

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = re.findall(
    r"^(?:\$ )?(python -m runner [^`\n]*)|`(python -m runner [^`\n]*)`", README, re.M
)


@pytest.fixture
def own_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"`(my_configs/[^`]+\.yaml)`[^\n]*\n\n```yaml\n(.*?)```", README, re.S)
    assert {name.split("/")[1] for name, _ in blocks} == {"stack", "task", "experiment"}
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def words_of(command):
    words = shlex.split(command)[3:]
    folder = words[words.index("--config-dir") + 1] if "--config-dir" in words else None
    return [w for w in words if w not in ("--config-dir", folder)], folder


def test_every_command_is_found():
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", sorted({one or other for one, other in COMMANDS}))
def test_command_plans(own_configs, command):
    words, folder = words_of(command)
    if any(word.startswith("--") for word in words):
        return  # --help and its like say things, and plan nothing
    if "paddng" in command:
        with pytest.raises(runner.ConfigError) as caught:
            plan_only(words)
        shown = README[README.index(command) :].split("```")[0].splitlines()[2:]
        assert [f"  {found}" for found in caught.value.problems] == shown
    elif "experiment=glob(**)" in words:
        with Composer() as composer:  # tests/test_configs.py runs each of them
            assert len(without_globs(words, composer.options)[1].split(",")) > 80
    elif "-m" in words:
        assert sweep([word for word in words if word != "-m"], config_dir=folder).records
    else:
        assert plan_only(words, config_dir=folder).output.dims


def test_own_experiment_and_task_run(own_configs):
    assert runner.run("experiment=blur", config_dir="my_configs").holds
    assert runner.run("task=pool_photo", config_dir="my_configs").metrics["output_shape"] == [
        1,
        1,
        213,  # ⌊427 / 2⌋
        320,
    ]


def test_layer_of_one_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = re.search(r'```python\n("""Scale.*?)```', README, re.S)[1]
    (tmp_path / "layers").mkdir()
    (tmp_path / "layers" / "scale.py").write_text(source)
    monkeypatch.setattr(
        runner.layers, "__path__", [*runner.layers.__path__, str(tmp_path / "layers")]
    )
    try:
        result = runner.run(
            "task=forward",
            "stack=empty",
            "+stack.layers.twice={kind: scale, factor: 2.0}",
            "data=tensor",
            "data.values=[[1,2],[3,4]]",
        )
    finally:
        sys.modules.pop("runner.layers.scale", None)
    assert result.metrics["output"] == [[2, 4], [6, 8]]


def test_python_example(tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    source = re.search(r"```python\n(import runner.*?)```", README, re.S)[1]
    x, weight = torch.arange(16.0).reshape(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    scope = {"x": x, "weight": weight}
    exec(source, scope)
    # The centre of 0..15 as 4×4: 0+1+2 + 4+5+6 + 8+9+10 = 45
    assert scope["y"][0, 0, 1, 1] == 45
