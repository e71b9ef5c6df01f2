from __future__ import annotations

import hashlib
import shutil
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from indiseek_sc.datasets import _bundled, pbmc_covid

DATA = Path(__file__).parents[2] / "data"
ORIGINAL_COLUMNS = ["cohort", "sample_id", "Donor", "Batch", "cond_group", "Age_interval", "mergedcelltype"]


def load_script():
    spec = spec_from_file_location("draw_pbmc_covid", DATA / "draw_pbmc_covid.py")
    script = module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


class TestContents:
    def test_counts_are_raw_csr_float32(self, pbmc_covid):
        for modality, n_features in (("rna", 1000), ("adt", 192)):
            counts = pbmc_covid[modality].X
            assert sparse.issparse(counts) and counts.format == "csr"
            assert counts.shape == (6000, n_features)
            assert counts.dtype == np.float32
            assert (counts.data > 0).all() and (counts.data % 1 == 0).all()

    def test_every_cell_and_feature_has_counts(self, pbmc_covid, pbmc_small):
        for mdata in (pbmc_covid, pbmc_small):
            for modality in ("rna", "adt"):
                assert (mdata[modality].X.sum(axis=0) > 0).all()
                assert (mdata[modality].X.sum(axis=1) > 0).all()

    def test_cells_are_aligned_and_names_unique(self, pbmc_covid):
        for modality in ("rna", "adt"):
            assert pbmc_covid[modality].obs_names.equals(pbmc_covid.obs_names)
            assert pbmc_covid[modality].var_names.is_unique
        assert pbmc_covid.obs_names.is_unique

    def test_annotations_are_in_the_common_obs_only(self, pbmc_covid):
        assert list(pbmc_covid.obs.columns) == [*ORIGINAL_COLUMNS, "cell_type", "batch"]
        assert pbmc_covid["rna"].obs.columns.empty and pbmc_covid["adt"].obs.columns.empty
        assert not pbmc_covid.obs.isna().any(axis=None)
        pd.testing.assert_series_equal(pbmc_covid.obs["cell_type"], pbmc_covid.obs["mergedcelltype"], check_names=False)
        pd.testing.assert_series_equal(pbmc_covid.obs["batch"], pbmc_covid.obs["Batch"], check_names=False)

    def test_annotations_survive_update_and_round_trip(self, pbmc_small, tmp_path):
        before = pbmc_small.obs.copy()
        pbmc_small.update()
        pd.testing.assert_frame_equal(pbmc_small.obs, before)
        pbmc_small.write_h5mu(tmp_path / "small.h5mu")
        after = mudata.read_h5mu(tmp_path / "small.h5mu").obs
        pd.testing.assert_frame_equal(after, before, check_categorical=False)

    def test_every_cell_type_and_batch_is_present(self, pbmc_covid, pbmc_small):
        for mdata in (pbmc_covid, pbmc_small):
            assert mdata.obs["cell_type"].nunique() == 17
            assert mdata.obs["batch"].nunique() == 3
        assert pbmc_covid.obs["cell_type"].value_counts().min() == 35
        assert pbmc_covid.obs["Donor"].nunique() == 43


class TestFile:
    def test_file_is_small(self):
        assert (DATA / "pbmc_covid.h5mu").stat().st_size <= 7e6

    def test_readme_states_the_checksum(self):
        checksum = hashlib.sha256((DATA / "pbmc_covid.h5mu").read_bytes()).hexdigest()
        assert checksum in (DATA / "README.md").read_text()

    def test_reading_does_not_warn_and_returns_a_new_object(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            # These warnings of anndata about pandas are hidden from users by default.
            warnings.simplefilter("ignore", DeprecationWarning)
            first, second = pbmc_covid(), pbmc_covid()
        first["rna"].X.data[:] = 0
        first.obs["cell_type"] = "none"
        assert second["rna"].X.data.all()
        assert second.obs["cell_type"].nunique() == 17

    def test_missing_file_raises_an_error(self, monkeypatch, tmp_path):
        monkeypatch.setattr(_bundled, "_FOLDERS", (tmp_path / "first", tmp_path / "second"))
        with pytest.raises(FileNotFoundError, match=r"pbmc_covid.h5mu is in neither of .*first and .*second.*Install"):
            pbmc_covid()

    def test_modified_file_is_rejected(self, monkeypatch, tmp_path):
        shutil.copy(DATA / "pbmc_covid.h5mu", tmp_path)
        with (tmp_path / "pbmc_covid.h5mu").open("ab") as file:
            file.write(b"\0")
        monkeypatch.setattr(_bundled, "_FOLDERS", (tmp_path,))
        with pytest.raises(ValueError, match=r"damaged or was changed: its SHA-256 is [0-9a-f]{64}, not .*restore"):
            pbmc_covid()


class TestSampling:
    def test_stratum_sizes_respect_the_minimum_and_the_total(self):
        available = pd.Series({"many": 8000, "some": 2000, "few": 60, "rare": 7})
        sizes = load_script().stratum_sizes(available, n_cells=1000, floor=50)
        # 50 + 50 + 50 + 7 are assigned first; the other 843 in proportion to 7950 : 1950 : 10 : 0.
        assert sizes.to_dict() == {"many": 726, "some": 216, "few": 51, "rare": 7}

    def test_script_reproduces_the_bundled_data(self, pbmc_covid, shared_data):
        script = load_script()
        source = mudata.read_h5mu(shared_data / "liu2021_covid.h5mu")
        drawn = script.subset(source, script.draw_cells(source["rna"].obs, script.SEED))
        pd.testing.assert_frame_equal(drawn.obs, pbmc_covid.obs, check_categorical=False)
        for modality in ("rna", "adt"):
            assert drawn[modality].var_names.equals(pbmc_covid[modality].var_names)
            assert (drawn[modality].X != pbmc_covid[modality].X).nnz == 0
