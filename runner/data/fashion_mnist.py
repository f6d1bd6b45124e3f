"""Fashion-MNIST, 70000 pieces of clothing, from files that you have downloaded.

Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms", 2017.
"""

from __future__ import annotations

from typing import ClassVar

from runner.data._idx import Idx


class FashionMnist(Idx):
    """Zalando's clothes of 28 × 28 pixels; the fields are `Idx`'s."""

    CLASSES: ClassVar[tuple[str, ...]] = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    HOMEPAGE: ClassVar[str] = "https://github.com/zalandoresearch/fashion-mnist"
