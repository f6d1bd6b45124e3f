"""What may stand after ``weight:`` — how a layer's numbers are found.

==========================================  =====================================================
YAML                                        meaning
==========================================  =====================================================
``default``, ``xavier_uniform``, …          drawn at random by that initializer
``{initializer: normal, std: 0.01}``        … with its parameters
``sobel_x``, ``gaussian``, …                a kernel of the bank (`runner.kernels`)
``{kernel: gaussian, size: 7, sigma: 2}``   … with its parameters
``[[1, -1]]``                               the numbers: rows of a kernel
``[sobel_x, [[1, 0], [0, -1]]]``            a list of kernels: one output channel each
``[[[[0, 1]], [[2, 3]]]]``                  all numbers: output × input × rows × columns
==========================================  =====================================================

A kernel without input channels is laid on every input channel, and the results are added, as
the book does; with groups, on every group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BeforeValidator, PlainValidator

from runner import kernels
from runner.config.errors import ConfigError, describe, did_you_mean, meant, one_of, problem
from runner.config.numbers import Nested, array

INITIALIZERS: Mapping[str, Mapping[str, float]] = {
    "default": {},
    "uniform": {"low": -1.0, "high": 1.0},
    "normal": {"mean": 0.0, "std": 1.0},
    "constant": {"value": 0.0},
    "zeros": {},
    "ones": {},
    "xavier_uniform": {"gain": 1.0},
    "xavier_normal": {"gain": 1.0},
    "kaiming_uniform": {"a": 0.0},
    "kaiming_normal": {"a": 0.0},
    "orthogonal": {"gain": 1.0},
}
"""Initializers and their parameters. ``default`` is torch's: uniform within ±1/√fan_in."""


@dataclass(frozen=True)
class Initializer:
    """Weights to be drawn."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def values(self) -> tuple[float, ...]:
        """Those of the parameters."""
        return tuple(self.parameters.values())

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Kernels:
    """Weights that are given.

    Attributes:
        values: output × input × rows × columns.
        shape: the four sizes of `values`.
        shared: one input channel was written and it stands for all.
        labels: what the user called each kernel.
    """

    values: Nested
    shape: tuple[int, int, int, int]
    shared: bool
    labels: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Output channels."""
        return self.shape[0]

    @property
    def channels(self) -> int:
        """Input channels per group; 1 when `shared`."""
        return self.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """Kernel height and width."""
        return (self.shape[2], self.shape[3])

    def __str__(self) -> str:
        return ", ".join(self.labels) or "numbers"


def parse(value: object) -> Initializer | Kernels:
    """Read a ``weight:`` (see the module's table).

    Raises:
        ConfigError: an unknown name or parameter, ragged numbers, kernels of different sizes.
    """
    if isinstance(value, Initializer | Kernels):
        return value
    if isinstance(value, str) and value in INITIALIZERS:
        return Initializer(value, INITIALIZERS[value])
    _check_keys(value)
    if isinstance(value, dict) and "initializer" in value:
        return _initializer(value)
    if isinstance(value, list) and _depth(value) == 4:
        values, shape = array(value)
        return Kernels(values, (shape[0], shape[1], shape[2], shape[3]), shared=False)
    is_bank = isinstance(value, list) and (_depth(value) > 2 or _has_text(value))
    entries = value if isinstance(value, list) and is_bank else [value]
    bank = []
    for i, entry in enumerate(entries):
        try:
            _check_keys(entry)
            bank.append(_kernel(entry))
        except ConfigError as error:
            raise (error.under(f"[{i}]") if is_bank else error) from None
    first = bank[0][1]
    for i, (_, shape, label) in enumerate(bank):
        if shape != first:
            raise problem(
                f"[{i}]",
                f"a {first[0]}×{first[1]} kernel, like the first",
                f"'{label}' of {shape[0]}×{shape[1]}",
                "The kernels of one layer share one size.",
            )
    labels = tuple(label for _, _, label in bank)
    values = tuple((rows,) for rows, _, _ in bank)
    return Kernels(values, (len(bank), 1, first[0], first[1]), shared=True, labels=labels)


def _check_keys(value: object) -> None:
    """YAML's keys may be numbers, truths or bytes."""
    for key in value if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise problem(str(key), "text as a key", describe(key))


def _initializer(value: dict[str, object]) -> Initializer:
    name = value["initializer"]
    if not isinstance(name, str) or name not in INITIALIZERS:
        raise problem(
            "initializer",
            one_of(INITIALIZERS),
            describe(name),
            did_you_mean(str(name), INITIALIZERS),
        )
    known = INITIALIZERS[name]
    given = {key: number for key, number in value.items() if key != "initializer"}
    for key, number in given.items():
        if key not in known:
            raise problem(
                key,
                one_of(known) if known else f"no parameters for '{name}'",
                f"'{key}'",
                did_you_mean(key, known),
            )
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise problem(key, "a number", describe(number))
    parameters = {**known, **{k: float(array(v, k)[0]) for k, v in given.items()}}  # type: ignore[arg-type]  # checked above
    if parameters.get("std", 0) < 0:
        raise problem("std", "at least 0", describe(parameters["std"]))
    if name == "uniform" and parameters["low"] > parameters["high"]:
        expected = f"at most high ({parameters['high']})"
        raise problem("low", expected, describe(parameters["low"]))
    return Initializer(name, parameters)


def _kernel(value: object) -> tuple[Nested, tuple[int, int], str]:
    """One kernel: its rows, its size, its name."""
    if isinstance(value, str):
        if value not in kernels.NAMES:
            options = [*kernels.NAMES, *INITIALIZERS]
            raise problem(
                "",
                "a kernel ("
                + ", ".join(kernels.NAMES)
                + "), an initializer ("
                + ", ".join(INITIALIZERS)
                + ") or numbers",
                f"'{value}'",
                did_you_mean(value, options),
            )
        rows = kernels.kernel(value)
        return rows, (len(rows), len(rows[0])), value
    if isinstance(value, dict):
        name = value.get("kernel")
        if not isinstance(name, str):
            if name is None and value:
                key = str(next(iter(value)))
                keys = ("kernel", "initializer")
                raise problem(key, one_of(keys), f"'{key}'", did_you_mean(key, keys))
            raise problem("kernel", one_of(kernels.NAMES), describe(name))
        try:
            rows = kernels.kernel(name, **{k: v for k, v in value.items() if k != "kernel"})
        except ConfigError as error:
            unknown = name not in kernels.NAMES
            raise (error.under("kernel") if unknown else error) from None
        given = [f"{key} {number}" for key, number in value.items() if key != "kernel"]
        return rows, (len(rows), len(rows[0])), " ".join([name, *given])
    if not isinstance(value, list):
        raise problem("", "a name, numbers or a list of kernels", describe(value))
    numbers, shape = array(value)
    if len(shape) != 2:
        raise problem(
            "",
            "a kernel as rows of numbers, such as [[1, -1]]",
            f"a list of {'×'.join(map(str, shape))} numbers",
            "Put one row into brackets too: [[…]]." if len(shape) == 1 else "",
        )
    return numbers, (shape[0], shape[1]), "numbers"


def _depth(value: object) -> int:
    """How deep lists are nested, following first entries."""
    return 1 + _depth(value[0]) if isinstance(value, list) and value else int(value == [])


def _has_text(value: object) -> bool:
    if isinstance(value, list):
        return any(map(_has_text, value))
    return isinstance(value, str | dict)


Weight = Annotated[Initializer | Kernels, PlainValidator(parse)]
"""The field type."""


def _bias(value: object) -> object:
    if value is None or isinstance(value, bool):
        return value
    expected = "true, false, a number or a list of numbers"
    if not isinstance(value, int | float | list | tuple):
        raise problem("", expected, describe(value), meant(value))
    numbers, shape = array(value)
    if len(shape) > 1:
        raise problem("", expected, describe(value))
    return numbers if shape else (numbers,)


Bias = Annotated[bool | tuple[float, ...] | None, BeforeValidator(_bias)]
"""What may stand after ``bias:``: whether there is one, or its values; one number serves all."""
