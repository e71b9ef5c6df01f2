"""How many candidates a cell must name until its partner is among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from indiseek_sc import _keys
from indiseek_sc.pl._style import ROLE_COLORS, display_name, finish, one_panel, page

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from mudata import MuData

_RECALL = "recall@"


def retrieval(
    mdata: MuData | pd.DataFrame,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw the share of cells whose partner is among the k nearest codes of the other modality, a curve for each direction.

    The dashed line is chance. FOSCTTM and the median rank stand in the legend.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.retrieval`, or the table that it returned.
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
        If the table is not there, or has no recall.
    """
    table = _find_table(mdata)
    ks = np.array([int(column.removeprefix(_RECALL)) for column in table if column.startswith(_RECALL)])
    n_cells = int(table["n_cells"].iloc[0])
    with one_panel(ax, (7, 5), show) as (ax, show):
        for role, (_, row) in zip(_keys.ROLES, table.iterrows(), strict=True):
            source, _, target = row["direction"].partition(" to ")
            ax.plot(
                ks,
                [row[f"{_RECALL}{k}"] for k in ks],
                "o-",
                color=ROLE_COLORS[role],
                linewidth=2,
                label=f"{display_name(source)} seeks {display_name(target)}\n"
                f"(FOSCTTM {row['foscttm']:.3f}, median rank {row['median_rank']:,.0f})",
            )
        ax.plot(ks, np.minimum(ks / n_cells, 1), "--", color="0.4", label="chance")
        ax.set(
            xscale="log",
            ylim=(0, 1),
            xlabel=f"candidates named, of {n_cells:,} cells",
            ylabel="cells that name their own",
        )
        ax.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        ax.legend(loc="upper left")
        return finish(page(ax), ax, show=show, save=save)


def _find_table(mdata: MuData | pd.DataFrame) -> pd.DataFrame:
    if not isinstance(mdata, pd.DataFrame) and _keys.RETRIEVAL not in mdata.uns:
        raise KeyError(f"mdata.uns[{_keys.RETRIEVAL!r}] is missing. Call indiseek_sc.tl.retrieval(mdata) first.")
    table = mdata if isinstance(mdata, pd.DataFrame) else mdata.uns[_keys.RETRIEVAL]
    if not any(column.startswith(_RECALL) for column in table) or "direction" not in table:
        raise KeyError(f"The table lacks a column '{_RECALL}<k>' or 'direction'; it has {list(table.columns)}.")
    return table
