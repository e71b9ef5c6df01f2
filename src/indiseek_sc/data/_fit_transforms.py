"""Fit of a feature transform on training cells, and its application to many cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from indiseek_sc._settings import settings
from indiseek_sc.data._matrix import (
    MatchedMatrix,
    as_dense,
    as_row_major,
    find_missing,
    iterate_parts,
    principal_components,
    sum_of_each_row,
)
from indiseek_sc.data._signal import LEAST_SIGNAL, count_reproducible, counting_noise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from indiseek_sc.nn import FeatureTransform

N_CELLS_FOR_GENES = 20_000
"""Largest number of cells on which highly variable genes are selected."""

LARGEST_LOG = 50.0
"""Largest plausible logarithm of expression."""

SMALLEST_SPREAD = 1e-5
"""Ratio of standard deviation to magnitude below which a feature is constant up to rounding."""


@torch.no_grad()
def fit_transform(transform: FeatureTransform, matrix: Any, rows: np.ndarray, *, seed: int) -> None:
    """Fit the buffers of a transform on training cells.

    The matrix is read in parts, several times; each step is fitted on the output of previous steps.

    Parameters
    ----------
    transform
        The transform to fit, changed in place.
    matrix
        Raw values, shape ``(n_cells, n_input)``: any format that AnnData supports.
    rows
        Row numbers of the training cells, shape ``(n_rows,)``; other rows are not used.
    seed
        Seed of the sample of cells on which highly variable genes are selected, if there are more
        than 20,000, and of the held-out cells on which components are tested.

    Raises
    ------
    ValueError
        If ``rows`` is empty, or the matrix does not have ``n_input`` columns.
    """
    rows = np.sort(np.asarray(rows))
    if rows.size == 0:
        raise ValueError("rows: a transform cannot be fitted without cells.")
    if matrix.shape[1] != transform.n_input:
        raise ValueError(f"matrix: it has {matrix.shape[1]:,} columns, but the transform reads {transform.n_input:,}.")
    matrix = as_row_major(matrix)
    if transform.library_size is not None and transform.shares is not None:
        library_size, shares = _count(matrix, rows)
        transform.library_size.fill_(library_size)
        transform.shares.copy_(torch.from_numpy(shares))
    if transform.n_features < transform.n_input:
        genes = _choose_genes(transform, matrix, rows, np.random.default_rng(seed))
        transform.features.copy_(torch.from_numpy(genes))

    mean, std, n_measured = _moments(_read(transform, matrix, rows), has_gaps=transform.is_common is not None)
    transform.center.copy_(mean)
    noise = None
    if transform.recipe.subtract_noise:
        # Unmeasured values add no noise.
        noise = counting_noise(transform, matrix, rows) * (rows.size / n_measured)
    transform.scale.copy_(_find_scale(mean, std, transform, noise))
    if transform.components is not None and transform.offset is not None:
        weights, offset = _fit_components(transform, matrix, rows, seed)
        transform.components.copy_(torch.from_numpy(weights))
        transform.offset.copy_(torch.from_numpy(offset))


def apply_transform(transform: FeatureTransform, matrix: Any, rows: np.ndarray | None = None) -> torch.Tensor:
    """Compute features of many cells from raw values, reading the matrix in parts.

    Parameters
    ----------
    transform
        A fitted transform.
    matrix
        Raw values, shape ``(n_cells, n_input)``: any format that AnnData supports.
    rows
        Row numbers, in any order, shape ``(n_rows,)``; all by default.

    Returns
    -------
    Features in the order of ``rows``, float32, shape ``(n_rows, n_output)``, on the transform's
    device.
    """
    return _map_rows(transform, transform.from_normalized, transform.n_output, matrix, rows)


def read_standardized(transform: FeatureTransform, matrix: Any, rows: np.ndarray | None = None) -> torch.Tensor:
    """Compute standardised values of the features in use, before projection on components.

    Parameters
    ----------
    transform, matrix, rows
        As in :func:`apply_transform`.

    Returns
    -------
    Values in the order of ``rows``, float32, shape ``(n_rows, n_features)``, on the transform's
    device.
    """
    return _map_rows(transform, transform.standardize, transform.n_features, matrix, rows)


def read_normalized(transform: FeatureTransform, matrix: Any, rows: np.ndarray | None = None) -> torch.Tensor:
    """Compute normalised values, such as log-normalised genes or centred log-ratios.

    Parameters
    ----------
    transform, matrix, rows
        As in :func:`apply_transform`.

    Returns
    -------
    Values in the order of ``rows``, float32, shape ``(n_rows, n_features)``, on the transform's
    device.
    """
    return _map_rows(transform, lambda y: y, transform.n_features, matrix, rows)


def _map_rows(
    transform: FeatureTransform,
    function: Callable[[torch.Tensor], torch.Tensor],
    width: int,
    matrix: Any,
    rows: np.ndarray | None,
) -> torch.Tensor:
    """Apply a function to normalised values of ``rows``, shape ``(n_rows, width)``."""
    rows = np.arange(matrix.shape[0]) if rows is None else np.asarray(rows)
    order = torch.from_numpy(np.argsort(rows, kind="stable")).to(transform.center.device)
    values = torch.empty(rows.size, width, device=transform.center.device)
    start = 0
    with torch.no_grad():
        for y in _read(transform, matrix, rows):
            values[order[start : start + y.shape[0]]] = function(y)
            start += y.shape[0]
    return values


def _read(transform: FeatureTransform, matrix: Any, rows: np.ndarray) -> Iterator[torch.Tensor]:
    """Yield normalised values, in ascending order of rows, shape ``(n_chunk, n_features)`` each.

    For compressed rows, only the features in use are converted to dense values if normalisation
    needs no others.
    """
    matrix = as_row_major(matrix)
    if isinstance(matrix, MatchedMatrix):
        matrix = matrix.showing_gaps()
    device, is_sparse = transform.center.device, getattr(matrix, "format", None) == "csr"
    missing = find_missing(matrix)
    is_missing = None if missing is None else torch.from_numpy(missing).to(device)
    if not is_sparse or transform.needs_all_values or transform.n_features == transform.n_input:
        for part in iterate_parts(matrix, rows):
            yield transform.normalize(torch.from_numpy(as_dense(part)).to(device), is_missing)
        return
    features = transform.features.cpu().numpy()
    for part in iterate_parts(matrix, rows, settings.rows_at_once(transform.n_features)):
        totals = torch.from_numpy(sum_of_each_row(part).astype(np.float32)).to(device)
        yield transform.normalize_selected(torch.from_numpy(as_dense(part[:, features])).to(device), totals, is_missing)


def _count(matrix: Any, rows: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the median library size and the fraction of counts per feature, ``(n_input,)``."""
    totals, counts = [], np.zeros(matrix.shape[1])
    for part in iterate_parts(matrix, rows):
        totals.append(sum_of_each_row(part))
        counts += sum_of_each_row(part.T)
    # The median of numpy averages the two middle values; that of torch is the lower one.
    return float(np.median(np.concatenate(totals))), counts / max(counts.sum(), 1.0)


def _moments(chunks: Iterable[torch.Tensor], *, has_gaps: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mean, standard deviation and number of values of each column, in float64.

    Moments of chunks are merged by the formulas of Chan et al. (1983). With gaps, NaN is ignored.
    """
    n = mean = squares = torch.zeros(())
    for y in chunks:
        y = y.double()
        n_chunk = (~y.isnan()).sum(dim=0) if has_gaps else torch.full(y.shape[1:], len(y), device=y.device)
        chunk_mean = y.nansum(dim=0) / n_chunk.clamp(min=1) if has_gaps else y.mean(dim=0)
        within = (y - chunk_mean).square()
        within = within.nansum(dim=0) if has_gaps else within.sum(dim=0)
        n, mean, squares = (x.to(y.device) for x in (n, mean, squares))
        total = (n + n_chunk).clamp(min=1)
        shift = chunk_mean - mean
        squares = squares + within + shift.square() * (n * n_chunk / total)
        mean = mean + shift * (n_chunk / total)
        n = n + n_chunk
    return mean, (squares / (n - 1).clamp(min=1)).sqrt(), n.clamp(min=1).double()


def _find_scale(
    mean: torch.Tensor, std: torch.Tensor, transform: FeatureTransform, noise: torch.Tensor | None
) -> torch.Tensor:
    """Return the factor of each feature, 0 for constant ones; ``noise`` is the noise variance."""
    size = (mean**2 + std**2).sqrt()
    if transform.recipe.cell_step is not None:
        size = size.clamp(min=1.0)  # rounding of log-ratios scales with the logarithms
    varies = std > SMALLEST_SPREAD * size
    std = std.where(varies, torch.ones_like(std))
    if not transform.recipe.shared_scale:
        return torch.where(varies, 1.0 / std, 0.0)
    weight = varies.double()
    if noise is not None:
        weight = weight * (1 - noise / std**2).clamp(min=LEAST_SIGNAL).sqrt()
    widest = (weight * std).max()
    return weight / widest.clamp(min=torch.finfo(torch.float64).tiny)


def _choose_genes(
    transform: FeatureTransform, matrix: Any, rows: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Return the sorted column numbers of the highly variable genes, ranked by scanpy."""
    import scanpy as sc  # slow import, not needed by every model
    from anndata import AnnData
    from scipy.sparse import csr_matrix, vstack

    if rows.size > N_CELLS_FOR_GENES:
        rows = generator.choice(rows, N_CELLS_FOR_GENES, replace=False)
    parts = [csr_matrix(part, dtype=np.float32) for part in iterate_parts(matrix, rows)]
    sample = AnnData(vstack(parts, format="csr"))
    if transform.library_size is not None:
        sc.pp.normalize_total(sample, target_sum=float(transform.library_size))
        sc.pp.log1p(sample)
    elif (lowest := sample.X.min()) < 0 or (highest := sample.X.max()) > LARGEST_LOG:
        raise ValueError(
            "n_top_genes needs counts or log-normalised values, but the data contain "
            f"{lowest if lowest < 0 else highest:g}. Select genes beforehand instead."
        )
    table = sc.pp.highly_variable_genes(sample, flavor="seurat", n_top_genes=transform.n_features, inplace=False)
    rank = np.argsort(-table["dispersions_norm"].fillna(-np.inf).to_numpy(), kind="stable")
    return np.sort(rank[: transform.n_features])


def _fit_components(
    transform: FeatureTransform, matrix: Any, rows: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of components, ``(n_features, n_output)``, and their mean, ``(n_output,)``."""

    def read() -> Iterator[torch.Tensor]:
        return (transform.standardize(y) for y in _read(transform, matrix, rows))

    sizes = rows.size, transform.n_features
    n_kept = transform.n_output
    if transform.choose_components:
        n_kept = count_reproducible(read, *sizes, n_kept, seed=seed)
    mean, components, variances = principal_components(read(), *sizes, n_kept)
    # A common factor scales the first component to a standard deviation of 1 and keeps the ratios
    # of the standard deviations of all components.
    weights = np.zeros((transform.n_features, transform.n_output))
    weights[:, : variances.size] = components / np.sqrt(variances[:1])
    return weights, mean @ weights
