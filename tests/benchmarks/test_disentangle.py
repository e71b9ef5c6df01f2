"""The benchmark of methods by data sets by seeds runs, and continues where it ended."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.baselines import METHODS

TINY = ["--seeds", "1", "--max-cells", "160", "--synthetic-cells", "160", "--n-lambdas", "1", "--max-epochs", "1"]
AUDITOR = """
def audit(*, x, shared, specific, decoded, train, test):
    assert not set(train) & set(test)
    return {f"{role}.leak_ratio": float(specific[role].shape[1]) for role in x}
"""


@pytest.fixture
def script(load_script, monkeypatch):
    monkeypatch.setattr(load_script("_disentangle_figures"), "DPI", 40)  # faster
    return load_script("disentangle")


@pytest.fixture
def auditor(tmp_path):
    """An auditor without cost: the leak ratio is the width of the specific representation."""
    file = tmp_path / "width.py"
    file.write_text(AUDITOR)
    return ["--auditor", str(file)]


@pytest.mark.slow
def test_the_benchmark_runs_and_continues_where_it_ended(script, auditor, tmp_path, monkeypatch, capsys):
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
    # Real cells have labels, but no weights.
    assert table.loc["pbmc_covid", "wnn_source"].str.contains(r"wnn_weights of principal components \(\d+, 18\)$").all()
    # Only a baseline with lambdas to choose from has a path, with all that were tried.
    path = pd.read_csv(output / "paths.csv")
    assert set(path["method"]) == {"info_disen"} and set(path["modality"]) == {"rna", "adt"}
    assert set(path["lambda"]) == {METHODS["info_disen"].lambdas[0]} == set(path["chosen"])
    assert list(table["lambda_chosen"]) == [False, True, False]
    # Only S1 has known factors; the representation explains private ones and not shared ones.
    assert table["rna.private_r2_mean"].isna().tolist() == [True, True, False]
    assert table.loc[("S1", "no_critics"), "rna.private_r2_mean"] > 0.2
    assert table.loc[("S1", "no_critics"), "rna.shared_r2_mean"] < 0.1
    # The representation uses and contains features of private factors.
    of_s1 = table.loc[("S1", "no_critics")]
    assert of_s1["rna.jacobian_shared"] + of_s1["rna.jacobian_private"] == pytest.approx(1)
    assert of_s1["rna.probe_private"] > of_s1["rna.probe_shared"]
    assert {file.stem for file in output.glob("*.png")} == {
        *("leak_and_gain_pbmc_covid", "leak_and_gain_S1", "shared_pbmc_covid", "shared_S1"),
        *("recovery", "feature_importance"),
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


def test_an_empty_table_has_no_report(script, tmp_path, capsys):
    assert script.main(["--report", "--output", str(tmp_path)]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_rows_of_the_same_run_are_replaced(script, tmp_path):
    file = tmp_path / "table.csv"
    for value in (1, 2):
        script.append(file, pd.DataFrame({"data": ["a", "b"], "seed": 0, "value": value}), ["data", "seed"])
    assert pd.read_csv(file)["value"].tolist() == [2, 2]
    assert [f.name for f in tmp_path.iterdir()] == ["table.csv"]


def test_arguments_override_quick(script):
    arguments = script.read_arguments(["--quick", "--seeds", "3"])
    assert (arguments.seeds, arguments.max_cells, arguments.data) == (3, 400, ["pbmc_covid", "S1"])
    assert script.read_arguments([]).methods == list(METHODS)


def test_lambdas_are_evenly_spaced_in_the_list_of_the_method(load_script):
    runs = load_script("_disentangle_runs")
    assert runs.lambdas_of("indiseek", 3) == runs.lambdas_of("indiseek_literal", 3) == runs.lambdas_of("clip", 3) == ()
    assert runs.lambdas_of("joint_opt", 3) == (1000, 100, 10)
    assert runs.lambdas_of("joint_opt", 99) == METHODS["joint_opt"].lambdas
    assert set(runs.SECONDS) == set(METHODS)


def test_a_stage_that_ends_early_fails_the_run(load_script, monkeypatch):
    runs = load_script("_disentangle_runs")

    def fit(*_):
        import warnings

        warnings.warn("Stage 'specific': Interrupted. The best weights so far were kept.", UserWarning, stacklevel=2)

    monkeypatch.setattr(runs, "fit", fit)
    with pytest.raises(UserWarning, match="Interrupted"):
        runs.run(runs.Job("S1", "clip", 0), runs.Options(synthetic_cells=100))


@pytest.mark.slow
def test_a_quick_run_separates_indiseek_from_clip(script, tmp_path):
    assert script.main(["--quick", "--max-cells", "1200", "--output", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "table.csv").set_index(["data", "method"])
    assert len(table) == 6
    for role in ("rna", "adt"):
        ours, clip = table.xs("indiseek", level="method"), table.xs("clip", level="method")
        assert (ours[f"{role}.gain"] > 0.9).all() and (ours[f"{role}.leak_ratio"] < 0.1).all()
        assert (clip[f"{role}.gain"] < 0.1).all()


@pytest.mark.slow
def test_every_method_runs_in_parallel_processes(script, auditor, tmp_path):
    words = ["pbmc_covid", *TINY, *auditor, "--jobs", "2", "--output", str(tmp_path / "out")]
    assert script.main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "table.csv").set_index("method")
    assert set(table.index) == set(METHODS)
    assert table.loc["indiseek_literal", "lambda"] == 10
    assert table.loc["indiseek", "lambda"] == 100
    chosen = {"factorized_cl", "info_disen", "joint_opt", "intra_modal"}
    assert set(table.index[table["lambda_chosen"]]) == chosen
