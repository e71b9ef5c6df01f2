"""What the dimensions of the specific representations mean, in rows and in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from indiseek_sc import _keys

if TYPE_CHECKING:
    from mudata import MuData

MOST_DIMENSIONS = 6
"""So many technical dimensions are named in a sentence."""


class Dimensions(NamedTuple):
    """The dimensions of all modalities for a page."""

    sentences: list[str]
    rows: list[dict[str, Any]]  # columns of ``tl.describe_dimensions``, and ``r2``, which decided
    has_labels: bool
    has_sets: bool
    threshold: float


def find_dimensions(mdata: MuData) -> Dimensions | None:
    """Return what ``tl.describe_dimensions`` found of specific representations, if it was called."""
    if _keys.DIMENSIONS not in mdata.uns:
        return None
    table, params = mdata.uns[_keys.DIMENSIONS], mdata.uns[f"{_keys.DIMENSIONS}_params"]
    has_labels = bool(table["r2_beyond_labels"].notna().any())
    # Cross-fitted shares may lie a little below 0.
    table = table.assign(r2=table["r2_beyond_labels" if has_labels else "r2_technical"].clip(lower=0))
    return Dimensions(
        summarize_dimensions(mdata),
        table.to_dict("records"),
        has_labels,
        bool(params["has_sets"]),
        float(params["threshold"]),
    )


def summarize_dimensions(mdata: MuData) -> list[str]:
    """Return a sentence for each modality: how many dimensions are technical, and what they follow.

    Parameters
    ----------
    mdata
        After ``tl.describe_dimensions(mdata)``.
    """
    sentences = []
    for modality, table in mdata.uns[_keys.DIMENSIONS].groupby("modality", sort=False, observed=True):
        what = f"of the {len(table)} dimensions of the {modality}-specific representation"
        technical = table[table["is_technical"].astype(bool)]
        if table["r2_technical"].isna().all():
            sentences.append(f"Technical covariates are not known, so it cannot be said how many {what} follow them.")
        elif technical.empty:
            sentences.append(f"None {what} follows technical covariates.")
        else:
            share = technical["explained_variance"].sum() / table["explained_variance"].sum()
            named = "; ".join(
                f"{row.dimension} ({row.covariates or 'several together'})"
                for row in technical.head(MOST_DIMENSIONS).itertuples()
            )
            more = f" and {len(technical) - MOST_DIMENSIONS} more" if len(technical) > MOST_DIMENSIONS else ""
            verb, whose = ("follows", "It holds") if len(technical) == 1 else ("follow", "They hold")
            sentences.append(
                f"{len(technical)} {what} {verb} technical covariates: {named}{more}. {whose} {share:.0%} of the variance of "
                "features that these dimensions explain."
            )
    return sentences
