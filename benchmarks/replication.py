r"""Test whether claims about labels replicate in disjoint halves of a data set.

    python benchmarks/replication.py liu2021_covid.h5mu --label-key mergedcelltype --sample-key Donor --batch-key Batch \\
        --cells 6000 --splits 5

A split divides the cells, or the samples, at random into two halves. In each half refits of a model
are trained by ``write_refits`` with default settings (both stages, on halves of the half), and
``tl.modality_importance`` makes claims about all labels, and about the labels permuted among the
cells (within batches, if there are any). A claim agrees if the difference of information, or theta,
has the same sign in the other half. ``z`` is the difference between halves in units of its standard
error; its root mean square is 1 if intervals are correct, and smaller if they are too wide.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
from _quiet import train_quietly
from scipy.stats import t

from indiseek_sc import IndiSeek, tl
from indiseek_sc._lookup import find_labels


def divide(mdata: mudata.MuData, sample_key: str | None, n_cells: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return row numbers of two halves of the cells, divided by sample if there are samples."""
    if sample_key is None:
        order = rng.permutation(mdata.n_obs)[:n_cells]
        return [np.sort(order[::2]), np.sort(order[1::2])]
    sample = find_labels(mdata, sample_key, "sample_key").astype(str).to_numpy()
    names = rng.permutation(np.unique(sample))
    rows = [np.flatnonzero(np.isin(sample, part)) for part in (names[::2], names[1::2])]
    return [np.sort(rng.permutation(part)[: n_cells // 2]) for part in rows]


def permute(labels: pd.Series, batches: pd.Series | None, rng: np.random.Generator) -> pd.Series:
    """Permute labels among the cells of each batch."""
    groups = np.zeros(len(labels), int) if batches is None else batches.cat.codes.to_numpy()
    permuted = labels.astype(str).to_numpy().copy()
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        permuted[rows] = permuted[rng.permutation(rows)]
    return pd.Series(permuted, index=labels.index)


def train_refits(mdata: mudata.MuData, arguments: argparse.Namespace, seed: int) -> None:
    """Write the representations of refits."""
    IndiSeek.setup_mudata(mdata, batch_key=arguments.batch_key)
    model = IndiSeek(mdata, seed=seed)
    model.train(max_epochs=0, enable_progress_bar=False)  # refits use only the settings of the model
    model.write_latents()
    seeds = {"seed": 1000 * (seed + 1), "enable_progress_bar": False}
    model.write_refits(arguments.refits, sample_key=arguments.sample_key, **seeds)


def assess(mdata: mudata.MuData, arguments: argparse.Namespace, seed: int) -> pd.DataFrame:
    """Return the claims about labels and permuted labels."""
    tables = []
    for label_key in arguments.label_key:
        labels = find_labels(mdata, label_key, "label_key")
        batches = None if arguments.batch_key is None else find_labels(mdata, arguments.batch_key, "batch_key")
        rng = np.random.default_rng(seed)
        for number in range(1 + arguments.permutations):
            mdata.obs["label"] = labels if number == 0 else permute(labels, batches, rng)
            table = tl.modality_importance(mdata, "label", seed=seed)
            tables.append(table.assign(label_key=label_key, permutation=number))
    return pd.concat(tables)


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return figures of each data set and column of labels, by score."""
    rows = []
    for (data, label_key), of_key in table.groupby(["data", "label_key"], sort=False):
        true, permuted = of_key[of_key["permutation"] == 0], of_key[of_key["permutation"] > 0]
        for score in ("information", "theta"):
            one, other = (_claims(true[true["half"] == half], score) for half in (0, 1))
            both = one.join(other, lsuffix="_0", rsuffix="_1", how="inner").dropna(subset=["value_0", "value_1"])
            is_claimed = pd.concat([both["claim_0"], both["claim_1"]])
            agrees = np.tile(np.sign(both["value_0"]) == np.sign(both["value_1"]), 2)
            also = pd.concat([both["claim_1"], both["claim_0"]]).to_numpy() & agrees
            z = (both["value_0"] - both["value_1"]) / np.hypot(both["error_0"], both["error_1"])
            null = _claims(permuted, score)
            rows.append(
                {
                    "data": data,
                    "labels": label_key,
                    "score": score,
                    "splits": true["split"].nunique(),
                    "labels assessed": int(
                        true["q_value" if score == "information" else "theta_q_value"].notna().sum()
                    ),
                    "claims": int(is_claimed.sum()),
                    "same sign": agrees[is_claimed].mean() if is_claimed.any() else np.nan,
                    "claimed in both": also[is_claimed].mean() if is_claimed.any() else np.nan,
                    "claims of permuted labels": f"{int(null['claim'].sum())} of {int(null['value'].notna().sum())}",
                    "rms z": float(np.sqrt((z**2).mean())),
                }
            )
    return pd.DataFrame(rows)


def _claims(table: pd.DataFrame, score: str) -> pd.DataFrame:
    """Return value, standard error and claim of each label, indexed by split and label."""
    name, lower, q_value = (
        ("information_difference", "information_lower", "q_value")
        if score == "information"
        else ("theta", "lower", "theta_q_value")
    )
    known = table["reliable"] & table[q_value].notna()
    claim = table["claim"].isin(["rna", "adt"]) if score == "information" else table[q_value] < 0.05
    frame = pd.DataFrame(
        {
            "split": table["split"],
            "label": table["label"],
            "value": table[name].where(known),
            # Half of the 95 % interval in units of the normal one, so that few degrees of freedom
            # increase it.
            "error": (table[name] - table[lower]) / t.ppf(0.975, 1e6),
            "claim": claim & known,
        }
    )
    return frame.set_index(["split", "label"])


def main() -> None:
    """Read the command line, run, and write the tables as they grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--label-key", action="append", required=True, help="may be given several times")
    parser.add_argument("--sample-key")
    parser.add_argument("--batch-key")
    parser.add_argument("--cells", type=int, default=6000, help="number of cells of both halves together")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="number of the first split, to continue")
    parser.add_argument("--refits", type=int, default=4)
    parser.add_argument("--permutations", type=int, default=1, help="permutations of the labels in each half")
    parser.add_argument("--keep", type=Path, help="folder of the halves with their refits, which are reused")
    parser.add_argument("--output", type=Path, default=Path("replication.csv"))
    arguments = parser.parse_args()
    train_quietly()
    mdata = mudata.read(arguments.data)
    tables = []
    for split in range(arguments.first, arguments.splits):
        halves = divide(mdata, arguments.sample_key, arguments.cells, np.random.default_rng(split))
        for half, rows in enumerate(halves):
            kept = (
                None if arguments.keep is None else arguments.keep / f"{Path(arguments.data).stem}_{split}_{half}.h5mu"
            )
            if kept is not None and kept.is_file():
                cells = mudata.read(kept)
            else:
                cells = mdata[rows].copy()
                train_refits(cells, arguments, seed=2 * split + half)
                if kept is not None:
                    cells.write(kept)
            table = assess(cells, arguments, seed=2 * split + half)
            tables.append(table.assign(data=Path(arguments.data).stem, split=split, half=half))
            pd.concat(tables).to_csv(arguments.output, index=False)
        print(summarize(pd.concat(tables)).round(3).to_string(index=False), "\n", flush=True)


if __name__ == "__main__":
    main()
