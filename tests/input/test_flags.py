"""What is shown, and where flags lead: right words are taken as by a run, wrong ones explained."""

from __future__ import annotations

import pytest
from shipped import Case
from verdict import Done, Server

STRIDE = "stack.layers.conv.stride=2"  # a key that the YAML doesn't spell out
LONG = "x" * 300


def run(watch: Server, words: str) -> Done:
    done = watch.run(Case(words, tuple(words.split(" "))))
    assert not done.faults()
    return done


@pytest.mark.parametrize(
    ("words", "shows"),
    [
        (f"--cfg job {STRIDE}", "stride: 2\n"),
        (f"--cfg job {STRIDE} --package stack.layers", "conv:\n"),
        ("--cfg job -m seed=3,4", "seed: 3\n"),
        (f"--help {STRIDE}", "stride: 2\n"),
        ("--help -m seed=3,4", "seed: 3\n"),
        ("--info searchpath seed=3", "Provider"),
        ("--info defaults stack=lenet", "stack/lenet"),
        ("--hydra-help task=plan -m seed=1,2", "Hydra"),
        ("-sc install=bash", "complete"),
    ],
)
def test_shown(words: str, shows: str, watch: Server) -> None:
    done = run(watch, words)
    assert done.rc == 0
    assert shows in done.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--help seed=[", "seed: expected a value that can be read"),
        ("--info defaults stack=nope", "stack: expected one of"),
        ("--cfg job --package nope", "--package: expected a part of the config, got 'nope'."),
        ("--cfg job --package a..b", "--package: expected a part of the config, got 'a..b'."),
        ("-sc", "--shell-completion: expected install=SHELL or uninstall=SHELL, for bash, fish or"),
        ("-sc install=bash seed=1", "--shell-completion: expected install=SHELL"),
        ("-sc query=bash", "--shell-completion: expected a shell that asks"),
        (f"--config-dir {LONG}", f"--config-dir: expected a folder, got '{LONG}': File name too"),
        (f"--report {LONG}", "--report: expected a folder"),
        (f"--summary {LONG}", "--summary: expected a folder"),
        (f"--resume {LONG}", "--resume: expected a folder"),
        ("--resume ~nobody-of-that-name/x", "--resume: expected a folder"),
    ],
)
def test_explained(words: str, says: str, watch: Server) -> None:
    done = run(watch, words)
    assert done.rc == 2
    assert done.stderr.startswith(f"1 problem in the config:\n  {says}")


def test_unknown_flags_do_nothing_to_a_terminal(watch: Server) -> None:
    done = run(watch, "--no\x1b[31msuch task=edge")
    assert done.rc == 2
    assert done.stderr.endswith("runner: error: unrecognized arguments: --no\\x1b[31msuch\n")
