"""Parts of error messages: abbreviated lists, and suggestions of similar names."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

N_SHOWN = 5
"""Number of items that a message lists before it gives the total."""


def listing(items: Iterable[object]) -> str:
    """Return the first items as text, and the total if there are more."""
    items = list(items)
    shown = ", ".join(repr(str(item)) if isinstance(item, str) else str(item) for item in items[:N_SHOWN])
    return shown + (f", ... ({len(items):,} in all)" if len(items) > N_SHOWN else "")


def choices(wrong: object, existing: Sequence[str]) -> str:
    """Return a sentence with the existing names, and the one closest to ``wrong``."""
    if not existing:
        return "None is available."
    return f"Available: {', '.join(repr(str(name)) for name in existing)}.{suggest_similar(wrong, existing)}"


def suggest_similar(wrong: object, existing: Iterable[str]) -> str:
    """Return a question with the existing name closest to ``wrong``; empty if none is close."""
    by_lower_case = {str(name).lower(): str(name) for name in existing}
    whole = by_lower_case | {name.rpartition(":")[2]: by_lower_case[name] for name in reversed(by_lower_case)}
    close = get_close_matches(str(wrong).lower(), list(whole), n=1)
    return f" Did you mean {whole[close[0]]!r}?" if close else ""
