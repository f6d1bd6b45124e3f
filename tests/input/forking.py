"""A server that runs the command line in forks of itself, everything but torch imported before.

It reads a line of JSON for each case, ``{"cwd": …, "words": […]}``, and answers with one. A case
that would import torch ends there with the exit code `TORCH`: without it, nothing more is known to
be wrong. Run as ``python forking.py``; as ``python forking.py torch``, it imports that too, and
cases run to their end.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

TORCH = 77
"""Exit code of a case that came as far as torch."""

PROCESSOR = 20
"""Seconds of processor time after which the system ends a case."""

WALL = 120
"""Seconds after which it is killed, on a machine that does other things too."""


class _Gate:
    """Ends the process where torch would be imported."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "torch":
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(TORCH)


def _warm_up() -> None:
    """Import what the program may import, and compose once."""
    from runner import menu
    from runner.launch import plan_only

    for package in ("runner.layers", "runner.data", "runner.tasks", "runner.ops"):
        for name in menu.names(package):
            importlib.import_module(f"{package}.{name}")
    for package in ("runner.sweep", "runner.tracking", "runner.report"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            if module.name not in ("engines", "tensorboard", "pictures"):
                importlib.import_module(f"{package}.{module.name}")
    plan_only(["task=plan"])
    gc.collect()
    gc.freeze()


def _import_torch() -> None:
    import runner.autograd
    import runner.tracking.pictures
    import runner.tracking.tensorboard  # noqa: F401


def _child(cwd: str, words: list[str]) -> NoReturn:
    os.chdir(cwd)
    folder = Path(cwd).parent
    for number, name in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        os.dup2(os.open(name, flags), number)
    # As Python opens them at its start.
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), "utf-8", "strict", line_buffering=False)
    sys.stderr = io.TextIOWrapper(
        io.FileIO(2, "w"), "utf-8", "backslashreplace", write_through=True
    )
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR, PROCESSOR))
    resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))
    sys.argv = ["runner", *words]
    from runner.__main__ import main

    code = 70
    try:
        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _run(cwd: str, words: list[str]) -> dict[str, Any]:
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(cwd, words)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(WALL)
    _, status, used = os.wait4(child, 0)
    signal.alarm(0)
    return {
        "rc": os.waitstatus_to_exitcode(status),
        "seconds": used.ru_utime + used.ru_stime,
        "mib": used.ru_maxrss / 1024,
        "wall": time.monotonic() - begun,
    }


def main() -> None:
    """Answer until nobody asks any more."""
    _warm_up()
    assert "torch" not in sys.modules
    if sys.argv[1:] == ["torch"]:
        _import_torch()
    else:
        sys.meta_path.insert(0, _Gate())  # type: ignore[arg-type]
    told = sys.stdout
    print(json.dumps({"started": time.process_time()}), file=told, flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(**json.loads(line))), file=told, flush=True)


if __name__ == "__main__":
    main()
