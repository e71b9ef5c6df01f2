from __future__ import annotations

import json
import logging
import os
import re
import signal
from importlib.metadata import version
from pathlib import Path

import matplotlib.image
import mudata
import numpy as np
import pandas as pd
import pytest
from anndata.tests.helpers import assert_equal
from mudata import MuData

from indiseek_sc import IndiSeek, datasets, pl
from indiseek_sc.cli import _pipeline
from indiseek_sc.cli._maps import map_latents
from indiseek_sc.cli._outcome import Clock
from indiseek_sc.train import NonFiniteLossError, StageProgress

from .conftest import make_user_data, run

LATENTS = [f"X_indiseek_{kind}_{name}" for kind in ("shared", "specific") for name in ("rna", "prot")]


def refuse_constant(name: str) -> None:
    """Raise an error for constants that are not JSON."""
    raise ValueError(f"{name} is not JSON")


def test_output_contains_representations_umaps_clusters_and_theta(fitted):
    mdata = mudata.read_h5mu(fitted / "encoded.h5mu")
    for key in ["X_umap", *LATENTS, *(f"{latent}_umap" for latent in LATENTS), "X_indiseek"]:
        assert np.isfinite(mdata.obsm[key]).all()
        assert np.ptp(mdata.obsm[key], axis=0).min() > 0
    assert mdata.obsm["X_indiseek_shared_rna_umap"].shape == (300, 2)
    assert mdata.obs["leiden"].nunique() > 3
    assert mdata.obs["indiseek_split"].value_counts()["test"] == 60
    assert np.isfinite(mdata.obs["indiseek_theta"]).all()
    assert set(mdata.uns["indiseek_importance"]["label"]) == set(mdata["rna"].obs["cell_type"])
    assert mdata.obsp["connectivities"].shape == (300, 300)


def test_contents_of_the_input_are_kept(user_file, fitted):
    before, after = mudata.read_h5mu(user_file), mudata.read_h5mu(fitted / "encoded.h5mu")
    assert list(after.mod) == list(before.mod)
    for name in before.mod:
        assert_equal(after[name], before[name], exact=True)
    assert_equal(after.uns["notes"], before.uns["notes"])
    pd.testing.assert_frame_equal(after.obs[before.obs.columns.drop("leiden")], before.obs.drop(columns="leiden"))
    pd.testing.assert_frame_equal(after.var, before.var)


def test_earlier_results_of_scanpy_are_renamed(user_file, fitted):
    before, after = mudata.read_h5mu(user_file), mudata.read_h5mu(fitted / "encoded.h5mu")
    assert (after.obs["leiden_before_indiseek"] == "mine").all()
    np.testing.assert_array_equal(after.obsm["X_umap_before_indiseek"], before.obsm["X_umap"])
    assert "obs['leiden_before_indiseek'], obsm['X_umap_before_indiseek']" in (fitted / "log.txt").read_text()


@pytest.mark.slow
def test_an_earlier_graph_refers_to_its_renamed_matrices(pbmc_small):
    rng = np.random.default_rng(0)
    pbmc_small.obsm["X_indiseek"] = rng.normal(size=(600, 3))
    map_latents(pbmc_small, "X_indiseek", (), seed=0, n_epochs=1)
    earlier = pbmc_small.obsp["distances"].copy()
    _pipeline._rename_earlier_results(pbmc_small, Clock())
    pbmc_small.obsm["X_indiseek"] = rng.normal(size=(600, 3))
    map_latents(pbmc_small, "X_indiseek", (), seed=0, n_epochs=1)
    key = pbmc_small.uns["neighbors_before_indiseek"]["distances_key"]
    assert abs(pbmc_small.obsp[key] - earlier).nnz == 0
    assert abs(pbmc_small.obsp[pbmc_small.uns["neighbors"]["distances_key"]] - earlier).nnz > 0


def test_report_folder_contains_exactly_the_listed_files(fitted):
    facts = json.loads((fitted / "report" / "summary.json").read_text())
    assert files_in(fitted / "report") == set(facts["files"])
    tables = {name for name in facts["files"] if name.startswith("tables/")}
    assert {"tables/audit.csv", "tables/theta.csv", "tables/retrieval.csv", "tables/training.csv"} < tables
    for name in tables:
        assert len(pd.read_csv(fitted / "report" / name)) > 0
    assert {file.name for file in fitted.iterdir()} == {"cells.h5mu", "encoded.h5mu", "report", "model", "log.txt"}


def files_in(folder):
    """Return the relative paths of all files in a folder."""
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}


def test_figures_have_column_or_page_width(fitted):
    for file in (fitted / "report").glob("*.png"):
        image = matplotlib.image.imread(file)
        assert min(abs(image.shape[1] - round(width / 25.4 * pl.DPI)) for width in (pl.COLUMN, pl.PAGE)) <= 1
        assert image[..., :3].std() > 0.05


def test_summary_is_strict_json_with_all_facts(fitted):
    text = (fitted / "report" / "summary.json").read_text()
    facts = json.loads(text, parse_constant=refuse_constant)
    mdata = mudata.read_h5mu(fitted / "encoded.h5mu")
    assert facts["n_cells"] == mdata.obs["indiseek_split"].value_counts().to_dict()
    assert facts["modalities"] == {"rna": "rna", "adt": "prot"}
    assert facts["epochs"]["shared"] == 3
    assert facts["seed"] == 0
    assert facts["settings"]["lambda_"] == mdata.uns["indiseek"]["settings"]["lambda"]
    assert {"prot.leak_ratio", "rna.gain", "foscttm"} <= set(facts["audit"])
    dimensions = mdata.uns["indiseek_dimensions"]
    assert [row["is_technical"] for row in facts["dimensions"]] == dimensions["is_technical"].tolist()
    assert {"library size of prot", "donor"} <= set(mdata.uns["indiseek_dimensions_covariates"]["covariate"])
    table = mdata.uns["indiseek_importance"]
    assert [row["label"] for row in facts["theta"]] == list(table["label"])
    assert facts["theta"][0]["theta"] == pytest.approx(table["theta"].iloc[0])
    assert facts["n_dimensions"]["specific"]["prot"] == mdata.obsm["X_indiseek_specific_prot"].shape[1]
    assert 0 < sum(facts["seconds"].values()) < 600
    assert facts["versions"]["torch"] == version("torch")
    assert facts["session"]["torch"].startswith(version("torch"))  # that of the module may be added
    assert facts["session"]["scvi-tools"] == version("scvi-tools")
    assert "logical CPU cores" in facts["session"]["CPU"]


def test_summary_shows_every_figure(fitted):
    text = (fitted / "report" / "summary.md").read_text()
    shown = re.findall(r"!\[.+\]\((.+)\)", text)
    assert sorted(shown) == sorted(file.name for file in (fitted / "report").glob("*.png"))
    assert "No claims are made" in text  # without refits
    assert "nan" not in text


@pytest.mark.slow
@pytest.mark.usefixtures("maps_here")
def test_fit_without_report_and_labels(user_file, tmp_path):
    result = run(
        *("fit", user_file, tmp_path / "out.h5mu", "--adt", "prot", "--rna-layer", "counts", "--max-epochs", "1"),
        *("--accelerator", "cpu", "--lambda", "7", "--seed", "3"),
    )
    assert result.exit_code == 0, result.output
    assert [file.name for file in tmp_path.iterdir()] == ["out.h5mu"]
    assert "clusters, because --label-key is not given" in result.output
    mdata = mudata.read_h5mu(tmp_path / "out.h5mu")
    assert set(mdata.uns["indiseek_importance"]["label"]) == set(mdata.obs["leiden"])
    assert mdata.uns["indiseek"]["settings"]["lambda"] == 7
    assert mdata.uns["indiseek"]["settings"]["seed"] == 3


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch):
    """Return a function that replaces the end of each training epoch by a call."""

    def stop(action) -> None:
        monkeypatch.setattr(StageProgress, "on_train_epoch_end", lambda *_: action())

    return stop


def fit_quickly(user_file: Path, folder: Path, *more: str):
    """Run ``fit`` for one epoch per stage."""
    return run(
        *("fit", user_file, folder / "out.h5mu", "--report", folder / "figures", "--adt", "prot"),
        *("--rna-layer", "counts", "--max-epochs", "1", "--accelerator", "cpu", *more),
    )


@pytest.mark.slow  # trains twice
@pytest.mark.usefixtures("maps_here")
def test_interrupted_training_resumes_from_its_checkpoint(user_file, tmp_path, monkeypatch, caplog):
    original, begun = StageProgress.on_train_epoch_end, set()

    def interrupt_the_second_stage(progress, trainer, plan):
        original(progress, trainer, plan)
        begun.add(progress.description)
        if len(begun) == 2:
            raise KeyboardInterrupt

    checkpoint = tmp_path / "checkpoint"
    monkeypatch.setattr(logging.getLogger("scvi"), "propagate", True)
    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "on_train_epoch_end", interrupt_the_second_stage)
        result = fit_quickly(user_file, tmp_path, "--checkpoint", checkpoint)
    assert result.exit_code == 130, result.output
    assert result.output.splitlines()[-1].endswith("the same command resumes after the last completed stage.")
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
    result = fit_quickly(user_file, tmp_path, "--checkpoint", checkpoint, "--lambda", "3")
    assert result.exit_code == 1, result.output
    assert re.search(
        r"error: --checkpoint: .*differs in --lambda \(saved: 100.0, now: 3.0\)\. Run the command", result.output
    )
    result = fit_quickly(user_file, tmp_path, "--checkpoint", checkpoint)
    assert result.exit_code == 0, result.output
    assert "after the stage 'shared'" in caplog.text
    assert list(checkpoint.iterdir()) == []
    assert (tmp_path / "out.h5mu").is_file()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupted_training_writes_nothing(user_file, tmp_path, stopped_at, name):
    # Shells start background jobs with this signal ignored.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    stopped_at(lambda: os.kill(os.getpid(), getattr(signal, name)))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    result = fit_quickly(user_file, tmp_path)
    assert result.exit_code == 130, result.output
    assert result.output.splitlines()[-1] == "interrupted: nothing was written."
    assert list(tmp_path.iterdir()) == []
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    signal.signal(signal.SIGINT, inherited)


def test_diverging_training_is_an_error(user_file, tmp_path, stopped_at):
    def diverge():
        raise NonFiniteLossError("The loss is not finite.")

    stopped_at(diverge)
    result = fit_quickly(user_file, tmp_path)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("error: Stage 'shared': The loss is not finite.")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("maps_here")
def test_failure_to_write_leaves_nothing(user_file, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(MuData, "write_h5mu", fail)
    result = fit_quickly(user_file, tmp_path)
    assert result.exit_code == 1
    assert result.output.splitlines()[-1] == "error: No space left on device"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("maps_here")
def test_failing_audit_omits_only_the_report(user_file, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(IndiSeek, "audit", fail)
    result = fit_quickly(user_file, tmp_path)
    assert result.exit_code == 0, result.output
    warning = (
        "warning: The audit, and therefore the report, could not be produced: ZeroDivisionError: float division by zero"
    )
    assert warning in result.output.splitlines()
    assert [file.name for file in tmp_path.iterdir()] == ["out.h5mu"]


@pytest.mark.slow
@pytest.mark.usefixtures("maps_here")
def test_failing_figure_is_a_warning(user_file, tmp_path, monkeypatch):
    def fail(*_, **__):
        assert (tmp_path / "out.h5mu").is_file()  # cells are written before anything is drawn
        raise ValueError("no such colour")

    monkeypatch.setattr("indiseek_sc.pl.umap", fail)
    monkeypatch.setattr(IndiSeek, "report", fail)
    result = fit_quickly(user_file, tmp_path)
    assert result.exit_code == 0, result.output
    for what in ("umap.png", "report.html"):
        assert f"warning: {what} could not be produced: ValueError: no such colour" in result.output
    made = {file.name for file in (tmp_path / "figures").iterdir()}
    assert made == {"importance.png", "audit.png", "history.png", "summary.md", "summary.json"}
    assert set(json.loads((tmp_path / "figures" / "summary.json").read_text())["files"]) == made
    assert "umap.png" not in (tmp_path / "figures" / "summary.md").read_text()
    assert "in a browser" not in result.output.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.usefixtures("maps_here")
def test_interrupted_report_keeps_the_cells(user_file, tmp_path, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("indiseek_sc.pl.umap", interrupt)
    result = fit_quickly(user_file, tmp_path)
    assert result.exit_code == 130
    assert (
        result.output.splitlines()[-1]
        == "interrupted: the cells and the model are complete, but the report was not written."
    )
    assert [file.name for file in tmp_path.iterdir()] == ["out.h5mu"]


@pytest.mark.slow  # starts other processes
@pytest.mark.usefixtures("maps_here")
def test_refits_yield_information(user_file, tmp_path):
    quick = ("--max-epochs", "1", "--accelerator", "cpu", "--label-key", "cell_type", "--adt", "prot")
    result = run("fit", user_file, tmp_path / "out.h5mu", *quick, "--refits", "4", "--sample-key", "donor")
    assert result.exit_code == 0, result.output
    assert "could not be produced" not in result.output, result.output
    mdata = mudata.read_h5mu(tmp_path / "out.h5mu")
    assert mdata.uns["indiseek_refits"]["sample_key"] == "donor"
    assert mdata.uns["indiseek_importance"]["information_rna"].notna().any()


def test_invalid_number_of_refits_is_rejected(user_file, tmp_path):
    result = run("fit", user_file, tmp_path / "out.h5mu", "--refits", "3")
    assert result.exit_code == 2
    assert "3 is neither an even number" in " ".join(result.output.split())
    assert not (tmp_path / "out.h5mu").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("maps_here")
def test_demo_runs_the_bundled_data(pbmc_small, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "pbmc_covid", lambda: pbmc_small[::2].copy())
    result = run("demo", tmp_path / "first look", "--max-epochs", "1", "--accelerator", "cpu")
    assert result.exit_code == 0, result.output
    made = {file.name for file in (tmp_path / "first look").iterdir()}
    figures = {"umap.png", "importance.png", "audit.png", "history.png"}
    assert made == figures | {"demo.h5mu", "report.html", "summary.json", "summary.md", "tables"}
    assert [file.name for file in tmp_path.iterdir()] == ["first look"]
    assert "cell_type" in mudata.read_h5mu(tmp_path / "first look" / "demo.h5mu").obs


def test_user_data_fulfil_the_assumptions_of_tests(pbmc_covid):
    mdata = make_user_data(pbmc_covid)
    assert "cell_type" not in mdata.obs
    assert mdata["atac"].n_obs < mdata.n_obs


@pytest.mark.parametrize(("given", "used"), [("auto", "auto"), ("7", 7.0), (None, None)])
def test_lambda_is_passed_to_the_training(given, used, user_file, tmp_path, monkeypatch):
    jobs = []

    def remember(mdata, job, clock, *, output, **_):
        jobs.append(job)
        output.touch()

    monkeypatch.setattr(_pipeline, "run_job", remember)
    monkeypatch.setattr(_pipeline, "read_input", lambda path, **_: (None, {"rna": "rna", "adt": "prot"}))
    result = run("fit", user_file, tmp_path / "out.h5mu", *(() if given is None else ("--lambda", given)))
    assert result.exit_code == 0, result.output
    assert jobs[0].lambda_ == used
