"""What is left of batches in codes, with offsets taken out of the features and without.

    python benchmarks/batches.py liu2021_covid.h5mu --batch-key Batch --label-key mergedcelltype --seeds 3 --output batches.csv

A third of the cells is held out. ``told`` is the share of held-out cells whose batch 15 nearest training cells *of the same label* name, ``chance`` that of
the largest batch of each label, so that other shares of cell types in each batch do not count; labels with fewer than 60 training or 20
held-out cells are left out. ``label`` is the accuracy of labels by 15 neighbours. Rows of kind ``features`` are of both modalities side by side: as they are, with the mean of
each batch taken out, with offsets, and with offsets within the labels, which the model does not see. Audits are the model's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _quiet import train_quietly
from main_job import read

from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES
from indiseek_sc.data import fit_batch_offsets
from indiseek_sc.data._batch import _offsets_within
from indiseek_sc.metrics import label_accuracy
from indiseek_sc.module import JointCode

FIGURES = ("agreement_flat", "sufficiency", "leak_ratio", "gain", "complete")
FEWEST = {"train": 60, "test": 20}


class Judge:
    """What neighbours tell of the batch and the label of held-out cells."""

    def __init__(self, batch: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
        self.batch, self.labels, self.train, self.test = batch, labels, train, test

    def __call__(self, code: np.ndarray) -> dict[str, float]:
        """Judge one code."""
        right = chance = n = 0.0
        for label in np.unique(self.labels):
            train, test = (rows[self.labels[rows] == label] for rows in (self.train, self.test))
            if len(train) >= FEWEST["train"] and len(test) >= FEWEST["test"]:
                right += label_accuracy(code, self.batch, train, test) * len(test)
                chance += pd.Series(self.batch[test]).value_counts().iloc[0]
                n += len(test)
        label = label_accuracy(code, self.labels, self.train, self.test)
        return {"told": right / n, "chance": chance / n, "label": label}


def correct(
    features: list[np.ndarray], batch: np.ndarray, labels: np.ndarray, train: np.ndarray
) -> dict[str, np.ndarray]:
    """Both modalities side by side, of equal total variance, by how batches are taken out."""
    is_of, is_in = (pd.get_dummies(names).to_numpy(float) for names in (batch, labels))
    codes = is_of.argmax(axis=1)
    scales = [np.sqrt(x[train].var(axis=0).sum()) for x in features]
    both = np.hstack([x / scale for x, scale in zip(features, scales, strict=True)]).astype(float)
    means = is_of[train].T @ both[train] / is_of[train].sum(axis=0)[:, None]
    found = fit_batch_offsets([x[train] for x in features], codes[train], codes.max() + 1, seed=0)
    offsets = np.hstack([x / scale for x, scale in zip(found, scales, strict=True)])
    within = _offsets_within(both[train], is_in[train], is_of[train])
    return {
        "as they are": both,
        "means": both - is_of @ means,
        "offsets": both - is_of @ offsets,
        "within labels": both - is_of @ within,
    }


def join_with_batch(model: IndiSeek, train: np.ndarray) -> np.ndarray:
    """The joint code as it would be if each cell were decoded in its own batch."""
    decoded = [torch.from_numpy(model.get_reconstruction(modality=name)) for name in model.modalities.values()]
    joint = JointCode([x.shape[1] for x in decoded])
    joint.fit([x[train] for x in decoded])
    return joint(decoded).numpy()


def run(name: str, batch_key: str, label_key: str, seed: int, max_cells: int) -> list[dict]:
    """Both ways on one split."""
    mdata = read(name)
    mdata = mdata[np.sort(np.random.default_rng(seed).permutation(mdata.n_obs)[:max_cells])].copy()
    table = mdata.obs if batch_key in mdata.obs else mdata["rna"].obs
    batch, labels = (table[key].astype(str).to_numpy() for key in (batch_key, label_key))
    order = np.random.default_rng([seed, 1]).permutation(mdata.n_obs)
    test, train = np.sort(order[: mdata.n_obs // 3]), np.sort(order[mdata.n_obs // 3 :])
    judge, rows = Judge(batch, labels, train, test), []

    def note(way: str, kind: str, code: np.ndarray, **more: float) -> None:
        rows.append({"data": Path(name).stem, "seed": seed, "way": way, "kind": kind, **judge(code), **more})
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)

    for way, is_corrected in (("without", False), ("offsets", True)):
        IndiSeek.setup_mudata(mdata, batch_key=batch_key)
        model = IndiSeek(mdata, seed=seed, batch_offsets=is_corrected)
        model.train(held_out=test, enable_progress_bar=False)
        if not is_corrected:
            features = [model.get_features(modality=model.modalities[role]) for role in ROLES]
            for how, code in correct(features, batch, labels, train).items():
                note(how, "features", code)
        audit = model.audit().table
        for role in ROLES:
            name_of = model.modalities[role]
            for kind in ("shared", "specific"):
                figures = dict(audit.loc[name_of, list(FIGURES)]) if kind == "shared" else {}
                note(way, f"{kind} {role}", model.get_latent_representation(kind=kind, modality=name_of), **figures)
        note(way, "joint", model.get_latent_representation())
        if is_corrected:
            note("offsets, own batch", "joint", join_with_batch(model, train))
    return rows


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--batch-key", required=True)
    parser.add_argument("--label-key", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--max-cells", type=int, default=6000)
    parser.add_argument("--output", type=Path, default=Path("batches.csv"))
    arguments = parser.parse_args()
    train_quietly()
    rows: list[dict] = []
    for seed in range(arguments.seeds):
        rows += run(arguments.data, arguments.batch_key, arguments.label_key, seed, arguments.max_cells)
        pd.DataFrame(rows).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
