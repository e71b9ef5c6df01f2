"""The summary of a run, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from indiseek_sc.metrics import AuditReport

MOST_LABELS = 5
"""Labels named at each end of the ranking."""


def tell_story(facts: Mapping[str, Any], table: pd.DataFrame, audit: AuditReport, captions: Mapping[str, str]) -> str:
    """Tell in Markdown what was done and found.

    Parameters
    ----------
    facts
        Of the run, as for the summary in JSON.
    table
        Theta by label.
    audit
        What ``model.audit()`` found.
    captions
        What each figure shows, by the name of its file, which lies beside the summary.
    """
    figures = {file: f"![{caption}]({file})" for file, caption in captions.items()}
    sections = [
        f"# IndiSeek: {facts['source']}",
        _tell_training(facts),
        figures["umap.png"],
        "## What each modality alone knows",
        _tell_theta(facts, table),
        figures["importance.png"],
        "## How independent the codes are",
        _tell_audit(facts, audit),
        figures["audit.png"],
        f"```\n{audit}\n```",
        f"## {captions['history.png']}",
        figures["history.png"],
        f"indiseek_sc {facts['versions']['indiseek_sc']}, seed {facts['seed']}; every setting is in `summary.json`.",
    ]
    return "\n\n".join(sections) + "\n"


def _tell_training(facts: Mapping[str, Any]) -> str:
    n, width = facts["n_cells"], facts["n_dimensions"]
    rna, adt = facts["modalities"]["rna"], facts["modalities"]["adt"]
    return (
        f"Of {sum(n.values()):,} cells, {n['train']:,} taught the model, {n['validation']:,} decided when to stop, and "
        f"{n['test']:,} were kept out of training to judge the result.\n\n"
        f"- **Shared codes** ({width['shared']} dimensions) hold what `{rna}` and `{adt}` both tell of a cell.\n"
        f"- **Specific codes** ({width['specific'][rna]} dimensions of `{rna}`, {width['specific'][adt]} of `{adt}`) hold "
        "what one modality tells and the other does not.\n"
        "- The **joint code** is made of all four, for neighbours, clusters and the UMAP."
    )


def _tell_theta(facts: Mapping[str, Any], table: pd.DataFrame) -> str:
    sure = table[table["reliable"]].sort_values("theta", ascending=False)
    better = {
        facts["modalities"]["rna"]: sure.loc[sure["lower"] > 0, "label"],
        facts["modalities"]["adt"]: sure.loc[sure["upper"] < 0, "label"].iloc[::-1],
    }
    lines = [f"- **`{modality}` resolves better:** {_name_some(labels)}." for modality, labels in better.items()]
    labels = (
        "the clusters (`leiden`) of the joint code, as no cell types were given: theta is relative to what the codes "
        "themselves resolve"
        if facts["labels_are_clusters"]
        else f"the cell types in `{facts['label_key']}`; types that were called from one modality favour it"
    )
    return "\n".join(lines) + (
        "\n\nTheta compares how well the two specific codes keep cells of a type together. Only types whose 95 % interval "
        f"excludes 0 are named, the clearest first. They are {labels}."
    )


def _name_some(labels: pd.Series) -> str:
    if labels.empty:
        return "none for sure"
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return ", ".join(map(str, labels.head(MOST_LABELS))) + more


def _tell_audit(facts: Mapping[str, Any], audit: AuditReport) -> str:
    rna, adt = facts["modalities"]["rna"], facts["modalities"]["adt"]
    lines = [
        f"- **Specific code of `{own}`:** {_tell_leak(audit.table.loc[own], own, other)}."
        for own, other in ((rna, adt), (adt, rna))
    ]
    pair = audit.pair
    return "\n".join(
        [
            "Models that had no part in the training try to read from each code what should and should not be there, on "
            "the cells that were kept out.\n",
            *lines,
            f"- **Shared codes:** the partner of a cell in the other modality is among its 10 nearest of "
            f"{audit.n_retrieval:,} in {_percent(pair['recall@10'])} of cells (by chance {_percent(10 / audit.n_retrieval)}); "
            f"{_percent(pair['foscttm'])} of cells lie nearer than the partner (by chance 50 %).",
        ]
    )


def _tell_leak(figures: pd.Series, own: str, other: str) -> str:
    leak, gain = figures["leak_ratio"], figures["gain"]
    left = (
        "too little is shared here to tell how much of it is left"
        if math.isnan(leak)
        else f"{_percent(leak)} of what `{own}` tells of the shared code of `{other}` is left in it (0 % is ideal)"
    )
    held = (
        "there is too little that could be added to the shared code"
        if math.isnan(gain)
        else f"it holds {_percent(gain)} of all that it could add to the shared code (100 % is ideal)"
    )
    return f"{left}; {held}"


def _percent(share: float) -> str:
    """A share of less than 0, which noise can make of 0, is told as 0."""
    percent = max(share, 0.0) * 100
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"
