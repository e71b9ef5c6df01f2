"""S6: simulated CITE-seq counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from indiseek_sc._keys import ROLES, Role
from indiseek_sc.datasets.synthetic._design import Design, View, build, check_sizes, normal

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from indiseek_sc.datasets.synthetic._design import Array


def cite_seq_counts(
    n_cells: int = 3000,
    *,
    n_genes: int = 400,
    n_proteins: int = 80,
    n_shared: int = 3,
    n_private: int = 2,
    n_batches: int = 2,
    gene_counts: float = 4000.0,
    dispersion: float = 0.1,
    seed: int = 0,
) -> MuData:
    r"""Simulate S6: counts with library size, background and batches. Not from the paper.

    Each gene or protein depends on at most one factor: two fifths on a shared one, two fifths on a
    private one of the modality, the others on none. With :math:`\eta = \pm a f`, :math:`a` between
    .5 and 1, library size :math:`L` (log-normal) and a shift :math:`b` of each feature in each
    batch, the means are

    .. math::

        \mu_{gene} = L\, r\, e^{\eta + b}, \qquad \mu_{protein} = L\, e^{b} (k + r\, e^{\eta}),

    with :math:`r` the abundance and :math:`k` the background of unbound antibody; counts are
    negative binomial with variance :math:`\mu + \phi \mu^2`.

    Parameters
    ----------
    n_cells
        Number of cells.
    n_genes, n_proteins
        Numbers of features; at most as many proteins as genes.
    n_shared, n_private
        Numbers of shared factors and of private factors of each modality; all independent and
        standard normal.
    n_batches
        Number of batches with equal probability; stored in ``obs["batch"]`` if there are several.
    gene_counts
        Expected total RNA count of a cell with median library size if all factors are 0.
    dispersion
        Dispersion :math:`\phi`.
    seed
        Seed of all random numbers.

    Returns
    -------
    As in :func:`make`; the counts are CSR.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> mdata = isk.datasets.synthetic.cite_seq_counts(20)
    >>> mdata["rna"].shape, mdata["adt"].shape
    ((20, 400), (20, 80))
    """
    check_sizes(n_proteins=n_proteins, n_shared=n_shared, n_private=n_private, n_batches=n_batches)
    if n_genes < n_proteins:
        raise ValueError(f"n_genes={n_genes} must be at least n_proteins={n_proteins}.")
    if not gene_counts > 0:
        raise ValueError(f"gene_counts={gene_counts} must be above 0.")
    if dispersion < 0:
        raise ValueError(f"dispersion={dispersion} must not be negative.")
    rng = np.random.default_rng(seed)
    abundance = rng.lognormal(0.0, 1.0, n_genes)
    abundance *= gene_counts / abundance.sum()
    proteins = rng.lognormal(np.log(30.0), 0.5, n_proteins)
    sizes = n_shared, n_private, n_batches, dispersion, rng
    views: dict[Role, View] = {
        "rna": _count_view(abundance, np.zeros(n_genes), 0.35, *sizes),
        "adt": _count_view(proteins, rng.uniform(0.05, 0.3, n_proteins) * proteins, 0.25, *sizes),
    }
    description = "S6: negative-binomial counts with library size, background of proteins, and batches."
    draws = {role: normal(n_private) for role in ROLES}
    design = Design("S6", description, normal(n_shared), draws, views, n_batches=n_batches)
    return build(design, n_cells, seed, rng)


@dataclass(frozen=True, eq=False)
class NegativeBinomial:
    """Negative-binomial counts, whose means are given on the log scale.

    The variance is ``mean + dispersion * mean**2``.

    Parameters
    ----------
    dispersion
        Overdispersion relative to a Poisson distribution.
    library_std
        Standard deviation of the logarithm of the library size, whose median is 1.
    shifts
        Shift of each feature in each batch on the log scale, shape ``(n_batches, n_features)``.
    """

    dispersion: float
    library_std: float
    shifts: Array

    def draw(self, mean: Array, batch: NDArray[np.intp], rng: np.random.Generator) -> sparse.csr_matrix:
        """Sample counts from Poisson distributions with gamma-distributed rates."""
        library = rng.lognormal(0.0, self.library_std, (len(mean), 1))
        rate = library * np.exp(mean + self.shifts[batch])
        if self.dispersion > 0:
            rate = rate * rng.gamma(1 / self.dispersion, self.dispersion, rate.shape)
        return sparse.csr_matrix(rng.poisson(rate).astype(np.float32))

    def information(self, mean: Array) -> Array:
        """Return the Fisher information for a median library size and without batch effects."""
        rate = np.exp(mean)
        return rate / (1 + self.dispersion * rate)


def _count_view(
    abundance: Array,
    background: Array,
    library_std: float,
    n_shared: int,
    n_private: int,
    n_batches: int,
    dispersion: float,
    rng: np.random.Generator,
) -> View:
    n = len(abundance)
    # Factors are assigned in turn, shared ones first, then private ones, and features are permuted.
    n_each = 2 * n // 5
    factor = np.concatenate(
        [np.arange(n_each) % n_shared, n_shared + np.arange(n_each) % n_private, np.full(n - 2 * n_each, -1)]
    )
    factor = rng.permutation(factor)
    depends_on = factor[:, None] == np.arange(n_shared + n_private)
    loadings = depends_on * (rng.choice([-1.0, 1.0], n) * rng.uniform(0.5, 1.0, n))[:, None]
    shifts = 0.2 * rng.standard_normal((n_batches, n)) if n_batches > 1 else np.zeros((1, n))

    def mix(shared: Array, private: Array) -> Array:
        return np.log(background + abundance * np.exp(np.hstack([shared, private]) @ loadings.T))

    return View(mix, depends_on, NegativeBinomial(dispersion, library_std, shifts))
