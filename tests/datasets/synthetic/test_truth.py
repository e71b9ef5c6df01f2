"""Tests of factor and feature tables against the generators and closed-form references."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LinearRegression

from indiseek_sc._keys import ROLES
from indiseek_sc.datasets import synthetic
from indiseek_sc.datasets.synthetic._counts import NegativeBinomial
from indiseek_sc.datasets.synthetic._design import jacobian, r2_limits
from indiseek_sc.metrics import held_out_r2

TRAIN, TEST = np.arange(1500), np.arange(1500, 3000)


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in synthetic.NAMES), ("S1", {"rotate": True}), ("S6", {"n_batches": 1})]
)
def test_features_depend_on_their_factors_only(name: str, options: dict, get_design) -> None:
    design = get_design(name, **options)
    rng = np.random.default_rng(0)
    shared = design.shared(200, rng)
    for role in ROLES:
        view, private = design.views[role], design.private[role](200, rng)
        before, together = view.mix(shared, private), np.hstack([shared, private])
        changes = []
        for factor in range(together.shape[1]):
            moved = together.copy()
            moved[:, factor] = rng.permutation(moved[:, factor])
            after = view.mix(*np.split(moved, [shared.shape[1]], axis=1))
            changes.append((after != before).any(axis=0))
        np.testing.assert_array_equal(np.transpose(changes), view.depends_on)
        smooth = jacobian(view, shared, private)
        # The derivative of a sign is 0 except at 0, so that it may miss a dependence.
        seen = (np.abs(smooth) > 1e-9).any(axis=0)
        assert (view.depends_on >= seen).all()
        if name != "S4":
            np.testing.assert_array_equal(seen, view.depends_on)


def test_jacobian_of_products_and_squares(get_design) -> None:
    rng = np.random.default_rng(1)
    s, p = 1 + rng.random((50, 2)), rng.normal(size=(50, 2))
    slopes = jacobian(get_design("S4", n_copies=1).views["adt"], s, p)  # s_0, s_1, s_0 p_0, p_1
    np.testing.assert_allclose(slopes[:, 2, 0], p[:, 0], atol=1e-6)
    np.testing.assert_allclose(slopes[:, 2, 2], s[:, 0], atol=1e-6)
    np.testing.assert_allclose(slopes[:, 0], np.tile([1.0, 0, 0, 0], (50, 1)), atol=1e-6)
    squares = jacobian(get_design("S2", n_copies=1).views["rna"], s, p)
    np.testing.assert_allclose(squares[:, 2, 0], 2 * s[:, 0], atol=1e-6)


def test_limits_of_the_linear_case_are_exact_and_attained() -> None:
    mdata = synthetic.make("S1", 3000, noise=0.8, n_copies=2, rotate=True)
    factors = mdata.uns["synthetic"]["factors"].set_index("factor")
    expected = 1 - 1 / (1 + 2 / 0.8**2)
    assert factors.loc["private_rna_1", "limit_rna"] == pytest.approx(expected)
    assert factors.loc["shared_0", "limit_adt"] == pytest.approx(expected)
    x, s = mdata["rna"].X, mdata.obsm["factor_shared"]
    found = LinearRegression().fit(x[TRAIN], s[TRAIN]).score(x[TEST], s[TEST])
    assert found == pytest.approx(expected, abs=0.02)


def test_limit_of_a_product(get_design) -> None:
    """For x = s p + noise with known s, the limit is E[s^2 / (s^2 + noise^2)]."""
    design = get_design("S4", n_copies=1, noise=0.4)
    s, p = np.full((4, 2), 2.0), np.zeros((4, 2))  # at p = 0 the product contains no information about s
    assert r2_limits(design.views["adt"], s, p)[2] == pytest.approx(4 / (4 + 0.4**2), abs=1e-6)


def test_redundant_signal_is_not_linear() -> None:
    """In S2, s^2 - 1 is a function of s without correlation, and independent of its sign."""
    mdata = synthetic.make("S2", 3000, n_shared=1, n_copies=1, noise=0.1)
    redundant, other, s = mdata["rna"].X[:, [1]], mdata["adt"].X[:, :1], mdata.obsm["factor_shared"]
    linear = LinearRegression().fit(other[TRAIN], redundant[TRAIN]).score(other[TEST], redundant[TEST])
    assert abs(linear) < 0.03
    assert held_out_r2(other, redundant, TRAIN[:500], TEST) > 0.9
    # A nonlinear probe cannot predict s either: its conditional mean is 0.
    thirds = np.digitize(redundant[:, 0], np.quantile(redundant, [1 / 3, 2 / 3]))
    np.testing.assert_allclose([s[thirds == third].mean() for third in range(3)], 0, atol=0.1)
    assert np.corrcoef(redundant[:, 0], mdata.obsm["factor_shared_squared"][:, 0])[0, 1] > 0.99


def test_products_have_a_conditional_mean_of_0() -> None:
    """In S4, the variance of the first product depends on s, of the second only the skewness."""
    mdata = synthetic.make("S4", 40_000, n_copies=1)
    s = mdata.obsm["factor_shared"][:, 0]
    product, flipped = mdata["rna"].X[:, 2].astype(float), mdata["rna"].X[:, 3].astype(float)
    groups = np.digitize(s, [-1.0, 0.0, 1.0])
    for x in (product, flipped):
        assert np.abs([x[groups == g].mean() for g in range(4)]).max() < 0.06
    variances = {name: [x[groups == g].var() for g in range(4)] for name, x in {"a": product, "b": flipped}.items()}
    assert min(variances["a"][0], variances["a"][3]) > 1.5 * max(variances["a"][1], variances["a"][2])
    np.testing.assert_allclose(variances["b"], 1, atol=0.07)
    skewness = [stats.skew(flipped[groups == g]) for g in range(4)]
    np.testing.assert_allclose(np.sign(skewness), [-1, -1, 1, 1])
    assert np.abs(skewness).min() > 1
    # Probes cannot predict p without s; with s, both factors are recovered.
    p = mdata.obsm["factor_private_rna"]
    far = np.abs(s) > 0.3  # near 0 noise dominates
    for x, column, divisor in ((product, 0, s), (flipped, 1, np.sign(s))):
        assert abs(np.corrcoef(x, p[:, column])[0, 1]) < 0.03
        assert np.corrcoef((x / divisor)[far], p[far, column])[0, 1] ** 2 > 0.98


def test_factors_of_s4_have_their_distributions() -> None:
    mdata = synthetic.make("S4", 40_000)
    shared, rna = mdata.obsm["factor_shared"], mdata.obsm["factor_private_rna"]
    assert stats.kurtosis(shared[:, 0]) < -1.3  # two modes
    assert stats.kurtosis(rna[:, 0]) == pytest.approx(3, abs=0.6)  # Laplace
    assert stats.skew(rna[:, 1]) == pytest.approx(1.42, abs=0.1)
    assert stats.kstest(rna[:, 2] * np.sqrt(5 / 3), stats.t(5).cdf).pvalue > 0.001
    assert stats.kstest(rna[:, 0] * np.sqrt(2), stats.laplace.cdf).pvalue > 0.001


def test_random_mixers_differ_between_seeds() -> None:
    shapes = {synthetic.make("S5", 5, seed=seed).shape[1] for seed in range(8)}
    assert len(shapes) > 4


@pytest.mark.parametrize("dispersion", [0.0, 0.1, 0.5])
def test_counts_have_the_moments_of_a_negative_binomial(dispersion: float) -> None:
    measurement = NegativeBinomial(dispersion, 0.0, np.array([[0.0, 0.0], [0.0, 0.5]]))
    mean = np.log(np.tile([20.0, 4.0], (40_000, 1)))
    batch = np.repeat([0, 1], 20_000)
    counts = measurement.draw(mean, batch, np.random.default_rng(0))
    assert counts.format == "csr"
    assert (counts.data == np.round(counts.data)).all()
    for rows, rate in ((batch == 0, [20.0, 4.0]), (batch == 1, [20.0, 4.0 * np.exp(0.5)])):
        part, rate = counts[rows].toarray().astype(float), np.array(rate)
        np.testing.assert_allclose(part.mean(axis=0), rate, rtol=0.03)
        np.testing.assert_allclose(part.var(axis=0), rate + dispersion * rate**2, rtol=0.06)


def test_information_of_counts_is_the_variance_of_the_score() -> None:
    dispersion, log_mean, step = 0.3, np.log(6.0), 1e-4
    n = np.arange(400)

    def log_probability(value: float) -> np.ndarray:
        return stats.nbinom.logpmf(n, 1 / dispersion, 1 / (1 + dispersion * np.exp(value)))

    score = (log_probability(log_mean + step) - log_probability(log_mean - step)) / (2 * step)
    reference = (np.exp(log_probability(log_mean)) * score**2).sum()
    found = NegativeBinomial(dispersion, 0.0, np.zeros((1, 1))).information(np.array([[log_mean]]))
    assert found[0, 0] == pytest.approx(reference, rel=1e-5)


def test_counts_have_library_sizes_batches_and_background(get_design) -> None:
    design = get_design("S6")
    nothing = np.zeros((1, 3)), np.zeros((1, 2))
    extremes = [design.views["adt"].mix(np.full((1, 3), f), np.full((1, 2), f)) for f in (-90.0, 90.0)]
    background, whole = np.exp(np.minimum(*extremes)), np.exp(design.views["adt"].mix(*nothing))
    used = design.views["adt"].depends_on.any(axis=1)
    background, whole = background[0, used], whole[0, used]
    share = background / (whole - background)
    assert ((share > 0.05) & (share < 0.3)).all()
    assert np.exp(design.views["rna"].mix(*nothing)).sum() == pytest.approx(4000)


def test_counts_in_a_mudata() -> None:
    mdata = synthetic.make("S6", 2000, n_batches=3)
    for role in ROLES:
        assert mdata[role].X.format == "csr"
        assert mdata[role].X.dtype == np.float32
        assert (mdata[role].X.data % 1 == 0).all()
    totals = np.log(np.ravel(mdata["rna"].X.sum(axis=1)))
    assert 0.3 < totals.std() < 0.6  # library size of .35, plus factors and dispersion
    assert set(mdata.obs["batch"]) == {"batch_0", "batch_1", "batch_2"}
    means = np.array(
        [np.ravel(mdata["adt"].X[(mdata.obs["batch"] == b).to_numpy()].mean(axis=0)) for b in set(mdata.obs["batch"])]
    )
    assert np.log(means).std(axis=0).mean() > 0.1
    assert "batch" not in synthetic.make("S6", 20, n_batches=1).obs
