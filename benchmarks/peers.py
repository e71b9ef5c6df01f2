"""Compare IndiSeek with TOTALVI, WNN, MOFA+ and PCA with CCA: clusters, labels, retrieval and time.

    python benchmarks/peers.py liu2021_covid.h5mu:mergedcelltype pbmc10k.h5mu:cell_type,singler_fine teaseq.h5mu:cell_type \
        --seeds 3 --totalvi-seeds 1 --latents latents --output results/peers.csv

A data set is given as ``FILE:LABELS``, with several labels separated by commas; from larger data
sets ``--cells`` are drawn, always the same. All methods have default settings, no method is given
the batches, and isotype controls are excluded for all:

- ``IndiSeek``: the joint representation; retrieval in the shared ones. A third of the cells, drawn
  by the seed, is held out. **All other methods are fitted to all cells**, except the canonical
  analysis;
- ``TOTALVI``: scvi-tools, its default number of epochs; the same genes and proteins;
- ``WNN``: the graph of Seurat's weighted nearest neighbours, by ``tl.wnn_neighbors``, with 30
  components of RNA and 18 of proteins;
- ``MOFA+``: 15 factors, ``convergence_mode="fast"``; the same genes and proteins;
- ``PCA + CCA``: 30 components of each modality, with the same total variance; retrieval by
  regularised CCA with the best of all preprocessings in ``main_job.py`` and as many components as
  our model.

Clusters are those of Leiden on scanpy's graph of 15 neighbours (WNN: on its own graph), at
resolution 1, and at the resolution of a fixed grid whose number of clusters is nearest to the
number of labels with 10 cells or more; labels are used for no other choice. Accuracy is that of
labels of the held-out cells by their 15 nearest cells among the others (WNN: among their 20
neighbours). Seconds are CPU time on one thread; their ratio is relative to ours with the same seed.
Predictions of proteins are in predict_modality.py. MOFA+ requires ``pip install mofapy2``.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scanpy as sc
from _peers import cached, concatenate, draw, fit_components, fit_mofa, fit_totalvi, hold_out, train_ours
from _quiet import train_quietly
from anndata import AnnData
from main_job import read_inputs, score_cca
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from indiseek_sc import _keys, tl
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import foscttm, label_accuracy, recall_at_k

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData
    from scipy.sparse import csr_matrix

METHODS = ("IndiSeek", "TOTALVI", "WNN", "MOFA+", "PCA + CCA")
RESOLUTIONS = (*np.round(np.arange(0.1, 1.55, 0.1), 1), 1.75, 2.0, 2.5, 3.0)
UNKNOWN = ("unknown", "not_available", "nan")
FEWEST = 10
"""Smallest number of cells of a label that counts when numbers of clusters are matched."""
KEYS = ["data", "labels", "method", "seed"]


def find_clusters(graph: csr_matrix, seed: int) -> dict[float, np.ndarray]:
    """Return Leiden clusters by resolution, shape ``(n_cells,)`` each."""
    cells = AnnData(np.zeros((graph.shape[0], 1), np.float32))
    clusters = {}
    for resolution in RESOLUTIONS:
        sc.tl.leiden(
            cells,
            resolution=resolution,
            adjacency=graph,
            flavor="igraph",
            n_iterations=2,
            directed=False,
            random_state=seed,
        )
        clusters[resolution] = cells.obs["leiden"].astype(int).to_numpy()
    return clusters


def make_graph(latent: np.ndarray, seed: int) -> csr_matrix:
    """Return scanpy's graph of 15 neighbours."""
    cells = AnnData(np.zeros((len(latent), 1), np.float32), obsm={"X": np.asarray(latent, np.float32)})
    sc.pp.neighbors(cells, use_rep="X", n_neighbors=15, random_state=seed)
    return cells.obsp["connectivities"]


def score_clusters(clusters: dict[float, np.ndarray], labels: pd.Series) -> dict[str, float]:
    """Return ARI and NMI with labels, at resolution 1 and at the matched number of clusters."""
    known = labels.notna().to_numpy()
    n_labels = int((labels.value_counts() >= FEWEST).sum())
    matched = min(clusters, key=lambda resolution: (abs(np.unique(clusters[resolution]).size - n_labels), resolution))
    row: dict[str, float] = {"n_labels": n_labels}
    for name, resolution in (("", 1.0), ("_matched", matched)):
        found = clusters[resolution]
        row |= {
            f"n_clusters{name}": np.unique(found).size,
            f"ari{name}": adjusted_rand_score(labels[known], found[known]),
            f"nmi{name}": normalized_mutual_info_score(labels[known], found[known]),
        }
    return row | {"resolution_matched": matched}


def accuracy_in_graph(
    indices: np.ndarray, labels: pd.Series, train: np.ndarray, test: np.ndarray, n_neighbors: int = 15
) -> float:
    """Return the accuracy of test labels by vote of the nearest training cells in the graph."""
    codes, names = pd.factorize(labels)  # -1 for missing labels
    is_voter = np.isin(np.arange(len(codes)), train) & (codes >= 0)
    hits = []
    for cell in test[codes[test] >= 0]:
        voters = indices[cell][is_voter[indices[cell]]][:n_neighbors]
        votes = np.bincount(codes[voters], minlength=len(names))
        hits.append(voters.size > 0 and votes.argmax() == codes[cell])
    return float(np.mean(hits))


def find_wnn(mdata: MuData, components: dict[str, np.ndarray]) -> tuple[csr_matrix, np.ndarray]:
    """Return graph and neighbours by WNN with the numbers of components of Seurat's vignette."""
    cells = mdata.copy()
    for role, part in components.items():
        cells[role].obsm["X_pca"] = part
    wide = {f"{role}_dimensions": min(n, components[role].shape[1]) for role, n in (("rna", 30), ("adt", 18))}
    found = tl.wnn_neighbors(cells, modalities={"rna": "rna", "adt": "adt"}, **wide)
    return cells.obsp[f"{_keys.WNN_NEIGHBORS}_connectivities"], found.indices


def read_labels(mdata: MuData, key: str) -> pd.Series:
    """Return the labels of the cells, NaN where they are unknown."""
    labels = find_labels(mdata, key, "labels").astype(str)
    return labels.where(~labels.isin(UNKNOWN)).reset_index(drop=True)


def run(
    name: str, label_keys: list[str], seed: int, methods: list[str], n_cells: int, folder: Path | None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of all methods and labels for one file and seed."""
    every, mdata = draw(name, n_cells)
    test = hold_out(mdata.n_obs, seed)
    train = np.setdiff1d(np.arange(mdata.n_obs), test)
    stem = Path(name).stem
    start = time.process_time()
    model = train_ours(mdata, seed, test, None if "IndiSeek" in methods else 0)
    seconds_ours = time.process_time() - start
    start = time.process_time()
    components = fit_components(mdata, model)
    seconds_components = time.process_time() - start

    for method in methods:
        figures: dict[str, float] = {}
        latent, graph, indices = None, None, None
        if method == "IndiSeek":
            latent, seconds = model.get_latent_representation(), seconds_ours
            shared = [model.get_latent_representation(kind="shared", modality=role)[test] for role in ("rna", "adt")]
            figures = {"foscttm": foscttm(*shared), "recall@10": recall_at_k(*shared, k=10)}
        elif method == "WNN":
            start = time.process_time()
            graph, indices = find_wnn(mdata, components)
            seconds = seconds_components + time.process_time() - start
        elif method == "PCA + CCA":
            latent, seconds = concatenate(components), seconds_components
            if "IndiSeek" in methods:  # which determines the number of components
                n_shared = model.get_latent_representation(kind="shared", modality="rna", indices=test).shape[1]
                inputs = read_inputs(mdata, model, train)
                scores = pd.DataFrame([score_cca(x, model, n_shared, test) for x in inputs.values()])
                figures = {
                    "foscttm": scores[["cca_foscttm", "cca_weighted_foscttm"]].min(axis=None),
                    "recall@10": scores[["cca_recall@10", "cca_weighted_recall@10"]].max(axis=None),
                }
        else:
            fit = {
                "MOFA+": partial(fit_mofa, mdata, model, seed),
                "TOTALVI": partial(fit_totalvi, mdata, model, seed, every),
            }[method]
            latent, seconds, _ = cached(None if folder is None else folder / f"{stem}_{method}_{seed}.npz", fit)
        clusters = find_clusters(make_graph(latent, seed) if graph is None else graph, seed)
        for key in label_keys:
            labels = read_labels(mdata, key)
            accuracy = (
                accuracy_in_graph(indices, labels, train, test)
                if indices is not None
                else label_accuracy(latent, labels.where(labels.notna(), None), train, test)
            )
            yield {
                **{"data": stem, "labels": key, "method": method, "seed": seed, "n_cells": mdata.n_obs},
                **score_clusters(clusters, labels),
                "accuracy": accuracy,
                **figures,
                "seconds": seconds,
            }


def write(rows: list[dict[str, Any]], path: Path) -> pd.DataFrame:
    """Write rows to a table, replacing those of the same run, and return the table."""
    table = pd.DataFrame(rows)
    if path.exists():
        table = pd.concat([pd.read_csv(path), table]).drop_duplicates(KEYS, keep="last")
    ours = table[table["method"] == "IndiSeek"].set_index(["data", "labels", "seed"])["seconds"]
    keys = pd.MultiIndex.from_frame(table[["data", "labels", "seed"]])
    table["seconds_ratio"] = table["seconds"].to_numpy() / ours.reindex(keys).to_numpy()
    table.to_csv(path, index=False)
    return table


def show(table: pd.DataFrame) -> str:
    """Return means and standard deviations over seeds as a Markdown table."""
    figures = ["ari", "ari_matched", "nmi", "nmi_matched", "accuracy", "foscttm", "recall@10", "seconds_ratio"]
    table = table.reindex(columns=[*KEYS, *figures])  # without a method with retrieval its columns are missing
    lines = [f"| {' | '.join(['data', 'labels', 'method', 'seeds', *figures])} |", "|---" * (len(figures) + 4) + "|"]
    for (data, labels), of_data in table.groupby(["data", "labels"], sort=False):
        for method in METHODS:
            rows = of_data[of_data["method"] == method]
            if rows.empty:
                continue
            cells = [data, labels, method, str(len(rows))]
            for figure in figures:
                values, digits = rows[figure].dropna(), 1 if figure == "seconds_ratio" else 3
                spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
                cells.append(f"{values.mean():.{digits}f}{spread}" if len(values) else "-")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="FILE:LABELS[,LABELS]")
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--totalvi-seeds", type=int, default=1, help="number of seeds for TOTALVI, which takes minutes")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--latents", type=Path, help="folder of representations, which are reused")
    parser.add_argument("--output", type=Path, default=Path("peers.csv"))
    arguments = parser.parse_args()
    train_quietly()
    for data in arguments.data:
        name, _, keys = data.rpartition(":")
        for seed in range(arguments.seeds):
            omitted = {"TOTALVI"} if seed >= arguments.totalvi_seeds else set()
            methods = [method for method in arguments.methods if method not in omitted]
            for row in run(name, keys.split(","), seed, methods, arguments.cells, arguments.latents):
                print(" ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values()), flush=True)
                table = write([row], arguments.output)
    print(show(table))


if __name__ == "__main__":
    main()
