"""Which features drive a code as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc.tl._attributions import check_attributions

if TYPE_CHECKING:
    import pandas as pd


def block_attribution(table: pd.DataFrame) -> pd.DataFrame:
    r"""Sum attributions over the dimensions of a code: which genes and proteins drive it as a whole.

    Signs of different dimensions have no common meaning, so squares are summed, which a rotation of the code leaves as they are.

    Parameters
    ----------
    table
        What ``model.feature_attribution`` returned, of any codes, methods and groups.

    Returns
    -------
    One row for each modality, kind, method, group and feature, in the order of the table: ``magnitude``, the root of the sum over dimensions of
    the squared magnitudes; ``share`` of the sum of squares over all features; ``rank`` among the features, 1 the largest; and
    ``dimension``, the one that has most of it.

    Raises
    ------
    KeyError
        If the table lacks a column.
    ValueError
        If it has no row.
    """
    check_attributions(table)
    block = ["modality", "kind", "method", "group"]
    squares = table[[*block, "feature", "dimension"]].assign(square=table["magnitude"] ** 2)
    grouped = squares.groupby([*block, "feature"], observed=True, sort=False)
    total = grouped["square"].sum()
    largest = squares.loc[grouped["square"].idxmax()].set_index([*block, "feature"])["dimension"]
    result = total.rename("square").to_frame().assign(dimension=largest).reset_index()
    by_block = result.groupby(block, observed=True, sort=False)["square"]
    result["magnitude"] = np.sqrt(result["square"])
    result["share"] = result["square"] / by_block.transform("sum")
    result["rank"] = by_block.rank(ascending=False, method="first").astype(int)
    return result[[*block, "feature", "magnitude", "share", "rank", "dimension"]]
