"""Clusters of representations: how alike they are, and which fall apart in which representation."""

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

Figure = Literal["ari", "nmi"]

_NAMES = {"ari": "Adjusted Rand index (ARI)", "nmi": "Normalised mutual information (NMI)"}
_LABELS = "labels"


def cluster_agreement(
    mdata: MuData,
    *,
    figure: Figure = "ari",
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw how alike the clusters of every two representations are, and those of each representation and the labels.

    On the diagonal a representation is compared with itself, clustered from other seeds: where that is low, it has no clusters to agree on.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.compare_clusters`.
    figure
        ``"ari"`` or ``"nmi"``.
    ax
        Where to draw; by default a figure of its own.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive, unless ``ax`` is given.
    save
        File to write.

    Returns
    -------
    The axes; nothing if the figure was shown.

    Raises
    ------
    KeyError
        If the tables are not there.
    ValueError
        If ``figure`` is neither.
    """
    check_mdata(mdata)
    check_name("figure", figure, get_args(Figure))
    agreement, latents = (find_comparison(mdata, part) for part in ("", "_latents"))
    names = list(dict.fromkeys([*agreement["one"], *agreement["other"]]))
    values = pd.DataFrame(np.nan, names, names)
    for _, row in agreement.iterrows():
        values.loc[row["other"], row["one"]] = row[figure]  # the later below the earlier
    warn_if_stale(mdata, _keys.CLUSTERS, "compare_clusters(mdata, ...)")
    words = latent_names(latents) | {_LABELS: _name_labels(mdata)}
    side = 8.5 * len(names)
    with one_panel(ax, inches(COLUMN if side + 26 <= COLUMN else PAGE, min(side, PAGE - 40) + 22), show) as (ax, show):
        _draw_matrix(ax, values, words)
        n_clusters = latents["n_clusters"]
        few, many = n_clusters.min(), n_clusters.max()
        ax.set_title(
            f"{_NAMES[figure]}\nLeiden, {few if few == many else f'{few} to {many}'} clusters each",
            loc="left",
        )
        return finish(page(ax), ax, show=show, save=save)


def find_comparison(mdata: MuData, part: str) -> pd.DataFrame:
    """A table of ``tl.compare_clusters``.

    Raises
    ------
    KeyError
        If it is not there.
    """
    key = f"{_keys.CLUSTERS}{part}"
    if key not in mdata.uns:
        raise KeyError(f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.compare_clusters(mdata, ...) first.")
    return mdata.uns[key]


def latent_names(latents: pd.DataFrame) -> dict[str, str]:
    """What a figure calls each representation."""
    return {
        row["latent"]: f"{row['kind']} {display_name(row['modality'])}" if row["modality"] else row["kind"]
        for _, row in latents.iterrows()
    }


def _name_labels(mdata: MuData) -> str:
    return as_text(mdata.uns.get(f"{_keys.CLUSTERS}_params", {}).get("label_key") or _LABELS, _WIDEST_LABEL)


def _draw_matrix(ax: Axes, values: pd.DataFrame, words: dict[str, str]) -> None:
    """Lower triangle of ``values`` as tiles with their numbers; columns without any are left out."""
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
    ax.set_xlabel("bold: against itself, from other seeds", loc="left")


_COLORS = {"kept": "#e8e8e8", "split": PALETTE[2], "unstable": "white"}
_WORDS = {
    "kept": "kept together",
    "split": "falls apart, from every seed alike",
    "unstable": "no groups: each seed cuts otherwise",
}
_ONLY_HERE = PALETTE[5]
_WIDEST_LABEL = 26

_WIDEST_IN_A_COLUMN = 30
"""Letters that may stand before a row of a figure of one column."""


def cluster_splits(
    mdata: MuData,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw for each cluster of the reference whether each representation keeps it together, a row a cluster and a column a representation.

    The number in a tile is that of effective clusters: 2.0 is two halves. A frame marks clusters that fall apart in one representation alone. Hatched are cells
    among which the representation knows of no groups: Leiden cuts them otherwise from each seed.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.compare_clusters`.
    ax
        Where to draw; by default a figure of its own, as high as the clusters need.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive, unless ``ax`` is given.
    save
        File to write.

    Returns
    -------
    The axes; nothing if the figure was shown.

    Raises
    ------
    KeyError
        If the tables are not there.
    """
    check_mdata(mdata)
    splits, latents = (find_comparison(mdata, part) for part in ("_splits", "_latents"))
    warn_if_stale(mdata, _keys.CLUSTERS, "compare_clusters(mdata, ...)")
    words = latent_names(latents)
    rows, columns = _order(splits), list(dict.fromkeys(splits["latent"]))
    reference = mdata.uns.get(f"{_keys.CLUSTERS}_params", {}).get("reference", "joint")
    names = [_describe(str(name), row) for name, row in rows.iterrows()]
    is_narrow = len(columns) <= 3 and max(map(len, names)) <= _WIDEST_IN_A_COLUMN
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
    """A row for each cluster; those of one cell type stand together, the largest first."""
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
            ax.add_patch(Rectangle((x - 0.44, y - 0.41), 0.88, 0.82, fill=False, edgecolor=_ONLY_HERE, linewidth=1.4))
        if tile["verdict"] == "split":
            bold = "bold" if tile["only_here"] else "normal"
            ax.text(x, y, f"{tile['effective_clusters']:.1f}", ha="center", va="center_baseline", fontweight=bold)
    ax.set(xlim=(-0.55, len(columns) - 0.45), ylim=(len(clusters) - 0.45, -0.55))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _describe(name: str, row: pd.Series) -> str:
    """A cluster and its commonest label."""
    if pd.isna(row.get("label_share")):
        return as_text(name, _WIDEST_LABEL)
    label = as_text(row["label"], _WIDEST_LABEL)
    return f"{label} {row['label_share']:.0%}   {name:\N{FIGURE SPACE}>2}"


def _draw_counts(ax: Axes, n_cells: list[int]) -> None:
    """The number of cells of each row, on the right."""
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
        handles.append(Patch(fill=False, edgecolor=_ONLY_HERE, linewidth=1.4, label="falls apart in this one alone"))
    ax.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=n_columns, borderaxespad=1.5, handlelength=1.4
    )  # above the heading of the cells
