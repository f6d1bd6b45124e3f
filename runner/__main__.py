"""The command line: ``python -m runner task=edge``. Hydra's flags all work; see ``--help``.

Exit codes: 0 done; 1 the run failed; 2 the config is wrong; 3 an expectation doesn't hold;
130 and 143 interrupted by Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from typing import Any, NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from omegaconf import DictConfig

from runner.config.compose import CONFIG_NAME, config_folder
from runner.config.errors import ConfigError
from runner.terminal import print_error, print_problems

FAILED, BAD_CONFIG, UNEXPECTED, INTERRUPTED, TERMINATED = 1, 2, 3, 130, 143


def main() -> NoReturn:
    """Do what the command line says, and exit with a code that tells how it went."""
    signal.signal(signal.SIGTERM, _terminate)
    parser = get_args_parser()
    arguments = parser.parse_args()
    try:
        code = _dispatch(arguments, parser)
    except ConfigError as error:
        print_problems(error)
        code = BAD_CONFIG
    except KeyboardInterrupt:
        print_error("interrupted")
        code = INTERRUPTED
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print_error(f"{type(error).__name__}: {error}")
        print_error(
            "HYDRA_FULL_ERROR=1 shows the traceback; run.log of the run's directory has it."
        )
        code = FAILED
    sys.stdout.flush()
    sys.exit(code)


def _dispatch(arguments: Namespace, parser: Any) -> int:
    from runner import launch

    version.setbase("1.3")
    name = arguments.config_name or CONFIG_NAME
    shows = arguments.help or arguments.hydra_help or arguments.info or arguments.shell_completion
    if shows or arguments.cfg or arguments.multirun:
        if arguments.cfg:
            launch.check(arguments.overrides, config_dir=arguments.config_dir, config_name=name)
        arguments.config_path = arguments.config_path or str(config_folder())
        _run_hydra(arguments, parser, _job_of_sweep, str(config_folder()), name)
        return 0
    result = launch.launch(arguments.overrides, config_dir=arguments.config_dir, config_name=name)
    return 0 if result.holds else UNEXPECTED


def _job_of_sweep(config: DictConfig) -> float | None:
    """One job of Hydra's own sweeper."""
    raise NotImplementedError(config)


def _terminate(*_: object) -> NoReturn:
    raise SystemExit(TERMINATED)


if __name__ == "__main__":
    main()
