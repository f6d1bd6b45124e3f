"""Forward: run a stack on data, and keep every layer's output."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from PIL.Image import Image
from pydantic import Field as Limited

from runner.tasks import Run, Task
from runner.tasks._outputs import SMALL, layer_outputs, map_panels, numbers, save_outputs
from runner.tracking import pictures


class Forward(Task):
    """One forward pass.

    Attributes:
        depth: 1 keeps the outputs of the stack's own layers; 2 those inside its containers too.
        images: how many of the images are drawn, at most.
        channels: how many channels of each layer are drawn, at most.
    """

    measures: ClassVar[str] = """
        output_shape output mean std strongest parameters multiply_adds receptive_field as_planned
        shapes
    """
    showcase: ClassVar[tuple[str, ...]] = ("overview",)

    depth: Annotated[int, Limited(ge=1, le=16)] = 1
    images: Annotated[int, Limited(ge=1, le=64)] = 1
    channels: Annotated[int, Limited(ge=1, le=64)] = 16

    def run(self, run: Run) -> dict[str, Any]:
        """The last layer's output if it is small, its shape, mean and spread; what the plan says.

        `strongest` is, for each image, the channel with the largest response anywhere.
        """
        run.outputs.update(layer_outputs(run, self.depth))
        save_outputs(run)
        for i in range(min(self.images, len(run.images.x))):
            suffix = f"_{i}" if self.images > 1 else ""
            picture = pictures.photograph(run.images.x[i], "input")
            run.tracker.image(f"input{suffix}", picture)
            beside: list[Image] = []
            for name, y in run.outputs.items():
                if y.ndim == 4:
                    scale = pictures.symmetric_scale(list(y[i, : self.channels]))
                    panels = map_panels(run, name, y[i], self.channels, scale)
                    run.tracker.image(f"output/{name}{suffix}", pictures.sheet(panels))
                    # A single pixel, as global pooling leaves it, is not much to look at.
                    beside = panels if y[i, 0].size > 1 or not beside else beside
            if beside:
                maps = pictures.sheet(beside, margin=0)
                run.tracker.image(f"overview{suffix}", pictures.sheet([picture, maps], 2))
        for name, y in run.outputs.items():
            run.tracker.histogram(f"activations/{name}", y)
        return self._metrics(run)

    def _metrics(self, run: Run) -> dict[str, Any]:
        last = next(reversed(run.outputs.values()), run.images.x)
        metrics: dict[str, Any] = {"output_shape": list(last.shape)}
        if last.size <= SMALL:
            metrics["output"] = numbers(last)
        metrics["mean"] = float(last.mean())
        metrics["std"] = float(last.std())
        if last.ndim == 4 and last.shape[1] > 1:
            metrics["strongest"] = last.max(axis=(2, 3)).argmax(axis=1).tolist()
        metrics["parameters"] = run.plan.parameters
        metrics["multiply_adds"] = run.plan.cost
        metrics["receptive_field"] = list(run.plan.receptive_field or ())
        shapes = {name: list(y.shape[1:]) for name, y in run.outputs.items()}
        planned = {row.name: list(row.output.dims) for row in run.plan.walk()}
        metrics["as_planned"] = all(planned[name] == shape for name, shape in shapes.items())
        metrics["shapes"] = shapes
        return metrics
