"""What a run's files say of it, checked where it is read: somebody else may have written them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from runner.config.contents import contents
from runner.config.errors import problem

CENTURIES = 1e10
"""Seconds that no run takes; with `YEARS`, every moment is one that Python can name."""

YEARS = range(1900, 9000)


def _moment(text: str) -> str:
    """Check that a text is a moment that can be compared with others."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or moment.year not in YEARS:
        raise ValueError("it has no time zone, or a year that can't be")
    return text


class Status(BaseModel):
    """What `status.json` says of any run; see `runner.execute.Origin` for where it comes from."""

    state: Literal["RUNNING", "COMPLETED", "FAILED", "INTERRUPTED"]
    started: Annotated[str, AfterValidator(_moment)]
    seconds: Annotated[float, Field(ge=0, le=CENTURIES)]
    reason: str | None = None
    task: str | None = None
    command: str = ""
    overrides: tuple[str, ...] = ()
    config_dir: str | None = None
    experiment: str | None = None
    about: str | None = None
    versions: dict[str, str] = {}
    device: str | None = None
    threads: int | None = None
    pid: int | None = None
    job: int | None = None
    key: str | None = None
    resumed: Annotated[int, Field(ge=0, le=10**9)] = 0


class Resumable(Status):
    """What it must say besides, for the run to be taken up again."""

    overrides: tuple[str, ...]
    config_name: str


class Metrics(BaseModel):
    """What `metrics.json` says besides the metrics themselves."""

    expectations: tuple[dict[str, Any], ...] = ()


Kind = TypeVar("Kind", bound=BaseModel)


def read(kind: type[Kind], path: Path) -> Kind:
    """Read a file of a run.

    Raises:
        OSError: it can't be read.
        ConfigError: it isn't what a run records; of its fields, the first that is wrong is named.
    """
    try:
        return kind.model_validate_json(contents(path), strict=True)
    except ValidationError as error:
        hint = "Mend the file, or run this anew."
        found = f"an error ({first_error(error)})"
        raise problem(str(path), "what a run recorded", found, hint) from None


def first_error(error: ValidationError) -> str:
    """The first thing that is wrong, after the name of its field."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
