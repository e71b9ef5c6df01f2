from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from indiseek_sc import tl


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


def test_shares_and_ranks_are_of_a_modality_in_a_group(attributions: pd.DataFrame) -> None:
    block = tl.block_attribution(attributions)
    for _, part in block.groupby(["modality", "group"], observed=True):
        assert part["share"].sum() == pytest.approx(1)
        assert sorted(part["rank"]) == list(range(1, len(part) + 1))
        assert part.sort_values("rank")["magnitude"].is_monotonic_decreasing
    driving = block[(block["modality"] == "gex") & (block["rank"] <= 20)]["feature"].astype(str)
    assert set(driving) == {f"gex{j}" for j in (*range(10), *range(30, 40))}


def test_one_dimension_is_itself(attributions: pd.DataFrame) -> None:
    one = attributions[attributions["dimension"] == 1]
    np.testing.assert_allclose(tl.block_attribution(one)["magnitude"], one["magnitude"])


def test_errors(attributions: pd.DataFrame) -> None:
    with pytest.raises(KeyError, match=r"lacks the columns \['magnitude'\].*Pass that of model.feature_attribution"):
        tl.block_attribution(attributions.drop(columns="magnitude"))
    with pytest.raises(ValueError, match="table has no row"):
        tl.block_attribution(attributions.iloc[:0])
