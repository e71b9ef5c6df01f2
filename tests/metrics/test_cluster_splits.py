from __future__ import annotations

import numpy as np
import pytest

from indiseek_sc.metrics import cluster_splits

REFERENCE = np.repeat(["a", "b", "c"], [40, 40, 20])


def by_seed(*parts: list[int]) -> np.ndarray:
    """Clusters from three seeds that agree: sizes of parts of a, b and c in turn, each part a cluster of its own."""
    one = np.repeat(np.arange(sum(map(len, parts))), np.concatenate(parts))
    return np.stack([one, one + 1, one + 2], axis=1)


SAME = by_seed([40], [40], [20])
HALVES_OF_A = by_seed([20, 20], [40], [20])
CLOUD = np.random.default_rng(0).integers(5, size=(100, 3))


def test_verdicts():
    table = cluster_splits(REFERENCE, {"same": SAME, "halves": HALVES_OF_A, "cloud": CLOUD}).set_index(
        ["cluster", "code"]
    )
    assert table["n_cells"].xs("same", level="code").tolist() == [40, 40, 20]
    assert (table["verdict"].xs("same", level="code") == "kept").all()
    assert table["verdict"].xs("halves", level="code").tolist() == ["split", "kept", "kept"]
    assert (table["verdict"].xs("cloud", level="code") == "unstable").all()
    assert table.index[table["only_here"]].tolist() == [("a", "halves")]
    half = table.loc[("a", "halves")]
    assert (half["largest_share"], half["effective_clusters"], half["stability"]) == pytest.approx((0.5, 2, 1))
    whole = table.loc[("b", "halves")]
    assert (whole["largest_share"], whole["effective_clusters"], whole["stability"]) == pytest.approx((1, 1, 1))
    assert (table["stability"].xs("cloud", level="code").abs() < 0.2).all()


def test_what_falls_apart_in_two_codes_is_in_neither_alone():
    table = cluster_splits(REFERENCE, {"one": HALVES_OF_A, "other": by_seed([10, 30], [20, 20], [20])})
    assert table.loc[table["only_here"], ["cluster", "code"]].to_numpy().tolist() == [["b", "other"]]


@pytest.mark.parametrize(("away", "share", "verdict"), [(7, 0.2, "kept"), (8, 0.2, "split"), (8, 0.25, "kept")])
def test_how_much_may_lie_elsewhere(away, share, verdict):
    table = cluster_splits(REFERENCE, {"code": by_seed([40 - away, away], [40], [20])}, minimum_share=share)
    assert table["verdict"][0] == verdict


def test_from_which_stability_a_split_is_believed():
    seeds = HALVES_OF_A.copy()
    seeds[:4, 1] = 99
    stability = cluster_splits(REFERENCE, {"code": seeds})["stability"][0]
    assert 0.5 < stability < 1
    strict = cluster_splits(REFERENCE, {"code": seeds}, minimum_stability=stability + 0.01)
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
        ({"clusterings": {"code": SAME[:, 0]}}, r"clusterings\['code'\] has one repeat; stability needs at least 2"),
        ({"clusterings": {"code": SAME[1:]}}, r"clusterings\['code'\] has 99 entries, but there are 100 cells"),
        ({"clusterings": {"code": np.where(CLOUD == 1, np.nan, CLOUD)}}, r"clusterings\['code'\] lacks cells"),
        ({"clusterings": {}}, "clusterings is empty"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        cluster_splits(**{"reference": REFERENCE, "clusterings": {"code": SAME}, **change})
