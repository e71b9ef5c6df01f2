"""The summary of a run: figures, words, and facts for programs."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib import pyplot as plt

from indiseek_sc import pl
from indiseek_sc.cli._outcome import or_warned
from indiseek_sc.report import course_of_training

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from mudata import MuData

    from indiseek_sc import IndiSeek
    from indiseek_sc.metrics import AuditReport

PAGE = "report.html"
"""The page for a browser, beside the figures."""

TABLES = "tables"
"""The folder of the tables of the page, as CSV files."""


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
    """Put together what was done and found, for programs.

    Parameters
    ----------
    facts
        Of the run, see :func:`indiseek_sc.report.collect_facts`.
    table
        Theta by label.
    audit
        What ``model.audit()`` found.
    is_clustered
        Whether the labels are clusters of the representations themselves.
    seconds
        How long each step took.
    files
        Names of the files that were made, the summary among them.
    dimensions
        What ``tl.describe_dimensions`` found, if it could.
    about_dimensions
        The same in sentences.
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
        "files": list(files),
    }


def write_json(summary: Mapping[str, Any], path: Path) -> None:
    """Write strict JSON: what it has no number for becomes null."""
    path.write_text(json.dumps(_plain(summary), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value


MOST_LABELS = 5
"""Labels named at each end of the ranking."""


def tell_story(summary: Mapping[str, Any], table: pd.DataFrame, audit: AuditReport, captions: Mapping[str, str]) -> str:
    """Tell in Markdown what was done and found.

    Parameters
    ----------
    summary
        What :func:`summarize` put together.
    table
        Theta by label.
    audit
        What ``model.audit()`` found.
    captions
        What each figure shows, by the name of its file, which lies beside the summary.
    """
    # One that could not be drawn has no caption, and is left out.
    figures = {file: f"![{captions[file]}]({file})" if file in captions else "" for file in CAPTIONS}
    sections = [
        f"# IndiSeek: {summary['source']}",
        _tell_training(summary),
        figures["umap.png"],
        "## What each modality resolves",
        _tell_theta(summary, table),
        figures["importance.png"],
        "## What the dimensions mean" if summary["about_dimensions"] else "",
        "\n".join(f"- {sentence}" for sentence in summary["about_dimensions"]),
        "## How independent the representations are",
        _tell_audit(summary, audit),
        figures["audit.png"],
        f"```\n{audit}\n```",
        f"## {CAPTIONS['history.png']}",
        figures["history.png"],
        f"indiseek_sc {summary['versions']['indiseek_sc']}, seed {summary['seed']}; every setting is in `summary.json`.",
    ]
    return "\n\n".join(filter(None, sections)) + "\n"


def _tell_training(summary: Mapping[str, Any]) -> str:
    n, width = summary["n_cells"], summary["n_dimensions"]
    rna, adt = summary["modalities"]["rna"], summary["modalities"]["adt"]
    return (
        f"Of {sum(n.values()):,} cells, {n['train']:,} were for training, {n['validation']:,} for validation, and "
        f"{n['test']:,} were held out for the audit.\n\n"
        f"- **Shared representations** ({width['shared']} dimensions) hold what `{rna}` and `{adt}` both measure of a cell.\n"
        f"- **Specific representations** ({width['specific'][rna]} dimensions of `{rna}`, {width['specific'][adt]} of `{adt}`) hold "
        "what one modality measures and the other does not.\n"
        "- The **joint representation** is made of all four, for neighbours, clusters and the UMAP."
    )


def _tell_theta(summary: Mapping[str, Any], table: pd.DataFrame) -> str:
    labels = (
        "the clusters (`leiden`) of the joint representation, as no cell types were given: they are what the "
        "representations themselves resolve"
        if summary["labels_are_clusters"]
        else f"the cell types in `{summary['label_key']}`; types that were called from one modality favour it"
    )
    if "information_difference" not in table:
        return (
            "Which modality resolves which labels better is not claimed, since there are no refits of the model (`--refits`). "
            f"Labels are {labels}."
        )
    by_difference = table.sort_values("information_difference", ascending=False)
    better = {
        summary["modalities"]["rna"]: by_difference.loc[by_difference["claim"] == "rna", "label"],
        summary["modalities"]["adt"]: by_difference.loc[by_difference["claim"] == "adt", "label"].iloc[::-1],
    }
    lines = [f"- **`{modality}` resolves better:** {_name_some(labels)}." for modality, labels in better.items()]
    n_neither = int((table["claim"] == "neither").sum())
    lines += (
        [f"- Resolved by neither modality beyond what is shared: {n_neither} of {len(table)}."] if n_neither else []
    )
    return "\n".join(lines) + (
        "\n\nBy how much either specific representation adds to the shared ones about a label, on cells that a model was not "
        "trained on. Labels are named where the difference is significant at a false discovery rate of 5 % over cells, training cells and "
        f"seeds, the largest difference first. They are {labels}."
    )


def _name_some(labels: pd.Series) -> str:
    if labels.empty:
        return "none for sure"
    more = f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    return ", ".join(map(str, labels.head(MOST_LABELS))) + more


def _tell_audit(summary: Mapping[str, Any], audit: AuditReport) -> str:
    rna, adt = summary["modalities"]["rna"], summary["modalities"]["adt"]
    lines = [
        f"- **Specific representation of `{own}`:** {_tell_leak(audit.table.loc[own], own, other)}."
        for own, other in ((rna, adt), (adt, rna))
    ]
    pair = audit.pair
    return "\n".join(
        [
            "Probes that had no part in the training were fitted from each representation to what it should, and should not, "
            "explain, and read on the cells that were held out.\n",
            *lines,
            f"- **Shared representations:** the partner of a cell in the other modality is among its 10 nearest of "
            f"{audit.n_retrieval:,} in {_percent(pair['recall@10'])} of cells (by chance {_percent(10 / audit.n_retrieval)}); "
            f"{_percent(pair['foscttm'])} of cells lie nearer than the partner (by chance 50 %).",
        ]
    )


def _tell_leak(figures: pd.Series, own: str, other: str) -> str:
    leak, gain = figures["leak_ratio"], figures["gain"]
    left = (
        "too little is shared here to say how much of it is left"
        if math.isnan(leak)
        else f"it explains {_percent(leak)} of what all features of `{own}` explain of the shared representation of `{other}` (0 % is ideal)"
    )
    held = (
        "there is too little that could be added to the shared representation"
        if math.isnan(gain)
        else f"it holds {_percent(gain)} of all that it could add to the shared representation (100 % is ideal)"
    )
    return f"{left}; {held}"


def _percent(share: float) -> str:
    """A share of less than 0, which noise can make of 0, is told as 0."""
    percent = max(share, 0.0) * 100
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


CAPTIONS = {
    "umap.png": "The latent representations as UMAPs",
    "importance.png": "Which modality resolves which cells better",
    "audit.png": "What new probes find in the representations of cells that were held out",
    "history.png": "The course of training",
}
"""What each figure shows, in the order to look at them."""


def draw_figures(
    model: IndiSeek, mdata: MuData, audit: AuditReport, colors: Sequence[str], folder: Path
) -> dict[str, str]:
    """Draw all figures into a folder.

    Parameters
    ----------
    model
        The trained model.
    mdata
        With representations, their UMAPs and theta.
    audit
        What ``model.audit()`` found.
    colors
        Columns of obs to colour the UMAPs by, a row each.
    folder
        Where to write.

    Returns
    -------
    What each shows, by file name; those that could not be drawn are warned of, and left out.
    """
    matplotlib.use("Agg")  # a command draws files, also where there is a screen
    figures: dict[str, Callable[[Path], object]] = {
        "umap.png": lambda path: pl.umap(mdata, colors, show=False, save=path),
        "importance.png": lambda path: pl.importance_ranking(mdata, show=False, save=path),
        "audit.png": lambda path: pl.audit(audit, show=False, save=path),
        "history.png": lambda path: pl.history(model, keys=course_of_training(model.history), show=False, save=path),
    }
    for file, draw in figures.items():
        with or_warned(file):
            draw(folder / file)
        plt.close("all")
    return {file: caption for file, caption in CAPTIONS.items() if (folder / file).is_file()}
