"""A config as YAML text: that of ``OmegaConf.to_yaml``, without writing it anew for every job.

PyYAML's dumper in Python takes longer than a small job, and the one in C breaks long lines at other
places. But in block style an entry's text depends on the entry and its depth alone, and nearly all
entries of a sweep's jobs are the same. So each entry is dumped once, and remembered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum
from typing import Any

import yaml
from omegaconf import DictConfig, ListConfig, Node
from omegaconf._utils import get_omega_conf_dumper

REMEMBERED = 4096
"""How many entries are remembered: about 1 MB."""

PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_/.]*[=/][A-Za-z0-9_/.,=+-]*")
"""Texts that are no other type's: they begin with a letter or ``/``, and have an ``=`` or ``/``."""

_texts: dict[tuple[int, str, str], str] = {}


def to_yaml(config: DictConfig | ListConfig, keys: Iterable[str] | None = None) -> str:
    """The text of a config, interpolations as written.

    Args:
        config: whose text is wanted.
        keys: of the config, when not all of its entries are wanted.
    """
    content = written(config)
    if keys is not None:
        content = {key: content[key] for key in keys}
    if isinstance(content, list) and content and all(map(_is_plain, content)):
        return _items(content, 0)
    return _block(content, 0) if isinstance(content, dict) and content else _dump(content)


def written(node: Any) -> Any:
    """A config as plain data, interpolations as written.

    It is what ``OmegaConf.to_container`` gives, without a look at each value's type and flags.
    """
    value = node._value()
    if isinstance(value, dict):
        return {_plain(key): written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [written(item) for item in value]
    # One of several types is a node within a node.
    return written(value) if isinstance(value, Node) else _plain(value)


def _plain(value: Any) -> Any:
    return value.name if isinstance(value, Enum) else value


def _block(content: dict[Any, Any], depth: int) -> str:
    return "".join([_entry(key, value, depth) for key, value in content.items()])


def _entry(key: Any, value: Any, depth: int) -> str:
    if not isinstance(value, dict) or not value:
        return _simple(key, value, depth) or _remembered(key, value, depth)
    below = f":\n{'  ' * (depth + 1)}x: null\n"
    head = _remembered(key, {"x": None}, depth)
    if not head.endswith(below) or head.count("\n") > 2:  # a key that takes several lines
        return _remembered(key, value, depth)
    return f"{head.removesuffix(below)}:\n{_block(value, depth + 1)}"


def _simple(key: Any, value: Any, depth: int) -> str:
    """The entry of a number or of words that need no quotes, which jobs differ in; else nothing."""
    head = _remembered(key, 0, depth)
    if not head.endswith(": 0\n") or head.count("\n") > 1:
        return ""
    if type(value) is int or _is_plain(value):
        return f"{head[:-2]}{value}\n"
    if isinstance(value, list) and value and all(map(_is_plain, value)):
        return f"{head[:-3]}\n{_items(value, depth)}"
    return ""


def _is_plain(value: Any) -> bool:
    """Whether a text is sure to be written as it is: ``task=edge``, ``/tmp/runs``."""
    return type(value) is str and PLAIN.fullmatch(value) is not None


def _items(words: list[str], depth: int) -> str:
    return "".join([f"{'  ' * depth}- {word}\n" for word in words])


def _remembered(key: Any, value: Any, depth: int) -> str:
    what = (depth, repr(key), repr(value))  # repr, because 1 == 1.0 == True
    text = _texts.get(what)
    if text is None:
        if len(_texts) >= REMEMBERED:
            del _texts[next(iter(_texts))]
        text = _texts[what] = _dumped(key, value, depth)
    return text


def _dumped(key: Any, value: Any, depth: int) -> str:
    nested = {key: value}
    for _ in range(depth):
        nested = {"x": nested}
    return _dump(nested).split("\n", depth)[depth]


def _dump(content: Any) -> str:
    text: str = yaml.dump(
        content,
        default_flow_style=False,
        allow_unicode=True,
        sort_keys=False,
        Dumper=get_omega_conf_dumper(),
    )
    return text
