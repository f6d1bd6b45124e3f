"""The fastest operator that can compute a case, exactly enough.

A convolution's forward pass and its two gradients are chosen apart; of a pooling, whose gradient
needs the indices of the operator that pooled, both together. Where a call is worth it, what could
win is timed once on made-up numbers of the case's shapes, and remembered per device, threads, type
of number, versions and geometry; below, a rule decides. See `runner.ops.Auto` for what can be set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from runner import menu
from runner.choices import choices
from runner.geometry import ConvGeometry, Pair, PoolGeometry, Shape, elements
from runner.ops import PACKAGE, Auto, ConvOp, Gate, PoolOp, conv_op, pool_op
from runner.ops._cases import BOTH, FORWARD, INPUT, WEIGHT, Case, ConvCase, PoolCase, place

if TYPE_CHECKING:
    from torch import Tensor

SPARE = 4
"""An operator takes part unasked where it holds at most so many times input and output together."""

SMALL = 2**24
"""Numbers that native may hold per example in any case."""

T = TypeVar("T", ConvOp, PoolOp)


class _Among(Generic[T]):
    """The operators to choose from."""

    def __init__(self, auto: Auto, what: str, contract: type[T], made: Callable[[str], T]) -> None:
        self.auto, self._what = auto, what
        self._contract: type[T] = contract
        self._made: Callable[[str], T] = made
        self._chooser: Any = None
        self.picked: dict[Any, T] = {}
        self.run = choices.run

    def reasons(self, dtype: str, ask: Callable[[T], list[str]]) -> dict[str, list[str]]:
        """Why each operator that may be taken can't be; empty where it can."""
        found = {}
        for name in self.auto.allow or menu.names(PACKAGE):
            if self.auto.allow is None and name in ("auto", "loops"):
                continue
            if menu.find(PACKAGE, name, self._contract) is None:
                if self.auto.allow is not None:
                    found[name] = [f"it has no {self._what}"]
                continue
            op: T = self._made(name)
            found[name] = [*ask(op), *self._inexact(op, dtype)]
        return found

    def _inexact(self, op: T, dtype: str) -> list[str]:
        if dtype not in op.gates:
            return [f"nothing says how exact it is in {dtype}"]
        error, bound = op.gates[dtype].relative, self._bound(dtype)
        if error <= bound:
            return []
        stated = "ops.auto.accuracy" if dtype == "float32" else "plain summation's"
        return [f"its error in {dtype} is up to {error:g}, more than {stated}, {bound:g}"]

    def _bound(self, dtype: str) -> float:
        return self.auto.accuracy if dtype == "float32" else self._contract.gates[dtype].relative

    def able(self, dtype: str, ask: Callable[[T], list[str]]) -> dict[str, T]:
        """The operators that can be taken, by name."""
        reasons = self.reasons(dtype, ask)
        return {name: self._made(name) for name, why in reasons.items() if not why}

    def refusals(self, dtype: str, ask: Callable[[T], list[str]]) -> list[str]:
        """Every operator's reasons; empty when one can be taken."""
        reasons = self.reasons(dtype, ask)
        if not all(reasons.values()):
            return []
        return [f"{name}: {', '.join(why)}" for name, why in reasons.items()]

    def lean(
        self,
        able: Mapping[str, T],
        holds: Callable[[T], int],
        seconds: Callable[[T], float],
        once: int,
    ) -> dict[str, T]:
        """Those that hold little; all that were asked for by name, or if none is left.

        Native goes only where it holds much and a lean one is faster by its estimate, which says
        something of CPUs alone; so does what native holds.
        """
        if self.auto.allow is not None or not able:
            return dict(able)
        each = {name: holds(op) for name, op in able.items()}
        lean = {name: op for name, op in able.items() if each[name] <= SPARE * once}
        native = each.get("native", min(each.values()))
        quicker = "native" in able and any(
            0 < seconds(op) < seconds(able["native"]) for op in lean.values()
        )
        if native > SMALL and quicker:
            return lean
        return {name: op for name, op in able.items() if each[name] <= max(native, SPARE * once)}

    def choose(self, case: Case, able: Callable[[], dict[str, T]]) -> T:
        """The fastest for a case."""
        if self._chooser is None:
            from runner.ops._choosing import Chooser

            self._chooser = Chooser(self.auto)
        found: T = self._chooser.choose(case, able)
        return found

    def renew(self) -> None:
        """Forget quick answers when another run begins, so that it is told of every choice."""
        if self.run != choices.run:
            self.run = choices.run
            self.picked.clear()


class AutoConv(ConvOp):
    """The fastest convolution."""

    def __init__(self, auto: Auto | None = None) -> None:
        self._among = _Among(auto or Auto(), "convolution", ConvOp, conv_op)  # type: ignore[type-abstract]  # a contract
        exact = self._among.able("float32", lambda _: []).values()
        self.sums = all(op.sums for op in exact)
        least = [op.gates["float32"] for op in exact] or [self.gates["float32"]]
        worst = Gate(max(g.relative for g in least), max(g.largest for g in least))
        # They depend on what is allowed.
        self.gates = {**self.gates, "float32": worst}  # type: ignore[misc]

    @classmethod
    def made(cls, auto: Auto) -> Self:
        """As the config says."""
        return cls(auto)

    def unsupported(self, geometry: ConvGeometry, dtype: str, device: str) -> list[str]:
        """What all that may be taken say, if none can."""
        return self._among.refusals(dtype, lambda op: op.unsupported(geometry, dtype, device))

    def workspace(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """The most that any operator holds which may be taken.

        One that holds more than native, and more than `SPARE` times input and output, is not taken
        unless ``ops.auto.allow`` names it; nor is native where it holds so much itself, of large
        images with few channels, and another is faster by its estimate.
        """
        able = self._able(x, y, geometry, "float32", "cpu")
        return max((op.workspace(x, y, geometry) for op in able.values()), default=0)

    def scratch(self, x: Shape, y: Shape, geometry: ConvGeometry) -> int:
        """As `workspace`."""
        able = self._able(x, y, geometry, "float32", "cpu")
        return max((op.scratch(x, y, geometry) for op in able.values()), default=0)

    def pick(self, x: Tensor, weight: Tensor, geometry: ConvGeometry) -> ConvOp:
        """One operator, where it is the fastest for all that will be computed; else this one."""
        import torch

        from runner.ops._choosing import shortcut

        if type(x) not in (torch.Tensor, torch.nn.Parameter):
            return self  # traced: nothing to be timed
        learned = torch.is_grad_enabled()
        needs = (learned and x.requires_grad, learned and weight.requires_grad)
        self._among.renew()
        where = place(x)
        key = (x.shape, weight.shape, geometry, needs, *where.values())
        found = self._among.picked.get(key)
        if found is None:
            wanted = (FORWARD, *[INPUT] * needs[0], *[WEIGHT] * needs[1])
            sizes = (x.shape[0], _shape(x), weight.shape[0], geometry)
            ops = [self._choose(computation, *sizes, where) for computation in wanted]
            same = all(op is ops[0] for op in ops) and not shortcut(x, self._among.auto.accuracy)
            found = self._among.picked[key] = ops[0] if same else self
        return found

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: ConvGeometry
    ) -> Tensor:
        """By the fastest."""
        sizes = (x.shape[0], _shape(x), weight.shape[0], geometry)
        op = self._choose(FORWARD, *sizes, place(x))
        with self._exactly(x):
            return op.forward(x, weight, bias, geometry)

    def input_gradient(
        self, grad: Tensor, weight: Tensor, size: Pair, geometry: ConvGeometry
    ) -> Tensor:
        """By the fastest at that."""
        x = Shape(weight.shape[1] * geometry.groups, *size)
        op = self._choose(INPUT, grad.shape[0], x, grad.shape[1], geometry, place(grad))
        with self._exactly(grad):
            return op.input_gradient(grad, weight, size, geometry)

    def weight_gradient(self, grad: Tensor, x: Tensor, geometry: ConvGeometry) -> Tensor:
        """By the fastest at that."""
        op = self._choose(WEIGHT, x.shape[0], _shape(x), grad.shape[1], geometry, place(grad))
        with self._exactly(x):
            return op.weight_gradient(grad, x, geometry)

    def _exactly(self, x: Tensor) -> Any:
        from runner.ops._choosing import exact

        return exact(x, self._among.auto.accuracy)

    def _able(
        self, x: Shape, y: Shape, geometry: ConvGeometry, dtype: str, device: str
    ) -> dict[str, ConvOp]:
        def holds(op: ConvOp) -> int:
            return op.workspace(x, y, geometry) + op.scratch(x, y, geometry)

        def seconds(op: ConvOp) -> float:
            return op.estimate(x, y, geometry) if device == "cpu" else 0

        able = self._among.able(dtype, lambda op: op.unsupported(geometry, dtype, device))
        return self._among.lean(able, holds, seconds, elements(x) + elements(y))

    def _choose(
        self, computation: str, batch: int, x: Shape, c_out: int, geometry: ConvGeometry, where: Any
    ) -> ConvOp:
        y = Shape(c_out, *geometry.output_size(x.size))
        if computation != FORWARD:  # the gradient's layout is known only when it is there
            where = {**where, "channels_last": False}
        case = ConvCase(computation, batch, x, y, geometry, **where)
        kind = case.device.partition(":")[0]
        return self._among.choose(case, lambda: self._able(x, y, geometry, case.dtype, kind))


class AutoPool(PoolOp):
    """The fastest pooling."""

    def __init__(self, auto: Auto | None = None) -> None:
        self._among = _Among(auto or Auto(), "pooling", PoolOp, pool_op)  # type: ignore[type-abstract]  # a contract

    @classmethod
    def made(cls, auto: Auto) -> Self:
        """As the config says."""
        return cls(auto)

    def unsupported(self, geometry: PoolGeometry, mode: str, dtype: str, device: str) -> list[str]:
        """What all that may be taken say, if none can."""
        return self._among.refusals(dtype, lambda op: op.unsupported(geometry, mode, dtype, device))

    def workspace(self, x: Shape, y: Shape, geometry: PoolGeometry) -> int:
        """As the convolution's."""
        able = self._able(x, y, geometry, "max", "float32", "cpu")
        return max((op.workspace(x, y, geometry) for op in able.values()), default=0)

    def pick(self, x: Tensor, mode: str, geometry: PoolGeometry) -> PoolOp:
        """The fastest, which computes the gradient too."""
        import torch

        if type(x) not in (torch.Tensor, torch.nn.Parameter):
            return self  # traced: nothing to be timed
        computation = BOTH if torch.is_grad_enabled() and x.requires_grad else FORWARD
        return self._choose(computation, x, mode, geometry)

    def forward(self, x: Tensor, mode: str, geometry: PoolGeometry) -> Tensor:
        """By the fastest."""
        return self._choose(FORWARD, x, mode, geometry).forward(x, mode, geometry)

    def input_gradient(
        self,
        grad: Tensor,
        x: Tensor | None,
        indices: Tensor | None,
        size: Pair,
        mode: str,
        geometry: PoolGeometry,
    ) -> Tensor:
        """By the fastest; pooled anew for its indices, which only a call that was traced lacks."""
        like = grad.new_empty(1).expand(*grad.shape[:2], *size) if x is None else x
        op = self._choose(BOTH, like, mode, geometry)
        if x is not None and op.indices(mode, geometry):
            _, indices = op.forward_with_indices(x, mode, geometry)
            x = None
        return op.input_gradient(grad, x, indices, size, mode, geometry)

    def _able(
        self, x: Shape, y: Shape, geometry: PoolGeometry, mode: str, dtype: str, device: str
    ) -> dict[str, PoolOp]:
        def holds(op: PoolOp) -> int:
            return op.workspace(x, y, geometry)

        def seconds(op: PoolOp) -> float:
            return op.estimate(x, y, geometry) if device == "cpu" else 0

        able = self._among.able(dtype, lambda op: op.unsupported(geometry, mode, dtype, device))
        return self._among.lean(able, holds, seconds, elements(x) + elements(y))

    def _choose(self, computation: str, x: Tensor, mode: str, geometry: PoolGeometry) -> PoolOp:
        self._among.renew()
        where = place(x)
        key = (computation, x.shape, mode, geometry, *where.values())
        found = self._among.picked.get(key)
        if found is None:
            shape = _shape(x)
            y = Shape(shape.channels, *geometry.output_size(shape.size))
            case = PoolCase(computation, x.shape[0], shape, y, geometry, **where, mode=mode)
            kind = case.device.partition(":")[0]
            found = self._among.picked[key] = self._among.choose(
                case, lambda: self._able(shape, y, geometry, mode, case.dtype, kind)
            )
        return found


def _shape(x: Tensor) -> Shape:
    return Shape(x.shape[1], x.shape[2], x.shape[3])
