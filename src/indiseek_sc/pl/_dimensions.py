"""Figure of the covariates, labels and features of the dimensions of a representation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize

from indiseek_sc import _keys
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._style import (
    MIN_FONT_SIZE,
    MISSING,
    PAGE,
    PALETTE,
    STYLE,
    as_text,
    display_name,
    finish,
    inches,
    warn_if_stale,
)

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

OneModality = Literal["specific", "shared"]

TECHNICAL_COLOR = PALETTE[5]
"""Colour of the labels of technical dimensions."""

_ALL = "all"

_SHARES = "Greys"
_USES = "PRGn_r"
"""White is the mean squared deviation of all cells; purple is larger and green is smaller."""

_MAX_USE = 3.0
"""Ratio to the mean squared deviation of all cells at which the colour scale ends; it begins at the
inverse."""

_MIN_COLUMN_R2 = 0.05
"""Covariates that explain less of every dimension are not drawn."""

_MIN_NUMBER_R2 = 0.095
"""Tiles with a smaller R2 have no number."""

_MAX_FEATURES = 3
"""Number of features that are named at each end."""

_MAX_NAME_LENGTH = 26

_TILE, _ROW, _LETTER, _ROW_NAMES = 4.2, 3.9, 1.25, 24.0
"""Sizes in millimetres: widest tile, height of a row, width of a letter, and width of row labels
and gaps."""

_MIN_PANEL_WIDTH = 34
"""Width of the caption of a colour bar in millimetres."""

_MIN_LINE_LENGTH, _MAX_LINE_LENGTH = 28, 60
"""Smallest and largest length of the list of features of a row, in letters."""


def dimensions(
    mdata: MuData,
    modality: str | None = None,
    *,
    kind: OneModality = "specific",
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes] | None:
    """Draw the covariates, labels and features of each dimension of a representation.

    Each row is a dimension. The left panel shows the share of its variance that technical
    covariates explain (beyond the labels, if labels are given), all together and one by one;
    covariates that explain less than .05 of every dimension are left out. The middle panel shows
    the mean squared deviation of the cells of each label (1 in all cells together; grey for labels
    with few cells). The right panel lists the features at the low and the high end. Technical
    dimensions are marked.

    Parameters
    ----------
    mdata
        Data with the result of :func:`indiseek_sc.tl.describe_dimensions`.
    modality
        Name of the modality; both modalities, one below the other, if not given.
    kind
        ``"specific"`` or ``"shared"``.
    show
        Whether to show the figure. ``None`` shows it in interactive mode.
    save
        File to write the figure to.

    Returns
    -------
    The axes from left to right, one modality after the other; None if the figure was shown.

    Raises
    ------
    KeyError
        If the table is missing.
    ValueError
        If the modality or the kind is unknown.

    Examples
    --------
    >>> _ = isk.tl.describe_dimensions(mdata, "cell_type")
    >>> axes = isk.pl.dimensions(mdata, "rna", show=False)
    >>> len(axes)
    3
    """
    check_mdata(mdata)
    check_name("kind", kind, get_args(OneModality))
    key = _keys.with_latent_suffix(_keys.DIMENSIONS, kind)
    if key not in mdata.uns:
        raise KeyError(
            f"mdata.uns[{key!r}] is missing. Call indiseek_sc.tl.describe_dimensions(mdata, kind={kind!r}) first."
        )
    table = mdata.uns[key]
    names = list(dict.fromkeys(table["modality"]))
    if modality is not None:
        names = [check_name("modality", modality, names)]
    warn_if_stale(mdata, key, f"describe_dimensions(mdata, ..., kind={kind!r})")
    few = set()
    if (use := mdata.uns.get(f"{key}_labels")) is not None:
        fewest = mdata.uns.get(f"{key}_params", {}).get("fewest_of_label", 0)
        few = set(use.loc[use["n_cells"] < fewest, "label"])
    with plt.rc_context(STYLE):
        blocks = [_Block(mdata, key, name, few) for name in names]
        figure = plt.figure(figsize=inches(PAGE, sum(b.height for b in blocks)), layout="constrained")
        parts = figure.subfigures(len(blocks), 1, height_ratios=[b.height for b in blocks], squeeze=False)[:, 0]
        axes = [ax for part, block in zip(parts, blocks, strict=True) for ax in block.draw(part, kind)]
        return finish(figure, axes, show=show, save=save)


class _Block:
    """The dimensions of one modality, and the layout of their panels."""

    def __init__(self, mdata: MuData, key: str, modality: str, few: set[str]) -> None:
        self.modality = modality
        table = mdata.uns[key]
        self.rows = table[table["modality"] == modality].set_index("dimension")
        explained = mdata.uns[f"{key}_covariates"]
        explained = explained[explained["modality"] == modality]
        self.is_beyond = explained["r2_beyond_labels"].notna().any()
        values = "r2_beyond_labels" if self.is_beyond else "r2"
        order = list(dict.fromkeys([_ALL, *explained["covariate"]]))
        wide = explained.pivot(index="dimension", columns="covariate", values=values).loc[self.rows.index, order]
        kept = [name for name in wide if name == _ALL or (wide[name] >= _MIN_COLUMN_R2).any()]
        self.explained = wide[kept].rename(columns={_ALL: "all together"})
        self.use: pd.DataFrame | None = None
        if (use := mdata.uns.get(f"{key}_labels")) is not None:
            use = use[use["modality"] == modality].pivot(index="dimension", columns="label", values="use")
            self.use = use.loc[self.rows.index]
            self.use.loc[:, [name for name in self.use if name in few]] = np.nan
        tiles = [self.explained] if self.use is None else [self.explained, self.use]
        n_columns = sum(part.shape[1] for part in tiles)
        room = PAGE - _ROW_NAMES
        letters = int(np.clip((room - _TILE * n_columns) / _LETTER, _MIN_LINE_LENGTH, _MAX_LINE_LENGTH))
        self.lines = [
            as_text(f"{_first(row['lower'])} \N{RIGHTWARDS ARROW} {_first(row['upper'])}", letters)
            for _, row in self.rows.iterrows()
        ]
        of_lines = _LETTER * max(_MIN_LINE_LENGTH, *map(len, self.lines))
        tile = min(_TILE, (room - of_lines) / n_columns)
        of_tiles = [max(tile * part.shape[1], _MIN_PANEL_WIDTH) for part in tiles]
        self.widths = [*of_tiles, room - sum(of_tiles)]
        """Relative widths of the panels."""

    @property
    def height(self) -> float:
        """Height in millimetres of rows and column labels."""
        names = [*self.explained, *([] if self.use is None else self.use)]
        return _ROW * len(self.rows) + _LETTER * max(min(len(str(name)), _MAX_NAME_LENGTH) for name in names) + 27

    def draw(self, figure: Figure, kind: str) -> list[Axes]:
        """Draw the panels and return their axes."""
        axes = list(figure.subplots(1, len(self.widths), sharey=True, width_ratios=self.widths))
        of_what = "R² of technical covariates" + (",\nbeyond labels" if self.is_beyond else "")
        _draw_tiles(axes[0], self.explained.clip(lower=0), _SHARES, Normalize(0, 1), of_what)
        _write_numbers(axes[0], self.explained)
        if self.use is not None:
            norm = LogNorm(1 / _MAX_USE, _MAX_USE)
            _draw_tiles(axes[1], self.use, _USES, norm, "mean squared deviation,\n1 in all cells together")
        _draw_lines(axes[-1], self.lines)
        axes[0].set_yticks(np.arange(len(self.rows)), [_name(number, row) for number, row in self.rows.iterrows()])
        for tick, is_technical in zip(axes[0].get_yticklabels(), self.rows["is_technical"], strict=True):
            if is_technical:
                tick.set(color=TECHNICAL_COLOR, fontweight="bold")
        axes[0].set_ylabel("dimension")
        words = display_name(self.modality)
        title = f"{words}-specific representation" if kind == "specific" else f"shared representation of {words}"
        figure.suptitle(title[0].upper() + title[1:], x=0.01, ha="left", fontsize=STYLE["axes.titlesize"])
        return axes


def _first(names: str) -> str:
    return ", ".join(names.split(", ")[:_MAX_FEATURES])


def _name(number: Any, row: pd.Series) -> str:
    return f"technical  {number}" if row["is_technical"] else str(number)


def _draw_tiles(ax: Axes, values: pd.DataFrame, colors: str, norm: Normalize, words: str) -> None:
    """Draw tiles with column labels above and a colour bar below."""
    matrix = np.ma.masked_invalid(values.to_numpy(dtype=float))
    image = ax.imshow(matrix, cmap=colors, norm=norm, aspect="auto")
    ax.set_facecolor(MISSING)
    names = [as_text(name, _MAX_NAME_LENGTH) for name in values]
    ax.set_xticks(np.arange(len(names)), names, rotation=90)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    ax.spines[:].set_visible(False)
    shrink = min(1.0, 30 / (_TILE * len(names)))
    extend = "both" if matrix.count() and (matrix.min() < norm.vmin or matrix.max() > norm.vmax) else "neither"
    place: Any = {"location": "bottom", "fraction": 0.05, "pad": 0.02, "aspect": 14, "shrink": shrink}
    bar = ax.figure.colorbar(image, ax=ax, extend=extend, **place)
    bar.outline.set_visible(False)
    bar.set_label(words)
    if isinstance(norm, LogNorm):
        ticks = [1 / _MAX_USE, 1, _MAX_USE]
        bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
        bar.minorticks_off()


def _write_numbers(ax: Axes, values: pd.DataFrame) -> None:
    for y, x in np.argwhere(values.to_numpy() >= _MIN_NUMBER_R2):
        number = values.iat[y, x]
        color = "white" if number > 0.6 else "black"
        text = f"{number:.2f}".removeprefix("0")
        ax.text(x, y, text, ha="center", va="center_baseline", fontsize=MIN_FONT_SIZE, color=color)


def _draw_lines(ax: Axes, lines: list[str]) -> None:
    for place, line in enumerate(lines):
        ax.text(0, place, line, va="center_baseline", fontsize=plt.rcParams["legend.fontsize"])
    ax.set_xlim(0, 1)
    ax.set_title("features:  low  \N{RIGHTWARDS ARROW}  high", loc="left", fontsize=plt.rcParams["axes.labelsize"])
    ax.tick_params(length=0, bottom=False, labelbottom=False, labelleft=False)
    ax.spines[:].set_visible(False)
