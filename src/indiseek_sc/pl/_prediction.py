"""Figure of predicted against measured values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, to_rgb
from matplotlib.ticker import NullFormatter

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_several, check_whole
from indiseek_sc.pl._style import COLUMN, NEUTRAL, PAGE, ROLE_COLORS, STYLE, as_text, finish, inches, shade

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

N_SHOWN = 12
"""Largest number of panels if no features are named."""

MARGIN = 0.03

_MAX_TITLE_LENGTH = 24

_PALEST, _DARKEST = 0.65, 0.45
"""Lightness of the colour of a single cell, and darkness of the colour of the fullest bin."""


def prediction(
    report: Any,
    features: str | Sequence[str] | None = None,
    *,
    role: _keys.Role | None = None,
    ncols: int = 4,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw predicted against measured values, with a panel for each feature.

    Darker bins contain more cells; on the line, predicted and measured values are equal. The
    correlation and the share of cells within their prediction interval are given above each panel.

    Parameters
    ----------
    report
        Result of ``model.audit_prediction(...)``.
    features
        Names of features; by default up to 12 features, from the best predicted to the worst in
        even steps of the correlation, so that poorly predicted features are shown as well.
    role
        Predicted modality, ``"rna"`` or ``"adt"``, whose colour is used; grey if not given.
    ncols
        Number of panels in a row.
    show
        Whether to show the figure. ``None`` shows it in interactive mode.
    save
        File to write the figure to.

    Returns
    -------
    Axes, shape ``(n_rows, ncols)``, None where there is no panel; None if the figure was shown.

    Raises
    ------
    TypeError
        If ``report`` is not a prediction report.
    KeyError
        If a feature is not in the report.
    ValueError
        If no feature is named or can be drawn, ``ncols`` is below 1, or ``role`` is unknown.

    Examples
    --------
    >>> measured = pd.DataFrame({"CD3": [0.0, 1.0, 2.0, 3.0], "CD19": [3.0, 0.0, 2.0, 1.0]})
    >>> mean = measured + 0.1
    >>> report = isk.metrics.evaluate_prediction(measured, mean, mean - 1, mean + 1, level=0.9)
    >>> axes = isk.pl.prediction(report, ["CD3", "CD19"], show=False)
    >>> axes.shape
    (1, 2)
    """
    for name in ("table", "measured", "mean", "level"):
        if not hasattr(report, name):
            raise TypeError(
                f"report must be what model.audit_prediction(source, target) returned, but is {type(report).__name__}."
            )
    check_whole("ncols", ncols, 1)
    if role is not None:
        check_name("role", role, _keys.ROLES)
    names = _choose_features(report, features)
    ncols = min(ncols, len(names))
    n_rows = -(-len(names) // ncols)
    with plt.rc_context(STYLE):
        width = COLUMN if ncols == 1 else PAGE
        size = inches(width, n_rows * (width / ncols + 3) + 12)
        figure, axes = plt.subplots(n_rows, ncols, figsize=size, squeeze=False, layout="constrained")
        colors = _count_colormap(role)
        drawn = [_draw_panel(ax, report, name, colors) for ax, name in zip(axes.flat, names, strict=False)]
        most = max(2, *(int(bins.get_array().max()) for bins in drawn))
        for bins in drawn:
            bins.set_norm(LogNorm(1, most))  # one scale for all panels
        for place in range(len(names), axes.size):
            axes.flat[place].remove()
            axes.flat[place] = None
        panels = [ax for ax in axes.flat if ax is not None]
        for ax in panels[::ncols]:
            ax.set_ylabel("predicted")
        for ax in panels[-ncols:]:  # the lowest panel of each column
            ax.set_xlabel("measured")
        bar = figure.colorbar(
            drawn[0], ax=panels, location="bottom", format="%d", shrink=min(1.0, 1.2 / ncols), aspect=25
        )
        bar.set_label("cells per bin")
        bar.outline.set_visible(False)
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
        return finish(figure, axes, show=show, save=save)


def _choose_features(report: Any, features: str | Sequence[str] | None) -> list[str]:
    if features is None:
        ranked = report.table["pearson"].dropna().sort_values(ascending=False, kind="stable")
        if len(ranked) == 0:
            raise ValueError("report: no feature varies, so there is nothing to draw.")
        # Even steps of rank would mostly show genes that cannot be predicted.
        steps = np.linspace(ranked.iloc[0], ranked.iloc[-1], N_SHOWN)
        nearest = np.abs(ranked.to_numpy() - steps[:, None]).argmin(axis=1)
        return list(ranked.index[np.unique(nearest)])
    names = check_several("features", features)
    if not names:
        raise ValueError("features=[] names no feature. Leave it out to draw a selection of all features.")
    missing = [name for name in names if name not in report.table.index]
    if missing:
        raise KeyError(f"features: {missing} are not in the report; it has {list(report.table.index[:20])}, ...")
    return names


def _count_colormap(role: _keys.Role | None) -> Colormap:
    """Return a colormap from light to dark, in the colour of the modality if it is known."""
    color = NEUTRAL if role is None else ROLE_COLORS[role]
    dark: Any = tuple(channel * (1 - _DARKEST) for channel in to_rgb(color))
    return LinearSegmentedColormap.from_list("few_to_many", [shade(color, _PALEST), color, dark])


def _draw_panel(ax: Axes, report: Any, name: str, colors: Colormap) -> Any:
    """Draw hexagonal bins of one feature on equal axes and return them for the colour bar."""
    measured, predicted = report.measured[name].to_numpy(), report.mean[name].to_numpy()
    low, high = (float(f([f(measured), f(predicted)])) for f in (np.min, np.max))
    low, high = (low, high) if high > low else (low - 1, high + 1)
    # The margin leaves room for complete bins at the ends.
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
    drawn = ax.hexbin(
        measured,
        predicted,
        gridsize=35,
        extent=(low, high, low, high),
        mincnt=1,
        cmap=colors,
        linewidths=0,
    )
    ax.plot([low, high], [low, high], color="0.35", linewidth=0.6)
    row = report.table.loc[name]
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set_title(
        f"{as_text(name, _MAX_TITLE_LENGTH)}\nr {row['pearson']:.2f}, {row['coverage']:.0%} in {report.level:.0%} intervals",
        fontsize=plt.rcParams["axes.labelsize"],
    )
    return drawn
