"""How the learning rate changes from epoch to epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field as Limited
from pydantic import model_validator

from runner.config.errors import problem
from runner.config.fields import Count
from runner.config.spec import Spec

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class Schedule(Spec):
    """The learning rate as a factor of the optimizer's, by epoch, counted from 0.

    Attributes:
        name: ``constant``: 1. ``step``: `gamma` to the power of ⌊epoch / step_size⌋.
            ``exponential``: `gamma` to the power of the epoch. ``cosine``: half a wave from 1
            down to 0 after the last epoch (Loshchilov & Hutter 2017, without restarts).
        warmup: epochs over which the rate rises linearly, from 1 / (warmup + 1), before the
            schedule begins.
        step_size: epochs between the drops of ``step``.
        gamma: the factor of ``step`` and ``exponential``; default: 0.1 and 0.95.
    """

    name: Literal["constant", "step", "cosine", "exponential"] = "constant"
    warmup: Annotated[int, Limited(ge=0, le=10_000)] = 0
    step_size: Count = 10
    gamma: Annotated[float, Limited(gt=0, le=1)] | None = None

    @model_validator(mode="after")
    def _gamma_has_a_use(self) -> Schedule:
        if self.gamma is not None and self.name not in ("step", "exponential"):
            hint = "Only step and exponential have one."
            raise problem("gamma", f"null with {self.name}", f"{self.gamma:g}", hint)
        return self

    def build(self, optimizer: Optimizer, epochs: int) -> LRScheduler:
        """The torch scheduler, to be stepped after each of `epochs` epochs."""
        from torch.optim import lr_scheduler as torchs

        main: LRScheduler
        if self.name == "step":
            main = torchs.StepLR(optimizer, self.step_size, self.gamma or 0.1)
        elif self.name == "cosine":
            main = torchs.CosineAnnealingLR(optimizer, epochs - self.warmup)
        elif self.name == "exponential":
            main = torchs.ExponentialLR(optimizer, self.gamma or 0.95)
        else:
            main = torchs.ConstantLR(optimizer, factor=1.0)
        if not self.warmup:
            return main
        rising = torchs.LinearLR(optimizer, 1 / (self.warmup + 1), total_iters=self.warmup)
        return torchs.SequentialLR(optimizer, [rising, main], [self.warmup])
