"""Where a run's measurements go; this file is the contract.

A tracker takes numbers, pictures and text as plain Python and NumPy. `runner.tracking.files`
writes them where scripts read them, `runner.tracking.tensorboard` where people look at them,
`runner.tracking.memory` keeps them for tests and notebooks.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from runner.tracking.columns import Column

logger = logging.getLogger(__name__)


class Tracker:
    """Takes what a run measures. Every method may be left as it is: then it takes nothing."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers of one step, by tag: ``train/loss``."""

    def image(self, tag: str, picture: Image, step: int = 0) -> None:
        """A picture, ready to be looked at."""

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int = 0) -> None:
        """The distribution of many numbers."""

    def text(self, tag: str, markdown: str) -> None:
        """Text to be read beside the curves."""

    def hparams(self, parameters: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        """What the run was given, for comparing runs. Once, before anything is measured.

        Args:
            parameters: values by name.
            columns: of the table in which the runs of a sweep are compared; none of a single run.
        """

    def outcome(self, metrics: Mapping[str, float] | None) -> None:
        """What came out, for comparing runs, or None if the run failed. Once, at the end.

        The metrics' tags must have been given to `scalars`.
        """

    def rewind(self, step: int) -> None:
        """Forget the scalars of all steps but 1 to `step`: a resumed run measures them again.

        Called before anything is given; `step` is what `Task.reached` answers, 0 to forget all.
        """

    def close(self) -> None:
        """Write what is still held back."""


class Trackers(Tracker):
    """Several trackers as one.

    Looking at a run must not end it: what one tracker can't take is logged as a warning, once per
    kind of call, and the run goes on. A tracker that is `vital` raises.
    """

    def __init__(self, vital: Tracker, others: Sequence[Tracker] = ()) -> None:
        self.vital, self.others = vital, others
        self._warned: set[tuple[int, str]] = set()

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Pass on."""
        self.vital.scalars(values, step)
        self._each("scalars", values, step)

    def image(self, tag: str, picture: Image, step: int = 0) -> None:
        """Pass on."""
        self.vital.image(tag, picture, step)
        self._each("image", tag, picture, step)

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int = 0) -> None:
        """Pass on."""
        self._each("histogram", tag, values, step)

    def text(self, tag: str, markdown: str) -> None:
        """Pass on."""
        self._each("text", tag, markdown)

    def hparams(self, parameters: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        """Pass on."""
        self._each("hparams", parameters, columns)

    def outcome(self, metrics: Mapping[str, float] | None) -> None:
        """Pass on."""
        self._each("outcome", metrics)

    def rewind(self, step: int) -> None:
        """Pass on."""
        self.vital.rewind(step)
        self._each("rewind", step)

    def close(self) -> None:
        """Pass on."""
        self._each("close")
        self.vital.close()

    def _each(self, method: str, *arguments: Any) -> None:
        for i, tracker in enumerate(self.others):
            try:
                getattr(tracker, method)(*arguments)
            except Exception as error:
                if (i, method) not in self._warned:
                    self._warned.add((i, method))
                    name = type(tracker).__name__
                    logger.warning("%s could not take %s: %s", name, method, error)
