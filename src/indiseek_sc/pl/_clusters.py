"""Figures of clusters: agreement between representations, and clusters that are split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.patches import Patch, Rectangle

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._style import (
    COLUMN,
    PAGE,
    PALETTE,
    as_text,
    display_name,
    finish,
    inches,
    one_panel,
    page,
    warn_if_stale,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData

Measure = Literal["ari", "nmi"]

_NAMES = {"ari": "Adjusted Rand index (ARI)", "nmi": "Normalised mutual information (NMI)"}
_LABELS = "labels"


def cluster_agreement(
    mdata: MuData,
    *,
    measure: Measure = "ari",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw the agreement between clusters of the representations, and between clusters and labels.

    The diagonal compares clusterings of the same representation with different random seeds. A low
    value means that the representation has no stable clusters.

    Parameters
    ----------
    mdata
        Data with the result of :func:`indiseek_sc.tl.compare_clusters`.
    measure
        ``"ari"`` (adjusted Rand index) or ``"nmi"`` (normalised mutual information, which
        is not corrected for chance).
    ax
        Axes to draw on; by default a new figure.
    show
        Whether to show the figure. ``None`` shows it in interactive mode, unless ``ax`` is given.
    save
        File to write the figure to.

    Returns
    -------
    The axes; None if the figure was shown.

    Raises
    ------
    KeyError
        If the tables are missing.
    ValueError
        If ``measure`` is unknown.

    Examples
    --------
    >>> _ = isk.tl.compare_clusters(mdata, "cell_type", latents=("shared", "joint"), n_repeats=2)
    >>> ax = isk.pl.cluster_agreement(mdata, show=False)
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['shared RNA', 'shared protein', 'joint', 'cell_type']
    """
    check_mdata(mdata)
    check_name("measure", measure, get_args(Measure))
    agreement, latents = (find_comparison(mdata, part) for part in ("", "_latents"))
    names = list(dict.fromkeys([*agreement["one"], *agreement["other"]]))
    values = pd.DataFrame(np.nan, names, names)
    for _, row in agreement.iterrows():
        values.loc[row["other"], row["one"]] = row[measure]  # lower triangle
    warn_if_stale(mdata, _keys.CLUSTERS, "compare_clusters(mdata, ...)")
    words = latent_names(latents) | {_LABELS: _name_labels(mdata)}
    side = 8.5 * len(names)
    with one_panel(ax, inches(COLUMN if side + 26 <= COLUMN else PAGE, min(side, PAGE - 40) + 22), show) as (ax, show):
        _draw_matrix(ax, values, words)
        n_clusters = latents["n_clusters"]
        few, many = n_clusters.min(), n_clusters.max()
        ax.set_title(
            f"{_NAMES[measure]}\nLeiden, {few if few == many else f'{few} to {many}'} clusters each",
            loc="left",
        )
        return finish(page(ax), ax, show=show, save=save)


def find_comparison(mdata: MuData, part: str) -> pd.DataFrame:
    """Return a table of ``tl.compare_clusters``.

    Parameters
    ----------
    mdata
        Data with the result of ``tl.compare_clusters``.
    part
        Suffix of the key of the table in ``uns``.

    Raises
    ------
    KeyError
        If the table is missing.
    """
    key = f"{_keys.CLUSTERS}{part}"
    if key not in mdata.uns:
        raise KeyError(f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.compare_clusters(mdata, ...) first.")
    return mdata.uns[key]


def latent_names(latents: pd.DataFrame) -> dict[str, str]:
    """Return the name of each representation in figures."""
    return {
        row["latent"]: f"{row['kind']} {display_name(row['modality'])}" if row["modality"] else row["kind"]
        for _, row in latents.iterrows()
    }


def _name_labels(mdata: MuData) -> str:
    return as_text(mdata.uns.get(f"{_keys.CLUSTERS}_params", {}).get("label_key") or _LABELS, _MAX_LABEL_LENGTH)


def _draw_matrix(ax: Axes, values: pd.DataFrame, words: dict[str, str]) -> None:
    """Draw the lower triangle of ``values`` as numbered tiles; empty columns are left out."""
    values = values.dropna(axis="columns", how="all")
    ax.imshow(np.ma.masked_invalid(values), cmap=colormaps["Greys"], vmin=0, vmax=1)
    for row, column in np.argwhere(np.isfinite(values.to_numpy())):
        value = values.iat[row, column]
        itself = values.index[row] == values.columns[column]
        ax.text(
            column,
            row,
            f"{value:z.2f}",  # no minus before 0.00
            ha="center",
            va="center",
            color="white" if value > 0.6 else "black",
            fontweight="bold" if itself else "normal",
        )
    rows, columns = values.shape
    ax.hlines(np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color="white", linewidth=1.2)
    ax.vlines(np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color="white", linewidth=1.2)
    ax.set_yticks(range(rows), [words[name] for name in values.index])
    ax.set_xticks(
        range(columns), [words[name] for name in values.columns], rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("bold: same representation, other seeds", loc="left")


_COLORS = {"kept": "#e8e8e8", "split": PALETTE[2], "unstable": "white"}
_WORDS = {
    "kept": "not split",
    "split": "split, stable across random seeds",
    "unstable": "no groups: splits differ by seed",
}
_SINGLE_SPLIT_COLOR = PALETTE[5]
_MAX_LABEL_LENGTH = 26

_MAX_NARROW_LABEL_LENGTH = 30
"""Largest length of a row label in a figure of one column."""


def cluster_splits(
    mdata: MuData,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw which clusters of the reference are split in the other representations.

    Rows are clusters of the reference, columns are representations. The number in a tile is the
    effective number of clusters; 2.0 means two equal parts. A frame marks clusters that are split
    in one representation only. Hatched tiles mark clusters that have no reproducible groups: the
    Leiden algorithm splits them differently with each random seed.

    Parameters
    ----------
    mdata
        Data with the result of :func:`indiseek_sc.tl.compare_clusters`.
    ax
        Axes to draw on; by default a new figure, sized for the clusters.
    show
        Whether to show the figure. ``None`` shows it in interactive mode, unless ``ax`` is given.
    save
        File to write the figure to.

    Returns
    -------
    The axes; None if the figure was shown.

    Raises
    ------
    KeyError
        If the tables are missing.

    Examples
    --------
    >>> _ = isk.tl.compare_clusters(mdata, "cell_type", latents=("shared", "joint"), n_repeats=2)
    >>> ax = isk.pl.cluster_splits(mdata, show=False)
    >>> ax.get_ylabel()
    'clusters of the joint representation'
    """
    check_mdata(mdata)
    splits, latents = (find_comparison(mdata, part) for part in ("_splits", "_latents"))
    warn_if_stale(mdata, _keys.CLUSTERS, "compare_clusters(mdata, ...)")
    words = latent_names(latents)
    rows, columns = _order(splits), list(dict.fromkeys(splits["latent"]))
    reference = mdata.uns.get(f"{_keys.CLUSTERS}_params", {}).get("reference", "joint")
    names = [_describe(str(name), row) for name, row in rows.iterrows()]
    is_narrow = len(columns) <= 3 and max(map(len, names)) <= _MAX_NARROW_LABEL_LENGTH
    with one_panel(ax, inches(COLUMN if is_narrow else PAGE, 4.6 * len(rows) + 40), show) as (ax, show):
        _draw_tiles(ax, splits, list(rows.index), columns)
        ax.set_yticks(range(len(rows)), names)
        turned: Any = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        ax.set_xticks(range(len(columns)), [words[name] for name in columns], **turned)
        _draw_counts(ax, list(rows["n_cells"]))
        ax.set_ylabel(
            "cell types"
            if reference == "labels"
            else f"clusters of the {words.get(reference, reference)} representation"
        )
        if (splits["verdict"] == "split").any():
            ax.set_xlabel("number: effective clusters, 2.0 is two halves", loc="left")
        _draw_legend(ax, splits, 1 if is_narrow else 2)
        return finish(page(ax), ax, show=show, save=save)


def _order(splits: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each cluster, grouped by cell type, the largest cell type first."""
    rows = splits.drop_duplicates("cluster").set_index("cluster")
    if "label" not in rows:
        return rows
    largest = rows.groupby("label")["n_cells"].transform("max")
    return rows.assign(largest=largest).sort_values(["largest", "label"], ascending=[False, True], kind="stable")


def _draw_tiles(ax: Axes, splits: pd.DataFrame, clusters: list[str], columns: list[str]) -> None:
    for _, tile in splits.iterrows():
        x, y = columns.index(tile["latent"]), clusters.index(tile["cluster"])
        unstable = tile["verdict"] == "unstable"
        ax.add_patch(
            Rectangle(
                (x - 0.47, y - 0.45),
                0.94,
                0.9,
                facecolor=_COLORS[tile["verdict"]],
                edgecolor="0.75" if unstable else "none",
                hatch="////" if unstable else None,
                linewidth=0,
            )
        )
        if tile["only_here"]:
            ax.add_patch(
                Rectangle((x - 0.44, y - 0.41), 0.88, 0.82, fill=False, edgecolor=_SINGLE_SPLIT_COLOR, linewidth=1.4)
            )
        if tile["verdict"] == "split":
            bold = "bold" if tile["only_here"] else "normal"
            ax.text(x, y, f"{tile['effective_clusters']:.1f}", ha="center", va="center_baseline", fontweight=bold)
    ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(clusters) - 0.45, -0.55))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _describe(name: str, row: pd.Series) -> str:
    """Return the name of a cluster and its most frequent label."""
    if pd.isna(row.get("label_share")):
        return as_text(name, _MAX_LABEL_LENGTH)
    label = as_text(row["label"], _MAX_LABEL_LENGTH)
    return f"{label} {row['label_share']:.0%}   {name:\N{FIGURE SPACE}>2}"


def _draw_counts(ax: Axes, n_cells: list[int]) -> None:
    """Write the number of cells of each row on the right."""
    beside: Any = {"textcoords": "offset points", "ha": "right", "annotation_clip": False}
    for place, n in enumerate(n_cells):
        ax.annotate(f"{n:,}", (1, place), (26, 0), ax.get_yaxis_transform(), va="center_baseline", **beside)
    ax.annotate("cells", (1, 1), (26, 1), "axes fraction", va="bottom", **beside)


def _draw_legend(ax: Axes, splits: pd.DataFrame, n_columns: int) -> None:
    handles = [
        Patch(
            facecolor=_COLORS[verdict], edgecolor="0.75", hatch="////" if verdict == "unstable" else None, label=words
        )
        for verdict, words in _WORDS.items()
        if (splits["verdict"] == verdict).any()
    ]
    if splits["only_here"].any():
        handles.append(
            Patch(fill=False, edgecolor=_SINGLE_SPLIT_COLOR, linewidth=1.4, label="split in this representation only")
        )
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=n_columns, borderaxespad=1.5, handlelength=1.4
    )  # above the heading of the column of cells
