"""The environment may hold secrets: no value of it is shown or written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from attacking import SECRET, Answer, Attack

WRITTEN = {
    "plain": "${oc.env:SECRET}",
    "in a text": "x-${oc.env:SECRET}-y",
    "decoded": "${oc.decode:${oc.env:SECRET}}",
    "created": "${oc.create:${oc.env:SECRET}}",
    "as a default": "${oc.select:nowhere,${oc.env:SECRET}}",
    "by a default": "${oc.env:NOT_THERE,${oc.env:SECRET}}",
    "with a default": "${oc.env:SECRET,x}",
    "named in parts": "${oc.${.part}:SECRET}",
    "from Hydra's copy": "${hydra:job.env_set.SECRET}",
    "from all of Hydra's copies": "${hydra:job.env_set}",
    "from all of Hydra's job": "${hydra:job}",
    "from Hydra's node": "${hydra.job.env_set.SECRET}",
}


def leaks(answer: Answer) -> list[str]:
    """Where the secret is."""
    files = [path for path in answer.cwd.parent.rglob("*") if path.is_file()]
    found = [str(path) for path in files if SECRET.encode() in path.read_bytes()]
    found += [str(path) for path in answer.cwd.parent.rglob("*") if SECRET in path.name]
    return found + ["terminal"] * (SECRET in answer.stdout + answer.stderr)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("place", ["data.path", "seed", "expect.metric.value"])
def test_no_config_reads_it(attack: Attack, name: str, place: str) -> None:
    keys = place.split(".")
    text = "# @package _global_\n"
    if keys[0] == "data":
        text += "defaults: [{override /data: image}, _self_]\n"
    text += "".join(f"{'  ' * i}{key}:\n" for i, key in enumerate(keys))[:-1]
    text += f' "{WRITTEN[name]}"\n'
    if "part" in WRITTEN[name]:
        text += f"{'  ' * (len(keys) - 1)}part: env\n"
    answer = attack(
        *("--config-dir", "own", "task=plan", "experiment=evil", "hydra.job.env_copy=[SECRET]"),
        files={"own/experiment/evil.yaml": text},
    )
    assert leaks(answer) == []
    answer.refused()


@pytest.mark.parametrize(
    "word",
    [
        "data.path",
        "seed",
        "expect.x.value",
        "sweep.objective.metric",
        "+new",
        "stack.layers.x.kind",
    ],
)
@pytest.mark.parametrize("flags", [[], ["-m"], ["--cfg", "job", "--resolve"]])
def test_nor_does_what_is_typed(attack: Attack, word: str, flags: list[str]) -> None:
    data = ["data=image"] if word == "data.path" else []
    answer = attack(*flags, "task=plan", *data, f"{word}=${{oc.env:SECRET}}")
    assert leaks(answer) == []
    answer.refused("${oc.env:SECRET}" if word != "+new" else "")


OF_HYDRA = [
    "hydra.job.env_copy=[SECRET]",
    "+hydra.job.env_set.COPY=${oc.env:SECRET}",
    "hydra.job.name=${oc.env:SECRET}",
    "hydra.help.footer=${oc.env:SECRET}",
]


def test_hydras_own_is_written_as_it_was(attack: Attack) -> None:
    answer = attack("task=plan", *OF_HYDRA, "hydra.run.dir=outputs/run")
    assert answer.rc == 0, answer.stderr
    assert leaks(answer) == []
    text = (answer.cwd / "outputs/run/.hydra/hydra.yaml").read_text()
    assert text.count("${oc.env:SECRET}") > 3
    answer = attack("-m", "task=plan", "stack=pool,pair", *OF_HYDRA)
    assert answer.rc == 0, answer.stderr
    assert leaks(answer) == []


def test_a_job_has_what_was_copied(tmp_path: Path) -> None:
    """And no file of a run that computes has it, TensorBoard's among them."""
    words = ["task=edge", *OF_HYDRA, "hydra.run.dir=run"]
    environment = {**os.environ, "SECRET": SECRET}
    command = [sys.executable, "-m", "runner", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert any("tfevents" in path.name for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET.encode() not in done.stdout + done.stderr
