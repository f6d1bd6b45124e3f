"""Expectations: what a run's metrics must be, written in YAML as ``expect:``.

.. code-block:: yaml

    expect:
      output: [[19, 25], [37, 43]]             # exact for integers, within 1e-5 for other numbers
      kernel_error: {max: 0.1}                 # also min; both hold for every number of a list
      loss: {value: 0.063, tolerance: 0.001}   # |measured − value| ≤ tolerance
      shapes: {value: {conv: [6, 28, 28]}}     # entries of a metric that is a mapping
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator
from pydantic import Field as Limited

from runner.config.errors import did_you_mean, one_of, problem
from runner.config.numbers import array
from runner.config.spec import Spec

CLOSE = 1e-5
"""Default tolerance: relative for numbers beyond one, absolute below."""


class Expectation(Spec):
    """What one metric must be.

    Attributes:
        value: a number, nested lists of numbers, true, false or text; or a mapping, each of whose
            entries must be in the metric with this value.
        tolerance: how far each number may be from `value`; default: integers exactly, others
            within 1e-5 (relative beyond one).
        min: the least that each number may be.
        max: the most that each number may be.
    """

    value: Any = None
    tolerance: Annotated[float, Limited(ge=0)] | None = None
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Expectation:
        if self.value is None and self.min is None and self.max is None:
            raise problem("", "a value, min or max", "none of them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise problem("max", f"at least min ({self.min:g})", f"{self.max:g}")
        if isinstance(self.value, float) and not isfinite(self.value):
            raise problem("value", "a finite number", str(self.value))
        if isinstance(self.value, list | tuple):
            array(self.value, "value")
        return self

    def __str__(self) -> str:
        parts = [] if self.value is None else [compact(self.value)]
        if self.tolerance is not None:
            parts.append(f"± {self.tolerance:g}")
        parts += [f"≥ {self.min:g}"] if self.min is not None else []
        parts += [f"≤ {self.max:g}"] if self.max is not None else []
        return " ".join(parts)

    def failure(self, measured: Any) -> str:
        """Why a measured metric doesn't hold; nothing when it does."""
        if self.value is not None:
            reason = _difference(self.value, measured, self.tolerance)
            if reason:
                return reason
        for limit, word, wrong in ((self.min, "below", -1), (self.max, "above", 1)):
            if limit is None:
                continue
            numbers = _flat(measured)
            if not numbers:
                return "nothing measured"
            # NaN compares false with everything, and must fail.
            bad = [n for n in numbers if not (_is_number(n) and (limit - n) * wrong >= 0)]
            if bad:
                complaint = f"is {word} {limit:g}" if _is_number(bad[0]) else "is not a number"
                return f"{compact(bad[0])} {complaint}"
        return ""


def _shorthand(value: object) -> object:
    known = Expectation.model_fields
    if isinstance(value, dict) and (not value or value.keys() & known.keys()):
        return value
    if isinstance(value, dict):
        key = next(iter(value))
        raise problem(str(key), one_of(known), f"'{key}'", did_you_mean(str(key), known))
    return {"value": value}


Expect = dict[str, Annotated[Expectation, BeforeValidator(_shorthand)]]
"""The field type: metric names to expectations."""


@dataclass(frozen=True)
class Outcome:
    """One expectation against what was measured; it holds when there is no `failure`."""

    metric: str
    expected: str
    measured: Any
    failure: str

    @property
    def holds(self) -> bool:
        """Whether the expectation is met."""
        return not self.failure

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for metrics.json."""
        return {
            "metric": self.metric,
            "expected": self.expected,
            "measured": self.measured,
            "holds": self.holds,
            "failure": self.failure or None,
        }


def compare(expect: Mapping[str, Expectation], metrics: Mapping[str, Any]) -> list[Outcome]:
    """Check every expectation; one about a metric that wasn't measured doesn't hold."""
    outcomes = []
    for name, expectation in expect.items():
        if name in metrics:
            failure = expectation.failure(metrics[name])
        else:
            failure = f"not measured; there is {', '.join(metrics) or 'nothing'}. "
            failure += did_you_mean(name, metrics)
        measured = _asked_for(expectation.value, metrics.get(name))
        outcomes.append(Outcome(name, str(expectation), measured, failure.strip()))
    return outcomes


def _asked_for(expected: Any, measured: Any) -> Any:
    """The entries of a mapping that an expectation is about; the others would only hide these."""
    if not (isinstance(expected, Mapping) and isinstance(measured, Mapping)):
        return measured
    return {key: _asked_for(expected[key], measured[key]) for key in expected if key in measured}


def compact(value: Any) -> str:
    """A metric as short text: six significant digits, lists in brackets."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {compact(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        # No thousands separators here: they would read as further entries.
        return (
            "["
            + ", ".join(
                compact(n).replace(",", "") if isinstance(n, int) else compact(n) for n in value
            )
            + "]"
        )
    return str(value)


def _difference(expected: Any, measured: Any, tolerance: float | None) -> str:
    if isinstance(expected, Mapping):
        if not isinstance(measured, Mapping):
            return f"{compact(measured)}, not a mapping"
        for key, value in expected.items():
            if key not in measured:
                return f"no {key}; there is {', '.join(map(str, measured)) or 'nothing'}"
            reason = _difference(value, measured[key], tolerance)
            if reason:
                return f"{key}: {reason}"
        return ""
    if isinstance(expected, list | tuple):
        if not isinstance(measured, list | tuple):
            return f"a single {compact(measured)}, not a list"
        if len(expected) != len(measured):
            return f"{len(measured)} entries, not {len(expected)}"
        found = (_difference(e, m, tolerance) for e, m in zip(expected, measured, strict=True))
        return next(filter(None, found), "")
    if not (_is_number(expected) and _is_number(measured)):
        same = type(expected) is type(measured) and expected == measured
        return "" if same else f"{compact(measured)}, not {compact(expected)}"
    if tolerance is None:
        exact = isinstance(expected, int) and isinstance(measured, int)
        tolerance = 0 if exact else CLOSE * max(1, abs(expected))
    if abs(measured - expected) <= tolerance:
        return ""
    return f"{measured!r} is not {expected!r} ± {tolerance:g}"


def _flat(value: Any) -> Sequence[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for entry in value for number in _flat(entry)]
    return [value]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
