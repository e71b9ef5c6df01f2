"""The benchmark of methods x data x seeds: runs, goes on where it ended, and shows what is in its table."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from indiseek_sc.baselines import METHODS

TINY = ["--seeds", "1", "--max-cells", "160", "--synthetic-cells", "160", "--n-lambdas", "1", "--max-epochs", "1"]
AUDITOR = """
def audit(*, x, shared, specific, decoded, train, test):
    assert not set(train) & set(test)
    return {f"{role}.leak_ratio": float(specific[role].shape[1]) for role in x}
"""


@pytest.fixture
def script(load_script, monkeypatch):
    monkeypatch.setattr(load_script("_disentangle_figures"), "DPI", 40)  # for time's sake
    return load_script("disentangle")


@pytest.fixture
def auditor(tmp_path):
    """An auditor that costs nothing: the leak ratio is the width of the specific code."""
    file = tmp_path / "width.py"
    file.write_text(AUDITOR)
    return ["--auditor", str(file)]


@pytest.fixture
def make_rows():
    """Return a function that makes a table as runs would, with any figures."""

    def make_rows(methods, data=("liu", "S1"), n_seeds=2) -> pd.DataFrame:
        rng = np.random.default_rng(0)
        rows = []
        for name in data:
            for method in methods:
                for seed in range(n_seeds):
                    row = {"data": name, "method": method, "seed": seed, "lambda": 10.0, "lambda_within": None}
                    row |= {"n_cells": 3000, "n_train": 1500, "seconds": 12.0, "foscttm": 0.1, "recall@10": 0.2}
                    row |= {"settings": "some", "versions": "torch 2", "date": "2026-01-02"}
                    for role in ("rna", "adt"):
                        figures = ("agreement_flat", "sufficiency", "leak_ratio", "leak_p", "gain", "complete")
                        row |= {f"{role}.{figure}": rng.random() for figure in figures}
                        if name.startswith("S"):
                            row |= {f"{role}.{kind}_r2_{end}": rng.random() for kind, end in RECOVERED}
                    if name == "liu":
                        for kind in ("raw", "shared", "specific", "joint", "decoded"):
                            row |= {f"rho.{kind}": 0.5, f"rho.{kind}_lower": 0.4, f"rho.{kind}_upper": 0.6}
                    rows.append(row)
        return pd.DataFrame(rows)

    return make_rows


RECOVERED = [("private", "min"), ("private", "mean"), ("shared", "max"), ("shared", "mean")]


def test_runs_and_goes_on_where_it_ended(script, auditor, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    words = ["pbmc_covid", "S1", *TINY, *auditor, "--output", str(output)]
    words += ["--methods", "clip", "info_disen", "--synthetic-methods", "no_critics"]
    assert script.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3 runs, about ")
    table = pd.read_csv(output / "table.csv").set_index(["data", "method"])
    assert list(table.index) == [("pbmc_covid", "clip"), ("pbmc_covid", "info_disen"), ("S1", "no_critics")]
    assert (table["n_cells"] == 160).all() and (table["n_train"] == 80).all()
    assert list(table["n_specific"])[:2] == [0, 16]
    np.testing.assert_array_equal(table["rna.leak_ratio"], table["n_specific"].clip(lower=1))  # CLIP's is a constant
    assert table["foscttm"].between(0, 1).all()
    # Only a rival with lambdas to choose from has a path, of all that were tried.
    path = pd.read_csv(output / "paths.csv")
    assert set(path["method"]) == {"info_disen"} and set(path["modality"]) == {"rna", "adt"}
    assert set(path["lambda"]) == {METHODS["info_disen"].lambdas[0]} == set(path["chosen"])
    assert list(table["lambda_chosen"]) == [False, True, False]
    # Known factors of S1 alone; the code tells private ones and not shared ones.
    assert table["rna.private_r2_mean"].isna().tolist() == [True, True, False]
    assert table.loc[("S1", "no_critics"), "rna.private_r2_mean"] > 0.2
    assert table.loc[("S1", "no_critics"), "rna.shared_r2_mean"] < 0.1
    assert {file.stem for file in output.glob("*.png")} == {
        *("frontier_pbmc_covid", "frontier_S1", "shared_pbmc_covid", "shared_S1", "recovery")
    }

    made = []
    monkeypatch.setattr(script, "draw_all", lambda *_: None)
    monkeypatch.setattr(script, "run", lambda job, options: made.append(job))
    assert script.main(words) == 0
    assert made == []
    with pytest.raises(ValueError, match="rows of other settings"):
        script.main([*words, "--max-cells", "150"])


def test_a_run_that_fails_does_not_end_the_others(script, make_rows, tmp_path, monkeypatch, capsys):
    rows = make_rows(["clip"], data=("S1", "S2", "S3"), n_seeds=1).set_index("data")

    def run(job, options):
        if job.data == "S2":
            raise RuntimeError("no luck")
        return {"data": job.data, **rows.loc[job.data], "settings": str(options)}, None

    monkeypatch.setattr(script, "draw_all", lambda *_: None)
    monkeypatch.setattr(script, "run", run)
    words = ["S1", "S2", "S3", "--synthetic-methods", "clip", "--seeds", "1", "--output", str(tmp_path)]
    assert script.main(words) == 1
    assert "FAILED S2 clip 0: RuntimeError: no luck" in capsys.readouterr().err
    assert list(pd.read_csv(tmp_path / "table.csv")["data"]) == ["S1", "S3"]


def test_an_empty_table_cannot_be_shown(script, tmp_path, capsys):
    assert script.main(["--report", "--output", str(tmp_path)]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_rows_of_the_same_run_are_replaced(script, tmp_path):
    file = tmp_path / "table.csv"
    for value in (1, 2):
        script.append(file, pd.DataFrame({"data": ["a", "b"], "seed": 0, "value": value}), ["data", "seed"])
    assert pd.read_csv(file)["value"].tolist() == [2, 2]
    assert [f.name for f in tmp_path.iterdir()] == ["table.csv"]


def test_what_quick_leaves_open_can_be_said(script):
    arguments = script.read_arguments(["--quick", "--seeds", "3"])
    assert (arguments.seeds, arguments.max_cells, arguments.data) == (3, 400, ["pbmc_covid", "S1"])
    assert script.read_arguments([]).methods == list(METHODS)


def test_lambdas(load_script):
    runs = load_script("_disentangle_runs")
    assert runs.lambdas_of("indiseek", 3) == runs.lambdas_of("indiseek_literal", 3) == runs.lambdas_of("clip", 3) == ()
    assert runs.lambdas_of("joint_opt", 3) == (1000, 100, 10)
    assert runs.lambdas_of("joint_opt", 99) == METHODS["joint_opt"].lambdas
    assert set(runs.SECONDS) == set(METHODS)


def test_a_stage_that_ends_early_is_no_result(load_script, monkeypatch):
    runs = load_script("_disentangle_runs")

    def fit(*_):
        import warnings

        warnings.warn("Stage 'specific': Interrupted. The best weights so far were kept.", UserWarning, stacklevel=2)

    monkeypatch.setattr(runs, "fit", fit)
    with pytest.raises(UserWarning, match="Interrupted"):
        runs.run(runs.Job("S1", "clip", 0), runs.Options(synthetic_cells=100))


def test_rank_correlation_against_a_loop(load_script):
    judge = load_script("_disentangle_judge")
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "c", "d", "few"], [20, 30, 40, 15, 14])
    shift = dict(zip("abcd", (0.0, 0.3, 0.5, 0.9), strict=True)) | {"few": 9.0}
    theta = np.array([shift[name] for name in labels]) + rng.normal(size=len(labels))
    weights = np.array([shift[name] for name in labels]) ** 2 + rng.normal(size=len(labels)) / 3
    found = dict(judge.rank_correlation(theta, weights, labels, seed=0, n_bootstrap=2000))

    def slow(rows):
        means = [[values[rows][labels[rows] == name].mean() for name in "abcd"] for values in (theta, weights)]
        return spearmanr(*means).statistic

    assert found[""] == pytest.approx(slow(np.arange(len(labels))))
    drawn = []
    for _ in range(500):
        rows = [rng.choice(np.flatnonzero(labels == name), (labels == name).sum()) for name in "abcd"]
        drawn.append(slow(np.concatenate(rows)))
    np.testing.assert_allclose([found["_lower"], found["_upper"]], np.quantile(drawn, [0.025, 0.975]), atol=0.25)
    assert found["_lower"] <= np.median(drawn) <= found["_upper"]
    few = np.isin(labels, ["a", "b", "few"])
    assert np.isnan(dict(judge.rank_correlation(theta[few], weights[few], labels[few], seed=0))[""])


class Codes:
    """Stands for a model: in RNA labels 0, 1, 2 are told apart ever worse, in protein ever better."""

    modalities = {"rna": "rna", "adt": "adt"}

    def __init__(self, labels: np.ndarray) -> None:
        rng = np.random.default_rng(0)
        noise = rng.normal(size=(len(labels), 2))
        place = 10 * np.c_[labels, labels]
        self.codes = {
            "rna": place + noise * (1 + 4 * labels[:, None]),
            "adt": place + noise * (9 - 4 * labels[:, None]),
        }

    def get_features(self, modality):
        return self.codes[modality]

    get_reconstruction = get_features

    def get_latent_representation(self, kind, modality):
        return self.codes[modality][:, :0] if kind == "specific" else self.codes[modality]


@pytest.mark.parametrize("column", ["RNA.weight", "rna:mod_weight", "rna:wnn_weight"])
def test_rho_where_weights_are_known(load_script, column):
    judge = load_script("_disentangle_judge")
    labels = np.repeat([0, 1, 2], 40)
    mdata = SimpleNamespace(obs=pd.DataFrame({column: 1.0 - labels / 2}), mod={})
    figures = judge.judge_ranks(Codes(labels), mdata, labels.astype(str), np.arange(120), seed=0)
    assert set(figures) == {
        f"rho.{k}{e}" for k in ("raw", "shared", "joint", "decoded") for e in ("", "_lower", "_upper")
    }
    assert figures["rho.raw"] == pytest.approx(1)
    mdata.obs = mdata.obs.rename(columns={column: "something"})
    assert judge.judge_ranks(Codes(labels), mdata, labels.astype(str), np.arange(120), seed=0) == {}


def test_report(load_script, make_rows):
    report = load_script("_disentangle_report").report
    table = make_rows(["indiseek", "clip", "info_disen"])
    of_rival = (table["method"] == "info_disen") & (table["data"] == "liu")
    table.loc[of_rival, "lambda"], table.loc[of_rival, "lambda_within"] = [100.0, 10.0], [True, False]
    table.loc[of_rival, "rna.leak_ratio"], table.loc[of_rival, "adt.leak_ratio"] = [0.1, 0.3], np.nan
    text = report(table)
    line = next(line for line in text.splitlines() if line.startswith("| InfoDisen"))
    assert line.split(" | ")[1] == "100, 10*"
    assert line.split(" | ")[4] == "0.200 ± 0.141 / -"
    assert "| CLIP only | - |" in text
    assert "### liu: 1,500 cells to learn from, 1,500 held out, 2 seed(s)" in text
    assert "| S1 | IndiSeek |" in text and "| liu | IndiSeek | 0.50 ± 0.00 [0.40, 0.60] |" in text
    assert "2026-01-02; torch 2." in text
    without = table.drop(columns=[column for column in table if column.startswith("rho.")])
    assert "No data set has WNN weights" in report(without)


def test_figures(load_script, make_rows, tmp_path, monkeypatch):
    figures = load_script("_disentangle_figures")
    monkeypatch.setattr(figures, "DPI", 40)
    table = make_rows(["indiseek", "clip", "no_critics"])
    drawn = figures.draw_all(table, tmp_path)
    assert [file.stem for file in drawn] == [
        "frontier_liu",
        "shared_liu",
        "frontier_S1",
        "shared_S1",
        "recovery",
        "rho_liu",
    ]
    assert all(file.stat().st_size > 1000 for file in drawn)


def test_methods_of_one_stage_1_share_a_marker(load_script, make_rows):
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


@pytest.mark.slow
def test_quick(script, tmp_path):
    assert script.main(["--quick", "--output", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "table.csv").set_index(["data", "method"])
    assert len(table) == 6
    for role in ("rna", "adt"):
        ours, clip = table.xs("indiseek", level="method"), table.xs("clip", level="method")
        assert (ours[f"{role}.gain"] > 0.9).all() and (ours[f"{role}.leak_ratio"] < 0.1).all()
        assert (clip[f"{role}.gain"] < 0.1).all()


@pytest.mark.slow
def test_every_method_in_processes_of_their_own(script, auditor, tmp_path):
    words = ["pbmc_covid", *TINY, *auditor, "--jobs", "2", "--output", str(tmp_path / "out")]
    assert script.main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("method")
    assert set(table.index) == set(METHODS)
    assert table.loc["indiseek_literal", "lambda"] == 10
    assert table.loc["indiseek", "lambda"] == 100
    chosen = {"factorized_cl", "info_disen", "joint_opt", "intra_modal"}
    assert set(table.index[table["lambda_chosen"]]) == chosen
