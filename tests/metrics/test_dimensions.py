from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from indiseek_sc.metrics import ALL_COVARIATES, explained_variance, label_use

N = 600


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_explained_variance_equals_the_simulated_shares(rng):
    depth, quality = rng.lognormal(size=N), rng.normal(size=N)
    batch = rng.choice(["a", "b", "c"], size=N)
    of_batch = pd.Series(batch).map({"a": -1.2, "b": 0.0, "c": 1.2}).to_numpy()
    noise = rng.normal(size=(N, 4))
    latent = np.column_stack(
        [
            np.sqrt(0.6) * np.sin(2 * np.log(depth)) / 0.7 + np.sqrt(0.4) * noise[:, 0],  # not linear
            np.sqrt(0.5) * quality + np.sqrt(0.5) * noise[:, 1],
            np.sqrt(0.3) * of_batch / of_batch.std() + np.sqrt(0.7) * noise[:, 2],
            noise[:, 3],
        ]
    )
    r2 = explained_variance(latent, {"depth": depth, "quality": quality, "batch": batch})
    assert r2.columns.tolist() == ["depth", "quality", "batch", ALL_COVARIATES]
    expected = [[0.5, 0, 0, 0.5], [0, 0.5, 0, 0.5], [0, 0, 0.3, 0.3], [0, 0, 0, 0]]
    np.testing.assert_allclose(r2, expected, atol=0.08)


def test_given_categories_are_not_counted_again(rng):
    labels = rng.choice(["T", "B"], size=N)
    place = np.where(labels == "T", 2.0, -2.0)
    size = place + rng.normal(size=N)  # types differ in library size
    separates_types, follows_size = place + 0.3 * rng.normal(size=N), size - place
    latent = np.column_stack([separates_types, follows_size])
    alone = explained_variance(latent, {"size": size})[ALL_COVARIATES]
    beyond = explained_variance(latent, {"size": size}, given=labels)[ALL_COVARIATES]
    assert alone[0] > 0.7
    assert beyond[0] < 0.02
    assert beyond[1] > 0.95


def test_noise_of_many_covariates_explains_nothing(rng):
    latent = rng.normal(size=(200, 2))
    covariates = {f"x{i}": rng.normal(size=200) for i in range(8)}
    covariates["donor"] = rng.integers(30, size=200).astype(str)
    assert explained_variance(latent, covariates).to_numpy().max() < 0.05


def test_an_outlier_does_not_distort_the_spline(rng):
    rare = np.zeros(N)
    rare[:40] = rng.lognormal(size=40)
    rare[0] = 1e6
    r2 = explained_variance(rng.normal(size=(N, 1)), {"rare": rare, "constant": np.ones(N)})
    assert np.abs(r2.to_numpy()).max() < 0.05
    assert r2.loc[0, "constant"] == 0


def test_a_constant_dimension_is_nan(rng):
    latent = np.column_stack([np.ones(N), rng.normal(size=N)])
    r2 = explained_variance(latent, {"x": rng.normal(size=N)})
    assert r2.isna().all(axis=1).tolist() == [True, False]
    assert label_use(latent, ["a", "b"] * (N // 2)).groupby("dimension")["use"].count().tolist() == [0, 2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_folds": 1}, "n_folds must be at least 2"),
        ({"n_folds": 400}, "n_folds=400 needs at least 800 cells"),
        ({"covariates": {"x": np.ones(3)}}, r"covariates\['x'\] has 3 entries, but there are 600 cells"),
        ({"covariates": {"x": np.full(N, np.nan)}}, r"covariates\['x'\] is not finite in rows 0, 1"),
        ({"covariates": {ALL_COVARIATES: np.ones(N)}}, "'all' is the name of all of them together"),
        ({"given": ["a"]}, "given has 1 entries"),
    ],
)
def test_invalid_arguments_are_rejected(rng, changed, message):
    arguments = {"covariates": {"x": rng.normal(size=N)}} | changed
    with pytest.raises(ValueError, match=message):
        explained_variance(rng.normal(size=(N, 2)), **arguments)


def test_label_use_of_a_small_example():
    latent = np.array([[0.0], [2.0], [10.0], [12.0], [6.0]])
    use = label_use(latent, ["a", "a", "b", "b", None]).set_index("label")
    variance = latent.var()  # over all five cells
    assert use["n_cells"].to_dict() == {"a": 2, "b": 2}
    assert use.loc["a", "mean"] == pytest.approx(-5 / np.sqrt(variance))
    assert use.loc["a", "variance_ratio"] == pytest.approx(1 / variance)
    assert use.loc["a", "use"] == pytest.approx((25 + 1) / variance)


def test_mean_label_use_is_1(rng):
    labels = rng.choice(list("abc"), p=[0.6, 0.3, 0.1], size=N)
    latent = rng.normal(size=(N, 2)) * np.where(labels == "c", 3.0, 1.0)[:, None]
    use = label_use(latent, labels)
    for _, part in use.groupby("dimension"):
        assert np.average(part["use"], weights=part["n_cells"]) == pytest.approx(1)
        assert part.set_index("label")["use"].idxmax() == "c"
