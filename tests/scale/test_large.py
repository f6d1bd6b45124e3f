"""A large image: what it takes is said beforehand, and holds; what can't fit is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest
from shell import COMMAND

from runner.config.compose import Composer
from runner.config.errors import ConfigError
from runner.config.plain import plain
from runner.job import Job

GIB = 2**30
IMAGE = ("task=edge", "data.height=8192", "data.width=8192")

PROGRAM = 0.5 * GIB
"""What Python, torch and all libraries take, whatever they compute."""

FITS = ("direct", "fft", "auto", "im2col")
"""Operators with which one kernel finds edges in an image of 64 megapixels within 4 GiB."""


def planned(*words: str) -> int:
    """Bytes that a run says it takes."""
    with Composer() as composer:
        job = Job.parse(plain(composer.compose([*IMAGE, *words]).config))
    return job.memory(job.plan())


@pytest.mark.parametrize("op", FITS)
def test_an_image_of_64_megapixels_fits_by_default(op: str) -> None:
    pixels = 8192 * 8192
    least = 16 * pixels  # in double precision as it is made, in single as it is computed, twice
    assert least < planned("data=noise", f"ops={op}") <= 4 * GIB


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (("ops=native",), "auto, direct, fft, im2col, loops"),
        (("stack=sobel", "ops=im2col"), "direct, winograd, winograd_2x2"),
    ],
)
def test_what_does_not_fit_names_what_does(words: tuple[str, ...], others: str) -> None:
    with pytest.raises(ConfigError) as caught:
        planned("data=noise", *words)
    (problem,) = caught.value.problems
    assert problem.path.endswith(".ops")
    assert problem.expected == f"an operator that fits into memory_limit_gib (4.0 GiB): {others}"


def test_it_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    program = """
import sys
from runner.launch import check, launch
from runner.config.errors import ConfigError
try:
    launch(sys.argv[1:])
except ConfigError:
    print("torch" in sys.modules)
"""
    words = [*IMAGE, "data=noise", "data.height=16384"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "False\n", done
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "words",
    [
        *(("data=noise", f"ops={op}") for op in FITS),
        ("data=bar", "data.stop=4000", "ops=direct"),
        ("data=noise", "stack=sobel", "ops=direct"),
        ("data=noise", "ops=native", "memory_limit_gib=8"),
    ],
)
def test_a_run_takes_what_it_says(words: tuple[str, ...], workplace: Path) -> None:
    """The most memory that the process ever has; and what it draws can be looked at."""
    out = workplace / "out.txt"
    with out.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, *IMAGE, *words, "hydra.run.dir=run"],
            cwd=workplace, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    said = out.read_text()
    assert process.returncode == 0, said
    (stated,) = re.findall(r"takes about ([\d.]+) GiB of memory", said)
    assert used.ru_maxrss * 1024 <= float(stated) * GIB + PROGRAM, said
    for path in (workplace / "run" / "images").iterdir():
        with PIL.Image.open(path) as picture:
            assert picture.width * picture.height < 6 * 2**20, path
