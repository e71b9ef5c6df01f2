"""Statements at the beginning of a report."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from indiseek_sc import _keys
from indiseek_sc.report import Material
from indiseek_sc.report._cautions import percent
from indiseek_sc.report._findings import find_findings, read_claims

from .conftest import make_audit

SPACE = "\N{NO-BREAK SPACE}"


@pytest.fixture
def table() -> pd.DataFrame:
    """Two labels resolved by RNA, one by proteins, one undecided and one with too few cells."""
    return pd.DataFrame(
        {
            "label": ["DC", "Mono", "NK", "T", "few"],
            "theta": [0.5, 0.9, 0.01, -1.0, 2.0],
            "lower": [0.2, 0.6, -0.1, -1.5, 1.0],
            "upper": [0.8, 1.2, 0.1, -0.5, 3.0],
            "reliable": [True, True, True, True, False],
        }
    )


def read(material: Material) -> str:
    return "\n".join(f"{kind}: {text}" for kind, text in find_findings(material)).replace(SPACE, " ")


def test_findings_of_a_full_report(with_latents, table):
    with_latents.uns[_keys.IMPORTANCE] = table
    audit = make_audit()
    audit.table.loc["adt", ["gain", "r2_shared"]] = 0.9, 0.4
    findings = find_findings(Material(with_latents, "cells", "cell_type", audit=audit))
    assert [kind for kind, _ in findings] == ["found", "found", "found", "certainty", "caution"]
    text = read(Material(with_latents, "cells", "cell_type", audit=audit))
    assert (
        "On 100 held-out cells the shared representations explain 50 % of the variance of RNA and 40 % of the variance of protein"
        in text
    )
    assert "a further 20 % and 30 %, which is 97 % and 90 % of the largest possible increase (gain)" in text
    assert (
        "RNA resolves Mono and DC better, and protein resolves T better; for 2 of 5 labels the data do not establish"
        in text
    )
    assert "among the 10 of 100 cells nearest to its RNA in 50 % of cells (10 % by chance; FOSCTTM 0.050" in text
    assert "retain 99 % and 99 % of the information of RNA and protein about each other" in text
    assert (
        "are not independent of the shared representation of the other modality (aim: a leak ratio of at most 2 %)"
        in text
    )
    assert "30 % (RNA, p = 0.001) and 1 % (protein, p = 0.001)" in text
    assert "caution: The audit misses an aim" in text
    assert "further caution" in text


@pytest.mark.parametrize(
    ("leaks", "p", "expected"),
    [
        ((0.001, 0.006), (0.001, 0.4), "are nearly, but not fully, independent"),
        ((0.001, -0.001), (0.3, 0.9), "show no detectable dependence on"),
        ((0.001, 0.05), (0.3, 0.9), "are not independent of"),
    ],
)
def test_certainty_of_independence(with_latents, leaks, p, expected):
    audit = make_audit()
    audit.table["leak_ratio"], audit.table["leak_p"] = leaks, p
    assert expected in read(Material(with_latents, "cells", audit=audit))


def test_claims_of_the_table_take_precedence_over_intervals(table):
    assert list(read_claims(table)) == ["rna", "rna", "undecided", "adt", "undecided"]
    claims = ["neither", "adt", "neither", "undecided", "rna"]
    assert list(read_claims(table.assign(claim=claims))) == claims


def test_without_model_and_labels_only_a_caution_remains(with_latents):
    ((kind, text),) = find_findings(Material(with_latents, "cells"))
    assert kind == "caution"
    assert text.startswith("The representations were not audited")


def test_undefined_figures_are_left_out(with_latents):
    audit = make_audit()
    audit.table[["leak_ratio", "gain", "sufficiency"]] = np.nan
    text = read(Material(with_latents, "cells", audit=audit))
    assert "nan" not in text
    assert "undefined" not in text
    assert "gain" not in text


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0011, "0.11 %"), (0.052, "5.2 %"), (0.678, "68 %"), (-0.01, "0 %"), (1.02, "102 %")]
)
def test_percent(share, shown):
    assert percent(share).replace(SPACE, " ") == shown
