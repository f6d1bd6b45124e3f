"""Verify: what every conv and pool layer computes, against the definition in double precision.

Each layer gets the numbers that it meets in the run. Its output, and its gradients for a random
gradient of the output, are compared with those of `loops` in double precision on the very same
numbers, and judged by the operator's gates (`runner.ops.Gate`): one for the error as a whole, one
for the largest, as one wrong pixel barely moves the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import BeforeValidator
from pydantic import Field as Limited

from runner.config.errors import problem
from runner.config.fields import Count, refuse
from runner.config.spec import Spec
from runner.geometry import elements
from runner.ops import Gate, Operator, Ops, conv_op, pool_op
from runner.plan import ITEM_BYTES, Plan, Row
from runner.stack import Stack
from runner.tasks import Objective, Run, Task
from runner.tasks._outputs import to_numpy
from runner.tasks._selection import named_layer
from runner.tasks._verify_reference import Choice, chosen, reference
from runner.tasks._verify_table import FILE, SHORT, WIDTH, Verified, legend, notes, table
from runner.tracking import charts, pictures
from runner.tracking.directory import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("conv", "pool")
DRAWN = ("forward", "input_gradient")
"""Results that are images."""


def _names(value: object) -> object:
    if isinstance(value, list | tuple) and not value:
        refuse("a layer's name or a list of some, or null for all", "[]")
    return tuple(value) if isinstance(value, list | tuple) else (value,)


Limit = Annotated[float, Limited(ge=0)]


class OwnGate(Spec):
    """Errors that are let pass; null for the operator's own.

    Attributes:
        relative: of ‖e‖ / ‖reference‖.
        largest: of max|e| / max|reference|.
    """

    relative: Limit | None = None
    largest: Limit | None = None


class Verify(Task):
    """A check of operators.

    Attributes:
        gradients: check those too, not only the outputs.
        layers: names of the layers to check; that of a container stands for all inside it.
        images: how many of the data's images are used, at most.
        reference: ``loops`` or ``native``, in double precision; ``auto`` is loops for layers of at
            most `work`, and native for others, once it agreed with loops on a crop.
        work: multiply-adds of a layer; each step of the loops counts for 3,000 more.
        gate: the largest errors that are let pass.
    """

    measures: ClassVar[str] = "failed failures exact checked relative largest share_of_gate layers"
    showcase: ClassVar[tuple[str, ...]] = ("verify/errors", "verify/maps/")
    objective: ClassVar[Objective | None] = Objective("share_of_gate", "min")

    gradients: bool = True
    layers: Annotated[tuple[str, ...], BeforeValidator(_names)] | None = None
    images: Count = 8
    reference: Choice = "auto"
    work: Annotated[int, Limited(ge=0)] = 100_000_000
    gate: OwnGate = OwnGate()

    def batch(self, count: int) -> int:
        """As many as are used."""
        return min(count, self.images)

    def overhead(self, plan: Plan, stack: Stack, ops: Ops) -> int:
        """Of the largest layer: results, their reference and magnitudes, and what made them."""
        return max((self._held(row, plan, ops) for row in self._rows(plan)), default=0)

    def _held(self, row: Row, plan: Plan, ops: Ops) -> int:
        passed = 1 + self.gradients
        maps = plan.batch * (elements(row.input) + elements(row.output))
        op = chosen(self.reference, row, plan.batch, self.work)
        other: Any = row.layer.model_copy(update={"ops": op})
        made: int = plan.batch * (other.workspace(row.input, ops) + other.scratch(row.input, ops))
        wide = (3 * passed * (maps + row.parameters) + passed * made) * ITEM_BYTES["float64"]
        return wide + passed * (maps + row.parameters) * ITEM_BYTES[plan.dtype]

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """There must be something to check."""
        self._rows(plan)

    def _rows(self, plan: Plan) -> list[Row]:
        """The layers to check.

        Raises:
            ConfigError: there is none, or none of a name that was given.
        """
        able = {row.name: row for row in plan.leaves() if row.kind in KINDS}
        if not able:
            given = ", ".join(row.name for row in plan.rows) or "no layers"
            hint = "Pick a stack that has some: stack=lenet."
            raise problem("stack.layers", "a conv or pool layer to check", given, hint)
        if self.layers is None:
            return list(able.values())
        found: dict[str, Row] = {}
        for name in self.layers:
            inside = {key: row for key, row in able.items() if key.startswith(f"{name}.")}
            what, path = "a conv or pool layer", "task.layers"
            found |= inside or {name: named_layer(name, plan, able, what, path)}
        return list(found.values())

    def run(self, run: Run) -> dict[str, Any]:
        """Errors, gates and verdicts by layer and by what is computed."""
        rows = self._rows(run.plan)
        seen, layers = _seen(run, rows), []
        with run.progress(len(rows), "verify") as advance:
            for row in rows:
                layers.append(self._verified(run, row, *seen.pop(row.name)))
                advance(row.name)
        self._write(run, layers)
        errors = [error for layer in layers for error in layer.errors.values()]
        failures = [
            f"{layer.name} {name}"
            for layer in layers
            for name, error in layer.errors.items()
            if not error.holds
        ]
        return {
            "failed": len(failures),
            "failures": failures,
            "exact": sum(error.equal == 1 for error in errors),
            "checked": len(errors),
            "relative": max(error.relative for error in errors),
            "largest": max(error.largest for error in errors),
            "share_of_gate": max(error.share for error in errors),
            "layers": {layer.name: layer.metrics() for layer in layers},
        }

    def _verified(self, run: Run, row: Row, x: Tensor, y: Tensor) -> Verified:
        """A layer's results against their reference."""
        import torch

        from runner.tasks._verify_case import FORWARD, Case
        from runner.tasks._verify_error import Error
        from runner.tasks._verify_judge import operator, operators

        module: Any = run.model.get_submodule(row.name)
        generator = torch.Generator().manual_seed(run.seed)
        case = Case.of(module, x, torch.randn(y.shape, generator=generator).to(y))
        op = conv_op(row.op, run.ops.auto) if row.kind == "conv" else pool_op(row.op, run.ops.auto)
        found = case.gradients(op) if self.gradients else {FORWARD: y}
        outputs = (y, found[FORWARD])
        ops = {name: one for name, one in operators(case, row.op).items() if name in found}
        gates = {n: self._gate(operator(ops[n], case, op), run.dtype) for n in found}
        if not case.finite:
            undefined = {name: Error.undefined(gate) for name, gate in gates.items()}
            return Verified(row, "", undefined, ops, given=False)
        wanted = chosen(self.reference, row, len(x), self.work)
        right = reference(case, wanted, row.path, self.gradients)
        results, sizes, terms = right.results, right.magnitudes, case.terms()
        # Of the output without gradients and the one with them, the one that is farther off.
        found[FORWARD] = max(outputs, key=lambda one: _distance(one, results[FORWARD]))
        errors = {
            name: Error.of(one.cpu(), results[name], sizes[name], terms[name], gates[name])
            for name, one in found.items()
        }
        self._draw(run, row, found, results)
        return Verified(row, wanted, errors, ops, agreement=right.agreement)

    def _gate(self, op: Operator, dtype: str) -> Gate:
        own = (Operator.gates | op.gates)[dtype]
        asked = (self.gate.relative, self.gate.largest)
        return Gate(*(a if b is None else b for a, b in zip(own, asked, strict=True)))

    def _draw(
        self, run: Run, row: Row, found: Mapping[str, Tensor], right: Mapping[str, Tensor]
    ) -> None:
        """The channel with the largest error, of the output and of the input's gradient."""
        panels = []
        for name in DRAWN:
            if name not in found:
                continue
            error = to_numpy(found[name].cpu().double() - right[name])
            where = np.unravel_index(np.nan_to_num(np.abs(error), nan=np.inf).argmax(), error.shape)
            at, what = where[:2], name.replace("_", " ")
            place = f"image {at[0]}, channel {at[1]}"
            panels += [
                pictures.signed(to_numpy(right[name])[at], f"{row.name}, {what}: {place}"),
                pictures.signed(
                    error[at],
                    f"error of {row.op}" if error[at].any() else "no error",
                    numbers=False,
                ),
            ]
        run.tracker.image(f"verify/maps/{row.name}", pictures.sheet(panels, columns=2))

    def _write(self, run: Run, layers: Sequence[Verified]) -> None:
        """The table, in the terminal and whole in ``verify.txt``; errors as scalars and a chart."""
        whole = table(layers)
        write_atomically(run.directory / FILE, ("\n".join(whole) + "\n").encode())
        run.tracker.text("verify", "\n".join(f"    {line}" for line in whole))
        shown = table(layers, WIDTH)
        run.notes += ["", *shown]
        if len(shown) < len(whole):
            run.notes.append(f"Of each layer the worst; all are in {FILE}.")
        run.notes += ["", legend(run.dtype), *notes(layers, run.dtype)]
        count = run.data.count()
        if run.plan.batch < count:
            run.notes.append(f"{run.plan.batch} of {count} images were used (task.images).")
        if self.layers and any(layer.row.op == "auto" for layer in layers):
            run.notes.append("All layers were computed, so auto chose for others as well:")
        scalars, bars = {}, {}
        for layer in layers:
            for name, error in layer.errors.items():
                if error.finite:
                    scalars[f"verify/{layer.name}/{name}"] = error.relative
            worst = layer.errors[layer.worst]
            fails = "" if worst.holds else " FAILS"
            bars[f"{layer.name}, {SHORT[layer.worst]}{fails}"] = {
                "‖e‖ / ‖reference‖": (worst.relative, worst.gate.relative),
                "max|e| / max|reference|": (worst.largest, worst.gate.largest),
            }
        run.tracker.scalars(scalars, 0)
        title = "Errors beside their gates, of each layer the worst"
        run.tracker.image("verify/errors", charts.beside_limits(bars, title, "error", "gate"))


def _seen(run: Run, rows: Sequence[Row]) -> dict[str, tuple[Tensor, Tensor]]:
    """What comes into each layer, and goes out of it, in a pass over the run's images."""
    import torch

    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def kept(name: str) -> Any:
        def hook(_module: object, given: tuple[Tensor, ...], y: Tensor) -> None:
            seen[name] = given[0], y

        return hook

    model = run.model.eval()
    hooks = [model.get_submodule(r.name).register_forward_hook(kept(r.name)) for r in rows]
    try:
        with torch.no_grad():
            model(run.x[: run.plan.batch])
    finally:
        for one in hooks:
            one.remove()
    return seen


def _distance(found: Tensor, right: Tensor) -> float:
    """The largest difference; of what isn't finite, infinity."""
    distance = (found.cpu().double() - right).abs()
    return float(distance.nan_to_num(nan=float("inf")).max()) if distance.numel() else 0.0
