"""Hydra's config loader, with a memory: what jobs of a sweep have in common is composed once.

Hydra composes a config in two parts. First it merges the files that the chosen config groups name,
which takes nearly all of the time; then it applies the values, and fills in its own ``hydra`` node.
Here the result of the first part is remembered for every choice of groups, and each config starts
from a copy of it. The second part is done for each config in the order of Hydra 1.3, values by its
own code, so that the config is the one that Hydra composes.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import (
    CachingConfigRepository,
    ConfigRepository,
    IConfigRepository,
)
from hydra._internal.defaults_list import create_defaults_list
from hydra.conf import ConfigSourceInfo
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, StringNode, open_dict

from runner.config.copies import Mold, half_twin, twin
from runner.config.errors import first_line, problem
from runner.config.limits import check_override
from runner.config.nodes import node_at, put, read
from runner.config.untrusted import Bounded, check_inside, check_name, guarded

REMEMBERED = 256
"""How many choices of config groups are remembered: at most some 40 MB."""

OF_THE_JOB = ("job", "overrides", "runtime")
"""Entries of the ``hydra`` node that say something of the very job."""

NUMBER = re.compile(
    r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)=(?:(0|-?[1-9]\d*)|(-?(?:0|[1-9]\d*)\.\d+))", re.ASCII
)
"""Overrides that jobs of a sweep mostly differ in, and that need no grammar: ``seed=5``."""


@lru_cache(maxsize=1024)
def parse(text: str) -> Override:
    """An override as Hydra's grammar reads it; it is shared, and not to be changed.

    Raises:
        ConfigError: it is too long or too deep to be read.
        OverrideParseException: it can't be read.
    """
    check_override(text)
    if number := NUMBER.fullmatch(text):
        key, whole, real = number.groups()
        value = float(real) if whole is None else int(whole)
        return Override(OverrideType.CHANGE, key, ValueType.ELEMENT, value, input_line=text)
    (override,) = OverridesParser.create().parse_overrides([text])
    return override


class _Files(ConfigRepository):
    """The files of the search path, each read once.

    Whoever loads a file gets a copy of its own, because merging changes it.
    """

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources = guarded(self.sources)
        self._read: dict[str, Mold] = {}
        self._groups: dict[str, bool] = {}
        self._options: dict[tuple[str, ObjectType | None], list[str]] = {}

    def __deepcopy__(self, memo: Any) -> _Files:
        """Hydra copies the repository for each composition, to change its sources as a whole."""
        twin = object.__new__(_Files)
        twin.__dict__.update(self.__dict__)
        return twin

    def load_config(self, config_path: str) -> ConfigResult | None:
        check_inside(config_path)
        if config_path not in self._read:
            check_name(config_path, self.sources)
            self._read[config_path] = Mold(super().load_config(config_path))
        result: ConfigResult | None = self._read[config_path].cast()
        return result

    def group_exists(self, config_path: str) -> bool:
        if config_path not in self._groups:
            self._groups[config_path] = super().group_exists(config_path)
        return self._groups[config_path]

    def get_group_options(
        self, group_name: str, results_filter: ObjectType | None = ObjectType.CONFIG
    ) -> list[str]:
        key = (group_name, results_filter)
        if key not in self._options:
            self._options[key] = super().get_group_options(group_name, results_filter)
        return list(self._options[key])


class _Base:
    """What a choice of config groups composes to, before values are applied."""

    def __init__(
        self,
        config: DictConfig,
        choices: Mapping[str, str | None],
        sources: Sequence[ConfigSource],
    ) -> None:
        """Keep it.

        Args:
            config: what the groups compose to.
            choices: what was chosen of each group.
            sources: the folders that configs come from.
        """
        self._choices = choices
        self._sources = [ConfigSourceInfo(s.path, s.scheme(), s.provider) for s in sources]
        texts = {str(key): str(config._get_node(key)) for key in config if key != "hydra"}
        told = str(texts)
        self._refers = "runtime" in told or "hydra" in told or "runtime}" in str(config.hydra)
        self._interpolated = {key for key, text in texts.items() if "${" in text}
        self._bare = Mold(config)
        self._tell_runtime(config)
        self._ready = config
        self._of_hydra: dict[tuple[str | None, ...], DictConfig] = {}

    def config(self, values: Sequence[Override]) -> DictConfig:
        """A new config with the values, and with its ``hydra.runtime`` filled in.

        Most of the time would go into the latter, which is the same for every job, unless a value
        is put there or taken from there.
        """
        if not self.is_apart(values):
            config: DictConfig = self._bare.cast()
            ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
            self._tell_runtime(config)
        else:
            config = twin(self._ready)
            ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
        return config

    def is_apart(self, values: Sequence[Override]) -> bool:
        """Whether the ``hydra`` node and the rest can be made one without the other."""
        return not (self._refers or any(_concerns_runtime(override) for override in values))

    def draft(self, values: Sequence[Override]) -> DictConfig:
        """A config with the values; entries that no value touches are those of other drafts."""
        of_task = [override for override in values if not override.is_hydra_override()]
        touched = {re.split(r"[.\[]", override.key_or_group)[0] for override in of_task}
        config: DictConfig = half_twin(self._ready, touched | self._interpolated)
        ConfigLoaderImpl._apply_overrides_to_config(of_task, config)
        config.__dict__["_content"]["hydra"] = self.hydra(values)
        return config

    def hydra(self, values: Sequence[Override]) -> DictConfig:
        """The ``hydra`` node with the values, as far as it is the same for all such jobs."""
        of_hydra = [override for override in values if override.is_hydra_override()]
        key = tuple(override.input_line for override in of_hydra)
        if key not in self._of_hydra:
            if len(self._of_hydra) >= REMEMBERED:
                del self._of_hydra[next(iter(self._of_hydra))]
            config = twin(self._ready)
            ConfigLoaderImpl._apply_overrides_to_config(of_hydra, config)
            self._of_hydra[key] = config._get_node("hydra")
        return self._of_hydra[key]

    def _tell_runtime(self, config: DictConfig) -> None:
        runtime = config.hydra.runtime
        with open_dict(config.hydra):
            runtime.choices.update(self._choices)
        runtime.version = hydra.__version__
        runtime.version_base = version.getbase()
        runtime.cwd = str(Path.cwd())
        runtime.config_sources = self._sources


class Draft:
    """A config whose ``hydra`` node doesn't say yet which job it is: what is kept of a job.

    Attributes:
        config: entries that no override touches, and the ``hydra`` node, are shared with other
            drafts, and not to be changed.
    """

    def __init__(self, base: _Base, values: Sequence[Override]) -> None:
        self._base, self.config = base, base.draft(values)

    def finished(self, config_name: str | None, overrides: Sequence[str]) -> DictConfig:
        """The config as it is composed whole; what it shares with others is still shared.

        Interpolations in its ``hydra`` node are right until another draft is finished.

        Args:
            config_name: of the primary config.
            overrides: those that the draft was made from, and maybe more of ``hydra``.
        """
        parsed = [parse(text) for text in overrides]
        config: DictConfig = half_twin(self.config, ())
        of_hydra = self._base.hydra([o for o in parsed if o.key_or_group.startswith("hydra.")])
        hydra = half_twin(of_hydra, OF_THE_JOB, config, adopt=True)
        config.__dict__["_content"]["hydra"] = hydra
        _tell_job(config, config_name, parsed)
        return config


def _concerns_runtime(override: Override) -> bool:
    """Whether an override could read or write ``hydra.runtime``: yes, if in doubt.

    Additions and deletions look at what is there, which may be an interpolation.
    """
    text = override.input_line or ""
    if override.is_hydra_override():
        return "runtime" in text or text.startswith(("+", "~"))
    return "runtime" in text or "hydra" in text


class Loader(ConfigLoaderImpl):
    """Loads configs as Hydra does, and remembers what choices of config groups compose to.

    Files are read once: changes made to them later aren't seen.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        """Start with an empty memory.

        Args:
            search_path: where configs are.
        """
        super().__init__(search_path)
        self.repository = _Files(search_path)
        self._repositories: dict[tuple[str | None, str | None], CachingConfigRepository] = {}
        self._bases: dict[tuple[Any, ...], _Base | Exception] = {}

    def _load_configuration_impl(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """The same steps, in the same order, as in the class that this one inherits from."""
        base, parsed, values = self._parts(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )
        config = base.config(values)
        _tell_job(config, config_name, parsed)
        return config

    def draft(self, config_name: str | None, overrides: list[str]) -> Draft | None:
        """A draft of a config, or None where it has to be composed as a whole.

        Raises:
            HydraException: and others that composition raises.
        """
        base, _, values = self._parts(config_name, overrides, RunMode.RUN)
        return Draft(base, values) if base.is_apart(values) else None

    def _parts(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> tuple[_Base, list[Override], list[Override]]:
        """What the choice of groups composes to, all overrides, and those that are values."""
        self.ensure_main_config_source_available()
        parsed = [parse(text) for text in overrides]
        searched = next(
            (o.input_line for o in parsed if o.get_key_element() == "hydra.searchpath"), None
        )
        files = self._searched(config_name, parsed, searched)
        if validate_sweep_overrides:
            self.validate_sweep_overrides_legal(parsed, run_mode, from_shell)
        groups: list[Override] = []
        values: list[Override] = []
        for override in parsed:
            if override.is_sweep_override():
                continue
            is_group = files.group_exists(override.key_or_group)
            is_group &= not isinstance(override.value(), dict)
            (groups if is_group else values).append(override)
        what = (config_name, run_mode, searched, Path.cwd(), *(o.input_line for o in groups))
        base = self._remembered(
            what, lambda: self._compose(config_name, groups, run_mode, files.delegate)
        )
        return base, parsed, values

    def _searched(
        self, config_name: str | None, parsed: list[Override], searched: str | None
    ) -> CachingConfigRepository:
        """The files of the search path, which the primary config and an override can extend."""
        key = (config_name, searched)
        if key not in self._repositories:
            files = CachingConfigRepository(self.repository)
            with warnings.catch_warnings(record=True) as told:  # of folders that aren't there
                warnings.simplefilter("always")
                self._process_config_searchpath(config_name, parsed, files)
            for one in told:
                got = f"'{first_line(one.message)}'"  # type: ignore[arg-type]  # it is a warning
                raise problem("hydra.searchpath", "folders that are there", got)
            self._repositories[key] = files
        return self._repositories[key]

    def _remembered(self, key: tuple[Any, ...], compose: Callable[[], _Base]) -> _Base:
        """What a choice of groups composes to.

        Raises:
            Exception: it can't be composed; for each job with that choice the same one.
        """
        if key not in self._bases:
            if len(self._bases) >= REMEMBERED:
                del self._bases[next(iter(self._bases))]
            try:
                self._bases[key] = compose()
            except Exception as error:
                self._bases[key] = error
        base = self._bases[key]
        if isinstance(base, Exception):
            raise base.with_traceback(None)
        return base

    def _compose(
        self,
        config_name: str | None,
        groups: list[Override],
        run_mode: RunMode,
        files: IConfigRepository,
    ) -> _Base:
        # Merging changes what was loaded, so each composition loads its own.
        repository = Bounded(files)
        found = create_defaults_list(
            repo=repository,
            config_name=config_name,
            overrides_list=groups,
            prepend_hydra=True,
            skip_missing=run_mode == RunMode.MULTIRUN,
        )
        config = self._compose_config_from_defaults_list(found.defaults, repository)
        OmegaConf.set_struct(config, True)
        OmegaConf.set_readonly(config.hydra, False)
        return _Base(config, found.overrides.known_choices, repository.get_sources())


def _tell_job(config: DictConfig, config_name: str | None, parsed: Sequence[Override]) -> None:
    """Fill in what the ``hydra`` node says about this very job."""
    of_task = [o for o in parsed if not o.is_hydra_override()]
    _extend(node_at(config, "hydra.overrides.task"), of_task)
    _extend(node_at(config, "hydra.overrides.hydra"), [o for o in parsed if o.is_hydra_override()])
    if copied := read(config, "hydra.job.env_copy"):
        with open_dict(config.hydra):
            for key in copied:
                if key not in os.environ:
                    expected = "variables of the environment"
                    raise problem("hydra.job.env_copy", expected, f"'{key}'")
                config.hydra.job.env_set[key] = os.environ[key]
    if read(config, "hydra.job.name") is None and "name" not in config.hydra.job:
        put(config, "hydra.job.name", JobRuntime.instance().get("name"))
    style = {
        name: read(config, f"hydra.job.config.override_dirname.{name}")
        for name in ("kv_sep", "item_sep", "exclude_keys")
    }
    told = get_overrides_dirname(overrides=of_task, **style)
    put(config, "hydra.job.override_dirname", told)
    put(config, "hydra.job.config_name", config_name)


def _extend(told: ListConfig, overrides: Sequence[Override]) -> None:
    """Append overrides as ``ListConfig.append`` does, without a look at each one's type."""
    content = told.__dict__["_content"]
    for override in overrides:
        content.append(StringNode(override.input_line, len(content), told, is_optional=False))
