"""What ships: YAML files and command lines; and what a case is that starts from them."""

from __future__ import annotations

import re
import shlex
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from runner.config.compose import config_folder

README = Path(__file__).parents[2] / "README.md"
OWN = "own"
"""The folder of a case's own configs, in its current directory."""


@dataclass(frozen=True)
class Case:
    """One command line, and the files that it finds.

    Attributes:
        name: seed and number, and what is wrong.
        words: after ``python -m runner``.
        files: contents by path, relative to the current directory.
    """

    name: str
    words: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Shipped:
    """A YAML file that ships, and a command that uses it: `option` of `group`."""

    group: str
    option: str
    text: str
    words: tuple[str, ...]

    def config(self) -> Any:
        """What the text says; to be changed at will."""
        return deepcopy(_parsed(self.text))


@cache
def _parsed(text: str) -> Any:
    return yaml.safe_load(text)


@cache
def shipped_files() -> tuple[Shipped, ...]:
    """Those of `configs/`, and the examples of the README."""
    found = []
    for path in sorted(config_folder().rglob("*.yaml")):
        text, place = path.read_text(), path.relative_to(config_folder())
        parts = place.with_suffix("").parts
        if len(parts) == 1:  # the primary config: without what isn't data
            found.append(Shipped("", parts[0], text.partition("\nhydra:")[0], ("task=plan",)))
            continue
        depth = 2 if parts[0] == "hydra" else 1
        group, option = "/".join(parts[:depth]), "/".join(parts[depth:])
        for words in _commands(text)[:1]:
            found.append(Shipped(group, option, text, words))
    for block in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.S):
        group = "experiment" if "expect:" in block else "task" if "task:" in block else "stack"
        found.append(Shipped(group, OWN, block, ("task=plan", "data=photo", f"{group}={OWN}")))
    return tuple(found)


@cache
def shipped_commands() -> tuple[tuple[str, ...], ...]:
    """Every command of the files' heads and of the README that could be run anywhere."""
    texts = [path.read_text() for path in sorted(config_folder().rglob("*.yaml"))]
    texts.append(README.read_text())
    found = [words for text in texts for words in _commands(text)]
    return tuple(dict.fromkeys(found))


def _commands(text: str) -> list[tuple[str, ...]]:
    """Commands in a text, after ``python -m runner``; two spaces set their explanation apart."""
    lines = re.findall(r"python -m runner ([^\n`…]+)", text)
    commands = (tuple(shlex.split(re.split(r"\s{2,}", line)[0])) for line in lines)
    # The doctor's checks are processes that nobody would watch.
    elsewhere = {"--config-dir", "DIR", "task=doctor"}
    return [words for words in commands if not elsewhere & set(words)]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and every entry of a list, outermost first."""
    entries: Any = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    inner = [place for key, entry in entries for place in places(entry, (*path, key))]
    return [path, *inner] if path else inner


def at(config: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        config = config[key]
    return config


def dotted(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))


def materials() -> dict[str, bytes]:
    """What commands ask for that doesn't ship: a picture of one white pixel."""
    pixel = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        "3a7e9b550000000a49444154789c63f80f0001010100b138f6140000000049454e44ae426082"
    )
    return {"picture.png": pixel, "cat.jpg": pixel}
