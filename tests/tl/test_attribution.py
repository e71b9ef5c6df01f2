from __future__ import annotations

import sys
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from mudata import MuData

from indiseek_sc import _keys, tl


def test_squares_are_summed_over_dimensions(attributions: pd.DataFrame) -> None:
    block = tl.block_attribution(attributions)
    assert block.columns.tolist() == [
        *("modality", "kind", "method", "group", "feature", "magnitude", "share", "rank", "dimension")
    ]
    assert len(block) == 2 * (40 + 6)
    for gene in ("gex0", "gex20", "prot3"):
        for group in ("B", "T"):
            rows = attributions[(attributions["feature"] == gene) & (attributions["group"] == group)]
            row = block[(block["feature"] == gene) & (block["group"] == group)].iloc[0]
            assert row["magnitude"] == pytest.approx(np.sqrt((rows["magnitude"] ** 2).sum()))
            assert row["dimension"] == rows.loc[rows["magnitude"].idxmax(), "dimension"]


def test_shares_and_ranks_are_computed_by_modality_and_group(attributions: pd.DataFrame) -> None:
    block = tl.block_attribution(attributions)
    for _, part in block.groupby(["modality", "group"], observed=True):
        assert part["share"].sum() == pytest.approx(1)
        assert sorted(part["rank"]) == list(range(1, len(part) + 1))
        assert part.sort_values("rank")["magnitude"].is_monotonic_decreasing
    driving = block[(block["modality"] == "gex") & (block["rank"] <= 20)]["feature"].astype(str)
    assert set(driving) == {f"gex{j}" for j in (*range(10), *range(30, 40))}


def test_magnitudes_of_a_single_dimension_are_unchanged(attributions: pd.DataFrame) -> None:
    one = attributions[attributions["dimension"] == 1]
    np.testing.assert_allclose(tl.block_attribution(one)["magnitude"], one["magnitude"])


def test_invalid_tables_of_attributions_are_rejected(attributions: pd.DataFrame) -> None:
    with pytest.raises(
        KeyError, match=r"lacks the columns \['magnitude'\].*Pass the table returned by model.feature_attribution"
    ):
        tl.block_attribution(attributions.drop(columns="magnitude"))
    with pytest.raises(ValueError, match="table has no row"):
        tl.block_attribution(attributions.iloc[:0])


KEY = _keys.loadings("specific")


@pytest.fixture
def mdata() -> MuData:
    """Return genes and proteins of the table in reverse order, and two unused genes."""
    parts = {}
    for modality, n in (("gex", 42), ("prot", 6)):
        parts[modality] = AnnData(np.ones((5, n), dtype=np.float32))
        parts[modality].var_names = [f"{modality}{j}" for j in reversed(range(n))]
    return MuData(parts)


def test_loadings_follow_the_order_of_features(mdata: MuData, attributions: pd.DataFrame) -> None:
    tl.write_attribution(mdata, attributions, group="T")
    for modality, gene in (("gex", "gex7"), ("prot", "prot2")):
        loadings = mdata[modality].varm[KEY]
        rows = attributions[(attributions["feature"] == gene) & (attributions["group"] == "T")]
        assert loadings.shape == (mdata[modality].n_vars, 2)
        np.testing.assert_array_equal(loadings[mdata[modality].var_names.get_loc(gene)], rows["attribution"])
    assert np.isnan(mdata["gex"].varm[KEY][:2]).all()
    assert np.isfinite(mdata["gex"].varm[KEY][2:]).all()
    note = {"specific": {"method": "decoder_jacobian", "group": "T"}}
    assert mdata.uns[_keys.ATTRIBUTION] == {"gex": note, "prot": note}


def test_loadings_survive_a_file(mdata: MuData, attributions: pd.DataFrame, tmp_path: Path) -> None:
    tl.write_attribution(mdata, attributions, group="B")
    mdata.write(tmp_path / "cells.h5mu")
    read = mudata.read_h5mu(tmp_path / "cells.h5mu")
    np.testing.assert_array_equal(read["gex"].varm[KEY], mdata["gex"].varm[KEY])
    tl.write_attribution(read, attributions, group="T")  # replaces its own loadings
    assert not np.array_equal(read["prot"].varm[KEY], mdata["prot"].varm[KEY])


def test_modalities_can_be_written_separately(mdata: MuData, attributions: pd.DataFrame) -> None:
    for modality in ("gex", "prot"):
        tl.write_attribution(mdata, attributions[attributions["modality"] == modality], group="B")
    shared = attributions.assign(kind="shared")
    tl.write_attribution(mdata, shared[shared["group"] == "B"])
    assert sorted(mdata.uns[_keys.ATTRIBUTION]["gex"]) == ["shared", "specific"]
    assert set(mdata["prot"].varm) == {KEY, _keys.loadings("shared")}


needs_decoupler = pytest.mark.usefixtures("_decoupler")


@pytest.fixture
def _decoupler() -> None:
    pytest.importorskip("decoupler", reason='decoupler is not installed: pip install "indiseek_sc[enrichment]"')


@pytest.fixture
def network() -> pd.DataFrame:
    """Return sets of genes that rise or fall along dimension 0, an unrelated and a small set."""
    sets = {"rising": range(0, 10), "falling": range(30, 40), "other": range(12, 24), "small": range(3)}
    pairs = [(name, f"gex{j}") for name, numbers in sets.items() for j in numbers]
    return pd.DataFrame(pairs, columns=["source", "target"])


@needs_decoupler
@pytest.mark.parametrize(("method", "options"), [("ulm", {}), ("zscore", {"flavor": "RoKAI"})])
def test_sets_rank_first_at_their_end(
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
def test_negated_attributions_exchange_the_ends(attributions: pd.DataFrame, network: pd.DataFrame) -> None:
    genes = attributions[attributions["modality"] == "gex"]
    turned = genes.assign(attribution=-genes["attribution"])
    found, other = (tl.attribution_enrichment(table, network) for table in (genes, turned))
    key = ["dimension", "group", "source"]
    upper = found[found["end"] == "upper"].set_index(key)["score"]
    lower = other[other["end"] == "lower"].set_index(key)["score"]
    np.testing.assert_allclose(upper, lower.loc[upper.index], rtol=1e-5)


@needs_decoupler
def test_invalid_arguments_of_enrichment_are_rejected(attributions: pd.DataFrame, network: pd.DataFrame) -> None:
    genes = attributions[attributions["modality"] == "gex"]
    with pytest.raises(ValueError, match=r"none of its 4 sets has minimum_size=5 features of 'prot'.*\['prot0'"):
        tl.attribution_enrichment(attributions, network)
    with pytest.raises(ValueError, match="method='magic' is not a method of decoupler.mt, which has: .*ulm"):
        tl.attribution_enrichment(genes, network, method="magic")
    with pytest.raises(KeyError, match=r"network lacks the columns \['target'\]"):
        tl.attribution_enrichment(genes, network.rename(columns={"target": "gene"}))
    with pytest.raises(ValueError, match="several values of method"):
        two = pd.concat([genes, genes.assign(method="integrated_gradients")])
        tl.attribution_enrichment(two, network)


def test_enrichment_without_decoupler_names_the_extra(
    attributions: pd.DataFrame, network: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "decoupler", None)
    with pytest.raises(ImportError, match=r"indiseek_sc\[enrichment\]"):
        tl.attribution_enrichment(attributions, network)
