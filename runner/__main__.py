"""The command line: ``python -m runner task=edge``. Hydra's flags all work; see ``--help``.

Exit codes: 0 done; 1 the run failed; 2 the config is wrong; 3 an expectation doesn't hold;
130, 143 and 129 interrupted by Ctrl-C, SIGTERM and SIGHUP.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn

from runner import installation, signals
from runner.config.errors import ConfigError, SweepFailed, printable, problem
from runner.signals import HUNG_UP, INTERRUPTED, TERMINATED

try:
    from hydra import __version__ as hydra_version
    from hydra import version
    from hydra._internal.utils import _run_hydra, get_args_parser
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from runner.config.compose import CONFIG_NAME, Composer, config_folder
    from runner.terminal import Terminal, print_error, print_problems
except Exception as error:  # whatever a library raises that is missing or doesn't fit
    installation.explain(error)
    raise

DONE, FAILED, BAD_CONFIG, UNEXPECTED, UNREAD = 0, 1, 2, 3, 141


def main() -> NoReturn:
    """Do what the command line says, and exit with a code that tells how it went."""
    signals.listen()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started it; a file shall not get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A run doesn't end because a terminal has no ×.
            stream.reconfigure(errors="replace")
    parser = _parser()
    arguments = parser.parse_intermixed_args()
    try:
        with signals.ending(at_once=False):
            code = _dispatch(arguments, parser)
    except ConfigError as error:
        print_problems(error)
        code = BAD_CONFIG
    except KeyboardInterrupt as stop:
        print_error(signals.WORDS[INTERRUPTED])
        _print_notes(stop)
        code = INTERRUPTED
    except SystemExit as stop:
        if stop.code in (TERMINATED, HUNG_UP):
            print_error(signals.WORDS[stop.code])
        _print_notes(stop)
        raise
    except SweepFailed as error:
        print_error(str(error))
        code = FAILED
    except BrokenPipeError:
        # Who read the output (`| head`) has seen enough; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = UNREAD
    except Exception as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        imported = installation.is_of_import(error)
        lines = [f"{type(error).__name__}: {error}"]
        for line in installation.reasons(error) if imported else lines:
            print_error(line)
        _print_notes(error, "HYDRA_FULL_ERROR=1 shows the traceback.")
        code = FAILED
    sys.stdout.flush()
    sys.exit(code)


def _parser() -> ArgumentParser:
    """Hydra's flags under the project's name."""
    parser = get_args_parser()
    parser.prog = "runner"

    def refuse(message: str) -> NoReturn:
        """As argparse does, which prints whatever was typed."""
        parser.print_usage(sys.stderr)
        parser.exit(BAD_CONFIG, f"{parser.prog}: error: {printable(message)}\n")

    parser.error = refuse  # type: ignore[method-assign]
    for action in parser._actions:
        if "--version" in action.option_strings:
            versions = f"runner {metadata.version('runner')}, Hydra {hydra_version}"
            action.version = versions  # type: ignore[attr-defined]  # of argparse's version action
    parser.add_argument(
        "--report", metavar="DIR", help="Write report.md and report.html about the runs under DIR"
    )
    parser.add_argument(
        "--summary", metavar="DIR", help="Summarise the sweep, or whatever runs there are, in DIR"
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="Take an interrupted run or sweep up again in its directory DIR",
    )
    return parser


def _dispatch(arguments: Namespace, parser: ArgumentParser) -> int:
    from runner import launch, report

    version.setbase("1.3")
    _check_places(arguments)
    if arguments.experimental_rerun:
        hint = "A run's status.json has the command that runs it again."
        raise problem("--experimental-rerun", "nothing", "a file", hint)
    if arguments.config_path:
        hint = "Add your own folder with --config-dir; the project's configs stay."
        raise problem("--config-path", "nothing", f"'{arguments.config_path}'", hint)
    if arguments.report is not None:
        _refuse_beside("--report", arguments, arguments.overrides)
        page = report.write(report.gather(Path(arguments.report)), Path(arguments.report))
        Terminal().line(str(page), whole=True)
        return DONE
    if arguments.summary is not None:
        others = [word for word in arguments.overrides if not word.startswith("sweep.objective")]
        _refuse_beside("--summary", arguments, others)
        _summarize(Path(arguments.summary), arguments.overrides)
        return DONE
    name = arguments.config_name or CONFIG_NAME
    where = {"config_dir": arguments.config_dir, "config_name": name}
    if arguments.shell_completion:
        _check_completion(arguments.overrides)
        _run_hydra(arguments, parser, _never, str(config_folder()), name)
        return DONE
    if arguments.hydra_help:
        arguments.overrides, arguments.multirun = [], False  # it says the same whatever is run
    if arguments.cfg or arguments.help or arguments.hydra_help or arguments.info:
        if arguments.multirun:
            arguments.overrides = _first_job(arguments.overrides, **where)
            arguments.multirun = False  # Hydra shows one config
        if arguments.cfg:
            launch.check(arguments.overrides, **where)
        if arguments.overrides or arguments.config_dir or arguments.package:
            # Hydra reads added folders as it reads its own, and stops at the first mistake.
            arguments.overrides = _composed(arguments.overrides, arguments.package, **where)
        if arguments.help or arguments.hydra_help:
            _show_help(arguments, parser, **where)
        else:
            _run_hydra(arguments, parser, _never, str(config_folder()), name)
        return DONE
    if arguments.resume is not None:
        _refuse_beside("--resume", arguments)
        if not _is_sweep(arguments.resume) or arguments.overrides:
            result = launch.launch(arguments.overrides, resume=arguments.resume)
            return DONE if result.holds else UNEXPECTED
        arguments.multirun, arguments.overrides = True, [f"sweep.resume={arguments.resume}"]
    if arguments.multirun:
        from runner.sweep.sweep import sweep

        swept = sweep(arguments.overrides, **where)
        return DONE if swept.holds else UNEXPECTED
    result = launch.launch(arguments.overrides, **where)
    return DONE if result.holds else UNEXPECTED


def _check_places(arguments: Namespace) -> None:
    """Refuse what can't be the name of a folder; whether it is there is told by who needs it."""
    try:
        Path.cwd()
    except FileNotFoundError:
        expected, got = "one that is there", "one that was removed"
        raise problem("current directory", expected, got, "Change to another: cd ~.") from None
    if arguments.config_dir is not None and not _is_text(arguments.config_dir):
        got = f"'{arguments.config_dir}'"  # Hydra and the records write it as text
        raise problem("--config-dir", "a folder whose name is UTF-8", got, "Rename it.")
    for flag in ("config_dir", "report", "summary", "resume"):
        text = getattr(arguments, flag)
        try:
            if text is not None:
                Path(text).expanduser().stat()
        except FileNotFoundError:
            pass
        except (OSError, RuntimeError, ValueError) as error:  # too long, no such home
            why = getattr(error, "strerror", None) or error
            raise problem(f"--{flag.replace('_', '-')}", "a folder", f"'{text}': {why}") from None


def _is_text(word: str) -> bool:
    """Whether a word of the command line was UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in word)


def _check_completion(overrides: Sequence[str]) -> None:
    """Refuse what Hydra's shell completion has no answer to."""
    keys = [word.partition("=")[0] for word in overrides]
    if keys not in (["install"], ["uninstall"], ["query"]):
        got = ", ".join(overrides) or "nothing"
        expected = "install=SHELL or uninstall=SHELL, for bash, fish or zsh"
        raise problem("--shell-completion", expected, got)
    if keys == ["query"] and "COMP_LINE" not in os.environ:
        raise problem("--shell-completion", "a shell that asks", "query without COMP_LINE")


def _composed(
    overrides: Sequence[str], package: str | None, config_dir: str | None, config_name: str
) -> list[str]:
    """The overrides as Hydra takes them.

    Raises:
        ConfigError: it doesn't, or there is no such package to show.
    """
    with Composer(config_dir, config_name) as composer:
        composed = composer.compose(overrides)
        if composed.problems:
            raise ConfigError(*composed.problems)
        if package is not None and package != "_global_":
            with suppress(OmegaConfBaseException):
                if OmegaConf.select(composed.config, package) is not None:
                    return composed.overrides
            raise problem("--package", "a part of the config", f"'{package}'")
        return composed.overrides


def _show_help(
    arguments: Namespace, parser: ArgumentParser, config_dir: str | None, config_name: str
) -> None:
    """Hydra's help, which lists every config; it would follow links in a circle by itself.

    Raises:
        ConfigError: an added folder has too many to list.
    """
    with Composer(config_dir, config_name) as composer:
        show = composer.hydra.app_help if arguments.help else composer.hydra.hydra_help
        show(config_name=config_name, args_parser=parser, args=arguments)


def _first_job(overrides: Sequence[str], config_dir: str | None, config_name: str) -> list[str]:
    """What the first job of a sweep is told."""
    with Composer(config_dir, config_name) as composer:
        return composer.jobs_of_sweep(overrides, grid=False)[0]


def _is_sweep(directory: str) -> bool:
    from runner.sweep.manifest import MANIFEST

    return (Path(directory).expanduser() / MANIFEST).is_file()


def _summarize(directory: Path, overrides: Sequence[str]) -> None:
    """Summarise what is in a directory, by the objective that overrides name, if there are any."""
    from runner.launch import valid
    from runner.sweep import summary
    from runner.tasks import Objective
    from runner.tracking.directory import STATUS

    if (directory / STATUS).is_file() and not _is_sweep(str(directory)):
        hint = f"--report {directory} writes about that one; or name a directory with several."
        got = f"'{directory}', which is a single run's"
        raise problem("--summary", "a sweep's directory", got, hint)
    asked = None
    if overrides:
        with Composer() as composer:
            asked = valid(composer.compose(overrides))[0].sweep.objective
    objective = None if asked is None else Objective(asked.metric, asked.goal)
    found = summary.summarize(directory, objective)
    terminal = Terminal()
    summary.show(found, terminal)
    summary.write(found, directory)
    terminal.line()
    terminal.line(str(directory / summary.MARKDOWN), whole=True)


def _refuse_beside(flag: str, arguments: Namespace, overrides: Sequence[str] = ()) -> None:
    """What is in a directory has its own configs, and says itself whether it is a sweep."""
    flags = {
        "--multirun": arguments.multirun,
        "--config-dir": arguments.config_dir,
        "--config-name": arguments.config_name,
    }
    if found := [*(name for name, given in flags.items() if given), *overrides]:
        takes = "Of overrides, only sweep.objective={metric: loss, goal: min} has a use here."
        hint = takes if flag == "--summary" else ""
        raise problem(flag, "nothing but a directory", ", ".join(found), hint)


def _print_notes(error: BaseException, *otherwise: str) -> None:
    for note in getattr(error, "__notes__", otherwise):
        print_error(note)


def _never(_: DictConfig) -> None:
    """What Hydra would run; it is asked only to show things."""


if __name__ == "__main__":
    main()
