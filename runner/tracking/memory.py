"""A tracker that remembers, for tests and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.tracking import Tracker

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from runner.tracking.columns import Column


class Memory(Tracker):
    """Keeps everything it is given.

    Attributes:
        history: per scalar tag, the steps and their values.
        images: per tag, the steps and their pictures.
        histograms: per tag, the steps and their numbers.
        texts: per tag, the text.
        parameters: of `hparams`.
        metrics: of `outcome`.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[tuple[int, float]]] = {}
        self.images: dict[str, list[tuple[int, Image]]] = {}
        self.histograms: dict[str, list[tuple[int, NDArray[np.floating[Any]]]]] = {}
        self.texts: dict[str, str] = {}
        self.parameters: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append to `history`."""
        for tag, value in values.items():
            self.history.setdefault(tag, []).append((step, value))

    def image(self, tag: str, picture: Image, step: int = 0) -> None:
        """Append to `images`."""
        self.images.setdefault(tag, []).append((step, picture))

    def histogram(self, tag: str, values: NDArray[np.floating[Any]], step: int = 0) -> None:
        """Append to `histograms`."""
        self.histograms.setdefault(tag, []).append((step, values))

    def text(self, tag: str, markdown: str) -> None:
        """Put into `texts`."""
        self.texts[tag] = markdown

    def hparams(self, parameters: Mapping[str, Any], columns: Mapping[str, Column]) -> None:
        """Put into `parameters`."""
        self.parameters.update(parameters)

    def outcome(self, metrics: Mapping[str, float] | None) -> None:
        """Put into `metrics`."""
        self.metrics.update(metrics or {})
