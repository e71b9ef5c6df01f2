"""Embeddings of the representations, side by side."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, get_args

import matplotlib.pyplot as plt
import numpy as np

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_number, check_several, check_whole
from indiseek_sc._fingerprint import find_unchanged
from indiseek_sc._lookup import check_mdata
from indiseek_sc.pl._guides import draw_guide, label_on_data, lie, stand
from indiseek_sc.pl._style import (
    COLUMN,
    PAGE,
    STYLE,
    Coloring,
    Palette,
    coloring,
    display_name,
    finish,
    inches,
    modality_names,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData
    from numpy.typing import NDArray

    from indiseek_sc.pl._guides import Guide

LegendLocation = Literal["auto", "right margin", "on data"]

_MANY = 12
"""Categories from which on colours alone are hard to follow, so that names are written on the panels too."""

_FOR_NAMES = inches(40, 40)[0]
"""Inches of a panel on which there is room for names."""

_WIDEST_ROW = 3
"""Panels of one colour in a row, before they are wrapped."""

_INK = 1600
"""Squared points of paper that all points of a panel of one square inch take together."""

_TITLES = inches(2.5, 2.5)[0]
"""Inches that a row of panels takes for its titles."""

_MOST_BESIDE = 0.34
"""Share of the width that a guide may take beside the panels; a wider one is below."""


def umap(
    mdata: MuData,
    color: str | Sequence[str] | None = None,
    *,
    latents: Sequence[str] | None = None,
    legend_loc: LegendLocation | None = "auto",
    palette: Palette | None = None,
    size: float | None = None,
    ncols: int | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw embeddings of the latent representations: a column for each representation and a row for each colour.

    The embeddings must be there: that of the joint representation is ``mdata.obsm["X_umap"]``, those of the others are
    ``mdata.obsm["X_indiseek_shared_rna_umap"]`` and so on, named by the user's modalities. Nothing is computed. The figure is 180 mm wide, or 85 mm
    if it has a single panel.

    Parameters
    ----------
    mdata
        With at least one embedding, shape ``(n_cells, 2)``. Cells with NaN in it (the modality is missing) are left out.
    color
        Columns of ``mdata.obs`` or a modality's obs, such as the cell type, the batch, ``"indiseek_theta"``. By default
        the labels that :func:`indiseek_sc.tl.modality_importance` ranked, or no colour before that.
    latents
        ``"joint"``, ``"shared_rna"``, ``"specific_rna"`` and so on; by default all that have an embedding.
    legend_loc
        ``"right margin"`` is one legend for each colour beside or below its panels; ``"on data"`` has the names of all categories on the panels
        instead; ``None`` has neither. ``"auto"`` is a legend, and where there are more than 12 categories also names on the panels, of those
        categories whose cells lie together there.
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
    The axes of the panels, shape ``(n_colors, n_latents)``; nothing if the figure was shown.

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
    embeddings = _find_embeddings(mdata, latents)
    colors = [coloring(mdata, key, palette) for key in _color_keys(mdata, color)]
    with plt.rc_context(STYLE):
        figure, axes, side = _layout(colors, len(embeddings), ncols, legend_loc)
        if size is None:
            size = float(np.clip(_INK * side**2 / mdata.n_obs, 0.3, 12))
        for row, of_row in zip(axes, colors, strict=True):
            for ax, (title, points) in zip(row, embeddings, strict=True):
                _draw_points(ax, points, of_row, size)
                ax.set_title(title if of_row is colors[0] else "")
        panels: list[Any] = list(axes.flat)
        lowest = [ax for ax in panels if ax.get_subplotspec().is_first_col()][-1]
        lowest.set(xlabel="UMAP 1", ylabel="UMAP 2")
        _write_names(figure, axes, colors, [points for _, points in embeddings], legend_loc)
        return finish(figure, axes, show=show, save=save)


def _write_names(
    figure: Figure,
    axes: NDArray[np.object_],
    colors: list[Coloring],
    embeddings: list[NDArray[np.floating]],
    legend_loc: LegendLocation | None,
) -> None:
    """Write names of categories on the panels, where they were asked for or colours do not suffice."""
    if legend_loc not in ("on data", "auto"):
        return
    figure.draw_without_rendering()  # names are moved apart on the page, so the panels must be in place
    for row, of_row in zip(axes, colors, strict=True):
        is_many = of_row.legend is not None and len(of_row.legend) > _MANY
        for ax, points in zip(row, embeddings, strict=True):
            if legend_loc == "on data" or (is_many and ax.bbox.width >= _FOR_NAMES * figure.dpi):
                label_on_data(ax, points, of_row, all_categories=legend_loc == "on data")


def _color_keys(mdata: MuData, color: str | Sequence[str] | None) -> list[str | None]:
    if color is None:
        return [mdata.uns.get(f"{_keys.IMPORTANCE}_params", {}).get("label_key")]
    keys = check_several("color", color)
    if not keys:
        raise ValueError("color=[] names no column. Leave it out for the labels or for no colour.")
    return keys


def _find_embeddings(mdata: MuData, latents: Sequence[str] | None) -> list[tuple[str, NDArray[np.floating]]]:
    """Title and points of each representation, shape ``(n_cells, 2)``."""
    modalities = list(dict.fromkeys([*modality_names(mdata).values(), *mdata.mod]))
    known = {"joint": ("Joint representation", _keys.JOINT)}
    for kind, key_of in {"Shared": _keys.shared, "Specific": _keys.specific}.items():
        known |= {f"{kind.lower()}_{name}": (f"{kind}, {display_name(name)}", key_of(name)) for name in modalities}
    wanted = list(known) if latents is None else check_several("latents", latents)
    if not wanted:
        raise ValueError("latents=[] names no representation. Leave it out for all that have an embedding.")
    for latent in wanted:
        check_name("latents", latent, known)
    found = []
    for title, latent_key in (known[latent] for latent in wanted):
        key = key_of_map(latent_key)
        if key in mdata.obsm:
            found.append((title, _as_points(mdata.obsm[key], key)))
        elif latents is not None:
            raise KeyError(f"mdata.obsm[{key!r}] is missing. {_how_to_make(latent_key, key)}")
    _warn_of_old_maps(
        mdata, {latent_key: key_of_map(latent_key) for _, latent_key in (known[latent] for latent in wanted)}
    )
    if not found:
        raise KeyError(f"mdata.obsm has no embedding of a representation. {_how_to_make(_keys.JOINT, 'X_umap')}")
    return found


def key_of_map(latent_key: str) -> str:
    """``obsm`` key of the UMAP of a representation: scanpy's own for the joint one, which the cells' graph is made of."""
    return "X_umap" if latent_key == _keys.JOINT else f"{latent_key}_umap"


def _warn_of_old_maps(mdata: MuData, keys: Mapping[str, str]) -> None:
    """Warn of UMAPs that were there before the representations were written."""
    old = {place.key for place in find_unchanged(mdata, _keys.MAPS_BEFORE)}
    for latent_key, key in keys.items():
        if key in old:
            warnings.warn(
                f"mdata.obsm[{key!r}] was there before the representations: it is not of them. {_how_to_make(latent_key, key)}",
                stacklevel=4,
            )


def _how_to_make(latent_key: str, key: str) -> str:
    name = "" if latent_key == _keys.JOINT else f", key_added={latent_key!r}"
    use = "" if latent_key == _keys.JOINT else f", neighbors_key={latent_key!r}, key_added={key!r}"
    return (
        f"Call model.write_latents(mdata), sc.pp.neighbors(mdata, use_rep={latent_key!r}{name}) "
        f"and sc.tl.umap(mdata{use}) first."
    )


def _as_points(embedding: object, key: str) -> NDArray[np.floating]:
    points = np.asarray(embedding, dtype=float)
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(f"mdata.obsm[{key!r}] has shape {points.shape}, but an embedding needs two columns.")
    return points[:, :2]


@dataclass(frozen=True)
class _Plan:
    """Where panels and guides are on a grid, whose rows and columns are in inches."""

    columns: list[float]
    rows: list[float]
    panels: list[tuple[int, int]]
    guides: list[tuple[slice, slice, Guide]]


def _layout(
    colors: list[Coloring], n_latents: int, ncols: int | None, legend_loc: LegendLocation | None
) -> tuple[Figure, NDArray[np.object_], float]:
    """Empty panels, shape ``(n_colors, n_latents)``, with the legend or colour bar of each colour beside or below them; and inches of their sides."""
    single = len(colors) == 1
    ncols = min(ncols or _choose_columns(n_latents), n_latents) if single else n_latents
    n_rows = -(-n_latents // ncols) if single else 1
    explained = [
        of_row
        if of_row.scale is not None or (legend_loc in ("auto", "right margin") and of_row.legend is not None)
        else None
        for of_row in colors
    ]
    width = inches(COLUMN if ncols == 1 else PAGE, 0)[0]
    n_spare = n_rows * ncols - n_latents
    plan = (
        _plan_in_spare(explained, width, ncols, n_rows, n_spare)
        or _plan_beside(explained, width, ncols, n_rows)
        or _plan_below(explained, width, ncols, n_rows)
    )
    figure = plt.figure(figsize=(width, sum(plan.rows) + _TITLES * len(plan.rows)), layout="constrained")
    grid = figure.add_gridspec(len(plan.rows), len(plan.columns), width_ratios=plan.columns, height_ratios=plan.rows)
    panels = [figure.add_subplot(grid[place]) for place in plan.panels[: len(colors) * n_latents]]
    for rows, columns, guide in plan.guides:
        draw_guide(figure.add_subplot(grid[rows, columns]), guide)
    return figure, np.array(panels, dtype=object).reshape(len(colors), n_latents), plan.columns[0]


def _choose_columns(n_latents: int) -> int:
    return n_latents if n_latents <= _WIDEST_ROW else 2 if n_latents == 4 else _WIDEST_ROW


def _plan_in_spare(
    explained: list[Coloring | None], width: float, ncols: int, n_rows: int, n_spare: int
) -> _Plan | None:
    """With the guide where panels do not fill the last row, if it is not too wide for that."""
    side = width / ncols
    if not n_spare or explained[0] is None:
        return None
    guide = stand(explained[0], side)
    if guide.width > n_spare * side:
        return None
    panels = list(product(range(n_rows), range(ncols)))
    place = slice(n_rows - 1, n_rows), slice(ncols - n_spare, ncols)
    return _Plan([side] * ncols, [side] * n_rows, panels, [(*place, guide)])


def _plan_beside(explained: list[Coloring | None], width: float, ncols: int, n_rows: int) -> _Plan | None:
    """With the guide of each colour right of its panels, if none takes too much of the width."""
    guides = [None if of_row is None else stand(of_row, n_rows * width / ncols / 2) for of_row in explained]
    beside = max((guide.width for guide in guides if guide is not None), default=0.0)
    if beside > _MOST_BESIDE * width:
        return None
    side = (width - beside) / ncols
    rows = [slice(row * n_rows, (row + 1) * n_rows) for row in range(len(guides))]
    return _Plan(
        [side] * ncols + ([beside] if beside else []),
        [side] * n_rows * len(guides),
        list(product(range(n_rows * len(guides)), range(ncols))),
        [
            (place, slice(ncols, ncols + 1), guide)
            for place, guide in zip(rows, guides, strict=True)
            if guide is not None
        ],
    )


def _plan_below(explained: list[Coloring | None], width: float, ncols: int, n_rows: int) -> _Plan:
    """With the guide of each colour in a row of its own below its panels."""
    plan = _Plan([width / ncols] * ncols, [], [], [])
    for of_row in explained:
        first = len(plan.rows)
        plan.panels.extend(product(range(first, first + n_rows), range(ncols)))
        plan.rows.extend([width / ncols] * n_rows)
        if of_row is not None:
            guide = lie(of_row, width)
            plan.guides.append((slice(len(plan.rows), len(plan.rows) + 1), slice(None), guide))
            plan.rows.append(guide.height)
    return plan


def _draw_points(ax: Axes, points: NDArray[np.floating], colors: Coloring, size: float) -> None:
    """Points in a shuffled order, so that no batch or type lies on top for its place in the table; missing ones beneath."""
    drawn = np.isfinite(points).all(axis=1)
    order = np.random.default_rng(0).permutation(np.flatnonzero(drawn))
    order = order[np.argsort(~colors.missing[order], kind="stable")]
    x, y = points[order].T
    ax.scatter(x, y, s=size, c=colors.rgba[order], linewidths=0, rasterized=True)
    ax.set(xticks=[], yticks=[], box_aspect=1)
    ax.margins(0.03)
