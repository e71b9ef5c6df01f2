"""S1 and S3: Gaussian factors, seen linearly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._keys import ROLES
from indiseek_sc.datasets.synthetic._build import build
from indiseek_sc.datasets.synthetic._design import Design, GaussianNoise, View
from indiseek_sc.datasets.synthetic._parts import check_sizes, copies, normal, rotation

if TYPE_CHECKING:
    from mudata import MuData


def gaussian_linear(
    n_cells: int = 3000,
    *,
    n_shared: int = 2,
    n_private: int = 3,
    n_copies: int = 3,
    noise: float = 0.1,
    rotate: bool = False,
    seed: int = 0,
) -> MuData:
    r"""S1: Gaussian factors and linear views, :math:`X_i = (s, p_i)`. Synthetic; ours, not the paper's.

    The easy case: regularised CCA finds s, and what a ridge regression on s leaves is p.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_shared, n_private
        Number of shared factors, and of private factors of each modality; all independent and standard normal.
    n_copies
        Number of coordinates in which each factor is measured.
    noise
        Standard deviation of the noise that is added to each coordinate.
    rotate
        Turn the coordinates of each modality by a random rotation, so that each is made of all factors.
    seed
        Decides factors, rotation and noise.

    Returns
    -------
    See :func:`make`.
    """
    check_sizes(n_shared=n_shared, n_private=n_private, n_copies=n_copies, noise=noise)
    rng = np.random.default_rng(seed)
    views = {role: _linear_view(n_shared, n_private, n_copies, noise, rng if rotate else None) for role in ROLES}
    draws = {role: normal(n_private) for role in ROLES}
    description = "S1: Gaussian factors, linear views X_i = (s, p_i)."
    return build(Design("S1", description, normal(n_shared), draws, views), n_cells, seed, rng)


def redundant_shared(
    n_cells: int = 3000,
    *,
    n_shared: int = 2,
    n_private: int = 3,
    n_redundant: int = 1,
    n_copies: int = 3,
    noise: float = 0.1,
    seed: int = 0,
) -> MuData:
    r"""S3: shared codes that hold private signal, :math:`C_i = (s, r(p_i))`. Synthetic; ours, not the paper's.

    The data are those of S1. Beside them lie shared codes as a contrastive stage might leave them: the shared factors and, in
    the last columns, the first private factors of the own modality. Independence of the *own* shared code then forbids
    :math:`Z_i` to hold :math:`r(p_i)`; independence of the *other* one, which the paper asks for, does not, since
    :math:`p_i` is independent of all of the other modality.

    Parameters
    ----------
    n_cells, n_shared, n_private, n_copies, noise
        As in :func:`gaussian_linear`.
    n_redundant
        Number of private factors that a shared code holds.
    seed
        Decides factors and noise.

    Returns
    -------
    See :func:`make`; besides, ``obsm["oracle_shared_rna"]`` and ``obsm["oracle_shared_adt"]``, shape
    ``(n_cells, n_shared + n_redundant)``.

    Raises
    ------
    ValueError
        If a size is out of range.
    """
    check_sizes(n_shared=n_shared, n_private=n_private, n_redundant=n_redundant, n_copies=n_copies, noise=noise)
    if n_redundant > n_private:
        raise ValueError(f"n_redundant={n_redundant} must not exceed n_private={n_private}.")
    rng = np.random.default_rng(seed)
    design = Design(
        "S3",
        "S3: as S1, with given shared codes C_i = (s, r(p_i)) that hold private factors too.",
        normal(n_shared),
        {role: normal(n_private) for role in ROLES},
        {role: _linear_view(n_shared, n_private, n_copies, noise) for role in ROLES},
        oracle={role: tuple(range(n_redundant)) for role in ROLES},
    )
    return build(design, n_cells, seed, rng)


def _linear_view(
    n_shared: int, n_private: int, n_copies: int, noise: float, rng: np.random.Generator | None = None
) -> View:
    """Copies of all factors, turned if there is randomness to turn them by."""
    n_factors = n_shared + n_private
    made_of = copies(np.eye(n_factors, dtype=bool), n_copies, axis=0)
    if rng is None:
        return View(lambda s, p: copies(np.hstack([s, p]), n_copies), made_of, GaussianNoise(noise))
    turn = rotation(len(made_of), rng)
    return View(lambda s, p: copies(np.hstack([s, p]), n_copies) @ turn, np.ones_like(made_of), GaussianNoise(noise))
