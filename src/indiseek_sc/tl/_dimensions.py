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
from indiseek_sc._fingerprint import note_inputs
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
"""Representations that each modality has one of."""

TECHNICAL_R2 = 0.2
"""A dimension of which technical covariates explain this share of the variance is technical."""

NAMED_R2 = 0.05
"""A covariate that explains this share by itself is named."""

USED = 1.5
"""A label is named if its cells deviate so many times as much as all cells, on average of squares."""

FEWEST_OF_LABEL = 15
"""Labels of fewer cells are not named."""

SIGNIFICANT = 0.01
"""Sets with a larger adjusted p-value are not named."""

MOST_NAMED = 3
"""At most so many covariates, labels and sets are named of a dimension."""

_SMALLEST_SET = 4
"""Sets with fewer features in the data are not scored."""

_FEWEST_CELLS = 20
"""Regressions in five folds on fewer cells say nothing."""

_MOST_CELLS = 5_000
"""Regressions and loadings are of at most so many cells: the error of an R2 is about .01 then."""


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
    r"""Describe each dimension of a representation: features, technical covariates, sets and labels.

    **Features.** The loading of a feature is the slope of its log-normalised values on the
    dimension, per standard deviation of the dimension. It needs no model, and agrees with the
    decoder's Jacobian (``docs/dimensions.md``).

    **Technical covariates** are computed from counts: the library size of RNA and of proteins,
    the number of genes, the percentages of mitochondrial and of ribosomal protein genes, of genes of
    dissociation stress, of haemoglobin and of platelets, and the levels of isotype controls and of
    platelet proteins, as far as the data have them. Beside them stand the covariates that the
    model was given, and ``covariates``. Of each, and of all together, the share of the variance of
    the dimension is estimated that a regression on splines explains on cells that it was not fitted
    on, see :func:`indiseek_sc.metrics.explained_variance`.

    **The flag.** A dimension is technical if all covariates together explain ``threshold`` of its
    variance; with labels, beyond what the labels explain. This matters for shared representations:
    cell types differ in library size and in ribosomal content, and a dimension that separates
    types is no artefact. The default of .2 was chosen on specific representations of four data sets
    with three trainings each (``docs/dimensions.md``): dimensions that are led by mitochondrial,
    ribosomal, stress or platelet features reach .19 to .78, all others stay at .16 or below. A flag is
    a reason to look, not a verdict: library size, ribosomal content and immediate early genes also
    differ between states of a cell, which coarse labels do not name (naive and memory T cells, say).
    Labels that are themselves clusters of quality hide what is technical.

    **Sets** of features are scored at both ends of each dimension by
    :func:`attribution_enrichment` (decoupler's ``ulm``), if decoupler is installed (extra
    ``enrichment``); all else does not need it.

    **Labels** use a dimension if their cells lie far from its mean, or from each other, see
    :func:`indiseek_sc.metrics.label_use`.

    Parameters
    ----------
    mdata
        With representations that ``model.write_latents(mdata)`` wrote.
    label_key
        Column of cell types, in ``mdata.obs`` or in a modality's obs, with or without the modality
        in front; none is needed.
    kind
        ``"specific"`` or ``"shared"``.
    covariates
        Further technical covariates: columns of obs, numbers or categories, such as
        ``"pct_counts_mt"`` of all genes where ``mdata`` has but some of them.
    network
        Sets of features as in :func:`attribution_enrichment`; by default :func:`feature_sets`.
    threshold
        Share of the variance from which a dimension is technical.
    n_features
        How many features to name at each end.
    rna_layer, adt_layer
        Layers with counts; by default the values that the model read, or ``X``.
    modalities
        Names of the modalities in the roles ``"rna"`` and ``"adt"``; by default as the model noted
        them.
    cells
        ``"held_out"`` looks only at cells that the model was not fitted on, as
        :func:`modality_importance` has it.
    seed
        Decides the folds, and which cells are looked at where there are more than 5,000.

    Returns
    -------
    One row for each modality and dimension: ``modality``, ``kind``, ``dimension``;
    ``standard_deviation``; ``explained_variance``, the share of the variance of all log-normalised
    features of the modality that a line along the dimension explains; ``lower`` and ``upper``, the
    features with the largest loadings at each end; ``is_technical``; ``r2_technical``, the share
    that all technical covariates together explain; ``r2_beyond_labels``, what they explain beyond
    the labels; ``r2_labels``, what labels explain (both NaN without labels); ``covariates``, the
    largest of those that explain .05 or more by themselves (beyond the labels, if there are any);
    ``labels``, those of at least 15 cells that use the dimension 1.5 times as much as all cells do;
    ``sets_lower`` and ``sets_upper``, sets with an adjusted p-value of at most .01. Names are
    separated by commas.

    Notes
    -----
    Written to ``mdata.uns``: this table as ``"indiseek_dimensions"``, and what it sums up as
    ``"indiseek_dimensions_covariates"`` (``r2`` and ``r2_beyond_labels`` of each covariate),
    ``"indiseek_dimensions_labels"`` (see :func:`indiseek_sc.metrics.label_use`),
    ``"indiseek_dimensions_sets"`` (see :func:`attribution_enrichment`) and
    ``"indiseek_dimensions_params"`` (the arguments). Of the shared representation they begin with
    ``"indiseek_dimensions_shared"``. Nothing is written if an error is raised.

    Raises
    ------
    KeyError
        If representations, labels, covariates or the split are not there.
    ValueError
        If an argument is out of its range, or too few cells have both representations and all
        covariates.
    ImportError
        If ``network`` is given and decoupler is not installed.

    References
    ----------
    Ilicic et al. 2016, Genome Biology 17, 29 (quality of cells); Mule et al. 2022, Nature
    Communications 13, 2099 (technical variation of proteins).
    """
    check_number("threshold", threshold, above_zero=True)
    check_whole("n_features", n_features, 1)
    rng = np.random.default_rng(check_whole("seed", seed, 0))
    roles, latents, used = find_complete_pair(mdata, kind, modalities, cells)
    labels = None if label_key is None else find_several_labels(mdata, label_key, used)[used]
    named = [str(name) for name in check_several("covariates", covariates)]
    noted = list(dict.fromkeys([*_list_noted(mdata), *named]))
    columns = pd.DataFrame({name: find_obs(mdata, name, "covariates") for name in noted}, mdata.obs_names)[used]
    drawn = np.sort(rng.permutation(_find_known(columns))[:_MOST_CELLS])
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

    parts = {"": table, "_covariates": _place(explained, places), "_sets": scored}
    parts |= {} if use is None else {"_labels": _place(use, places)}
    params = {
        "label_key": label_key or "",  # None does not survive a file
        "covariates": named,
        "has_sets": network is not None or has_decoupler(),
        "threshold": threshold,
        "n_features": n_features,
        "fewest_of_label": FEWEST_OF_LABEL,
        "modalities": roles,
        "cells": cells,
        "seed": seed,
    }
    key = _keys.of_latent(_keys.DIMENSIONS, kind)
    _write(mdata, key, parts, params)
    note_inputs(mdata, key, list_places(mdata, roles, [kind], {}, columns=[label_key, *noted], cells=cells))
    if not technical:
        logger.warning(
            "No technical covariate is known, so no dimension is found technical: the values are no counts, and the model has no "
            "covariates. Name layers with counts (rna_layer, adt_layer), or columns of obs (covariates)."
        )
    return table.copy()


def find_complete_pair(
    mdata: MuData, kind: OneModality, modalities: Mapping[str, str] | None, cells: Cells
) -> tuple[dict[_keys.Role, str], dict[_keys.Role, NDArray[np.floating]], NDArray[np.bool_]]:
    """Names of the modalities, a representation of each, and which cells have both."""
    check_name("kind", kind, get_args(OneModality))
    roles = find_pair(mdata, modalities)
    latents = find_latents(mdata, roles, kind, {}, "kind")
    used = find_cells(mdata, cells) & find_complete(latents.values())
    used &= np.logical_and.reduce([mdata.obs_names.isin(mdata[name].obs_names) for name in roles.values()])
    if used.sum() < _FEWEST_CELLS:
        raise ValueError(
            f"mdata: of the cells looked at (cells={cells!r}) {used.sum()} have the {kind} representations of both modalities; "
            f"at least {_FEWEST_CELLS} are needed."
        )
    return roles, latents, used


def _list_noted(mdata: MuData) -> list[str]:
    """Columns of the covariates that the model was given."""
    noted = mdata.uns.get(_keys.SETTINGS, {})
    others = [name for kind in ("categorical", "continuous") for name in noted.get(f"{kind}_covariate_keys", [])]
    return [str(name) for name in [noted.get("batch_key", ""), *others] if str(name)]


def _find_known(columns: pd.DataFrame) -> NDArray[np.intp]:
    """Row numbers of the cells of which all covariates are known.

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
            f"covariates: {worst!r} is missing in cells {first_of(cells)}, and only {known.sum()} cells have all covariates; at "
            f"least {_FEWEST_CELLS} are needed. Fill it in, or leave it out."
        )
    if not known.all():
        logger.info(f"{(~known).sum():,} cells lack a covariate and are left out of regressions and loadings.")
    return np.flatnonzero(known)


class _Loadings(NamedTuple):
    """What a line along each dimension says of the features of a modality."""

    slopes: pd.DataFrame  # (n_features, n_dimensions), per standard deviation of the dimension
    explained_variance: NDArray[np.float64]  # (n_dimensions,), of all features


def find_loadings(values: Values, latent: NDArray[np.float64]) -> _Loadings:
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
    """What each covariate explains of each dimension, a row for each pair, and what labels explain."""
    r2 = metrics.explained_variance(latent, technical, seed=seed)
    beyond, r2_labels = r2 * np.nan, np.full(len(r2), np.nan)
    if labels is not None:
        beyond = metrics.explained_variance(latent, technical, given=labels, seed=seed)
        r2_labels = metrics.explained_variance(latent, {"labels": labels}, seed=seed)["labels"].to_numpy()
    if not technical:  # where nothing is known, nothing is explained or not explained
        r2, beyond = r2 * np.nan, beyond * np.nan
    long = [
        one.melt(ignore_index=False, var_name="covariate", value_name=name)
        for name, one in (("r2", r2), ("r2_beyond_labels", beyond))
    ]
    table = long[0].assign(r2_beyond_labels=long[1]["r2_beyond_labels"]).reset_index()
    return table.sort_values("dimension", kind="stable", ignore_index=True), r2_labels


def _flag(explained: pd.DataFrame, *, has_labels: bool, threshold: float) -> dict[str, Any]:
    """Columns of the table: what technical covariates explain, and whether a dimension is technical."""
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
    """The features with the largest positive loadings on each dimension."""
    largest = (loadings[column].nlargest(n_features) for column in loadings)
    return [_join(one.index[one > 0]) for one in largest]


def _name_labels(use: pd.DataFrame, n_dimensions: int) -> NDArray[np.object_]:
    """The labels that use each dimension most."""
    named = use[(use["use"] >= USED) & (use["n_cells"] >= FEWEST_OF_LABEL)].sort_values("use", ascending=False)
    names = named.groupby("dimension")["label"].agg(lambda labels: _join(labels.head(MOST_NAMED)))
    return names.reindex(range(n_dimensions)).fillna("").to_numpy()


def _score_sets(
    loadings: Mapping[str, pd.DataFrame], kind: str, own: pd.DataFrame, network: pd.DataFrame | None
) -> pd.DataFrame:
    """Sets at both ends of each dimension; none without decoupler, unless a network was given."""
    if network is None and not has_decoupler():
        logger.info('Sets of features are not scored: that needs decoupler, pip install "indiseek_sc[enrichment]".')
        return pd.DataFrame()
    network = own if network is None else network
    able = [
        modality
        for modality, slopes in loadings.items()
        if (sizes_of_sets(network, slopes.index) >= _SMALLEST_SET).any()
    ]
    if not able and network is own:
        return pd.DataFrame()
    tables = [_as_attributions(loadings[modality], modality, kind) for modality in able or loadings]
    scored = attribution_enrichment(pd.concat(tables, ignore_index=True), network, minimum_size=_SMALLEST_SET)
    return scored.drop(columns="group")


def _as_attributions(slopes: pd.DataFrame, modality: str, kind: str) -> pd.DataFrame:
    """Loadings in the form of a table of ``model.feature_attribution``."""
    table = slopes.rename_axis("feature").reset_index()
    table = table.melt("feature", var_name="dimension", value_name="attribution")
    return table.assign(modality=modality, kind=kind, method="slope", group="all", magnitude=table["attribution"].abs())


def _name_sets(scored: pd.DataFrame, end: str, places: pd.MultiIndex) -> NDArray[np.object_]:
    if scored.empty:
        return np.full(len(places), "", dtype=object)
    named = scored[(scored["end"] == end) & (scored["p_value"] <= SIGNIFICANT) & (scored["rank"] <= MOST_NAMED)]
    return named.groupby(["modality", "dimension"])["source"].agg(_join).reindex(places).fillna("").to_numpy()


def _place(table: pd.DataFrame, places: pd.MultiIndex) -> pd.DataFrame:
    """Turn running numbers of dimensions into modalities and numbers within these."""
    own = places[table["dimension"]].to_frame(index=False)
    return pd.concat([own, table.drop(columns="dimension")], axis=1)


def _write(mdata: MuData, key: str, parts: Mapping[str, pd.DataFrame], params: Mapping[str, Any]) -> None:
    for part in ("", "_covariates", "_labels", "_sets"):
        mdata.uns.pop(f"{key}{part}", None)  # of former labels, say
        if part in parts and len(parts[part]):
            mdata.uns[f"{key}{part}"] = parts[part]
    # Nor does an empty list survive a file.
    mdata.uns[f"{key}_params"] = {name: value for name, value in params.items() if not isinstance(value, list) or value}


def _join(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


_COLUMNS = (
    *("modality", "kind", "dimension", "standard_deviation", "explained_variance", "lower", "upper"),
    *("is_technical", "r2_technical", "r2_beyond_labels", "r2_labels", "covariates", "labels"),
    *("sets_lower", "sets_upper"),
)
