"""Doctor: is everything there that runs need, and does it work here? What is wrong, how to mend it.

Nothing heavy is imported here: what may be broken is looked at by other processes, so that a
library that is missing, crashes or hangs is a line of the table and not the end of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from shutil import get_terminal_size
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator
from pydantic import Field as Limited

from runner import installation
from runner.config.errors import did_you_mean, one_of, problem
from runner.ops import Ops
from runner.plan import Plan
from runner.stack import Stack
from runner.tasks import Run, Task
from runner.tasks._doctor_finding import STATES, WIDTH, Finding, advice, summary, table
from runner.tasks._doctor_lanes import Check, examine
from runner.tasks._doctor_machine import PINS, THREADS, encoding
from runner.tasks._doctor_operators import operators

FIRST = {
    "python": "Python",
    "libraries": "libraries",
    "extras": "extras",
    "conflicts": "conflicts",
    "cores": "processor",
    "memory": "memory",
    "torch": "torch",
}
COMPUTING = {
    "devices": "devices",
    "threads": "threads",
    "triton": "triton",
    "numba": "numba",
    "remembered": "auto's memory",
}
LAST = {
    "temporary": "temporary",
    "home": "home",
    "configs": "configs",
    "git": "git",
    "clock": "clock",
    "tensorboard": "tensorboard",
}
"""Checks, and their names in the table; between these come those of libraries, operators, folders.
Triton is checked before anything else imports it: without a GPU it is told to interpret."""

BESIDES = {
    "libraries": ("runner",),
    "extras": ("other extras",),
    "cores": (*THREADS, *PINS),
    "devices": tuple(f"cuda:{i}" for i in range(16)),
    "triton": ("triton's cache",),
    "numba": ("numba's cache",),
    "tensorboard": ("command",),
}
"""Further names under which a check may tell what it found."""

OUTPUT = "output"
"""The one check that no other process can do."""

APART = "torch", "numba", "llvmlite", "triton", "tensorboard"
"""Libraries with checks of their own, which import them."""


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Doctor(Task):
    """A check-up of the installation.

    Attributes:
        only: names of checks as the table has them, or patterns such as ``ops*``; null for all.
            All that a check tells is told, under whichever of its names it is asked for.
        folders: where runs and sweeps are to be written.
        seconds: that one check may take.
    """

    needs_torch: ClassVar[bool] = False
    needs_directory: ClassVar[bool] = False
    measures: ClassVar[str] = "ok warnings wrong skipped checks"

    only: Texts | None = None
    folders: Texts = ("outputs", "outputs/sweeps")
    seconds: Annotated[float, Limited(gt=0, le=3600)] = 60.0

    @property
    def uses_data(self) -> bool:
        """Neither data nor layers matter."""
        return False

    def check(self, plan: Plan, stack: Stack, ops: Ops) -> None:
        """Every pattern must stand for a check, and one at least for something."""
        if self.only == ():
            raise problem("task.only", "names of checks, or null for all", "none")
        checks = self._all()
        titles = [OUTPUT, *(one.title for one in checks)]
        names = [OUTPUT, *(name for one in checks for name in _names(one))]
        for i, pattern in enumerate(self.only or ()):
            if not any(fnmatchcase(name, pattern) for name in names):
                hint = did_you_mean(pattern, names)
                raise problem(f"task.only[{i}]", one_of(titles), f"'{pattern}'", hint)

    def run(self, run: Run) -> dict[str, Any]:
        """How many checks are well, could be better, are wrong; and what each found."""
        checks = [one for one in self._all() if any(map(self._asked, _names(one)))]
        found: dict[Check, list[Finding]] = {}
        with run.progress(len(checks), "checking") as advance:
            for check, findings in examine(_lanes(checks), self.seconds):
                found[check] = findings
                advance(check.title)
        findings = [one for check in checks for one in found[check]]
        findings += [encoding(OUTPUT)] if self._asked(OUTPUT) else []
        width = min(WIDTH, get_terminal_size().columns)
        for line in ("", *table(findings, width), *advice(findings, width)):
            run.say(line)
        # Of several findings under one name, the worst counts.
        ranked = sorted(findings, key=lambda one: STATES.index(one.state))
        return {**summary(findings), "checks": {one.check: one.metrics() for one in ranked}}

    def _asked(self, name: str) -> bool:
        patterns = ("*",) if self.only is None else self.only
        return any(fnmatchcase(name, pattern) for pattern in patterns)

    def _all(self) -> list[Check]:
        """All checks but that of the output, in the order of the table."""
        libraries = [one.name for one in installation.libraries() if one.name not in APART]
        return [
            *(Check(name, title) for name, title in FIRST.items()),
            *(Check("imports", name, name) for name in libraries),
            *(Check(name, title, needs="torch") for name, title in COMPUTING.items()),
            *(Check("operator", f"ops {name}", name, "torch") for name in operators()),
            *(Check("folder", path, path) for path in self.folders),
            *(Check(name, title) for name, title in LAST.items()),
        ]


def _names(check: Check) -> list[str]:
    """All names under which a check may tell what it found."""
    names = [check.title, *BESIDES.get(check.name, ())]
    if check.name in ("libraries", "extras"):
        extra = check.name == "extras"
        names += [one.name for one in installation.libraries() if bool(one.extra) == extra]
    return names


def _lanes(checks: Sequence[Check]) -> list[list[Check]]:
    """What imports torch, what composes configs, which takes as long, and the rest."""
    torch = [one for one in checks if "torch" in (one.name, one.needs)]
    configs = [one for one in checks if one.name == "configs"]
    return [torch, configs, [one for one in checks if one not in (*torch, *configs)]]
