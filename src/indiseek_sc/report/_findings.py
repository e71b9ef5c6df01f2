"""What was found, how sure it is and what to doubt, in five sentences at most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from indiseek_sc import _keys
from indiseek_sc.pl import AUDIT_AIMS, display_name
from indiseek_sc.report._cautions import LEVEL, find_cautions, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from indiseek_sc.report._facts import Material

Kind = Literal["found", "certainty", "doubt"]

MOST_FINDINGS = 5

MOST_LABELS = 4
"""Labels that a sentence names of each modality, the clearest first."""

CANDIDATES = 10
"""Nearest candidates among which partners are sought."""


class Finding(NamedTuple):
    """A sentence, and what it is: something found, how sure that is, or a reason to doubt."""

    kind: Kind
    text: str


def find_findings(material: Material) -> list[Finding]:
    """The sentences that a report begins with, at most five: what was found, how sure it is, and the strongest doubt last.

    Parameters
    ----------
    material
        What the report is made from. Nothing is computed but the cautions.
    """
    findings = [*_of_variation(material), *_of_labels(material), *_of_matching(material), *_of_independence(material)]
    return [*findings[: MOST_FINDINGS - 1], _find_doubt(material)]


def _names(material: Material) -> tuple[str, str]:
    rna, adt = (display_name(material.modalities[role]) for role in _keys.ROLES)
    return rna, adt


def _rows(material: Material) -> tuple[pd.Series, pd.Series] | None:
    """Figures of the audit, of RNA and of proteins."""
    if material.audit is None:
        return None
    rna, adt = (material.audit.table.loc[material.modalities[role]].astype(float) for role in _keys.ROLES)
    return rna, adt


def _of_variation(material: Material) -> Iterator[Finding]:
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
        f"On {material.audit.n_test:,} {_which_cells(material)} the shared representations explain {shared[0]} of the variation in {rna} and {shared[1]} in "
        f"{adt}; the specific ones explain a further {added[0]} and {added[1]}"
    )
    if all(math.isfinite(row["gain"]) for row in rows):
        text += f", which is {gain[0]} and {gain[1]} of what could be added (gain)"
    yield Finding("found", f"{text}.")


def _of_labels(material: Material) -> Iterator[Finding]:
    table = material.mdata.uns.get(_keys.IMPORTANCE)
    if table is None or not len(table) or "theta" not in table:
        return
    if "claim" in table and not material.has_refits:
        yield Finding(
            "certainty",
            "Which modality resolves which labels better is not claimed, since there are no refits of the model.",
        )
        return
    claims = read_claims(table)
    score = "information_difference" if material.has_refits else "theta"
    parts = []
    for role, name in zip(_keys.ROLES, _names(material), strict=True):
        labels = table.loc[claims == role, ["label", score]].sort_values(score, ascending=role == "adt")["label"]
        parts.append(f"{name} resolves {_list_some(labels)} better" if len(labels) else f"{name} resolves none better")
    rest = int((~claims.isin(_keys.ROLES)).sum())
    more = f"; for {rest} of {len(table)} labels no difference can be claimed" if rest else ""
    sure = " (false discovery rate 5 %, over cells, training cells and seeds)" if material.has_refits else ""
    yield Finding("found", f"Beyond what is shared, {parts[0]}, and {parts[1]}{sure}{more}.")


def read_claims(table: pd.DataFrame) -> pd.Series:
    """Of each label ``"rna"``, ``"adt"``, ``"neither"`` or ``"undecided"``: as the table says it, or by which intervals exclude 0."""
    if "claim" in table:
        return table["claim"].astype(str)
    reliable = table["reliable"].astype(bool) if "reliable" in table else True
    claims = table["theta"].astype(object).map(lambda _: "undecided")
    if {"lower", "upper"} <= set(table):
        claims[reliable & (table["lower"] > 0)] = "rna"
        claims[reliable & (table["upper"] < 0)] = "adt"
    return claims


def _of_matching(material: Material) -> Iterator[Finding]:
    if material.audit is None:
        return
    n = material.audit.n_retrieval
    recall, foscttm = (material.audit.pair.get(name, math.nan) for name in (f"recall@{CANDIDATES}", "foscttm"))
    if not math.isfinite(recall):
        return
    rna, adt = _names(material)
    rows = _rows(material)
    carried = [row["sufficiency"] for row in rows or ()]
    carry = (
        f", which carry {percent(carried[0])} and {percent(carried[1])} of what {rna} and {adt} explain of each other (sufficiency)"
        if carried and all(map(math.isfinite, carried))
        else ""
    )
    yield Finding(
        "found",
        f"By the shared representations{carry}, the {adt} of a cell is among the {CANDIDATES} nearest of {n:,} to its {rna} in {percent(recall)} of cells "
        f"({percent(min(1.0, CANDIDATES / n))} by chance; FOSCTTM {foscttm:.3f}, 0.5 by chance).",
    )


def _of_independence(material: Material) -> Iterator[Finding]:
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
    significant = [row["leak_p"] < LEVEL for row in rows]
    if max(leaks) > aim:
        verdict = f"are not independent of the other modality's shared one within the aim of {percent(aim)}"
    elif any(significant):
        verdict = "are nearly, but not fully, independent of the other modality's shared one"
    else:
        verdict = "show no dependence on the other modality's shared one"
    yield Finding(
        "certainty",
        f"New probes on {material.audit.n_test:,} {_which_cells(material)} find that the specific representations {verdict}: they explain "
        f"{parts[0]} and {parts[1]} of what all features explain of it.",
    )


def _which_cells(material: Material) -> str:
    obs = material.mdata.obs
    held_out = _keys.SPLIT in obs and (obs[_keys.SPLIT].astype(str) == "test").any()
    return "held-out cells" if held_out else "cells"


def _p_value(row: pd.Series) -> str:
    p = row.get("leak_p", math.nan)
    return f", p = {p:.3f}" if math.isfinite(p) else ""


def _find_doubt(material: Material) -> Finding:
    cautions = find_cautions(material)
    if not cautions:
        return Finding(
            "doubt",
            "No check of this report speaks against the representations; it is of one training, and labels that were called from one modality "
            "favour it.",
        )
    more = len(cautions) - 1
    others = f" ({more} further caution{'s' * (more > 1)} below.)" if more else ""
    return Finding("doubt", cautions[0] + others)


def _list_some(labels: Sequence[object] | pd.Series) -> str:
    names = list(map(str, labels))
    if len(names) > MOST_LABELS:
        return f"{', '.join(names[:MOST_LABELS])} and {len(names) - MOST_LABELS} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
