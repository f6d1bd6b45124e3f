"""A real TensorBoard server shows every job of a real sweep on its HParams page."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from shell import COMMAND, Finished
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from runner.sweep.sweep import sweep

STATUSES = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]

WORDS = [
    "task=learn_kernel", "task.optimizer.lr=1e20,0.01,0.02", "threads=null,1",
    "data.transpose=false,true",
]  # fmt: skip
"""The first four of twelve jobs fail; half of them don't have the parameter `threads`."""

Ask = Callable[[str, Any], Any]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    words = [*COMMAND, "-m", *WORDS, "hydra.sweep.dir=out"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stdout + done.stderr
    return folder / "out"


@pytest.fixture(scope="module", params=["true", "false"], ids=["data server", "Python reader"])
def ask(directory: Path, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Ask the plugin; TensorBoard reads files with one of two programs."""
    with served(directory, jobs=12, fast=request.param) as ask:
        yield ask


@contextmanager
def served(directory: Path, *, jobs: int, fast: str = "true") -> Iterator[Ask]:
    """A server that has read so many jobs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(directory)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load_fast", fast]
    log = directory.parent / f"tensorboard-{fast}.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)

    def ask(path: str, body: Any) -> Any:
        url = f"http://127.0.0.1:{port}/data/plugin/hparams/{path}"
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=10) as page:
            return json.load(page)

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if len(groups(ask)) == jobs:
                    break
            except (urllib.error.URLError, ConnectionError):
                pass
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield ask
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def groups(ask: Ask) -> dict[str, Any]:
    """The rows of the page, by name."""
    columns = [{"metric": info["name"]} for info in ask("experiment", {}).get("metricInfos", [])]
    wanted = {
        "colParams": columns, "allowedStatuses": STATUSES, "startIndex": 0, "sliceSize": 100,
    }  # fmt: skip
    return {one["name"]: one for one in ask("session_groups", wanted)["sessionGroups"]}


def test_every_job_has_its_row_with_all_keys(ask: Ask, directory: Path) -> None:
    rows = groups(ask)
    assert set(rows) == {str(number) for number in range(12)}
    (keys,) = {tuple(sorted(row["hparams"])) for row in rows.values()}
    assert keys == tuple(sorted(info["name"] for info in ask("experiment", {})["hparamInfos"]))
    assert {"seed", "task.optimizer.lr", "threads", "stack", "data.transpose"} <= set(keys)
    for row in rows.values():
        (session,) = row["sessions"]
        assert session["name"] == row["name"], "in the job's own run"
        status = json.loads((directory / row["name"] / "status.json").read_text())
        assert row["hparams"]["task.optimizer.lr"] == status["parameters"]["task.optimizer.lr"]


def test_metrics_and_states(ask: Ask, directory: Path) -> None:
    for name, row in groups(ask).items():
        metrics = {value["name"]["tag"]: value["value"] for value in row["metricValues"]}
        if int(name) < 4:
            assert row["sessions"][0]["status"] == "STATUS_FAILURE"
            assert metrics == {}
            continue
        assert row["sessions"][0]["status"] == "STATUS_SUCCESS"
        measured = json.loads((directory / name / "metrics.json").read_text())
        assert set(metrics) == {"metric/loss", "metric/kernel_error", "metric/output_error"}
        for tag, value in metrics.items():
            assert value == pytest.approx(measured[tag.removeprefix("metric/")])


def test_columns(ask: Ask) -> None:
    infos = ask("experiment", {})["hparamInfos"]
    assert [info["name"] for info in infos[:4] if info["differs"]] == [
        "data.transpose", "task.optimizer.lr", "threads",
    ]  # fmt: skip
    assert not any(info["differs"] for info in infos[3:])
    types = {info["name"]: info["type"] for info in infos}
    assert types["task.optimizer.lr"] == "DATA_TYPE_FLOAT64"
    assert types["data.transpose"] == "DATA_TYPE_BOOL"
    assert types["threads"] == "DATA_TYPE_STRING"
    rows = groups(ask).values()
    assert {row["hparams"]["threads"] for row in rows} == {"–", "1"}
    assert {row["hparams"]["data.transpose"] for row in rows} == {False, True}
    assert infos[2]["domainDiscrete"] == ["1", "–"] or infos[2]["domainDiscrete"] == ["–", "1"]


def test_a_job_that_fails_before_it_begins_has_its_row(
    cli: Callable[..., Finished], workplace: Path
) -> None:
    """An image whose head is whole and whose pixels are not is found out when it is loaded."""
    Image.effect_noise((64, 64), 50).save(workplace / "good.png")
    content = (workplace / "good.png").read_bytes()
    (workplace / "bad.png").write_bytes(content[: len(content) // 2])
    words = ("task=forward", "stack=kernel", "data=image", "data.path=good.png,bad.png")
    done = cli("-m", *words, "hydra.sweep.dir=out")
    assert done.rc == 1, done.stderr
    assert not (workplace / "out" / "1" / "plan.json").exists(), "it never began"
    found = {}
    for name in ("0", "1"):
        accumulator = EventAccumulator(str(workplace / "out" / name))
        accumulator.Reload()
        for tag in ("session_start_info", "session_end_info"):
            content = accumulator.SummaryMetadata(f"_hparams_/{tag}").plugin_data.content
            found[name, tag] = getattr(HParamsPluginData.FromString(content), tag)
    assert [found[n, "session_end_info"].status for n in ("0", "1")] == [
        STATUS_SUCCESS,
        STATUS_FAILURE,
    ]
    paths = [found[n, "session_start_info"].hparams["data.path"].string_value for n in ("0", "1")]
    assert paths == ["good.png", "bad.png"]


def test_jobs_are_filtered(ask: Ask) -> None:
    """A column of one kind can be filtered by its numbers."""
    wanted = {
        "colParams": [
            {"hparam": "task.optimizer.lr", "filterInterval": {"minValue": 0.0, "maxValue": 0.015}}
        ],
        "allowedStatuses": STATUSES,
        "startIndex": 0,
        "sliceSize": 100,
    }
    assert len(ask("session_groups", wanted)["sessionGroups"]) == 4


def test_a_sweep_that_was_extended_is_sorted_by_what_it_was_extended_by(workplace: Path) -> None:
    """The first jobs' rows were written when they all had one value."""
    words = ["task=edge", "hydra.sweep.dir=out"]
    sweep([*words, "seed=10"])
    sweep([*words, "seed=10,9,100"])
    with served(workplace / "out", jobs=3) as ask:
        (info,) = (one for one in ask("experiment", {})["hparamInfos"] if one["name"] == "seed")
        assert info["type"] == "DATA_TYPE_FLOAT64"
        wanted = {
            "colParams": [{"hparam": "seed", "order": "ORDER_ASC"}],
            "allowedStatuses": STATUSES,
            "startIndex": 0,
            "sliceSize": 100,
        }
        found = ask("session_groups", wanted)["sessionGroups"]
    assert [one["hparams"]["seed"] for one in found] == [9, 10, 100]  # as text: 10, 100, 9
