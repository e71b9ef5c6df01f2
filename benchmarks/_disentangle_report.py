"""Format the table as Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _disentangle_evaluate import LATENTS

from indiseek_sc._keys import ROLES
from indiseek_sc.baselines import METHODS

if TYPE_CHECKING:
    from collections.abc import Sequence

AUDIT = {
    "agreement_flat": ("agreement_flat", 2),
    "sufficiency": ("sufficiency", 2),
    "leak_ratio": ("leak ratio", 3),
    "gain": ("gain", 2),
    "complete": ("complete", 3),
}
RECOVERY = {
    "private_r2_min": ("private, smallest", 3),
    "private_r2_mean": ("private, mean", 3),
    "shared_r2_max": ("shared, largest", 3),
    "shared_r2_mean": ("shared, mean", 3),
}


def spread(values: pd.Series, digits: int) -> str:
    """Return mean and standard deviation over seeds, or a dash without values."""
    known = values.dropna()
    if known.empty:
        return "-"
    mean = f"{known.mean():z.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {known.std():.{digits}f}"


def both(rows: pd.DataFrame, figure: str, digits: int) -> str:
    """Return the spread of a figure for RNA and for protein."""
    return " / ".join(spread(rows[f"{role}.{figure}"], digits) for role in ROLES)


def as_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_method(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return titles and rows of methods, in the usual order."""
    return [(METHODS[name].title, rows) for name in METHODS if len(rows := table[table["method"] == name])]


def show_lambda(rows: pd.DataFrame) -> str:
    """Return the lambda of each seed, with a star if none was within the tolerance."""
    known = METHODS[rows["method"].iloc[0]].lambdas
    if not known:
        return "-"
    missed = rows["lambda_within"].eq(False)
    words = [f"{value:g}{'*' if star else ''}" for value, star in zip(rows["lambda"], missed, strict=True)]
    return ", ".join(dict.fromkeys(words))


def report(table: pd.DataFrame) -> str:
    """Return the table as Markdown: mean ± standard deviation over seeds, RNA / protein."""
    table = table.sort_values("seed")
    parts = [_origin(table)]
    for data, rows in table.groupby("data", sort=False):
        n_train = rows["n_train"].iloc[0]
        n_held_out, n_seeds = rows["n_cells"].iloc[0] - n_train, rows["seed"].nunique()
        cells = f"{n_train:,} training cells, {n_held_out:,} held-out cells"
        parts += [f"### {data}: {cells}, {n_seeds} seed{'s' * (n_seeds > 1)}", _audit_table(rows)]
    if "rna.private_r2_min" in table:
        parts += ["### Known factors, R2 from the specific representations", _recovery_table(table)]
    if any(f"rho.{kind}" in table for kind in LATENTS):
        parts += ["### Rank correlation of theta with WNN weights", _rho_table(table)]
    else:
        parts.append(
            "No data set has WNN weights and labels, so there is no rank correlation of theta with WNN weights."
        )
    return "\n\n".join(parts) + "\n"


def _origin(table: pd.DataFrame) -> str:
    dates = sorted(set(table["date"]))
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{days}; {'; '.join(sorted(set(table['versions'])))}. Settings: {'; '.join(sorted(set(table['settings'])))}. Values are mean ± "
        "standard deviation over seeds, RNA / protein. A star marks a lambda that was chosen although its leak on validation "
        "cells exceeds the tolerance, because the leak of no other lambda was smaller. Seconds are those of one core for "
        "training, including the choice of lambda and the stages that are shared with other methods."
    )


def _audit_table(table: pd.DataFrame) -> str:
    rows = [
        [
            title,
            show_lambda(rows),
            *(both(rows, figure, digits) for figure, (_, digits) in AUDIT.items()),
            spread(rows["foscttm"], 3),
            spread(rows["recall@10"], 3),
            f"{rows['seconds'].mean():.0f}",
        ]
        for title, rows in by_method(table)
    ]
    names = [name for name, _ in AUDIT.values()]
    return as_markdown(["method", "lambda", *names, "FOSCTTM", "recall@10", "seconds"], rows)


def _recovery_table(table: pd.DataFrame) -> str:
    known = table[table["rna.private_r2_min"].notna()]
    rows = [
        [str(data), title, *(both(rows, figure, digits) for figure, (_, digits) in RECOVERY.items())]
        for data, of_data in known.groupby("data")
        for title, rows in by_method(of_data)
    ]
    return as_markdown(["data", "method", *(name for name, _ in RECOVERY.values())], rows)


def _rho_table(table: pd.DataFrame) -> str:
    def show(rows: pd.DataFrame, kind: str) -> str:
        name = f"rho.{kind}"
        if name not in rows or rows[name].isna().all():
            return "-"
        lower, upper = (np.nanmean(rows[f"{name}_{end}"]) for end in ("lower", "upper"))
        return f"{spread(rows[name], 2)} [{lower:.2f}, {upper:.2f}]"

    known = table[table["rho.raw"].notna()]
    rows = [
        [str(data), title, *(show(rows, kind) for kind in LATENTS), both(rows, "leak_ratio", 3)]
        for data, of_data in known.groupby("data")
        for title, rows in by_method(of_data)
    ]
    note = (
        "Brackets contain the 95 % bootstrap interval over cells, averaged over seeds. Rho can reward leakage, so the leak ratio is "
        "shown beside it."
    )
    if "wnn_source" in known:
        sources = known.dropna(subset="wnn_source").groupby("data")["wnn_source"].unique()
        note += "".join(f" WNN weights of {data}: {'; '.join(names)}." for data, names in sources.items())
    return as_markdown(["data", "method", *LATENTS, "leak ratio"], rows) + "\n\n" + note
