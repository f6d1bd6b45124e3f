"""Large and small numbers as people read them."""

from __future__ import annotations

from fractions import Fraction


def readable_bytes(count: int) -> str:
    """``1.5 MiB``."""
    size = Fraction(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            break
        size /= 1024
    if size >= 10**6:
        return f"{float(size):.1e} {unit}"
    return f"{count} B" if unit == "B" else f"{float(size):.1f} {unit}"


def readable_count(count: int) -> str:
    """Exact up to a million, then ``26.8 G``."""
    if count < 10**6:
        return f"{count:,}"
    for power, unit in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if count >= 10**power:
            return f"{count / 10**power:,.1f} {unit}"
    raise AssertionError("unreachable: count is at least a million")


def readable_time(seconds: float) -> str:
    """``38 µs``, ``3.2 ms``, ``1.5 s``."""
    unit, size = ("µs", 1e-6) if seconds < 1e-3 else ("ms", 1e-3) if seconds < 1 else ("s", 1)
    return f"{float(f'{seconds / size:.2g}'):g} {unit}"
