"""Representations of the same cells by our model and by what else is in use, each with the seconds that it took."""

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
    """What a method made of the cells."""

    latent: np.ndarray
    """Representation of the cells that the method was fitted to, or of all of which some were held out."""
    seconds: float = np.nan
    """Processor time of the fit, on one thread: other programs on the machine do not add to it."""
    every: np.ndarray | None = None
    """Representation of all cells of the file, by a method that encodes new cells."""


def draw(name: str, n_cells: int) -> tuple[mudata.MuData, mudata.MuData]:
    """Return all cells of a file, and so many of them at random, always the same."""
    every = mudata.read_h5mu(name)
    rows = np.sort(np.random.default_rng(0).permutation(every.n_obs)[:n_cells])
    return every, every[rows].copy()


def hold_out(n_cells: int, seed: int) -> np.ndarray:
    """Row numbers of a third of the cells."""
    return np.sort(np.random.default_rng(seed).permutation(n_cells)[: n_cells // 3])


def timed(fit: Callable[[], np.ndarray]) -> Fitted:
    """Return a representation and the processor time that it took."""
    start = time.process_time()
    return Fitted(fit(), time.process_time() - start)


def cached(path: Path | None, fit: Callable[[], Fitted]) -> Fitted:
    """Return what a file has, or make it and write it there; without a path, make it."""
    if path is not None and path.exists():
        with np.load(path) as found:
            return Fitted(found["latent"], float(found["seconds"]), found.get("every"))
    fitted = fit()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, **{name: value for name, value in fitted._asdict().items() if value is not None})
    return fitted


def train_ours(mdata: mudata.MuData, seed: int, held_out: np.ndarray, max_epochs: int | None = None) -> IndiSeek:
    """Return a model with the default settings; with ``max_epochs=0`` it has chosen its genes and learned nothing."""
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata, seed=seed)
    model.train(max_epochs, held_out=held_out, enable_progress_bar=False)
    return model


def fit_components(mdata: mudata.MuData, model: IndiSeek) -> dict[str, np.ndarray]:
    """Principal components of all cells, log-normalised genes and log-ratios of proteins, by role."""
    features = read_inputs(mdata, model, np.arange(mdata.n_obs))["plain"]
    n_proteins = min(N_COMPONENTS["adt"], features["adt"].shape[1] - 1)
    proteins = PCA(n_proteins, random_state=0).fit_transform(features["adt"])
    return {"rna": features["rna"][:, : N_COMPONENTS["rna"]], "adt": proteins}


def side_by_side(components: dict[str, np.ndarray]) -> np.ndarray:
    """Components of both modalities, each modality of the same total variance."""
    return np.hstack([part / np.sqrt(part.var(axis=0).sum()) for part in components.values()])


def fit_mofa(mdata: mudata.MuData, model: IndiSeek, seed: int) -> Fitted:
    """Return the factors of MOFA+."""
    import _mofa  # which mofapy2 has to be installed for

    views = _mofa.as_views(mdata, model)
    return timed(lambda: _mofa.fit(views, seed))


def fit_totalvi(mdata: mudata.MuData, model: IndiSeek, seed: int, every: mudata.MuData | None = None) -> Fitted:
    """Return the latent representation of TOTALVI, of all cells of the file as well if they are given."""
    cells, start = _totalvi.as_cells(mdata, model), time.process_time()
    fitted = _totalvi.fit(cells, seed)
    seconds = time.process_time() - start
    others = None if every is None else fitted.get_latent_representation(_totalvi.as_cells(every, model))
    return Fitted(fitted.get_latent_representation(), seconds, others)
