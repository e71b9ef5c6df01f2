"""The synthetic suite by name, and its data sets S1 to S5."""

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
    """Simulate S1: Gaussian factors and linear views, :math:`X_i = (s, p_i)`. Not from the paper.

    This is an easy case: regularised CCA recovers s, and the residuals of a ridge regression on s
    recover p.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_shared, n_private
        Numbers of shared factors and of private factors of each modality; all independent and
        standard normal.
    n_copies
        Number of features that measure each factor.
    noise
        Standard deviation of the noise of each feature.
    rotate
        Whether to apply a random rotation to the features of each modality, so that each depends on
        all factors.
    seed
        Seed of factors, rotation and noise.

    Returns
    -------
    As in :func:`make`.

    Examples
    --------
    >>> mdata = isk.datasets.synthetic.gaussian_linear(20, n_shared=2, n_private=3, n_copies=3)
    >>> mdata["rna"].shape
    (20, 15)
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
    """Simulate S3: given shared representations with private factors, :math:`C_i = (s, r(p_i))`.

    Not from the paper. The data are those of S1. In addition, shared representations are given as a
    contrastive stage might learn them: the shared factors and, in the last columns, the first
    private factors of the same modality. Independence of the *own* shared representation then
    prevents :math:`Z_i` from containing :math:`r(p_i)`. Independence of the *other* one, as in the
    paper, does not, since :math:`p_i` is independent of the whole other modality.

    Parameters
    ----------
    n_cells, n_shared, n_private
        As in :func:`gaussian_linear`.
    n_redundant
        Number of private factors in each shared representation.
    n_copies, noise
        As in :func:`gaussian_linear`.
    seed
        Seed of factors and noise.

    Returns
    -------
    As in :func:`make`, with additional ``obsm["oracle_shared_rna"]`` and
    ``obsm["oracle_shared_adt"]`` of shape ``(n_cells, n_shared + n_redundant)``.

    Raises
    ------
    ValueError
        If a size is out of range.

    Examples
    --------
    >>> mdata = isk.datasets.synthetic.redundant_shared(20, n_shared=2, n_redundant=1)
    >>> mdata.obsm["oracle_shared_rna"].shape
    (20, 3)
    """
    check_sizes(n_shared=n_shared, n_private=n_private, n_redundant=n_redundant, n_copies=n_copies, noise=noise)
    if n_redundant > n_private:
        raise ValueError(f"n_redundant={n_redundant} must not exceed n_private={n_private}.")
    rng = np.random.default_rng(seed)
    design = Design(
        "S3",
        "S3: as S1, with given shared representations C_i = (s, r(p_i)) that also contain private factors.",
        normal(n_shared),
        {role: normal(n_private) for role in ROLES},
        {role: _linear_view(n_shared, n_private, n_copies, noise) for role in ROLES},
        oracle={role: tuple(range(n_redundant)) for role in ROLES},
    )
    return build(design, n_cells, seed, rng)


def _linear_view(
    n_shared: int, n_private: int, n_copies: int, noise: float, rng: np.random.Generator | None = None
) -> View:
    """Return a view with copies of all factors, rotated if a generator is given."""
    n_factors = n_shared + n_private
    depends_on = copies(np.eye(n_factors, dtype=bool), n_copies, axis=0)
    if rng is None:
        return View(lambda s, p: copies(np.hstack([s, p]), n_copies), depends_on, GaussianNoise(noise))
    turn = rotation(len(depends_on), rng)
    return View(lambda s, p: copies(np.hstack([s, p]), n_copies) @ turn, np.ones_like(depends_on), GaussianNoise(noise))


def nonlinear_redundancy(
    n_cells: int = 3000,
    *,
    n_shared: int = 2,
    n_private: int = 2,
    n_copies: int = 3,
    noise: float = 0.1,
    seed: int = 0,
) -> MuData:
    """Simulate S2: :math:`X_1 = (s, s^2 - 1, p_1)`, :math:`X_2 = (s, p_2)`. Not from the paper.

    Linear methods fail: :math:`s^2 - 1` is uncorrelated with s, so that they classify it as private
    to the RNA, although it is a function of factors that both modalities measure. Probes that
    predict s from it do not detect this either, since the mean of s given :math:`s^2` is 0;
    ``obsm["factor_shared_squared"]`` is provided as a target for this purpose.

    Parameters
    ----------
    n_cells, n_shared, n_private, n_copies, noise
        As in :func:`gaussian_linear`.
    seed
        Seed of factors and noise.

    Returns
    -------
    As in :func:`make`.

    Examples
    --------
    >>> mdata = isk.datasets.synthetic.nonlinear_redundancy(20)
    >>> mdata.obsm["factor_shared_squared"].shape
    (20, 2)
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
    description = "S2: RNA contains s and s^2 - 1, proteins contain s; both are shared."
    design = Design("S2", description, normal(n_shared), {role: normal(n_private) for role in ROLES}, views)
    return build(design, n_cells, seed, np.random.default_rng(seed))


_CENTER = 0.95
"""Position of the modes of the first shared factor.

Few cells are near 0, where s * p contains no information about p.
"""


def noise_coupled(n_cells: int = 3000, *, n_copies: int = 3, noise: float = 0.05, seed: int = 0) -> MuData:
    r"""Simulate S4: products with the shared factor, heavy tails and mixtures. Not from the paper.

    .. math::

        X_1 = (s_0, s_1, s_0 p_{1,0}, p_{1,1} \operatorname{sign} s_0, p_{1,2}), \qquad
        X_2 = (s_0, s_1, s_0 p_{2,0}, p_{2,1}),

    with independent factors of mean 0 and variance 1: :math:`s_0` is a mixture of two normal
    distributions at plus and minus .95, :math:`s_1` and :math:`p_{1,2}` have Student's
    t-distributions with 5 degrees of freedom, :math:`p_{1,0}` and :math:`p_{2,1}` Laplace
    distributions, :math:`p_{1,1}` is a skewed mixture of two normal distributions, and
    :math:`p_{2,0}` has a Student's t-distribution.

    Methods based on conditional means detect nothing: given s, the mean of every product is 0. The
    variance of :math:`s_0 p` depends on s. Neither the mean nor the variance of
    :math:`p_{1,1} \operatorname{sign} s_0` does, but only the side of its long tail. The private
    information given s is p. If p is symmetric, however, :math:`p \operatorname{sign} s_0` is as
    independent of s as p is, and the data do not determine which of the two a representation should
    contain. Such factors are therefore
    evaluated from Z and s together; the column ``given_shared`` of the factor table marks them.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_copies
        Number of features that measure each of the terms above.
    noise
        Standard deviation of the noise of each feature.
    seed
        Seed of factors and noise.

    Returns
    -------
    As in :func:`make`.

    Examples
    --------
    >>> factors = isk.datasets.synthetic.noise_coupled(20).uns["synthetic"]["factors"]
    >>> factors.loc[factors["given_shared"], "factor"].tolist()
    ['private_rna_0', 'private_rna_1', 'private_adt_0']
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
    """Sample a mixture of four fifths at -1/2 and one fifth at 2, with standard deviations of .2.

    The skewness is about 1.5 and the variance 1.
    """
    centers = np.where(rng.random(n) < 0.8, -0.5, 2.0)
    return (centers + 0.2 * rng.standard_normal(n)) / np.sqrt(1 + 0.2**2)


_HIDDEN_PER_FACTOR = 6
"""Number of hidden units of a random network for each factor."""


def random_mixers(n_cells: int = 3000, *, seed: int = 0) -> MuData:
    r"""Simulate S5: a random two-layer network for each modality. Not from the paper.

    :math:`X_i = W_i\, \varphi(V_i (s, p_i) + b_i) + \varepsilon` with normal :math:`V, W, b` and
    :math:`\varphi(v) = \tanh v + v / 4`, which does not saturate. The seed also determines 2 to 4
    shared factors, 2 to 4 private factors of each modality, 30 to 60 RNA features, 20 to 30 protein
    features, and noise of .05 to .15. Methods should be compared on many seeds, with results paired
    by seed.

    Parameters
    ----------
    n_cells
        Number of cells.
    seed
        Seed of all random numbers.

    Returns
    -------
    As in :func:`make`. How well a factor can be predicted differs between seeds; see the limits in
    the factor table.

    Examples
    --------
    >>> mdata = isk.datasets.synthetic.random_mixers(20, seed=1)
    >>> 30 <= mdata["rna"].n_vars <= 60
    True
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


def _mixer(n_factors: int, n_features: int, noise: float, rng: np.random.Generator) -> View:
    n_hidden = _HIDDEN_PER_FACTOR * n_factors
    first = rng.standard_normal((n_factors, n_hidden)) / np.sqrt(n_factors)
    bias = rng.standard_normal(n_hidden)
    second = rng.standard_normal((n_hidden, n_features)) / np.sqrt(n_hidden)

    def mix(shared: Array, private: Array) -> Array:
        hidden = np.hstack([shared, private]) @ first + bias
        return (np.tanh(hidden) + hidden / 4) @ second

    return View(mix, np.ones((n_features, n_factors), dtype=bool), GaussianNoise(noise))


_SUITE: dict[str, Callable[..., MuData]] = {
    "S1": gaussian_linear,
    "S2": nonlinear_redundancy,
    "S3": redundant_shared,
    "S4": noise_coupled,
    "S5": random_mixers,
    "S6": cite_seq_counts,
}

NAMES: tuple[str, ...] = tuple(_SUITE)
"""Names of the data sets of the suite."""


def make(name: str, n_cells: int = 3000, *, seed: int = 0, **options: Any) -> MuData:
    """Simulate a data set of the synthetic suite, with its true factors. Not from the paper.

    Parameters
    ----------
    name
        ``"S1"`` (:func:`gaussian_linear`), ``"S2"`` (:func:`nonlinear_redundancy`), ``"S3"``
        (:func:`redundant_shared`), ``"S4"`` (:func:`noise_coupled`), ``"S5"``
        (:func:`random_mixers`) or ``"S6"`` (:func:`cite_seq_counts`).
    n_cells
        Number of cells.
    seed
        Seed of all random numbers.
    **options
        Further arguments of the function.

    Returns
    -------
    Modalities ``"rna"`` and ``"adt"``, dense float32 (S6: sparse counts), which can be registered
    like any other data, with the true factors (see Notes).

    Raises
    ------
    ValueError
        If the name is unknown, or an option is out of range.

    Notes
    -----
    The data contain

    - ``obsm["factor_shared"]``, ``obsm["factor_private_rna"]``, ``obsm["factor_private_adt"]``:
      independent factors with mean 0 and variance 1, shape ``(n_cells, n_factors)``;
      ``obsm["factor_shared_squared"]``: standardised squares of the shared ones, since a
      representation may contain a function of them without their sign;
    - ``uns["synthetic"]["factors"]``: one row for each factor: ``factor`` (name), ``kind``,
      ``obsm`` and ``column`` (location); ``shared_rna``, ``shared_adt``, ``specific_rna``,
      ``specific_adt`` (whether that representation ``"should"``, ``"may"`` or ``"must not"``
      contain it); ``given_shared`` (whether it has to be predicted from a specific representation
      and the shared factors together); ``limit_rna``, ``limit_adt`` (largest R2 with which it can
      be predicted from that modality, linearised; NaN if unknown);
    - ``uns["synthetic"]["coordinates"]``: one row for each input feature: ``coordinate`` (name),
      ``modality``, ``group`` (``"shared"``, ``"private"``, ``"both"``, ``"none"``) and ``factors``
      (those on which it depends);
    - ``uns["synthetic"]["name"]``, ``["description"]``, ``["seed"]``.

    Examples
    --------
    >>> mdata = isk.datasets.synthetic.make("S2", n_cells=500, seed=1)
    >>> factors = mdata.uns["synthetic"]["factors"]
    >>> factors.loc[factors["specific_rna"] == "should", "factor"].tolist()
    ['private_rna_0', 'private_rna_1']
    """
    if name not in _SUITE:
        raise ValueError(f"name={name!r} is not in the suite: {', '.join(NAMES)}.")
    return _SUITE[name](n_cells, seed=seed, **options)
