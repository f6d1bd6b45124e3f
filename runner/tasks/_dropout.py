"""Dropout for several runs at once: each run's masks are those that it draws alone.

Alone, torch draws a mask in each dropout layer from its one generator, in the order in which the
layers compute. So every run here has such a generator of its own, and its masks are drawn before
the step, in the same order and the same layout in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from runner.tasks._together import Stacked


class Masks:
    """The masks of stacked models, where these have dropout."""

    def __init__(self, stacked: Stacked) -> None:
        """Let the stack's dropout layers multiply by masks instead."""
        from torch import nn

        from runner.modules import Masked

        self.stacked = stacked
        # With p = 0 torch draws nothing.
        self.layers = {
            name: module.p
            for name, module in stacked.skeleton.named_modules()
            if isinstance(module, nn.Dropout) and module.p
        }
        for name in self.layers:
            stacked.skeleton.set_submodule(name, Masked())
        self._layouts: dict[int, list[tuple[str, Tensor]]] = {}

    def draw(self, x: Tensor, generators: Sequence[torch.Generator]) -> None:
        """Give every layer a mask per run, for a step on `x`, runs × n × c × h × w."""
        import torch

        if not self.layers:
            return
        if x.shape[1] not in self._layouts:
            self._layouts[x.shape[1]] = self._inputs(x[0])
        masks: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        for generator in generators:
            for name, like in self._layouts[x.shape[1]]:
                kept = 1 - self.layers[name]
                mask = torch.empty_like(like, device="cpu").bernoulli_(kept, generator=generator)
                masks[name].append(mask.div_(kept))
        for name, drawn in masks.items():
            self.stacked.buffers[f"{name}.mask"] = torch.stack(drawn)

    def _inputs(self, x: Tensor) -> list[tuple[str, Tensor]]:
        """What reaches each dropout layer of one run, in the order in which they compute."""
        import torch

        model, found = self.stacked.models[0], []

        def kept(name: str) -> Any:
            def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
                found.append((name, torch.empty_like(given[0], device="meta")))

            return hook

        hooks = [
            model.get_submodule(name).register_forward_pre_hook(kept(name)) for name in self.layers
        ]
        try:
            with torch.no_grad():
                model.eval()(x)
        finally:
            for one in hooks:
                one.remove()
        return found
