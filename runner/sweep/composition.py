"""The configs of a sweep's jobs: composed as Hydra composes them, in a fraction of its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from omegaconf import read_write

from runner.config.compose import Composed, Composer


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

    def compose(self, overrides: Sequence[str], *, number: int | None = None) -> Composed:
        """The config of one job; ``${hydra:…}`` refers to it until the next one is composed.

        Args:
            overrides: of the job, those of Hydra's own config included.
            number: of the job in the sweep, which becomes its ``hydra.job.num`` and
                ``hydra.job.id``, as with Hydra's launchers.

        Raises:
            ConfigError: nothing could be composed.
        """
        composed = self._composer.compose(overrides)
        config = composed.config
        if self._moment is None:
            self._moment = config._metadata.resolver_cache
        # Shared, not copied: what one job resolves first, the others find.
        config._metadata.resolver_cache = self._moment
        if number is not None:
            with read_write(config.hydra):
                job = config.hydra.job
                job.id, job.num = str(number), number
        return composed
