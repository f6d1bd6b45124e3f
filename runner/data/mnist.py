"""MNIST, 70000 handwritten digits, from files that you have downloaded."""

from __future__ import annotations

from typing import ClassVar

from runner.data._idx import Idx


class Mnist(Idx):
    """LeCun, Cortes and Burges' digits of 28 × 28 pixels; the fields are `Idx`'s."""

    CLASSES: ClassVar[tuple[str, ...]] = tuple("0123456789")
    HOMEPAGE: ClassVar[str] = "https://ossci-datasets.s3.amazonaws.com/mnist/"
