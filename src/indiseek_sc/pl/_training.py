"""Curves of a training, and the walk along lambda."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from indiseek_sc._checks import check_several
from indiseek_sc._keys import REGRESSION_TITLES
from indiseek_sc.pl._guides import move_apart
from indiseek_sc.pl._style import PALETTE, ROLE_COLORS, STYLE, display_name, finish, one_panel, page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_BEST = "best_epoch"
_WORDS = {"gaussian": "Gaussian", "nce": "NCE", "hsic": "HSIC", "r2": "R²"}


_LEGEND_WIDTH = 33
"""Letters that fit above a panel, beside the samples of the lines."""


class _Line(NamedTuple):
    color: str
    dash: Literal["-", "--"]


_PLAIN = _Line(PALETTE[0], "-")
_SPLITS = {"train": _Line(PALETTE[0], "--"), "validation": _Line(PALETTE[1], "-")}


class _Curve(NamedTuple):
    """One curve: ``validation_nce_bound`` is the quantity ``nce_bound`` of the split ``validation``, which may be empty."""

    quantity: str
    split: str
    values: pd.Series


_STAGES = {"": "Training", **REGRESSION_TITLES}
"""Titles of stages that do not end in codes."""


def history(
    model: Any,
    *,
    keys: Sequence[str] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw the training curves, a row of panels for each stage.

    Panels hold what can be compared: a quantity on training and validation cells (``train_loss`` and
    ``validation_loss``), and quantities whose names end in the same word (``gaussian_bound`` and ``nce_bound``). A
    dotted line marks the best epoch of a stage where the history knows it (``"shared/best_epoch"``), or those of both
    modalities (``"decoder/rna_best_epoch"``).

    Parameters
    ----------
    model
        A trained model, or its ``history``: a mapping from ``"stage/quantity"`` to a data frame of one column, indexed
        by epoch.
    keys
        Curves to draw; by default all, but those by step (``..._step``).
    show
        Whether to show the figure now; ``None`` is yes where matplotlib is interactive.
    save
        File to write.

    Returns
    -------
    The axes, shape ``(n_stages, n_panels)``, ``None`` where a stage has fewer panels than another; nothing if the figure
    was shown.

    Raises
    ------
    TypeError
        If ``model`` has no history.
    KeyError
        If one of ``keys`` is not in the history.
    ValueError
        If there is nothing to draw.
    """
    recorded = _recorded(model)
    stages = _by_stage(recorded, keys)
    n_columns = max(len(panels) for panels in stages.values())
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(4.2 * n_columns, 3.2 * len(stages)), layout="constrained")
        grid = figure.add_gridspec(len(stages), n_columns)
        axes = np.full((len(stages), n_columns), None, dtype=object)
        for row, (stage, panels) in enumerate(stages.items()):
            best = _best_epochs(recorded, stage)
            n_lines = 0
            for column, (name, curves) in enumerate(panels.items()):
                axes[row, column] = figure.add_subplot(grid[row, column])
                n_lines = max(n_lines, _draw_panel(axes[row, column], name, curves, best))
            note = f", best epoch{'s' * (len(best) > 1)} {' and '.join(map(str, best))} (dotted)" if best else ""
            # Above the legends, which are above the panels.
            axes[row, 0].set_title(_stage_title(stage) + note, loc="left", pad=8 + 18 * n_lines, fontweight="bold")
        return finish(figure, axes, show=show, save=save)


def _recorded(model: Any) -> dict[str, pd.Series]:
    """The history as one series a key, without epochs that have no value."""
    noted = model if isinstance(model, Mapping) else getattr(model, "history", None)
    if not isinstance(noted, Mapping):
        raise TypeError(
            f"model must be a trained model or its history, a mapping of data frames; got {type(model).__name__} "
            "without a history. Call model.train() first."
        )
    series = {key: values.iloc[:, 0] if values.ndim == 2 else values for key, values in noted.items()}
    return {key: pd.to_numeric(values, errors="coerce").dropna() for key, values in series.items()}


def _by_stage(recorded: Mapping[str, pd.Series], keys: Sequence[str] | None) -> dict[str, dict[str, list[_Curve]]]:
    """Curves by stage and panel; a panel is what shares the last word of the quantity."""
    if keys is None:
        keys = [key for key, values in recorded.items() if not key.endswith((_BEST, "_step")) and len(values)]
    keys = check_several("keys", keys)
    unknown = [key for key in keys if key not in recorded]
    if unknown:
        raise KeyError(f"keys={unknown} are not in the history, which has {sorted(recorded)}.")
    if not keys:
        raise ValueError("The history has no curves. Call model.train() first, or leave keys out.")
    stages: dict[str, dict[str, list[_Curve]]] = {}
    for key in keys:
        stage, _, name = key.rpartition("/")
        curve = _Curve(*_split_name(name), recorded[key])
        stages.setdefault(stage, {}).setdefault(curve.quantity.rpartition("_")[2], []).append(curve)
    return stages


def _split_name(name: str) -> tuple[str, str]:
    """``("rna_loss", "train")`` of ``rna_train_loss`` or, as scvi-tools has it, ``rna_loss_train``."""
    words = name.removesuffix("_epoch").split("_")
    for split in _SPLITS:
        if split in words and len(words) > 1:
            words.remove(split)
            return "_".join(words), split
    return name, ""


def _best_epochs(recorded: Mapping[str, pd.Series], stage: str) -> list[int]:
    """The best epoch of a stage, or those of its parts where each has its own."""
    noted = [x for key, x in recorded.items() if key.startswith(f"{stage}/") and key.endswith(_BEST) and len(x)]
    return sorted({int(x.iloc[-1]) for x in noted})


def _draw_panel(ax: Axes, name: str, curves: list[_Curve], best: list[int]) -> int:
    """Draw the curves of the panel ``name`` and a legend above them; the number of lines of the legend."""
    quantities = list(dict.fromkeys(curve.quantity for curve in curves))
    several = len(quantities) > 1
    # Colours tell quantities apart; where there is but one, they tell training from validation.
    of_quantity = dict(zip(quantities, itertools.cycle(PALETTE), strict=False))
    for quantity, split, values in curves:
        color = of_quantity[quantity] if several else _SPLITS.get(split, _PLAIN).color
        marker = "o" if len(values) == 1 else ""
        dash = _SPLITS.get(split, _PLAIN).dash
        ax.plot(values.index, values, linestyle=dash, color=color, marker=marker, linewidth=2)
    for epoch in best:
        ax.axvline(epoch, color="0.3", linestyle=":", linewidth=1.5)
    ax.set(xlabel="epoch", ylabel=_words(name if several else quantities[0]))
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))

    handles = [
        Line2D([], [], color=color, label=_words(quantity.removesuffix(f"_{name}")))
        for quantity, color in of_quantity.items()
        if several
    ]
    handles += [
        Line2D([], [], color="0.3" if several else line.color, linestyle=line.dash, label=split)
        for split, line in _SPLITS.items()
        if any(curve.split == split for curve in curves)
    ]
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    n_columns = min(max(1, _LEGEND_WIDTH // longest), 3)
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=n_columns,
            borderaxespad=0.2,
            columnspacing=1,
            handlelength=1.6,
        )
    return -(-len(handles) // n_columns)


def _words(name: str) -> str:
    """A key in words: ``info_nce`` is InfoNCE."""
    return " ".join(_WORDS.get(word, word) for word in name.replace("info_nce", "InfoNCE").split("_"))


def _stage_title(stage: str) -> str:
    if stage in _STAGES:
        return _STAGES[stage]
    kind, _, modality = stage.partition("_")
    return f"{kind.capitalize()} code, {display_name(modality)}" if modality else f"{kind.capitalize()} codes"


_COLUMNS = ("lambda", "modality", "leak_ratio", "gain")


def frontier(
    path: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw what specific codes leak against what they gain, a line through the lambdas for each modality.

    The best place is the upper left. Numbers are lambdas; the bar through a point is one standard error of its leak. The
    shaded part is within the tolerance, and rings mark the chosen lambda.

    Parameters
    ----------
    path
        What ``model.lambda_path()`` returned, or ``model.chosen_path``. Points without a gain (where next to nothing could be
        added to the shared code) are left out.
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
    TypeError
        If ``path`` is no such path.
    ValueError
        If no lambda has both a leak ratio and a gain.
    """
    table = _find_points(path)
    with one_panel(ax, (7.5, 5.5), show) as (ax, show):
        labels = _draw_lines(ax, table, path)
        _dress(ax, table, path)
        page(ax).draw_without_rendering()  # numbers are moved on the page, so it must be laid out
        move_apart(ax, labels)
        return finish(page(ax), ax, show=show, save=save)


def _find_points(path: Any) -> pd.DataFrame:
    table = getattr(path, "table", None)
    if not isinstance(table, pd.DataFrame) or not set(_COLUMNS) <= set(table):
        raise TypeError(
            f"path must be what model.lambda_path() returns, or model.chosen_path after train(lambda_='auto'); got "
            f"{type(path).__name__}."
        )
    points = table.dropna(subset=["leak_ratio", "gain"])
    if points.empty:
        raise ValueError(
            "path has no lambda with both a leak ratio and a gain: there is too little to leak or to add to the shared codes."
        )
    return points


def _draw_lines(ax: Axes, table: pd.DataFrame, path: Any) -> list[Annotation]:
    colors = dict(zip(path.table["modality"].unique(), [*ROLE_COLORS.values(), *PALETTE[2:]], strict=False))
    labels = []
    for modality, points in table.groupby("modality", sort=False):
        color, points = colors[modality], points.sort_values("lambda")
        x, y = points["leak_ratio"], points["gain"]
        ax.errorbar(
            x,
            y,
            xerr=points["leak_ratio_se"] if "leak_ratio_se" in points else None,
            fmt="o-",
            color=color,
            ecolor=(color, 0.35),
            markersize=6,
            label=display_name(str(modality)),
        )
        chosen = np.isclose(points["lambda"], path.chosen)
        ax.plot(x[chosen], y[chosen], "o", markersize=14, fillstyle="none", color=color, markeredgewidth=2)
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
        for value, across, up in zip(points["lambda"], x, y, strict=True):
            text = ax.annotate(f"{value:g}", (across, up), (16, 11), textcoords="offset points", arrowprops=line)
            text.set(ha="center", va="center")
            text.set(color=color, fontsize=10, path_effects=[effects.withStroke(linewidth=2.5, foreground="white")])
            labels.append(text)
    return labels


def _dress(ax: Axes, table: pd.DataFrame, path: Any) -> None:
    ax.axvspan(0, path.tolerance, color="0.93", zorder=0, label=f"leak ratio within {100 * path.tolerance:g} %")
    ax.plot(
        [], [], "o", markersize=12, fillstyle="none", color="0.3", markeredgewidth=2, label=f"chosen: {path.chosen:g}"
    )
    ax.margins(0.12)
    right = max(ax.get_xlim()[1], 1.5 * path.tolerance)
    ax.set_xlim(min(0, table["leak_ratio"].min()) - 0.04 * right, right)  # room for a ring around 0
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set_xlabel("leak ratio of the specific code (0 % is best)")
    ax.set_ylabel("gain of the specific code (100 % is best)")
    handles, words = ax.get_legend_handles_labels()
    order = sorted(range(len(words)), key=lambda i: not hasattr(handles[i], "has_xerr"))  # modalities first
    ax.legend(
        [handles[i] for i in order],
        [words[i] for i in order],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        borderaxespad=0.2,
        columnspacing=1.2,
    )
