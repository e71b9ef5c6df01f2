"""Checks of single arguments. NumPy scalars are accepted like Python scalars."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc._text import choices

if TYPE_CHECKING:
    from collections.abc import Collection


def shown(value: Any) -> str:
    """Return the text of a value for a message; NumPy scalars are shown like Python scalars."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def is_whole(value: Any) -> bool:
    """Return whether a value is an integer; NumPy integers count, booleans do not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole(argument: str, value: Any, least: int) -> int:
    """Return a whole number of at least ``least``.

    Raises
    ------
    ValueError
        If the value is not such a number; the message names the argument.
    """
    if not is_whole(value):
        raise ValueError(f"{argument} must be a whole number, but is {shown(value)}.")
    if value < least:
        wanted = f"be at least {least}" if least else "not be negative"
        raise ValueError(f"{argument} must {wanted}, but is {value}.")
    return int(value)


def check_number(argument: str, value: Any, *, above_zero: bool = False) -> float:
    """Return a finite, non-negative number.

    Raises
    ------
    ValueError
        If the value is not such a number; the message names the argument.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError(f"{argument} must be a number, but is {shown(value)}.")
    number = float(value)
    if above_zero and not number > 0:
        raise ValueError(f"{argument} must be above 0, but is {number}.")
    if number < 0:
        raise ValueError(f"{argument} must not be negative, but is {number}.")
    if not math.isfinite(number):
        raise ValueError(f"{argument} must be a finite number, but is {number}.")
    return number


def check_flag(argument: str, value: Any) -> bool:
    """Return True or False.

    Raises
    ------
    ValueError
        If the value is not a boolean; the message names the argument.
    """
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{argument} must be True or False, but is {shown(value)}.")
    return bool(value)


def check_share(argument: str, value: Any) -> float:
    """Return a number between 0 and 1, both excluded.

    Raises
    ------
    ValueError
        If the value is not such a number; the message names the argument.
    """
    if not 0 < check_number(argument, value) < 1:
        raise ValueError(f"{argument}={value} must lie between 0 and 1.")
    return float(value)


def check_path(argument: str, value: Any) -> Path:
    """Return a path.

    Raises
    ------
    ValueError
        If the value is not a path; the message names the argument.
    """
    if not isinstance(value, str | os.PathLike):
        raise ValueError(f"{argument} must be a path, but is {shown(value)}.")
    return Path(value)


def check_mapping(argument: str, value: Any) -> dict[Any, Any]:
    """Return a dictionary.

    Raises
    ------
    ValueError
        If the value is not a mapping; the message names the argument.
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{argument} must be a dictionary, but is {shown(value)}.")
    return dict(value)


def check_several(argument: str, value: Any) -> list[Any]:
    """Return a list; a single string becomes a list of one element.

    Raises
    ------
    ValueError
        If the value is neither a string nor iterable; the message names the argument.
    """
    if isinstance(value, str):
        return [str(value)]
    if not np.iterable(value):
        raise ValueError(f"{argument} must be a list, but is {shown(value)}.")
    return list(value)


def check_name(argument: str, value: Any, existing: Collection[str]) -> str:
    """Return a name that must be one of ``existing``.

    Raises
    ------
    ValueError
        If the value is not a string or not in ``existing``; the message names the argument and
        lists the existing names.
    """
    if not isinstance(value, str):
        raise ValueError(f"{argument} must be one name, but is {shown(value)}. {choices('', list(existing))}")
    if value not in existing:
        raise ValueError(f"{argument}={str(value)!r} is not known. {choices(value, list(existing))}")
    return str(value)
