"""Tests of the selection of lambda on artificial tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.metrics import LambdaPath, choose_lambda


def make_table(leaks):
    """Return a table along lambda from the leak ratios of both modalities."""
    rows = [
        {"lambda": value, "modality": name, "leak_ratio": leak, "leak_ratio_se": 0.004, "leak_p": 0.2}
        | {"gain": 0.97, "complete": 0.99}
        for value, pair in leaks.items()
        for name, leak in zip(("rna", "adt"), pair, strict=True)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("leaks", "value", "is_within"),
    [
        ({1000: (0.05, 0.01), 100: (0.02, 0.019), 10: (0.0, 0.0)}, 100, True),  # the tolerance itself is within
        ({1000: (0.05, 0.01), 100: (0.01, 0.03), 10: (0.0, 0.0)}, 10, True),  # both modalities must be within
        ({10: (0.0, 0.0), 1000: (0.01, 0.01), 100: (0.0, 0.0)}, 1000, True),  # in any order
        ({1000: (0.01, 0.01), 100: (0.9, 0.9)}, 1000, True),  # smaller lambdas do not matter
        ({1000: (0.3, 0.0), 100: (0.1, 0.2), 10: (0.11, 0.12)}, 10, False),  # the smallest maximum
        ({1000: (0.1, 0.1), 10: (0.1, 0.1)}, 1000, False),  # the largest of tied lambdas
        ({1000: (np.nan, 0.3), 100: (np.nan, 0.01)}, 100, True),  # undefined ratios are within
    ],
)
def test_largest_lambda_within_the_tolerance_is_selected(leaks, value, is_within):
    choice = choose_lambda(make_table(leaks), 0.02)
    assert (choice.value, choice.is_within) == (value, is_within)
    assert f"{value:g}" in choice.reason
    assert ("No lambda" in choice.reason) is not is_within


def test_selection_depends_on_the_tolerance():
    table = make_table({1000: (0.05, 0.04), 100: (0.01, 0.01)})
    assert choose_lambda(table, 0.05).value == 1000
    assert choose_lambda(table, 0.02).value == 100


def test_invalid_arguments_are_rejected():
    table = make_table({1: (0, 0)})
    with pytest.raises(ValueError, match="table has no row"):
        choose_lambda(table.iloc[:0], 0.02)
    for wrong in (-0.1, np.nan):
        with pytest.raises(ValueError, match="tolerance must"):
            choose_lambda(table, wrong)


def test_report_marks_the_selected_lambda():
    table = make_table({1000: (0.05, 0.01), 100: (0.013, np.nan)})
    path = LambdaPath(table, 100.0, 0.02, "Because.", n_train=3000, n_test=300)
    lines = str(path).splitlines()
    assert "300 validation cells" in lines[0] and "3,000 training cells" in lines[0]
    (chosen,) = (line for line in lines if line.startswith("100 *"))
    assert chosen.split()[2:5] == ["0.013", "0.004", "0.200"]
    assert "-" in chosen.split()
    assert any(line.startswith("1000 ") and "*" not in line for line in lines)
    assert "Because." in lines
    assert max(map(len, lines)) <= 140
    assert path.is_within
    assert "<table" in path._repr_html_() and "Because." in path._repr_html_()
