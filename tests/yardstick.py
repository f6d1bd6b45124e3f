"""Hydra's own composition, which takes each config from scratch, beside this project's.

Compared are values, flags, types and all else that OmegaConf keeps of every node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from runner.config.compose import Composed, Composer
from runner.config.errors import ConfigError
from runner.sweep.composition import SweepComposer


def nodes(node: Any, path: str = "") -> Iterator[tuple[Any, ...]]:
    """All that OmegaConf keeps of each node."""
    kept = {k: v for k, v in vars(node._metadata).items() if k != "resolver_cache"}
    content = node.__dict__.get("_content")
    leaf = None if isinstance(content, dict | list) else node._value()
    yield path, type(node).__name__, kept, type(leaf), leaf
    children = content.items() if isinstance(content, dict) else enumerate(content or ())
    if isinstance(content, dict | list):
        for key, child in children:
            yield from nodes(child, f"{path}.{key}")


def resolved(config: DictConfig) -> dict[str, Any]:
    """Every entry with its interpolations resolved; of those that lead nowhere, the error."""
    found: dict[str, Any] = {}
    places = [(config, key) for key in config if key != "hydra"]
    # Parsing the help texts' dollar signs would take most of the time.
    of_hydra = [(config.hydra, key) for key in config.hydra if not key.endswith("help")]
    for node, key in places + of_hydra:
        try:
            value = OmegaConf.select(node, key)
            is_config = isinstance(value, DictConfig | ListConfig)
            found[node._get_full_key(key)] = (
                OmegaConf.to_container(value, resolve=True) if is_config else value
            )
        except OmegaConfBaseException as error:
            found[node._get_full_key(key)] = str(error)
    return found


class ReadOnce(ConfigRepository):
    """The project's files, each read once: that takes half of Hydra's time."""

    results: ClassVar[dict[str, Any]] = {}

    def load_config(self, config_path: str) -> Any:
        if config_path not in self.results:
            self.results[config_path] = super().load_config(config_path)
        return deepcopy(self.results[config_path])


class Yardstick:
    """Hydra's own composition, and this project's, over the same folders."""

    def __init__(
        self, config_dir: Path | None = None, name: str = "config", quick: bool = False
    ) -> None:
        self.composer = Composer(config_dir, name)
        self.sweep = SweepComposer(self.composer)
        self.reference = Composer(config_dir, name)
        self.hydra = ConfigLoaderImpl(self.composer.hydra.config_loader.get_search_path())
        if quick:
            self.hydra.repository = ReadOnce(self.hydra.config_search_path)
        self.reference.hydra.config_loader = self.hydra
        self.quick = quick
        self.masters: dict[tuple[str, ...], DictConfig] = {}
        self.numbers = iter(range(10**6))
        self.drafted = 0

    def close(self) -> None:
        self.reference.__exit__()
        self.composer.__exit__()

    def launched(self, overrides: Sequence[str], number: int) -> DictConfig:
        """The config that Hydra's basic launcher gives a job."""
        name = self.composer.name
        first = tuple(o for o in overrides if o.lstrip("+~").startswith(("hydra.", "hydra/")))
        if first not in self.masters:
            self.masters[first] = self.hydra.load_configuration(name, list(first), RunMode.MULTIRUN)
        # Hydra puts its own overrides first, as a sweep's jobs are given here.
        config: DictConfig = self.hydra.load_sweep_config(
            self.masters[first], [o for o in overrides if o not in first]
        )
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        return config

    def check_draft(
        self, overrides: Sequence[str], number: int, whole: Composed, values: dict[str, Any]
    ) -> None:
        """Compose a job as a sweep does: a draft first, from which others are made, too."""
        drafts = [self.sweep.compose(overrides, number=number, draft=True) for _ in range(2)]
        for composed in drafts:
            assert (composed.overrides, composed.problems) == (whole.overrides, whole.problems)
        for composed in drafts:
            if composed.draft is not None:
                self.drafted += 1
                config = self.sweep.finish(composed, [], number)
                assert list(nodes(config)) == list(nodes(whole.config))
        if composed.draft is not None:
            assert resolved(config) == values

    def check(self, *overrides: str) -> None:
        """Compose a job both ways, and compare."""
        number = next(self.numbers)
        try:
            got: Composed | ConfigError = self.sweep.compose(overrides, number=number)
            again = self.sweep.compose(overrides, number=number)  # all of it from memory
            assert list(nodes(again.config)) == list(nodes(got.config))
            ours = resolved(again.config)
            self.check_draft(overrides, number, got, ours)
        except ConfigError as error:
            got = error
        if isinstance(got, ConfigError) or got.problems:
            try:
                want: Composed | ConfigError = self.reference.compose(overrides)
            except ConfigError as error:
                want = error
            assert type(got) is type(want)
            assert got.problems == want.problems
            if isinstance(got, ConfigError):
                return
            assert isinstance(want, Composed)
            assert got.overrides == want.overrides
        config = self.launched(got.overrides, number)
        HydraConfig.instance().set_config(config)
        OmegaConf.copy_cache(from_config=got.config, to_config=config)  # the moment of ${now:…}
        assert list(nodes(got.config)) == list(nodes(config))
        assert self.quick or got.config == config  # slow, and implied by the two others
        assert ours == resolved(config)
