"""Public docstrings pass the checks of numpydoc."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module

import pytest

from .packages import DOCUMENTED

validation = pytest.importorskip("numpydoc.validate", reason="numpydoc (extra 'test') is not installed")

LEFT_OUT = {
    "ES01": "an extended summary",
    "EX01": "examples of classes and methods",
    "PR01": "parameters of dataclasses, which are documented as attributes, and of overridden methods",
    "PR02": "`**kwargs` beside a class whose arguments are those of its base",
    "PR04": "types, which are in signatures",
    "RT01": "returns of properties, methods and figures, which the summary describes",
    "RT03": "descriptions below types, since there are no types",
    "RT04": "a capital letter, where names are returned",
    "RT05": "a full stop, where names are returned",
    "SA01": "a section 'See Also'",
    "YD01": "yields of context managers",
}
"""Checks of numpydoc that are not enforced, and what they require."""

ENFORCED = sorted(set(validation.ERROR_MSGS) - set(LEFT_OUT))


def find_public(package: str) -> Iterator[str]:
    """Yield dotted names of exported functions and classes, and of their own public methods."""
    module = import_module(package)
    for name in module.__all__:
        thing = getattr(module, name)
        if not (inspect.isfunction(thing) or inspect.isclass(thing)):
            continue
        yield f"{module.__name__}.{name}"
        if inspect.isclass(thing):
            for method, value in vars(thing).items():
                function = getattr(value, "__func__", value)
                if inspect.isfunction(function) and not method.startswith("_") and function.__name__ != "<lambda>":
                    yield f"{module.__name__}.{name}.{method}"


@pytest.mark.parametrize("package", DOCUMENTED)
def test_public_docstrings_follow_numpydoc(package):
    wrong = [
        f"{name}: {number} {message}"
        for name in find_public(package)
        for number, message in validation.validate(name)["errors"]
        if number in ENFORCED
    ]
    assert wrong == []
