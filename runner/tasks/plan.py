"""Plan: show what a stack gives and costs, without computing anything or importing torch."""

from __future__ import annotations

from typing import Any, ClassVar

from runner.tasks import Run, Task


class PlanTask(Task):
    """The table that heads every run, by itself; its totals are the metrics."""

    needs_torch: ClassVar[bool] = False
    measures: ClassVar[str] = """
        input output parameters multiply_adds receptive_field memory_bytes operations shapes
    """

    def run(self, run: Run) -> dict[str, Any]:
        """Shapes by layer and totals."""
        plan = run.plan.to_dict()
        del plan["layers"], plan["batch"], plan["dtype"]
        return {**plan, "shapes": {row.name: list(row.output.dims) for row in run.plan.walk()}}
