"""S2: one modality holds a nonlinear function of what both share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._keys import ROLES, Role
from indiseek_sc.datasets.synthetic._build import build
from indiseek_sc.datasets.synthetic._design import Design, GaussianNoise, View
from indiseek_sc.datasets.synthetic._parts import check_sizes, copies, normal

if TYPE_CHECKING:
    from mudata import MuData


def nonlinear_redundancy(
    n_cells: int = 3000,
    *,
    n_shared: int = 2,
    n_private: int = 2,
    n_copies: int = 3,
    noise: float = 0.1,
    seed: int = 0,
) -> MuData:
    r"""S2: :math:`X_1 = (s, s^2 - 1, p_1)`, :math:`X_2 = (s, p_2)`. Synthetic; ours, not the paper's.

    Linear methods fail: :math:`s^2 - 1` is uncorrelated with s, so they take it for private to the RNA, though it is a function
    of what both modalities know. No probe that predicts s from it would notice either, since its mean is 0 given
    :math:`s^2`; ``obsm["factor_shared_squared"]`` is there to be predicted for that.

    Parameters
    ----------
    n_cells, n_shared, n_private, n_copies, noise
        As in :func:`gaussian_linear`.
    seed
        Decides factors and noise.

    Returns
    -------
    See :func:`make`.
    """
    check_sizes(n_shared=n_shared, n_private=n_private, n_copies=n_copies, noise=noise)
    of_shared, of_private = np.split(np.eye(n_shared + n_private, dtype=bool), [n_shared])
    measurement = GaussianNoise(noise)
    views: dict[Role, View] = {
        "rna": View(
            lambda s, p: copies(np.hstack([s, s**2 - 1, p]), n_copies),
            copies(np.vstack([of_shared, of_shared, of_private]), n_copies, axis=0),
            measurement,
        ),
        "adt": View(
            lambda s, p: copies(np.hstack([s, p]), n_copies),
            copies(np.vstack([of_shared, of_private]), n_copies, axis=0),
            measurement,
        ),
    }
    description = "S2: the RNA holds s and s^2 - 1, the proteins s alone; all of it is shared."
    design = Design("S2", description, normal(n_shared), {role: normal(n_private) for role in ROLES}, views)
    return build(design, n_cells, seed, np.random.default_rng(seed))
