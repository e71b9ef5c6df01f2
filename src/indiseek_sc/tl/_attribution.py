"""Tables of attributions: summed over a representation, written as loadings, and their enrichment in sets of features."""

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


def check_attributions(table: pd.DataFrame, one_of_each: Sequence[str] = ()) -> None:
    """Check that ``table`` is one of ``model.feature_attribution`` and holds one value only in some of its columns.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If the table has no row, or several values in one of the columns ``one_of_each``.
    """
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"table must be that of model.feature_attribution, but is {type(table).__name__}.")
    lacking = [column for column in COLUMNS if column not in table]
    if lacking:
        raise KeyError(
            f"table lacks the columns {lacking}; it has {list(table.columns)}. Pass that of model.feature_attribution."
        )
    if table.empty:
        raise ValueError(
            "table has no row. Pass that of model.feature_attribution, of a representation that has dimensions."
        )
    for column in one_of_each:
        if len(several := list(table[column].unique())) > 1:
            raise ValueError(
                f"table holds several of {column}: {several}. Choose one: table[table[{column!r}] == {several[0]!r}]."
            )


def choose_group(table: pd.DataFrame, group: str | None) -> pd.DataFrame:
    """Return the rows of one group of cells; it need not be named if there is but one.

    Raises
    ------
    ValueError
        If there are several and none is named, or none of that name.
    """
    groups = [str(name) for name in table["group"].unique()]
    if group is None and len(groups) > 1:
        raise ValueError(f"group: the table holds {len(groups)} groups of cells; name one of {groups}.")
    if group is not None and str(group) not in groups:
        raise ValueError(f"group={group!r} is not in the table, which holds {groups}.")
    return table[table["group"].astype(str) == (groups[0] if group is None else str(group))]


def block_attribution(table: pd.DataFrame) -> pd.DataFrame:
    r"""Sum attributions over the dimensions of a representation: which genes and proteins drive it as a whole.

    Signs of different dimensions have no common meaning, so squares are summed, which a rotation of the representation leaves as they are.

    Parameters
    ----------
    table
        What ``model.feature_attribution`` returned, of any representations, methods and groups.

    Returns
    -------
    One row for each modality, kind, method, group and feature, in the order of the table: ``magnitude``, the root of the sum over dimensions of
    the squared magnitudes; ``share`` of the sum of squares over all features; ``rank`` among the features, 1 the largest; and
    ``dimension``, the one that has most of it.

    Raises
    ------
    KeyError
        If the table lacks a column.
    ValueError
        If it has no row.
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
    """Write attributions to ``varm`` of each modality, as scanpy has loadings of principal components.

    Parameters
    ----------
    mdata
        Where to write.
    table
        What ``model.feature_attribution`` returned: one kind of representation and one method, of one modality or both.
    group
        Which group of cells, if the table holds several.

    Notes
    -----
    Written: ``mdata[modality].varm["indiseek_<kind>"]``, shape ``(n_features, n_dimensions)``, NaN for features that the model does not
    use; what it is of is noted in ``uns["indiseek_attribution"]``. What this function wrote before is replaced; an entry of that
    name which somebody else wrote is not. Nothing is written if an error is raised.

    Raises
    ------
    KeyError
        If the table lacks a column, or ``mdata`` a modality or a feature of it.
    ValueError
        If the table has no row, or holds several kinds, methods or groups to choose from, or the name is taken.
    """
    check_attributions(table, ["kind", "method"])
    table = choose_group(table, group)
    kind = str(table["kind"].iloc[0])
    key = _keys.loadings(kind)
    noted = {name: dict(kinds) for name, kinds in mdata.uns.get(_keys.ATTRIBUTION, {}).items()}
    found = {}
    for modality, part in table.groupby("modality", observed=True, sort=False):
        name = str(modality)
        found[name] = _spread(mdata, name, part)
        if key in mdata[name].varm and kind not in noted.get(name, {}):
            raise ValueError(
                f"mdata[{name!r}].varm[{key!r}] is there already and was not written by this function. Rename or delete it."
            )
        noted.setdefault(name, {})[kind] = {
            "method": str(table["method"].iloc[0]),
            "group": str(table["group"].iloc[0]),
        }
    for name, loadings in found.items():
        mdata[name].varm[key] = loadings
    mdata.uns[_keys.ATTRIBUTION] = noted


def _spread(mdata: MuData, modality: str, table: pd.DataFrame) -> NDArray[np.float64]:
    """Features by dimensions, in the order of ``var_names``."""
    if modality not in mdata.mod:
        raise KeyError(f"mdata has no modality {modality!r}, which the table is of; it has {list(mdata.mod)}.")
    # A column for each dimension, a row for each feature, both in the order of the table.
    matrix = table.pivot(index="feature", columns="dimension", values="attribution")
    names = mdata[modality].var_names
    lacking = [str(name) for name in matrix.index if name not in names]
    if lacking:
        raise KeyError(
            f"mdata[{modality!r}] lacks {len(lacking):,} of the {len(matrix):,} features of the table, such as {lacking[0]!r}. "
            "Write to the data of the model; coordinates of a representation in obsm have no place in varm."
        )
    return matrix.reindex(names).to_numpy(dtype=np.float64)


_BLOCK = ["modality", "kind", "dimension", "group"]
_ENDS = {"upper": 1.0, "lower": -1.0}


def attribution_enrichment(
    table: pd.DataFrame,
    network: pd.DataFrame,
    *,
    method: str = "ulm",
    minimum_size: int = 5,
    **kwargs: Any,
) -> pd.DataFrame:
    """Rank sets of genes or proteins at the two ends of each dimension, by decoupler.

    At the upper end of a dimension lie the sets whose features rise with it, at the lower end those whose features fall. Features that
    the model does not use are no part of the background. Features are correlated, which the p-values of most methods do not know: use them to
    rank.

    Parameters
    ----------
    table
        What ``model.feature_attribution(method="decoder_jacobian")`` returned: one method, any representations and groups.
    network
        Sets of features, one feature a row: ``source`` (name of the set), ``target`` (feature), and optionally ``weight``; as those of
        decoupler or OmniPath. Nothing is downloaded.
    method
        A method of ``decoupler.mt`` that scores sets by the values of all features, such as ``"ulm"``, ``"zscore"`` or ``"gsea"``.
    minimum_size
        Sets with fewer features among those of a modality take no part.
    **kwargs
        Passed to the method, such as ``times=1000`` to ``"gsea"``.

    Returns
    -------
    Sets with a positive score, one row for each modality, kind, dimension, group, ``end`` and ``source``: ``score``, ``p_value`` (adjusted by decoupler
    over the sets of an end; NaN if the method has none), and ``rank`` from 1.

    Raises
    ------
    ImportError
        If decoupler is not installed.
    KeyError
        If the table or the network lacks a column.
    ValueError
        If the table has several methods, no set is large enough in a modality, or decoupler has no such method.
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
            parts.append(_rank(wide.index, end, scores, p_values))
    ends = pd.concat(parts, ignore_index=True)
    return ends.sort_values([*_BLOCK, "end", "rank"], ascending=[True] * 4 + [False, True], ignore_index=True)


def _find_method(method: str) -> Callable[..., Any]:
    try:
        import decoupler
    except ImportError as error:
        raise ImportError('Enrichment needs decoupler. Install it by pip install "indiseek_sc[enrichment]".') from error
    known = [name for name in dir(decoupler.mt) if callable(getattr(decoupler.mt, name)) and not name.startswith("_")]
    if method not in known:
        raise ValueError(f"method={method!r} is none of decoupler's: {', '.join(known)}.")
    return getattr(decoupler.mt, method)


def has_decoupler() -> bool:
    """Whether decoupler is installed."""
    return find_spec("decoupler") is not None


def sizes_of_sets(network: pd.DataFrame, features: Iterable[str]) -> pd.Series:
    """Return how many of ``features`` each set of a network has, if it has any."""
    return network.loc[network["target"].isin(list(features))].groupby("source")["target"].nunique()


def _check_overlap(network: pd.DataFrame, features: list[str], modality: str, minimum_size: int) -> None:
    if not (sizes_of_sets(network, features) >= minimum_size).any():
        raise ValueError(
            f"network: none of its {network['source'].nunique():,} sets has minimum_size={minimum_size} features of {modality!r}, "
            f"whose names are such as {features[:3]}; targets are such as {list(network['target'][:3])}. Lower minimum_size, "
            f"give sets of this modality, or leave it out: table[table['modality'] != {modality!r}]."
        )


def _rank(blocks: pd.MultiIndex, end: str, scores: pd.DataFrame, p_values: pd.DataFrame | None) -> pd.DataFrame:
    """Sets with a positive score of each block, the largest first."""
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
