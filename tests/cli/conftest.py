from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import scanpy as sc
from anndata import AnnData
from mudata import MuData
from typer.testing import CliRunner, Result

from indiseek_sc.cli import _pipeline, app
from indiseek_sc.cli._maps import map_latents


def run(*arguments: str | Path) -> Result:
    """Run a command, without refits (which are slow) unless requested."""
    words = [str(argument) for argument in arguments]
    if words[0] in ("fit", "demo") and "--refits" not in words and "--help" not in words:
        words += ["--refits", "0"]
    return CliRunner().invoke(app, words)


def make_user_data(pbmc: MuData) -> MuData:
    """Return 300 cells as a user may have them.

    Modalities have other names, counts are in a layer, there is a third modality, and scanpy has
    been run before.
    """
    rna, prot = (pbmc[name][::20].copy() for name in ("rna", "adt"))
    rna.layers["counts"] = rna.X.copy()
    sc.pp.normalize_total(rna)
    sc.pp.log1p(rna)
    rna.obs["cell_type"] = pbmc.obs["cell_type"].iloc[::20].to_numpy()
    rna.var["is_first"] = rna.var_names == rna.var_names[0]
    some = prot[:50, :5].copy()
    some.var_names = [f"chr1-{1000 * i}-{1000 * i + 500}" for i in range(1, 6)]
    mdata = MuData({"rna": rna, "prot": prot, "atac": some})
    mdata.obs["donor"] = pbmc.obs["Donor"].iloc[::20].to_numpy()
    mdata.obs["leiden"] = ["mine"] * mdata.n_obs
    mdata.obsm["X_umap"] = prot.X[:, :2].toarray()
    mdata.uns["notes"] = {"by": "me", "numbers": [1, 2]}
    return mdata


class MapsHere:
    """Computes UMAPs in this process, where compiled functions are reused.

    The real class is tested in ``test_maps.py``.
    """

    def __enter__(self) -> MapsHere:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self, *arguments: Any) -> None:
        self.arguments = arguments

    def finish(self) -> AnnData:
        return map_latents(*self.arguments)


@pytest.fixture
def maps_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pipeline, "MapMaker", MapsHere)


@pytest.fixture(scope="session")
def user_file(_pbmc_covid_once: MuData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("user") / "cells.h5mu"
    make_user_data(_pbmc_covid_once).write_h5mu(path)
    return path


@pytest.fixture(scope="session")
def fitted(user_file: Path) -> Path:
    """Return the folder in which a user ran ``fit`` with all outputs.

    It contains ``encoded.h5mu``, ``report`` and ``model``.
    """
    folder = user_file.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_pipeline, "MapMaker", MapsHere)
        result = run(
            *("fit", user_file, folder / "encoded.h5mu", "--report", folder / "report"),
            *("--save-model", folder / "model", "--adt", "prot", "--rna-layer", "counts", "--label-key", "cell_type"),
            *("--batch-key", "donor", "--predict", "--max-epochs", "3", "--accelerator", "cpu", "--debug"),
        )
    assert result.exit_code == 0, result.output
    (folder / "log.txt").write_text(result.output)
    return folder
