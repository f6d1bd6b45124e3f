"""What a choice of config groups composes to, and the configs that are made of it.

The second part of Hydra's composition, in the order of Hydra 1.3: values are applied, by Hydra's
own code, and the ``hydra`` node is filled in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import hydra
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.conf import ConfigSourceInfo
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigSource
from omegaconf import DictConfig, ListConfig, StringNode, open_dict

from runner.config.copies import Mold, half_twin, twin
from runner.config.errors import problem
from runner.config.nodes import node_at, put, read
from runner.config.overrides import parse

KEPT = 256
"""How many variants of the ``hydra`` node are kept, of each choice."""

OF_THE_JOB = ("job", "overrides", "runtime")
"""Entries of the ``hydra`` node that say something of the very job."""


class Base:
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
        apart = self.is_apart(values)
        config: DictConfig = twin(self._ready) if apart else self._bare.cast()
        ConfigLoaderImpl._apply_overrides_to_config(list(values), config)
        if not apart:
            self._tell_runtime(config)
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
            if len(self._of_hydra) >= KEPT:
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

    def __init__(self, base: Base, values: Sequence[Override]) -> None:
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
        tell_job(config, config_name, parsed)
        return config


def _concerns_runtime(override: Override) -> bool:
    """Whether an override could read or write ``hydra.runtime``: yes, if in doubt.

    Additions and deletions look at what is there, which may be an interpolation.
    """
    text = override.input_line or ""
    if override.is_hydra_override():
        return "runtime" in text or text.startswith(("+", "~"))
    return "runtime" in text or "hydra" in text


def tell_job(config: DictConfig, config_name: str | None, parsed: Sequence[Override]) -> None:
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
