"""Compute representations by our model and by other methods, with their run times."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import _totalvi
import mudata
import numpy as np
from main_job import read_inputs
from sklearn.decomposition import PCA

from indiseek_sc import IndiSeek

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_COMPONENTS = {"rna": 30, "adt": 30}
"""Principal components of each modality, or as many as it has features."""


class Fitted(NamedTuple):
    """Result of a method."""

    latent: np.ndarray
    """Representation of the cells, those held out included."""
    seconds: float = np.nan
    """CPU time of the fit on one thread, which other load does not affect."""
    every: np.ndarray | None = None
    """Representation of all cells of the file, if the method encodes new cells."""


def draw(name: str, n_cells: int) -> tuple[mudata.MuData, mudata.MuData]:
    """Return all cells of a file, and a random subset that is always the same."""
    every = mudata.read_h5mu(name)
    rows = np.sort(np.random.default_rng(0).permutation(every.n_obs)[:n_cells])
    return every, every[rows].copy()


def hold_out(n_cells: int, seed: int) -> np.ndarray:
    """Return row numbers of a third of the cells."""
    return np.sort(np.random.default_rng(seed).permutation(n_cells)[: n_cells // 3])


def timed(fit: Callable[[], np.ndarray]) -> Fitted:
    """Return a representation with the CPU time of its computation."""
    start = time.process_time()
    return Fitted(fit(), time.process_time() - start)


def cached(path: Path | None, fit: Callable[[], Fitted]) -> Fitted:
    """Return the result in a file, or compute and write it; without a path, compute it."""
    if path is not None and path.exists():
        with np.load(path) as found:
            return Fitted(found["latent"], float(found["seconds"]), found.get("every"))
    fitted = fit()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **{name: value for name, value in fitted._asdict().items() if value is not None})
    return fitted


def train_ours(mdata: mudata.MuData, seed: int, held_out: np.ndarray, max_epochs: int | None = None) -> IndiSeek:
    """Return a model with default settings; with ``max_epochs=0`` only its genes are selected."""
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata, seed=seed)
    model.train(max_epochs, held_out=held_out, enable_progress_bar=False)
    return model


def fit_components(mdata: mudata.MuData, model: IndiSeek) -> dict[str, np.ndarray]:
    """Return principal components of log-normalised genes and of protein log-ratios, by role."""
    features = read_inputs(mdata, model, np.arange(mdata.n_obs))["plain"]
    n_proteins = min(N_COMPONENTS["adt"], features["adt"].shape[1] - 1)
    proteins = PCA(n_proteins, random_state=0).fit_transform(features["adt"])
    return {"rna": features["rna"][:, : N_COMPONENTS["rna"]], "adt": proteins}


def concatenate(components: dict[str, np.ndarray]) -> np.ndarray:
    """Concatenate components of both modalities, scaled to the same total variance."""
    return np.hstack([part / np.sqrt(part.var(axis=0).sum()) for part in components.values()])


def fit_mofa(mdata: mudata.MuData, model: IndiSeek, seed: int) -> Fitted:
    """Return the factors of MOFA+."""
    import _mofa  # requires mofapy2

    views = _mofa.as_views(mdata, model)
    return timed(lambda: _mofa.fit(views, seed))


def fit_totalvi(mdata: mudata.MuData, model: IndiSeek, seed: int, every: mudata.MuData | None = None) -> Fitted:
    """Return the latent representation of TOTALVI, optionally of all cells of the file."""
    cells, start = _totalvi.as_cells(mdata, model), time.process_time()
    fitted = _totalvi.fit(cells, seed)
    seconds = time.process_time() - start
    others = None if every is None else fitted.get_latent_representation(_totalvi.as_cells(every, model))
    return Fitted(fitted.get_latent_representation(), seconds, others)
