"""Transfer of labels from reference cells to unlabelled cells, by representations of one model."""

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
    """Transfer labels from the nearest labelled cells in a representation.

    Neighbours vote with the inverse of their distance. The confidence of a label is its share of
    the votes. It is approximately calibrated if the query consists of cell types of the reference:
    of cells with confidence .8, about 80 % have the correct label. A cell type that is missing from
    the reference receives another label, often with high confidence.

    Parameters
    ----------
    reference
        Labelled cells with representations written by ``model.write_latents(reference)``.
    query
        Cells to label, with representations of the same model (``model.write_latents(query)``), or
        of one derived from it by :meth:`indiseek_sc.IndiSeek.load_query_data`.
    label_key
        Column of labels in ``obs`` of the reference or of one of its modalities. Cells without a
        label do not vote.
    use_rep
        Entry of ``obsm`` of both. The joint representation requires both modalities; for cells with
        RNA only, use ``"X_indiseek_shared_rna"``.
    n_neighbors
        Number of voting cells.

    Returns
    -------
    One row for each cell of the query, with ``label`` and ``confidence``; missing for cells without
    the representation.

    Raises
    ------
    KeyError
        If the labels or representations are missing.
    ValueError
        If the representations belong to different models, no cell of the reference has both a
        representation and a label, or ``n_neighbors`` is below 1.

    Notes
    -----
    Written to ``query``: ``obs["indiseek_<label_key>"]`` and
    ``obs["indiseek_<label_key>_confidence"]``. Nothing is written if an error is raised.

    Examples
    --------
    >>> reference, query = mdata[:500].copy(), mdata[500:].copy()
    >>> isk.tl.transfer_labels(reference, query, "cell_type").shape
    (100, 2)
    """
    check_mdata(reference, "reference")
    check_mdata(query, "query")
    labels = find_labels(reference, label_key, "label_key")
    known, new = (_find_latent(mdata, use_rep, name) for mdata, name in ((reference, "reference"), (query, "query")))
    if known.shape[1] != new.shape[1]:
        raise ValueError(
            f"use_rep={use_rep!r} has {known.shape[1]} dimensions in reference and {new.shape[1]} in query, so they belong to "
            "different models. Write both with one model: model.write_latents(reference), model.write_latents(query)."
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
    """Return an entry of ``obsm`` of the reference or query as a matrix."""
    there = [key for key in mdata.obsm if key not in mdata.mod]
    if isinstance(use_rep, str) and use_rep not in there:
        raise KeyError(
            f"use_rep={use_rep!r}: {name}.obsm has {there or 'no entries'}. Call model.write_latents({name}) first."
        )
    return np.asarray(mdata.obsm[check_name("use_rep", use_rep, there)], dtype=np.float64)
