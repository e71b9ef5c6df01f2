"""Errors raised by figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from mudata import MuData

from indiseek_sc import _keys, pl

from ..model.cells import fingerprint
from .attributions import ATTRIBUTIONS, TWO_KINDS
from .cases import Change, assert_rejected, same, without_latents


def with_one_map_dimension(mdata: MuData) -> MuData:
    mdata.obsm["X_umap"] = mdata.obsm["X_umap"][:, :1]
    return mdata


def maps(**arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: pl.umap(mdata, show=False, **arguments)


AUDIT = SimpleNamespace(table=pd.DataFrame({name: [1.0] for name in pl._audit.AUDIT_AIMS}, index=["rna"]))


def draw(figure: Callable, *given: Any, **arguments: Any) -> Callable[[MuData], Any]:
    return lambda mdata: figure(*(given or (mdata,)), show=False, **arguments)


# name: (the change, the call, error, parts of the message)
CASES: dict[str, tuple[Change, Callable[[MuData], Any], type[Exception], list[str]]] = {
    "UMAP of an AnnData": (lambda m: m["rna"], maps(), TypeError, ["mdata must be a MuData, but is AnnData"]),
    "UMAP missing": (without_latents, maps(), KeyError, ["no embedding of a representation", "sc.tl.umap(mdata)"]),
    "UMAP of a representation missing": (same, maps(latents=["shared_rna"]), KeyError, ["mdata.obsm['X_indiseek_shared_rna_umap'] is missing", "neighbors_key='X_indiseek_shared_rna'"]),
    "a UMAP with one column": (with_one_map_dimension, maps(), ValueError, ["mdata.obsm['X_umap'] has shape (240, 1)", "must have two columns"]),
    "UMAP of an unknown representation": (same, maps(latents="shared"), ValueError, ["latents='shared' is not known", "'shared_rna'"]),
    "color misspelt": (same, maps(color="celltype"), KeyError, ["color='celltype' is not a column of any obs", "Did you mean 'cell_type'?"]),
    "color empty": (same, maps(color=[]), ValueError, ["color=[] names no column"]),
    "theta missing": (same, maps(color=_keys.THETA), KeyError, ["mdata.obs['indiseek_theta'] is missing", "tl.modality_importance(mdata, label_key=...)"]),
    "palette misspelt": (same, maps(color="cell_type", palette="tab21"), ValueError, ["palette='tab21' is not the name of a colormap", "Did you mean 'tab20"]),
    "an invalid colour": (same, maps(color="cell_type", palette=["red", "rad"]), ValueError, ["palette: 'rad', for 'CD4 T', is not a colour"]),
    "a colour as number": (same, maps(color="cell_type", palette={"B": 3}), ValueError, ["palette: 3, for 'B', is not a colour", "'#rrggbb'"]),
    "palette as number": (same, maps(color="cell_type", palette=5), ValueError, ["palette must be the name of a colormap, a list of colours or a dictionary", "but is 5"]),
    "palette empty": (same, maps(color="cell_type", palette=[]), ValueError, ["palette must be the name of a colormap", "but is []"]),
    "size of 0": (same, maps(size=0), ValueError, ["size must be above 0, but is 0.0"]),
    "ncols of 0": (same, maps(ncols=0), ValueError, ["ncols must be at least 1, but is 0"]),
    "an unknown legend_loc": (same, maps(legend_loc="top"), ValueError, ["legend_loc='top' is not known"]),
    "importance missing": (same, draw(pl.importance_ranking), KeyError, ["mdata.uns['indiseek_importance'] is missing", "tl.modality_importance(mdata, label_key=...)"]),
    "retrieval missing": (same, draw(pl.retrieval), KeyError, ["mdata.uns['indiseek_retrieval'] is missing", "tl.retrieval(mdata)"]),
    "agreement of clusters missing": (same, draw(pl.cluster_agreement), KeyError, ["mdata.uns['indiseek_clusters'] is missing", "tl.compare_clusters(mdata, ...)"]),
    "splits of clusters missing": (same, draw(pl.cluster_splits), KeyError, ["tl.compare_clusters(mdata, ...)"]),
    "rank correlation missing": (same, draw(pl.rank_correlation), KeyError, ["mdata.uns['indiseek_rank_correlation'] is missing", "tl.rank_correlation(mdata, label_key=...)"]),
    "importance without columns": (same, draw(pl.importance_ranking, pd.DataFrame({"label": ["B"]})), KeyError, ["lacks the columns ['n_cells', 'theta'"]),
    "importance without rows": (same, draw(pl.importance_ranking, pd.DataFrame(columns=["label", "n_cells", "theta", "lower", "upper", "reliable"])), ValueError, ["The table has no row", "tl.modality_importance"]),
    "retrieval without recall": (same, draw(pl.retrieval, pd.DataFrame({"direction": ["a to b"]})), KeyError, ["lacks a column 'recall@<k>'"]),
    "an audit of another type": (same, draw(pl.audit, {"gain": 1}), TypeError, ["report must be what model.audit() returns, or its table", "dict"]),
    "an audit without rows": (same, draw(pl.audit, AUDIT.table[:0]), ValueError, ["The table of report has no row"]),
    "an audit without a figure": (same, draw(pl.audit, AUDIT.table.drop(columns="gain")), KeyError, ["The table of report lacks the columns ['gain']", "model.audit()"]),
    "a prediction as number": (same, draw(pl.prediction, 3), TypeError, ["report must be what model.audit_prediction(source, target) returned, but is int"]),
    "history as number": (same, draw(pl.history, 3), TypeError, ["model must be a trained model or its history", "model.train()"]),
    "unknown keys of the history": (same, draw(pl.history, {"shared/loss": pd.Series([1.0])}, keys="shared/los"), KeyError, ["keys=['shared/los'] are not in the history", "shared/loss"]),
    "an empty history": (same, draw(pl.history, {}), ValueError, ["The history has no curves", "model.train()"]),
    "a path as number": (same, draw(pl.lambda_path, 3), TypeError, ["path must be what model.lambda_path() returns"]),
    "n_top of 0": (same, draw(pl.attribution, ATTRIBUTIONS, n_top=0), ValueError, ["n_top must be at least 1, but is 0"]),
    "an unknown dimension": (same, draw(pl.attribution, ATTRIBUTIONS, dimensions=[7]), ValueError, ["dimensions: the table has no dimension 7, only [0, 1]"]),
    "an unknown group": (same, draw(pl.attribution, ATTRIBUTIONS, groups=["NK"]), ValueError, ["groups: the table has no group 'NK', only ['all']"]),
    "attributions of two kinds": (same, draw(pl.attribution, TWO_KINDS), ValueError, ["table contains several values of kind: ['specific', 'shared']", "Draw one at a time"]),
    "attributions without rows": (same, draw(pl.attribution, ATTRIBUTIONS[:0]), ValueError, ["table has no row", "model.feature_attribution"]),
    "attributions without a column": (same, draw(pl.attribution, ATTRIBUTIONS.drop(columns="magnitude")), KeyError, ["table lacks the columns ['magnitude']"]),
    "an unknown measure": (same, draw(pl.attribution, ATTRIBUTIONS, measure="mean"), ValueError, ["measure='mean' is not known"]),
    "ax as text": (same, draw(pl.audit, AUDIT, ax="left"), TypeError, ["ax must be matplotlib axes, but is str"]),
    "save with an unknown format": (same, draw(pl.audit, AUDIT, save="audit.loom"), ValueError, ["save: audit.loom must end in a format that matplotlib writes", "pdf"]),
    "save in a missing folder": (same, draw(pl.audit, AUDIT, save="/nowhere/audit.png"), FileNotFoundError, ["save: /nowhere/audit.png: there is no folder /nowhere"]),
    "save as number": (same, draw(pl.audit, AUDIT, save=3), ValueError, ["save must be a path, but is 3"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_figures(name: str, encoded: MuData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corrupt, call, error, parts = CASES[name]
    monkeypatch.chdir(tmp_path)
    mdata = corrupt(encoded.copy())
    before = fingerprint(mdata) if isinstance(mdata, MuData) else None
    assert_rejected(lambda: call(mdata), error, parts)
    assert before is None or fingerprint(mdata) == before
    assert list(tmp_path.iterdir()) == []
    plt.close("all")
