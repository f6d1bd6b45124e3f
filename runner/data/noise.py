"""Noise: independent random numbers, for what must hold whatever the input is."""

from __future__ import annotations

from pydantic import model_validator

from runner.config.errors import problem
from runner.config.fields import Count
from runner.data import Data, Images
from runner.data._fields import Seed
from runner.geometry import Shape


class Noise(Data):
    """Every number of every channel is drawn by itself.

    Attributes:
        channels: of each image.
        height: in pixels.
        width: in pixels.
        low: the least that is drawn.
        high: numbers are uniform from `low` up to this.
        images: how many.
        seed: where the random numbers start; ``${seed}`` follows the run's.
    """

    channels: Count = 1
    height: Count = 16
    width: Count = 16
    low: float = 0.0
    high: float = 1.0
    images: Count = 1
    seed: Seed = 0

    @model_validator(mode="after")
    def _low_comes_first(self) -> Noise:
        if self.low > self.high:
            raise problem("high", f"at least low ({self.low:g})", f"{self.high:g}")
        return self

    def shape(self) -> Shape:
        """As given."""
        return Shape(self.channels, self.height, self.width)

    def count(self) -> int:
        """As given."""
        return self.images

    def load(self) -> Images:
        """The images."""
        import numpy as np  # here, so that planning doesn't wait for it

        generator = np.random.default_rng(self.seed)
        x = generator.uniform(self.low, self.high, (self.images, *self.shape().dims))
        return Images(x, note=f"noise from {self.low:g} to {self.high:g}")
