from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest

from indiseek_sc import tl

needs_decoupler = pytest.mark.usefixtures("_decoupler")


@pytest.fixture
def _decoupler() -> None:
    pytest.importorskip("decoupler", reason='decoupler is not installed: pip install "indiseek_sc[enrichment]"')


@pytest.fixture
def network() -> pd.DataFrame:
    """Sets of genes that rise and fall along dimension 0, one of neither, and one that is too small."""
    sets = {"rising": range(0, 10), "falling": range(30, 40), "other": range(12, 24), "small": range(3)}
    pairs = [(name, f"gex{j}") for name, numbers in sets.items() for j in numbers]
    return pd.DataFrame(pairs, columns=["source", "target"])


@needs_decoupler
@pytest.mark.parametrize(("method", "options"), [("ulm", {}), ("zscore", {"flavor": "RoKAI"})])
def test_sets_are_found_at_their_end(
    attributions: pd.DataFrame, network: pd.DataFrame, method: str, options: dict
) -> None:
    genes = attributions[attributions["modality"] == "gex"]
    ends = tl.attribution_enrichment(genes, network, method=method, **options)
    assert ends.columns.tolist() == [
        *("modality", "kind", "dimension", "group", "end", "source", "score", "p_value", "rank")
    ]
    first = ends[(ends["dimension"] == 0) & (ends["rank"] == 1)]
    for group in ("B", "T"):
        of_group = first[first["group"] == group].set_index("end")
        assert of_group["source"].to_dict() == {"upper": "rising", "lower": "falling"}
        assert (of_group["p_value"] < 0.01).all()
    assert "small" not in set(ends["source"])
    assert (ends["score"] > 0).all()
    for _, part in ends.groupby(["dimension", "group", "end"], observed=True):
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        assert part["score"].is_monotonic_decreasing


@needs_decoupler
def test_the_lower_end_is_the_upper_one_turned(attributions: pd.DataFrame, network: pd.DataFrame) -> None:
    genes = attributions[attributions["modality"] == "gex"]
    turned = genes.assign(attribution=-genes["attribution"])
    found, other = (tl.attribution_enrichment(table, network) for table in (genes, turned))
    key = ["dimension", "group", "source"]
    upper = found[found["end"] == "upper"].set_index(key)["score"]
    lower = other[other["end"] == "lower"].set_index(key)["score"]
    np.testing.assert_allclose(upper, lower.loc[upper.index], rtol=1e-5)


@needs_decoupler
def test_errors(attributions: pd.DataFrame, network: pd.DataFrame) -> None:
    genes = attributions[attributions["modality"] == "gex"]
    with pytest.raises(ValueError, match=r"none of its 4 sets has minimum_size=5 features of 'prot'.*\['prot0'"):
        tl.attribution_enrichment(attributions, network)
    with pytest.raises(ValueError, match="method='magic' is none of decoupler's: .*ulm"):
        tl.attribution_enrichment(genes, network, method="magic")
    with pytest.raises(KeyError, match=r"network lacks the columns \['target'\]"):
        tl.attribution_enrichment(genes, network.rename(columns={"target": "gene"}))
    with pytest.raises(ValueError, match="several of method"):
        two = pd.concat([genes, genes.assign(method="integrated_gradients")])
        tl.attribution_enrichment(two, network)


def test_without_decoupler_it_is_said_how_to_get_it(
    attributions: pd.DataFrame, network: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(ImportError, match=r"indiseek_sc\[enrichment\]"):
        tl.attribution_enrichment(attributions, network)
