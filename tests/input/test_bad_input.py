"""Thousands of wrong configs and command lines: each ends well, or in an answer with a path."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from forking import TORCH
from mutations import case
from shell import COMMAND
from shipped import Case, shipped_commands, shipped_files
from verdict import Done, Server, environment, outcome, place, server

SEED = 1

PROCESSES = 2


def report(found: list[Done]) -> str:
    """What the cases did that they must not do; nothing if all is well."""
    bad = [(done, faults) for done in found if (faults := done.faults())]
    lines = [f"{len(bad)} of {len(found)} cases"] if bad else []
    for done, faults in bad[:20]:
        told = (list(done.case.words), "; ".join(faults), done.stderr[-500:])
        lines += [done.case.name, *(f"  {one}" for one in told)]
    return "\n".join(lines)


@pytest.mark.timeout(1_200)  # 15 seconds of work, on a machine that may do much else
@pytest.mark.parametrize("seed", [SEED])
def test_a_sample_of_mistakes(seed: int, watch: Server) -> None:
    found = [watch.run(case(seed, number)) for number in range(0, 2_000, 20)]
    told = report(found)
    assert not told, told
    ends = Counter(done.rc for done in found)
    assert min(ends[2], ends[TORCH] + ends[0]) > len(found) / 20, ends  # of both there are some


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("seed", [SEED + 1])
def test_mistakes_at_scale(seed: int, tmp_path: Path) -> None:
    numbers = range(6_000)

    def part(i: int) -> list[Done]:
        with server(tmp_path / str(i)) as one:
            return [one.run(case(seed, number)) for number in numbers[i::PROCESSES]]

    with ThreadPoolExecutor(PROCESSES) as pool:
        found = [done for dones in pool.map(part, range(PROCESSES)) for done in dones]
    told = report(found)
    assert not told, told
    accepted = [done.case for done in found if done.accepted]
    with server(tmp_path / "torch", "torch") as one:
        ran = [one.run(each) for each in accepted[:: max(1, len(accepted) // 40)]]
    # Some of what is valid is long work, too.
    ended = [done for done in ran if done.rc not in (-9, -24)]
    assert len(ended) > len(ran) / 2
    assert not [done for done in ended if done.broken()]


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("seed", [SEED + 2])
def test_the_watch_sees_what_the_program_does(seed: int, watch: Server) -> None:
    compared = 0
    for number in range(200):
        seen = watch.run(case(seed, number))
        if seen.accepted or "outputs" in seen.stdout:  # where runs have times in their names
            continue
        cwd = place(seen.case, watch.home)  # the same, for answers tell it
        words = [os.fsencode(word) for word in (*COMMAND, *seen.case.words)]
        done = subprocess.run(words, cwd=cwd, env=environment(), capture_output=True)
        real = outcome(seen.case, done.returncode, 0, 0, done.stdout, done.stderr, cwd)
        assert (real.rc, real.stdout, real.stderr, real.left) == (
            seen.rc, seen.stdout, seen.stderr, seen.left,
        ), seen.case  # fmt: skip
        shutil.rmtree(watch.home)
        compared += 1
        if compared == 30:
            break
    assert compared == 30


def test_cases_are_repeatable_and_differ() -> None:
    assert case(3, 5) == case(3, 5)
    assert len({case(3, number).name for number in range(200)}) > 190
    assert len(shipped_files()) > 100
    assert len(shipped_commands()) > 100
    everything = [case(3, number) for number in range(6_000)]
    used = {name.partition(": ")[2].partition(": ")[0] for name in (c.name for c in everything)}
    missing = {"/".join(filter(None, (one.group, one.option))) for one in shipped_files()} - used
    assert not missing


@pytest.mark.parametrize(
    ("words", "rc"),
    [
        (["task=plan"], 0),
        (["task=plan", "expect.parameters=1"], 3),
        (["task=plan", "seed=x"], 2),
        (["--nope"], 2),
        (["task=edge"], TORCH),
    ],
)
def test_what_is_well(words: list[str], rc: int, watch: Server) -> None:
    done = watch.run(Case("plain", tuple(words)))
    assert (done.rc, done.faults()) == (rc, [])
    assert done.seconds > 0.05
    assert done.mib > 20


WELL = Done(
    Case("made up", ("seed=x",)),
    rc=2,
    seconds=0.5,
    mib=90.0,
    stdout="",
    stderr="1 problem in the config:\n  seed: expected an integer, got 'x' (text).\n",
    left=(),
    states={},
)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"rc": 1}, "exit code 1"),
        ({"rc": -11}, "exit code -11"),
        ({"stdout": "Traceback (most recent call last):"}, "a traceback"),
        ({"stderr": "wrong\n"}, "an error without a path"),
        ({"stderr": ""}, "an error without a path"),
        ({"stderr": WELL.stderr + "more\n"}, "an error without a path"),
        ({"rc": 0}, "complaints in spite of success"),
        ({"seconds": 2.1}, "2.1 seconds"),
        ({"mib": 501.0}, "501 MiB"),
        ({"stderr": WELL.stderr.replace("'x'", "\x1b[2J")}, "control characters"),
        ({"stderr": WELL.stderr.replace("'x'", "\u202e")}, "control characters"),
        ({"stderr": WELL.stderr.replace("'x'", "x" * 3_000)}, "an answer that nobody reads"),
        ({"left": ("outputs",)}, "files are left: outputs"),
        ({"rc": 0, "stderr": "", "states": {"a": "RUNNING"}}, "runs without an end"),
    ],
)
def test_what_is_not_well(change: dict[str, Any], fault: str) -> None:
    found = replace(WELL, **change).faults()
    assert [one[: len(fault)] for one in found] == ([fault] if fault else [])
