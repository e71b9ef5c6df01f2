"""Findings of a report, their certainty and the main caution, in at most five sentences."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from indiseek_sc import _keys
from indiseek_sc.pl import AUDIT_AIMS, display_name
from indiseek_sc.report._cautions import SIGNIFICANCE, find_cautions, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from indiseek_sc.report._facts import Material

Kind = Literal["found", "certainty", "caution"]

MAX_FINDINGS = 5
"""Largest number of statements at the beginning of a report, including the main caution."""

MAX_LABELS = 4
"""Largest number of labels that a sentence names for each modality, in descending order of
effect."""

CANDIDATES = 10
"""Number of nearest candidates among which the matching cell is searched."""


class Finding(NamedTuple):
    """A statement and its kind: a finding, a statement about certainty, or a caution."""

    kind: Kind
    text: str


def find_findings(material: Material) -> list[Finding]:
    """Return the statements at the beginning of a report, at most five, the main caution last.

    Parameters
    ----------
    material
        Input of the report.
    """
    findings = [
        *_variation_findings(material),
        *_label_findings(material),
        *_retrieval_findings(material),
        *_independence_findings(material),
    ]
    return [*findings[: MAX_FINDINGS - 1], _find_main_caution(material)]


def _names(material: Material) -> tuple[str, str]:
    rna, adt = (display_name(material.modalities[role]) for role in _keys.ROLES)
    return rna, adt


def _rows(material: Material) -> tuple[pd.Series, pd.Series] | None:
    """Return the audit measures of RNA and of proteins."""
    if material.audit is None:
        return None
    rna, adt = (material.audit.table.loc[material.modalities[role]].astype(float) for role in _keys.ROLES)
    return rna, adt


def _variation_findings(material: Material) -> Iterator[Finding]:
    if material.audit is None or (rows := _rows(material)) is None:
        return
    rna, adt = _names(material)
    shared, added, gain = (
        [percent(value) for value in values]
        for values in zip(
            *((row["r2_shared"], row["r2_both"] - row["r2_shared"], row["gain"]) for row in rows), strict=True
        )
    )
    text = (
        f"On {material.audit.n_test:,} {_describe_cells(material)} the shared representations explain "
        f"{shared[0]} of the variance of {rna} and {shared[1]} of the variance of {adt}; the specific representations "
        f"explain a further {added[0]} and {added[1]}"
    )
    if all(math.isfinite(row["gain"]) for row in rows):
        text += f", which is {gain[0]} and {gain[1]} of the largest possible increase (gain)"
    yield Finding("found", f"{text}.")


def _label_findings(material: Material) -> Iterator[Finding]:
    table = material.mdata.uns.get(_keys.IMPORTANCE)
    if table is None or not len(table) or "theta" not in table:
        return
    if "claim" in table and not material.has_refits:
        yield Finding(
            "certainty",
            "Which modality resolves which label better is not stated, because there are no refits of the model.",
        )
        return
    claims = read_claims(table)
    score = "information_difference" if material.has_refits else "theta"
    parts = []
    for role, name in zip(_keys.ROLES, _names(material), strict=True):
        labels = table.loc[claims == role, ["label", score]].sort_values(score, ascending=role == "adt")["label"]
        parts.append(
            f"{name} resolves {_list_some(labels)} better" if len(labels) else f"{name} resolves no label better"
        )
    rest = int((~claims.isin(_keys.ROLES)).sum())
    more = f"; for {rest} of {len(table)} labels the data do not establish a difference" if rest else ""
    error_rate = (
        " (false discovery rate 5 %, accounting for variation over cells, training cells and seeds)"
        if material.has_refits
        else ""
    )
    yield Finding("found", f"Beyond the shared representations, {parts[0]}, and {parts[1]}{error_rate}{more}.")


def read_claims(table: pd.DataFrame) -> pd.Series:
    """Return for each label the modality that resolves it better.

    Values are ``"rna"``, ``"adt"``, ``"neither"`` or ``"undecided"``. They are those of the column
    ``claim`` if the table has one; otherwise a modality is named where the interval of theta
    excludes 0.
    """
    if "claim" in table:
        return table["claim"].astype(str)
    reliable = table["reliable"].astype(bool) if "reliable" in table else True
    claims = table["theta"].astype(object).map(lambda _: "undecided")
    if {"lower", "upper"} <= set(table):
        claims[reliable & (table["lower"] > 0)] = "rna"
        claims[reliable & (table["upper"] < 0)] = "adt"
    return claims


def _retrieval_findings(material: Material) -> Iterator[Finding]:
    if material.audit is None:
        return
    n = material.audit.n_retrieval
    recall, foscttm = (material.audit.pair.get(name, math.nan) for name in (f"recall@{CANDIDATES}", "foscttm"))
    if not math.isfinite(recall):
        return
    rna, adt = _names(material)
    rows = _rows(material)
    sufficiency = [row["sufficiency"] for row in rows or ()]
    retained = (
        f", which retain {percent(sufficiency[0])} and {percent(sufficiency[1])} of the information of {rna} and {adt} about "
        "each other (sufficiency)"
        if sufficiency and all(map(math.isfinite, sufficiency))
        else ""
    )
    yield Finding(
        "found",
        f"In the shared representations{retained}, the {adt} of a cell is among the {CANDIDATES} of {n:,} cells nearest to "
        f"its {rna} in {percent(recall)} of cells ({percent(min(1.0, CANDIDATES / n))} by chance; FOSCTTM {foscttm:.3f}, "
        "0.5 by chance).",
    )


def _independence_findings(material: Material) -> Iterator[Finding]:
    if material.audit is None or (rows := _rows(material)) is None:
        return
    leaks = [row["leak_ratio"] for row in rows]
    if not all(map(math.isfinite, leaks)):
        return
    parts = [
        f"{percent(leak)} ({name}{_p_value(row)})"
        for leak, name, row in zip(leaks, _names(material), rows, strict=True)
    ]
    aim = AUDIT_AIMS["leak_ratio"].value
    significant = [row["leak_p"] < SIGNIFICANCE for row in rows]
    if max(leaks) > aim:
        verdict = (
            "are not independent of the shared representation of the other modality "
            f"(aim: a leak ratio of at most {percent(aim)})"
        )
    elif any(significant):
        verdict = "are nearly, but not fully, independent of the shared representation of the other modality"
    else:
        verdict = "show no detectable dependence on the shared representation of the other modality"
    yield Finding(
        "certainty",
        f"According to independently trained probes on {material.audit.n_test:,} {_describe_cells(material)}, the specific "
        f"representations {verdict}: they explain {parts[0]} and {parts[1]} of the variance of that representation that "
        "all features explain.",
    )


def _describe_cells(material: Material) -> str:
    obs = material.mdata.obs
    held_out = _keys.SPLIT in obs and (obs[_keys.SPLIT].astype(str) == "test").any()
    return "held-out cells" if held_out else "cells"


def _p_value(row: pd.Series) -> str:
    p = row.get("leak_p", math.nan)
    return f", p = {p:.3f}" if math.isfinite(p) else ""


def _find_main_caution(material: Material) -> Finding:
    cautions = find_cautions(material)
    if not cautions:
        return Finding(
            "caution",
            "None of the checks of this report raised a caution. The results are from one training run, and labels "
            "that were assigned from one modality favour this modality.",
        )
    more = len(cautions) - 1
    others = f" ({more} further caution{'s' * (more > 1)} below.)" if more else ""
    return Finding("caution", cautions[0] + others)


def _list_some(labels: Sequence[object] | pd.Series) -> str:
    names = list(map(str, labels))
    if len(names) > MAX_LABELS:
        return f"{', '.join(names[:MAX_LABELS])} and {len(names) - MAX_LABELS} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
