"""What a recorded command line may say when nobody has typed it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.config.errors import ConfigError
from runner.config.recorded import check_recorded


@pytest.mark.parametrize(
    "words",
    [
        "task=plan stack=lenet,edge_vertical seed=range(0,5) +task.clip=1.0 ~task.schedule",
        "experiment=6_2/corr2d data=image data.path=../a/picture.png 'sweep.on_error=stop'",
        "hydra/launcher=joblib hydra.launcher.n_jobs=2 hydra/sweeper=optuna ++hydra.launcher.x=y",
        "hydra/sweeper/sampler=tpe hydra.sweeper.n_trials=5 hydra.sweeper.params.seed=range(0,5)",
        "hydra.sweeper.storage=sqlite:///study.db hydra.sweep.subdir=${hydra.job.override_dirname}",
        "hydra.run.dir=out/${now:%Y} hydra.job.chdir=true hydra.job.env_copy=[HOME]",
        "hydra.job.name=mine hydra.output_subdir=null hydra.output_subdir=.hydra",
        "stack@task.other.stack=pool +data@task.other.data=digits task.other.stack.layers=x",
        "expect={kernel_error:{max:0.1}} stack.layers.conv-1.kernel=3",
    ],
)
def test_what_is_given_again(words: str, tmp_path: Path) -> None:
    told = [word.strip("'") for word in words.split()]
    check_recorded(told, None, "config", tmp_path / "sweep.json")
    check_recorded(told, str(tmp_path / "mine"), "own", tmp_path / "out" / "sweep.json")


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.x={_target_: os.mkdir, path: P}",
        "+hydra.callbacks={}",
        "hydra={}",
        "hydra.launcher={n_jobs: 1}",
        "hydra.launcher.n_jobs={a: 1}",
        "hydra.launcher.n_jobs=[1]",
        "hydra.launcher.n_jobs=${oc.create:x}",
        "hydra.launcher.ray.init.address=elsewhere",
        "hydra.launcher.python=./mine",
        "hydra.sweeper.custom_search_space=os.system",
        "hydra.sweeper._target_=os.mkdir",
        "hydra.job_logging.root=x",
        "hydra.searchpath=[file:///mine]",
        "hydra.job.env_set.LD_PRELOAD=mine.so",
        "hydra.output_subdir=../other",
        "hydra.output_subdir=/other",
        "hydra.output_subdir='/other'",
        "hydra.output_subdir=${oc.env:HOME}",
        "hydra/launcher=../mine",
        "hydra/job_logging=other",
        "~hydra.callbacks",
        "stack@hydra.callbacks=mine",
        "+stack@_global_=mine",
        "stack@task._global_.hydra=mine",
        "stack@task.x_global_hydra=mine",
        "stack@task_global_.hydra=mine",
        "stack@task.other:hydra=mine",
        "stack@task=mine",
        "stack@task.other.stack=../mine",
        "hydra/launcher@task.other=joblib",
        "stack=../../mine",
        "stack=lenet,../mine",
        "+mine._target_=os.mkdir",
        "+mine={_target_: os.mkdir}",
        "hydra.launcher.comment=a\nrm",
        " hydra.callbacks=x",
        "+ hydra.callbacks=x",
        "",
    ],
)
def test_what_is_refused(word: str, tmp_path: Path) -> None:
    file = tmp_path / "sweep.json"
    with pytest.raises(ConfigError) as caught:
        check_recorded(["seed=1", word, "task=plan"], None, "config", file)
    shown = word.replace("\n", "\\n")
    assert str(caught.value) == (
        f"{file}: expected overrides that can't run code, got '{shown}'. "
        "If you trust it, give the same overrides again beside it."
    )


def test_all_is_told_at_once(tmp_path: Path) -> None:
    file = tmp_path / "out" / "sweep.json"
    for folder in (str(tmp_path / "out" / "mine"), "mine", f"{tmp_path}/a/../out"):
        with pytest.raises(ConfigError) as caught:
            check_recorded([3, "hydra.callbacks=x"], folder, "../own", file)
        assert len(caught.value.problems) == 4
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "out")
    with pytest.raises(ConfigError, match="config folder that isn't in the same directory"):
        check_recorded([], str(link), "config", file)
