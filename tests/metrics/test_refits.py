from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from indiseek_sc.metrics import Refit, combine_refits, modality_importance, replicated_importance

N, N_REFITS = 800, 4


def make_refits(shift: float = 3.5, seed: int = 0) -> tuple[list[Refit], np.ndarray]:
    """Return refits for three cell types with two subtypes each.

    Shared representations separate the types. RNA resolves the subtypes of the first type, ADT
    those of the second, and neither those of the third. Each refit has its own rotations and noise,
    and holds out half of the cells.
    """
    rng = np.random.default_rng(seed)
    kind, sub = rng.integers(3, size=N), rng.integers(2, size=N)
    labels = np.array(["a", "b", "c"])[kind] + sub.astype(str).astype(object)
    place = 6.0 * np.eye(3)[kind]
    signal = {role: shift * (sub - 0.5) * (kind == of) for role, of in (("rna", 0), ("adt", 1))}
    refits = []
    for number in range(N_REFITS):
        half = np.random.default_rng(number // 2).permutation(N) % 2 == number % 2
        shared = {role: place + rng.normal(size=(N, 3)) for role in ("rna", "adt")}
        specific = {}
        for role, width in (("rna", 5), ("adt", 4)):
            z = rng.normal(size=(N, width))
            z[:, 0] += signal[role]
            specific[role] = z @ np.linalg.qr(rng.normal(size=(width, width)))[0]
        refits.append(Refit(shared, specific, half))
    return refits, labels


@pytest.fixture(scope="module")
def known():
    refits, labels = make_refits()
    return refits, labels, replicated_importance(refits, labels)


def test_labels_are_assigned_to_the_true_modality(known):
    table = known[2].table.set_index("label")
    assert table.loc[["a0", "a1"], "claim"].tolist() == ["rna", "rna"]
    assert table.loc[["b0", "b1"], "claim"].tolist() == ["adt", "adt"]
    assert table.loc[["c0", "c1"], "claim"].tolist() == ["neither", "neither"]
    assert (table.loc[["a0", "a1"], "theta"] > 0).all()
    assert (table.loc[["b0", "b1"], "theta"] < 0).all()
    assert (table["information_lower"] <= table["information_difference"]).all()
    assert (table["information_difference"] <= table["information_upper"]).all()


@pytest.mark.slow
def test_swapping_modalities_swaps_assignments(known):
    refits, labels, found = known
    swapped = {"rna": "adt", "adt": "rna"}
    exchanged = [
        Refit(
            {swapped[r]: x for r, x in one.shared.items()},
            {swapped[r]: x for r, x in one.specific.items()},
            one.held_out,
        )
        for one in refits
    ]
    forth, back = (
        x.set_index("label").sort_index() for x in (found.table, replicated_importance(exchanged, labels).table)
    )
    np.testing.assert_allclose(forth["theta"], -back["theta"])
    np.testing.assert_allclose(forth["purity_rna"], back["purity_adt"])
    assert back["claim"].tolist() == [swapped.get(claim, claim) for claim in forth["claim"]]


def test_permuted_labels_are_not_assigned(known):
    refits, labels, _ = known
    claims = [
        replicated_importance(refits, np.random.default_rng(seed).permutation(labels)).table["claim"]
        for seed in range(2)
    ]
    assert np.isin(np.concatenate(claims), ["rna", "adt"]).mean() <= 0.05


def test_theta_is_computed_on_held_out_cells(known):
    refits, labels, found = known
    parts = []
    for refit in refits[:2]:
        one = np.full(N, np.nan)
        rna, adt = (refit.specific[role][refit.held_out] for role in ("rna", "adt"))
        one[refit.held_out] = modality_importance(rna, adt, labels[refit.held_out]).theta
        parts.append(one)
    first_pair = replicated_importance(refits[:2], labels, information=False)
    np.testing.assert_allclose(first_pair.theta, np.nanmean(parts, axis=0))
    means = pd.DataFrame({label: [np.nanmean(p[labels == label]) for p in parts] for label in np.unique(labels)}).mean()
    np.testing.assert_allclose(first_pair.theta_of_labels["value"], means)
    assert (first_pair.table["claim"] == "not assessed").all()
    assert np.isfinite(found.theta).all()


def test_standard_errors_agree_with_their_formula():
    """Variances of two labels are not moderated."""
    means = np.array([[1.0, 2.0], [3.0, 2.5], [2.0, np.nan]])
    variances = np.array([[0.3, 0.1], [0.5, 0.2], [0.4, np.nan]])
    found = combine_refits(means, variances, np.full((3, 2), 11.0))
    np.testing.assert_allclose(found.value, [2.0, 2.25])
    sampling, between = np.array([0.4, 0.15]), np.array([1.0 / 3, 0.125 / 2])
    np.testing.assert_allclose(found.standard_error, np.sqrt(sampling + between))
    df = (sampling + between) ** 2 / (sampling**2 / 10 + between**2 / np.array([2, 1]))
    np.testing.assert_allclose(found.degrees_of_freedom, df)
    lower, upper = found.interval(0.9)
    np.testing.assert_allclose(upper - lower, 2 * t.ppf(0.95, df) * found.standard_error)
    np.testing.assert_allclose(found.p_value(), 2 * t.sf(np.abs(found.value) / found.standard_error, df))


def test_variances_over_refits_are_moderated():
    """A known prior of variances is recovered; equal variances are pooled."""
    rng = np.random.default_rng(0)
    prior, df = 2.0, 6.0
    variance = prior * df / rng.chisquare(df, 1000)
    means = rng.normal(0, np.sqrt(variance), (N_REFITS, 1000))
    ones = np.ones_like(means)
    found = combine_refits(means, ones, 1e9 * ones).standard_error ** 2
    own = means.var(axis=0, ddof=1)
    expected = 1 + (df * prior + (N_REFITS - 1) * own) / (df + N_REFITS - 1) / N_REFITS
    np.testing.assert_allclose(found, expected, rtol=0.15)
    alike = combine_refits(rng.normal(0, 1.5, (N_REFITS, 1000)), ones, 1e9 * ones)
    np.testing.assert_allclose(alike.standard_error**2, 1 + 2.25 / N_REFITS, rtol=0.05)
    assert (alike.degrees_of_freedom > 100).all()


@pytest.mark.parametrize("between", [0.0, 0.3, 2.0])
def test_intervals_cover_the_truth(between):
    """With known variances over cells and refits, 95 % intervals cover at least 93 % of draws."""
    rng = np.random.default_rng(0)
    n_draws, sampling = 2000, 1.0
    of_cells = rng.normal(0, np.sqrt(sampling), n_draws)  # the same in all refits
    means = of_cells + rng.normal(0, np.sqrt(between), (N_REFITS, n_draws))
    found = combine_refits(means, np.full_like(means, sampling), np.full_like(means, 200.0))
    lower, upper = found.interval(0.95)
    assert ((lower <= 0) & (upper >= 0)).mean() >= 0.93


def test_standard_errors_over_samples_are_larger_if_samples_differ(known):
    refits, labels, found = known
    rng = np.random.default_rng(5)
    sample = rng.integers(12, size=N)
    moved = [
        Refit(
            one.shared,
            {role: z + 1.5 * np.random.default_rng(7).normal(size=(12, 1))[sample] for role, z in one.specific.items()},
            one.held_out,
        )
        for one in refits
    ]
    over_cells, over_samples = (
        replicated_importance(moved, labels, samples=samples, information=False).theta_of_labels["standard_error"]
        for samples in (None, sample.astype(str))
    )
    alone = replicated_importance(moved, labels, samples=np.arange(N), information=False).theta_of_labels[
        "standard_error"
    ]
    np.testing.assert_allclose(over_cells, alone)
    assert over_samples.mean() > over_cells.mean()


def test_expected_purity_is_computed_within_batches():
    """If labels and representations are determined by the batch, a purity of 1 is expected."""
    rng = np.random.default_rng(0)
    batch = rng.integers(2, size=400)
    labels = np.where(batch == 0, "a", "b")
    latent = 20.0 * batch[:, None] + rng.normal(size=(400, 2))
    without, within = (modality_importance(latent, latent, labels, batches=b).table for b in (None, batch))
    assert (without["chance_rna"] < 0.6).all()
    np.testing.assert_allclose(within["chance_rna"], 1.0)
    np.testing.assert_allclose(within["purity_rna"], 1.0)


def test_expected_purity_equals_that_of_permuted_labels():
    rng = np.random.default_rng(1)
    labels, batch = rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1]), rng.integers(2, size=300)
    labels[batch == 1] = rng.choice(["a", "c"], (batch == 1).sum())
    latent = rng.normal(size=(300, 2)) + 20.0 * batch[:, None]
    expected = modality_importance(latent, latent, labels, batches=batch).table.set_index("label")["chance_rna"]
    found = []
    for _ in range(150):
        permuted = labels.copy()
        for b in (0, 1):
            permuted[batch == b] = rng.permutation(permuted[batch == b])
        found.append(
            modality_importance(latent, latent, permuted, n_bootstrap=1).table.set_index("label")["purity_rna"]
        )
    error = pd.concat(found, axis=1).std(axis=1) / np.sqrt(150)
    assert (np.abs(pd.concat(found, axis=1).mean(axis=1) - expected) < 4 * error + 0.003).all()


def test_incomplete_cells_are_ignored(known):
    refits, labels, found = known
    longer = [
        Refit(
            *({role: np.vstack([x, np.full((3, x.shape[1]), np.nan)]) for role, x in kind.items()} for kind in one[:2]),
            np.append(one.held_out, [True] * 3),
        )
        for one in refits
    ]
    again = replicated_importance(longer, np.append(labels, ["a0"] * 3), information=False)
    assert np.isnan(again.theta[-3:]).all()
    np.testing.assert_allclose(again.table["theta"], found.table["theta"])


def test_a_single_refit_is_rejected(known):
    with pytest.raises(ValueError, match="refits: at least 2"):
        replicated_importance(known[0][:1], known[1])
