"""What is planned against what is taken: a memory limit is a promise."""

import subprocess
import sys

import pytest

from runner.config.compose import Composer
from runner.config.errors import ConfigError
from runner.config.plain import plain
from runner.job import Job

MEASURE = """
import resource, sys
import runner, torch
from runner.launch import launch
from runner.config.errors import ConfigError
launch(["task=plan"], quiet=True)
from runner.tracking import pictures, tensorboard  # what every run loads
runner.run("task=edge")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
launch(sys.argv[1:], quiet=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "words",
    [
        "task=edge data=bar data.height=2000 data.width=3000 data.stop=1500",
        "task=edge stack=sobel data=blank data.height=2000 data.width=2000",
        "task=forward stack=blur_sobel data=blank data.height=2000 data.width=2000",
        "task=learn_kernel task.steps=3 data=blank data.images=10 data.height=600 data.width=600",
        "task=verify data=noise data.height=500 data.width=400",
        "task=verify stack=sobel data=blank data.height=1500 data.width=1500 ops=fft",
    ],
)
def test_a_run_stays_below_the_least_limit_that_lets_it_start(words, tmp_path):
    overrides = words.split()
    with Composer() as composer:
        job = Job.parse(plain(composer.compose(overrides).config))
    refused, accepted = 0, 2**16  # MiB
    while accepted - refused > 1:
        limit = (refused + accepted) // 2
        try:
            job.model_copy(update={"memory_limit_gib": limit / 1024}).plan()
            accepted = limit
        except ConfigError:
            refused = limit
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *overrides],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    taken = int(done.stdout) / 1024
    assert taken <= 1.25 * accepted + 50, f"took {taken:.0f} MiB, let in at {accepted} MiB"
