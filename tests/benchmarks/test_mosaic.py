from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="module")
def mosaic(load_script):
    return load_script("mosaic")


def test_shares_determine_which_cells_lack_a_modality(mosaic, pbmc_small):
    pbmc_small.obs["celltype"] = pbmc_small.obs["cell_type"]
    made = mosaic.hide(pbmc_small, mosaic.SHARES["quarters"], seed=0)
    n = pbmc_small.n_obs
    assert {what: made.having(what).size for what in ("both", "rna", "adt")} == {
        "both": n - 2 * round(n / 4),
        "rna": round(n / 4),
        "adt": round(n / 4),
    }
    names = made.cells.obs_names
    assert names.equals(made.whole.obs_names)
    assert set(names) == set(pbmc_small.obs_names)
    np.testing.assert_array_equal(made.labels, pbmc_small.obs.loc[names, "celltype"])
    for name, lacking in (("rna", "adt"), ("adt", "rna")):
        assert set(made.cells[name].obs_names) == set(names[made.measured != lacking])
        given = made.whole[name][made.cells[name].obs_names].X
        assert (made.cells[name].X != given).nnz == 0
    np.testing.assert_array_equal(mosaic.take(made.cells).measured, made.measured)
    other = mosaic.hide(pbmc_small, mosaic.SHARES["half of the proteins"], seed=0)
    assert other.having("rna").size == round(n / 2)
    assert other.having("adt").size == 0


def test_informative_representations_have_high_scores(mosaic, pbmc_small):
    pbmc_small.obs["celltype"] = pbmc_small.obs["cell_type"]
    made = mosaic.hide(pbmc_small, mosaic.SHARES["quarters"], seed=1)
    rng = np.random.default_rng(0)
    kinds = np.unique(made.labels, return_inverse=True)[1]
    latent = np.eye(kinds.max() + 1)[kinds] + 1e-3 * rng.normal(size=(kinds.size, kinds.max() + 1))
    measured = {name: rng.normal(size=(kinds.size, 4)) for name in ("rna", "adt")}
    latents = {"rna": latent, "adt": latent.copy()}
    latents["rna"][made.having("rna")[0]] = latents["adt"][made.having("rna")[0]]
    found = mosaic.evaluate(made, mosaic.Result(latents, measured), measured)
    assert min(found[key] for key in ("label_rna", "label_adt", "label_across")) > 0.9
    assert found["foscttm_rna"] == found["foscttm_adt"] == 0
    assert found["recall@10_rna"] == 1
    assert found["r_proteins"] == pytest.approx(1)
    assert found["r_genes"] == pytest.approx(1)
    assert not any(key.startswith("label_whole") for key in found)
    shuffled = {"rna": latent, "adt": latent[rng.permutation(kinds.size)]}
    found = mosaic.evaluate(made, mosaic.Result(shuffled, measured), measured)
    assert 0.3 < found["foscttm_rna"] < 0.7
