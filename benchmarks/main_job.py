"""Main results on real data: train on half of the cells, evaluate on the other half.

    python benchmarks/main_job.py DATA.h5mu [DATA.h5mu ...] --seeds 3 --output main_job.csv

Each row of the table is one data set and seed: audit, retrieval compared with regularised CCA with
the same number of components, and 15-nearest-neighbour accuracy of labels compared with the input.
Input is scaled in two ways, plain (unscaled log-ratios of proteins and log-normalised genes) and
standardised (unit variance for each), and a model is compared with the better of both: for
accuracy, 30 components of RNA scaled either way with the proteins of one; for retrieval, CCA on the
model's features and on plain and standardised ones. ``accuracy_across`` is that of proteins by CLR
across cells, as in Seurat and muon, with the same components. Figures with the prefix
``standardised.`` are those of an audit whose features are the standardised input, preprocessed as
usual in scanpy, instead of the model's features. Isotype controls are in neither. ``gain_unprobed``
is the gain computed from the decoder itself instead of probes, which are fitted on as few cells as
the model.

Data are not part of the project: any h5mu with counts in modalities ``rna`` and ``adt`` (or
``atac``) is accepted; ``pbmc_covid`` is the bundled data set. With ``--auditor FILE.py`` the
function ``audit(x=, shared=, specific=, decoded=, train=, test=)`` of another program replaces
ours. Labels are read for the accuracy only: no choice depends on them.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

import mudata
import numpy as np
import pandas as pd
import torch
from anndata import AnnData

from indiseek_sc import IndiSeek, datasets
from indiseek_sc._keys import ROLES
from indiseek_sc.data import apply_transform, fit_transform, read_input
from indiseek_sc.metrics import audit, foscttm, label_accuracy, limit_threads, recall_at_k
from indiseek_sc.nn import FeatureTransform, Recipe, regularized_cca

LABELS = ("mergedcelltype", "singler_main", "cell_type", "celltype")
LARGEST = 12_000
MOST_FOR_RETRIEVAL = 4_000
FIGURES = ("agreement_flat", "sufficiency", "leak_ratio", "gain", "complete", "r2_shared", "r2_best")

OF_OTHER_FEATURES = ("sufficiency", "leak_ratio", "gain")


def read(name: str, most: int = LARGEST) -> mudata.MuData:
    """Read a data set: at most ``most`` paired cells, always the same."""
    mdata = datasets.pbmc_covid() if name == "pbmc_covid" else mudata.read_h5mu(name)
    paired = [cell for cell in mdata.obs_names if all(cell in m.obs_names for m in mdata.mod.values())]
    if len(paired) < mdata.n_obs or mdata.n_obs > most:
        few = np.sort(np.random.default_rng(0).permutation(len(paired))[:most])
        mdata = mdata[[paired[i] for i in few]].copy()
    return mdata


def find_labels(mdata: mudata.MuData) -> np.ndarray | None:
    """Return the first known column of labels, in ``obs`` of the MuData or of a modality."""
    for key in LABELS:
        for table in (mdata.obs, *(m.obs for m in mdata.mod.values())):
            for column in (key, f"rna:{key}"):
                if column in table:
                    return table[column].astype(str).to_numpy()
    return None


def read_inputs(mdata: mudata.MuData, model: IndiSeek, train: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Return features independent of the model: 50 components of 2,000 genes, and log-ratios."""
    inputs = {}
    for name, is_plain in (("plain", True), ("standardised", False)):
        largest = float("inf") if is_plain else 10.0
        recipes = {
            "rna": Recipe("library_size", project=True, max_value=largest, shared_scale=is_plain),
            "adt": Recipe("clr", shared_scale=is_plain),
        }
        inputs[name] = {}
        for role, cells in zip(ROLES, (mdata["rna"], read_proteins(mdata, model)), strict=True):
            values = cells.X
            n_input = values.shape[1]
            sizes = {"n_components": min(50, n_input - 1, train.size - 1), "n_features": 2000} if role == "rna" else {}
            transform = FeatureTransform(recipes[role], n_input, **sizes)
            fit_transform(transform, values, train, seed=0)
            inputs[name][role] = apply_transform(transform, values).numpy()
    return inputs


def read_proteins(mdata: mudata.MuData, model: IndiSeek) -> AnnData:
    """Return the proteins (or peaks) that the model uses, without isotype controls."""
    source = read_input(model.registry, "adt")[0]
    return mdata[source.modality][:, source.get_feature_names(mdata)]


def score_inputs(inputs: dict[str, dict[str, np.ndarray]], labels: np.ndarray, *rows: np.ndarray) -> dict[str, float]:
    """Return the accuracy of labels by scaling of log-ratios, with the better scaling of RNA."""
    scores = {}
    for name, features in inputs.items():
        blocks = [[other["rna"][:, :30], features["adt"]] for other in inputs.values()]
        latents = [np.hstack([block / np.sqrt(block.var(axis=0).sum()) for block in pair]) for pair in blocks]
        scores[f"accuracy_{name}"] = max(label_accuracy(latent, labels, *rows) for latent in latents)
    return scores


def score_across(
    mdata: mudata.MuData, model: IndiSeek, rna: np.ndarray, labels: np.ndarray, *rows: np.ndarray
) -> float:
    """Return the accuracy of labels from proteins by CLR across cells (Seurat's margin 2, muon).

    Plain or with unit variance, whichever is better.
    """
    values = read_proteins(mdata, model).X
    counts = np.asarray(values.toarray() if hasattr(values, "toarray") else values, dtype=float)
    train = rows[0]
    proteins = np.log1p(counts / np.exp(np.log1p(counts[train]).mean(axis=0)))
    std = proteins[train].std(axis=0)
    scores = []
    for scale in (np.ones_like(std), np.where(std > 0, 1 / np.maximum(std, 1e-9), 0)):
        blocks = [rna[:, :30], (proteins - proteins[train].mean(axis=0)) * scale]
        latent = np.hstack([block / np.sqrt(block.var(axis=0).sum()) for block in blocks])
        scores.append(label_accuracy(latent, labels, *rows))
    return max(scores)


def score_cca(features: dict[str, np.ndarray], model: IndiSeek, n: int, test: np.ndarray) -> dict[str, float]:
    """Score retrieval by regularised CCA, with penalties chosen on the model's validation cells."""
    split = model.split
    arrays = [torch.from_numpy(features[role]) for role in ROLES]
    rows = [torch.from_numpy(part) for part in (split.train, split.validation)]
    *maps, correlation = regularized_cca(*arrays, *rows, n, refit=True)
    weighted = [linear(x.double()).numpy()[test] for linear, x in zip(maps, arrays, strict=True)]
    scale = np.where(correlation > 0, correlation, 1.0)
    plain = [latent / scale for latent in weighted]
    return {
        "cca_foscttm": foscttm(*plain),
        "cca_recall@10": recall_at_k(*plain, k=10),
        "cca_weighted_foscttm": foscttm(*weighted),
        "cca_weighted_recall@10": recall_at_k(*weighted, k=10),
    }


def explained(features: np.ndarray, decoded: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Return the share of held-out variance that the decoder explains without a probe."""
    around = features[test] - features[train].mean(axis=0)
    return float(1 - np.square(features[test] - decoded[test]).sum() / np.square(around).sum())


def run(name: str, seed: int, auditor: Any, most: int = LARGEST, **kwargs: Any) -> dict[str, Any]:
    """Train and evaluate once."""
    mdata = read(name, most)
    rng = np.random.default_rng(seed)
    order = rng.permutation(mdata.n_obs)
    test, train = np.sort(order[mdata.n_obs // 2 :]), np.sort(order[: mdata.n_obs // 2])
    second = "adt" if "adt" in mdata.mod else "atac"
    IndiSeek.setup_mudata(mdata, modalities={"rna_layer": "rna", "adt_layer": second})
    model, start = IndiSeek(mdata, seed=seed, **kwargs), time.perf_counter()
    model.train(held_out=test, enable_progress_bar=False)
    row: dict[str, Any] = {"data": Path(name).stem, "seed": seed, "seconds": time.perf_counter() - start}

    names = model.modalities
    features = {role: model.get_features(modality=names[role]) for role in ROLES}
    shared = {role: model.get_latent_representation(kind="shared", modality=names[role]) for role in ROLES}
    specific = {role: model.get_latent_representation(kind="specific", modality=names[role]) for role in ROLES}
    decoded = {role: model.get_reconstruction(modality=names[role]) for role in ROLES}
    row["n_train"], row["n_shared"] = train.size, shared["rna"].shape[1]
    row |= {f"n_specific_{role}": specific[role].shape[1] for role in ROLES}
    if auditor is None:
        figures = {f"{role}.{k}": v for role in ROLES for k, v in model.audit().table.loc[names[role]].items()}
    else:
        latents = {"shared": shared, "specific": specific, "decoded": decoded}
        figures = auditor.audit(x=features, **latents, train=train, test=test)
    row |= {f"{role}.{figure}": figures[f"{role}.{figure}"] for role in ROLES for figure in FIGURES}
    for role in ROLES:
        r2 = explained(features[role], decoded[role], train, test) - row[f"{role}.r2_shared"]
        row[f"{role}.gain_unprobed"] = r2 / (row[f"{role}.r2_best"] - row[f"{role}.r2_shared"])

    few = test[:MOST_FOR_RETRIEVAL]
    paired = [shared[role][few] for role in ROLES]
    row |= {"foscttm": foscttm(*paired), "recall@10": recall_at_k(*paired, k=10)}
    inputs = read_inputs(mdata, model, train)
    table = audit(inputs["standardised"], shared, specific, train=train, test=test).table
    for role in ROLES:
        row |= {f"standardised.{role}.{figure}": table.loc[role, figure] for figure in OF_OTHER_FEATURES}
    row |= score_cca(features, model, row["n_shared"], few)
    others = [score_cca(x, model, row["n_shared"], few) for x in inputs.values()]
    for figure, better in (("foscttm", min), ("recall@10", max)):
        kinds = [f"cca_{figure}", f"cca_weighted_{figure}"]
        row[f"best_cca_{figure}"] = better(scores[kind] for scores in (row, *others) for kind in kinds)
    if (labels := find_labels(mdata)) is not None:
        row["accuracy_joint"] = label_accuracy(model.get_latent_representation(), labels, train, test)
        row |= score_inputs(inputs, labels, train, test)
        across = (score_across(mdata, model, x["rna"], labels, train, test) for x in inputs.values())
        row |= {"accuracy_across": max(across), "accuracy_input": max(row[f"accuracy_{name}"] for name in inputs)}
    return row


def main() -> None:
    """Read the command line, run, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=LARGEST, help="largest number of cells of a data set")
    parser.add_argument("--auditor", type=Path)
    parser.add_argument("--output", type=Path, default=Path("main_job.csv"))
    arguments = parser.parse_args()
    logging.getLogger("scvi").setLevel(logging.ERROR)
    auditor = None
    if arguments.auditor is not None:
        spec = importlib.util.spec_from_file_location("auditor", arguments.auditor)
        auditor = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        spec.loader.exec_module(auditor)  # type: ignore[union-attr]
    rows = []
    for name in arguments.data:
        for seed in range(arguments.seeds):
            with limit_threads():  # one thread is fastest for networks of this size
                rows.append(run(name, seed, auditor, arguments.cells))
            pd.DataFrame(rows).to_csv(arguments.output, index=False)
            print(pd.Series(rows[-1]).to_string(float_format="{:.4f}".format), "\n", flush=True)


if __name__ == "__main__":
    main()
