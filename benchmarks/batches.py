r"""Score the mixing of batches and the conservation of labels by scib-metrics.

    python benchmarks/batches.py liu2021_covid.h5mu --batch-key Batch --label-key mergedcelltype --cells 4000 --seeds 3 \\
        --output batches.csv

Each seed draws the cells, a third of which are held out of our training for the audit; all of them
are scored. The batch score is the mean of iLISI, kBET by label and graph connectivity, the label
score that of cLISI and isolated labels (scib-metrics 0.5; each between 0 and 1, without rescaling).

Methods
-------
- ``IndiSeek``, and ``without batch_key``;
- ``input``: 30 principal components of log-normalised genes and log-ratios of proteins (CLR within
  the cell), each modality with the same total variance; and ``Harmony`` of these with default
  settings;
- ``TOTALVI`` with default settings and the same batch_key, genes and proteins; omitted with
  ``--totalvi-epochs 0``.

Labels are used for evaluation only. Requires ``pip install scib-metrics harmonypy``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import _totalvi
import numpy as np
import pandas as pd
from _quiet import train_quietly
from anndata import AnnData
from main_job import read, read_inputs

from indiseek_sc import IndiSeek
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import label_accuracy

if TYPE_CHECKING:
    from mudata import MuData

FIGURES = ("agreement_flat", "sufficiency", "leak_ratio", "gain", "complete")
BATCH_METRICS = {"iLISI": "ilisi_knn", "KBET": "kbet_per_label", "Graph connectivity": "graph_connectivity"}
LABEL_METRICS = {"cLISI": "clisi_knn", "Isolated labels": "isolated_labels"}
OTHER_METRICS = {"batch": ("bras", "pcr_comparison"), "label": ("nmi_ari_cluster_labels_kmeans", "silhouette_label")}


def score(latents: dict[str, np.ndarray], batch: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return the metrics of scib-metrics by method, with batch and label scores."""
    from scib_metrics.benchmark import BatchCorrection, Benchmarker, BioConservation

    obs = pd.DataFrame({"batch": pd.Categorical(batch), "label": pd.Categorical(labels)})
    obs.index = obs.index.astype(str)
    cells = AnnData(np.zeros((len(obs), 2), np.float32), obs=obs)
    for name, latent in latents.items():
        cells.obsm[name] = np.ascontiguousarray(latent, dtype=np.float32)
    benchmarker = Benchmarker(
        cells,
        "batch",
        "label",
        list(latents),
        BioConservation(**dict.fromkeys(LABEL_METRICS.values(), True), **dict.fromkeys(OTHER_METRICS["label"], False)),
        BatchCorrection(**dict.fromkeys(BATCH_METRICS.values(), True), **dict.fromkeys(OTHER_METRICS["batch"], False)),
        pre_integrated_embedding_obsm_key=next(iter(latents)),
        progress_bar=False,
    )
    benchmarker.prepare()
    benchmarker.benchmark()
    table = benchmarker.get_results(min_max_scale=False).loc[list(latents), [*BATCH_METRICS, *LABEL_METRICS]]
    table = table.astype(float)
    table["batch score"] = table[list(BATCH_METRICS)].mean(axis=1)
    table["label score"] = table[list(LABEL_METRICS)].mean(axis=1)
    return table


def train_ours(mdata: MuData, seed: int, held_out: np.ndarray, **setup: str) -> tuple[IndiSeek, dict[str, np.ndarray]]:
    """Return a model and its representations by kind."""
    IndiSeek.setup_mudata(mdata, **setup)
    model = IndiSeek(mdata, seed=seed)
    model.train(held_out=held_out, enable_progress_bar=False)
    latents = {
        f"{kind}, {name}": model.get_latent_representation(kind=kind, modality=name)
        for kind in ("shared", "specific")
        for name in model.modalities.values()
    }
    return model, {"joint": model.get_latent_representation(), **latents}


def run_harmony(latent: np.ndarray, batch: np.ndarray, seed: int) -> np.ndarray:
    """Return a representation corrected by Harmony with default settings."""
    import harmonypy

    found = harmonypy.run_harmony(latent, pd.DataFrame({"batch": batch}), ["batch"], verbose=False, random_state=seed)
    corrected = np.asarray(found.Z_corr)
    return corrected if corrected.shape == latent.shape else corrected.T


def run(name: str, seed: int, arguments: argparse.Namespace) -> pd.DataFrame:
    """Score all methods on the cells of one seed."""
    mdata = read(name, most=np.iinfo(np.int64).max)
    rng = np.random.default_rng(seed)
    mdata = mdata[np.sort(rng.permutation(mdata.n_obs)[: arguments.cells])].copy()
    batch, labels = (
        find_labels(mdata, key, "key").astype(str).to_numpy() for key in (arguments.batch_key, arguments.label_key)
    )
    held_out = np.sort(rng.permutation(mdata.n_obs)[: mdata.n_obs // 3])
    train = np.setdiff1d(np.arange(mdata.n_obs), held_out)
    latents: dict[tuple[str, str], np.ndarray] = {}
    audits = {}
    for way, setup in (("without batch_key", {}), ("IndiSeek", {"batch_key": arguments.batch_key})):
        model, ours = train_ours(mdata, seed, held_out, **setup)
        latents |= {(way, kind): latent for kind, latent in ours.items()}
        audits[way] = model.audit().table
    inputs = read_inputs(mdata, model, train)["plain"]
    parts = [inputs["rna"][:, :30], inputs["adt"]]
    latents["input", "joint"] = np.hstack([part / np.sqrt(part.var(axis=0).sum()) for part in parts])
    latents["Harmony", "joint"] = run_harmony(latents["input", "joint"], batch, seed)
    if arguments.totalvi_epochs != 0:
        cells = _totalvi.as_cells(mdata, model, batch)
        totalvi = _totalvi.fit(cells, seed, arguments.totalvi_epochs)
        latents["TOTALVI", "joint"] = totalvi.get_latent_representation()
    table = score({" | ".join(key): latent for key, latent in latents.items()}, batch, labels)
    table["label accuracy"] = [label_accuracy(latent, labels, train, held_out) for latent in latents.values()]
    for way, audit in audits.items():
        for modality in audit.index:
            table.loc[f"{way} | shared, {modality}", list(FIGURES)] = audit.loc[modality, list(FIGURES)].to_numpy(float)
    table.insert(0, "kind", [kind for _, kind in latents])
    table.insert(0, "method", [method for method, _ in latents])
    table.insert(0, "batch_key", arguments.batch_key)
    table.insert(0, "seed", seed)
    table.insert(0, "data", Path(name).stem)
    return table


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--batch-key", required=True)
    parser.add_argument("--label-key", required=True)
    parser.add_argument("--cells", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--totalvi-epochs", type=int, help="0 omits TOTALVI; its default number if not given")
    parser.add_argument("--output", type=Path, default=Path("batches.csv"))
    arguments = parser.parse_args()
    train_quietly()
    tables = []
    for seed in range(arguments.seeds):
        tables.append(run(arguments.data, seed, arguments))
        pd.concat(tables).to_csv(arguments.output, index=False)
        print(tables[-1].drop(columns=["data", "batch_key"]).round(3).to_string(index=False), "\n", flush=True)


if __name__ == "__main__":
    main()
