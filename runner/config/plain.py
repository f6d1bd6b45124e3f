"""From Hydra's config to plain data: resolved, complete, and nothing in it that is code."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from runner.config.errors import ConfigError, Problem, first_line, join, problem
from runner.config.interpolation import bounded
from runner.config.yaml_text import written

CALLS = ("_target_", "_partial_", "_args_", "_recursive_", "_convert_")
"""Keys that make Hydra call Python; here YAML is data, and they are refused."""


def plain(config: DictConfig) -> dict[str, Any]:
    """The composed config as plain data, resolved, without Hydra's own node.

    Raises:
        ConfigError: values that were left open (``???``), interpolations that lead nowhere, or
            keys that would make Hydra call Python.
    """
    data = _written(config)
    problems = [
        Problem(path, "data: YAML here can't call Python", f"'{path.rpartition('.')[2]}'")
        for path in _calls(data, "")
    ]
    if problems:
        raise ConfigError(*problems)
    if not _is_open(data):
        return data
    with open_dict(config):
        node = DictConfig({key: config._get_node(key) for key in config if key != "hydra"})
    node._metadata.resolver_cache = config._metadata.resolver_cache  # one moment for ${now:…}
    with bounded(environment=False) as bounds:
        try:
            missing = sorted(OmegaConf.missing_keys(node))
            resolved = OmegaConf.to_container(node, resolve=True)
        except OmegaConfBaseException as error:
            path = error.full_key or "config"
            expected = "an interpolation that leads somewhere"
            raise bounds.refusal(path) or problem(path, expected, first_line(error)) from None
    if missing:
        hint = "Give it: {}=…."
        raise ConfigError(
            *(Problem(k, "a value", "nothing (???)", hint.format(k)) for k in missing)
        )
    assert isinstance(resolved, dict)
    return {str(key): value for key, value in resolved.items()}


def flat(config: Any) -> dict[str, Any]:
    """Every value by its dotted name, interpolations as written, without Hydra's own node."""
    values: dict[str, Any] = {}

    def visit(node: Any, path: str) -> None:
        if isinstance(node, dict) and node:
            for key, value in node.items():
                visit(value, join(path, str(key)))
        else:
            values[path] = node

    visit(_written(config), "")
    return values


def _written(config: Any) -> dict[str, Any]:
    """The config as it is written, without Hydra's own node."""
    return {str(key): written(config._get_node(key)) for key in config if key != "hydra"}


def _is_open(data: Any) -> bool:
    """Whether a value is an interpolation, or missing."""
    if isinstance(data, dict):
        return any(_is_open(value) for value in data.values())
    if isinstance(data, list):
        return any(_is_open(value) for value in data)
    return isinstance(data, str) and ("${" in data or data == "???")


def _calls(data: Any, path: str) -> list[str]:
    if isinstance(data, dict):
        found = [join(path, key) for key in data if key in CALLS]
        return found + [
            p for key, value in data.items() for p in _calls(value, join(path, str(key)))
        ]
    if isinstance(data, list):
        return [p for i, value in enumerate(data) for p in _calls(value, f"{path}[{i}]")]
    return []
