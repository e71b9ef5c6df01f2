"""Predicted values against measured ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import ListedColormap, LogNorm

from indiseek_sc.pl._style import STYLE, finish

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

N_SHOWN = 12
"""Panels, if features are not named, at most."""

MARGIN = 0.03

_FEW_TO_MANY = ListedColormap(colormaps["Blues"](np.linspace(0.35, 1, 256)))
"""A single cell must be seen on white."""


def prediction(
    report: Any,
    features: str | Sequence[str] | None = None,
    *,
    ncols: int = 4,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw predicted against measured values, a panel for each feature, darker where there are more cells.

    The line is where both are equal. The correlation, and the share of the cells within their interval, stand above each panel.

    Parameters
    ----------
    report
        What ``model.audit_prediction(...)`` returned.
    features
        Which features; by default up to 12 from the best predicted to the worst in even steps of the correlation, so that bad ones are seen too.
    ncols
        Panels in a row.
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive.
    save
        File to write.

    Returns
    -------
    The axes, shape ``(n_rows, ncols)``, ``None`` where there is no panel; nothing if the figure was shown.

    Raises
    ------
    TypeError
        If ``report`` is none.
    KeyError
        If a feature is not in the report.
    ValueError
        If no feature is named or can be drawn, or ``ncols`` is below 1.
    """
    for name in ("table", "measured", "mean", "level"):
        if not hasattr(report, name):
            raise TypeError(
                f"report must be what model.audit_prediction(source, target) returned, but is {type(report).__name__}."
            )
    if ncols < 1:
        raise ValueError(f"ncols={ncols} must be at least 1.")
    names = _choose(report, features)
    ncols = min(ncols, len(names))
    n_rows = -(-len(names) // ncols)
    with plt.rc_context(STYLE):
        size = (2.9 * ncols + 1.0, 3.1 * n_rows + 0.4)
        figure, axes = plt.subplots(n_rows, ncols, figsize=size, squeeze=False, layout="constrained")
        drawn = [_draw_panel(ax, report, name) for ax, name in zip(axes.flat, names, strict=False)]
        most = max(2, *(int(bins.get_array().max()) for bins in drawn))
        for bins in drawn:
            bins.set_norm(LogNorm(1, most))  # one scale, so that one bar serves all
        for place in range(len(names), axes.size):
            axes.flat[place].remove()
            axes.flat[place] = None
        panels = [ax for ax in axes.flat if ax is not None]
        for ax in panels[::ncols]:
            ax.set_ylabel("predicted")
        for ax in panels[-ncols:]:  # the lowest of each column
            ax.set_xlabel("measured")
        figure.colorbar(drawn[0], ax=panels, label="cells in a bin", format="%d", shrink=min(1.0, 1.5 / n_rows))
        return finish(figure, axes, show=show, save=save)


def _choose(report: Any, features: str | Sequence[str] | None) -> list[str]:
    if features is None:
        ranked = report.table["pearson"].dropna().sort_values(ascending=False, kind="stable")
        if len(ranked) == 0:
            raise ValueError("report: no feature varies, so there is nothing to draw.")
        # Even steps of rank would show noise alone where most of 2,000 genes are.
        steps = np.linspace(ranked.iloc[0], ranked.iloc[-1], N_SHOWN)
        nearest = np.abs(ranked.to_numpy() - steps[:, None]).argmin(axis=1)
        return list(ranked.index[np.unique(nearest)])
    names = [features] if isinstance(features, str) else list(features)
    if not names:
        raise ValueError("features=[] names no feature. Leave it out for some of all.")
    missing = [name for name in names if name not in report.table.index]
    if missing:
        raise KeyError(f"features: {missing} are not in the report; it has {list(report.table.index[:20])}, ...")
    return names


def _draw_panel(ax: Axes, report: Any, name: str) -> Any:
    """Bins of one feature on equal axes; returns what a colour bar is made of."""
    measured, predicted = report.measured[name].to_numpy(), report.mean[name].to_numpy()
    low, high = (float(f([f(measured), f(predicted)])) for f in (np.min, np.max))
    low, high = (low, high) if high > low else (low - 1, high + 1)
    low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)  # whole bins at the ends
    drawn = ax.hexbin(
        measured,
        predicted,
        gridsize=35,
        extent=(low, high, low, high),
        mincnt=1,
        cmap=_FEW_TO_MANY,
        linewidths=0,
    )
    ax.plot([low, high], [low, high], color="0.35", linewidth=1)
    row = report.table.loc[name]
    ax.set(xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set_title(f"{name}\nr {row['pearson']:.2f}, {row['coverage']:.0%} in {report.level:.0%} intervals", fontsize=11)
    return drawn
