"""Figure of training curves."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from indiseek_sc import _keys
from indiseek_sc._checks import check_several
from indiseek_sc._keys import REGRESSION_TITLES
from indiseek_sc.pl._style import (
    COLUMN,
    NEUTRAL,
    PAGE,
    PALETTE,
    ROLE_COLORS,
    STYLE,
    display_name,
    finish,
    inches,
    shade,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

_BEST = "best_epoch"
_WORDS = {"gaussian": "Gaussian", "nce": "NCE", "hsic": "HSIC", "r2": "R²", "rna": "RNA", "adt": "protein"}

_UNITS = {"leak": "leak (R² of a new probe)", "bound": "bound of a critic (nats)", "info nce": "InfoNCE (nats)"}
"""Axis labels of quantities whose name is not self-explanatory."""

_MAX_COLUMNS = 3
"""Largest number of panels in a row."""

_PANEL_HEIGHT, _LEGEND_LINE = 42, 3.2
"""Heights of a panel with its axes and of a line of its legend, in millimetres."""

_LEGEND_WIDTH, _SAMPLE_WIDTH = 36, 6
"""Width of a legend above a panel, and of the sample of a line, in letters."""

_DASHES: dict[str, Literal["-", "--"]] = {"train": "--", "validation": "-"}
_CELLS = {"train": "training", "validation": "validation"}

_SHADES = (0.0, 0.45, 0.7)
"""Lightness of the colour of a modality for its first, second and third quantity in a panel."""


class _Curve(NamedTuple):
    """A training curve.

    For example, ``validation_nce_bound`` is the quantity ``nce_bound`` of the split ``validation``;
    the split may be empty.
    """

    quantity: str
    split: str
    values: pd.Series


_STAGES = {"": "Training", **REGRESSION_TITLES}
"""Titles of stages that do not train representations."""


def history(
    model: Any,
    *,
    keys: Sequence[str] | None = None,
    show: bool | None = None,
    save: str | Path | None = None,
) -> np.ndarray | None:
    """Draw training curves, with a row of panels for each training stage.

    Comparable curves share a panel: a quantity on training and validation cells (``train_loss`` and
    ``validation_loss``), and quantities whose names end in the same word (``gaussian_bound`` and
    ``nce_bound``). Curves of a modality have its colour; those of training cells are dashed. A
    dotted line marks the epoch whose weights were kept, if the history contains it
    (``"shared/best_epoch"``, or ``"decoder/rna_best_epoch"`` for a single modality). Epoch -1 means
    that the initial weights were kept.

    Parameters
    ----------
    model
        A trained model, or its ``history``: a mapping from ``"stage/quantity"`` to a data frame
        with one column, indexed by epoch.
    keys
        Curves to draw; by default all curves by epoch, but not those by step (``..._step``).
    show
        Whether to show the figure. ``None`` shows it in interactive mode.
    save
        File to write the figure to.

    Returns
    -------
    Axes, shape ``(n_stages, n_panels)``, None where a stage has fewer panels than another; None if
    the figure was shown. On the page at most three panels are side by side.

    Raises
    ------
    TypeError
        If ``model`` has no history.
    KeyError
        If one of ``keys`` is not in the history.
    ValueError
        If there is nothing to draw.

    Examples
    --------
    >>> axes = isk.pl.history(model, keys=["shared/validation_info_nce"], show=False)
    >>> axes.shape
    (1, 1)
    """
    recorded = _read_history(model)
    stages = _by_stage(recorded, keys)
    n_panels = max(len(panels) for panels in stages.values())
    n_columns = min(n_panels, _MAX_COLUMNS)
    kept = {stage: _kept_epochs(recorded, stage) for stage in stages}
    legends = {
        stage: {name: _list_legend(stage, name, curves) for name, curves in panels.items()}
        for stage, panels in stages.items()
    }
    # Each row is high enough for its largest legend; the first row of a stage also has its title.
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
                # The title is above the legends, which are above the panels.
                pad = (4 + (4 if n_lines else 0)) + _LEGEND_LINE * 72 / 25.4 * n_lines
                axes[places[stage], 0].set_title(title, loc="left", pad=pad, fontweight="bold")
        return finish(figure, axes, show=show, save=save)


def _read_history(model: Any) -> dict[str, pd.Series]:
    """Return the history as one series per key, without epochs that have no value."""
    noted = model if isinstance(model, Mapping) else getattr(model, "history", None)
    if not isinstance(noted, Mapping):
        raise TypeError(
            f"model must be a trained model or its history, a mapping of data frames; got {type(model).__name__} "
            "without a history. Call model.train() first."
        )
    series = {key: values.iloc[:, 0] if values.ndim == 2 else values for key, values in noted.items()}
    return {key: pd.to_numeric(values, errors="coerce").dropna() for key, values in series.items()}


def _by_stage(recorded: Mapping[str, pd.Series], keys: Sequence[str] | None) -> dict[str, dict[str, list[_Curve]]]:
    """Group curves by stage and panel; curves of a panel share the last word of their quantity."""
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
    """Split a name into quantity and split.

    For example, ``rna_train_loss`` and, as in scvi-tools, ``rna_loss_train`` give
    ``("rna_loss", "train")``.
    """
    words = name.removesuffix("_epoch").split("_")
    for split in _DASHES:
        if split in words and len(words) > 1:
            words.remove(split)
            return "_".join(words), split
    return name, ""


def _kept_epochs(recorded: Mapping[str, pd.Series], stage: str) -> dict[str, int]:
    """Return the kept epoch by modality, or by an empty name if it is common to both.

    Epoch -1 means that the initial weights were kept.
    """
    ends = {
        key.removeprefix(f"{stage}/").removesuffix(_BEST).rstrip("_"): values
        for key, values in recorded.items()
        if key.startswith(f"{stage}/") and key.endswith(_BEST) and len(values)
    }
    return {modality: int(values.iloc[-1]) for modality, values in ends.items()}


def _describe_kept(kept: Mapping[str, int]) -> list[str]:
    """Return lines of text that describe which weights were kept."""
    if not kept:
        return []
    if set(kept.values()) == {-1}:
        return ["kept: the initial state"]
    several = len(set(kept.values())) > 1
    words = [
        (f"{_words(modality)} " if modality and several else "") + ("initial" if epoch < 0 else f"epoch {epoch}")
        for modality, epoch in kept.items()
    ]
    return textwrap.wrap(f"kept: {', '.join(dict.fromkeys(words))} (dotted)", _LEGEND_WIDTH)


def _role_of(stage: str, quantity: str) -> _keys.Role | None:
    """Return the modality of a quantity from its first word or from the stage, or None."""
    for word in (quantity.partition("_")[0], stage.partition("_")[2]):
        if word in ROLE_COLORS:
            return word
    return None


def _choose_colors(stage: str, quantities: Sequence[str]) -> dict[str, Any]:
    """Return the colour of each quantity.

    Quantities of a modality have shades of its colour. A single quantity without a modality is
    grey; several have further colours of the palette.
    """
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
    """Return legend entries of quantities and of training and validation cells."""
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
    """Return the number of lines of a legend."""
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
    ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True, min_n_ticks=1))


def _words(name: str) -> str:
    """Return a readable form of a key, such as InfoNCE for ``info_nce``."""
    return " ".join(_WORDS.get(word, word) for word in name.replace("info_nce", "InfoNCE").split("_"))


def _stage_title(stage: str) -> str:
    if stage in _STAGES:
        return _STAGES[stage]
    kind, _, modality = stage.partition("_")
    return f"{kind.capitalize()} representation" + (f", {display_name(modality)}" if modality else "s")
