"""Rank correlations in the benchmark's table, its report and its figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc.metrics import modality_importance, rank_correlation, wnn_weights


class Latents:
    """Model with labels 0, 1, 2 that RNA separates less and less, and protein better and better."""

    modalities = {"rna": "rna", "adt": "adt"}

    def __init__(self, labels: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(len(labels), 2))
        place = 10 * np.c_[labels, labels]
        self.latents = {
            "rna": place + noise * (1 + 4 * labels[:, None]),
            "adt": place + noise * (9 - 4 * labels[:, None]),
        }

    def get_features(self, modality):
        return self.latents[modality]

    get_reconstruction = get_features

    def get_latent_representation(self, kind, modality):
        return self.latents[modality][:, :0] if kind == "specific" else self.latents[modality]


RHO = {f"rho.{kind}{end}" for kind in ("raw", "shared", "both", "decoded") for end in ("", "_lower", "_upper")}


def evaluate_ranks(evaluate, model, mdata, *arguments, **kwargs):
    return evaluate.evaluate_ranks(evaluate.latents_of(model), model.modalities, mdata, *arguments, **kwargs)


@pytest.fixture
def cells():
    """Return labels 0, 1 and 2, forty cells each, and a data set with their names only."""
    names = [f"cell{i}" for i in range(120)]
    parts = {name: AnnData(np.ones((120, 2)), obs=pd.DataFrame(index=names)) for name in ("rna", "adt")}
    parts["rna"].var_names, parts["adt"].var_names = ["g0", "g1"], ["p0", "p1"]
    return np.repeat([0, 1, 2], 40), MuData(parts)


@pytest.mark.parametrize("column", ["RNA.weight", "rna:mod_weight", "rna:wnn_weight"])
def test_rho_uses_weights_in_the_data(load_script, cells, column):
    evaluate = load_script("_disentangle_evaluate")
    labels, mdata = cells
    mdata.obs[column] = 1.0 - labels / 2
    figures = evaluate_ranks(evaluate, Latents(labels), mdata, labels.astype(str), np.arange(120), seed=0)
    assert column in figures.pop("wnn_source")
    assert set(figures) == RHO
    assert figures["rho.raw"] == pytest.approx(1)


def test_rho_uses_computed_weights_otherwise(load_script, cells):
    evaluate = load_script("_disentangle_evaluate")
    labels, mdata = cells
    model = Latents(labels)
    figures = evaluate_ranks(evaluate, model, mdata, labels.astype(str), np.arange(120), seed=0)
    assert figures.pop("wnn_source") == "indiseek_sc.metrics.wnn_weights of principal components (2, 2)"
    assert set(figures) == RHO
    # Principal components of two features are a rotation about their mean.
    centred = [model.latents[role] - model.latents[role].mean(axis=0) for role in ("rna", "adt")]
    weights, _ = evaluate.get_wnn_weights(mdata, model.modalities, model.latents)
    np.testing.assert_allclose(weights, wnn_weights(*centred), atol=1e-6)
    expected = rank_correlation(modality_importance(*centred, labels, n_bootstrap=1).theta, weights, labels)
    assert figures["rho.raw"] == pytest.approx(expected.table["estimate"][0])
    two = np.minimum(labels, 1).astype(str)
    assert set(evaluate_ranks(evaluate, model, mdata, two, np.arange(120), seed=0)) == {"wnn_source"}
    assert evaluate_ranks(evaluate, model, mdata, None, np.arange(120), seed=0) == {}


def test_the_report_has_means_stars_and_sources(load_script, make_rows):
    report = load_script("_disentangle_report").report
    table = make_rows(["indiseek", "clip", "info_disen"])
    of_baseline = (table["method"] == "info_disen") & (table["data"] == "liu")
    table.loc[of_baseline, "lambda"], table.loc[of_baseline, "lambda_within"] = [100.0, 10.0], [True, False]
    table.loc[of_baseline, "rna.leak_ratio"], table.loc[of_baseline, "adt.leak_ratio"] = [0.1, 0.3], np.nan
    text = report(table)
    line = next(line for line in text.splitlines() if line.startswith("| InfoDisen"))
    assert line.split(" | ")[1] == "100, 10*"
    assert line.split(" | ")[4] == "0.200 ± 0.141 / -"
    assert "| CLIP only | - |" in text
    assert "### liu: 1,500 training cells, 1,500 held-out cells, 2 seeds" in text
    assert "| S1 | IndiSeek |" in text and "| liu | IndiSeek | 0.50 ± 0.00 [0.40, 0.60] |" in text
    assert "2026-01-02; torch 2." in text
    assert "WNN weights of liu: obs column 'RNA.weight', named as by Seurat." in text
    without = table.drop(columns=[column for column in table if column.startswith("rho.")])
    assert "No data set has WNN weights" in report(without)


def test_all_figures_are_drawn(load_script, make_rows, tmp_path, monkeypatch):
    figures = load_script("_disentangle_figures")
    monkeypatch.setattr(figures, "DPI", 40)
    table = make_rows(["indiseek", "clip", "no_critics"])
    drawn = figures.draw_all(table, tmp_path)
    assert [file.stem for file in drawn] == [
        "leak_and_gain_liu",
        "shared_liu",
        "leak_and_gain_S1",
        "shared_S1",
        "recovery",
        "feature_importance",
        "rho_liu",
    ]
    assert all(file.stat().st_size > 1000 for file in drawn)


def test_methods_with_the_same_stage_1_share_a_marker(load_script, make_rows):
    figures = load_script("_disentangle_figures")
    table = make_rows(["indiseek", "clip", "no_critics"], data=("liu",))
    columns = [f"{role}.{figure}" for role in ("rna", "adt") for figure in ("sufficiency", "agreement_flat")]
    table.loc[table["method"] == "no_critics", columns] = table.loc[table["method"] == "indiseek", columns].to_numpy()
    figure = figures.draw_shared(table, "liu")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "IndiSeek\nwhitening, no critics",
        "CLIP only",
    ]
    figures.plt.close(figure)
