"""The Python API, as `runner` documents it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import runner
from runner import ConfigError
from runner.sweep.sweep import sweep


def test_run_gives_what_the_command_line_writes(
    workplace: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = runner.run("task=edge", "seed=3")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert result.directory.parent == workplace / "outputs" / "edge"
    written = json.loads((result.directory / "metrics.json").read_text())
    assert written.pop("expectations") == []
    assert written == result.metrics
    assert result.outputs["conv"].shape == (1, 1, 6, 7)
    assert result.outputs["conv"].dtype == np.float32
    assert result.outputs["conv"][0, 0, 0].tolist() == [0, 1, 0, 0, 0, -1, 0]
    assert result.holds
    assert result.plan.output.dims == (1, 6, 7)
    assert result.events
    assert Path.cwd() == workplace


def test_run_can_be_seen(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = runner.run("task=plan", quiet=False)
    shown = capfd.readouterr().out
    assert "61,706" in shown
    assert str(result.directory.relative_to(workplace)) in shown


def test_expectations(workplace: Path) -> None:
    result = runner.run("task=plan", "expect={parameters: 1, output: [10]}")
    assert not result.holds
    parameters, output = result.outcomes
    assert (parameters.metric, parameters.measured, parameters.holds) == (
        "parameters",
        61706,
        False,
    )
    assert output.holds


def test_wrong_config_is_an_exception_with_every_problem(workplace: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        runner.run("stack=lenett", "seed=x")
    assert [problem.path for problem in caught.value.problems] == ["stack", "seed"]
    stack, seed = caught.value.problems
    assert stack.hint == "Did you mean 'lenet'?"
    assert (seed.expected, seed.got) == ("an integer", "'x' (text)")
    assert str(caught.value).splitlines() == [str(stack), str(seed)]
    assert isinstance(caught.value, ValueError)
    assert list(workplace.iterdir()) == []


def test_what_a_task_raises_is_raised(workplace: Path) -> None:
    with pytest.raises(RuntimeError, match="2/λmax") as caught:
        runner.run("task=learn_kernel", "task.optimizer.lr=1e20")
    (note,) = caught.value.__notes__
    (directory,) = (workplace / "outputs" / "learn_kernel").iterdir()
    assert str(directory) in note


def test_plan_needs_no_task(workplace: Path) -> None:
    plan = runner.plan("stack=lenet")
    assert isinstance(plan, runner.Plan)
    assert (plan.parameters, plan.cost) == (61_706, 416_520)
    # 32×32: pool2 gives 16×6×6, so the first dense layer has 576 − 400 = 176 inputs more.
    larger = runner.plan("stack=lenet", "data.height=32", "data.width=32")
    assert larger.parameters == 61_706 + 176 * 120
    assert runner.plan("stack=pair", "data=digits").output.dims == (1, 6, 6)
    assert runner.plan("experiment=6_3/stride_rect_shape").output.dims == (1, 2, 2)
    assert runner.plan("task=edge").output.dims == (1, 6, 7)
    with pytest.raises(ConfigError, match="feature maps"):
        runner.plan("task=edge", "stack=lenet", "data=blank")
    assert list(workplace.iterdir()) == []


def test_operators() -> None:
    x, k = torch.arange(9.0).reshape(3, 3), torch.tensor([[0.0, 1], [2, 3]])
    for op in ("loops", "native"):
        assert runner.conv2d(x, k, op=op).tolist() == [[19, 25], [37, 43]]  # 6.2.1
        assert runner.pool2d(x, 2, stride=1, op=op).tolist() == [[4, 5], [7, 8]]  # 6.5.1
        assert runner.pool2d(x, 2, "avg", stride=1, op=op).tolist() == [[2, 3], [5, 6]]
    batched = runner.conv2d(x[None, None], k[None, None], torch.tensor([1.0]), padding=1)
    assert batched[0, 0].tolist() == [
        [1, 4, 9, 5], [10, 20, 26, 11], [22, 38, 44, 17], [7, 8, 9, 1]
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="op: expected one of"):
        runner.conv2d(x, k, op="natve")


def test_a_module_named_like_a_function_doesnt_hide_it(workplace: Path) -> None:
    importlib.import_module("runner.plan")
    assert callable(runner.plan)
    program = (
        "import runner.plan, runner.launch, runner.tasks.plan\n"
        "from runner.plan import Plan\n"
        "import runner\n"
        "assert isinstance(runner.plan('stack=pair'), Plan)\n"
        "assert isinstance(runner.run('task=plan').plan, Plan)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names() -> None:
    for name in runner.__all__:
        assert getattr(runner, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'conv3d'"):
        runner.conv3d  # noqa: B018  # asking is the test


def test_configs_of_ones_own(workplace: Path) -> None:
    mine = workplace / "mine"
    (mine / "stack").mkdir(parents=True)
    (mine / "experiment").mkdir()
    (mine / "stack" / "twice.yaml").write_text(
        "layers:\n"
        "  conv: {kind: conv, weight: [[1, -1]]}\n"
        "  again: {kind: conv, weight: [[1, -1]]}\n"
    )
    (mine / "experiment" / "second.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /task: edge\n  - override /stack: twice\n  - _self_\n"
        # 0 1 0 0 0 −1 0, differences once more: −1 1 0 0 1 −1
        "expect: {output: [[-1, 1, 0, 0, 1, -1]]}\n"
        "data: {height: 1}\n"
    )
    result = runner.run("experiment=second", config_dir=mine)
    assert result.holds, result.outcomes
    assert list(result.outputs)[:2] == ["conv", "again"]
    status = json.loads((result.directory / "status.json").read_text())
    assert status["command"] == f"python -m runner --config-dir {mine} experiment=second"
    assert runner.plan("stack=twice", config_dir=str(mine)).output.dims == (1, 28, 26)
    # The project's own are still there.
    assert runner.plan("stack=lenet", config_dir=mine).parameters == 61_706
    with pytest.raises(ConfigError, match="stack: expected one of"):
        runner.plan("stack=twice")


def test_runs_leave_no_trace_in_each_other(workplace: Path) -> None:
    one = runner.run("task=forward", "stack=kernel_3x3", "data=checkerboard", "seed=1")
    runner.run("task=learn_kernel", "seed=2", "threads=1")
    two = runner.run("task=forward", "stack=kernel_3x3", "data=checkerboard", "seed=1")
    np.testing.assert_array_equal(one.outputs["conv"], two.outputs["conv"])
    assert one.directory != two.directory
    assert "learn_kernel" not in (two.directory / "run.log").read_text()
    assert "forward" in (two.directory / "run.log").read_text()


def test_torch_is_left_as_the_notebook_had_it(workplace: Path) -> None:
    import torch

    threads, flag = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    try:
        runner.run("task=learn_kernel", "seed=9", f"threads={threads + 1}")
        assert torch.equal(torch.rand(3), expected)
        assert torch.get_num_threads() == threads
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32 = flag


def test_a_job_of_a_sweep_leaves_its_threads_to_itself(workplace: Path) -> None:
    before = torch.get_num_threads()
    # In the order given, one thread more, then torch's own choice.
    swept = sweep(["task=edge", f"threads={before + 1},null"])
    files = [swept.directory / record.directory / "status.json" for record in swept.records]
    used = [json.loads(file.read_text())["threads"] for file in files]
    assert used == [before + 1, before]
