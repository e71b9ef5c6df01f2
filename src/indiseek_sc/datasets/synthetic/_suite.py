"""The suite by name, and S1 to S5 of it: Gaussian factors, nonlinear redundancy, given shared representations, coupled noise and random mixers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from indiseek_sc._keys import ROLES, Role
from indiseek_sc.datasets.synthetic._counts import cite_seq_counts
from indiseek_sc.datasets.synthetic._design import (
    Design,
    GaussianNoise,
    View,
    build,
    check_sizes,
    copies,
    normal,
    rotation,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData

    from indiseek_sc.datasets.synthetic._design import Array


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
    r"""S3: shared representations that hold private signal, :math:`C_i = (s, r(p_i))`. Synthetic; ours, not the paper's.

    The data are those of S1. Beside them lie shared representations as a contrastive stage might leave them: the shared factors and, in
    the last columns, the first private factors of the own modality. Independence of the *own* shared representation then forbids
    :math:`Z_i` to hold :math:`r(p_i)`; independence of the *other* one, which the paper asks for, does not, since
    :math:`p_i` is independent of all of the other modality.

    Parameters
    ----------
    n_cells, n_shared, n_private, n_copies, noise
        As in :func:`gaussian_linear`.
    n_redundant
        Number of private factors that a shared representation holds.
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
        "S3: as S1, with given shared representations C_i = (s, r(p_i)) that hold private factors too.",
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


_CENTER = 0.95
"""Place of the two peaks of the first shared factor; most of its cells are far from 0, where s * p shows nothing of p."""


def noise_coupled(n_cells: int = 3000, *, n_copies: int = 3, noise: float = 0.05, seed: int = 0) -> MuData:
    r"""S4: products with the shared factor, heavy tails and mixtures. Synthetic; ours, not the paper's.

    .. math::

        X_1 = (s_0, s_1, s_0 p_{1,0}, p_{1,1} \operatorname{sign} s_0, p_{1,2}), \qquad
        X_2 = (s_0, s_1, s_0 p_{2,0}, p_{2,1}),

    all factors independent with mean 0 and variance 1: :math:`s_0` a mixture of two normals at plus and minus .95,
    :math:`s_1` and :math:`p_{1,2}` Student's t with 5 degrees of freedom, :math:`p_{1,0}` and :math:`p_{2,1}` Laplace,
    :math:`p_{1,1}` a skewed mixture of two normals, :math:`p_{2,0}` Student's t again.

    Methods that look at conditional means see nothing: given s, the mean of every product is 0. Of :math:`s_0 p` the variance
    depends on s; of :math:`p_{1,1} \operatorname{sign} s_0` neither mean nor variance, only the side of the long tail.
    What is private given s is p. But where p is symmetric, :math:`p \operatorname{sign} s_0` is as independent of s as p is, and
    nothing in the data tells which of the two a representation should be. So such factors are to be read from Z and s together;
    the column ``given_shared`` of the truth marks them.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_copies
        Number of coordinates in which each of the above is measured.
    noise
        Standard deviation of the noise that is added to each coordinate.
    seed
        Decides factors and noise.

    Returns
    -------
    See :func:`make`.
    """
    check_sizes(n_copies=n_copies, noise=noise)
    measurement = GaussianNoise(noise)
    design = Design(
        "S4",
        "S4: private factors multiplied by the shared one; heavy tails and mixtures.",
        lambda n, rng: np.column_stack([_bimodal(n, rng), _student(n, rng)]),
        {
            "rna": lambda n, rng: np.column_stack([_laplace(n, rng), _skewed(n, rng), _student(n, rng)]),
            "adt": lambda n, rng: np.column_stack([_student(n, rng), _laplace(n, rng)]),
        },
        {
            "rna": View(
                lambda s, p: copies(
                    np.column_stack([s, s[:, 0] * p[:, 0], p[:, 1] * np.sign(s[:, 0]), p[:, 2]]), n_copies
                ),
                copies(_pattern("10000", "01000", "10100", "10010", "00001"), n_copies, axis=0),
                measurement,
            ),
            "adt": View(
                lambda s, p: copies(np.column_stack([s, s[:, 0] * p[:, 0], p[:, 1]]), n_copies),
                copies(_pattern("1000", "0100", "1010", "0001"), n_copies, axis=0),
                measurement,
            ),
        },
        conditional={"rna": (0, 1), "adt": (0,)},
    )
    return build(design, n_cells, seed, np.random.default_rng(seed))


def _pattern(*rows: str) -> np.ndarray:
    return np.array([[mark == "1" for mark in row] for row in rows])


def _bimodal(n: int, rng: np.random.Generator) -> Array:
    return rng.choice([-_CENTER, _CENTER], n) + np.sqrt(1 - _CENTER**2) * rng.standard_normal(n)


def _student(n: int, rng: np.random.Generator) -> Array:
    return rng.standard_t(5, n) / np.sqrt(5 / 3)


def _laplace(n: int, rng: np.random.Generator) -> Array:
    return rng.laplace(scale=np.sqrt(0.5), size=n)


def _skewed(n: int, rng: np.random.Generator) -> Array:
    """Four fifths of the cells at -1/2 and one fifth at 2, each give or take .2: skewness about 1.5, variance 1."""
    centers = np.where(rng.random(n) < 0.8, -0.5, 2.0)
    return (centers + 0.2 * rng.standard_normal(n)) / np.sqrt(1 + 0.2**2)


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
      standardised, since a representation may hold a function of them that tells nothing of their sign;
    - ``uns["synthetic"]["factors"]``: one row a factor: ``factor`` (its name), ``kind``, ``obsm`` and ``column`` (where it
      is); ``shared_rna``, ``shared_adt``, ``specific_rna``, ``specific_adt`` (whether that representation ``"should"``, ``"may"`` or
      ``"must not"`` hold it); ``given_shared`` (whether a specific representation of it has to be read together with the shared factors);
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
