"""Hydra's config loader, with a memory: what jobs of a sweep have in common is composed once.

Hydra composes a config in two parts. First it merges the files that the chosen config groups name,
which takes nearly all of the time; then it applies the values, and fills in its own ``hydra`` node.
Here the result of the first part is remembered for every choice of groups, and each config starts
from a copy of it. The second part is done for each config in the order of Hydra 1.3, values by its
own code, so that the config is the one that Hydra composes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import (
    CachingConfigRepository,
    ConfigRepository,
    IConfigRepository,
)
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner.config.base import Base, Draft, tell_job
from runner.config.copies import Mold
from runner.config.errors import first_line, problem
from runner.config.overrides import parse
from runner.config.untrusted import Bounded, check_inside, check_name, guarded

REMEMBERED = 256
"""How many choices of config groups are remembered: at most some 40 MB."""


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
        self._bases: dict[tuple[Any, ...], Base | Exception] = {}

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
        if run_mode == RunMode.MULTIRUN:
            values = [value for value in values if _applies(base, value)]
        config = base.config(values)
        tell_job(config, config_name, parsed)
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
    ) -> tuple[Base, list[Override], list[Override]]:
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

    def _remembered(self, key: tuple[Any, ...], compose: Callable[[], Base]) -> Base:
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
    ) -> Base:
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
        return Base(config, found.overrides.known_choices, repository.get_sources())


def _applies(base: Base, value: Override) -> bool:
    """Whether a value can be applied; where a sweep swaps groups, some suit what jobs choose alone.

    A sweep's own config is asked for its ``hydra`` node, whose values must apply.
    """
    if value.is_hydra_override():
        return True
    try:
        base.config([value])
    except (HydraException, OmegaConfBaseException):
        return False
    return True
