"""Theta and information computed from refits in a MuData."""

from __future__ import annotations

import logging

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, metrics, tl

N, N_REFITS, WIDTHS = 400, 4, {"gex": [2, 3], "prot": [2, 4]}


@pytest.fixture
def mdata() -> MuData:
    """Return data as written by ``model.write_latents`` and ``model.write_refits``.

    B cells are distinct in RNA and T cells in proteins.
    """
    rng = np.random.default_rng(0)
    labels = rng.choice(["B", "T", "NK"], N)
    cells = [f"cell{i}" for i in range(N)]
    parts = {name: AnnData(np.ones((N, 2), np.float32), pd.DataFrame(index=cells)) for name in WIDTHS}
    parts["prot"].var_names = ["p0", "p1"]
    mdata = MuData(parts)
    mdata.obs = pd.DataFrame(
        {"cell_type": pd.Categorical(labels), "donor": rng.choice(["d1", "d2", "d3", "d4", "d5"], N)}, index=cells
    )
    held_out = np.zeros((N, N_REFITS), dtype=bool)
    for pair in range(N_REFITS // 2):
        half = rng.permutation(N) < N // 2
        held_out[:, 2 * pair], held_out[:, 2 * pair + 1] = half, ~half
    for name, widths in WIDTHS.items():
        stands_out = labels == {"gex": "B", "prot": "T"}[name]
        pairs = [[rng.normal(size=(N, w)) for w in widths] for _ in range(N_REFITS)]
        for pair in pairs:
            pair[1][:, 0] += 3.0 * stands_out
        mdata.obsm[_keys.shared(name)], mdata.obsm[_keys.specific(name)] = pairs[0]
        mdata.obsm[_keys.refits(name)] = np.hstack([np.hstack(pair) for pair in pairs]).astype(np.float32)
    mdata.obsm[_keys.JOINT] = rng.normal(size=(N, 3))
    mdata.obsm[_keys.REFITS_HELD_OUT] = held_out
    mdata.uns[_keys.SETTINGS] = {"modalities": {"rna": "gex", "adt": "prot"}, "batch_key": ""}
    widths = {f"widths_{role}": np.array([WIDTHS[name]] * N_REFITS) for role, name in (("rna", "gex"), ("adt", "prot"))}
    mdata.uns[_keys.REFITS] = {"n_refits": N_REFITS, "sample_key": "", "seed": 0, **widths}
    return mdata


def as_refits(mdata: MuData) -> list[metrics.Refit]:
    """Return the refits in ``mdata`` as arguments of the metric."""
    refits = []
    for number in range(N_REFITS):
        kinds: list[dict] = [{}, {}]
        for role, name in (("rna", "gex"), ("adt", "prot")):
            own = mdata.obsm[_keys.refits(name)][:, number * sum(WIDTHS[name]) :][:, : sum(WIDTHS[name])]
            kinds[0][role], kinds[1][role] = own[:, : WIDTHS[name][0]], own[:, WIDTHS[name][0] :]
        refits.append(metrics.Refit(*kinds, mdata.obsm[_keys.REFITS_HELD_OUT][:, number]))
    return refits


def test_result_equals_the_metric(mdata: MuData) -> None:
    table = tl.modality_importance(mdata, "cell_type", n_neighbors=7, seed=3)
    expected = metrics.replicated_importance(as_refits(mdata), mdata.obs["cell_type"], n_neighbors=7, seed=3)
    pd.testing.assert_frame_equal(table, expected.table)
    assert table.set_index("label")["claim"].to_dict() == {"B": "rna", "T": "adt", "NK": "undecided"}
    np.testing.assert_array_equal(mdata.obs[_keys.THETA], expected.theta)
    assert mdata.uns[f"{_keys.IMPORTANCE}_params"]["n_refits"] == N_REFITS
    smooth = metrics.smooth_over_neighbors(expected.theta, mdata.obsm[_keys.JOINT], 50)
    np.testing.assert_allclose(mdata.obs[_keys.THETA_SMOOTHED], smooth)


def test_results_survive_a_file(mdata: MuData, tmp_path) -> None:
    table = tl.modality_importance(mdata, "cell_type")
    mdata.write(tmp_path / "cells.h5mu")
    back = mudata.read_h5mu(tmp_path / "cells.h5mu")
    pd.testing.assert_frame_equal(back.uns[_keys.IMPORTANCE], table)
    pd.testing.assert_frame_equal(tl.modality_importance(back, "cell_type"), table)


def test_other_representations_have_theta_without_information(mdata: MuData) -> None:
    table = tl.modality_importance(mdata, "cell_type", latent="both")
    expected = metrics.replicated_importance(as_refits(mdata), mdata.obs["cell_type"], latent="both", information=False)
    pd.testing.assert_frame_equal(table, expected.table)
    assert "information_rna" not in table


def test_samples_can_be_given_or_recorded_by_refits(mdata: MuData) -> None:
    over_cells = tl.modality_importance(mdata, "cell_type").set_index("label")
    given = tl.modality_importance(mdata, "cell_type", sample_key="donor").set_index("label")
    mdata.uns[_keys.REFITS]["sample_key"] = "donor"
    noted = tl.modality_importance(mdata, "cell_type").set_index("label")
    pd.testing.assert_frame_equal(given, noted)
    assert not np.allclose(given["lower"], over_cells["lower"])
    np.testing.assert_allclose(given["theta"], over_cells["theta"])
    assert mdata.uns[f"{_keys.IMPORTANCE}_params"]["sample_key"] == "donor"


def test_chance_purity_is_computed_within_batches(mdata: MuData) -> None:
    without = tl.modality_importance(mdata, "cell_type").set_index("label")
    mdata.obs["batch"] = np.where(mdata.obs["cell_type"] == "B", "b1", "b2")
    mdata.uns[_keys.SETTINGS]["batch_key"] = "batch"
    within = tl.modality_importance(mdata, "cell_type").set_index("label")
    assert within.loc["B", "chance_rna"] > without.loc["B", "chance_rna"] + 0.05
    assert within.loc["B", "claim"] == "neither"  # the batch already identifies the B cells


def test_outdated_refits_are_ignored(mdata: MuData, caplog: pytest.LogCaptureFixture) -> None:
    from indiseek_sc._fingerprint import Place, record_inputs

    record_inputs(mdata, _keys.REFITS, [Place("obsm", _keys.specific("gex"))])
    assert "information_rna" in tl.modality_importance(mdata, "cell_type")
    mdata.obsm[_keys.specific("gex")] = mdata.obsm[_keys.specific("gex")] + 1.0
    with caplog.at_level(logging.WARNING, "scvi.indiseek_sc"):
        logging.getLogger("scvi").propagate, before = True, logging.getLogger("scvi").propagate
        table = tl.modality_importance(mdata, "cell_type")
        logging.getLogger("scvi").propagate = before
    assert (table["claim"] == "not assessed").all()
    assert "X_indiseek_specific_gex" in caplog.text
    assert "model.write_refits()" in caplog.text


def test_rank_correlation_uses_refits(mdata: MuData) -> None:
    mdata.obs["RNA.weight"] = np.where(
        mdata.obs["cell_type"] == "B", 0.8, np.where(mdata.obs["cell_type"] == "T", 0.2, 0.5)
    )
    mdata.obs["RNA.weight"] += np.random.default_rng(1).uniform(-0.05, 0.05, N)
    table = tl.rank_correlation(mdata, "cell_type", latents=["specific"], n_bootstrap=50, n_neighbors=7).iloc[0]
    assert table["estimate"] == 1.0
    assert mdata.uns[f"{_keys.RANK_CORRELATION}_params"]["n_refits"] == N_REFITS
    theta = metrics.replicated_importance(
        as_refits(mdata), mdata.obs["cell_type"], information=False, n_neighbors=7
    ).theta_of_labels
    shown = mdata.uns[f"{_keys.RANK_CORRELATION}_labels"].set_index("label")["theta"]
    np.testing.assert_allclose(shown, theta.loc[shown.index, "value"])


def test_refits_without_specific_dimensions(mdata: MuData) -> None:
    """A modality whose refits have no specific dimensions resolves nothing."""
    widths = np.array([[2, 0]] * N_REFITS)
    mdata.obsm[_keys.refits("prot")] = mdata.obsm[_keys.refits("prot")][:, : 2 * N_REFITS]
    mdata.uns[_keys.REFITS]["widths_adt"] = widths
    table = tl.modality_importance(mdata, "cell_type").set_index("label")
    assert table.loc["B", "claim"] == "rna"
    assert table.loc["T", "claim"] in ("rna", "neither", "undecided")
    assert (table["information_adt"].abs() < 0.1).all()
