"""The base of every spec, and the field types they share.

A spec is a frozen, strict Pydantic model: unknown keys are refused, text is not a number, and
what was validated can't change afterwards. Pydantic checks one model; `check` walks a config
that picks its models from menus (``kind: conv``) and collects the problems of all of them.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from runner import menu
from runner.config.errors import (
    ConfigError,
    Problem,
    describe,
    did_you_mean,
    join,
    meant,
    one_of,
)
from runner.config.fields import LARGEST


class Spec(BaseModel):
    """A validated piece of configuration."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Kind(Spec):
    """A spec that a menu holds: its `kind` is the name of the file that defines it."""

    kind: str


SpecT = TypeVar("SpecT", bound=Spec)


@dataclass(frozen=True)
class Menu:
    """Marks a field whose value picks a spec from a menu by its ``kind``.

    Attributes:
        package: the folder that is the menu, as a dotted name.
        named: the field is a mapping from names to specs instead of one spec.
    """

    package: str
    named: bool = False


def check(model: type[SpecT], raw: object, path: str = "") -> tuple[SpecT | None, list[Problem]]:
    """Validate raw YAML against a spec, following its menus.

    Args:
        model: the spec to build.
        raw: plain dicts, lists and scalars.
        path: where `raw` stands in the whole config; the problems' paths start with it.

    Returns:
        The spec, or None and at least one problem.
    """
    if not isinstance(raw, dict):
        fields = ", ".join(model.model_fields)
        return None, [Problem(path or "config", f"a mapping with {fields}", describe(raw))]
    prepared = dict(raw)
    problems: list[Problem] = []
    unresolved: set[tuple[str]] = set()
    for name, marker, inner, optional in _followed(model):
        if name not in raw or (raw[name] is None and optional):
            continue
        where = join(path, name)
        if marker is not None:
            value, found = _pick(marker, raw[name], where)
        else:
            value, found = check(cast(type[Spec], inner), raw[name], where)
        problems += found
        prepared[name] = value
        if found:
            unresolved.add((name,))
            del prepared[name]
    try:
        spec = model.model_validate(prepared)
    except ValidationError as error:
        errors = [e for e in error.errors(include_url=False) if e["loc"][:1] not in unresolved]
        problems += _problems(model, errors, path)
        return None, problems
    return (None, problems) if problems else (spec, [])


@cache
def _followed(model: type[Spec]) -> list[tuple[str, Menu | None, object, bool]]:
    """The fields that lead to menus: their name, their menu or else their spec, and if optional."""
    fields = []
    for name, field in model.model_fields.items():
        marker = next((m for m in field.metadata if isinstance(m, Menu)), None)
        inner = next(filter(_has_menus, _members(field.annotation)), None)
        if marker is not None or inner is not None:
            fields.append((name, marker, inner, type(None) in _members(field.annotation)))
    return fields


def _has_menus(annotation: object) -> bool:
    """Whether a type is a spec with a menu inside, which Pydantic alone can't check."""
    return (
        isinstance(annotation, type)
        and issubclass(annotation, Spec)
        and any(
            any(isinstance(m, Menu) for m in field.metadata)
            or any(map(_has_menus, _members(field.annotation)))
            for field in annotation.model_fields.values()
        )
    )


def _pick(marker: Menu, raw: object, path: str) -> tuple[object, list[Problem]]:
    if not marker.named:
        return check_kind(marker.package, raw, path)
    if not isinstance(raw, dict):
        return None, [Problem(path, "a mapping from names to specs", describe(raw))]
    picked, problems = {}, []
    for name, value in raw.items():
        if not (isinstance(name, str) and name.isidentifier()):
            rule = "a name of letters, digits and underscores that starts with a letter"
            hint = meant(name) if isinstance(name, bool) else ""
            problems.append(Problem(join(path, str(name)), rule, describe(name), hint))
            continue
        others = [str(n) for n, other in raw.items() if isinstance(other, dict) and "kind" in other]
        if isinstance(value, dict) and "kind" not in value and others:
            # Most likely an override of a layer whose name was mistyped.
            options = one_of(menu.names(marker.package))
            expected = f"{one_of(others)}, or for a new one a kind: {options}"
            hint = did_you_mean(name, others)
            problems.append(Problem(join(path, name), expected, f"'{name}' without a kind", hint))
            continue
        picked[name], found = check_kind(marker.package, value, join(path, name))
        problems += found
    return picked, problems


def check_kind(package: str, raw: object, path: str) -> tuple[Kind | None, list[Problem]]:
    """Validate one menu entry: find the spec that ``kind`` names, and check against it."""
    options = one_of(menu.names(package))
    if not isinstance(raw, dict):
        return None, [Problem(path, f"a mapping with kind: {options}", describe(raw))]
    kind = raw.get("kind")
    if not isinstance(kind, str):
        hint = meant(kind) if isinstance(kind, bool) else ""
        return None, [Problem(join(path, "kind"), options, describe(kind), hint)]
    try:
        spec = menu.load(package, kind, Kind)
    except ConfigError as error:
        return None, list(error.under(path).problems)
    return check(spec, raw, path)


def _problems(model: type[Spec], errors: list[ErrorDetails], path: str) -> Iterable[Problem]:
    """Pydantic's complaints in the project's form, one per field.

    A union reports every member's failure, at a location that ends with the member's tag. The
    project's own refusals say the most; otherwise what the members expected is joined.
    """
    by_field: dict[str, list[Problem]] = {}
    for error in errors:
        *parts, last = error["loc"] or ("",)
        # An unknown key may look like a tag, but it is what the complaint is about.
        keep = error["type"] == "extra_forbidden" or not _is_union_tag(last)
        step = str if error["type"] == "invalid_key" else _step
        location = [step(part) for part in parts if not _is_union_tag(part)]
        location += [step(last)] if keep and (last != "" or error["loc"]) else []
        where = path
        for part in location:
            where = join(where, part if part.strip() else repr(part))
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            yield from cause.under(where).problems
        elif error["type"] == "refused":
            context = error["ctx"]
            yield Problem(where, context["expected"], context["got"], context["hint"])
        else:
            by_field.setdefault(where, []).append(_problem(model, location, error, where))
    for where, found in by_field.items():
        expected = " or ".join(dict.fromkeys(one.expected for one in found))
        hint = next((one.hint for one in found if one.hint), "")
        yield Problem(where, expected, found[0].got, hint)


def _step(part: int | str) -> str:
    """A key, or the place of an entry in a list: ``only[0]``."""
    return f"[{part}]" if isinstance(part, int) else part


def _is_union_tag(part: int | str) -> bool:
    return isinstance(part, str) and (not part.isidentifier() or part in _BUILTIN_TAGS)


_BUILTIN_TAGS = {"int", "float", "bool", "str", "none"}

_EXPECTED = {
    "bool_type": "true or false",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "int_type": "an integer",
    "invalid_key": "text as a key",
    "list_type": "a list",
    "less_than": "less than {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
    "missing": "a value",
    "string_type": "text",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "value_error": "{error}",
}


def _problem(model: type[Spec], location: list[str], error: ErrorDetails, where: str) -> Problem:
    if error["type"] == "extra_forbidden":
        *parents, key = location
        keys = list(_model_at(model, parents).model_fields)
        return Problem(where, one_of(keys), f"'{key}'", did_you_mean(key, keys))
    got = "nothing" if error["type"] == "missing" else describe(error["input"])
    field = _field_type(model, location)
    if error["type"] == "missing" and get_origin(field) is Literal:
        return Problem(where, one_of(_literals(field)), got)
    if error["type"] == "literal_error":
        options = _literals(field)
        hint = _near(error["input"], options)
        return Problem(where, one_of(options) if len(options) > 1 else options[0], got, hint)
    if error["type"] == "model_type":
        fields = list(_model_at(model, location).model_fields)
        # A lone word most often is what the first field wants: optimizer=sgd.
        word = isinstance(error["input"], str) and fields[0] == "name"
        hint = f"Write {where}.name={error['input']}." if word else ""
        return Problem(where, f"a mapping with {', '.join(fields)}", got, hint)
    expected = _EXPECTED.get(error["type"], error["msg"][0].lower() + error["msg"][1:])
    expected = expected.format(**error.get("ctx", {})).replace(" 1 entries", " 1 entry")
    given = error["input"]
    whole = isinstance(given, float) and given.is_integer() and abs(given) <= LARGEST
    hint = f"Write {int(given)}." if error["type"] == "int_type" and whole else ""
    if error["type"] == "bool_type" or (error["type"] == "string_type" and isinstance(given, bool)):
        hint = meant(given)
    return Problem(where, expected, got, hint)


def _near(given: object, options: list[str]) -> str:
    """The option that was meant by what is none."""
    if isinstance(given, bool):
        return meant(given)
    return did_you_mean(given, options) if isinstance(given, str) else ""


def _model_at(model: type[Spec], path: list[str]) -> type[Spec]:
    """The nested model that a location's parents lead to."""
    for name in path:
        field = model.model_fields.get(name)  # None for an entry of a list
        for member in _members(field.annotation) if field else []:
            if isinstance(member, type) and issubclass(member, Spec):
                model = member
                break
    return model


def _field_type(model: type[Spec], location: list[str]) -> object:
    """The type of the field that a location names, or that it lies in."""
    for end in range(len(location), 0, -1):
        fields = _model_at(model, location[: end - 1]).model_fields
        if location[end - 1] in fields:
            return fields[location[end - 1]].annotation
    return None


def _members(annotation: object) -> list[object]:
    """The alternatives of a union, or the annotation itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _members(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    return [annotation]


def _literals(annotation: object) -> list[str]:
    """The options of every Literal in a type, those of a list's entries too."""
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    return [option for inner in get_args(annotation) for option in _literals(inner)]
