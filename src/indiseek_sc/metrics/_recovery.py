"""Which true factors a code holds, where factors are known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from indiseek_sc.metrics._checks import as_matrix, as_split
from indiseek_sc.metrics._probe import held_out_r2

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike


def factor_recovery(
    code: ArrayLike,
    factors: Mapping[str, ArrayLike],
    train: ArrayLike,
    test: ArrayLike,
    *,
    given: ArrayLike | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Say how much of each known factor fresh probes read from a code, on held-out cells.

    Each factor has probes of its own, the better of which counts. For a specific code of the synthetic suite the aim is at
    least .95 for factors that only its modality sees, and at most .02 for shared ones and their squares. This figure is ours.

    Parameters
    ----------
    code
        Shape ``(n_cells, n_code)``.
    factors
        By name, one or more factors of the same cells, shape ``(n_cells,)`` or ``(n_cells, n_factors)``.
    train, test
        Row numbers of the cells to fit probes on and to read figures on; without a cell in common.
    given
        What probes may read besides the code, shape ``(n_cells, n_given)``. In the data s * p only the size of p is sure: p and
        p * sign(s) are equally independent of a symmetric s. A code of either is read fairly with s given, which tells
        nothing of p by itself.
    seed
        Seed of the probes.

    Returns
    -------
    One row a factor: ``factor`` (name and column, such as ``shared_0``; the name alone where the array has one dimension)
    and ``r2``, NaN where a factor does not vary.

    Raises
    ------
    ValueError
        If no factor is given, shapes differ, a value is not finite, or ``train`` and ``test`` overlap or point outside of
        the cells.
    """
    if not factors:
        raise ValueError("factors is empty. Give at least one array by name.")
    source = as_matrix(code, "code")
    if given is not None:
        source = np.hstack([source, as_matrix(given, "given", len(source))])
    fitted, read = as_split(train, test, len(source))
    rows = []
    for name, values in factors.items():
        values = np.asarray(values)
        matrix = as_matrix(values[:, None] if values.ndim == 1 else values, f"factors[{name!r}]", len(source))
        for column in range(matrix.shape[1]):
            r2 = held_out_r2(source, matrix[:, [column]], fitted, read, seed=seed)
            rows.append({"factor": name if values.ndim == 1 else f"{name}_{column}", "r2": r2})
    return pd.DataFrame(rows)
