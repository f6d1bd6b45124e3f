"""Interpolations of a config, ``${data.height}``, resolved within bounds.

A text may refer to another twice, and that to a third twice: forty lines can stand for a million
million words. And what is resolved may be written anywhere, so that the environment, where secrets
are, must stay out of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf.base import Container

from runner.config.errors import ConfigError, problem

REFERENCES = 1_000
"""How many are followed, of a whole config: each takes some 0.2 ms."""


class Bounds:
    """How much has been resolved, and what was refused.

    Attributes:
        environment: whether values may come from the environment.
    """

    def __init__(self, environment: bool) -> None:
        self.environment = environment
        self._followed = 0
        self._refused: tuple[str, str, str] | None = None

    def refusal(self, path: str) -> ConfigError | None:
        """What was refused while the value at a path was resolved, if anything was."""
        return None if self._refused is None else problem(path, *self._refused)

    def follow(self) -> None:
        """Count a reference.

        Raises:
            ValueError: there are too many.
        """
        self._followed += 1
        if self._followed > REFERENCES:
            expected = f"interpolations that follow at most {REFERENCES:,} references"
            self._refuse(expected, "more", "Each that is named twice is followed twice.")

    def call(self, name: str, words: tuple[Any, ...]) -> None:
        """Count a call of a resolver, ``${name:words}``.

        Raises:
            ValueError: there are too many, or it would tell of the environment.
        """
        self.follow()
        asked = str(words[0]) if words else ""
        copied = name == "hydra" and (asked.startswith("job.env") or "job.env".startswith(asked))
        if not self.environment and (copied or name == "oc.env"):
            written = f"${{{name}:{asked}}}"
            hint = "A shell fills it in: in double quotes, key=$NAME."
            self._refuse("data: YAML here can't read the environment", f"'{written}'", hint)

    def _refuse(self, *parts: str) -> None:
        self._refused = (parts[0], parts[1], parts[2])
        raise ValueError(parts[0])


@contextmanager
def bounded(*, environment: bool) -> Iterator[Bounds]:
    """Let OmegaConf resolve no more than is reasonable.

    Args:
        environment: whether values may come from the environment.
    """
    bounds = Bounds(environment)
    node, resolver = Container._resolve_node_interpolation, Container._evaluate_custom_resolver

    def of_node(self: Container, *args: Any, **named: Any) -> Any:
        bounds.follow()
        return node(self, *args, **named)

    def of_resolver(self: Container, **named: Any) -> Any:
        bounds.call(named["inter_type"], named["inter_args"])
        return resolver(self, **named)

    # OmegaConf has no hook of its own; these two see every reference.
    Container._resolve_node_interpolation = of_node  # type: ignore[method-assign]
    Container._evaluate_custom_resolver = of_resolver  # type: ignore[method-assign,assignment]
    try:
        yield bounds
    finally:
        Container._resolve_node_interpolation = node  # type: ignore[method-assign]
        Container._evaluate_custom_resolver = resolver  # type: ignore[method-assign]
