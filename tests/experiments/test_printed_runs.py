"""6.2.4: the losses that two editions print follow from one start each, found from two of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from runner.config.compose import config_folder

PRINTED = {
    1: ([16.481, 5.069, 1.794, 0.688, 0.274], [1.0398, -0.9328]),
    2: ([10.007, 2.165, 0.562, 0.176, 0.063], [1.0099, -0.9607]),
}
"""Losses of steps 2, 4, 6, 8 and 10, and the kernel after ten steps."""


def read(number: int) -> dict[str, object]:
    path = Path("experiment") / "6_2" / f"learn_kernel_printed_{number}.yaml"
    return yaml.safe_load((config_folder() / path).read_text())


@pytest.mark.parametrize("number", PRINTED)
def test_start_follows_from_two_of_the_losses(number: int) -> None:
    """The error's sum s and difference d shrink by 1 − 0.03 · 60 = −0.8 and 1 − 0.03 · 12 = 0.64.

    On the 6×8 image twelve windows are not constant; the loss is 15 s² + 3 d², so that of step k
    is 15 s² · 0.64^(k − 1) + 3 d² · 0.4096^(k − 1).
    """
    losses, kernel = PRINTED[number]

    def terms(step: int) -> list[float]:
        return [15 * 0.64 ** (step - 1), 3 * 0.4096 ** (step - 1)]

    s2, d2 = np.linalg.solve([terms(2), terms(4)], losses[:2])
    for step, loss in zip((6, 8, 10), losses[2:], strict=True):
        assert np.dot(terms(step), (s2, d2)) == pytest.approx(loss, abs=0.0006)
    # The kernel tells the signs: the sum is above that of [1, −1], the difference below.
    s, d = np.sqrt(s2), -np.sqrt(d2)
    after = np.array([s * 0.8**10 + d * 0.64**10, s * 0.8**10 - d * 0.64**10]) / 2 + (1, -1)
    assert after == pytest.approx(kernel, abs=0.00006)

    config = read(number)
    start = config["stack"]["layers"]["conv"]["weight"][0]
    assert start == pytest.approx([(s + d) / 2 + 1, (s - d) / 2 - 1], abs=0.00001)
    # Within ±1/√2, where torch draws the first weights.
    assert np.abs(start).max() < 0.5**0.5
    expected = config["expect"]["losses"]["value"]
    assert expected == pytest.approx([np.dot(terms(k), (s2, d2)) for k in range(1, 11)], abs=0.0006)
    assert expected[1::2] == losses
    assert config["expect"]["kernel"]["value"] == [kernel]
