"""What the doctor checks of libraries: their versions, what they need in turn, their import."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from runner import installation
from runner.config.errors import first_line
from runner.installation import Library
from runner.tasks._doctor_finding import OK, SKIPPED, WARNING, WRONG, Finding


def libraries(_: str) -> list[Finding]:
    """Whether all that everybody needs is there, in versions that should do."""
    needed = [one for one in installation.libraries() if not one.extra]
    fitting = [one for one in needed if one.fits]
    told = ", ".join(f"{one.name} {one.version}" for one in fitting)
    found = [Finding("libraries", OK, told or "none")]
    found += [_unfit(one, WRONG) for one in needed if not one.fits]
    if installation.stale():
        mend = "Install the project again, so that it has all that it asks for now."
        what = "installed when pyproject.toml asked for other libraries"
        command = installation.mending("-e", str(installation.ROOT))
        found.append(Finding("runner", WARNING, what, mend, command))
    return found


def extras(_: str) -> list[Finding]:
    """Which of the extras are there; nobody needs them all."""
    optional = [one for one in installation.libraries() if one.extra]
    there = [f"{one.name} {one.version}" for one in optional if one.fits]
    unfit = [one for one in optional if one.version is not None and not one.fits]
    found = [Finding("extras", OK, ", ".join(there) or "none")]
    found += [_unfit(one, WARNING) for one in unfit]
    absent = [one for one in optional if one.version is None]
    if absent:
        names = ", ".join(f"{one.name} ({one.extra})" for one in absent)
        mend = "Each serves one purpose, named in brackets. All of them:"
        command = installation.mending(*map(str, absent))
        found.append(Finding("other extras", OK, f"not installed: {names}", mend, command))
    return found


def _unfit(library: Library, state: str) -> Finding:
    if library.version is None:
        found = f"not installed, and {library.wanted} is needed"
    else:
        found = f"{library.version} is installed, and {library.wanted} is needed"
    command = installation.mending(str(library))
    return Finding(library.name, state, found, "Install one that fits.", command)


def conflicts(_: str) -> list[Finding]:
    """Whether libraries have what they need in turn, and none overwrites another."""
    names = [one.name for one in installation.libraries() if one.version is not None]
    found = [*_unmet(names), *_doubles()]
    return found or [Finding("conflicts", OK, "none among all that these need")]


def _unmet(names: list[str]) -> Iterator[Finding]:
    """What libraries, and those that they need, ask for and don't get; see ``pip check``."""
    seen: set[str] = set()
    while names:
        name = names.pop()
        if name.lower() in seen:
            continue
        seen.add(name.lower())
        for need in map(Requirement, metadata.requires(name) or []):
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            version = installation.version(need.name)
            if version is None or not need.specifier.contains(version, prereleases=True):
                wanted = f"{need.name}{need.specifier}"
                what = f"{name} needs {wanted}, and {version or 'none'} is installed"
                command = installation.mending(wanted)
                mend = "Install one that fits; where others need another, upgrade those too."
                yield Finding("conflicts", WARNING, what, mend, command)
            if version is not None:
                names.append(need.name)


def _doubles() -> Iterator[Finding]:
    """Modules that several distributions bring: the one installed last has overwritten the others.

    So do ``hydra`` and hydra-core, ``tb-nightly`` and tensorboard, OpenCV with windows and without.
    """
    ours = {one.module: one.name for one in installation.libraries()}
    for module, several in metadata.packages_distributions().items():
        others = sorted({name for name in several if name != ours.get(module)})
        if module in ours and others and ours[module] in several:
            what = f"{' and '.join(others)} also bring{'s' * (len(others) == 1)} {module}"
            mend = "The one installed last has overwritten the other. Remove both, and install one."
            remove = installation.mending().replace("install", "uninstall", 1)
            command = f"{remove} {' '.join([*others, ours[module]])}"
            command += "\n" + installation.mending(ours[module])
            yield Finding(ours[module], WRONG, what, mend, command)


def imports(name: str) -> list[Finding]:
    """Whether a library that is installed can be imported.

    Args:
        name: of the distribution.

    Returns:
        Nothing when it can, or isn't installed.
    """
    (library,) = (one for one in installation.libraries() if one.name == name)
    if library.version is None:
        return []
    try:
        importlib.import_module(library.module)
    except BaseException as error:  # some libraries call sys.exit
        return [broken(name, error)]
    return []


def broken(name: str, error: BaseException) -> Finding:
    """That a library can't be imported, and why; that one is missing is told elsewhere.

    Args:
        name: of the distribution.
        error: that it raised.
    """
    (library,) = (one for one in installation.libraries() if one.name == name)
    if library.version is None:
        return Finding(name, SKIPPED, "not installed")
    state = WARNING if library.extra else WRONG
    why = f"can't be imported: {type(error).__name__}: {first_line(error)}"
    culprit = installation.blamed(error) or (library.name, library.module)
    return Finding(name, state, why, *installation.mend(*culprit))
