"""The folder is the registry: ``kind: conv`` names ``runner/layers/conv.py``.

A menu is a package whose public modules are its entries, each defining one class of the menu's
contract. Names are looked up in the folder's listing only, so a config can't reach other code,
and adding an entry is adding a file. Modules whose name starts with an underscore are shared
helpers, not entries.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from pathlib import Path
from typing import TypeVar

from runner.config.errors import did_you_mean, one_of, problem

T = TypeVar("T")


def names(package: str) -> list[str]:
    """The entries of a menu, sorted, without importing any of them."""
    folders = importlib.import_module(package).__path__
    # A deep stack asks hundreds of times; a folder that changed is listed anew.
    return list(_listed(tuple((folder, Path(folder).stat().st_mtime_ns) for folder in folders)))


@cache
def _listed(folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    found = (module.name for module in pkgutil.iter_modules([folder for folder, _ in folders]))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def require(package: str, name: str, path: str = "kind") -> None:
    """Check that a menu has an entry.

    Raises:
        ConfigError: it has none of that name; the answer lists the entries and the nearest one.
    """
    options = names(package)
    if name not in options:
        raise problem(path, one_of(options), f"'{name}'", did_you_mean(name, options))


def find(package: str, name: str, contract: type[T]) -> type[T] | None:
    """The class of a menu's entry that fulfils `contract`, or None if the entry has none.

    Raises:
        ConfigError: the menu has no such entry.
        TypeError: the entry defines more than one such class.
    """
    require(package, name)
    module = importlib.import_module(f"{package}.{name}")
    found = [
        member
        for member in vars(module).values()
        if inspect.isclass(member)
        and issubclass(member, contract)
        and member.__module__.startswith(module.__name__)
        and not member.__name__.startswith("_")
    ]
    if len(found) > 1:
        raise TypeError(f"{module.__name__} defines {len(found)} {contract.__name__}s, not one")
    return found[0] if found else None


def load(package: str, name: str, contract: type[T]) -> type[T]:
    """The class of a menu's entry.

    Raises:
        ConfigError: the menu has no such entry.
        TypeError: the entry defines no class of the contract, or more than one.
    """
    entry = find(package, name, contract)
    if entry is None:
        raise TypeError(
            f"{package}.{name} defines no {contract.__name__}; "
            f"the first lines of {package.replace('.', '/')}/__init__.py say what it must define"
        )
    return entry
