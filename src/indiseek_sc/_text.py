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


def choices(wrong: object, existing: Sequence[str]) -> str:
    """Return a sentence with what exists, and what may have been meant instead of ``wrong``."""
    if not existing:
        return "There is none."
    return f"There is: {', '.join(repr(str(name)) for name in existing)}.{near_miss(wrong, existing)}"


def near_miss(wrong: object, existing: Iterable[str]) -> str:
    """Return a sentence with what may have been meant instead of ``wrong``, after a blank; nothing if nothing is near."""
    by_lower_case = {str(name).lower(): str(name) for name in existing}
    whole = by_lower_case | {name.rpartition(":")[2]: by_lower_case[name] for name in reversed(by_lower_case)}
    close = get_close_matches(str(wrong).lower(), list(whole), n=1)
    return f" Did you mean {whole[close[0]]!r}?" if close else ""
