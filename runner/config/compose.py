"""Compose the config with Hydra, and say what is wrong with it in the project's own words.

Hydra stops at the first mistake. Here, an override that Hydra refuses is noted and set aside, and
composition goes on without it, so that one answer names every mistake. Overrides of keys that a
YAML file doesn't spell out, such as ``stack.layers.conv1.stride=2``, need no ``+``: the specs know
which keys there are, and refuse the others with a better hint than composition could.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import yaml
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runner import signals
from runner.config.base import Draft
from runner.config.errors import ConfigError, Problem, did_you_mean, first_line, one_of, problem
from runner.config.globs import without_globs
from runner.config.interpolation import bounded
from runner.config.loader import Loader
from runner.config.overrides import parse
from runner.config.process import Globals, refer_to
from runner.config.values import each_value

CONFIG_NAME = "config"
STUMBLES = (TypeError, AttributeError, LookupError, AssertionError, OSError)
"""What Hydra raises where a value is none that it has thought of."""

COMPOSITION_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    yaml.YAMLError,
    ValueError,
    *STUMBLES,
)


def config_folder() -> Path:
    """The configs that come with the project: beside the package, or inside the installed one."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


@dataclass(frozen=True)
class Composed:
    """A config, and what is wrong with the overrides that it was made from.

    Attributes:
        config: with its ``hydra`` node, made from the overrides that could be used.
        overrides: those, as Hydra takes them.
        problems: of the others.
        draft: whose config it is, where it isn't finished.
    """

    config: DictConfig
    overrides: list[str]
    problems: list[Problem]
    draft: Draft | None = None

    @property
    def mended(self) -> list[str]:
        """The overrides of keys that the YAML doesn't spell out."""
        return [text for text in self.overrides if text.startswith("++")]


class Composer:
    """Composes configs from the project's folder and the user's own.

    Used in a ``with`` statement, it leaves Hydra's global state, and the logging that Hydra sets
    up for a job, as it found them.

    Attributes:
        hydra: Hydra, with the search path set.
        name: of the primary config.
    """

    def __init__(self, folder: str | Path | None = None, name: str = CONFIG_NAME) -> None:
        """Set up Hydra.

        Args:
            folder: the user's own config folder (``--config-dir``).
            name: of the primary config (``--config-name``).

        Raises:
            ConfigError: the folder isn't there.
        """
        search_path = create_config_search_path(str(config_folder()))
        if folder is not None:
            path = Path(folder).expanduser().absolute()
            if not path.is_dir():
                raise problem("--config-dir", "a folder", f"'{folder}', which is not one")
            last = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{path}", anchor=last)
        self._before = Globals()
        version.setbase("1.3")
        GlobalHydra.instance().clear()
        self._loader = Loader(search_path)
        self.hydra = Hydra("runner", self._loader)
        GlobalHydra.instance().initialize(self.hydra)
        self.name = name

    def __enter__(self) -> Composer:
        return self

    def __exit__(self, *_: object) -> None:
        self._before.restore()

    @signals.heard()  # OmegaConf makes other errors of it
    def compose(self, overrides: Sequence[str], *, draft: bool = False) -> Composed:
        """The config that the overrides ask for.

        Args:
            overrides: as on the command line.
            draft: whether a draft will do, where it may be one.

        Raises:
            ConfigError: nothing could be composed.
        """
        usable = list(overrides)
        problems = [_already_there(group) for group in self._chosen_twice(usable)]
        usable = [
            text for text in usable if not any(text.startswith(f"+{one.path}=") for one in problems)
        ]
        # Every round sets an override aside or mends one, so the rounds are bounded.
        for _ in range(2 * len(usable) + 1):
            try:
                made = self._draft(usable) if draft else None
                config = self._load(usable) if made is None else made.config
                return Composed(config, usable, problems, made)
            except COMPOSITION_ERRORS as error:
                try:
                    usable, found = self._without_cause(usable, error)
                except ConfigError as final:
                    raise ConfigError(*problems, *final.problems) from None
                problems += found
        raise ConfigError(*problems)

    def _chosen_twice(self, overrides: Sequence[str]) -> list[str]:
        """Groups that are chosen and added, of which Hydra may take one choice and say nothing."""
        added = {text[1:].partition("=")[0] for text in overrides if text.startswith("+")}
        keys = dict.fromkeys(text.partition("=")[0] for text in overrides)
        return [key for key in keys if key in added and self.options(key)]

    def _draft(self, overrides: list[str]) -> Draft | None:
        with suppress(*COMPOSITION_ERRORS):  # composing it whole tells what is wrong
            return self._loader.draft(self.name, overrides)
        return None

    def _load(self, overrides: list[str]) -> DictConfig:
        try:
            with bounded(environment=True):  # merging may resolve what is merged into
                config = self.hydra.config_loader.load_configuration(
                    config_name=self.name, overrides=overrides, run_mode=RunMode.RUN
                )
        except RecursionError:
            expected = "defaults that come to an end"
            raise problem("config", expected, "files that include each other") from None
        refer_to(config)
        return config

    def _without_cause(
        self, overrides: list[str], error: Exception
    ) -> tuple[list[str], list[Problem]]:
        """The overrides without the one that caused an error, or with that one mended.

        Raises:
            ConfigError: no override is to blame.
        """
        if isinstance(error, ConfigError):
            raise error  # a file is refused, whatever overrides say
        if isinstance(error, OverrideParseException):
            bad = error.override
            return _drop(overrides, bad), [_unreadable(bad)]
        keys = {text: parse(text).key_or_group for text in overrides}
        if isinstance(error, MissingConfigException):
            return self._without_missing(error.missing_cfg_file or "", keys)
        message = str(error)
        if match := re.match(r"Could not override '([^']+)'", message):
            key = match[1]
            if key.startswith("hydra."):  # no spec would refuse it later
                return [t for t, k in keys.items() if k != key], [self._unknown_key(key, keys)]
            mended = [
                f"++{text}" if keys[text] == key and text[0] not in "+~" else text
                for text in overrides  # one may be given twice
            ]
            if mended != overrides:
                return mended, []
        sweep = r"(?:Ambiguous value for argument|Sweep parameters) '([^=]+)=(.*)'"
        if match := re.match(sweep, message):
            bad = f"{match[1]}={match[2]}"
            hint = "To sweep over the values add --multirun; for one list write [a,b]."
            return _drop(overrides, bad), [Problem(match[1], "one value", f"'{match[2]}'", hint)]
        if match := re.match(
            r"Could not (delete|append)[^']*'([^']+)'(?: is (.*) and not)?", message
        ):
            what, key, value = match.groups()
            rest = [
                t for t, k in keys.items() if k != key or t[0] != {"delete": "~"}.get(what, "+")
            ]
            if rest != overrides:
                if what == "append":
                    return rest, [_already_there(key)]
                if value is not None:
                    hint = f"~{key} removes it, whatever it is."
                    return rest, [Problem(key, f"{value}, which is there", "another value", hint)]
                return rest, [self._unknown_key(key, keys)]
        twice = r"Multiple values for ([^.]+)\. |(\S+) appears more than once in the final defaults"
        if match := re.match(twice, message):
            group = match[1] or match[2]
            rest = [t for t, k in keys.items() if k != group or t[0] != "+"]
            if rest != overrides:
                return rest, [_already_there(group)]
        if match := re.match(r"In '([^']+)': Could not override '[^'@]+@", message):
            expected = "'# @package _global_' as the first line of the file"
            hint = "Without it, the file's contents and overrides belong to its own group."
            raise problem(f"{match[1]}.yaml", expected, "another line", hint) from None
        return self._without_culprit(keys, error)

    def _without_missing(
        self, missing: str, keys: Mapping[str, str]
    ) -> tuple[list[str], list[Problem]]:
        """The overrides without those that chose a config that isn't there, and what depends on it.

        Raises:
            ConfigError: no override chose it.
        """
        chosen = [key for key in keys.values() if missing == key or missing.startswith(f"{key}/")]
        if chosen or "/" in missing:
            group = max(chosen, key=len) if chosen else missing.partition("/")[0]
            name = missing[len(group) + 1 :]
            # With its package, as it was typed: stack@task.other.stack is not the run's own stack.
            typed = (t.lstrip("+").partition("=") for t, k in keys.items() if k == group)
            path = next((place for place, _, value in typed if value == name), group)
            found = self._unknown_option(group, name, path)
            inside = [o for o in self.options(group) if o.endswith(f"/{name}")]
            if inside and not any(text.endswith(f"={name}") for text in keys):
                hint = f"A file's defaults ask for it: there, write {inside[0]}@_here_."
                found = replace(found, hint=hint)
        else:
            expected = "a config in the config folders"
            found = Problem("--config-name", expected, f"'{missing}'")
        if not chosen:
            raise ConfigError(found)
        # What was meant for the missing config can't be judged without it.
        return [t for t, k in keys.items() if k.partition(".")[0] != group], [found]

    def _without_culprit(
        self, keys: Mapping[str, str], error: Exception
    ) -> tuple[list[str], list[Problem]]:
        """The overrides without the one that composition can do without, when all else is unclear.

        Raises:
            ConfigError: there is none.
        """
        unblamed = _from_hydra(error)
        # What was meant for a choice of a group, or for what a word before says, is blamed first.
        last_first = list(keys.items())[::-1]
        for text, key in sorted(last_first, key=lambda item: bool(self.options(item[1]))):
            # What was meant for a config that can't be read is judged no more than it.
            rest = [o for o, k in keys.items() if o != text and not k.startswith(f"{key}.")]
            with suppress(*COMPOSITION_ERRORS):
                self._load(rest)
                return rest, [self._blame(text, key, error, *unblamed.problems)]
        raise unblamed from None

    def _blame(self, text: str, key: str, error: Exception, unblamed: Problem) -> Problem:
        """What is wrong with the override without which there is no error."""
        value = text.partition("=")[2]
        options = self.options(key)
        if isinstance(error, yaml.MarkedYAMLError):
            return unblamed  # the place in the file says more
        if not key:
            return _unreadable(text)
        if options and value not in options:
            return self._unknown_option(key, value, text.lstrip("+").partition("=")[0])
        return Problem(key, "a value that can be composed", f"'{value}'", f"{unblamed.got}.")

    def _unknown_option(self, group: str, name: str, path: str = "") -> Problem:
        options = self.options(group)
        return Problem(
            path or group,
            one_of(options) if options else "a config group",
            f"'{name}'" if name else "nothing",
            did_you_mean(name, options),
        )

    def _unknown_key(self, key: str, keys: Mapping[str, str]) -> Problem:
        """A key that isn't there, with those beside it in the config that the groups give."""
        *parents, name = key.split(".")
        siblings: list[str] = []
        with suppress(*COMPOSITION_ERRORS):
            config = self._load([text for text, key in keys.items() if self.options(key)])
            there = OmegaConf.select(config, ".".join(parents)) if parents else config
            siblings = [str(k) for k in there] if isinstance(there, DictConfig) else []
            siblings = [name for name in siblings if not name.startswith("_")]
        if name in siblings and any(text == f"~{key}" for text in keys):
            return Problem(key, "a key that has a value", "one that is null already")
        if name in siblings:
            hint = f"Give new ones by themselves: +{key}.NAME=VALUE."
            return Problem(key, "entries that are there", "others", hint)
        return Problem(
            key,
            one_of(siblings) if siblings else "a key that is there",
            f"'{name}'",
            did_you_mean(name, siblings),
        )

    def jobs_of_sweep(self, overrides: Sequence[str], *, grid: bool = True) -> list[list[str]]:
        """The overrides of each job.

        Args:
            overrides: of the sweep.
            grid: every combination, in the order of Hydra's basic sweeper. Otherwise the job of
                all first values, and then one for each other value: what there is to check before
                a sweeper chooses values as it goes. Of a range or an interval both ends stand for
                all.

        Raises:
            ConfigError: an override that can't be read, that has no list of values or two of them,
                or a glob that matches nothing.
        """
        choices: list[list[str]] = []
        swept: dict[str, str] = {}
        for text in without_globs(overrides, self.options):
            try:
                values = each_value(text, grid=grid)
            except OverrideParseException:
                raise ConfigError(_unreadable(text)) from None
            key, _, written = text.lstrip("+").partition("=")
            if len(values) > 1 and swept.setdefault(key, written) != written:
                both = f"'{swept[key]}' and '{written}'"
                raise problem(key, "one list of values", both, "Write all of them into one.")
            choices.append(values)
        if grid:
            return [list(words) for words in product(*choices)]
        first = [values[0] for values in choices]
        others = [(i, value) for i, values in enumerate(choices) for value in values[1:]]
        return [first, *([*first[:i], value, *first[i + 1 :]] for i, value in others)]

    def options(self, group: str) -> list[str]:
        """Every config of a group, those of nested folders with their path.

        One whose name begins with ``_`` is for other configs, and isn't told.
        """
        if not group:
            return []
        loader = self.hydra.config_loader
        names = loader.get_group_options(group, ObjectType.CONFIG)
        for inner in loader.get_group_options(group, ObjectType.GROUP):
            names += [f"{inner}/{name}" for name in self.options(f"{group}/{inner}")]
        return sorted(name for name in names if not name.startswith("_"))


def _unreadable(text: str) -> Problem:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[^\s=]+", key.lstrip("+~")):
        return Problem(text.strip() or "override", "key=value", f"'{text}'")
    if not key.isascii():
        hint = "Write it into a YAML file."
        return Problem(key.lstrip("+"), "a key of English letters, digits and _", f"'{key}'", hint)
    hint = f"Quote what has spaces or special characters: '{key}=\"…\"'."
    return Problem(key.lstrip("+"), "a value that can be read", f"'{value}'", hint)


def _already_there(key: str) -> Problem:
    return Problem(key, "a new key after +", "one that is there", f"Change it: {key}=….")


def _drop(overrides: list[str], bad: str) -> list[str]:
    rest = [text for text in overrides if text.lstrip("+") != bad.lstrip("+")]
    if rest == overrides:
        raise problem(bad, "an override that can be read", f"'{bad}'")
    return rest


def _from_hydra(error: Exception) -> ConfigError:
    """An error that no override is to blame for: a file of the config folders is wrong."""
    mark = getattr(error, "problem_mark", None)
    if mark is not None:
        where = f"{mark.name}:{mark.line + 1}:{mark.column + 1}"
        return problem(where, "valid YAML", f"an error: {getattr(error, 'problem', error)}")
    cause = error.__cause__ or error
    return problem(
        "config", "a config that can be composed", first_line(cause) or first_line(error)
    )
