"""UMAPs of the representations."""

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
from indiseek_sc.pl._coloring import Coloring, Palette, coloring
from indiseek_sc.pl._guides import draw_guide, plan_horizontal_guide, plan_vertical_guide
from indiseek_sc.pl._labels import label_on_data
from indiseek_sc.pl._style import (
    COLUMN,
    PAGE,
    STYLE,
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

_MANY_CATEGORIES = 12
"""Number of categories above which names are also written on the panels, because colours alone are
hard to distinguish."""

_MIN_SIDE_FOR_NAMES = inches(40, 40)[0]
"""Smallest side of a panel on which names are written, in inches."""

_MAX_PANELS_IN_ROW = 3
"""Largest number of panels of one colour in a row."""

_TOTAL_MARK_AREA = 1600
"""Total area of all marks of a panel of one square inch, in square points."""

_TITLE_HEIGHT = inches(2.5, 2.5)[0]
"""Height of the titles of a row of panels, in inches."""

_MAX_GUIDE_SHARE = 0.34
"""Largest share of the width for a guide beside the panels; wider guides are placed below."""


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
    """Draw UMAPs, with a column for each representation and a row for each colouring.

    The embeddings must have been computed: that of the joint representation is
    ``mdata.obsm["X_umap"]``, those of the others are ``mdata.obsm["X_indiseek_shared_rna_umap"]``
    and so on, with the user's names of the modalities. The figure is 180 mm wide, or 85 mm with a
    single panel.

    Parameters
    ----------
    mdata
        Data with at least one embedding, shape ``(n_cells, 2)``. Cells whose embedding is NaN,
        because a modality is missing, are not drawn.
    color
        Columns of ``mdata.obs`` or of the obs of a modality, such as cell type, batch or
        ``"indiseek_theta"``. By default the labels that were passed to
        :func:`indiseek_sc.tl.modality_importance`, or a single colour without these.
    latents
        ``"joint"``, ``"shared_rna"``, ``"specific_rna"`` and so on; by default all representations
        with an embedding.
    legend_loc
        ``"right margin"`` draws a legend for each colouring beside or below its panels, ``"on
        data"`` writes the names of all categories on the panels instead, and ``None`` draws
        neither. ``"auto"`` draws a legend and, for more than 12 categories, also writes the names
        of compact categories on the panels.
    palette
        Colours of categories: the name of a colormap such as ``"tab20"``, a list of colours, or a
        dictionary by category. By default the colours of scanpy in ``uns["<color>_colors"]`` or, if
        missing, 40 colours that colour-blind readers can distinguish.
    size
        Area of a mark in square points; by default it depends on the number of cells.
    ncols
        Number of panels in a row, for a single colouring.
    show
        Whether to show the figure. ``None`` shows it in interactive mode.
    save
        File to write the figure to. In vector formats only the cells are rasterized.

    Returns
    -------
    Axes of the panels, shape ``(n_colors, n_latents)``; None if the figure was shown.

    Raises
    ------
    KeyError
        If an embedding or a column is missing.
    ValueError
        If an embedding has the wrong shape or an argument has an unknown value.

    Examples
    --------
    >>> mdata.obsm["X_umap"] = mdata.obsm["X_indiseek"][:, :2]  # usually sc.tl.umap(mdata)
    >>> axes = isk.pl.umap(mdata, ["cell_type", "batch"], latents="joint", show=False)
    >>> axes.shape
    (2, 1)
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
            size = float(np.clip(_TOTAL_MARK_AREA * side**2 / mdata.n_obs, 0.3, 12))
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
    """Write names of categories on the panels if requested, or if there are many categories."""
    if legend_loc not in ("on data", "auto"):
        return
    figure.draw_without_rendering()  # names are moved in pixels, which needs the final layout
    for row, of_row in zip(axes, colors, strict=True):
        is_many = of_row.legend is not None and len(of_row.legend) > _MANY_CATEGORIES
        for ax, points in zip(row, embeddings, strict=True):
            if legend_loc == "on data" or (is_many and ax.bbox.width >= _MIN_SIDE_FOR_NAMES * figure.dpi):
                label_on_data(ax, points, of_row, all_categories=legend_loc == "on data")


def _color_keys(mdata: MuData, color: str | Sequence[str] | None) -> list[str | None]:
    if color is None:
        return [mdata.uns.get(f"{_keys.IMPORTANCE}_params", {}).get("label_key")]
    keys = check_several("color", color)
    if not keys:
        raise ValueError("color=[] names no column. Leave it out to colour by the labels or to use a single colour.")
    return keys


def _find_embeddings(mdata: MuData, latents: Sequence[str] | None) -> list[tuple[str, NDArray[np.floating]]]:
    """Return the title and the embedding, shape ``(n_cells, 2)``, of each representation."""
    modalities = list(dict.fromkeys([*modality_names(mdata).values(), *mdata.mod]))
    known = {"joint": ("Joint representation", _keys.JOINT)}
    for kind, key_of in {"Shared": _keys.shared, "Specific": _keys.specific}.items():
        known |= {f"{kind.lower()}_{name}": (f"{kind}, {display_name(name)}", key_of(name)) for name in modalities}
    wanted = list(known) if latents is None else check_several("latents", latents)
    if not wanted:
        raise ValueError(
            "latents=[] names no representation. Leave it out to draw all representations with an embedding."
        )
    for latent in wanted:
        check_name("latents", latent, known)
    found = []
    for title, latent_key in (known[latent] for latent in wanted):
        key = umap_key(latent_key)
        if key in mdata.obsm:
            found.append((title, _as_points(mdata.obsm[key], key)))
        elif latents is not None:
            raise KeyError(f"mdata.obsm[{key!r}] is missing. {_describe_remedy(latent_key, key)}")
    _warn_of_outdated_umaps(
        mdata, {latent_key: umap_key(latent_key) for _, latent_key in (known[latent] for latent in wanted)}
    )
    if not found:
        raise KeyError(f"mdata.obsm has no embedding of a representation. {_describe_remedy(_keys.JOINT, 'X_umap')}")
    return found


def umap_key(latent_key: str) -> str:
    """Return the ``obsm`` key of the UMAP of a representation."""
    return "X_umap" if latent_key == _keys.JOINT else f"{latent_key}_umap"


def _warn_of_outdated_umaps(mdata: MuData, keys: Mapping[str, str]) -> None:
    """Warn of UMAPs that were computed before the representations were written."""
    old = {place.key for place in find_unchanged(mdata, _keys.EARLIER_UMAPS)}
    for latent_key, key in keys.items():
        if key in old:
            warnings.warn(
                f"mdata.obsm[{key!r}] was computed before the representations were written and does not show them. "
                f"{_describe_remedy(latent_key, key)}",
                stacklevel=4,
            )


def _describe_remedy(latent_key: str, key: str) -> str:
    name = "" if latent_key == _keys.JOINT else f", key_added={latent_key!r}"
    use = "" if latent_key == _keys.JOINT else f", neighbors_key={latent_key!r}, key_added={key!r}"
    return (
        f"Call model.write_latents(mdata), sc.pp.neighbors(mdata, use_rep={latent_key!r}{name}) "
        f"and sc.tl.umap(mdata{use}) first."
    )


def _as_points(embedding: object, key: str) -> NDArray[np.floating]:
    points = np.asarray(embedding, dtype=float)
    if points.ndim != 2 or points.shape[1] < 2:
        raise ValueError(f"mdata.obsm[{key!r}] has shape {points.shape}, but an embedding must have two columns.")
    return points[:, :2]


@dataclass(frozen=True)
class _Plan:
    """Positions of panels and guides on a grid; sizes of rows and columns are in inches."""

    columns: list[float]
    rows: list[float]
    panels: list[tuple[int, int]]
    guides: list[tuple[slice, slice, Guide]]


def _layout(
    colors: list[Coloring], n_latents: int, ncols: int | None, legend_loc: LegendLocation | None
) -> tuple[Figure, NDArray[np.object_], float]:
    """Create the figure with empty panels and with guides beside or below them.

    Returns
    -------
    The figure, the axes of the panels, shape ``(n_colors, n_latents)``, and the side of a panel in
    inches.
    """
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
    n_free = n_rows * ncols - n_latents
    plan = (
        _plan_in_free_panels(explained, width, ncols, n_rows, n_free)
        or _plan_beside(explained, width, ncols, n_rows)
        or _plan_below(explained, width, ncols, n_rows)
    )
    figure = plt.figure(figsize=(width, sum(plan.rows) + _TITLE_HEIGHT * len(plan.rows)), layout="constrained")
    grid = figure.add_gridspec(len(plan.rows), len(plan.columns), width_ratios=plan.columns, height_ratios=plan.rows)
    panels = [figure.add_subplot(grid[place]) for place in plan.panels[: len(colors) * n_latents]]
    for rows, columns, guide in plan.guides:
        draw_guide(figure.add_subplot(grid[rows, columns]), guide)
    return figure, np.array(panels, dtype=object).reshape(len(colors), n_latents), plan.columns[0]


def _choose_columns(n_latents: int) -> int:
    return n_latents if n_latents <= _MAX_PANELS_IN_ROW else 2 if n_latents == 4 else _MAX_PANELS_IN_ROW


def _plan_in_free_panels(
    explained: list[Coloring | None], width: float, ncols: int, n_rows: int, n_free: int
) -> _Plan | None:
    """Place the guide in the empty part of the last row, if it fits."""
    side = width / ncols
    if not n_free or explained[0] is None:
        return None
    guide = plan_vertical_guide(explained[0], side)
    if guide.width > n_free * side:
        return None
    panels = list(product(range(n_rows), range(ncols)))
    place = slice(n_rows - 1, n_rows), slice(ncols - n_free, ncols)
    return _Plan([side] * ncols, [side] * n_rows, panels, [(*place, guide)])


def _plan_beside(explained: list[Coloring | None], width: float, ncols: int, n_rows: int) -> _Plan | None:
    """Place the guide of each colouring to the right of its panels, if all are narrow enough."""
    guides = [
        None if of_row is None else plan_vertical_guide(of_row, n_rows * width / ncols / 2) for of_row in explained
    ]
    beside = max((guide.width for guide in guides if guide is not None), default=0.0)
    if beside > _MAX_GUIDE_SHARE * width:
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
    """Place the guide of each colouring in a separate row below its panels."""
    plan = _Plan([width / ncols] * ncols, [], [], [])
    for of_row in explained:
        first = len(plan.rows)
        plan.panels.extend(product(range(first, first + n_rows), range(ncols)))
        plan.rows.extend([width / ncols] * n_rows)
        if of_row is not None:
            guide = plan_horizontal_guide(of_row, width)
            plan.guides.append((slice(len(plan.rows), len(plan.rows) + 1), slice(None), guide))
            plan.rows.append(guide.height)
    return plan


def _draw_points(ax: Axes, points: NDArray[np.floating], colors: Coloring, size: float) -> None:
    """Draw cells in random order, which avoids systematic hiding; missing values come first."""
    drawn = np.isfinite(points).all(axis=1)
    order = np.random.default_rng(0).permutation(np.flatnonzero(drawn))
    order = order[np.argsort(~colors.missing[order], kind="stable")]
    x, y = points[order].T
    ax.scatter(x, y, s=size, c=colors.rgba[order], linewidths=0, rasterized=True)
    ax.set(xticks=[], yticks=[], box_aspect=1)
    ax.margins(0.03)
