"""The sentences that a report begins with."""

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
    """Two labels for RNA, one for proteins, one undecided and one of too few cells."""
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


def test_all_of_them(coded, table):
    coded.uns[_keys.IMPORTANCE] = table
    audit = make_audit()
    audit.table.loc["adt", ["gain", "r2_shared"]] = 0.9, 0.4
    findings = find_findings(Material(coded, "cells", "cell_type", audit=audit))
    assert [kind for kind, _ in findings] == ["found", "found", "found", "certainty", "doubt"]
    text = read(Material(coded, "cells", "cell_type", audit=audit))
    assert (
        "On 100 held-out cells the shared representations explain 50 % of the variation in RNA and 40 % in protein"
        in text
    )
    assert "a further 20 % and 30 %, which is 97 % and 90 % of what could be added (gain)" in text
    assert "RNA resolves Mono and DC better, and protein resolves T better; for 2 of 5 labels no difference" in text
    assert "among the 10 nearest of 100 to its RNA in 50 % of cells (10 % by chance; FOSCTTM 0.050" in text
    assert "carry 99 % and 99 % of what RNA and protein explain of each other" in text
    assert "are not independent of the other modality's shared one within the aim of 2 %" in text
    assert "30 % (RNA, p = 0.001) and 1 % (protein, p = 0.001)" in text
    assert "doubt: The audit misses an aim" in text
    assert "further caution" in text


@pytest.mark.parametrize(
    ("leaks", "p", "said"),
    [
        ((0.001, 0.006), (0.001, 0.4), "are nearly, but not fully, independent"),
        ((0.001, -0.001), (0.3, 0.9), "show no dependence on"),
        ((0.001, 0.05), (0.3, 0.9), "are not independent of"),
    ],
)
def test_how_sure_independence_is(coded, leaks, p, said):
    audit = make_audit()
    audit.table["leak_ratio"], audit.table["leak_p"] = leaks, p
    assert said in read(Material(coded, "cells", audit=audit))


def test_claims_of_the_table_come_before_intervals(table):
    assert list(read_claims(table)) == ["rna", "rna", "undecided", "adt", "undecided"]
    claims = ["neither", "adt", "neither", "undecided", "rna"]
    assert list(read_claims(table.assign(claim=claims))) == claims


def test_without_model_and_labels_the_doubt_is_left(coded):
    ((kind, text),) = find_findings(Material(coded, "cells"))
    assert kind == "doubt"
    assert text.startswith("The representations were not audited")


def test_figures_that_are_not_defined_are_not_told(coded):
    audit = make_audit()
    audit.table[["leak_ratio", "gain", "sufficiency"]] = np.nan
    text = read(Material(coded, "cells", audit=audit))
    assert "nan" not in text
    assert "undefined" not in text
    assert "gain" not in text


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0011, "0.11 %"), (0.052, "5.2 %"), (0.678, "68 %"), (-0.01, "0 %"), (1.02, "102 %")]
)
def test_percent(share, shown):
    assert percent(share).replace(SPACE, " ") == shown
