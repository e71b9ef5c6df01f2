from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from indiseek_sc.metrics import cluster_agreement, cluster_splits

RNG = np.random.default_rng(0)
ONE = RNG.integers(4, size=(60, 3))
OTHER = np.where(RNG.random((60, 3)) < 0.6, ONE % 2, 2)
LABELS = np.array(list("abcd"))[ONE[:, 0]]


def adjusted_rand_by_pairs(a, b):
    """Compute the adjusted Rand index of Hubert and Arabie (1985) from pairs of cells."""
    i, j = np.triu_indices(len(a), k=1)
    in_a, in_b = a[i] == a[j], b[i] == b[j]
    expected = in_a.sum() * in_b.sum() / len(i)
    return ((in_a & in_b).sum() - expected) / ((in_a.sum() + in_b.sum()) / 2 - expected)


def test_figures_of_each_pair_are_means_over_seeds():
    table = cluster_agreement({"one": ONE, "other": OTHER, "labels": LABELS}).set_index(["one", "other"])
    pairs = [("one", "one"), ("one", "other"), ("one", "labels"), ("other", "other"), ("other", "labels")]
    assert table.index.tolist() == pairs  # labels have a single repeat
    assert (table["n_cells"] == 60).all()
    across = [adjusted_rand_by_pairs(a, b) for a, b in zip(ONE.T, OTHER.T, strict=True)]
    assert table.loc[("one", "other"), "ari"] == pytest.approx(np.mean(across))
    within = [adjusted_rand_by_pairs(ONE[:, i], ONE[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert table.loc[("one", "one"), "ari"] == pytest.approx(np.mean(within))
    to_labels = [normalized_mutual_info_score(LABELS, x) for x in OTHER.T]
    assert table.loc[("other", "labels"), "nmi"] == pytest.approx(np.mean(to_labels))


def test_identical_and_uninformative_clusterings():
    table = cluster_agreement({"a": ONE[:, 0], "renamed": (3 - ONE[:, 0]) * 7, "one cluster": np.zeros(60)})
    figures = table.set_index(["one", "other"])[["ari", "nmi"]]
    assert figures.loc[("a", "renamed")].tolist() == pytest.approx([1, 1])
    assert figures.loc[("a", "one cluster")].tolist() == pytest.approx([0, 0])


def test_cells_without_a_label_are_ignored():
    labels = LABELS.astype(object)
    labels[::5] = None
    table = cluster_agreement({"one": ONE[:, 0], "labels": labels})
    known = np.arange(60) % 5 != 0
    assert table["n_cells"].tolist() == [48]
    assert table["ari"][0] == pytest.approx(adjusted_rand_score(ONE[known, 0], LABELS[known]))


@pytest.mark.parametrize(
    ("clusterings", "message"),
    [
        ({"one": ONE}, r"at least 2 to compare; got \['one'\]"),
        ({"one": ONE, "other": OTHER[:50]}, r"clusterings\['other'\] has 50 entries, but there are 60 cells"),
        ({"one": ONE, "other": OTHER[:, :2]}, "must all have the same number of repeats, or a single one; got {'one': 3, 'other': 2}"),
        ({"one": ONE, "other": np.zeros((60, 2, 2))}, r"clusterings\['other'\] must have shape"),
        ({"one": ONE, "other": [None] * 60}, r"clusterings\['other'\] is missing in every cell"),
        ({"one": ["a"] + [None] * 59, "other": [None] + ["a"] * 59}, "'one' and 'other' have no cell in common"),
    ],
)  # fmt: skip
def test_agreement_rejects_invalid_input(clusterings, message):
    with pytest.raises(ValueError, match=message):
        cluster_agreement(clusterings)


REFERENCE = np.repeat(["a", "b", "c"], [40, 40, 20])


def by_seed(*parts: list[int]) -> np.ndarray:
    """Identical clusterings from three seeds, with given sizes of clusters within a, b and c."""
    one = np.repeat(np.arange(sum(map(len, parts))), np.concatenate(parts))
    return np.stack([one, one + 1, one + 2], axis=1)


SAME = by_seed([40], [40], [20])
HALVES_OF_A = by_seed([20, 20], [40], [20])
CLOUD = np.random.default_rng(0).integers(5, size=(100, 3))


def test_verdicts():
    table = cluster_splits(REFERENCE, {"same": SAME, "halves": HALVES_OF_A, "cloud": CLOUD}).set_index(
        ["cluster", "latent"]
    )
    assert table["n_cells"].xs("same", level="latent").tolist() == [40, 40, 20]
    assert (table["verdict"].xs("same", level="latent") == "kept").all()
    assert table["verdict"].xs("halves", level="latent").tolist() == ["split", "kept", "kept"]
    assert (table["verdict"].xs("cloud", level="latent") == "unstable").all()
    assert table.index[table["only_here"]].tolist() == [("a", "halves")]
    half = table.loc[("a", "halves")]
    assert (half["largest_share"], half["effective_clusters"], half["stability"]) == pytest.approx((0.5, 2, 1))
    whole = table.loc[("b", "halves")]
    assert (whole["largest_share"], whole["effective_clusters"], whole["stability"]) == pytest.approx((1, 1, 1))
    assert (table["stability"].xs("cloud", level="latent").abs() < 0.2).all()


def test_only_here_requires_a_split_in_a_single_representation():
    table = cluster_splits(REFERENCE, {"one": HALVES_OF_A, "other": by_seed([10, 30], [20, 20], [20])})
    assert table.loc[table["only_here"], ["cluster", "latent"]].to_numpy().tolist() == [["b", "other"]]


@pytest.mark.parametrize(("away", "share", "verdict"), [(7, 0.2, "kept"), (8, 0.2, "split"), (8, 0.25, "kept")])
def test_minimum_share_decides_whether_a_cluster_is_kept(away, share, verdict):
    table = cluster_splits(REFERENCE, {"latent": by_seed([40 - away, away], [40], [20])}, minimum_share=share)
    assert table["verdict"][0] == verdict


def test_minimum_stability_decides_whether_a_split_counts():
    seeds = HALVES_OF_A.copy()
    seeds[:4, 1] = 99
    stability = cluster_splits(REFERENCE, {"latent": seeds})["stability"][0]
    assert 0.5 < stability < 1
    strict = cluster_splits(REFERENCE, {"latent": seeds}, minimum_stability=stability + 0.01)
    assert strict["verdict"].tolist() == ["unstable", "kept", "kept"]


def test_cells_outside_of_the_reference_and_clusters_of_one_cell():
    reference = REFERENCE.astype(object)
    reference[:20], reference[20] = None, "alone"
    table = cluster_splits(reference, {"halves": HALVES_OF_A}).set_index("cluster")
    assert table["n_cells"].to_dict() == {"a": 19, "alone": 1, "b": 40, "c": 20}
    assert table.loc["a", "verdict"] == "kept"
    assert table.loc["alone", "verdict"] == "kept"
    assert np.isnan(table.loc["alone", "stability"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimum_share": 0.0}, "minimum_share=0.0 must lie between 0 and 1"),
        ({"minimum_stability": 1.1}, "minimum_stability=1.1 must be between 0 and 1"),
        (
            {"clusterings": {"latent": SAME[:, 0]}},
            r"clusterings\['latent'\] has one repeat; stability needs at least 2",
        ),
        (
            {"clusterings": {"latent": SAME[1:]}},
            r"clusterings\['latent'\] has 99 entries, but there are 100 cells",
        ),
        (
            {"clusterings": {"latent": np.where(CLOUD == 1, np.nan, CLOUD)}},
            r"clusterings\['latent'\] lacks cells",
        ),
        ({"clusterings": {}}, "clusterings is empty"),
    ],
)
def test_splits_reject_invalid_input(change, message):
    with pytest.raises(ValueError, match=message):
        cluster_splits(**{"reference": REFERENCE, "clusterings": {"latent": SAME}, **change})
