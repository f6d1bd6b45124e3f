"""Sweeps on other programs: joblib, Ray and submitit run the jobs, Optuna chooses them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import pytest
import yaml
from faulty import Faulty
from shell import Finished

from runner.config.compose import Composer, config_folder
from runner.config.errors import ConfigError
from runner.config.spec import Spec
from runner.sweep import engines
from runner.sweep.engines import launcher as launchers
from runner.sweep.engines.joblib import JoblibLauncher, JoblibPreset
from runner.sweep.engines.launcher import EngineLauncher
from runner.sweep.engines.optuna import OptunaPreset
from runner.sweep.engines.ray import RayPreset
from runner.sweep.engines.submitit import (
    LocalLauncher,
    LocalPreset,
    SlurmLauncher,
    SlurmPreset,
)
from runner.tracking.directory import state

SWEEP = "hydra.sweep.dir=s"
FOLDER = Path("s")


def installed(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(name) is None, reason=f"needs {name}")


JOBLIB = "joblib"
SUBMITIT = pytest.param("submitit_local", marks=installed("submitit"))
RAY = pytest.param("ray", marks=installed("ray"))
SLOW_SUBMITIT = pytest.param("submitit_local", marks=[installed("submitit"), pytest.mark.slow])
SLOW_RAY = pytest.param("ray", marks=[installed("ray"), pytest.mark.slow])


def states() -> dict[str, str]:
    """Of the jobs whose directories are there, by name."""
    return {file.parent.name: state(file.parent) for file in sorted(FOLDER.glob("*/status.json"))}


def status(job: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / str(job) / "status.json").read_text())
    return content


# Jobs run, and what happens to one is no matter to the others.


@pytest.mark.parametrize("name", [SUBMITIT, RAY])
def test_a_job_that_fails_leaves_the_others_alone(name: str, faulty: Faulty) -> None:
    code, out, err = faulty.sweep(f"hydra/launcher={name}", SWEEP, "seed=0,1,2", fault="raise@1")
    assert code == 1, err
    assert states() == {"0": "COMPLETED", "1": "FAILED", "2": "COMPLETED"}
    assert "2 completed, 1 failed" in out
    assert "ValueError: told to" in out
    assert len((FOLDER / "summary.csv").read_text().splitlines()) == 1 + 3


@pytest.mark.parametrize("name", [JOBLIB, SLOW_SUBMITIT, SLOW_RAY])
def test_a_job_whose_process_dies_is_the_only_one_that_is_lost(name: str, faulty: Faulty) -> None:
    # One worker: who does the jobs after that one isn't left to chance.
    words = [f"hydra/launcher={name}", "hydra.launcher.n_jobs=1", SWEEP, "seed=0,1,2,3"]
    code, out, err = faulty.sweep(*words, fault="SIGKILL@1")
    assert code == 1, err
    assert states() == {"0": "COMPLETED", "1": "DEAD", "2": "COMPLETED", "3": "COMPLETED"}
    assert faulty.noted("begin") == {0: 1, 1: 1, 2: 1, 3: 1}
    assert "#1" in err
    assert "3 completed, 1 killed" in out
    rows = (FOLDER / "summary.csv").read_text().splitlines()
    assert len(rows) == 1 + 4

    code, _, err = faulty.sweep(*words)
    assert code == 0, err
    assert set(states().values()) == {"COMPLETED"}
    assert faulty.noted("begin") == {0: 1, 1: 2, 2: 1, 3: 1}


def test_a_worker_that_dies_while_it_waits_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.sweep.engines.joblib.perform", str)
    launcher = JoblibLauncher()
    launcher.settings = JoblibPreset(n_jobs=1)
    pool = launcher.open(2, "")
    pool.submit(["one"])  # type: ignore[list-item]  # whatever can be sent
    assert pool.wait() == ["one"]
    (worker,) = pool._idle  # type: ignore[attr-defined]  # joblib's
    os.kill(worker._pid.result(), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while worker._pool._flags.broken is None:  # until joblib notices
        assert time.monotonic() < deadline
        time.sleep(0.01)
    pool.submit(["two"])  # type: ignore[list-item]
    assert pool.wait() == ["two"]
    pool.close()


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["raise", "exit", "SIGSEGV", "SIGTERM"])
def test_jobs_that_fail_one_way_or_another_leave_the_others_alone(
    fault: str, faulty: Faulty
) -> None:
    found = {"raise": "FAILED", "exit": "INTERRUPTED", "SIGSEGV": "DEAD", "SIGTERM": "INTERRUPTED"}
    code, _, err = faulty.sweep("hydra/launcher=joblib", SWEEP, "seed=0,1,2", fault=f"{fault}@1")
    assert code == 1, err
    assert states() == {"0": "COMPLETED", "1": found[fault], "2": "COMPLETED"}


def test_a_sweep_told_to_stop_starts_no_more_jobs(faulty: Faulty) -> None:
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "sweep.on_error=stop", SWEEP]
    code, out, _ = faulty.sweep(*words, "seed=0,1,2,3", fault="raise@1")
    assert code == 1
    assert faulty.noted("begin") == {0: 1, 1: 1}
    assert "2 not started" in out


# Whatever ends the sweep ends its workers.


def processes(tag: str) -> list[int]:
    """Those that have the tag in their environment and still live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            tagged = f"TAG={tag}".encode() in (folder / "environ").read_bytes().split(b"\0")
            dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue
        if tagged and not dead:
            found.append(int(folder.name))
    return found


def start(faulty: Faulty, name: str) -> tuple[subprocess.Popen[str], str]:
    """A sweep whose first job hangs, up to there; and its tag."""
    tag = f"{os.getpid()}-{time.monotonic_ns()}"
    words = ["-m", "--config-dir", str(faulty.configs), "task=faulty", SWEEP, "seed=0,1"]
    settings = [f"hydra/launcher={name}", "hydra.launcher.n_jobs=1"]
    process = faulty.start(*words, *settings, fault="hang@0", TAG=tag)
    end = time.monotonic() + 60
    while not faulty.noted("begin") and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert faulty.noted("begin") == {0: 1}
    return process, tag


def gone(alive: Callable[[], list[int]]) -> float:
    """Seconds until there is no process any more."""
    begun = time.monotonic()
    while alive() and time.monotonic() - begun < 20:
        time.sleep(0.05)
    return time.monotonic() - begun


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
@pytest.mark.parametrize("name", [JOBLIB, SLOW_SUBMITIT])
def test_only_the_launcher_hears_ctrl_c(name: str, faulty: Faulty) -> None:
    """Others would end at once, with a traceback of whatever they are at."""
    process, tag = start(faulty, name)
    deaf = {pid: is_deaf(pid) for pid in processes(tag)}
    process.kill()
    process.communicate()
    assert len(deaf) > 1
    assert deaf == {pid: pid != process.pid for pid in deaf}
    gone(lambda: processes(tag))


def is_deaf(pid: int) -> bool:
    """Whether a process blocks or ignores SIGINT (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    masks = [line.split()[1] for line in lines if line.startswith(("SigBlk", "SigIgn"))]
    return any(int(mask, 16) >> (signal.SIGINT - 1) & 1 for mask in masks)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks into /proc")
@pytest.mark.parametrize("name", [JOBLIB, SLOW_SUBMITIT])
def test_when_the_launcher_is_killed_no_worker_is_left(name: str, faulty: Faulty) -> None:
    process, tag = start(faulty, name)
    assert len(processes(tag)) > 1
    process.kill()
    assert gone(lambda: processes(tag)) < 5
    process.communicate()
    assert states() == {"0": "INTERRUPTED"}


@pytest.mark.parametrize("name", [SLOW_RAY])
def test_when_the_launcher_is_killed_no_worker_of_ray_is_left(name: str, faulty: Faulty) -> None:
    """Ray's own services take up to a minute."""
    process, _ = start(faulty, name)
    worker = status(0)["pid"]
    process.kill()
    assert gone(lambda: [worker] * Path(f"/proc/{worker}").exists()) < 5
    with process:
        pass
    assert states() == {"0": "INTERRUPTED"}


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("joblib", signal.SIGINT),
        pytest.param("joblib", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(
            "submitit_local", signal.SIGTERM, marks=[installed("submitit"), pytest.mark.slow]
        ),
        pytest.param("ray", signal.SIGTERM, marks=[installed("ray"), pytest.mark.slow]),
    ],
)
def test_who_stops_the_launcher_stops_its_jobs_which_can_be_taken_up_again(
    name: str, sent: signal.Signals, faulty: Faulty
) -> None:
    process, tag = start(faulty, name)
    process.send_signal(sent)
    out, err = process.communicate(timeout=30)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent], err
    # Ray can't tell a job that waits within C; it dies with the cluster.
    found = "DEAD" if name == "ray" else "INTERRUPTED"
    assert states() == {"0": found}
    assert ("1 killed" if name == "ray" else "1 interrupted") in out
    assert "1 not started" in out
    assert gone(lambda: processes(tag)) < 5

    again = faulty.start("-m", f"sweep.resume={FOLDER}")
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, out + err
    assert states() == {"0": "COMPLETED", "1": "COMPLETED"}
    assert faulty.noted("begin") == {0: 2, 1: 1}
    assert faulty.noted("end") == {0: 1, 1: 1}


# Workers share the cores.


@pytest.mark.parametrize(
    ("n_jobs", "jobs", "workers", "threads"),
    [
        (None, 20, 8, 1),
        (None, 3, 3, 2),
        (2, 20, 2, 4),
        (3, 20, 3, 2),
        (16, 20, 16, 1),
        (1, 5, 1, 8),
    ],
)
@pytest.mark.parametrize(
    "launcher", [JoblibLauncher, pytest.param(LocalLauncher, marks=installed("submitit"))]
)
def test_eight_cores_are_shared_evenly(
    launcher: type[EngineLauncher],
    n_jobs: int | None,
    jobs: int,
    workers: int,
    threads: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    made = launcher(n_jobs=n_jobs)
    made.settings = launcher.check({"n_jobs": n_jobs})
    pool = made.open(jobs, str(tmp_path))
    assert (pool.room(), pool.threads) == (workers, threads)
    pool.close()


def test_torch_has_the_threads_of_its_worker(
    cli: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    words = ["-m", "hydra/launcher=joblib", SWEEP, "task=learn_kernel", "threads=null,3"]
    done = cli(*words)
    assert done.rc == 0, done.stderr
    # Two jobs: each has half of the cores, unless it says how many threads it wants.
    assert status(0)["threads"] == max(joblib.cpu_count() // 2, 1)
    assert status(1)["threads"] == 3


# What can be known before anything is made.


PRESETS = [
    ("launcher", "joblib", JoblibPreset),
    ("launcher", "ray", RayPreset),
    ("launcher", "submitit_local", LocalPreset),
    ("launcher", "submitit_slurm", SlurmPreset),
    ("sweeper", "optuna", OptunaPreset),
]


def test_every_preset_is_tested() -> None:
    files = {(f.parent.name, f.stem) for f in (config_folder() / "hydra").rglob("*.yaml")}
    assert files == {(group, name) for group, name, _ in PRESETS}


@pytest.mark.parametrize(("group", "name", "preset"), PRESETS)
def test_presets_say_all_settings_and_their_defaults(
    group: str, name: str, preset: type[Spec]
) -> None:
    file = config_folder() / "hydra" / group / f"{name}.yaml"
    content = yaml.safe_load(file.read_text())
    assert content.pop("defaults") == [f"_{name}"]
    assert content.keys() == preset.model_fields.keys()
    told = preset.model_validate(content).model_dump()
    if name == "ray":  # it says what Ray takes anyway
        assert told.pop("remote") == {"num_cpus": 1}
        assert preset().model_dump(exclude={"remote"}) == told
    else:
        assert preset().model_dump() == told


def checked(*words: str) -> None:
    with Composer() as composer:
        composed = composer.compose(words)
        if composed.problems:
            raise ConfigError(*composed.problems)
        engines.check(composed.config, ["task.optimizer.lr=interval(0.1,1)"])


@pytest.mark.parametrize(
    ("word", "extra"),
    [
        ("hydra/launcher=joblib", "joblib"),
        ("hydra/launcher=ray", "ray"),
        ("hydra/launcher=submitit_local", "submitit"),
        ("hydra/launcher=submitit_slurm", "submitit"),
        ("hydra/sweeper=optuna", "optuna"),
    ],
)
def test_a_missing_program_is_answered_with_what_installs_it(
    word: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"pip install 'runner\[{extra}\]'"):
        checked(word, "task=learn_kernel")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ["hydra/launcher=joblib", "hydra.launcher.n_jobs=0"],
            "expected at least 1, got 0",
        ),
        (["hydra/launcher=joblib", "hydra.launcher.njobs=2"], "njobs.*Did you mean 'n_jobs'"),
        (["hydra/launcher=joblib", "+hydra.launcher.njobs=2"], "njobs.*Did you mean 'n_jobs'"),
        (["hydra/launcher=joblip"], "expected one of basic, joblib, ray.*Did you mean 'joblib'"),
        (["hydra/launcher=submitit_slurm"], "expected a machine of a Slurm cluster"),
        (
            ["hydra/sweeper=optuna", "hydra.sweeper.sampler=gp"],
            "expected one of tpe, random",
        ),
        (["hydra/sweeper=optuna", "task=plan"], "sweep.objective: expected a metric to search by"),
    ],
)
@installed("submitit")
@installed("optuna")
def test_wrong_settings_are_told(
    words: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ConfigError, match=complaint):
        checked(*words)


@installed("joblib")
def test_a_sweep_whose_directory_is_gone_has_failed(here: Faulty, workplace: Path) -> None:
    words = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=1", "hydra.sweep.dir=out"]
    rc, out, err = here.sweep(*words, "seed=0,1,2", fault="move@1")
    assert rc == 1
    assert err.endswith(f"The sweep's directory, {workplace}/out, was removed or moved.\n")
    assert "completed" not in out
    assert here.noted("begin") == {0: 1, 1: 1}


def test_a_wrong_setting_makes_no_directory(cli: Callable[..., Finished]) -> None:
    done = cli("-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=0", SWEEP, "seed=0,1")
    assert done.rc == 2
    assert not FOLDER.exists()


def test_no_program_is_imported_before_it_is_used() -> None:
    source = (
        "import sys; from runner.sweep import plugins; plugins.register();"
        "print({'ray', 'optuna', 'submitit', 'joblib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


@installed("submitit")
def test_slurm_is_asked_for_what_the_preset_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, script in {"sbatch": f"cp $1 {tmp_path}/asked; echo job 7", "srun": "true"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    values: Mapping[str, Any] = {"partition": "long", "mem_gb": 2, "cpus_per_task": 3, "n_jobs": 5}
    made = SlurmLauncher(**values)
    made.settings = SlurmLauncher.check(values)
    pool = made.open(8, str(tmp_path / "s"))
    assert pool.threads == 3
    pool.submit([None] * 8)  # type: ignore[list-item]  # nothing runs them
    asked = (tmp_path / "asked").read_text()
    for line in ("partition=long", "mem=2GB", "cpus-per-task=3", "time=60", "array=0-7%5"):
        assert f"#SBATCH --{line}\n" in asked, asked
