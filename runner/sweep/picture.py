"""The picture of a sweep: its metric over what varied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.sweep.findings import Summary

if TYPE_CHECKING:
    from PIL.Image import Image


def draw(summary: Summary) -> Image | None:
    """The picture, or None when there is nothing to draw."""
    return None
