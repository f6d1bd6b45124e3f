"""A real TensorBoard server shows a real run."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runner
from runner.execute import Result

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    folder = tmp_path_factory.mktemp("run")
    yield runner.run("task=learn_kernel", f"hydra.run.dir='{folder}/runs/one'", "seed=5")


@pytest.fixture(scope="module")
def ask(result: Result) -> Iterator[Ask]:
    """Ask the server for a page's data; a body makes it a POST."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(result.directory.parent)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--load_fast", "false"]
    log = result.directory.parent.parent / "tensorboard.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)

    def request(path: str, body: Any = None, **query: str) -> Any:
        url = f"http://127.0.0.1:{port}{path}?{urllib.parse.urlencode(query)}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=10) as page:
            return json.load(page)

    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                if request("/data/runs") == ["one"]:
                    break
            except (urllib.error.URLError, ConnectionError):
                pass
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield request
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def test_scalars(ask: Ask, result: Result) -> None:
    tags = ask("/data/plugin/scalars/tags")["one"]
    assert {"train/loss", "metric/loss", "metric/kernel_error"} <= set(tags)
    points = ask("/data/plugin/scalars/scalars", run="one", tag="train/loss")
    assert [step for _, step, _ in points] == list(range(1, 11))
    assert [value for *_, value in points] == pytest.approx(result.metrics["losses"])


def test_images(ask: Ask) -> None:
    tags = ask("/data/plugin/images/tags")["one"]
    assert "kernel/forming" in tags
    kernels = ask("/data/plugin/images/images", run="one", tag="kernel/conv", sample="0")
    assert kernels[-1]["step"] == 10


def test_histograms(ask: Ask) -> None:
    tags = ask("/data/plugin/histograms/tags")["one"]
    assert tags
    points = ask("/data/plugin/histograms/histograms", run="one", tag=next(iter(tags)))
    assert sum(count for *_, count in points[0][2]) == 2  # a kernel of two weights


def test_text(ask: Ask) -> None:
    tags = ask("/data/plugin/text/tags")["one"]
    assert {"command", "config", "plan"} <= {tag.split("/")[0] for tag in tags}
    (command,) = [tag for tag in tags if tag.startswith("command")]
    (page,) = ask("/data/plugin/text/text", run="one", tag=command)
    assert "python -m runner task=learn_kernel" in page["text"]
    (config,) = [tag for tag in tags if tag.startswith("config")]
    (page,) = ask("/data/plugin/text/text", run="one", tag=config)
    assert "seed: 5" in page["text"]
    assert "<code>" in page["text"]  # lines and spaces as they are


def test_hparams(ask: Ask, result: Result) -> None:
    experiment = ask("/data/plugin/hparams/experiment", {})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"seed", "task.optimizer.lr", "task.steps", "stack.layers.conv.kind"} <= names
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert "metric/kernel_error" in metrics
    wanted = {
        "colParams": [{"metric": info["name"]} for info in experiment["metricInfos"]],
        "allowedStatuses": ["STATUS_SUCCESS", "STATUS_UNKNOWN", "STATUS_RUNNING"],
        "startIndex": 0,
        "sliceSize": 10,
    }
    (group,) = ask("/data/plugin/hparams/session_groups", wanted)["sessionGroups"]
    assert group["hparams"]["seed"] == 5
    assert group["hparams"]["task.optimizer.lr"] == 0.03
    assert group["hparams"]["task.optimizer.name"] == "sgd"
    values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
    assert values["metric/kernel_error"] == pytest.approx(result.metrics["kernel_error"])
    (session,) = group["sessions"]
    assert session["name"] == "one"  # the same run as the curves, not a second one
    assert session["status"] == "STATUS_SUCCESS"
