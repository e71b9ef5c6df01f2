"""Embeddings of the codes, side by side."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_number, check_several, check_whole
from indiseek_sc._fingerprint import find_unchanged
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._guides import draw_guide, guide_width, label_on_data
from indiseek_sc.pl._style import STYLE, Coloring, Palette, coloring, display_name, finish, modality_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData
    from numpy.typing import NDArray

LegendLocation = Literal["right margin", "on data"]

_PANEL = 3.2
"""Inches of a side of a panel."""

_WIDEST_ROW = 4
"""Panels of one colour in a row, before they are wrapped."""


def umap(
    mdata: MuData,
    color: str | Sequence[str] | None = None,
    *,
    codes: Sequence[str] | None = None,
    legend_loc: LegendLocation | None = "right margin",
    palette: Palette | None = None,
    size: float | None = None,
    ncols: int | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw embeddings of the codes: a column for each code and a row for each colour.

    The embeddings must be there: that of the joint code is ``mdata.obsm["X_umap"]``, those of the other codes are
    ``mdata.obsm["X_indiseek_shared_rna_umap"]`` and so on, named by the user's modalities. Nothing is computed.

    Parameters
    ----------
    mdata
        With at least one embedding, shape ``(n_cells, 2)``. Cells with NaN in it (the modality is missing) are left out.
    color
        Columns of ``mdata.obs`` or a modality's obs, such as the cell type, the batch, ``"indiseek_theta"``. By default
        the labels that :func:`indiseek_sc.tl.modality_importance` ranked, or no colour before that.
    codes
        ``"joint"``, ``"shared_rna"``, ``"specific_rna"`` and so on; by default all that have an embedding.
    legend_loc
        One legend for each colour in the margin, or the names of categories on the panels, or none.
    palette
        Colours of categories: the name of a colormap such as ``"tab20"``, a list of colours, or a dictionary by category. By
        default those that scanpy noted in ``uns["<color>_colors"]``, else 40 colours chosen to be told apart by
        colour-blind readers as well.
    size
        Area of a point in square points, by default by the number of cells.
    ncols
        Panels in a row, if there is a single colour.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive.
    save
        File to write. Points are pixels in a vector format, all else stays vectors.

    Returns
    -------
    The axes of the panels, shape ``(n_colors, n_codes)``; nothing if the figure was shown.

    Raises
    ------
    KeyError
        If an embedding or a column is missing.
    ValueError
        If an embedding has another shape or an argument an unknown value.
    """
    if legend_loc is not None:
        check_name("legend_loc", legend_loc, get_args(LegendLocation))
    if ncols is not None:
        check_whole("ncols", ncols, 1)
    if size is not None:
        check_number("size", size, above_zero=True)
    check_mdata(mdata)
    embeddings = _find_embeddings(mdata, codes)
    colors = [coloring(mdata, key, palette) for key in _color_keys(mdata, color)]
    with plt.rc_context(STYLE):
        figure, axes = _layout(colors, len(embeddings), ncols, legend_loc)
        for row, of_row in zip(axes, colors, strict=True):
            for ax, (title, points) in zip(row, embeddings, strict=True):
                _draw_points(ax, points, of_row, size)
                ax.set_title(title if of_row is colors[0] else "")
                place = ax.get_subplotspec()
                if place.is_first_col() and place.is_last_row():
                    ax.set(xlabel="UMAP 1", ylabel="UMAP 2")
        if legend_loc == "on data":
            figure.draw_without_rendering()  # labels are moved apart on the page, so the panels must be in place
            for row, of_row in zip(axes, colors, strict=True):
                for ax, (_, points) in zip(row, embeddings, strict=True):
                    label_on_data(ax, points, of_row)
        return finish(figure, axes, show=show, save=save)


def _color_keys(mdata: MuData, color: str | Sequence[str] | None) -> list[str | None]:
    if color is None:
        return [mdata.uns.get(f"{_keys.IMPORTANCE}_params", {}).get("label_key")]
    keys = check_several("color", color)
    if not keys:
        raise ValueError("color=[] names no column. Leave it out for the labels or for no colour.")
    return keys


def _find_embeddings(mdata: MuData, codes: Sequence[str] | None) -> list[tuple[str, NDArray[np.floating]]]:
    """Title and points of each code, shape ``(n_cells, 2)``."""
    modalities = list(dict.fromkeys([*modality_names(mdata).values(), *mdata.mod]))
    known = {"joint": ("Joint code", _keys.JOINT)}
    for kind, key_of in {"Shared": _keys.shared, "Specific": _keys.specific}.items():
        known |= {f"{kind.lower()}_{name}": (f"{kind} code, {display_name(name)}", key_of(name)) for name in modalities}
    wanted = list(known) if codes is None else check_several("codes", codes)
    if not wanted:
        raise ValueError("codes=[] names no code. Leave it out for all that have an embedding.")
    for code in wanted:
        check_name("codes", code, known)
    found = []
    for title, code_key in (known[code] for code in wanted):
        key = key_of_map(code_key)
        if key in mdata.obsm:
            found.append((title, _as_points(mdata.obsm[key], key)))
        elif codes is not None:
            raise KeyError(f"mdata.obsm[{key!r}] is missing. {_how_to_make(code_key, key)}")
    _warn_of_old_maps(mdata, {code_key: key_of_map(code_key) for _, code_key in (known[code] for code in wanted)})
    if not found:
        raise KeyError(f"mdata.obsm has no embedding of a code. {_how_to_make(_keys.JOINT, 'X_umap')}")
    return found


def key_of_map(code_key: str) -> str:
    """``obsm`` key of the UMAP of a code: scanpy's own for the joint one, which the cells' graph is made of."""
    return "X_umap" if code_key == _keys.JOINT else f"{code_key}_umap"


def _warn_of_old_maps(mdata: MuData, keys: Mapping[str, str]) -> None:
    """Warn of UMAPs that were there before the codes were written."""
    old = {place.key for place in find_unchanged(mdata, _keys.MAPS_BEFORE)}
    for code_key, key in keys.items():
        if key in old:
            warnings.warn(
                f"mdata.obsm[{key!r}] was there before the codes: it is not of them. {_how_to_make(code_key, key)}",
                stacklevel=4,
            )


def _how_to_make(code_key: str, key: str) -> str:
    name = "" if code_key == _keys.JOINT else f", key_added={code_key!r}"
    use = "" if code_key == _keys.JOINT else f", neighbors_key={code_key!r}, key_added={key!r}"
    return (
        f"Call model.write_latents(mdata), sc.pp.neighbors(mdata, use_rep={code_key!r}{name}) "
        f"and sc.tl.umap(mdata{use}) first."
    )


def _as_points(embedding: object, key: str) -> NDArray[np.floating]:
    points = np.asarray(embedding, dtype=float)
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(f"mdata.obsm[{key!r}] has shape {points.shape}, but an embedding needs two columns.")
    return points[:, :2]


def _layout(
    colors: list[Coloring], n_codes: int, ncols: int | None, legend_loc: LegendLocation | None
) -> tuple[Figure, NDArray[np.object_]]:
    """Empty panels, shape ``(n_colors, n_codes)``, with the legend or colour bar of each colour beside them."""
    single = len(colors) == 1
    ncols = n_codes if not single else ncols or (n_codes if n_codes <= _WIDEST_ROW else -(-n_codes // 2))
    n_rows = -(-n_codes // ncols) if single else len(colors)
    explained = [
        of_row.scale is not None or (legend_loc == "right margin" and of_row.legend is not None) for of_row in colors
    ]

    # Panels that do not fill the last row leave a place for the legend, if it is not too wide for it.
    n_spare = n_rows * ncols - n_codes if single else 0
    in_spare = explained[0] and n_spare > 0 and guide_width(colors[0], _PANEL) <= n_spare * _PANEL
    height = _PANEL * (n_rows if single and not in_spare else 1)
    widths = [guide_width(of_row, height) for of_row, is_so in zip(colors, explained, strict=True) if is_so]
    columns = [_PANEL] * ncols + ([max(widths)] if widths and not in_spare else [])

    figure = plt.figure(figsize=(sum(columns) + 0.4, n_rows * (_PANEL + 0.3) + 0.2), layout="constrained")
    grid = figure.add_gridspec(n_rows, len(columns), width_ratios=columns)
    panels = [figure.add_subplot(grid[divmod(place, ncols)]) for place in range(len(colors) * n_codes)]
    for row, (of_row, is_so) in enumerate(zip(colors, explained, strict=True)):
        if is_so:
            beside = grid[slice(None) if single else row, -1]
            draw_guide(figure.add_subplot(grid[-1, -n_spare:] if in_spare else beside), of_row, height)
    return figure, np.array(panels, dtype=object).reshape(len(colors), n_codes)


def _draw_points(ax: Axes, points: NDArray[np.floating], colors: Coloring, size: float | None) -> None:
    """Points in a shuffled order, so that no batch or type lies on top for its place in the table; missing ones beneath."""
    drawn = np.isfinite(points).all(axis=1)
    order = np.random.default_rng(0).permutation(np.flatnonzero(drawn))
    order = order[np.argsort(~colors.missing[order], kind="stable")]
    if size is None:
        size = float(np.clip(24_000 / max(len(order), 1), 0.5, 30))
    x, y = points[order].T
    ax.scatter(x, y, s=size, c=colors.rgba[order], linewidths=0, rasterized=True)
    ax.set(xticks=[], yticks=[], box_aspect=1)
    ax.margins(0.03)
