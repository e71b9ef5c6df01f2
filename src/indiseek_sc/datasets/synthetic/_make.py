"""The suite by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indiseek_sc.datasets.synthetic._counts import cite_seq_counts
from indiseek_sc.datasets.synthetic._coupled import noise_coupled
from indiseek_sc.datasets.synthetic._gaussian import gaussian_linear, redundant_shared
from indiseek_sc.datasets.synthetic._mixers import random_mixers
from indiseek_sc.datasets.synthetic._redundancy import nonlinear_redundancy

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

_SUITE: dict[str, Callable[..., MuData]] = {
    "S1": gaussian_linear,
    "S2": nonlinear_redundancy,
    "S3": redundant_shared,
    "S4": noise_coupled,
    "S5": random_mixers,
    "S6": cite_seq_counts,
}

NAMES: tuple[str, ...] = tuple(_SUITE)
"""The names of the suite."""


def make(name: str, n_cells: int = 3000, *, seed: int = 0, **options: Any) -> MuData:
    """Draw a synthetic data set of the suite, with the truth beside it. Ours, not the paper's.

    Parameters
    ----------
    name
        ``"S1"`` (:func:`gaussian_linear`), ``"S2"`` (:func:`nonlinear_redundancy`), ``"S3"`` (:func:`redundant_shared`),
        ``"S4"`` (:func:`noise_coupled`), ``"S5"`` (:func:`random_mixers`) or ``"S6"`` (:func:`cite_seq_counts`).
    n_cells
        Number of cells.
    seed
        Decides everything; the same seed gives the same numbers.
    **options
        Passed to the function.

    Returns
    -------
    Modalities ``"rna"`` and ``"adt"``, dense float32 (S6: sparse counts), to be set up as any other data, and

    - ``obsm["factor_shared"]``, ``obsm["factor_private_rna"]``, ``obsm["factor_private_adt"]``: the factors, independent, with
      mean 0 and variance 1, shape ``(n_cells, n_factors)``; ``obsm["factor_shared_squared"]``: squares of the shared ones,
      standardised, since a code may hold a function of them that tells nothing of their sign;
    - ``uns["synthetic"]["factors"]``: one row a factor: ``factor`` (its name), ``kind``, ``obsm`` and ``column`` (where it
      is); ``shared_rna``, ``shared_adt``, ``specific_rna``, ``specific_adt`` (whether that code ``"should"``, ``"may"`` or
      ``"must not"`` hold it); ``given_shared`` (whether a specific code of it has to be read together with the shared factors);
      ``limit_rna``, ``limit_adt`` (R2 with which the values of that modality can tell it, linearised; NaN where not known);
    - ``uns["synthetic"]["coordinates"]``: one row an input coordinate: ``coordinate``, ``modality``, ``group`` (``"shared"``,
      ``"private"``, ``"both"``, ``"none"``) and ``factors`` (those that it is made of);
    - ``uns["synthetic"]["name"]``, ``["description"]``, ``["seed"]``.

    Raises
    ------
    ValueError
        If there is no such name, or an option is out of range.

    Examples
    --------
    >>> mdata = indiseek_sc.datasets.synthetic.make("S2", n_cells=500, seed=1)
    >>> mdata.uns["synthetic"]["factors"][["factor", "specific_rna", "specific_adt"]]
    """
    if name not in _SUITE:
        raise ValueError(f"name={name!r} is not in the suite: {', '.join(NAMES)}.")
    return _SUITE[name](n_cells, seed=seed, **options)
