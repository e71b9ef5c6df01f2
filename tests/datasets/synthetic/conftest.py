"""Access to the designs of synthetic data sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from indiseek_sc.datasets import synthetic
from indiseek_sc.datasets.synthetic._design import Design

MODULES = ("_counts", "_suite")


@pytest.fixture
def get_design(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Design]:
    """Return a function that returns the design of a data set instead of simulating cells."""
    for module in MODULES:
        monkeypatch.setattr(f"indiseek_sc.datasets.synthetic.{module}.build", lambda design, *arguments: design)
    return synthetic.make
