"""How alike the clusters of codes are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from matplotlib import colormaps

from indiseek_sc import _keys
from indiseek_sc.pl._style import display_name, finish, one_panel, page

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
    """Draw how alike the clusters of every two codes are, and those of each code and the labels.

    On the diagonal a code is compared with itself, clustered from other seeds: where that is low, it has no clusters to agree on.

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
    if figure not in get_args(Figure):
        raise ValueError(f"figure={figure!r} must be one of {list(get_args(Figure))}.")
    agreement, codes = (find_comparison(mdata, part) for part in ("", "_codes"))
    names = list(dict.fromkeys([*agreement["one"], *agreement["other"]]))
    values = pd.DataFrame(np.nan, names, names)
    for _, row in agreement.iterrows():
        values.loc[row["other"], row["one"]] = row[figure]  # the later below the earlier
    words = code_names(codes) | {_LABELS: _name_labels(mdata)}
    side = 0.85 * len(names)
    with one_panel(ax, (side + 3.2, side + 1.6), show) as (ax, show):
        _draw_matrix(ax, values, words)
        n_clusters = codes["n_clusters"]
        few, many = n_clusters.min(), n_clusters.max()
        ax.set_title(
            f"{_NAMES[figure]}\nLeiden, {few if few == many else f'{few} to {many}'} clusters of each code", loc="left"
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


def code_names(codes: pd.DataFrame) -> dict[str, str]:
    """What a figure calls each code."""
    return {
        row["code"]: f"{row['kind']} {display_name(row['modality'])}" if row["modality"] else row["kind"]
        for _, row in codes.iterrows()
    }


def _name_labels(mdata: MuData) -> str:
    return str(mdata.uns.get(f"{_keys.CLUSTERS}_params", {}).get("label_key") or _LABELS)


def _draw_matrix(ax: Axes, values: pd.DataFrame, words: dict[str, str]) -> None:
    """Lower triangle of ``values`` as tiles with their numbers; columns without any are left out."""
    values = values.dropna(axis="columns", how="all")
    ax.imshow(np.ma.masked_invalid(values), cmap=colormaps["Blues"], vmin=0, vmax=1)
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
    ax.hlines(np.arange(1, rows) - 0.5, -0.5, columns - 0.5, color="white", linewidth=2)
    ax.vlines(np.arange(1, columns) - 0.5, -0.5, rows - 0.5, color="white", linewidth=2)
    ax.set_yticks(range(rows), [words[name] for name in values.index])
    ax.set_xticks(
        range(columns), [words[name] for name in values.columns], rotation=40, ha="right", rotation_mode="anchor"
    )
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("bold: a code against itself, from other seeds", loc="left")
