"""Programs that are killed at any moment: what they leave, and that it can be taken up again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from remains import check, check_processes, check_same, is_sweep, processes, states
from zygote import Started, Zygote, cold, fork

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")

HOW = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]

# Python lets go of a signal shortly before it ends; a shell shows such a death as the same number.
CODES = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGINT: {130, -signal.SIGINT},
    signal.SIGTERM: {143, -signal.SIGTERM},
}

ROOT = "out"

COMMANDS = {
    "edge": ["task=edge"],
    "learn_kernel": ["task=learn_kernel", "task.steps=40"],
    "classify": [
        "task=classify", "data.images=120", "task.epochs=3", "task.log_every=2", "task.images=1",
    ],
    "sweep": ["-m", "task=edge", "stack=edge_vertical,edge_horizontal", "seed=0,1"],
    "sweep of checkpoints": [
        "-m", "task=classify", "data.images=120", "task.epochs=2", "task.images=1", "seed=0,1",
    ],
    "sweep learned together": ["-m", "task=learn_kernel", "seed=range(0,9)"],
    "joblib": [
        "-m", "task=plan", "seed=range(0,5)", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    ],
}  # fmt: skip


def command(name: str) -> list[str]:
    words = COMMANDS[name]
    return [*words, f"hydra.sweep.dir={ROOT}" if "-m" in words else f"hydra.run.dir={ROOT}"]


@dataclass
class Left:
    """A program that was left alone.

    Attributes:
        directory: of its run or sweep.
        seconds: that it took.
    """

    directory: Path
    seconds: float


@pytest.fixture(scope="session")
def alone(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """What each program leaves that nobody kills."""
    known: dict[str, Left] = {}

    def find(name: str) -> Left:
        if name not in known:
            root, first = leave(name)
            again, second = leave(name)
            check_all_same(name, again, root)
            known[name] = Left(root, min(first, second))
        return known[name]

    def leave(name: str) -> tuple[Path, float]:
        folder = tmp_path_factory.mktemp("alone") / "run"
        folder.mkdir()
        started = fork(zygote, folder, command(name))
        assert started.wait() == 0, started.said
        return folder / ROOT, started.seconds

    return find


@dataclass
class Trial:
    """A program that will be killed, and what takes it up again too, until it is done.

    Attributes:
        name: which program.
        folder: where it runs.
        left: what it leaves where it is left alone.
        told: what its directory said after each kill.
    """

    name: str
    zygote: Zygote
    folder: Path
    left: Left
    told: list[str]

    @property
    def root(self) -> Path:
        return self.folder / ROOT

    def ended(self, started: Started, how: signal.Signals) -> dict[str, str] | None:
        """Wait for its end, and check what is there: the states, or None where all is done."""
        code = started.wait()
        print(f"{how.name}: {code}", end=" ")
        assert code == 0 or code in CODES[how], started.said
        if code != -signal.SIGINT:  # Python itself was starting, or at its very end
            assert "Traceback" not in started.said, started.said
        check_processes(started.pid)
        found = {}
        if self.root.exists():
            found = check(self.root, self.left.directory, asked=how != signal.SIGKILL)
        print(found)
        self.told.append(", ".join(sorted(set(found.values()))) or "nothing")
        return None if code == 0 or found == {ROOT: "COMPLETED"} else found

    def again(self, found: dict[str, str]) -> Started:
        """Run it again: as the messages say it, or anew if it hadn't begun."""
        if found == {ROOT: ""}:
            started = fork(self.zygote, self.folder, ["--resume", ROOT])
            assert (started.wait(), "Traceback" in started.said) == (2, False), started.said
            shutil.rmtree(self.root)
        begun = any(found.values()) or is_sweep(self.root)
        return fork(self.zygote, self.folder, ["--resume", ROOT] if begun else command(self.name))

    def finish(self, found: dict[str, str]) -> None:
        """Take it up and leave it alone; what was done already isn't done again."""
        done = [job for job, state in found.items() if state == "COMPLETED"]
        before = {job: (self.root / job / "status.json").read_bytes() for job in done}
        started = self.again(found)
        assert started.wait() == 0, started.said
        check_processes(started.pid)
        assert before == {job: (self.root / job / "status.json").read_bytes() for job in done}

    def survive(
        self, started: Started, moment: float, dice: random.Random, how: signal.Signals
    ) -> None:
        """Kill it some seconds after its start, and perhaps again, until it is left alone."""
        while True:
            print(f"{moment:.3f} s", end=" ")
            send(started, moment, how)
            found = self.ended(started, how)
            if found is None:
                break
            if dice.random() < 0.6:
                self.finish(found)
                break
            started, moment = self.again(found), self.moment(dice)
        check_all_same(self.name, self.root, self.left.directory)

    def moment(self, dice: random.Random) -> float:
        """Seconds from before a fork does anything to after its end."""
        return dice.uniform(0, 1.1 * self.left.seconds)


def check_all_same(name: str, root: Path, reference: Path) -> None:
    """All is done, and came out as if nothing had happened."""
    found = states(root)
    assert found == states(reference) == dict.fromkeys(found, "COMPLETED")
    close = name == "sweep learned together"  # what was left is, with fewer others
    for job in found if is_sweep(root) else [""]:
        check_same(root / job, reference / job, close=close)
    assert top(root) == top(reference)


def top(root: Path) -> set[str]:
    """What is in a directory, event files aside."""
    return {path.name for path in root.iterdir() if "events.out." not in path.name}


def send(started: Started, moment: float, how: signal.Signals) -> None:
    """Send a signal some seconds after the start; a terminal sends its own to all of a session."""
    time.sleep(max(0.0, started.began + moment - time.monotonic()))
    if how == signal.SIGINT and processes(started.pid):
        os.killpg(started.pid, how)
    else:
        os.kill(started.pid, how)


@pytest.fixture
def trial(zygote: Zygote, alone: Callable[[str], Left], tmp_path: Path) -> Callable[[str], Trial]:
    """A program that is run in a folder of its own."""

    def make(name: str) -> Trial:
        left = alone(name)
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return Trial(name, zygote, folder, left, [])

    return make


SLOW = (pytest.mark.slow, pytest.mark.timeout(1500))
SAMPLE = ("edge-SIGKILL", "classify-SIGKILL", "sweep-SIGTERM")


def moments() -> Iterator[Any]:
    """A few kills of some programs, and in the slow suite many of all."""
    for name in COMMANDS:
        for how in HOW:
            which = f"{name}-{how.name}"
            if which in SAMPLE:
                yield pytest.param(name, how, 2, 0, id=which)
            yield pytest.param(name, how, 6, 1, id=f"{which}-many", marks=SLOW)


@pytest.mark.parametrize(("name", "how", "number", "seed"), list(moments()))
def test_at_any_moment(
    name: str, how: signal.Signals, number: int, seed: int, trial: Callable[[str], Trial]
) -> None:
    dice, told = random.Random(f"{name} {how.name} {seed}"), Counter[str]()
    for _ in range(number):
        one = trial(name)
        started = fork(one.zygote, one.folder, command(name))
        one.survive(started, one.moment(dice), dice, how)
        told.update(one.told)
    print(sum(told.values()), "kills:", dict(told))


def accesses() -> Iterator[Any]:
    """All accesses to files, or of programs that have many, every nth."""
    yield pytest.param("edge", signal.SIGKILL, 17, id="edge-SIGKILL")
    for name, step in {"edge": 1, "classify": 4, "sweep": 9}.items():
        for how in HOW:
            every = step if how == signal.SIGKILL else 5 * step
            yield pytest.param(name, how, every, id=f"{name}-{how.name}-many", marks=SLOW)


@pytest.mark.parametrize(("name", "how", "step"), list(accesses()))
def test_before_any_access_to_a_file(
    name: str, how: signal.Signals, step: int, trial: Callable[[str], Trial]
) -> None:
    """Writing, renaming, locking …: between any two of them it can end."""
    told = Counter[str]()
    for place in count(1, step):
        one = trial(name)
        print(place, end=" ")
        found = one.ended(fork(one.zygote, one.folder, command(name), (place, how)), how)
        if found is not None:
            one.finish(found)
        check_all_same(name, one.root, one.left.directory)
        told.update(one.told)
        if found is None:
            break
    print(sum(told.values()), "kills:", dict(told))


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("how", HOW, ids=lambda how: how.name)
def test_from_a_cold_start(how: signal.Signals, trial: Callable[[str], Trial]) -> None:
    """With all the seconds in which modules are imported; tests/test_signals.py has a few."""
    dice, told = random.Random(how.name), Counter[str]()
    left = cold(trial("edge").folder, command("edge"))
    assert left.wait() == 0
    for _ in range(7):
        one = trial("edge")
        started = cold(one.folder, command("edge"))
        one.survive(started, dice.uniform(0, 1.1 * left.seconds), dice, how)
        told.update(one.told)
    print(sum(told.values()), "kills:", dict(told))
