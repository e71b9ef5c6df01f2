"""Table and summary of the dimensions of the specific representations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from indiseek_sc import _keys

if TYPE_CHECKING:
    from mudata import MuData

MAX_DIMENSIONS = 6
"""Largest number of technical dimensions that a sentence names."""


class Dimensions(NamedTuple):
    """Dimensions of all modalities, as shown in a report."""

    sentences: list[str]
    # Columns of ``tl.describe_dimensions``, and ``r2``, on which the flag is based.
    rows: list[dict[str, Any]]
    has_labels: bool
    has_sets: bool
    threshold: float


def find_dimensions(mdata: MuData) -> Dimensions | None:
    """Return the result of ``tl.describe_dimensions`` for the specific representations, or None."""
    if _keys.DIMENSIONS not in mdata.uns:
        return None
    table, params = mdata.uns[_keys.DIMENSIONS], mdata.uns[f"{_keys.DIMENSIONS}_params"]
    has_labels = bool(table["r2_beyond_labels"].notna().any())
    # Cross-fitted R2 may be slightly negative.
    table = table.assign(r2=table["r2_beyond_labels" if has_labels else "r2_technical"].clip(lower=0))
    return Dimensions(
        summarize_dimensions(mdata),
        table.to_dict("records"),
        has_labels,
        bool(params["has_sets"]),
        float(params["threshold"]),
    )


def summarize_dimensions(mdata: MuData) -> list[str]:
    """Return a sentence for each modality on its technical dimensions and their covariates.

    Parameters
    ----------
    mdata
        Data with the result of ``tl.describe_dimensions(mdata)``.

    Returns
    -------
    One sentence or more for each modality.
    """
    sentences = []
    for modality, table in mdata.uns[_keys.DIMENSIONS].groupby("modality", sort=False, observed=True):
        what = f"of the {len(table)} dimensions of the {modality}-specific representation"
        technical = table[table["is_technical"].astype(bool)]
        if table["r2_technical"].isna().all():
            sentences.append(
                f"No technical covariates are available, so the number {what} that follow them is unknown."
            )
        elif technical.empty:
            sentences.append(f"None {what} follows technical covariates.")
        else:
            share = technical["explained_variance"].sum() / table["explained_variance"].sum()
            named = "; ".join(
                f"{row.dimension} ({row.covariates or 'several covariates together'})"
                for row in technical.head(MAX_DIMENSIONS).itertuples()
            )
            more = f" and {len(technical) - MAX_DIMENSIONS} more" if len(technical) > MAX_DIMENSIONS else ""
            verb, subject = ("follows", "It accounts") if len(technical) == 1 else ("follow", "They account")
            sentences.append(
                f"{len(technical)} {what} {verb} technical covariates: {named}{more}. {subject} for {share:.0%} of the "
                "feature variance explained by all dimensions."
            )
    return sentences
