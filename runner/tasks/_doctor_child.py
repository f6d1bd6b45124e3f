"""The process that does some of the doctor's checks: ``python -m runner.tasks._doctor_child``."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict

from runner.config.errors import first_line
from runner.tasks._doctor_finding import SKIPPED, WRONG, Finding
from runner.tasks._doctor_folders import folder, home, temporary
from runner.tasks._doctor_lanes import MARK, Check
from runner.tasks._doctor_libraries import conflicts, extras, imports, libraries
from runner.tasks._doctor_machine import clock, cores, git, memory, python
from runner.tasks._doctor_operators import numba, operator, remembered, triton
from runner.tasks._doctor_services import configs, tensorboard
from runner.tasks._doctor_torch import devices, threads, torch

CHECKS: dict[str, Callable[[str], list[Finding]]] = {
    function.__name__: function
    for function in (
        *(python, libraries, extras, conflicts, imports),
        *(cores, memory, clock, git, folder, home, temporary),
        *(torch, devices, threads, numba, triton, operator, remembered),
        *(configs, tensorboard),
    )
}
"""By name, from an argument to what was found."""


def main() -> None:
    """Do the checks that the one argument lists, and tell each when it is done."""
    told = json.loads(sys.argv[1])
    failed = set()
    for check in (Check(**one) for one in told["checks"]):
        # Should the parent be killed, nobody else ends a check that hangs.
        signal.alarm(math.ceil(told["limit"]) + 5)
        findings = [check.skipped()] if check.needs in failed else _done(check)
        if any(one.state in (WRONG, SKIPPED) for one in findings):
            failed.add(check.name)
        line = json.dumps([asdict(one) for one in findings])
        # What a library printed last may lack the end of its line.
        sys.stdout.write(f"\n{MARK.decode()}{line}\n")
        sys.stdout.flush()


def _done(check: Check) -> list[Finding]:
    try:
        return CHECKS[check.name](check.argument)
    except BaseException as error:  # a library may even call sys.exit when it is imported
        return [check.lost(f"{type(error).__name__}: {first_line(error)}")]


if __name__ == "__main__":
    main()
