"""What the dimensions of a representation follow: technical covariates, labels and features."""

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
    MISSING,
    PAGE,
    PALETTE,
    SMALLEST,
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
"""Of the numbers of technical dimensions."""

_ALL = "all"

_SHARES = "Greys"
_USES = "PRGn_r"
"""White is the mean squared deviation of all cells, purple more and green less."""

_MOST_USE = 3.0
"""So many times that, and one over it, have the last colours."""

_DRAWN = 0.05
"""A covariate that explains less of every dimension has no column."""

_SHOWN = 0.095
"""A smaller share has no number in its tile."""

_MOST_FEATURES = 3
"""So many features stand at each end."""

_WIDEST_NAME = 26

_TILE, _ROW, _LETTER, _ROW_NAMES = 4.2, 3.9, 1.25, 24.0
"""Millimetres of a column at most, of a row, of a letter and of the names of rows with all that is between panels."""

_LEAST_WIDTH = 34
"""Millimetres that the words below a colour bar need."""

_LEAST_LINE, _WIDEST_LINE = 28, 60
"""Letters of the features of a row: left for them where there are many columns, and at most."""


def dimensions(
    mdata: MuData,
    modality: str | None = None,
    *,
    kind: OneModality = "specific",
    show: bool | None = None,
    save: str | Path | None = None,
) -> list[Axes] | None:
    """Draw what the dimensions of a representation follow, a row for each dimension.

    To the left stands what technical covariates explain of the dimension (beyond the labels, if
    there are any), all together and each by itself, as far as it explains .05 of any dimension; in
    the middle how much each label uses the dimension (mean squared deviation of its cells, 1 in all
    cells together; grey for labels of few cells); to the right the features at its two ends.
    Technical dimensions are marked.

    Parameters
    ----------
    mdata
        After :func:`indiseek_sc.tl.describe_dimensions`.
    modality
        Whose representation, by its name; both, one below the other, if not given.
    kind
        ``"specific"`` or ``"shared"``.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive.
    save
        File to write.

    Returns
    -------
    The axes, from left to right, of one modality after the other; nothing if the figure was shown.

    Raises
    ------
    KeyError
        If the table is not there.
    ValueError
        If there is no such modality or kind.
    """
    check_mdata(mdata)
    check_name("kind", kind, get_args(OneModality))
    key = _keys.of_latent(_keys.DIMENSIONS, kind)
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
    """The dimensions of one modality, and the room that they take."""

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
        kept = [name for name in wide if name == _ALL or (wide[name] >= _DRAWN).any()]
        self.explained = wide[kept].rename(columns={_ALL: "all together"})
        self.use: pd.DataFrame | None = None
        if (use := mdata.uns.get(f"{key}_labels")) is not None:
            use = use[use["modality"] == modality].pivot(index="dimension", columns="label", values="use")
            self.use = use.loc[self.rows.index]
            self.use.loc[:, [name for name in self.use if name in few]] = np.nan
        tiles = [self.explained] if self.use is None else [self.explained, self.use]
        n_columns = sum(part.shape[1] for part in tiles)
        room = PAGE - _ROW_NAMES
        letters = int(np.clip((room - _TILE * n_columns) / _LETTER, _LEAST_LINE, _WIDEST_LINE))
        self.lines = [
            as_text(f"{_first(row['lower'])} \N{RIGHTWARDS ARROW} {_first(row['upper'])}", letters)
            for _, row in self.rows.iterrows()
        ]
        of_lines = _LETTER * max(_LEAST_LINE, *map(len, self.lines))
        tile = min(_TILE, (room - of_lines) / n_columns)
        of_tiles = [max(tile * part.shape[1], _LEAST_WIDTH) for part in tiles]
        self.widths = [*of_tiles, room - sum(of_tiles)]
        """Relative widths of the panels."""

    @property
    def height(self) -> float:
        """Millimetres of rows, and of the names of columns above them."""
        names = [*self.explained, *([] if self.use is None else self.use)]
        return _ROW * len(self.rows) + _LETTER * max(min(len(str(name)), _WIDEST_NAME) for name in names) + 27

    def draw(self, figure: Figure, kind: str) -> list[Axes]:
        """Draw the panels."""
        axes = list(figure.subplots(1, len(self.widths), sharey=True, width_ratios=self.widths))
        of_what = "R² of technical covariates" + (",\nbeyond labels" if self.is_beyond else "")
        _draw_tiles(axes[0], self.explained.clip(lower=0), _SHARES, Normalize(0, 1), of_what)
        _write_numbers(axes[0], self.explained)
        if self.use is not None:
            norm = LogNorm(1 / _MOST_USE, _MOST_USE)
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
    return ", ".join(names.split(", ")[:_MOST_FEATURES])


def _name(number: Any, row: pd.Series) -> str:
    return f"technical  {number}" if row["is_technical"] else str(number)


def _draw_tiles(ax: Axes, values: pd.DataFrame, colors: str, norm: Normalize, words: str) -> None:
    """Tiles with the names of columns above them, and a colour bar below."""
    matrix = np.ma.masked_invalid(values.to_numpy(dtype=float))
    image = ax.imshow(matrix, cmap=colors, norm=norm, aspect="auto")
    ax.set_facecolor(MISSING)
    names = [as_text(name, _WIDEST_NAME) for name in values]
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
        ticks = [1 / _MOST_USE, 1, _MOST_USE]
        bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
        bar.minorticks_off()


def _write_numbers(ax: Axes, values: pd.DataFrame) -> None:
    for y, x in np.argwhere(values.to_numpy() >= _SHOWN):
        number = values.iat[y, x]
        color = "white" if number > 0.6 else "black"
        text = f"{number:.2f}".removeprefix("0")
        ax.text(x, y, text, ha="center", va="center_baseline", fontsize=SMALLEST, color=color)


def _draw_lines(ax: Axes, lines: list[str]) -> None:
    for place, line in enumerate(lines):
        ax.text(0, place, line, va="center_baseline", fontsize=plt.rcParams["legend.fontsize"])
    ax.set_xlim(0, 1)
    ax.set_title("features:  low  \N{RIGHTWARDS ARROW}  high", loc="left", fontsize=plt.rcParams["axes.labelsize"])
    ax.tick_params(length=0, bottom=False, labelbottom=False, labelleft=False)
    ax.spines[:].set_visible(False)
