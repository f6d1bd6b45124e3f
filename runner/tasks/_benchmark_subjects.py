"""What is measured on a case, and whether what it computes is right."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from runner.config.errors import first_line
from runner.ops import Gate, Operator, Ops, conv_op, pool_op
from runner.tasks._benchmark_cases import Case
from runner.tasks._yardsticks import yardsticks

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

ROUNDOFF = {"float64": 2.0**-53}
"""Of the numbers that sums are kept in; of all other types that is float32."""
FOREIGN = Gate(1e-5, 1e-5)
"""For yardsticks, whose rounding is not ours to judge: do they compute the same at all?"""
PART = 2**18
"""Numbers that are compared at a time."""
Computation = Callable[[], "Tensor | tuple[Tensor, ...]"]
COPY = "copy"
"""The yardstick that computes nothing: a copy of the input."""


@dataclass(frozen=True)
class Subject:
    """Something that is measured.

    Attributes:
        name: of the operator or the yardstick.
        forward: computes the output.
        both: computes the output, then the gradients; None for yardsticks.
        gate: how far from the reference it may be.
        workspace: bytes that it says it needs besides input and output.
        operator: itself, if it is one.
    """

    name: str
    forward: Callable[[], Tensor]
    both: Callable[[], tuple[Tensor, ...]] | None = None
    gate: Gate = FOREIGN
    workspace: int | None = None
    operator: Operator | None = None

    def call(self, which: str) -> Computation | None:
        """The computation of a pass, if it has it."""
        return self.forward if which == "forward" else self.both


@dataclass(frozen=True)
class Verdict:
    """How far from double precision something is, and whether that is right.

    Attributes:
        relative: ‖e‖ / ‖reference‖ of what is farthest off; None where nothing was computed.
        largest: max|e| / max|reference| likewise.
        failure: why it is wrong, or nothing.
    """

    relative: float | None = None
    largest: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Bench:
    """A case with its numbers drawn: every operator gets the same.

    Attributes:
        case: the case.
        ops: the run's operators.
        seed: of all numbers.
        x: the input.
        grad: the gradient with respect to the output.
    """

    case: Case
    ops: Ops
    seed: int
    x: Tensor
    grad: Tensor

    @staticmethod
    def of(case: Case, ops: Ops, device: str, seed: int) -> Bench:
        """Draw the numbers, normally distributed."""
        import torch

        generator, dtype = torch.Generator().manual_seed(seed), getattr(torch, case.dtype)
        x, grad = (
            torch.randn(case.batch, *shape.dims, generator=generator).to(device, dtype)
            for shape in (case.x, case.y)
        )
        return Bench(case, ops, seed, x, grad)

    def module(self, name: str) -> Any:
        """The case's layer as a stack would build it, computed by an operator."""
        import torch

        # The same seed draws the same weights for every operator.
        generator = torch.Generator().manual_seed(self.seed)
        built = self.case.with_op(name).build(self.case.x, self.ops, generator)
        return built.to(self.x.device, self.x.dtype).eval()

    def operator(self, name: str) -> Subject:
        """An operator; gradients are those of the input and of what the layer learns."""
        import torch

        module, x = self.module(name), self.x.detach().requires_grad_()
        wanted = [x, *(one for one in module.parameters() if one.requires_grad)]

        def forward() -> Tensor:
            y: Tensor = module(self.x)
            return y

        def both() -> tuple[Tensor, ...]:
            with torch.enable_grad():
                y = module(x)
                return y, *torch.autograd.grad(y, wanted, self.grad)

        make = conv_op if self.case.layer.kind == "conv" else pool_op
        op: Operator = make(name, self.ops.auto)
        gate = (Operator.gates | op.gates)[self.case.dtype]
        workspace = self.case.workspace(self.case.planned(name, self.ops))
        return Subject(name, forward, both, gate, workspace, op)

    def others(self) -> list[Subject]:
        """What can be measured beside operators: other libraries, and a copy."""
        kernel = None
        if self.case.layer.kind == "conv":
            kernel = self.module("native").effective_kernel().detach()
        found = yardsticks(self.case, self.x, kernel)
        return [*(Subject(*one) for one in found.items()), Subject(COPY, self.x.clone)]

    def reference(self, gradients: bool) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Output and gradients in double precision, and how many numbers each adds up."""
        from runner.tasks._benchmark_reference import reference

        return reference(self.module("native"), self.x, self.grad, gradients)

    def check(
        self,
        subject: Subject,
        passes: Sequence[str],
        reference: tuple[Mapping[str, Tensor], Mapping[str, int]],
    ) -> Verdict:
        """Compute each pass, which warms up too, and hold it against the reference."""
        worst = Verdict()
        try:
            for which in passes:
                call = subject.call(which)
                if call is None or subject.name == COPY:
                    continue
                verdict = self._verdict(call(), subject.gate, *reference)
                if verdict.failure:
                    return verdict
                worst = max(worst, verdict, key=lambda one: one.relative or 0.0)
        except Exception as error:  # one operator that breaks must not end the others' benchmark
            logger.exception("%s on %s failed", subject.name, self.case.name)
            return Verdict(failure=f"{type(error).__name__}: {first_line(error)}")
        return worst

    def _verdict(
        self,
        found: Tensor | tuple[Tensor, ...],
        gate: Gate,
        reference: Mapping[str, Tensor],
        terms: Mapping[str, int],
    ) -> Verdict:
        """Of one pass: that of the result that comes closest to its gate."""
        from runner.tasks._verify_case import BIAS, FORWARD, INPUT, WEIGHT

        found = found if isinstance(found, tuple) else (found,)
        worst, share = Verdict(), -1.0
        for name, one in zip((FORWARD, INPUT, WEIGHT, BIAS), found, strict=False):
            right = reference[name]
            if one.shape != right.shape:
                shapes = ("×".join(map(str, tensor.shape)) for tensor in (one, right))
                return Verdict(inf, inf, f"{name}: shape {', not '.join(shapes)}")
            # Gates are for sums of some thousand numbers. Adding up n that are random, one after
            # the other, leaves about 0.3 u √n, and a weight's gradient has millions.
            plain = ROUNDOFF.get(self.case.dtype, 2.0**-24) * sqrt(terms[name])
            limits = Gate(max(gate.relative, plain), max(gate.largest, 2 * plain))
            errors = _errors(one.detach().to(right.device), right)
            if not all(e <= limit for e, limit in zip(errors, limits, strict=True)):  # NaN fails
                failure = (
                    f"{name.replace('_', ' ')} is off by {errors[0]:.1e} in all, {errors[1]:.1e} "
                    f"at the worst; {limits.relative:.1e} and {limits.largest:.1e} are let pass"
                )
                return Verdict(*errors, failure)
            own = max(e / limit for e, limit in zip(errors, limits, strict=True))
            if own > share:
                worst, share = Verdict(*errors), own
        return worst


def _errors(found: Tensor, right: Tensor) -> tuple[float, float]:
    """‖e‖ / ‖reference‖ and max|e| / max|reference|; where all should be zero, what is there."""
    import torch

    # In parts that stay in a cache: whole differences of large images take seconds.
    part = PART if right.device.type == "cpu" else right.numel() or 1
    sums = []
    pieces = (torch.split(tensor.reshape(-1), part) for tensor in (found, right))
    for one, other in zip(*pieces, strict=True):
        e = one.double() - other
        sums.append(torch.stack([e.norm(), other.norm(), e.abs().amax(), other.abs().amax()]))
    error, size, largest, most = torch.stack(sums).unbind(1)
    scale, peak = float(size.norm()) or 1.0, float(most.amax()) or 1.0
    return float(error.norm()) / scale, float(largest.amax()) / peak
