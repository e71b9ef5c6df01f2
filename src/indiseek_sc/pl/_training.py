"""Curves of a training, and the walk along lambda."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib.patheffects as effects
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator, PercentFormatter

from indiseek_sc import _keys
from indiseek_sc._checks import check_several
from indiseek_sc._keys import REGRESSION_TITLES
from indiseek_sc.pl._guides import move_apart
from indiseek_sc.pl._style import (
    COLUMN,
    NEUTRAL,
    PAGE,
    PALETTE,
    ROLE_COLORS,
    SMALLEST,
    STYLE,
    display_name,
    finish,
    inches,
    modality_colors,
    one_panel,
    page,
    shade,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation

_BEST = "best_epoch"
_WORDS = {"gaussian": "Gaussian", "nce": "NCE", "hsic": "HSIC", "r2": "R²", "rna": "RNA", "adt": "protein"}

_UNITS = {"leak": "leak (R² of a new probe)", "bound": "bound of a critic (nats)", "info nce": "InfoNCE (nats)"}
"""What an axis says of a quantity whose name is not enough."""

_MOST_COLUMNS = 3
"""Panels in a row of a page, before they are wrapped."""

_PANEL_HEIGHT, _LEGEND_LINE = 42, 3.2
"""Millimetres of a panel with its axes, and of a line of its legend."""

_LEGEND_WIDTH, _SAMPLE_WIDTH = 36, 6
"""Letters that fit above a panel, and those that the sample of a line takes."""

_DASHES: dict[str, Literal["-", "--"]] = {"train": "--", "validation": "-"}
_CELLS = {"train": "training", "validation": "validation"}

_SHADES = (0.0, 0.45, 0.7)
"""How white the colour of a modality is for its first quantity of a panel, its second and so on."""


class _Curve(NamedTuple):
    """One curve: ``validation_nce_bound`` is the quantity ``nce_bound`` of the split ``validation``, which may be empty."""

    quantity: str
    split: str
    values: pd.Series


_STAGES = {"": "Training", **REGRESSION_TITLES}
"""Titles of stages that do not end in representations."""


def history(
    model: Any,
    *,
    keys: Sequence[str] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw the training curves, a row of panels for each stage.

    Panels hold what can be compared: a quantity on training and validation cells (``train_loss`` and
    ``validation_loss``), and quantities whose names end in the same word (``gaussian_bound`` and ``nce_bound``). Curves of a modality have its
    colour, those of training cells are dashed. A dotted line marks the epoch whose weights were kept where the history knows it
    (``"shared/best_epoch"``), or those of both modalities (``"decoder/rna_best_epoch"``); epoch -1 is the start, before any training.

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
    was shown. On the page no more than three panels are side by side.

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
    n_panels = max(len(panels) for panels in stages.values())
    n_columns = min(n_panels, _MOST_COLUMNS)
    kept = {stage: _kept_epochs(recorded, stage) for stage in stages}
    legends = {
        stage: {name: _list_legend(stage, name, curves) for name, curves in panels.items()}
        for stage, panels in stages.items()
    }
    # A row of the page is as high as its highest legend needs; above the first one of a stage is the title of the stage.
    rows = [
        (stage, first, max(_n_lines(of_panel) for of_panel in list(of_stage.values())[first : first + n_columns]))
        for stage, of_stage in legends.items()
        for first in range(0, len(of_stage), n_columns)
    ]
    heights = [
        _PANEL_HEIGHT + _LEGEND_LINE * (n_lines + (1 + len(_describe_kept(kept[stage])) if first == 0 else 0))
        for stage, first, n_lines in rows
    ]
    with plt.rc_context(STYLE):
        width = COLUMN if n_columns == 1 else PAGE
        figure = plt.figure(figsize=inches(width, sum(heights)), layout="constrained")
        grid = figure.add_gridspec(len(rows), n_columns, height_ratios=heights)
        axes = np.full((len(stages), n_panels), None, dtype=object)
        places = {stage: place for place, stage in enumerate(stages)}
        for row, (stage, first, n_lines) in enumerate(rows):
            for column, name in enumerate(list(stages[stage])[first : first + n_columns]):
                ax = axes[places[stage], first + column] = figure.add_subplot(grid[row, column])
                _draw_panel(ax, stage, name, stages[stage][name], kept[stage])
                _draw_legend(ax, legends[stage][name])
            if first == 0:
                title = "\n".join([_stage_title(stage), *_describe_kept(kept[stage])])
                # Above the legends, which are above the panels.
                pad = (4 + (4 if n_lines else 0)) + _LEGEND_LINE * 72 / 25.4 * n_lines
                axes[places[stage], 0].set_title(title, loc="left", pad=pad, fontweight="bold")
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
    for split in _DASHES:
        if split in words and len(words) > 1:
            words.remove(split)
            return "_".join(words), split
    return name, ""


def _kept_epochs(recorded: Mapping[str, pd.Series], stage: str) -> dict[str, int]:
    """The epoch that was kept, by modality if each has its own, else by an empty name; -1 is the start."""
    ends = {
        key.removeprefix(f"{stage}/").removesuffix(_BEST).rstrip("_"): values
        for key, values in recorded.items()
        if key.startswith(f"{stage}/") and key.endswith(_BEST) and len(values)
    }
    return {modality: int(values.iloc[-1]) for modality, values in ends.items()}


def _describe_kept(kept: Mapping[str, int]) -> list[str]:
    """Lines that say what was kept."""
    if not kept:
        return []
    if set(kept.values()) == {-1}:
        return ["start kept: no epoch was better"]
    several = len(set(kept.values())) > 1
    words = [
        (f"{_words(modality)} " if modality and several else "") + ("start" if epoch < 0 else f"epoch {epoch}")
        for modality, epoch in kept.items()
    ]
    return textwrap.wrap(f"kept: {', '.join(dict.fromkeys(words))} (dotted)", _LEGEND_WIDTH)


def _role_of(stage: str, quantity: str) -> _keys.Role | None:
    """The modality whose quantity it is, if it is of one: by its first word, or by the stage."""
    for word in (quantity.partition("_")[0], stage.partition("_")[2]):
        if word in ROLE_COLORS:
            return word
    return None


def _choose_colors(stage: str, quantities: Sequence[str]) -> dict[str, Any]:
    """Shades of the colour of its modality for each quantity; grey for what is of none, or further colours where that is several."""
    roles = {quantity: _role_of(stage, quantity) for quantity in quantities}
    of_none = [quantity for quantity, role in roles.items() if role is None]
    colors: dict[str, Any] = dict(
        zip(of_none, [NEUTRAL] if len(of_none) == 1 else itertools.cycle(PALETTE), strict=False)
    )
    for role, color in ROLE_COLORS.items():
        own = [quantity for quantity in quantities if roles[quantity] == role]
        colors |= {
            quantity: shade(color, amount) for quantity, amount in zip(own, itertools.cycle(_SHADES), strict=False)
        }
    return colors


def _list_legend(stage: str, name: str, curves: list[_Curve]) -> list[Line2D]:
    """Samples of lines: of quantities where colours tell them apart or stand for a modality, and of cells."""
    quantities = list(dict.fromkeys(curve.quantity for curve in curves))
    colors = _choose_colors(stage, quantities)
    handles = [
        Line2D([], [], color=colors[quantity], label=label)
        for quantity in quantities
        if (label := _words(quantity.removesuffix(name).rstrip("_") or ("" if len(quantities) == 1 else name)))
        and (len(quantities) > 1 or _role_of("", quantity))
    ]
    color = NEUTRAL if len(quantities) > 1 else colors[quantities[0]]
    return handles + [
        Line2D([], [], color=color, linestyle=dash, label=_CELLS[split])
        for split, dash in _DASHES.items()
        if any(curve.split == split for curve in curves)
    ]


def _n_legend_columns(handles: Sequence[Line2D]) -> int:
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    return min(max(1, _LEGEND_WIDTH // (longest + _SAMPLE_WIDTH)), 3)


def _n_lines(handles: Sequence[Line2D]) -> int:
    """Lines that a legend takes."""
    return -(-len(handles) // _n_legend_columns(handles))


def _draw_legend(ax: Axes, handles: list[Line2D]) -> None:
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            ncols=_n_legend_columns(handles),
            borderaxespad=0.2,
            columnspacing=1,
            labelspacing=0.3,
            handlelength=1.6,
        )


def _draw_panel(ax: Axes, stage: str, name: str, curves: list[_Curve], kept: Mapping[str, int]) -> None:
    """Draw the curves of the panel ``name``."""
    quantities = list(dict.fromkeys(curve.quantity for curve in curves))
    colors = _choose_colors(stage, quantities)
    for quantity, split, values in curves:
        marker = "o" if len(values) == 1 else ""
        ax.plot(values.index, values, linestyle=_DASHES.get(split, "-"), color=colors[quantity], marker=marker)
    for modality, epoch in kept.items():
        is_own = len(set(kept.values())) > 1
        color = ROLE_COLORS[modality] if is_own and modality in ROLE_COLORS else NEUTRAL
        if epoch >= 0:
            ax.axvline(epoch, color=color, linestyle=":", linewidth=0.9)
    shown = name if len(quantities) > 1 or _role_of("", quantities[0]) else quantities[0]
    ax.set(xlabel="epoch", ylabel=_UNITS.get(shown, _words(shown)))
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True))


def _words(name: str) -> str:
    """A key in words: ``info_nce`` is InfoNCE."""
    return " ".join(_WORDS.get(word, word) for word in name.replace("info_nce", "InfoNCE").split("_"))


def _stage_title(stage: str) -> str:
    if stage in _STAGES:
        return _STAGES[stage]
    kind, _, modality = stage.partition("_")
    return f"{kind.capitalize()} representation" + (f", {display_name(modality)}" if modality else "s")


_RING = 8.5
"""Points of the ring around what was chosen."""

_COLUMNS = ("lambda", "modality", "leak_ratio", "gain")


def lambda_path(
    path: Any,
    *,
    ax: Axes | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> Axes | None:
    """Draw what specific representations leak against what they gain, a line through the lambdas for each modality.

    The best place is the upper left; the axis of the leak is linear within the tolerance and logarithmic beyond. Numbers are lambdas; the bar through a point is one standard error of its leak. The
    shaded part is within the tolerance, and rings mark the chosen lambda.

    Parameters
    ----------
    path
        What ``model.lambda_path()`` returned, or ``model.chosen_path``. Points without a gain (where next to nothing could be
        added to the shared representation) are left out.
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
    with one_panel(ax, inches(COLUMN, 68), show) as (ax, show):
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
            "path has no lambda with both a leak ratio and a gain: there is too little to leak or to add to the shared representations."
        )
    return points


def _draw_lines(ax: Axes, table: pd.DataFrame, path: Any) -> list[Annotation]:
    colors = modality_colors(path.table["modality"])
    labels = []
    for modality, points in table.groupby("modality", sort=False):
        color, points = colors[str(modality)], points.sort_values("lambda")
        x, y = points["leak_ratio"], points["gain"]
        ax.errorbar(
            x,
            y,
            xerr=points["leak_ratio_se"] if "leak_ratio_se" in points else None,
            fmt="o-",
            color=color,
            ecolor=(color, 0.35),
            markersize=3.5,
            linewidth=1.1,
            label=display_name(str(modality)),
        )
        chosen = np.isclose(points["lambda"], path.chosen)
        ax.plot(x[chosen], y[chosen], "o", markersize=_RING, fillstyle="none", color=color, markeredgewidth=1.2)
        line = {"arrowstyle": "-", "color": color, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        for value, across, up in zip(points["lambda"], x, y, strict=True):
            text = ax.annotate(f"{value:g}", (across, up), (10, 7), textcoords="offset points", arrowprops=line)
            text.set(ha="center", va="center")
            text.set(
                color=color, fontsize=SMALLEST, path_effects=[effects.withStroke(linewidth=1.5, foreground="white")]
            )
            labels.append(text)
    return labels


def _dress(ax: Axes, table: pd.DataFrame, path: Any) -> None:
    ax.axvspan(0, path.tolerance, color="0.93", zorder=0, label=f"leak ratio within {100 * path.tolerance:g} %")
    ax.plot(
        [],
        [],
        "o",
        markersize=6.5,
        fillstyle="none",
        color=NEUTRAL,
        markeredgewidth=1.2,
        label=f"chosen: {path.chosen:g}",
    )
    ax.margins(0.12)
    right = max(ax.get_xlim()[1], 1.5 * path.tolerance)
    ax.set_xlim(min(0, table["leak_ratio"].min()) - 0.04 * right, right)  # room for a ring around 0
    # Linear within the tolerance, so that a tenth of it can be seen beside a leak of ten times as much.
    ax.set_xscale("symlog", linthresh=path.tolerance, linscale=1)
    ax.xaxis.set_major_locator(FixedLocator([0, *(path.tolerance * step for step in (0.25, 0.5, 1, 2.5, 5, 10, 25))]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    ax.set_xlabel("leak ratio of the specific representation (0 % is best)")
    ax.set_ylabel("gain (100 % is best)")
    handles, words = ax.get_legend_handles_labels()
    order = sorted(range(len(words)), key=lambda i: not hasattr(handles[i], "has_xerr"))  # modalities first
    ax.legend(
        [handles[i] for i in order],
        [words[i] for i in order],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        borderaxespad=0.2,
        columnspacing=1.2,
    )
