"""Words for error messages: short lists and near misses."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

N_SHOWN = 5
"""How many offenders a message names; the total is given beside them."""


def listing(items: Iterable[object]) -> str:
    """Return the first items as text, and how many more there are."""
    items = list(items)
    shown = ", ".join(repr(str(item)) if isinstance(item, str) else str(item) for item in items[:N_SHOWN])
    return shown + (f", ... ({len(items):,} in all)" if len(items) > N_SHOWN else "")


def choices(wrong: str, existing: Sequence[str]) -> str:
    """Return a sentence with what exists, and what may have been meant instead of ``wrong``."""
    if not existing:
        return "There is none."
    by_lower_case = {str(name).lower(): str(name) for name in existing}
    close = get_close_matches(wrong.lower(), list(by_lower_case), n=1)
    meant = f" Did you mean {by_lower_case[close[0]]!r}?" if close else ""
    return f"There is: {', '.join(repr(str(name)) for name in existing)}.{meant}"
