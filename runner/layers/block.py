"""Block: layers one after the other, under one name; a branch of several layers is one."""

from __future__ import annotations

from runner.layers._container import Chain


class Block(Chain):
    """A stack inside a stack."""
