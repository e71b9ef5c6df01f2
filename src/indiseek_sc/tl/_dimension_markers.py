"""Tests of features between the two ends of a dimension."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
import scanpy as sc

from indiseek_sc import _keys
from indiseek_sc._checks import check_name, check_share, check_whole
from indiseek_sc._lookup import find_labels
from indiseek_sc.tl._dimensions import OneModality, find_complete_pair
from indiseek_sc.tl._latents import Cells
from indiseek_sc.tl._values import Values, read_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mudata import MuData
    from numpy.typing import NDArray

Test = Literal["wilcoxon", "t-test", "t-test_overestim_var"]
"""Tests of scanpy that compare two groups of cells."""

_FEWEST_AT_END = 3
"""Minimal number of cells at each end."""


def dimension_markers(
    mdata: MuData,
    dimension: int,
    *,
    modality: str,
    kind: OneModality = "specific",
    share: float = 0.1,
    label_key: str | None = None,
    method: Test = "wilcoxon",
    rna_layer: str | None = None,
    adt_layer: str | None = None,
    modalities: Mapping[str, str] | None = None,
    cells: Cells = "all",
) -> pd.DataFrame:
    """Test which genes and proteins differ between the two ends of a dimension.

    The cells with the highest and with the lowest values of the dimension are compared by scanpy's
    ``rank_genes_groups`` on log-normalised values of both modalities (logarithms of counts scaled
    to the median library size).

    A dimension is a function of the features of its own modality, and its ends are selected by it.
    The p-values of these features are therefore far too small even without any effect; use them for
    ranking only. The features of the other modality do not enter the dimension, so their p-values
    are valid, except that cells of one donor are not independent.

    Parameters
    ----------
    mdata
        Data with representations written by ``model.write_latents(mdata)``.
    dimension
        Number of the dimension, starting at 0.
    modality
        Name of the modality in the MuData whose representation is used.
    kind
        ``"specific"`` or ``"shared"``.
    share
        Share of the cells at each end.
    label_key
        Column of cell types. If given, the ends are selected within each type, so that both ends
        have the same composition and differences between types do not appear; cells without a type
        are excluded.
    method
        ``"wilcoxon"``, ``"t-test"`` or ``"t-test_overestim_var"``.
    rna_layer, adt_layer, modalities, cells
        As in :func:`describe_dimensions`.

    Returns
    -------
    One row for each feature of both modalities, those of ``modality`` first, each in decreasing
    order of score: ``modality`` and ``feature``; ``end``, ``"upper"`` or ``"lower"``, where values
    are higher; ``score`` of the test, positive at the upper end; ``log2_fold_change`` of mean
    normalised counts, upper over lower; ``p_value``; ``p_adjusted``, by the method of Benjamini and
    Hochberg over the features of the modality; and ``fraction_upper`` and ``fraction_lower``, the
    shares of cells with a value above 0. The number of cells at each end is in
    ``attrs["n_cells"]``.

    Raises
    ------
    KeyError
        If the representation, labels or split are missing.
    ValueError
        If the modality or dimension does not exist, an argument is out of range, or there would be
        fewer than 3 cells at an end.

    Examples
    --------
    >>> markers = isk.tl.dimension_markers(mdata, 0, modality="rna")
    >>> len(markers) == mdata["rna"].n_vars + mdata["adt"].n_vars
    True
    """
    roles, latents, used = find_complete_pair(mdata, kind, modalities, cells)
    check_name("modality", modality, list(roles.values()))
    check_name("method", method, get_args(Test))
    own = next(role for role, name in roles.items() if name == modality)
    if check_whole("dimension", dimension, 0) >= latents[own].shape[1]:
        raise ValueError(
            f"dimension={dimension}: the {kind} representation of {modality!r} has the dimensions 0 to "
            f"{latents[own].shape[1] - 1}."
        )
    if check_share("share", share) > 0.5:
        raise ValueError(f"share={share} must not exceed .5; otherwise the two ends overlap.")
    groups = pd.Series(0, index=mdata.obs_names)
    if label_key is not None:
        labels = find_labels(mdata, label_key, "label_key")
        used &= labels.notna().to_numpy()
        groups = labels.cat.codes
    rows = np.flatnonzero(used)
    # Ranks break ties, so that both ends have the same number of cells.
    place = pd.Series(latents[own][rows, dimension]).groupby(groups.to_numpy()[rows]).rank(method="first").to_numpy()
    n_of_group = pd.Series(rows).groupby(groups.to_numpy()[rows]).transform("size").to_numpy()
    n_of_end = np.floor(share * n_of_group)
    is_lower, is_upper = place <= n_of_end, place > n_of_group - n_of_end
    if (n_cells := int(is_lower.sum())) < _FEWEST_AT_END:
        raise ValueError(
            f"share={share} of {len(rows):,} cells{' within each label' if label_key else ''} leaves {n_cells} at each "
            f"end; at least {_FEWEST_AT_END} are needed. Raise share."
        )
    ends = np.concatenate([rows[is_upper], rows[is_lower]])
    is_upper = np.arange(len(ends)) < n_cells
    layers: dict[_keys.Role, str | None] = {"rna": rna_layer, "adt": adt_layer}
    order = sorted(roles, key=lambda role: role != own)
    tables = [
        _compare_ends(read_values(mdata, role, roles[role], layers[role], ends), is_upper, method) for role in order
    ]
    table = pd.concat(tables, ignore_index=True)
    table.attrs["n_cells"] = n_cells
    return table


def _compare_ends(values: Values, is_upper: NDArray[np.bool_], method: str) -> pd.DataFrame:
    """Test the features of one modality between the cells at the upper and lower end."""
    cells = values.log_normalized()
    cells.obs["end"] = pd.Categorical(np.where(is_upper, "upper", "lower"))
    with warnings.catch_warnings():
        # Fold changes are undefined for values that are negative, which only non-counts can be.
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        sc.tl.rank_genes_groups(
            cells, "end", groups=["upper"], reference="lower", method=method, pts=True, use_raw=False
        )
    found = sc.get.rank_genes_groups_df(cells, "upper")
    fractions = cells.uns["rank_genes_groups"]["pts"].loc[found["names"]]
    return pd.DataFrame(
        {
            "modality": values.modality,
            "feature": found["names"].astype(str),
            "end": np.where(found["scores"] > 0, "upper", "lower"),
            "score": found["scores"].astype(float),
            "log2_fold_change": found["logfoldchanges"].astype(float),
            "p_value": found["pvals"],
            "p_adjusted": found["pvals_adj"],
            "fraction_upper": fractions["upper"].to_numpy(),
            "fraction_lower": fractions["lower"].to_numpy(),
        }
    )
