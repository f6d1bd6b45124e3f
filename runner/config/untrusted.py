"""YAML from folders of the user's own: read as data, within limits, whoever wrote it.

Hydra instantiates what its own ``hydra`` node names, and looks for configs wherever a path leads.
That is the right of whoever types a command, and of the configs that come with the project. Files
of an added folder (``--config-dir``, ``hydra.searchpath``) don't have it: they may be anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from hydra._internal.config_repository import CachingConfigRepository
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import OmegaConfBaseException

from runner.config.contents import SURROGATE, contents
from runner.config.errors import ConfigError, Problem, describe, first_line, problem
from runner.config.folder import ConfigFolder

LARGEST = 2**20
"""Bytes of a file; characters, when aliases are written out."""

LEVELS = 50
"""How deep values may be nested."""

MOST = 20_000
"""Values in a file, when aliases are written out: more take Hydra seconds to compose."""

INTERPOLATED = 10_000
"""Characters of all texts with interpolations: the parser of these takes seconds for more."""

DIGITS = 1_000
"""Characters of a number: reading an integer in base 60 takes the square of its length."""

LOADED = 600
"""How often files may be asked for in one composition, which asks for each two or three times."""

_ADDED = re.compile(r"command-line|hydra\.searchpath in .*")
"""Who adds folders, as Hydra calls it."""

_TYPE_IT = "What Hydra itself does is typed, never read from a file."


def guarded(sources: Sequence[ConfigSource]) -> list[ConfigSource]:
    """The same sources of configs, of which added folders are read as `AddedFolder` does."""
    return [
        AddedFolder(source.provider, source.path)
        if source.scheme() == "file" and _ADDED.fullmatch(source.provider)
        else source
        for source in sources
    ]


def check_inside(config: str) -> None:
    """Refuse a config's name that leads out of the config folders.

    Hydra joins it to each of its folders in turn, and would take what lies outside for its own.

    Raises:
        ConfigError: it does.
    """
    if ".." in PurePosixPath(config).parts or config.startswith("/"):
        hint = "Add its folder with --config-dir."
        raise problem(config, "a config in one of the config folders", "one elsewhere", hint)


def check_name(config: str, sources: Iterable[ConfigSource]) -> None:
    """Refuse a file of an added folder that has the name of a config that ships.

    That one comes first, so that the file would never be read.

    Raises:
        ConfigError: which file.
    """
    holders = [source for source in sources if source.is_config(config)]
    for other in holders[1:]:
        if isinstance(other, AddedFolder) and not isinstance(holders[0], AddedFolder):
            name = PurePosixPath(config).name
            expected, got = "a name of its own", f"'{name}', the name of a config that ships"
            hint = f"Call it my_{name}.yaml."
            raise problem(f"{other.path}/{config}.yaml", expected, got, hint)


class Bounded(CachingConfigRepository):
    """What files a composition asks for, up to a limit: a few can include each other for ever."""

    _loaded = 0

    def load_config(self, config_path: str) -> ConfigResult | None:
        """The config, read at most once.

        Raises:
            ConfigError: too many were asked for.
        """
        self._loaded += 1
        if self._loaded > LOADED:
            raise problem(config_path, "defaults that come to an end", "hundreds of configs")
        result: ConfigResult | None = super().load_config(config_path)
        return result


class AddedFolder(ConfigFolder):
    """A folder of configs that may be anybody's."""

    def load_config(self, config_path: str) -> ConfigResult:
        """One of its configs.

        Raises:
            ConfigError: it says something of Hydra's own config, or is beyond the limits.
            yaml.YAMLError: it isn't YAML.
            ValueError: it isn't text.
        """
        path = Path(self.path) / self._normalize_file_name(config_path)
        if config_path.partition("/")[0] == "hydra":
            raise problem(str(path), "a config of a run", "one of Hydra's own", _TYPE_IT)
        text = read(path)
        header = self._get_header_dict(text[:512])
        content = load(text, path)
        _check_apart(content, header["package"], path)
        return ConfigResult(
            config=OmegaConf.create(content),
            path=self.full_path(),
            provider=self.provider,
            header=header,
        )


def read(path: Path) -> str:
    """The text of a file of reasonable size.

    Raises:
        ConfigError: it is larger, or no regular file.
        ValueError: it isn't UTF-8.
    """
    try:
        return contents(path, LARGEST).decode()
    except OSError as error:
        expected = f"a file of at most {LARGEST:,} bytes"
        raise problem(str(path), expected, str(error.strerror)) from None


def load_config(path: Path) -> DictConfig:
    """The config in a file.

    Raises:
        ConfigError: it is none, or is beyond the limits.
    """
    try:
        return OmegaConf.create(load(read(path), path))
    except ConfigError:
        raise
    except (OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        raise problem(str(path), "a config", first_line(error)) from None


def load(text: str, path: Path) -> dict[str, Any]:
    """The mapping that YAML says, read as OmegaConf does; of an empty text, an empty one.

    Args:
        text: the YAML.
        path: of the file, for errors.

    Raises:
        ConfigError: no mapping, or one that is beyond the limits.
        yaml.YAMLError: it isn't YAML.
    """
    loader = _loader()(text)
    loader.name = str(path)
    try:
        node = loader.get_single_node()
        if node is None:
            return {}
        _measure(node, {}).check(path)
        content = _constructed(loader, node, path)
    except _RefusedError as error:
        raise problem(str(path), *error.args) from None
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise problem(str(path), "a mapping", describe(content))
    return content


def _constructed(loader: Any, node: yaml.Node, path: Path) -> Any:
    try:
        return loader.construct_document(node)
    except (ValueError, LookupError, TypeError, AttributeError) as error:  # !!bool x, 2020-13-45
        raise problem(str(path), "values that are what their tags say", first_line(error)) from None


class _RefusedError(Exception):
    """What was expected of a text, and what it has."""


@dataclass(frozen=True)
class _Weight:
    """What a value comes to when aliases are written out."""

    values: int = 1
    characters: int = 0
    interpolated: int = 0
    levels: int = 0

    def around(self, parts: Iterable[_Weight]) -> _Weight:
        """What a collection of values comes to."""
        values, characters, interpolated, levels = self.values, 0, 0, 0
        for part in parts:
            values += part.values
            characters += part.characters
            interpolated += part.interpolated
            levels = max(levels, part.levels)
        return _Weight(values, characters, interpolated, levels + 1)

    def check(self, path: Path) -> None:
        """Refuse what is beyond the limits.

        Raises:
            ConfigError: it is.
        """
        for limit, found, what in (
            (LEVELS, self.levels, "levels"),
            (MOST, self.values, "values"),
            (LARGEST, self.characters, "characters"),
            (INTERPOLATED, self.interpolated, "characters in texts with interpolations"),
        ):
            if found > limit:
                expected = f"at most {limit:,} {what}, aliases written out"
                got = f"{found:,}" if found < 10**9 else "billions"
                raise problem(str(path), expected, got)


def _measure(node: yaml.Node, known: dict[yaml.Node, _Weight | None]) -> _Weight:
    """What a node weighs; each is weighed once, however often an alias repeats it."""
    if node in known:
        weight = known[node]
        if weight is None:
            raise _RefusedError("aliases of what came before", "one of what it is a part of")
        return weight
    known[node] = None
    if isinstance(node, yaml.ScalarNode):
        size = len(node.value)
        weight = _Weight(1, size, size if "${" in node.value else 0)
    else:
        pairs = isinstance(node, yaml.MappingNode)
        parts = chain.from_iterable(node.value) if pairs else node.value
        weight = _Weight().around([_measure(part, known) for part in parts])
    known[node] = weight
    return weight


@cache
def _loader() -> Any:
    """OmegaConf's loader of YAML, with limits that hold while it reads."""

    class Limited(get_yaml_loader()):  # type: ignore[misc]  # a class that a function makes
        level = values = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            self.values += 1
            self.level += 1
            if self.level > LEVELS:
                raise _RefusedError(f"at most {LEVELS} levels", "more")
            if self.values > MOST:
                raise _RefusedError(f"at most {MOST:,} values", "more")
            node = super().compose_node(parent, index)
            self.level -= 1
            if node.tag.endswith((":int", ":float")) and len(node.value) > DIGITS:
                raise _RefusedError(f"numbers of at most {DIGITS:,} characters", "a longer one")
            if isinstance(node, yaml.ScalarNode) and SURROGATE.search(node.value):
                place = f"line {node.start_mark.line + 1}"
                raise _RefusedError("whole characters", f"half of one in {place}")
            return node

    return Limited


def _is_below(entry: str) -> bool:
    """Whether an entry's package is below a node that isn't Hydra's: ``layers.hydra`` is a layer.

    Words such as ``_global_`` stand for something else wherever they are in a package.
    """
    group, _, package = entry.partition("@")
    inner = re.fullmatch(r"([A-Za-z]\w*)\.[A-Za-z]\w*(\.[A-Za-z]\w*)*", package, re.ASCII)
    if inner is None or re.search("_(global|group|here|name)_", package):
        return False
    return "hydra" not in group and "hydra" not in inner[1]


def _check_apart(content: dict[str, Any], package: str | None, path: Path) -> None:
    """Refuse what a file says of Hydra's own config.

    Raises:
        ConfigError: it does.
    """
    found = [str(key) for key in content if str(key).partition(".")[0] == "hydra"]
    if package is not None and "hydra" in package:
        found.append(f"# @package {package}")
    defaults = content.get("defaults")
    for entry in defaults if isinstance(defaults, list) else []:
        keys = map(str, entry if isinstance(entry, dict) else [entry])
        # A choice of hydra/launcher is one of a menu; a package could be any node.
        found += [k for k in keys if "@" in k and "hydra" in k and not _is_below(k)]
    if found:
        expected = "nothing of Hydra's own config"
        raise ConfigError(*(Problem(str(path), expected, f"'{one}'", _TYPE_IT) for one in found))
