"""Single values of a config, read and written without OmegaConf's checks, which take far longer.

For what is asked of every job of a sweep, and known to be there.
"""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf


def node_at(config: Any, path: str) -> Any:
    """The node at a path, or None where there is none; interpolations are not followed."""
    node = config
    for key in path.split("."):
        content = node.__dict__.get("_content")  # a value has none
        if not isinstance(content, dict) or key not in content:
            return None
        node = content[key]
    return node


def read(config: Any, path: str) -> Any:
    """The value at a path, or None where there is none; an interpolation's is what it leads to.

    Raises:
        OmegaConfBaseException: it leads nowhere.
    """
    node = node_at(config, path)
    value = None if node is None else node._value()
    if isinstance(value, dict | list):
        return node
    is_plain = node is not None and not (isinstance(value, str) and ("${" in value or "?" in value))
    return value if is_plain else OmegaConf.select(config, path)


def put(config: Any, path: str, value: Any) -> None:
    """Replace the value of a node that is there, whether the config is read-only or not.

    Raises:
        ValidationError: it is none of the node's type.
    """
    node = node_at(config, path)
    node.__dict__["_val"] = node.validate_and_convert(value)
