"""Which sets of features lie at the two ends of each dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from indiseek_sc.tl._attributions import check_attributions

if TYPE_CHECKING:
    from collections.abc import Callable

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
        What ``model.feature_attribution(method="decoder_jacobian")`` returned: one method, any codes and groups.
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


def _check_overlap(network: pd.DataFrame, features: list[str], modality: str, minimum_size: int) -> None:
    sizes = network.loc[network["target"].isin(features)].groupby("source")["target"].nunique()
    if not (sizes >= minimum_size).any():
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
