"""Labels from a reference for cells that have none, by the representations that one model gave both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc import _keys, metrics
from indiseek_sc._checks import check_name
from indiseek_sc._lookup import check_mdata, find_labels

if TYPE_CHECKING:
    from mudata import MuData


def transfer_labels(
    reference: MuData, query: MuData, label_key: str, *, use_rep: str = _keys.JOINT, n_neighbors: int = 15
) -> pd.DataFrame:
    """Label cells by their nearest neighbours among labelled ones, as a model places both.

    Neighbours vote by the inverse of their distance. The confidence of a label is its share of the votes: of cells with .8, about eight in ten have the right
    one, where the query is made of the kinds of cells that the reference has. A kind that the reference lacks is given another label, often with
    a high share.

    Parameters
    ----------
    reference
        Labelled cells with the representations that ``model.write_latents(reference)`` wrote.
    query
        Cells to label, with the representations of the same model (``model.write_latents(query)``), or of one that was made of it by
        :meth:`indiseek_sc.IndiSeek.load_query_data`.
    label_key
        Column of labels in ``obs`` of the reference, or of one of its modalities. Cells without a label have no vote.
    use_rep
        Entry of ``obsm`` of both. The joint representation needs both modalities; for cells with RNA alone: ``"X_indiseek_shared_rna"``.
    n_neighbors
        How many cells vote.

    Returns
    -------
    A row for each cell of the query, with ``label`` and ``confidence``; missing where it has no such representation.

    Notes
    -----
    Written to ``query``: ``obs["indiseek_<label_key>"]`` and ``obs["indiseek_<label_key>_confidence"]``. Nothing is written if an error is
    raised.

    Raises
    ------
    KeyError
        If labels or representations are not there.
    ValueError
        If representations are of different models, no cell of the reference has both representation and label, or ``n_neighbors`` is below 1.

    Examples
    --------
    >>> model.write_latents(query)
    >>> indiseek_sc.tl.transfer_labels(reference, query, "cell_type")
    """
    check_mdata(reference, "reference")
    check_mdata(query, "query")
    labels = find_labels(reference, label_key, "label_key")
    known, new = (_find_latent(mdata, use_rep, name) for mdata, name in ((reference, "reference"), (query, "query")))
    if known.shape[1] != new.shape[1]:
        raise ValueError(
            f"use_rep={use_rep!r}: it has {known.shape[1]} dimensions in reference and {new.shape[1]} in query, so that they are of "
            "different models. Write both by one: model.write_latents(reference), model.write_latents(query)."
        )
    votes = np.isfinite(known).all(axis=1) & labels.notna().to_numpy()
    if not votes.any():
        raise ValueError(f"label_key={label_key!r}: no cell of reference has both a label and obsm[{use_rep!r}].")
    is_placed = np.isfinite(new).all(axis=1)
    codes, shares = np.full(len(new), -1), np.full(len(new), np.nan)
    if is_placed.any():
        codes[is_placed], shares[is_placed] = metrics.transfer_labels(
            known[votes], labels.cat.codes.to_numpy()[votes], new[is_placed], n_neighbors=n_neighbors
        )
    found = pd.Categorical.from_codes(codes, categories=labels.cat.categories)
    query.obs[_keys.transferred(label_key)] = found
    query.obs[_keys.transferred_confidence(label_key)] = shares
    return pd.DataFrame({"label": found, "confidence": shares}, index=query.obs_names)


def _find_latent(mdata: MuData, use_rep: str, name: str) -> np.ndarray:
    there = [key for key in mdata.obsm if key not in mdata.mod]
    if isinstance(use_rep, str) and use_rep not in there:
        raise KeyError(
            f"use_rep={use_rep!r}: {name}.obsm has {there or 'nothing'}. Call model.write_latents({name}) first."
        )
    return np.asarray(mdata.obsm[check_name("use_rep", use_rep, there)], dtype=np.float64)
