"""Summary of a run: figures, a Markdown text, and facts as JSON."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib import pyplot as plt

from indiseek_sc import pl
from indiseek_sc.cli._outcome import warn_on_error
from indiseek_sc.report import select_training_curves

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

    from indiseek_sc import IndiSeek
    from indiseek_sc.metrics import AuditReport

PAGE = "report.html"
"""File of the report, beside the figures."""

TABLES = "tables"
"""Folder of the tables of the report as CSV files."""


def summarize(
    facts: Mapping[str, Any],
    table: pd.DataFrame,
    audit: AuditReport,
    *,
    is_clustered: bool,
    seconds: Mapping[str, float],
    files: Sequence[str],
    dimensions: pd.DataFrame | None = None,
    about_dimensions: Sequence[str] = (),
) -> dict[str, Any]:
    """Collect facts and results of a run for programs.

    Parameters
    ----------
    facts
        Facts of the run, see :func:`indiseek_sc.report.collect_facts`.
    table
        Table of theta by label.
    audit
        Report returned by ``model.audit()``.
    is_clustered
        Whether the labels are clusters of the representations themselves.
    seconds
        Duration of each step.
    files
        Names of the written files, including the summary.
    dimensions
        Table returned by ``tl.describe_dimensions``, or None.
    about_dimensions
        Sentences that describe this table.
    """
    settings = {name: value for name, value in facts["settings"].items() if name not in ("lambda", "seed")}
    return {
        "source": facts["source"],
        "n_cells": facts["split"],
        "modalities": facts["modalities"],
        "seed": facts["seed"],
        "settings": settings | {"lambda_": facts["lambda"]},
        "n_dimensions": {kind: facts["n_dimensions"][kind] for kind in ("shared", "specific")},
        "epochs": facts["epochs"],
        "audit": audit.to_dict(),
        "label_key": facts["labels"]["key"],
        "labels_are_clusters": is_clustered,
        "theta": table.to_dict(orient="records"),
        "dimensions": None if dimensions is None else dimensions.to_dict(orient="records"),
        "about_dimensions": list(about_dimensions),
        "seconds": dict(seconds),
        "versions": facts["versions"],
        "session": facts["session"],
        "files": list(files),
    }


def write_json(summary: Mapping[str, Any], path: Path) -> None:
    """Write strict JSON, with null for numbers that are not finite."""
    path.write_text(json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Convert a value to types of JSON."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


MOST_LABELS = 5
"""Maximal number of labels named for each modality."""


def format_summary(
    summary: Mapping[str, Any], table: pd.DataFrame, audit: AuditReport, captions: Mapping[str, str]
) -> str:
    """Return a summary of the run and its results as Markdown.

    Parameters
    ----------
    summary
        Facts returned by :func:`summarize`.
    table
        Table of theta by label.
    audit
        Report returned by ``model.audit()``.
    captions
        Caption of each figure by the name of its file, which lies beside the summary.
    """
    # Figures that could not be drawn have no caption.
    figures = {file: f"![{captions[file]}]({file})" if file in captions else "" for file in CAPTIONS}
    sections = [
        f"# IndiSeek: {summary['source']}",
        _describe_training(summary),
        figures["umap.png"],
        "## What each modality resolves",
        _describe_theta(summary, table),
        figures["importance.png"],
        "## What the dimensions mean" if summary["about_dimensions"] else "",
        "\n".join(f"- {sentence}" for sentence in summary["about_dimensions"]),
        "## How independent the representations are",
        _describe_audit(summary, audit),
        figures["audit.png"],
        f"```\n{audit}\n```",
        f"## {CAPTIONS['history.png']}",
        figures["history.png"],
        f"indiseek_sc {summary['versions']['indiseek_sc']}, seed {summary['seed']}; all settings are in `summary.json`.",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _describe_training(summary: Mapping[str, Any]) -> str:
    """Describe the split of the cells and the representations."""
    n, width = summary["n_cells"], summary["n_dimensions"]
    rna, adt = summary["modalities"]["rna"], summary["modalities"]["adt"]
    return (
        f"Of {sum(n.values()):,} cells, {n['train']:,} were used for training and {n['validation']:,} for validation; "
        f"{n['test']:,} were held out for the audit.\n\n"
        f"- **Shared representations** ({width['shared']} dimensions) contain what both `{rna}` and `{adt}` "
        "measure of a cell.\n"
        f"- **Specific representations** ({width['specific'][rna]} dimensions of `{rna}`, {width['specific'][adt]} of `{adt}`) "
        "contain what only one modality measures.\n"
        "- The **joint representation** combines all four and is used for neighbours, clusters and the UMAP."
    )


def _describe_theta(summary: Mapping[str, Any], table: pd.DataFrame) -> str:
    """Describe which labels each modality resolves better."""
    labels = (
        "the clusters (`leiden`) of the joint representation, because no cell types were given; they depend on the "
        "representations themselves"
        if summary["labels_are_clusters"]
        else f"the cell types in `{summary['label_key']}`; types that were annotated from one modality favour it"
    )
    if "information_difference" not in table:
        return (
            "No claims are made about which modality resolves a label better, because there are no refits of the model "
            f"(`--refits`). Labels are {labels}."
        )
    by_difference = table.sort_values("information_difference", ascending=False)
    better = {
        summary["modalities"]["rna"]: by_difference.loc[by_difference["claim"] == "rna", "label"],
        summary["modalities"]["adt"]: by_difference.loc[by_difference["claim"] == "adt", "label"].iloc[::-1],
    }
    lines = [f"- **`{modality}` resolves better:** {_name_some(labels)}." for modality, labels in better.items()]
    n_neither = int((table["claim"] == "neither").sum())
    lines += (
        [f"- Resolved by neither modality beyond the shared representations: {n_neither} of {len(table)}."]
        if n_neither
        else []
    )
    return "\n".join(lines) + (
        "\n\nThe comparison is based on the information about a label that each specific representation adds to the "
        "shared ones, on cells that the refits were not trained on. Labels are named, in decreasing order of the "
        "difference, if it is significant at a false discovery rate of 5 %, considering the variation over cells, "
        f"training cells and seeds. Labels are {labels}."
    )


def _name_some(labels: pd.Series) -> str:
    """Return the first labels, and the number of the others."""
    if labels.empty:
        return "none significantly"
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return ", ".join(map(str, labels.head(MOST_LABELS))) + more


def _describe_audit(summary: Mapping[str, Any], audit: AuditReport) -> str:
    """Describe the results of the audit."""
    rna, adt = summary["modalities"]["rna"], summary["modalities"]["adt"]
    lines = [
        f"- **Specific representation of `{own}`:** {_describe_specific(audit.table.loc[own], own, other)}."
        for own, other in ((rna, adt), (adt, rna))
    ]
    pair = audit.pair
    return "\n".join(
        [
            "Independently trained probes predict, from each representation, what it should and should not contain. They "
            "are evaluated on held-out cells.\n",
            *lines,
            f"- **Shared representations:** for {_percent(pair['recall@10'])} of cells, the cell itself is among the 10 "
            f"nearest of {audit.n_retrieval:,} cells in the other modality (by chance "
            f"{_percent(10 / audit.n_retrieval)}); on average, {_percent(pair['foscttm'])} of the cells are nearer than "
            "the cell itself (by chance 50 %).",
        ]
    )


def _describe_specific(figures: pd.Series, own: str, other: str) -> str:
    """Describe leak ratio and gain of the specific representation of a modality."""
    leak, gain = figures["leak_ratio"], figures["gain"]
    leak_sentence = (
        "the modalities share too little to estimate the leak ratio"
        if math.isnan(leak)
        else f"it explains {_percent(leak)} of the variance of the shared representation of `{other}` that all features of "
        f"`{own}` explain (leak ratio; 0 % is ideal)"
    )
    gain_sentence = (
        "too little could be added to the shared representation to estimate the gain"
        if math.isnan(gain)
        else f"it adds {_percent(gain)} of what could be added to the shared representation (gain; 100 % is ideal)"
    )
    return f"{leak_sentence}; {gain_sentence}"


def _percent(share: float) -> str:
    """Format a share in percent; negative estimates are formatted as 0."""
    percent = max(share, 0.0) * 100
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


CAPTIONS = {
    "umap.png": "UMAPs of the latent representations",
    "importance.png": "Modality importance by cell type",
    "audit.png": "Audit: performance of newly trained probes on held-out cells",
    "history.png": "Training history",
}
"""Captions of the figures, in order of presentation."""


def draw_figures(
    model: IndiSeek, mdata: MuData, audit: AuditReport, colors: Sequence[str], folder: Path
) -> dict[str, str]:
    """Draw all figures into a folder.

    Parameters
    ----------
    model
        Trained model.
    mdata
        Data with representations, their UMAPs and theta.
    audit
        Report returned by ``model.audit()``.
    colors
        Columns of ``obs`` to colour the UMAPs by, one row each.
    folder
        Folder to write to.

    Returns
    -------
    Caption of each figure by file name; figures that fail are omitted with a warning.
    """
    matplotlib.use("Agg")  # figures are written to files, also if there is a display
    figures: dict[str, Callable[[Path], object]] = {
        "umap.png": lambda path: pl.umap(mdata, colors, show=False, save=path),
        "importance.png": lambda path: pl.importance_ranking(mdata, show=False, save=path),
        "audit.png": lambda path: pl.audit(audit, show=False, save=path),
        "history.png": lambda path: pl.history(
            model, keys=select_training_curves(model.history), show=False, save=path
        ),
    }
    for file, draw in figures.items():
        with warn_on_error(file):
            draw(folder / file)
        plt.close("all")
    return {file: caption for file, caption in CAPTIONS.items() if (folder / file).is_file()}
