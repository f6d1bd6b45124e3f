"""What the doctor checks of the configs, and of TensorBoard."""

from __future__ import annotations

import gc
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from urllib.request import ProxyHandler, build_opener

from runner import installation
from runner.config.compose import Composer, config_folder
from runner.config.errors import ConfigError, first_line
from runner.tasks._doctor_finding import OK, WARNING, WRONG, Finding
from runner.tasks._doctor_libraries import broken

GROUPS = "stack", "data", "ops", "task"
"""Config groups whose options can be combined at will, so that few configs show them all."""

TAG = "loss"
"""What the server is to show."""

PATIENCE = 20.0
"""Seconds that it has for it."""


def configs(_: str) -> list[Finding]:
    """Whether every config that comes with the project composes."""
    folder = config_folder()
    if not (folder / "config.yaml").is_file():
        mend = "Install the project anew, from its own folder."
        return [Finding("configs", WRONG, f"there are none in {folder}", mend)]
    # Composing leaves little to collect, and looking for it takes a quarter of the time.
    gc.disable()
    wrong: list[str] = []
    with Composer() as composer:
        options = {group: composer.options(group) for group in (*GROUPS, "experiment")}
        jobs = [
            [f"{group}={name}" for group, name in zip(GROUPS, names, strict=True) if name]
            for names in zip_longest(*(options[group] for group in GROUPS))
        ]
        for words in (*jobs, *([f"experiment={name}"] for name in options["experiment"])):
            try:
                wrong += [f"{' '.join(words)}: {one}" for one in composer.compose(words).problems]
            except ConfigError as error:
                wrong.append(f"{' '.join(words)}: {error.problems[0]}")
    count = sum(map(len, options.values()))
    if wrong:
        several = f"; and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        mend = f"Mend that file, or bring back the ones that came with the project, in {folder}."
        return [Finding("configs", WRONG, wrong[0] + several, mend)]
    return [Finding("configs", OK, f"{count} in {folder} compose")]


def tensorboard(_: str) -> list[Finding]:
    """Whether it starts, answers, shows what a run has written, and ends."""
    try:
        from runner.tracking.tensorboard import TensorBoard
    except BaseException as error:
        return [broken("tensorboard", error)]
    with TemporaryDirectory(prefix="doctor-") as folder:
        tracker = TensorBoard(Path(folder))
        tracker.scalars({TAG: 1.0}, 1)
        tracker.close()
        try:
            with _server(folder) as address:
                shown = _shown(f"{address}/data/plugin/scalars/tags")
        except (OSError, ValueError) as error:
            command = installation.mending("--force-reinstall", "tensorboard")
            found = f"doesn't serve: {first_line(error)}"
            return [Finding("tensorboard", WRONG, found, "Install it anew.", command)]
    if not shown:
        found = f"answers at {address}, but doesn't show a run in {PATIENCE:g} s"
        return [Finding("tensorboard", WARNING, found)]
    found = f"answered at {address}, showed a run, and ended"
    return [Finding("tensorboard", OK, found), *_command()]


@contextmanager
def _server(folder: str) -> Iterator[str]:
    """A TensorBoard of its own, at a free port; its address.

    Raises:
        OSError: it ends before it has one.
    """
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=os.environ | {"TMPDIR": folder},  # where it notes that it runs
    )
    assert process.stdout is not None
    try:
        last = ""
        for line in process.stdout:
            last = line.strip() or last
            if match := re.search(r"http://127\.0\.0\.1:\d+", line):
                yield match[0]
                return
        raise OSError(last or "it ended without a word")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.stdout.close()
        process.wait()


def _shown(address: str) -> bool:
    """Whether the server shows the one run; it may still be reading it.

    Raises:
        OSError: it doesn't answer.
        ValueError: it doesn't answer in JSON.
    """
    # The machine's own address needs no proxy, whatever the environment says.
    opener = build_opener(ProxyHandler({}))
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        with opener.open(address, timeout=PATIENCE) as page:
            if any(TAG in tags for tags in json.load(page).values()):
                return True
        sleep(0.1)
    return False


def _command() -> list[Finding]:
    """Whether the command that ends every run can be typed."""
    if shutil.which("tensorboard"):
        return []
    found = "the command tensorboard isn't on the PATH"
    mend = "Activate the environment, or write this in its place."
    command = f"{sys.executable} -m tensorboard.main --host 127.0.0.1 --logdir outputs"
    return [Finding("command", WARNING, found, mend, command)]
