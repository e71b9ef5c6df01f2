"""Errors raised by representations, predictions, audits, attributions, reports and saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mudata import MuData

from indiseek_sc import IndiSeek

from .cases import Change, assert_rejected, state_of


def encode(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.get_latent_representation(**arguments)


def predict(source: Any = "rna", target: Any = "adt", mdata: Change | None = None, **arguments: Any) -> Callable:
    return lambda model: model.predict_modality(
        source, target, None if mdata is None else mdata(model.adata), **arguments
    )


def attribute(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.feature_attribution(**arguments)


def rank(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.feature_importance(**{"modality": "rna", **arguments})


def untrained(call: Callable[[IndiSeek], Any]) -> Callable[[IndiSeek], Any]:
    return lambda model: call(IndiSeek(model.adata))


# name: (the call, error, parts of the message)
CASES: dict[str, tuple[Callable[[IndiSeek], Any], type[Exception], list[str]]] = {
    # Representations
    "an unknown kind of representation": (encode(kind="sahred", modality="rna"), ValueError, ["kind='sahred' is not known", "Did you mean 'shared'?"]),
    "an unknown modality": (encode(kind="shared", modality="prot"), ValueError, ["modality='prot' is not known. Available: 'rna', 'adt'"]),
    "modality missing": (encode(kind="shared"), ValueError, ["modality must be one name, but is None", "'rna', 'adt'"]),
    "modality with the joint representation": (encode(modality="rna"), ValueError, ["modality: the joint representation combines both modalities"]),
    "indices beyond the last cell": (encode(indices=[240]), ValueError, ["indices must lie below the number of cells, 240"]),
    "a mask too short": (encode(indices=[True, False]), ValueError, ["indices: a mask needs one value per cell (240)"]),
    "unknown cell names": (encode(indices=["cell1", "nobody"]), ValueError, ["indices: 1 names are not names of cells: 'nobody'", "for example, 'cell0'"]),
    "indices as fraction": (encode(indices=[0.5]), ValueError, ["indices must be row numbers (integers), names of cells or a mask"]),
    "ragged indices": (encode(indices=[[1], [2, 3]]), ValueError, ["indices must be one list of cells or a mask"]),
    "max_missing as text": (encode(max_missing="all"), ValueError, ["max_missing must be a number, but is 'all'"]),
    "representations of an AnnData": (lambda m: m.get_latent_representation(m.adata["rna"]), TypeError, ["mdata must be a MuData, but is AnnData"]),
    "representations written to a view": (lambda m: m.write_latents(m.adata[:9]), ValueError, ["mdata: this is a view", "mdata = mdata.copy()"]),
    "representations before training": (untrained(lambda m: m.write_latents()), RuntimeError, ["specific representations are not trained yet", "model.train()"]),
    "features of an unknown modality": (lambda m: m.get_features(modality="x"), ValueError, ["modality='x' is not known"]),
    "features before training": (untrained(lambda m: m.get_features(modality="rna")), RuntimeError, ["shared representations are not trained yet"]),
    # Prediction
    "source misspelt": (predict("RNA"), ValueError, ["source='RNA' is not known", "Did you mean 'rna'?"]),
    "target of None": (predict(target=None), ValueError, ["target must be one name, but is None"]),
    "source and target equal": (predict(target="rna"), ValueError, ["source and target are both 'rna'"]),
    "unknown units": (predict(units="counts"), ValueError, ["units='counts' is not known. Available: 'features', 'normalized'"]),
    "prediction from an AnnData": (predict(mdata=lambda m: m["rna"]), TypeError, ["mudata.MuData({'rna': adata})"]),
    "prediction without the source": (predict(mdata=lambda m: MuData({"adt": m["adt"].copy()})), ValueError, ["there is no modality 'rna' to read"]),
    "prediction without batches": (predict(mdata=lambda m: MuData({"rna": m["rna"].copy()})), ValueError, ["batch_key='donor' is not a column of any obs"]),
    "prediction of unknown cells": (predict(indices=["nobody"]), ValueError, ["indices: 1 names are not names of cells: 'nobody'"]),
    "level of 1": (lambda m: m.audit_prediction("rna", "adt", level=1.0), ValueError, ["level must lie in 0.05 to 0.99, but is 1.0"]),
    "max_epochs of another stage": (lambda m: m.train_prediction({"shared": 1}), ValueError, ["max_epochs: the stage 'shared' is not known. Available: 'prediction'"]),
    # Audit and attribution
    "seed of an audit as fraction": (lambda m: m.audit(seed=1.5), ValueError, ["seed must be a whole number, but is 1.5"]),
    "auditor as number": (lambda m: m.audit(auditor=3), TypeError, ["auditor must be an auditor returned by make_auditor(), but is int"]),
    "an audit before training": (untrained(lambda m: m.audit()), RuntimeError, ["specific representations are not trained yet"]),
    "an unknown method of attribution": (attribute(method="shap"), ValueError, ["method='shap' is not known. Available: 'decoder_jacobian'"]),
    "attribution to raw values": (attribute(values="raw"), ValueError, ["values='raw': ", "use method='integrated_gradients'"]),
    "max_cells of 0": (attribute(max_cells=np.int64(0)), ValueError, ["max_cells must be at least 1, but is 0"]),
    "n_steps of 0": (attribute(n_steps=0), ValueError, ["n_steps must be at least 1, but is 0"]),
    "groups of the wrong length": (attribute(groups=["a"] * 7), ValueError, ["groups: one label is needed for each cell of mdata (240), but got 7"]),
    "groups misspelt": (attribute(groups="celltype"), KeyError, ["groups='celltype' is not a column of any obs", "Did you mean 'cell_type'?"]),
    "groups in another order": (lambda m: m.feature_attribution(groups=m.adata.obs["cell_type"][::-1]), ValueError, ["groups: the index differs from the names of the cells", "groups.reindex(mdata.obs_names)"]),
    "groups all missing": (attribute(groups=[np.nan] * 240), ValueError, ["groups: none of the selected cells has a label"]),
    "indices empty": (attribute(indices=[]), ValueError, ["indices: no cells are selected"]),
    "importance of the joint representation": (rank(kind="joint"), ValueError, ["kind='joint' is not known. Available: 'shared', 'specific'"]),
    "an unknown method of importance": (rank(method="gradient"), ValueError, ["method='gradient' is not known. Available: 'jacobian'"]),
    "n_repeats of 0": (rank(n_repeats=0), ValueError, ["n_repeats must be at least 1, but is 0"]),
    # Reports and files
    "a report in a missing folder": (lambda m: m.report("/nowhere/report.html"), ValueError, ["path: /nowhere/report.html: there is no folder /nowhere"]),
    "label_key misspelt": (lambda m: m.report("report.html", label_key="celltype"), KeyError, ["label_key='celltype'", "Did you mean 'cell_type'?"]),
    "a report without a path": (lambda m: m.report(None), ValueError, ["path must be a path, but is None"]),
    "a report before training": (untrained(lambda m: m.report("report.html")), RuntimeError, ["specific representations are not trained yet"]),
    "a folder that exists": (lambda m: m.save(Path(__file__).parent), ValueError, ["dir_path: ", "already exists", "overwrite=True"]),
    "dir_path of None": (lambda m: m.save(None), ValueError, ["dir_path must be a path, but is None"]),
    "a prefix with a folder": (lambda m: m.save("new", prefix="../x-"), ValueError, ["prefix must be the beginning of file names, without folders"]),
    "prefix as number": (lambda m: m.save("new", prefix=3), ValueError, ["prefix must be the beginning of file names"]),
    "overwrite as text": (lambda m: m.save("new", overwrite="yes"), ValueError, ["overwrite must be True or False, but is 'yes'"]),
    "reference_model as number": (lambda m: IndiSeek.load_query_data(m.adata, 3), TypeError, ["reference_model must be a model or the folder"]),
    "a query that is an AnnData": (lambda m: IndiSeek.load_query_data(m.adata["rna"], m), TypeError, ["mdata must be a MuData, but is AnnData"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_results(name: str, model: IndiSeek, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, error, parts = CASES[name]
    monkeypatch.chdir(tmp_path)
    before = state_of(model)
    assert_rejected(lambda: call(model), error, parts)
    assert state_of(model) == before
    assert list(tmp_path.iterdir()) == []
