"""Draw the table as figures, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _disentangle_evaluate import FEATURE_GROUPS, LATENTS
from _slides import DPI, SLIDES
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from indiseek_sc._keys import ROLES
from indiseek_sc.baselines import METHODS
from indiseek_sc.pl import PALETTE, display_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = dict(zip(METHODS, PALETTE, strict=False))
MARKERS = dict(zip(METHODS, "*sovD^<>PX", strict=True))
TOLERANCE = 0.02
AIM = {"gain": 0.95, "agreement_flat": 0.9, "sufficiency": 0.97, "private": 0.95}


def draw_all(table: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw all figures for which the table has values, and return the files."""
    drawn: dict[str, Figure] = {}
    with plt.rc_context(SLIDES):
        for data, rows in table.groupby("data", sort=False):
            drawn[f"leak_and_gain_{data}"] = draw_leak_and_gain(rows, str(data))
            drawn[f"shared_{data}"] = draw_shared(rows, str(data))
        if "rna.private_r2_min" in table:
            known = table[table["rna.private_r2_min"].notna() & (table["n_specific"] > 0)]
            if len(known):
                drawn["recovery"] = draw_recovery(known)
            if any(f"rna.probe_{group}" in known for group in FEATURE_GROUPS):
                drawn["feature_importance"] = draw_feature_importance(known)
        if "rho.raw" in table:
            for data, rows in table[table["rho.raw"].notna()].groupby("data", sort=False):
                drawn[f"rho_{data}"] = draw_rho(rows, str(data))
        files = []
        for name, figure in drawn.items():
            files.append(folder / f"{name}.png")
            figure.savefig(files[-1], dpi=DPI)
            plt.close(figure)
    return files


def draw_leak_and_gain(table: pd.DataFrame, data: str) -> Figure:
    """Draw the gain of specific representations against their leak ratio; the aim is shaded."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), sharex=True, sharey=True, layout="constrained")
    for ax, role in zip(axes, ROLES, strict=True):
        ax.add_artist(Rectangle((-1, AIM["gain"]), 1 + TOLERANCE, 9, color="0.92", zorder=0))
        points = table.assign(leak=table[f"{role}.leak_ratio"].clip(lower=0))
        draw_points(ax, points, "leak", f"{role}.gain")
        # Linear up to the tolerance, logarithmic beyond: methods differ a hundredfold.
        ax.set_xscale("symlog", linthresh=TOLERANCE, linscale=0.7)
        ax.set_xlim(-0.003, max(1.5, 1.2 * table[[f"{r}.leak_ratio" for r in ROLES]].max(axis=None)))
        ax.set_xticks([0, 0.01, 0.02, 0.1, 0.3, 1])
        ax.minorticks_off()
        ax.set_title(f"{data}, {display_name(role)}", loc="left")
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %", decimals=0))
        ax.set_xlabel("leak ratio of Z (0 % is best)")
    axes[0].set_ylim(top=max(1.05, axes[0].get_ylim()[1]))
    axes[0].set_ylabel("gain of Z (100 % is best)")
    add_legend(figure, titles(table))
    return figure


def draw_shared(table: pd.DataFrame, data: str) -> Figure:
    """Draw the agreement of shared representations against their sufficiency; the aim is shaded.

    Methods with the same stage 1 have the same shared representations, and one marker.
    """
    columns = [f"{role}.{figure}" for role in ROLES for figure in ("sufficiency", "agreement_flat")]
    names = list(titles(table))
    values = {name: tuple(table.loc[table["method"] == name, columns].to_numpy().ravel()) for name in names}
    alike = {name: [other for other in names if values[other] == values[name]] for name in names}
    labels = {
        name: "\n".join(METHODS[other].title for other in same) for name, same in alike.items() if same[0] == name
    }
    shown = table[table["method"].isin(labels)]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), sharex=True, sharey=True, layout="constrained")
    for ax, role in zip(axes, ROLES, strict=True):
        ax.add_artist(Rectangle((AIM["sufficiency"], AIM["agreement_flat"]), 9, 9, color="0.92", zorder=0))
        draw_points(ax, shown, f"{role}.sufficiency", f"{role}.agreement_flat")
        ax.set_title(f"{data}, {display_name(role)}", loc="left")
        ax.set_xlabel("sufficiency of C (1 is best)")
    axes[0].set_ylabel("agreement, directions weighted equally (1 is best)")
    axes[0].set_xlim(right=max(1.05, axes[0].get_xlim()[1]))
    axes[0].set_ylim(min(0, shown[columns[1::2]].min(axis=None)) - 0.04, 1)
    add_legend(figure, labels)
    return figure


def draw_recovery(table: pd.DataFrame) -> Figure:
    """Draw the smallest R2 of a private factor against the largest R2 of a shared one."""
    lowest = min(0.8, table[[f"{role}.private_r2_min" for role in ROLES]].min(axis=None))
    names = sorted(table["data"].unique())
    n_columns = min(3, len(names))
    n_rows = -(-len(names) // n_columns)
    size = (2.2 + 3.4 * n_columns, 1 + 3.2 * n_rows)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        rows = table[table["data"] == name]
        ax.add_artist(Rectangle((-1, AIM["private"]), 1 + TOLERANCE, 9, color="0.92", zorder=0))
        for role, filled in zip(ROLES, (True, False), strict=True):
            points = rows.assign(shared=rows[f"{role}.shared_r2_max"].clip(lower=0))
            draw_points(ax, points, "shared", f"{role}.private_r2_min", filled=filled)
        ax.set_xscale("symlog", linthresh=TOLERANCE, linscale=0.7)
        ax.set_xlim(-0.003, 1.5)
        ax.set_xticks([0, 0.02, 0.1, 1], ["0", ".02", ".1", "1"])
        ax.minorticks_off()
        ax.set_ylim(lowest - 0.05, 1.03)
        ax.set_title(name, loc="left")
    figure.supxlabel("largest R2 of a shared factor or its square", fontsize="medium")
    figure.supylabel("smallest R2 of a private factor", fontsize="medium")
    add_legend(figure, titles(table), kinds_of_modality())
    return figure


def draw_feature_importance(table: pd.DataFrame) -> Figure:
    """Draw which features specific representations use and contain, by the factors behind them."""
    names = sorted(table["data"].unique())
    methods = titles(table)
    labels = {
        "jacobian": "share of the squared\nJacobian of the encoder",
        "probe": "mean R2 of a feature\nfrom the representation",
    }
    figure, axes = plt.subplots(
        2, len(names), figsize=(2.8 + 2.5 * len(names), 7), sharey="row", squeeze=False, layout="constrained"
    )
    for column, name in enumerate(names):
        rows = table[table["data"] == name]
        groups = [group for group in FEATURE_GROUPS if _known(rows, "probe", group)]
        for ax, measure in zip(axes[:, column], labels, strict=True):
            for place, method in enumerate(methods):
                x = np.arange(len(groups)) + (place - (len(methods) - 1) / 2) * 0.7 / len(methods)
                of_method = rows[rows["method"] == method]
                for role, filled in zip(ROLES, (True, False), strict=True):
                    values = of_method.reindex(columns=[f"{role}.{measure}_{group}" for group in groups])
                    color = COLORS[method]
                    ax.errorbar(
                        x,
                        values.mean().to_numpy(),
                        values.std().to_numpy() if len(values) > 1 else None,
                        fmt=MARKERS[method],
                        color=color,
                        markerfacecolor=color if filled else "white",
                        ecolor=(color, 0.5),
                        markersize=9,
                    )
            ax.set_xticks(np.arange(len(groups)), groups)
            ax.set_xlim(-0.5, len(groups) - 0.5)
            ax.axhline(0, color="0.8", linewidth=1, zorder=0)
        axes[0, column].set_title(name, loc="left")
    for ax, label in zip(axes[:, 0], labels.values(), strict=True):
        ax.set_ylabel(label)
    figure.supxlabel("features made of these factors", fontsize="medium")
    add_legend(figure, methods, kinds_of_modality())
    return figure


def _known(rows: pd.DataFrame, measure: str, group: str) -> bool:
    columns = [f"{role}.{measure}_{group}" for role in ROLES]
    return bool(rows.reindex(columns=columns).notna().any(axis=None))


def kinds_of_modality() -> list[Line2D]:
    """Return legend handles: filled for RNA, open for protein."""
    return [
        Line2D([], [], marker="o", linestyle="", color="0.3", fillstyle=style, label=display_name(role))
        for role, style in zip(ROLES, ("full", "none"), strict=True)
    ]


def draw_rho(table: pd.DataFrame, data: str) -> Figure:
    """Draw rank correlations of theta with WNN weights by representation, with intervals."""
    names = list(titles(table))
    figure, ax = plt.subplots(figsize=(11, 4.8), layout="constrained")
    for place, method in enumerate(names):
        rows = table[table["method"] == method]
        x = np.arange(len(LATENTS)) + (place - (len(names) - 1) / 2) * 0.8 / len(names)
        columns = [f"rho.{kind}" for kind in LATENTS]
        middle, lower, upper = (
            rows.reindex(columns=[column + end for column in columns]).mean().to_numpy()
            for end in ("", "_lower", "_upper")
        )
        bars = np.clip([middle - lower, upper - middle], 0, None)  # a percentile interval may miss the estimate
        ax.errorbar(
            x, middle, bars, fmt=MARKERS[method], color=COLORS[method], ecolor=(COLORS[method], 0.4), markersize=7
        )
    ax.axhline(0, color="0.8", linewidth=1, zorder=0)
    for edge in np.arange(len(LATENTS) - 1) + 0.5:
        ax.axvline(edge, color="0.9", linewidth=1, zorder=0)
    ax.set_xticks(np.arange(len(LATENTS)), LATENTS)
    ax.set_xlim(-0.5, len(LATENTS) - 0.5)
    ax.set_ylabel("Spearman correlation with WNN weights")
    ax.set_title(f"{data}: leakage can increase it, so it does not measure disentanglement", loc="left")
    add_legend(figure, titles(table))
    return figure


def draw_points(ax: Axes, table: pd.DataFrame, x: str, y: str, *, filled: bool = True) -> None:
    """Draw small points for seeds, and a large one for their mean with standard deviations."""
    for method, rows in table.groupby("method", sort=False):
        rows = rows.dropna(subset=[x, y])
        if rows.empty:
            continue
        color, marker = COLORS[method], MARKERS[method]
        face = color if filled else "white"
        if len(rows) > 1:
            ax.plot(rows[x], rows[y], marker, color=color, markerfacecolor=face, markersize=4, alpha=0.5)
        bars = {"xerr": rows[x].std(), "yerr": rows[y].std()} if len(rows) > 1 else {}
        size = 15 if marker == "*" else 9
        ax.errorbar(
            rows[x].mean(),
            rows[y].mean(),
            **bars,
            fmt=marker,
            color=color,
            markerfacecolor=face,
            ecolor=(color, 0.5),
            markersize=size,
            markeredgewidth=1.2 if not filled else 0.5,
            markeredgecolor="white" if filled else color,
            zorder=4 if method == "indiseek" else 3,
        )


def titles(table: pd.DataFrame) -> dict[str, str]:
    """Return the titles of the methods of a table by their names, in the usual order."""
    return {name: method.title for name, method in METHODS.items() if name in set(table["method"])}


def add_legend(figure: Figure, labels: Mapping[str, str], more: Sequence[Line2D] = ()) -> None:
    """Draw a legend of the methods on the right."""
    handles = [
        Line2D([], [], marker=MARKERS[name], linestyle="", color=COLORS[name], markersize=9, label=label)
        for name, label in labels.items()
    ]
    figure.legend(handles=[*handles, *more], loc="outside right upper")
