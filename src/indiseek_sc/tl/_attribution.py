"""Feature attributions: summed over dimensions, written as loadings, and set enrichment."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc import _keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

COLUMNS = ("modality", "kind", "method", "dimension", "group", "feature", "attribution", "magnitude")
"""Columns of a table of attributions."""


def check_attributions(table: pd.DataFrame, one_of_each: Sequence[str] = ()) -> None:
    """Check that ``table`` has the format of ``model.feature_attribution``.

    Parameters
    ----------
    table
        Object to check.
    one_of_each
        Columns that must contain a single value.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame.
    KeyError
        If a column is missing.
    ValueError
        If the table has no rows, or several values in one of the columns ``one_of_each``.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f"table must be a DataFrame returned by model.feature_attribution, but is {type(table).__name__}."
        )
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"table lacks the columns {lacking}; it has {list(table.columns)}. Pass the table "
            "returned by model.feature_attribution."
        )
    if table.empty:
        raise ValueError(
            "table has no rows. Pass the table returned by model.feature_attribution for a representation with at "
            "least one dimension."
        )
    for column in one_of_each:
        if len(several := list(table[column].unique())) > 1:
            raise ValueError(
                f"table contains several values of {column}: {several}. Select one: table[table[{column!r}] == {several[0]!r}]."
            )


def choose_group(table: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """Return the rows of one group of cells.

    Parameters
    ----------
    table
        Attributions.
    group
        Name of the group; may be None if the table contains only one.

    Raises
    ------
    ValueError
        If the table contains several groups and none is named, or does not contain ``group``.
    """
    groups = [str(name) for name in table["group"].unique()]
    if group is None and len(groups) > 1:
        raise ValueError(f"group: the table contains {len(groups)} groups of cells; name one of {groups}.")
    if group is not None and str(group) not in groups:
        raise ValueError(f"group={group!r} is not in the table, which contains {groups}.")
    return table[table["group"].astype(str) == (groups[0] if group is None else str(group))]


def block_attribution(table: pd.DataFrame) -> pd.DataFrame:
    """Sum squared attributions over the dimensions of a representation.

    The result ranks genes and proteins by their influence on the representation as a whole. Squares
    are summed because the signs of different dimensions are arbitrary; the sum of squares is
    invariant to rotations of the representation.

    Parameters
    ----------
    table
        Table returned by ``model.feature_attribution``, with any representations, methods and
        groups.

    Returns
    -------
    One row for each modality, kind, method, group and feature, in the order of the table:
    ``magnitude``, the square root of the squared magnitudes summed over dimensions; ``share``, its
    square relative to the sum of squares over all features; ``rank`` among the features, where 1 is
    the largest; and ``dimension``, the dimension that contributes most.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame.
    KeyError
        If the table lacks a column.
    ValueError
        If the table has no rows.

    Examples
    --------
    >>> table = model.feature_attribution(modality="rna")
    >>> isk.tl.block_attribution(table).columns.tolist()[-4:]
    ['magnitude', 'share', 'rank', 'dimension']
    """
    check_attributions(table)
    block = ["modality", "kind", "method", "group"]
    squares = table[[*block, "feature", "dimension"]].assign(square=table["magnitude"] ** 2)
    grouped = squares.groupby([*block, "feature"], observed=True, sort=False)
    total = grouped["square"].sum()
    largest = squares.loc[grouped["square"].idxmax()].set_index([*block, "feature"])["dimension"]
    result = total.rename("square").to_frame().assign(dimension=largest).reset_index()
    by_block = result.groupby(block, observed=True, sort=False)["square"]
    result["magnitude"] = np.sqrt(result["square"])
    result["share"] = result["square"] / by_block.transform("sum")
    result["rank"] = by_block.rank(ascending=False, method="first").astype(int)
    return result[[*block, "feature", "magnitude", "share", "rank", "dimension"]]


def write_attribution(mdata: MuData, table: pd.DataFrame, *, group: str | None = None) -> None:
    """Write attributions to ``varm`` of each modality, as scanpy stores PCA loadings.

    Parameters
    ----------
    mdata
        Data to write to.
    table
        Table returned by ``model.feature_attribution``, with one kind of representation and one
        method, of one modality or both.
    group
        Name of the group of cells, required if the table contains several.

    Raises
    ------
    TypeError
        If ``table`` is not a DataFrame.
    KeyError
        If the table lacks a column, or ``mdata`` lacks a modality or a feature of the table.
    ValueError
        If the table has no rows or contains several kinds, methods or unselected groups, or if the
        entry of ``varm`` exists and was not written by this function.

    Notes
    -----
    Written: ``mdata[modality].varm["indiseek_<kind>"]``, shape ``(n_features, n_dimensions)``, NaN
    for features that the model does not use. The method and the group are recorded in
    ``uns["indiseek_attribution"]``. Entries written by this function before are replaced; an entry
    of the same name from another source raises an error. Nothing is written if an error is raised.

    Examples
    --------
    >>> isk.tl.write_attribution(mdata, model.feature_attribution(modality="rna"))
    >>> mdata["rna"].varm["indiseek_specific"].shape[0] == mdata["rna"].n_vars
    True
    """
    check_attributions(table, ["kind", "method"])
    table = choose_group(table, group)
    kind = str(table["kind"].iloc[0])
    key = _keys.loadings(kind)
    noted = {name: dict(kinds) for name, kinds in mdata.uns.get(_keys.ATTRIBUTION, {}).items()}
    found = {}
    for modality, part in table.groupby("modality", observed=True, sort=False):
        name = str(modality)
        found[name] = _pivot_loadings(mdata, name, part)
        if key in mdata[name].varm and kind not in noted.get(name, {}):
            raise ValueError(
                f"mdata[{name!r}].varm[{key!r}] already exists and was not written by this function. Rename or "
                "delete it."
            )
        noted.setdefault(name, {})[kind] = {
            "method": str(table["method"].iloc[0]),
            "group": str(table["group"].iloc[0]),
        }
    for name, loadings in found.items():
        mdata[name].varm[key] = loadings
    mdata.uns[_keys.ATTRIBUTION] = noted


def _pivot_loadings(mdata: MuData, modality: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Return attributions as a matrix of features by dimensions, in the order of ``var_names``."""
    if modality not in mdata.mod:
        raise KeyError(f"mdata lacks the modality {modality!r} of the table; it has {list(mdata.mod)}.")
    matrix = table.pivot(index="feature", columns="dimension", values="attribution")
    names = mdata[modality].var_names
    lacking = [str(name) for name in matrix.index if name not in names]
    if lacking:
        raise KeyError(
            f"mdata[{modality!r}] lacks {len(lacking):,} of the {len(matrix):,} features of the table, such as "
            f"{lacking[0]!r}. Write to the data that the model was trained on; features of an input in obsm cannot be "
            "written to varm."
        )
    return matrix.reindex(names).to_numpy(dtype=np.float64)


_BLOCK = ["modality", "kind", "dimension", "group"]
_ENDS = {"upper": 1.0, "lower": -1.0}
"""Sign by which attributions are multiplied to score each end of a dimension."""


def attribution_enrichment(
    table: pd.DataFrame,
    network: pd.DataFrame,
    *,
    method: str = "ulm",
    minimum_size: int = 5,
    **kwargs: Any,
) -> pd.DataFrame:
    """Score gene or protein sets at both ends of each dimension with decoupler.

    Sets whose features increase along a dimension score high at its upper end, sets whose features
    decrease along it at its lower end. The background consists of the features that the model uses.
    Most methods assume independent features in their p-values; since features are correlated, use
    the p-values for ranking only.

    Parameters
    ----------
    table
        Table returned by ``model.feature_attribution(method="decoder_jacobian")``, with one method
        and any representations and groups.
    network
        Feature sets with one row per set and feature: ``source`` (name of the set), ``target``
        (feature) and optionally ``weight``, as provided by decoupler or OmniPath. Nothing is
        downloaded.
    method
        A method of ``decoupler.mt`` that scores sets from the values of all features, such as
        ``"ulm"``, ``"zscore"`` or ``"gsea"``.
    minimum_size
        Sets with fewer features in a modality are not scored.
    **kwargs
        Passed to the method, for example ``times=1000`` to ``"gsea"``.

    Returns
    -------
    Sets with a positive score, one row for each modality, kind, dimension, group, ``end`` and
    ``source``: ``score``, ``p_value`` (adjusted by decoupler over the sets of one end; NaN if the
    method has none) and ``rank``, starting at 1.

    Raises
    ------
    ImportError
        If decoupler is not installed.
    TypeError
        If ``table`` is not a DataFrame.
    KeyError
        If the table or the network lacks a column.
    ValueError
        If the table contains several methods, no set is large enough in a modality, or decoupler
        has no such method.

    Examples
    --------
    >>> table = model.feature_attribution(modality="rna")
    >>> network = pd.DataFrame({"source": "first genes", "target": table["feature"].unique()[:10]})
    >>> ends = isk.tl.attribution_enrichment(table, network)  # doctest: +SKIP
    """
    check_attributions(table, ["method"])
    if lacking := [column for column in ("source", "target") if column not in network]:
        raise KeyError(f"network lacks the columns {lacking}; it has {list(network.columns)}.")
    score = _find_method(method)
    parts = []
    for modality, part in table.groupby("modality", observed=True, sort=False):
        wide = part.pivot(index=_BLOCK, columns="feature", values="attribution")
        _check_overlap(network, [str(name) for name in wide.columns], str(modality), minimum_size)
        for end, sign in _ENDS.items():
            values = pd.DataFrame(
                sign * wide.to_numpy(dtype=float), index=[str(i) for i in range(len(wide))], columns=list(wide.columns)
            )
            scores, p_values = score(values, network, tmin=minimum_size, empty=False, **kwargs)
            parts.append(_rank_sets(wide.index, end, scores, p_values))
    ends = pd.concat(parts, ignore_index=True)
    return ends.sort_values([*_BLOCK, "end", "rank"], ascending=[True] * 4 + [False, True], ignore_index=True)


def _find_method(method: str) -> Callable[..., Any]:
    """Return a method of ``decoupler.mt`` by its name."""
    try:
        import decoupler
    except ImportError as error:
        raise ImportError(
            'Enrichment requires decoupler. Install it with: pip install "indiseek_sc[enrichment]".'
        ) from error
    known = [name for name in dir(decoupler.mt) if callable(getattr(decoupler.mt, name)) and not name.startswith("_")]
    if method not in known:
        raise ValueError(f"method={method!r} is not a method of decoupler.mt, which has: {', '.join(known)}.")
    return getattr(decoupler.mt, method)


def has_decoupler() -> bool:
    """Return whether decoupler is installed."""
    return find_spec("decoupler") is not None


def sizes_of_sets(network: pd.DataFrame, features: Iterable[str]) -> pd.Series:
    """Return the number of ``features`` in each set of a network, for sets with at least one."""
    return network.loc[network["target"].isin(list(features))].groupby("source")["target"].nunique()


def _check_overlap(network: pd.DataFrame, features: list[str], modality: str, minimum_size: int) -> None:
    """Raise an error if no set of the network has enough of the features of a modality."""
    if not (sizes_of_sets(network, features) >= minimum_size).any():
        raise ValueError(
            f"network: none of its {network['source'].nunique():,} sets has minimum_size={minimum_size} features of "
            f"{modality!r}. Feature names look like {features[:3]}, targets like {list(network['target'][:3])}. Lower "
            f"minimum_size, pass sets for this modality, or remove it: table[table['modality'] != {modality!r}]."
        )


def _rank_sets(blocks: pd.MultiIndex, end: str, scores: pd.DataFrame, p_values: pd.DataFrame | None) -> pd.DataFrame:
    """Return the sets with a positive score in each block, in decreasing order of score."""
    order = [str(i) for i in range(len(blocks))]
    values = scores.loc[order].to_numpy(dtype=float)
    p = np.full(values.shape, np.nan) if p_values is None else p_values.loc[order, scores.columns].to_numpy(dtype=float)
    block, source = np.nonzero(values > 0)
    ranked = (
        blocks[block]
        .to_frame(index=False)
        .assign(
            end=end, source=scores.columns.to_numpy()[source], score=values[block, source], p_value=p[block, source]
        )
    )
    ranked["rank"] = ranked.groupby(_BLOCK, observed=True)["score"].rank(ascending=False, method="first").astype(int)
    return ranked
