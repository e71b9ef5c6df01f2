"""Descriptions of dimensions: features, technical covariates, feature sets and labels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from scipy.sparse import issparse
from sklearn.utils.sparsefuncs import mean_variance_axis

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_name, check_number, check_several, check_whole
from indiseek_sc._fingerprint import record_inputs
from indiseek_sc._lookup import find_obs
from indiseek_sc.metrics import first_of
from indiseek_sc.tl._attribution import attribution_enrichment, has_decoupler, sizes_of_sets
from indiseek_sc.tl._feature_sets import match_sets
from indiseek_sc.tl._latents import (
    Cells,
    find_cells,
    find_complete,
    find_latents,
    find_pair,
    find_several_labels,
    list_places,
)
from indiseek_sc.tl._values import Values, read_values, technical_covariates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger("scvi.indiseek_sc")

OneModality = Literal["specific", "shared"]
"""Kinds of representation that exist once per modality."""

TECHNICAL_R2 = 0.2
"""Explained variance at which technical covariates make a dimension technical."""

NAMED_R2 = 0.05
"""Smallest explained variance for which a covariate is named."""

USED = 1.5
"""Smallest ``use`` of a dimension for which a label is named; 1 is the mean over all cells."""

FEWEST_OF_LABEL = 15
"""Labels with fewer cells are not named."""

SIGNIFICANT = 0.01
"""Largest adjusted p-value for which a feature set is named."""

MOST_NAMED = 3
"""Maximal number of covariates, labels and feature sets named for a dimension."""

_SMALLEST_SET = 4
"""Feature sets with fewer features in the data are not scored."""

_FEWEST_CELLS = 20
"""Minimal number of cells for regressions with five-fold cross-validation."""

_MOST_CELLS = 5_000
"""Maximal number of cells for regressions and loadings; the error of an R2 is then about .01."""


def describe_dimensions(
    mdata: MuData,
    label_key: str | None = None,
    *,
    kind: OneModality = "specific",
    covariates: Sequence[str] | str = (),
    network: pd.DataFrame | None = None,
    threshold: float = TECHNICAL_R2,
    n_features: int = 5,
    rna_layer: str | None = None,
    adt_layer: str | None = None,
    modalities: Mapping[str, str] | None = None,
    cells: Cells = "all",
    seed: int = 0,
) -> pd.DataFrame:
    """Describe each dimension by features, technical covariates, feature sets and labels.

    **Features.** The loading of a feature is the slope of its log-normalised values on the
    dimension, per standard deviation of the dimension. It requires no model and agrees with the
    Jacobian of the decoder (``docs/dimensions.md``).

    **Technical covariates** are computed from counts, as far as the data contain them: the library
    sizes of RNA and proteins, the number of genes, the percentages of mitochondrial, ribosomal
    protein, dissociation stress, haemoglobin and platelet genes, and the levels of isotype controls
    and platelet proteins. The covariates of the model and ``covariates`` are added. For each
    covariate and for all together, a regression on splines yields the explained variance of the
    dimension on held-out folds, see :func:`indiseek_sc.metrics.explained_variance`.

    **Technical dimensions.** A dimension is called technical if all covariates together explain at
    least ``threshold`` of its variance; with labels, beyond what the labels explain. This matters
    for shared representations: cell types differ in library size and in ribosomal content, and a
    dimension that separates types is not an artefact. The default of .2 was chosen on specific
    representations of four data sets with three trainings each (``docs/dimensions.md``): dimensions
    dominated by mitochondrial, ribosomal, stress or platelet features reach .19 to .78, all others
    stay at .16 or below. The flag is a reason to inspect a dimension, not a verdict: library size,
    ribosomal content and immediate early genes also differ between cell states that coarse labels
    do not distinguish (such as naive and memory T cells). Labels that are themselves clusters of
    cell quality hide technical variation.

    **Feature sets** are scored at both ends of each dimension by :func:`attribution_enrichment`
    (``ulm`` of decoupler) if decoupler is installed (extra ``enrichment``); everything else works
    without it.

    **Labels** use a dimension if their cells lie far from its mean or from each other, see
    :func:`indiseek_sc.metrics.label_use`.

    Parameters
    ----------
    mdata
        Data with representations written by ``model.write_latents(mdata)``.
    label_key
        Column of cell types in ``mdata.obs`` or in ``obs`` of a modality, with or without the
        modality as prefix; optional.
    kind
        ``"specific"`` or ``"shared"``.
    covariates
        Additional technical covariates: numerical or categorical columns of ``obs``, such as
        ``"pct_counts_mt"`` of all genes if ``mdata`` contains only a subset of them.
    network
        Feature sets as in :func:`attribution_enrichment`; by default :func:`feature_sets`.
    threshold
        Explained variance at which a dimension is called technical.
    n_features
        Number of features to name at each end.
    rna_layer, adt_layer
        Layers with counts; by default the values that the model read, or ``X``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as recorded by the
        model.
    cells
        ``"all"`` or ``"held_out"``, which uses only held-out cells as in
        :func:`modality_importance`.
    seed
        Seed of the folds, and of the subsample that is drawn from more than 5,000 cells.

    Returns
    -------
    One row for each modality and dimension: ``modality``, ``kind``, ``dimension``;
    ``standard_deviation``; ``explained_variance``, the share of the variance of all log-normalised
    features of the modality that a line along the dimension explains; ``lower`` and ``upper``, the
    features with the largest loadings at each end; ``is_technical``; ``r2_technical``, the variance
    explained by all technical covariates together; ``r2_beyond_labels``, the variance that they
    explain beyond the labels; ``r2_labels``, the variance explained by labels (both NaN without
    labels); ``covariates``, the largest of those that explain at least .05 by themselves (beyond
    the labels, if there are any); ``labels``, those with at least 15 cells that use the dimension
    at least 1.5 times as much as all cells do; ``sets_lower`` and ``sets_upper``, feature sets with
    an adjusted p-value of at most .01. Names are separated by commas.

    Raises
    ------
    KeyError
        If the representations, labels, covariates or split are missing.
    ValueError
        If an argument is out of range, or too few cells have both representations and all
        covariates.
    ImportError
        If ``network`` is given and decoupler is not installed.

    Notes
    -----
    Written to ``mdata.uns``: this table as ``"indiseek_dimensions"``, the tables that it summarises
    as ``"indiseek_dimensions_covariates"`` (``r2`` and ``r2_beyond_labels`` of each covariate),
    ``"indiseek_dimensions_labels"`` (see :func:`indiseek_sc.metrics.label_use`) and
    ``"indiseek_dimensions_sets"`` (see :func:`attribution_enrichment`), and the arguments as
    ``"indiseek_dimensions_params"``. For shared representations the keys begin with
    ``"indiseek_dimensions_shared"``. Nothing is written if an error is raised.

    References
    ----------
    Ilicic et al. 2016, Genome Biology 17, 29 (quality of cells); Mule et al. 2022, Nature
    Communications 13, 2099 (technical variation of proteins).

    Examples
    --------
    >>> table = isk.tl.describe_dimensions(mdata, "cell_type")
    >>> table.columns[:3].tolist()
    ['modality', 'kind', 'dimension']
    """
    check_number("threshold", threshold, above_zero=True)
    check_whole("n_features", n_features, 1)
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    roles, latents, used = find_complete_pair(mdata, kind, modalities, cells)
    labels = None if label_key is None else find_several_labels(mdata, label_key, used)[used]
    named = [str(name) for name in check_several("covariates", covariates)]
    noted = list(dict.fromkeys([*_list_model_covariates(mdata), *named]))
    columns = pd.DataFrame({name: find_obs(mdata, name, "covariates") for name in noted}, mdata.obs_names)[used]
    drawn = np.sort(rng.permutation(_find_complete_cells(columns))[:_MOST_CELLS])
    rows = np.flatnonzero(used)[drawn]
    layers: dict[_keys.Role, str | None] = {"rna": rna_layer, "adt": adt_layer}
    values = {role: read_values(mdata, role, name, layers[role], rows) for role, name in roles.items()}
    sets = match_sets(mdata, roles)
    technical = technical_covariates(values, sets) | dict(columns.iloc[drawn])

    latent = np.hstack([latents[role][used] for role in roles]).astype(np.float64)
    places = pd.MultiIndex.from_tuples(
        [(name, number) for role, name in roles.items() for number in range(latents[role].shape[1])],
        names=["modality", "dimension"],
    )
    of_modality = {role: places.get_level_values("modality") == name for role, name in roles.items()}
    loadings = {role: find_loadings(values[role], latent[drawn][:, of_modality[role]]) for role in roles}
    explained, r2_labels = _explain(latent[drawn], technical, None if labels is None else labels.iloc[drawn], seed)
    use = None if labels is None else metrics.label_use(latent, labels)
    scored = _score_sets({roles[role]: one.slopes for role, one in loadings.items()}, kind, sets, network)

    table = pd.DataFrame({"kind": kind, "standard_deviation": latent.std(axis=0)}, index=places)
    table["explained_variance"] = np.concatenate([one.explained_variance for one in loadings.values()])
    for end, sign in (("lower", -1), ("upper", 1)):
        table[end] = [name for one in loadings.values() for name in _name_features(sign * one.slopes, n_features)]
        table[f"sets_{end}"] = _name_sets(scored, end, places)
    table = table.assign(**_flag(explained, has_labels=labels is not None, threshold=threshold), r2_labels=r2_labels)
    table["labels"] = "" if use is None else _name_labels(use, len(places))
    table = table.reset_index()[list(_COLUMNS)]

    parts = {"": table, "_covariates": _name_dimensions(explained, places), "_sets": scored}
    parts |= {} if use is None else {"_labels": _name_dimensions(use, places)}
    params = {
        "label_key": label_key or "",  # None cannot be written to a file
        "covariates": named,
        "has_sets": network is not None or has_decoupler(),
        "threshold": threshold,
        "n_features": n_features,
        "fewest_of_label": FEWEST_OF_LABEL,
        "modalities": roles,
        "cells": cells,
        "seed": seed,
    }
    key = _keys.with_latent_suffix(_keys.DIMENSIONS, kind)
    _write(mdata, key, parts, params)
    record_inputs(mdata, key, list_places(mdata, roles, [kind], {}, columns=[label_key, *noted], cells=cells))
    if not technical:
        logger.warning(
            "No technical covariates are available, so no dimension is called technical: the values are not counts, and "
            "the model has no covariates. Name layers with counts (rna_layer, adt_layer) or columns of obs (covariates)."
        )
    return table.copy()


def find_complete_pair(
    mdata: MuData, kind: OneModality, modalities: Mapping[str, str] | None, cells: Cells
) -> tuple[dict[_keys.Role, str], dict[_keys.Role, NDArray[np.floating]], NDArray[np.bool_]]:
    """Find the representations of both modalities, and the cells that have both.

    Parameters
    ----------
    mdata
        Data with representations.
    kind
        Kind of representation.
    modalities
        Names of the modalities by role, or None.
    cells
        Which cells to use.

    Returns
    -------
    Names of the modalities, a representation of each, and a mask of the selected cells that have
    both, shape ``(n_cells,)``.

    Raises
    ------
    KeyError
        If the representations or split are missing.
    ValueError
        If ``kind`` is unknown, or there are too few cells.
    """
    check_name("kind", kind, get_args(OneModality))
    roles = find_pair(mdata, modalities)
    latents = find_latents(mdata, roles, kind, {}, "kind")
    used = find_cells(mdata, cells) & find_complete(latents.values())
    used &= np.logical_and.reduce([mdata.obs_names.isin(mdata[name].obs_names) for name in roles.values()])
    if used.sum() < _FEWEST_CELLS:
        raise ValueError(
            f"mdata: {used.sum()} of the selected cells (cells={cells!r}) have the {kind} representations of both "
            f"modalities; at least {_FEWEST_CELLS} are needed."
        )
    return roles, latents, used


def _list_model_covariates(mdata: MuData) -> list[str]:
    """Return the columns of the batch and covariates that the model was set up with."""
    noted = mdata.uns.get(_keys.SETTINGS, {})
    others = [name for kind in ("categorical", "continuous") for name in noted.get(f"{kind}_covariate_keys", [])]
    return [str(name) for name in [noted.get("batch_key", ""), *others] if str(name)]


def _find_complete_cells(columns: pd.DataFrame) -> NDArray[np.intp]:
    """Return row numbers of the cells without missing covariates.

    Raises
    ------
    ValueError
        If there are too few.
    """
    known = columns.notna().all(axis=1).to_numpy()
    if known.sum() < _FEWEST_CELLS:
        worst = str(columns.isna().sum().idxmax())
        cells = columns.index[columns[worst].isna()].to_numpy()
        raise ValueError(
            f"covariates: {worst!r} is missing in cells {first_of(cells)}, and only {known.sum()} cells have all "
            f"covariates; at least {_FEWEST_CELLS} are needed. Fill in the missing values, or omit the covariate."
        )
    if not known.all():
        logger.info(f"{(~known).sum():,} cells lack a covariate and are excluded from regressions and loadings.")
    return np.flatnonzero(known)


class _Loadings(NamedTuple):
    """Linear fit of the features of a modality along each dimension."""

    slopes: pd.DataFrame  # (n_features, n_dimensions), per standard deviation of the dimension
    explained_variance: NDArray[np.float64]  # (n_dimensions,), of all features


def find_loadings(values: Values, latent: NDArray[np.float64]) -> _Loadings:
    """Compute the loadings of features on each dimension.

    Parameters
    ----------
    values
        Values of the features, in the same cells.
    latent
        Representation, shape ``(n_cells, n_dimensions)``.
    """
    matrix = values.log_normalized().X
    width = latent.std(axis=0)
    scores = (latent - latent.mean(axis=0)) / np.where(width > 0, width, 1.0)
    slopes = np.asarray(matrix.T @ scores) / len(scores)
    variance = mean_variance_axis(matrix, axis=0)[1] if issparse(matrix) else matrix.var(axis=0)
    explained = (slopes**2).sum(axis=0) / max(float(variance.sum()), 1e-30)
    return _Loadings(pd.DataFrame(slopes, index=values.names), explained)


def _explain(
    latent: NDArray[np.float64], technical: Mapping[str, Any], labels: pd.Series | None, seed: int
) -> tuple[pd.DataFrame, NDArray[np.float64]]:
    """Return the variance of each dimension explained by covariates and by labels."""
    r2 = metrics.explained_variance(latent, technical, seed=seed)
    beyond, r2_labels = r2 * np.nan, np.full(len(r2), np.nan)
    if labels is not None:
        beyond = metrics.explained_variance(latent, technical, given=labels, seed=seed)
        r2_labels = metrics.explained_variance(latent, {"labels": labels}, seed=seed)["labels"].to_numpy()
    if not technical:  # NaN rather than 0 without any covariate
        r2, beyond = r2 * np.nan, beyond * np.nan
    long = [
        one.melt(ignore_index=False, var_name="covariate", value_name=name)
        for name, one in (("r2", r2), ("r2_beyond_labels", beyond))
    ]
    table = long[0].assign(r2_beyond_labels=long[1]["r2_beyond_labels"]).reset_index()
    return table.sort_values("dimension", kind="stable", ignore_index=True), r2_labels


def _flag(explained: pd.DataFrame, *, has_labels: bool, threshold: float) -> dict[str, Any]:
    """Return columns of the table: the variance explained by technical covariates, and the flag."""
    wide = explained.pivot(index="dimension", columns="covariate", values=["r2", "r2_beyond_labels"])
    decisive = wide["r2_beyond_labels" if has_labels else "r2"]
    single = decisive.drop(columns=metrics.ALL_COVARIATES)
    return {
        "is_technical": (decisive[metrics.ALL_COVARIATES] >= threshold).to_numpy(),
        "r2_technical": wide["r2"][metrics.ALL_COVARIATES].to_numpy(),
        "r2_beyond_labels": wide["r2_beyond_labels"][metrics.ALL_COVARIATES].to_numpy(),
        "covariates": [_join(row[row >= NAMED_R2].nlargest(MOST_NAMED).index) for _, row in single.iterrows()],
    }


def _name_features(loadings: pd.DataFrame, n_features: int) -> list[str]:
    """Return the features with the largest positive loadings on each dimension."""
    largest = (loadings[column].nlargest(n_features) for column in loadings)
    return [_join(one.index[one > 0]) for one in largest]


def _name_labels(use: pd.DataFrame, n_dimensions: int) -> NDArray[np.object_]:
    """Return the labels that use each dimension most."""
    named = use[(use["use"] >= USED) & (use["n_cells"] >= FEWEST_OF_LABEL)].sort_values("use", ascending=False)
    names = named.groupby("dimension")["label"].agg(lambda labels: _join(labels.head(MOST_NAMED)))
    return names.reindex(range(n_dimensions)).fillna("").to_numpy()


def _score_sets(
    loadings: Mapping[str, pd.DataFrame], kind: str, own: pd.DataFrame, network: pd.DataFrame | None
) -> pd.DataFrame:
    """Score feature sets at both ends of each dimension.

    Without decoupler an empty table is returned, unless the user passed a network.
    """
    if network is None and not has_decoupler():
        logger.info(
            'Feature sets are not scored because decoupler is not installed: pip install "indiseek_sc[enrichment]".'
        )
        return pd.DataFrame()
    network = own if network is None else network
    scorable = [
        modality
        for modality, slopes in loadings.items()
        if (sizes_of_sets(network, slopes.index) >= _SMALLEST_SET).any()
    ]
    if not scorable and network is own:
        return pd.DataFrame()
    tables = [_as_attributions(loadings[modality], modality, kind) for modality in scorable or loadings]
    scored = attribution_enrichment(pd.concat(tables, ignore_index=True), network, minimum_size=_SMALLEST_SET)
    return scored.drop(columns="group")


def _as_attributions(slopes: pd.DataFrame, modality: str, kind: str) -> pd.DataFrame:
    """Return loadings in the format of ``model.feature_attribution``."""
    table = slopes.rename_axis("feature").reset_index()
    table = table.melt("feature", var_name="dimension", value_name="attribution")
    return table.assign(modality=modality, kind=kind, method="slope", group="all", magnitude=table["attribution"].abs())


def _name_sets(scored: pd.DataFrame, end: str, places: pd.MultiIndex) -> NDArray[np.object_]:
    """Return the significant feature sets at one end of each dimension."""
    if scored.empty:
        return np.full(len(places), "", dtype=object)
    named = scored[(scored["end"] == end) & (scored["p_value"] <= SIGNIFICANT) & (scored["rank"] <= MOST_NAMED)]
    return named.groupby(["modality", "dimension"])["source"].agg(_join).reindex(places).fillna("").to_numpy()


def _name_dimensions(table: pd.DataFrame, places: pd.MultiIndex) -> pd.DataFrame:
    """Replace running numbers of dimensions by the modality and the number within it."""
    own = places[table["dimension"]].to_frame(index=False)
    return pd.concat([own, table.drop(columns="dimension")], axis=1)


def _write(mdata: MuData, key: str, parts: Mapping[str, pd.DataFrame], params: Mapping[str, Any]) -> None:
    """Replace the tables in ``mdata.uns``, and remove those that were not computed again."""
    for part in ("", "_covariates", "_labels", "_sets"):
        mdata.uns.pop(f"{key}{part}", None)
        if part in parts and len(parts[part]):
            mdata.uns[f"{key}{part}"] = parts[part]
    # Empty lists cannot be written to a file.
    mdata.uns[f"{key}_params"] = {name: value for name, value in params.items() if not isinstance(value, list) or value}


def _join(names: Iterable[object]) -> str:
    """Return names separated by commas."""
    return ", ".join(map(str, names))


_COLUMNS = (
    *("modality", "kind", "dimension", "standard_deviation", "explained_variance", "lower", "upper"),
    *("is_technical", "r2_technical", "r2_beyond_labels", "r2_labels", "covariates", "labels"),
    *("sets_lower", "sets_upper"),
)
