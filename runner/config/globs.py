"""Globs over config groups: in a sweep, ``experiment=glob(**)`` becomes the names that it matches.

Hydra's own glob looks into the group's folder alone. Here it matches the names of nested folders
too, ``6_2/corr2d``, and as in Hydra a star stands for any characters, slashes included: ``*`` and
``**`` are everything, ``6_2/*`` is one folder, and ``exclude=`` takes names out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Quote, QuotedString
from hydra.errors import HydraException

from runner.config.errors import ConfigError, Problem, did_you_mean, one_of


def without_globs(overrides: Sequence[str], options: Callable[[str], Sequence[str]]) -> list[str]:
    """The overrides, each glob replaced by the names that it matches, in alphabetical order.

    Args:
        overrides: as on the command line; one that can't be read stays as it is.
        options: every config of a group, those of nested folders with their path.

    Raises:
        ConfigError: globs that match nothing.
    """
    parser = OverridesParser.create()
    expanded: list[str] = []
    problems: list[Problem] = []
    for text in overrides:
        try:
            override = parser.parse_override(text) if "glob(" in text else None
        except HydraException:
            override = None
        glob = override.value() if override is not None else None
        if override is None or not isinstance(glob, Glob):
            expanded.append(text)
            continue
        # The grammar reads a pattern such as 7 as a number.
        glob = Glob([str(p) for p in glob.include], [str(p) for p in glob.exclude])
        key, _, written = text.partition("=")
        there = options(override.key_or_group)
        names = glob.filter(list(there))
        if not names:
            problems.append(_nothing(override.key_or_group, written, glob, there))
        expanded.append(f"{key}={','.join(_word(name, parser) for name in names)}")
    if problems:
        raise ConfigError(*problems)
    return expanded


def _nothing(group: str, written: str, glob: Glob, there: Sequence[str]) -> Problem:
    if not there:
        return Problem(group, "a config group, whose names a glob can match", f"'{written}'")
    if glob.exclude and Glob(glob.include).filter(list(there)):
        hint = "exclude= leaves nothing."
    else:
        folders = sorted({f"{name.rpartition('/')[0]}/*" for name in there if "/" in name})
        hint = did_you_mean(" ".join(glob.include), [*there, *folders])
    return Problem(group, f"a glob that matches {one_of(there)}", f"'{written}'", hint)


def _word(name: str, parser: OverridesParser) -> str:
    """A name as Hydra's grammar reads it: quoted where it could be taken for a number or a list."""
    try:
        if parser.parse_override(f"key={name}").value() == name:
            return name
    except HydraException:
        pass
    quoted: str = QuotedString(name, Quote.single).with_quotes()
    return quoted
