"""Tests of the audit on data with known truth and against an independent implementation."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.metrics import AUDIT_MEASURES, PROBES, AuditReport, SpecificAuditor, audit, limit_threads

LINEAR = ("ridge", "neighbors")
TRAIN, TEST = np.arange(0, 600), np.arange(600, 1000)
SPLIT = {"train": TRAIN, "test": TEST}
AUDITOR = Path(__file__).parents[3] / "shared" / "tools" / "audit.py"


class World:
    """Features with 3 shared and 3 private factors per modality, and audits of representations."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.both, self.gex, self.prot = rng.normal(size=(3, 1000, 3))
        self.noise = {name: rng.normal(size=(1000, 3)) for name in ("gex", "prot")}
        self.private = {"gex": self.gex, "prot": self.prot}
        mix = [np.linalg.qr(rng.normal(size=(12, 6)))[0].T for _ in range(2)]
        self.features = {
            "gex": np.hstack([self.both, self.gex]) @ mix[0],
            "prot": np.hstack([self.both, self.prot]) @ mix[1],
        }

    def audit(self, specific, shared=None, probes=LINEAR, **others) -> AuditReport:
        """Audit by ridge regression and neighbours alone, which suffice for linear data."""
        shared = shared or {"gex": self.both, "prot": self.both}
        return audit(self.features, shared, specific, probes=probes, **SPLIT, **others)


@pytest.fixture(scope="module")
def world():
    return World()


class TestKnownTruth:
    def test_true_factors_have_the_best_figures(self, world):
        report = world.audit(world.private)
        for figure in ("agreement", "agreement_flat", "sufficiency", "complete", "gain"):
            np.testing.assert_allclose(report.table[figure], 1, atol=0.02, err_msg=figure)
        np.testing.assert_allclose(report.table["leak_ratio"], 0, atol=0.01)
        np.testing.assert_allclose(report.table["r2_shared"], 0.5, atol=0.05)
        assert report.pair == {"foscttm": 0.0, "recall@10": 1.0}

    def test_a_copy_of_the_shared_representation_leaks_fully_and_gains_nothing(self, world):
        table = world.audit({"gex": world.both, "prot": world.prot}).table
        assert table.loc["gex", "leak_ratio"] == pytest.approx(1, abs=0.02)
        assert table.loc["gex", "gain"] == pytest.approx(0, abs=0.03)
        assert table.loc["prot", "leak_ratio"] == pytest.approx(0, abs=0.01)

    def test_noise_neither_leaks_nor_gains(self, world):
        table = world.audit(world.noise).table
        assert table.loc["gex", "leak"] < 0 == table.loc["gex", "leak_ratio"]
        np.testing.assert_allclose(table["leak_ratio"], 0, atol=0.02)
        np.testing.assert_allclose(table["gain"], 0, atol=0.03)

    def test_gain_is_the_share_of_private_factors(self, world):
        table = world.audit({"gex": world.gex[:, :1], "prot": world.prot[:, :2]}).table
        np.testing.assert_allclose(table["gain"], [1 / 3, 2 / 3], atol=0.08)

    def test_a_leak_at_a_small_scale_is_found(self, world):
        table = world.audit(
            {name: np.hstack([latent, 1e-4 * world.both]) for name, latent in world.private.items()}
        ).table
        assert (table["leak_ratio"] > 0.95).all()

    def test_information_at_a_negligible_scale_is_not_credited(self, world):
        specific = {name: np.hstack([world.noise[name], 1e-3 * latent]) for name, latent in world.private.items()}
        shared = {name: np.hstack([world.noise[name], 1e-3 * world.both]) for name in world.private}
        assert (world.audit(specific).table["gain"] < 0.05).all()
        assert (world.audit(world.private, shared).table["sufficiency"] < 0.05).all()

    def test_private_factors_in_the_shared_representation_reduce_agreement(self, world):
        """Directions count by their variance in one figure and equally in the other."""
        shared = {"gex": np.hstack([4 * world.both, world.gex]), "prot": np.hstack([world.both, -world.both])}
        table = world.audit(world.private, shared).table
        np.testing.assert_allclose(table["agreement"], [16 / 17, 1], atol=0.02)
        np.testing.assert_allclose(table["agreement_flat"], [0.5, 1], atol=0.05)
        np.testing.assert_allclose(table["sufficiency"], 1, atol=0.05)
        np.testing.assert_allclose(table["complete"], 1, atol=0.02)

    def test_a_complete_shared_representation_leaves_no_gain(self, world):
        table = world.audit(world.private, world.features).table
        assert table["gain"].isna().all()
        np.testing.assert_allclose(table["complete"], 1, atol=0.01)

    def test_ratios_are_nan_if_modalities_share_nothing(self, world):
        report = audit(world.private, world.noise, world.private, probes=LINEAR, **SPLIT)
        assert report.table[["sufficiency", "leak_ratio"]].isna().all(axis=None)
        assert report.pair["foscttm"] == pytest.approx(0.5, abs=0.05)
        np.testing.assert_allclose(report.table["gain"], 1, atol=0.02)

    def test_constant_representations_are_evaluated(self, world):
        constant = {name: np.full((1000, 3), 0.1) for name in world.features}
        report = world.audit(constant, constant)
        assert report.table[["agreement", "agreement_flat", "leak", "leak_ratio"]].isna().all(axis=None)
        np.testing.assert_allclose(report.table[["sufficiency", "gain", "complete"]], 0, atol=0.02)
        assert report.pair["foscttm"] == 0.5

    def test_decoded_features_help_the_probes(self, world):
        """No probe can decode this representation, a fine alternation and the absolute value."""
        fine = {name: np.hstack([np.floor(40 * latent) % 2, np.abs(latent)]) for name, latent in world.private.items()}
        np.testing.assert_allclose(world.audit(fine).table["gain"], 0, atol=0.1)
        np.testing.assert_allclose(world.audit(fine, decoded=world.features).table["gain"], 1, atol=0.02)

    def test_results_are_reproducible_by_seed(self, world):
        first, again, other = (world.audit(world.noise, seed=seed, max_retrieval=50).to_dict() for seed in (4, 4, 5))
        assert first == again != other

    @pytest.mark.parametrize("seed", [0, 1])
    def test_noise_differs_from_data_drawn_with_the_same_seed(self, seed):
        """Numbers of ``default_rng(seed)`` are first shared factors, then private ones."""
        world = World(seed)
        table = world.audit({"gex": world.both, "prot": world.both}, seed=seed).table
        np.testing.assert_allclose(table["gain"], 0, atol=0.03)

    def test_report_uses_the_given_modality_names(self, world):
        report = world.audit(world.private, max_retrieval=100)
        assert list(report.table.index) == ["gex", "prot"]
        assert (report.n_train, report.n_test, report.n_retrieval) == (600, 400, 100)
        flat = report.to_dict()
        assert flat["prot.leak_ratio"] == report.table.loc["prot", "leak_ratio"]
        assert flat["recall@10"] == report.pair["recall@10"]
        assert len(flat) == report.table.size + 2
        assert all(type(value) is float for value in flat.values())


class TestLeakPermutationTest:
    def test_a_small_leak_is_significant_and_noise_is_not(self, world):
        slight = {"gex": world.gex + 0.15 * world.both, "prot": world.noise["prot"]}
        table = world.audit(slight).table
        assert table.loc["gex", "leak_ratio"] < 0.05
        assert table.loc["gex", "leak_p"] == 0.001
        assert table.loc["prot", "leak_p"] > 0.01

    def test_dependence_explained_by_groups_is_not_significant_within_groups(self, world):
        group = np.repeat([0, 1], 500)[np.random.default_rng(0).permutation(1000)]
        moved = {name: world.noise[name] + 2 * group[:, None] for name in world.features}
        shared = dict.fromkeys(world.features, world.both + 2 * group[:, None])
        assert (world.audit(moved, shared).table["leak_p"] == 0.001).all()
        names = np.array(["first", "second"])[group]
        assert (world.audit(moved, shared, groups=names).table["leak_p"] > 0.01).all()

    def test_p_value_is_nan_without_a_shared_signal(self, world):
        constant = {name: np.full((1000, 3), 0.1) for name in world.features}
        assert world.audit(world.private, constant).table["leak_p"].isna().all()

    def test_a_constant_representation_has_a_p_value_of_1(self, world):
        constant = {name: np.full((1000, 3), 0.1) for name in world.features}
        np.testing.assert_array_equal(world.audit(constant).table["leak_p"], 1)


def test_auditor_agrees_with_audit_for_several_representations(world):
    shared = {"gex": world.both, "prot": world.both}
    auditor = SpecificAuditor(world.features, shared, probes=LINEAR, **SPLIT, seed=3)
    for specific in (world.private, world.noise):
        table, whole = auditor(specific, world.features), world.audit(specific, decoded=world.features, seed=3).table
        common = table.columns.intersection(whole.columns)
        assert set(whole.columns) - set(common) == {"agreement", "agreement_flat", "sufficiency"}
        np.testing.assert_array_equal(table[common], whole[common])


def test_standard_error_of_the_leak_ratio_is_its_spread_over_cells():
    """The reference is the variation over many sets of test cells, with the same probes."""
    rng = np.random.default_rng(0)
    both, noise = rng.normal(size=(2, 31_000, 2))
    features = {"gex": both + 0.3 * noise, "prot": both - 0.2 * noise}
    shared, specific = dict.fromkeys(features, both), dict.fromkeys(features, noise + 0.5 * both)
    tables = []
    for test in np.split(np.arange(1000, 31_000), 100):
        evaluate = SpecificAuditor(features, shared, train=np.arange(1000), test=test, probes=["ridge"])
        tables.append(evaluate(specific))
    ratios, errors = (
        np.array([table.loc["gex", name] for table in tables]) for name in ("leak_ratio", "leak_ratio_se")
    )
    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)


def test_a_nonlinear_leak_is_found(world):
    bent = {name: np.hstack([latent, world.both**2, np.sign(world.both)]) for name, latent in world.private.items()}
    assert (world.audit(bent, probes=PROBES).table["leak_ratio"] > 0.8).all()


def test_a_ridge_regression_alone_misses_a_nonlinear_leak_and_the_report_says_so(world):
    squares = {name: np.hstack([latent, world.both**2]) for name, latent in world.private.items()}
    report = world.audit(squares, probes=["ridge"])
    assert (report.table["leak_ratio"] < 0.05).all()
    assert report.probes == ("ridge",)
    assert str(report).startswith("Audit on 400 held-out cells, by probes (ridge only) fitted on 600 others")


@pytest.mark.slow
@pytest.mark.skipif(not AUDITOR.exists(), reason="no independent auditor (shared/tools/audit.py)")
def test_agrees_with_an_independent_auditor():
    spec = importlib.util.spec_from_file_location("independent_auditor", AUDITOR)
    auditor = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(auditor)
    world, rng = World(1), np.random.default_rng(2)
    bent = {"rna": np.tanh(world.features["gex"]), "adt": np.tanh(2 * world.features["prot"])}
    features = {name: value + 0.1 * rng.normal(size=value.shape) for name, value in bent.items()}
    turn = rng.normal(size=(3, 4))
    shared = {name: world.both @ turn + 0.3 * rng.normal(size=(1000, 4)) for name in bent}
    specific = {"rna": world.gex + 0.3 * world.both, "adt": np.hstack([world.prot[:, :2], world.noise["prot"]])}
    decoded = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in features.items()}
    split = {"train": TRAIN[:292], "test": TEST}
    with limit_threads():  # as the tested audit does
        theirs = auditor.audit(x=features, shared=shared, specific=specific, decoded=decoded, **split)
    ours = audit(features, shared, specific, decoded=decoded, **split).to_dict()
    ours = {name: value for name, value in ours.items() if not name.endswith("leak_p")}  # which the reference lacks
    assert ours == pytest.approx(theirs, abs=0.02)  # seeds 0 to 4 differ by up to 0.02


def _with(arrays, name, value):
    return {**arrays, name: value}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: {"test": np.arange(590, 1000)}, "train and test share rows 590, 591, 592, 593, 594, .*10 in all"),
        (lambda f: {"probes": ["ridges"]}, "probes='ridges' is not known. Available: 'ridge'.* mean 'ridge'"),
        (lambda f: {"probes": "neighbors"}, r"probes must include 'ridge' or 'mlp', but is \['neighbors'\]"),
        (lambda f: {"train": np.arange(10)}, "train needs at least 16 cells to fit probes on; got 10"),
        (lambda f: {"test": [999]}, "test needs at least 2 cells; got 1"),
        (lambda f: {"test": np.arange(900, 1100)}, "test points outside of the 1000 cells: 1000, 1001"),
        (lambda f: {"features": {"gex": f["gex"]}}, r"features must hold two modalities; got \['gex'\]"),
        (
            lambda f: {"shared": {"gex": f["gex"], "adt": f["gex"]}},
            r"shared must hold the modalities \['gex', 'prot'\]",
        ),
        (lambda f: {"specific": _with(f, "gex", f["gex"][:9])}, r"specific\['gex'\] has 9 rows, but 1000 cells"),
        (lambda f: {"specific": _with(f, "gex", f["gex"][0])}, r"specific\['gex'\] must have shape"),
        (
            lambda f: {"shared": _with(f, "prot", f["prot"][:, :2])},
            "same width to be compared; got {'gex': 12, 'prot': 2}",
        ),
        (
            lambda f: {"decoded": _with(f, "prot", f["prot"] * np.nan)},
            r"decoded\['prot'\] has values that are not finite",
        ),
    ],
)
def test_errors_name_the_argument(world, change, message):
    arguments = {"features": world.features, "shared": world.features, "specific": world.features, **SPLIT}
    with pytest.raises(ValueError, match=message):
        audit(**{**arguments, **change(world.features)})


@pytest.fixture
def report():
    values = np.linspace(0.1, 0.9, 2 * len(AUDIT_MEASURES)).reshape(2, -1)
    table = pd.DataFrame(values, index=["RNA", "<Protein>"], columns=list(AUDIT_MEASURES))
    return AuditReport(table, {"foscttm": 0.01, "recall@10": 0.25}, n_train=3000, n_test=1200, n_retrieval=1000)


def test_report_lists_every_figure_with_its_target(report):
    lines = str(report).splitlines()
    assert lines[0] == "Audit on 1,200 held-out cells, by probes fitted on 3,000 others"
    for figure, (target, meaning) in AUDIT_MEASURES.items():
        (line,) = (line for line in lines if line.startswith(f"{figure} "))
        shown = "  ".join(f"{value:.3f}" for value in report.table[figure])
        assert line.split()[1:3] == shown.split()
        assert target in line and line.endswith(meaning)
    assert any(line.startswith("recall@10 0.250 (1 is best)") and line.endswith("of 1,000") for line in lines)


def test_report_fits_a_terminal_and_is_aligned(report):
    rows = [line for line in str(report).splitlines() if line.startswith(tuple(AUDIT_MEASURES))]
    assert max(map(len, rows)) <= 120
    assert len({line.index(AUDIT_MEASURES[line.split()[0]][1]) for line in rows}) == 1


def test_a_missing_ratio_is_a_dash_and_explained(report):
    assert "dash" not in str(report)
    report.table.loc["RNA", "gain"] = np.nan
    (gain,) = (line for line in str(report).splitlines() if line.startswith("gain "))
    assert gain.split()[1] == "-"
    assert "A dash stands where" in str(report)


def test_html_is_a_table_with_names_escaped(report):
    html = report._repr_html_()
    assert html.count("<tr") == 1 + len(AUDIT_MEASURES)
    assert "&lt;Protein&gt;" in html and "<Protein>" not in html
    assert "0 is best" in html and "recall@10 0.250" in html


def test_printing_leaves_the_figures_alone(report):
    before = report.table.copy()
    str(report), report._repr_html_()
    pd.testing.assert_frame_equal(report.table, before)


def test_report_is_frozen(report):
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.n_test = 3
