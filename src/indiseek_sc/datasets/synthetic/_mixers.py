"""S5: an ensemble of random nonlinear views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc._keys import ROLES
from indiseek_sc.datasets.synthetic._build import build
from indiseek_sc.datasets.synthetic._design import Design, GaussianNoise, View
from indiseek_sc.datasets.synthetic._parts import normal

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc.datasets.synthetic._design import Array

_HIDDEN_PER_FACTOR = 6


def random_mixers(n_cells: int = 3000, *, seed: int = 0) -> MuData:
    r"""S5: one draw of an ensemble of random two-layer mixers. Synthetic; ours, not the paper's.

    :math:`X_i = W_i\, \varphi(V_i (s, p_i) + b_i) + \varepsilon` with normal :math:`V, W, b` and
    :math:`\varphi(v) = \tanh v + v / 4`, which never goes flat. The seed draws also 2 to 4 shared factors, 2 to 4 private ones
    of each modality, 30 to 60 coordinates of RNA and 20 to 30 of proteins, and noise of .05 to .15. Compare methods on many
    seeds, pair by pair.

    Parameters
    ----------
    n_cells
        Number of cells.
    seed
        Decides everything.

    Returns
    -------
    See :func:`make`. How well a factor can be told differs from draw to draw: read the limits in the truth.
    """
    rng = np.random.default_rng(seed)
    n_shared = int(rng.integers(2, 5))
    n_private = {role: int(rng.integers(2, 5)) for role in ROLES}
    widths = {"rna": int(rng.integers(30, 61)), "adt": int(rng.integers(20, 31))}
    noise = float(rng.uniform(0.05, 0.15))
    views = {role: _mixer(n_shared + n_private[role], widths[role], noise, rng) for role in ROLES}
    draws = {role: normal(n_private[role]) for role in ROLES}
    description = "S5: a random two-layer mixer for each modality."
    return build(Design("S5", description, normal(n_shared), draws, views), n_cells, seed, rng)


def _mixer(n_factors: int, n_coordinates: int, noise: float, rng: np.random.Generator) -> View:
    n_hidden = _HIDDEN_PER_FACTOR * n_factors
    first = rng.standard_normal((n_factors, n_hidden)) / np.sqrt(n_factors)
    bias = rng.standard_normal(n_hidden)
    second = rng.standard_normal((n_hidden, n_coordinates)) / np.sqrt(n_hidden)

    def mix(shared: Array, private: Array) -> Array:
        hidden = np.hstack([shared, private]) @ first + bias
        return (np.tanh(hidden) + hidden / 4) @ second

    return View(mix, np.ones((n_coordinates, n_factors), dtype=bool), GaussianNoise(noise))
