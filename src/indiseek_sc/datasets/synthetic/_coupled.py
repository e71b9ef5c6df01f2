"""S4: private factors that appear only multiplied by shared ones, none of them Gaussian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc.datasets.synthetic._build import build
from indiseek_sc.datasets.synthetic._design import Design, GaussianNoise, View
from indiseek_sc.datasets.synthetic._parts import check_sizes, copies

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc.datasets.synthetic._design import Array

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
    nothing in the data tells which of the two a code should be. So such factors are to be read from Z and s together;
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
