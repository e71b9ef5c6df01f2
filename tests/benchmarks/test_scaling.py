from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp


@pytest.fixture(scope="module")
def scaling(load_script):
    return load_script("scaling")


def test_synthetic_cells_are_compact_counts_of_both_modalities(scaling, monkeypatch):
    monkeypatch.setattr(scaling, "AT_ONCE", 128)
    mdata = scaling.synthesize(300)
    rna, adt = mdata["rna"].X, mdata["adt"].X
    assert sp.issparse(rna) and rna.format == "csr" and rna.dtype == np.float32
    assert rna.has_canonical_format
    assert rna.shape == (300, 2_000)
    assert 0.05 < rna.nnz / np.prod(rna.shape) < 0.15
    assert adt.shape == (300, 200)
    assert adt.dtype == np.float32
    assert all((np.rint(x) == x).all() and x.min() >= 0 for x in (rna.data, adt))
    assert scaling.count_bytes(mdata) == 8 * rna.nnz + 4 * 301 + 4 * adt.size
    # The modalities share factors.
    first, second = (np.log1p(x) - np.log1p(x).mean(axis=0) for x in (rna.toarray(), adt))
    strongest = np.linalg.svd(first.T @ second / 300, compute_uv=False)
    shuffled = np.linalg.svd(first.T @ second[::-1] / 300, compute_uv=False)
    assert strongest[0] > 1.5 * shuffled[0]
