"""The configs of a sweep's jobs: composed as Hydra composes them, in a fraction of its time."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from hydra.core.override_parser.types import OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig

from runner import signals
from runner.config.compose import Composed, Composer
from runner.config.errors import ConfigError
from runner.config.loader import REMEMBERED
from runner.config.nodes import put
from runner.config.overrides import parse
from runner.config.process import refer_to


class SweepComposer:
    """Composes the jobs of one sweep.

    What jobs have in common is composed once (`runner.config.loader`). Configs are independent of
    each other, except that ``${now:…}`` is the same moment in all of them.
    """

    def __init__(self, composer: Composer) -> None:
        """Begin a sweep.

        Args:
            composer: knows the config folders and the primary config.
        """
        self._composer = composer
        self._moment: dict[str, Any] | None = None
        self._mended: dict[tuple[str, ...], set[int]] = {}

    def compose(
        self, overrides: Sequence[str], *, number: int | None = None, draft: bool = False
    ) -> Composed:
        """The config of one job; ``${hydra:…}`` refers to it until the next one is composed.

        Args:
            overrides: of the job, those of Hydra's own config included.
            number: of the job in the sweep, which becomes its ``hydra.job.num`` and
                ``hydra.job.id``, as with Hydra's launchers.
            draft: whether a draft will do, which `finish` makes the config of; whatever can't be
                one is composed whole.

        Raises:
            ConfigError: nothing could be composed.
        """
        composed = self._compose(overrides, draft)
        config = composed.config
        if self._moment is None:
            self._moment = config._metadata.resolver_cache
        # Shared, not copied: what one job resolves first, the others find.
        config._metadata.resolver_cache = self._moment
        if composed.draft is None and number is not None:
            _tell_number(config, number)
        return composed

    @signals.heard()
    def finish(self, composed: Composed, more: Sequence[str], number: int) -> DictConfig:
        """The config of a job that a draft was made of.

        Args:
            composed: the draft.
            more: overrides of Hydra's own config, which come first.
            number: of the job in the sweep.
        """
        assert composed.draft is not None
        config = composed.draft.finished(self._composer.name, [*more, *composed.overrides])
        assert self._moment is not None
        config._metadata.resolver_cache = self._moment
        _tell_number(config, number)
        refer_to(config)
        return config

    def _compose(self, overrides: Sequence[str], draft: bool) -> Composed:
        """Compose; what had to be mended in a job of the same shape is mended beforehand."""
        shape = tuple(map(_shape, overrides))
        if known := self._mended.get(shape):
            usable = [f"++{text}" if i in known else text for i, text in enumerate(overrides)]
            with suppress(ConfigError):
                composed = self._composer.compose(usable, draft=draft)
                if composed.overrides == usable and not composed.problems:
                    return composed
        composed = self._composer.compose(overrides, draft=draft)
        if composed.mended and not composed.problems:
            if len(self._mended) >= REMEMBERED:
                self._mended.clear()
            mended = set(composed.mended) - set(overrides)
            self._mended[shape] = {i for i, text in enumerate(overrides) if f"++{text}" in mended}
        return composed


def _tell_number(config: DictConfig, number: int) -> None:
    put(config, "hydra.job.id", str(number))
    put(config, "hydra.job.num", number)


def _shape(text: str) -> str:
    """An override without its value, where that can't matter to whether keys are there."""
    try:
        override = parse(text)
    except HydraException:
        return text
    plain = override.type == OverrideType.CHANGE and type(override.value()) in (int, float)
    return f"{override.get_key_element()}=" if plain else text
