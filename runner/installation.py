"""Which libraries the project needs, and what is installed of them; none of them is imported."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner import signals

if TYPE_CHECKING:
    from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
"""The project's checkout, where it is one; otherwise the folder it is installed into."""

DISTRIBUTION, DEVELOPMENT = "runner", "dev"
"""This project, and its extra for those who change it; nobody else misses what that brings."""

MODULES = {
    "google-crc32c": "google_crc32c",
    "hydra-core": "hydra",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}
"""What is imported of a distribution, where that has another name."""

Asked = set[tuple[str, str, str]]
"""Distributions that are asked for: name, versions, extra."""


@dataclass(frozen=True, order=True)
class Library:
    """A distribution that the project can use.

    Attributes:
        extra: of this project that brings it; empty for what everybody needs.
        name: of the distribution.
        wanted: the versions that should do: ``>=2.4,<3``.
        version: that is installed, or None.
    """

    extra: str
    name: str
    wanted: str
    version: str | None

    @property
    def module(self) -> str:
        """The name under which it is imported."""
        return MODULES.get(self.name, self.name)

    @property
    def fits(self) -> bool:
        """Whether a version that should do is installed."""
        from packaging.specifiers import SpecifierSet

        if self.version is None:
            return False
        return SpecifierSet(self.wanted).contains(self.version, prereleases=True)

    def __str__(self) -> str:
        return f"{self.name}{self.wanted}"


def libraries() -> list[Library]:
    """All that the project can use on this system; what everybody needs comes first."""
    asked = declared(ROOT) or installed()
    return sorted(Library(extra, name, wanted, version(name)) for name, wanted, extra in asked)


def version(name: str) -> str | None:
    """The version of a distribution, or None where there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def declared(root: Path) -> Asked:
    """What the ``pyproject.toml`` of a checkout asks for; nothing where there is none."""
    from packaging.requirements import Requirement

    project = _project(root)
    if not project:
        return set()
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return _asked([(Requirement(text), extra) for extra in groups for text in groups[extra]])


def installed() -> Asked:
    """What the metadata ask for that were written when the project was installed."""
    from packaging.requirements import Requirement

    try:
        texts = metadata.requires(DISTRIBUTION) or []
        extras = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return set()
    found = []
    for requirement in map(Requirement, texts):
        # What is needed without an extra is needed with each.
        groups = [""] if _holds(requirement, "") else extras
        found += [(requirement, extra) for extra in groups]
    return _asked(found)


def stale() -> bool:
    """Whether a checkout asks for other libraries than when it was installed."""
    now = declared(ROOT)
    return bool(now) and version(DISTRIBUTION) is not None and now != installed()


def pythons() -> str:
    """The versions of Python that the project is for."""
    if project := _project(ROOT):
        return str(project["requires-python"])
    return str(metadata.metadata(DISTRIBUTION)["Requires-Python"] or "")


def mending(*requirements: str) -> str:
    """The command that installs something into the Python that runs this.

    Args:
        requirements: such as ``ray>=2.40``.
    """
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    pip = [python, "-m", "pip"] if find_spec("pip") else ["uv", "pip"]
    return shlex.join([*pip, "install", *requirements])


def mend(name: str, module: str) -> tuple[str, str]:
    """What to do about a distribution that can't be imported.

    Args:
        name: of the distribution.
        module: that is imported of it.

    Returns:
        A sentence, and the command that does it, or nothing where that depends.
    """
    if (where := _elsewhere(name, module)) is not None:
        told = f"{name} is taken from {where}, which isn't the installed one"
        return f"{told}: rename or remove that.", ""
    requirement = name
    with suppress(Exception):  # what reads requirements may be what is broken
        requirement = next((str(one) for one in libraries() if one.name == name), name)
    return f"Install {name} anew.", mending("--force-reinstall", requirement)


def blamed(error: BaseException) -> tuple[str, str] | None:
    """The distribution and the module to blame for an error of an import, if one can be named."""
    owners = metadata.packages_distributions()
    if isinstance(error, ModuleNotFoundError):
        # Who asks for what is missing is not to blame.
        modules = [(error.name or "").partition(".")[0]]
    else:
        frames = reversed(traceback.extract_tb(error.__traceback__))
        modules = [_module(path) for path in (broken(error), *(one.filename for one in frames))]
    for module in modules:
        if module in owners and DISTRIBUTION not in owners[module]:
            return owners[module][0], module
    return None


def broken(error: BaseException) -> str:
    """The file that is to blame for an error of an import; its traceback may end before that."""
    named = error.filename if isinstance(error, SyntaxError) else getattr(error, "path", None)
    # Of a module that lacks something.
    named = named or getattr(getattr(error, "obj", None), "__file__", None)
    return str(named or traceback.extract_tb(error.__traceback__)[-1].filename)


def explain(error: Exception) -> None:
    """End the program, if this is one, with why a library can't be imported, and no traceback.

    Args:
        error: that was raised in place of a module.
    """
    begun = sys.argv[0] == str(Path(__file__).with_name("__main__.py"))
    if (begun or signals.is_program()) and os.environ.get("HYDRA_FULL_ERROR") != "1":
        told = [*reasons(error), "HYDRA_FULL_ERROR=1 shows the traceback."]
        sys.stderr.write("".join(f"{line}\n" for line in told))
        raise SystemExit(1)


def is_of_import(error: Exception) -> bool:
    """Whether an error was raised in place of a module, to which its traceback leads from here."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, ImportError | SyntaxError) or any(f.name == "<module>" for f in frames)


def reasons(error: Exception) -> list[str]:
    """What an error says that was raised by an import, and what can be done about it."""
    text = f"{type(error).__name__}: {error}"
    if not isinstance(error, ModuleNotFoundError) and (path := broken(error)) not in text:
        text += f" (in {path})"
    told = advice()
    if (culprit := blamed(error)) is not None:
        sentence, command = mend(*culprit)
        if not command:
            told.append(sentence)
        elif not told:  # one that fits is installed anew in any case
            told += [sentence, f"Mend it: {command}"]
    return [text, *told]


def advice() -> list[str]:
    """Which libraries that everybody needs are missing or don't fit, and the command that helps."""
    try:
        wrong = [one for one in libraries() if not one.extra and not one.fits]
    except Exception:  # who compares versions is missing or broken
        return [f"Mend it: {mending('packaging')}"]
    if not wrong:
        return []
    lines = [f"{one} is needed, and {one.version or 'none'} is installed." for one in wrong]
    return [*lines, f"Mend it: {mending(*map(str, wrong))}"]


def _elsewhere(name: str, module: str) -> Path | None:
    """Where a module is taken from, if that isn't where its distribution was installed."""
    try:
        spec = find_spec(module)
        root = Path(str(metadata.distribution(name).locate_file(""))).resolve()
    except (ImportError, ValueError, metadata.PackageNotFoundError):
        return None
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).resolve()
    return None if path.is_relative_to(root) else path


def _module(path: str) -> str:
    """The name of the package or module that a file is imported with; empty if it isn't."""
    roots = [entry for entry in map(os.path.abspath, sys.path) if Path(path).is_relative_to(entry)]
    return Path(path).relative_to(max(roots, key=len)).parts[0].removesuffix(".py") if roots else ""


@cache
def _project(root: Path) -> dict[str, Any]:
    """The project's part of a checkout's ``pyproject.toml``; empty where there is none."""
    import tomllib

    path = root / "pyproject.toml"
    if not path.is_file():
        return {}
    project: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    return project if project.get("name") == DISTRIBUTION else {}


def _asked(found: list[tuple[Requirement, str]]) -> Asked:
    """Without what is for other systems or extras, or for those who change the project."""
    return {
        (one.name, ",".join(sorted(map(str, one.specifier), reverse=True)), extra)
        for one, extra in found
        if extra != DEVELOPMENT and _holds(one, extra)
    }


def _holds(requirement: Requirement, extra: str) -> bool:
    """Whether a requirement is meant for this system, with an extra."""
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
