"""Pictures of a kernel while it forms."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from runner.tasks import Run
from runner.tasks._outputs import to_numpy
from runner.tracking import pictures

if TYPE_CHECKING:
    from torch import Tensor, nn


class Film:
    """The first trainable conv layer's kernels as they form, on one scale, beside the target.

    The scale is set by the target and the first kernels, so that pictures taken while learning
    goes on can be compared with those taken before. Drawing takes longer than many steps, so
    pictures are drawn at most once a second, and the rest by `draw`.
    """

    def __init__(self, run: Run, every: int, target: Tensor) -> None:
        self.run, self.every = run, every
        self.target = to_numpy(target)
        self.scale = 0.0
        self.name = ""
        self.frames: list[tuple[int, NDArray[Any]]] = []
        self._drawn, self._since = 0, monotonic()
        self._kept: dict[int, Image] = {}

    def add(self, model: nn.Module, step: int) -> None:
        """Keep the kernels after this step, as cross-correlation sees them."""
        from runner.modules import Conv2d

        named = (
            (name, module)
            for name, module in model.named_modules()
            if isinstance(module, Conv2d) and module.weight.requires_grad
        )
        name, module = next(named, (None, None))
        if name is None or module is None:
            return  # something else is learned
        values = to_numpy(module.effective_kernel()).copy()  # the next step changes it in place
        self.scale = self.scale or pictures.symmetric_scale([1.2 * self.target, 1.2 * values])
        self.name = name
        self.frames.append((step, values))
        if monotonic() - self._since > 1:
            self.draw()

    def draw(self) -> None:
        """Draw what was kept since the last time."""
        shown = self._chosen()
        self._kept = {i: picture for i, picture in self._kept.items() if i in shown}
        for i in range(self._drawn, len(self.frames)):
            step, values = self.frames[i]
            picture = self._picture(i)
            if i in shown:
                self._kept[i] = picture
            self.run.tracker.image(f"kernel/{self.name}", picture, step)
            self.run.tracker.histogram(f"weights/{self.name}", values, step)
        self._drawn, self._since = len(self.frames), monotonic()

    def sheet(self) -> Image:
        """At most eleven frames, then the target."""
        panels = [self._kept.get(i) or self._picture(i) for i in self._chosen()]
        self._kept.clear()
        return pictures.sheet([*panels, kernel_picture(self.target, "target", self.scale)], 4)

    def _chosen(self) -> list[int]:
        """Places of the frames that tell most; of few, all."""
        last = len(self.frames)
        # Most happens in the first steps, so frames thin out geometrically.
        spread = np.geomspace(1, last, 11) if last > 11 else np.arange(1, last + 1)
        chosen: list[int] = (np.unique(spread.round().astype(int)) - 1).tolist()
        return chosen

    def _picture(self, i: int) -> Image:
        step, values = self.frames[i]
        return kernel_picture(values, f"step {step}", self.scale)


def kernel_picture(weight: NDArray[Any], title: str, scale: float) -> Image:
    """Kernels, c_out × c_in × kh × kw, as a sheet: a row per output, a column per input."""
    outputs, inputs = weight.shape[:2]
    if outputs == inputs == 1:
        return pictures.signed(weight[0, 0], title, scale)
    panels = [
        pictures.signed(weight[o, i], f"{title}: in {i}, out {o}", scale)
        for o in range(min(outputs, 8))
        for i in range(min(inputs, 8))
    ]
    return pictures.sheet(panels, columns=min(inputs, 8))
