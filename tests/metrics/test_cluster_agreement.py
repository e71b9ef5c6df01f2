from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from indiseek_sc.metrics import cluster_agreement

RNG = np.random.default_rng(0)
ONE = RNG.integers(4, size=(60, 3))
OTHER = np.where(RNG.random((60, 3)) < 0.6, ONE % 2, 2)
LABELS = np.array(list("abcd"))[ONE[:, 0]]


def adjusted_rand_by_pairs(a, b):
    """Hubert and Arabie 1985, from the pairs of cells that are together."""
    i, j = np.triu_indices(len(a), k=1)
    in_a, in_b = a[i] == a[j], b[i] == b[j]
    expected = in_a.sum() * in_b.sum() / len(i)
    return ((in_a & in_b).sum() - expected) / ((in_a.sum() + in_b.sum()) / 2 - expected)


def test_every_pair_once_and_means_over_seeds():
    table = cluster_agreement({"one": ONE, "other": OTHER, "labels": LABELS}).set_index(["one", "other"])
    pairs = [("one", "one"), ("one", "other"), ("one", "labels"), ("other", "other"), ("other", "labels")]
    assert table.index.tolist() == pairs  # labels have no other seed to be compared with
    assert (table["n_cells"] == 60).all()
    across = [adjusted_rand_by_pairs(a, b) for a, b in zip(ONE.T, OTHER.T, strict=True)]
    assert table.loc[("one", "other"), "ari"] == pytest.approx(np.mean(across))
    within = [adjusted_rand_by_pairs(ONE[:, i], ONE[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert table.loc[("one", "one"), "ari"] == pytest.approx(np.mean(within))
    to_labels = [normalized_mutual_info_score(LABELS, x) for x in OTHER.T]
    assert table.loc[("other", "labels"), "nmi"] == pytest.approx(np.mean(to_labels))


def test_ends_of_the_scale():
    table = cluster_agreement({"a": ONE[:, 0], "renamed": (3 - ONE[:, 0]) * 7, "one cluster": np.zeros(60)})
    figures = table.set_index(["one", "other"])[["ari", "nmi"]]
    assert figures.loc[("a", "renamed")].tolist() == pytest.approx([1, 1])
    assert figures.loc[("a", "one cluster")].tolist() == pytest.approx([0, 0])


def test_cells_without_a_label_take_no_part():
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
        ({"one": ONE, "other": OTHER[:, :2]}, "must all have as many repeats, or a single one; got {'one': 3, 'other': 2}"),
        ({"one": ONE, "other": np.zeros((60, 2, 2))}, r"clusterings\['other'\] must have shape"),
        ({"one": ONE, "other": [None] * 60}, r"clusterings\['other'\] is missing in every cell"),
        ({"one": ["a"] + [None] * 59, "other": [None] + ["a"] * 59}, "'one' and 'other' have no cell in common"),
    ],
)  # fmt: skip
def test_bad_input(clusterings, message):
    with pytest.raises(ValueError, match=message):
        cluster_agreement(clusterings)
