"""Evaluate labels, partners and predictions of cells with one modality, beside CCA and MIDAS.

    python benchmarks/mosaic.py liu2021_covid.h5mu quickstart_pbmc_mosaic.h5mu --seeds 3 --output mosaic.csv
    python benchmarks/mosaic.py liu2021_covid.h5mu --midas-python ENVIRONMENT/bin/python --midas-epochs 100

If all cells have both modalities, one is hidden in randomly drawn cells (by the seed): the proteins
of a quarter and the RNA of another, or the proteins of half. Hidden values are used for the
evaluation only. A data set that is a mosaic already is unchanged, with ``--batch-key`` for MIDAS,
and only labels are evaluated.

Columns that end in ``_rna`` and ``_adt`` refer to cells with that modality alone. ``label`` is the
accuracy of labels by the 15 nearest cells with both modalities, ``label_whole`` that by all that a
method represents of the modality (ours: both representations, decoded; CCA: the features), and
``label_across`` that of cells with proteins alone by the nearest ones with RNA alone. ``foscttm``
and ``recall@10`` compare the representation of a cell with that of its hidden modality, each
computed without the other. ``r_proteins`` and ``r_genes`` are correlations over cells of hidden
log-ratios and log-normalised genes with predicted ones, mean over features. ``cpu_seconds`` is the
time of training on one thread, including the prediction. ``encoded`` is the share of all cells with
a representation in the common space, ``encoded_jointly`` that of cells with a joint representation.
Labels are used for the evaluation only.

MIDAS runs with the interpreter ``--midas-python`` of an environment with scmidas (``_midas.py``),
with one batch for each set of modalities if there is no batch key.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
import torch
from _midas import SETTINGS, run_midas
from _quiet import train_quietly
from main_job import find_labels, read_proteins
from main_job import read as read_paired
from predict_modality import PENALTIES, choose, solve_ridge

from indiseek_sc import IndiSeek, _keys
from indiseek_sc._keys import ROLES, other
from indiseek_sc.data import read_normalized
from indiseek_sc.metrics import foscttm, label_accuracy, pearson_per_feature, recall_at_k
from indiseek_sc.nn import regularized_cca

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from anndata import AnnData
    from mudata import MuData

SHARES = {"quarters": {"rna": 0.25, "adt": 0.25}, "half of the proteins": {"rna": 0.5, "adt": 0.0}}
"""Shares of the cells, by the one modality that they keep."""

WIDE = 16
"""Number of shared directions of the wide variants of IndiSeek and CCA."""

MEASURED = "measured"
"""Column with the modalities of a cell: ``both``, ``rna`` or ``adt``."""


@dataclass(frozen=True, eq=False)
class Result:
    """Representations and predictions of a method for all cells, by modality.

    Values are arbitrary where they are not evaluated.

    Attributes
    ----------
    latents
        Cells with both modalities and with this one alone in the common space, shape
        ``(n_cells, n_dimensions)``; cells with hidden values, computed from these alone.
    predicted
        Hidden values, normalised as by :func:`~indiseek_sc.data.read_normalized`, shape
        ``(n_cells, n_features)``.
    whole
        Everything that is represented of a modality, if that is more than ``latents``.
    """

    latents: dict[str, np.ndarray]
    predicted: dict[str, np.ndarray]
    whole: dict[str, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Cells with one modality or both, and the hidden values."""

    cells: MuData
    whole: MuData
    """The same cells in the same order, including hidden values."""
    measured: np.ndarray
    labels: np.ndarray
    is_hidden: bool

    def having(self, what: str) -> np.ndarray:
        """Return rows of the cells with both modalities, or with one alone."""
        return np.flatnonzero(self.measured == what)


def hide(mdata: MuData, shares: dict[str, float], seed: int) -> Mosaic:
    """Hide a modality of some cells; ``shares`` are the shares of cells that keep only one."""
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    measured = np.full(mdata.n_obs, "both", dtype=object)
    ends = np.cumsum([round(share * mdata.n_obs) for share in shares.values()])
    for name, rows in zip(shares, np.split(order, ends), strict=False):
        measured[rows] = name
    has = {name: measured != other(name) for name in ROLES}
    cells = mudata.MuData({name: mdata[name][rows].copy() for name, rows in has.items()})
    place = mdata.obs_names.get_indexer(cells.obs_names)  # MuData has an order of its own
    whole = mudata.MuData({name: mdata[name][place].copy() for name in ROLES})
    return Mosaic(cells, whole, measured[place], find_labels(mdata)[place], True)


def take(mdata: MuData) -> Mosaic:
    """Return data in which cells lack a modality, unchanged."""
    has = {name: mdata.obs_names.isin(mdata[name].obs_names) for name in ROLES}
    measured = np.where(has["rna"] & has["adt"], "both", np.where(has["rna"], "rna", "adt"))
    return Mosaic(mdata, mdata, measured, find_labels(mdata), False)


def read(name: str, max_cells: int, seed: int, hidden: Sequence[str]) -> Iterator[tuple[str, Mosaic]]:
    """Yield the hidden shares and the mosaic."""
    mdata = mudata.read_h5mu(name)
    if any(cells.n_obs < mdata.n_obs for cells in mdata.mod.values()):
        yield "", take(mdata)
    else:
        mdata = read_paired(name, max_cells)
        yield from ((what, hide(mdata, SHARES[what], seed)) for what in hidden)


def by_modality(model: IndiSeek, call: str, mdata: MuData, **kwargs: str) -> dict[str, np.ndarray]:
    """Call a method of the model for each modality."""
    return {name: getattr(model, call)(mdata, modality=name, **kwargs) for name in ROLES}


def use_indiseek(mosaic: Mosaic, seed: int, n_shared: int | None = None) -> tuple[IndiSeek, Result, dict[str, float]]:
    """Train on the cells with both modalities."""
    IndiSeek.setup_mudata(mosaic.cells)
    model = IndiSeek(mosaic.cells, seed=seed, n_shared=n_shared)
    start = time.process_time()
    model.train(enable_progress_bar=False)
    if mosaic.is_hidden:
        model.train_prediction(enable_progress_bar=False)
    figures = {"cpu_seconds": time.process_time() - start}
    model.write_latents()
    shared = np.hstack([mosaic.cells.obsm[_keys.shared(name)] for name in ROLES])
    joint = mosaic.cells.obsm[_keys.JOINT]
    figures |= {
        "encoded": np.isfinite(shared).any(axis=1).mean(),
        "encoded_jointly": np.isfinite(joint).all(axis=1).mean(),
    }
    predicted = {}
    for name in ROLES if mosaic.is_hidden else ():
        found = model.predict_modality(other(name), name, mosaic.whole, units="normalized").mean
        assert list(found.index) == list(mosaic.whole.obs_names)
        predicted[name] = found.to_numpy()
    latents = by_modality(model, "get_latent_representation", mosaic.whole, kind="shared")
    return model, Result(latents, predicted, by_modality(model, "get_reconstruction", mosaic.whole)), figures


def use_cca(
    mosaic: Mosaic, model: IndiSeek, measured: dict[str, np.ndarray], width: int
) -> tuple[Result, dict[str, float]]:
    """Fit regularised CCA and ridge regression, with penalties chosen on our validation cells."""
    features = by_modality(model, "get_features", mosaic.whole)
    train, validation = model.split.train, model.split.validation
    start = time.process_time()
    arrays = [torch.from_numpy(features[name]) for name in ROLES]
    *maps, _ = regularized_cca(*arrays, torch.from_numpy(train), torch.from_numpy(validation), width, refit=True)
    latents = {name: to_latent(x.double()).numpy() for name, to_latent, x in zip(ROLES, maps, arrays, strict=True)}
    predicted = {}
    for name, y in measured.items():
        x, seen = features[other(name)].astype(float), np.concatenate([train, validation])
        by_penalty = solve_ridge(x[train], y[train], x[validation], PENALTIES)
        best = choose({(p,): guess for p, guess in by_penalty.items()}, y[validation])
        predicted[name] = solve_ridge(x[seen], y[seen], x, best)[best[0]]
    figures = {"cpu_seconds": time.process_time() - start}
    return Result(latents, predicted, features), figures


def use_midas(
    mosaic: Mosaic, model: IndiSeek, seed: int, python: Path, epochs: Sequence[int], batch_key: str, **settings: float
) -> Iterator[tuple[Result, dict[str, float]]]:
    """Yield results of scmidas after given epochs, from all genes and our model's proteins."""
    whole = {"rna": mosaic.whole["rna"], "adt": read_proteins(mosaic.whole, model)}
    measured = pd.Series(mosaic.measured, mosaic.whole.obs_names)
    given, hidden = {}, {}
    for name, cells in whole.items():
        cells = cells.copy()
        cells.obs[MEASURED] = measured[cells.obs_names]
        lacks = cells.obs[MEASURED] == other(name)
        given[name] = cells[~lacks].copy()
        if lacks.any():
            hidden[name] = cells[lacks].copy()
    cells = mudata.MuData(given)
    for found in run_midas(python, cells, hidden, batch_key, seed=seed, epochs=epochs, **settings):
        order = cells.obs_names.get_indexer(mosaic.whole.obs_names)
        joint = found["latents"][order]
        latents = {name: joint.copy() for name in ROLES}
        predicted = {}
        for name, lacking in hidden.items():
            latents[name][mosaic.having(other(name))] = found[f"hidden_{name}"]
            assert list(lacking.obs_names) == list(mosaic.whole.obs_names[mosaic.having(other(name))])
        for name in ROLES if mosaic.is_hidden else ():
            counts = found[f"imputed_{name}"][order]
            predicted[name] = read_normalized(model.module.transforms[name], counts).numpy()
        share = np.isfinite(joint).all(axis=1).mean()
        figures = {"epochs": int(found["epochs"]), "cpu_seconds": float(found["seconds"])}
        yield Result(latents, predicted), {**figures, "encoded": share, "encoded_jointly": share}


def find_accuracy(reference: np.ndarray, labels: np.ndarray, query: np.ndarray, labels_query: np.ndarray) -> float:
    """Return the accuracy of labels of query cells by their nearest reference cells."""
    both, rows = np.vstack([reference, query]), np.arange(len(reference) + len(query))
    return label_accuracy(both, np.concatenate([labels, labels_query]), *np.split(rows, [len(reference)]))


def evaluate(mosaic: Mosaic, result: Result, measured: dict[str, np.ndarray]) -> dict[str, float]:
    """Return all figures of a method."""
    rows = {what: mosaic.having(what) for what in ("both", *ROLES)}
    labels = {what: mosaic.labels[of] for what, of in rows.items()}
    figures = {"n_dimensions": result.latents["rna"].shape[1]}
    alone = [name for name in ROLES if rows[name].size]
    for kind, latents in (("label", result.latents), ("label_whole", result.whole)):
        for name in alone if latents is not None else ():
            points = [latents[name][rows[what]] for what in ("both", name)]
            figures[f"{kind}_{name}"] = find_accuracy(points[0], labels["both"], points[1], labels[name])
    if len(alone) > 1:
        points = [result.latents[name][rows[name]] for name in ROLES]
        figures["label_across"] = find_accuracy(points[0], labels["rna"], points[1], labels["adt"])
    for name in alone if mosaic.is_hidden else ():
        pair = [latents[rows[name]] for latents in result.latents.values()]
        figures |= {f"foscttm_{name}": foscttm(*pair), f"recall@10_{name}": recall_at_k(*pair, k=10)}
        lacked = other(name)
        found = pearson_per_feature(measured[lacked][rows[name]], result.predicted[lacked][rows[name]])
        figures["r_proteins" if lacked == "adt" else "r_genes"] = np.nanmean(found)
    return figures


def read_measured(mosaic: Mosaic, model: IndiSeek) -> dict[str, np.ndarray]:
    """Return log-normalised genes and log-ratios of all cells if values are hidden."""
    if not mosaic.is_hidden:
        return {}
    cells: dict[str, AnnData] = {"rna": mosaic.whole["rna"], "adt": read_proteins(mosaic.whole, model)}
    return {
        name: read_normalized(model.module.transforms[name], of.X).numpy().astype(float) for name, of in cells.items()
    }


def run(name: str, seed: int, arguments: argparse.Namespace) -> Iterator[dict]:
    """Yield the rows of all methods on one data set and seed."""
    for what, mosaic in read(name, arguments.max_cells, seed, arguments.hidden):
        counts = {f"n_{kind}": mosaic.having(kind).size for kind in ("both", *ROLES)}
        first = {"data": Path(name).stem, "hidden": what, "seed": seed, **counts}
        model, ours, figures = use_indiseek(mosaic, seed)
        measured = read_measured(mosaic, model)
        yield {**first, "method": "IndiSeek", **figures, **evaluate(mosaic, ours, measured)}
        _, wide, figures = use_indiseek(mosaic, seed, WIDE)
        yield {**first, "method": f"IndiSeek, {WIDE}", **figures, **evaluate(mosaic, wide, measured)}
        for method, width in (("CCA", ours.latents["rna"].shape[1]), (f"CCA, {WIDE}", WIDE)):
            cca, figures = use_cca(mosaic, model, measured, width)
            yield {**first, "method": method, **figures, **evaluate(mosaic, cca, measured)}
        if arguments.midas_python is None:
            continue
        settings = {"batch_size": arguments.midas_batch_size, "learning_rate": SETTINGS["learning_rate"]}
        batch_key = MEASURED if mosaic.is_hidden else arguments.batch_key
        for midas, figures in use_midas(
            mosaic, model, seed, arguments.midas_python, arguments.midas_epochs, batch_key, **settings
        ):
            yield {**first, "method": "scmidas", **figures, **evaluate(mosaic, midas, measured)}


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--max-cells", type=int, default=3000)
    parser.add_argument("--hidden", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--batch-key", default=MEASURED, help="batches of a data set that is a mosaic, for MIDAS")
    parser.add_argument("--midas-python", type=Path, help="interpreter of an environment with scmidas")
    parser.add_argument(
        "--midas-epochs", type=int, nargs="+", default=[1000], help="epochs after which MIDAS is evaluated"
    )
    parser.add_argument("--midas-batch-size", type=int, default=SETTINGS["batch_size"])
    parser.add_argument("--output", type=Path, default=Path("mosaic.csv"))
    arguments = parser.parse_args()
    train_quietly()
    if arguments.midas_python is None:
        print("scmidas is omitted: it needs a separate environment, whose interpreter --midas-python names.")
    rows: list[dict] = []
    for name in arguments.data:
        for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
            for row in run(name, seed, arguments):
                rows.append(row)
                pd.DataFrame(rows).to_csv(arguments.output, index=False)
                print(pd.Series(row).to_string(float_format="{:.4f}".format), "\n", flush=True)


if __name__ == "__main__":
    main()
