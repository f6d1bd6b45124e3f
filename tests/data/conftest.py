"""Sources as YAML describes them, what they complain about, and pictures to read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from runner.config.errors import ConfigError, Problem
from runner.config.spec import check_kind
from runner.data import Data


@pytest.fixture
def make() -> Callable[..., Data]:
    """Validate a source's YAML; a problem is raised."""

    def build(kind: str, **fields: Any) -> Data:
        spec, problems = check_kind("runner.data", {"kind": kind, **fields}, "data")
        if problems:
            raise ConfigError(*problems)
        assert isinstance(spec, Data)
        return spec

    return build


@pytest.fixture
def complaint(make: Callable[..., Data]) -> Callable[..., Problem]:
    """The one problem of a source that can't be validated, or, failing that, not be loaded."""

    def find(kind: str, **fields: Any) -> Problem:
        with pytest.raises(ConfigError) as caught:
            spec = make(kind, **fields)
            try:
                spec.shape()
                spec.count()
                spec.load()
            except ConfigError as error:
                raise error.under("data") from error
        (problem,) = caught.value.problems
        return problem

    return find


@pytest.fixture
def picture(tmp_path: Path) -> Callable[..., str]:
    """Write rows of gray numbers, or of RGB triples, or a Pillow image, and give its path."""

    def write(content: Any, name: str = "picture.png", **options: Any) -> str:
        if not isinstance(content, PIL.Image.Image):
            content = PIL.Image.fromarray(np.array(content, dtype=np.uint8))
        path = tmp_path / name
        content.save(path, **options)
        return str(path)

    return write
