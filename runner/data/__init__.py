"""One file per data source; this file is the contract they fulfil.

A source is a spec that knows the shape of its images before it reads or makes them, so that a
stack can be planned first. Images are NumPy arrays; the run turns them into tensors on its device.
To add a source, add a file that defines one `Data`: ``kind: name`` finds ``runner/data/name.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.config.spec import Kind
from runner.geometry import Shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Images:
    """What a source gives.

    Attributes:
        x: n × c × h × w, float64. Pixels lie within 0 (black) and 1 (white); numbers written in
            YAML are as written.
        labels: class of each image, n integers, or None.
        classes: names of the classes; empty when there are no labels.
        regions: n × h × w integers, or None: where two neighbouring pixels differ, there is an
            edge. Only synthetic images know theirs.
        note: one line on what the pixels are, for the terminal and the log.
    """

    x: NDArray[np.float64]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    regions: NDArray[Any] | None = None
    note: str = field(default="")


class Data(Kind, ABC):
    """Where a run's input comes from, as YAML describes it."""

    @abstractmethod
    def shape(self) -> Shape:
        """Channels, height and width of one image. Cheap: at most a file's header is read.

        Raises:
            ConfigError: there is no such data; paths are relative to the source.
        """

    def count(self) -> int:
        """How many images there are. Cheap, as `shape`."""
        return 1

    @abstractmethod
    def load(self) -> Images:
        """Read or make the images.

        Raises:
            ConfigError: what was found isn't what was asked for.
        """
