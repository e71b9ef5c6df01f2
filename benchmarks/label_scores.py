"""Compare scores of which modality resolves a label, on synthetic representations with known truth.

    python benchmarks/label_scores.py --draws 20 --output label_scores.csv

Cells belong to four large types, which the shared representations distinguish, with two subtypes
each. The RNA-specific representation separates the subtypes of the first type and the ADT-specific
one those of the second, by a shift of one dimension within the type; both separate those of the
third, none those of the fourth. All other dimensions are noise. Four refits have their own
rotations and noise, and hold out halves of the cells. Scores of each label, by refit on held-out
cells:

- ``theta``: log ratio of purities of 10 neighbours (the paper's);
- ``purity``: difference of purities, corrected for chance (purity minus chance, divided by 1 minus
  chance);
- ``log odds``: difference of the log odds of a label among 30 neighbours in the concatenated shared
  and specific representations;
- ``information``: what a specific representation adds to the shared ones, by probes
  (:func:`indiseek_sc.metrics.label_information`).

All have standard errors over cells and refits (:func:`indiseek_sc.metrics.combine_refits`); claims
are made at a false discovery rate of 5 % (Benjamini and Hochberg). ``found``: share of the first
four labels claimed for the correct modality; ``false``: share of the others that are claimed;
``permuted``: share of permuted labels that are claimed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from indiseek_sc.metrics import Refit, combine_refits, label_information, label_purity

N_REFITS, LABELS = 4, np.array([f"{kind}{sub}" for kind in "abcd" for sub in (0, 1)])
TRUTH = {"a": 1, "b": -1, "c": 0, "d": 0}


def draw(n_cells: int, width: int, shift: float, rng: np.random.Generator) -> tuple[list[Refit], np.ndarray]:
    """Return refits and labels (integers) of one data set."""
    kind, sub = rng.integers(4, size=n_cells), rng.random(n_cells) < 0.35
    place = 4.0 * np.eye(4)[kind]
    refits = []
    for number in range(N_REFITS):
        if number % 2 == 0:
            half = rng.permutation(n_cells) < n_cells // 2
        specific = {}
        for role, kinds, n in (("rna", (0, 2), width), ("adt", (1, 2), width // 2)):
            z = rng.normal(size=(n_cells, n))
            z[:, 0] += shift * (sub - 0.35) * np.isin(kind, kinds)
            specific[role] = z @ np.linalg.qr(rng.normal(size=(n, n)))[0]
        shared = {role: place + rng.normal(size=(n_cells, 4)) for role in ("rna", "adt")}
        refits.append(Refit(shared, specific, half if number % 2 == 0 else ~half))
    return refits, 2 * kind + sub


def score(refit: Refit, label: np.ndarray, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return mean and squared standard error of the difference RNA minus ADT, by score."""
    test = np.flatnonzero(refit.held_out)
    y, n_labels = label[test], len(LABELS)
    purity = {role: label_purity(z[test], y) for role, z in refit.specific.items()}
    chance = ((np.bincount(y, minlength=n_labels) - 1) / (len(y) - 1))[y]
    odds = {}
    for role, z in refit.specific.items():
        share = label_purity(
            np.hstack([refit.shared["rna"][test], refit.shared["adt"][test], z[test]]), y, n_neighbors=30
        )
        odds[role] = np.log((30 * share + 0.5) / (30 * (1 - share) + 0.5))
    of_cells = {
        "theta": np.log((10 * purity["rna"] + 0.5) / (10 * purity["adt"] + 0.5)),
        "purity": (purity["rna"] - purity["adt"]) / (1 - chance),
        "log odds": odds["rna"] - odds["adt"],
    }
    found = {
        name: (
            np.array([x[y == place].mean() for place in range(n_labels)]),
            np.array([x[y == place].var(ddof=1) / (y == place).sum() for place in range(n_labels)]),
        )
        for name, x in of_cells.items()
    }
    shared = np.hstack(list(refit.shared.values()))
    gain = label_information(shared, refit.specific, label, np.flatnonzero(~refit.held_out), test, seed=seed).gain
    difference = gain["rna"] - gain["adt"]
    found["information"] = difference.mean(axis=0), difference.var(axis=0, ddof=1) / len(y)
    return found


def claim(refits: list[Refit], label: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return 1, -1 or 0 for each label: claimed for RNA, for ADT, or not."""
    parts = [score(refit, label, seed + number) for number, refit in enumerate(refits)]
    claims = {}
    for name in parts[0]:
        means, variances = (np.stack([part[name][place] for part in parts]) for place in (0, 1))
        estimates = combine_refits(means, variances / 2, np.full(means.shape, len(label) / 8))
        q_value = false_discovery_control(estimates.p_value())
        claims[name] = np.where(q_value < 0.05, np.sign(estimates.value), 0)
    return claims


def main() -> None:
    """Read the command line, run, and print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--width", type=int, nargs="+", default=[6, 16])
    parser.add_argument(
        "--shift", type=float, nargs="+", default=[0.8, 1.5, 3.0], help="shift of subtypes, in standard deviations"
    )
    parser.add_argument("--output", type=Path, default=Path("label_scores.csv"))
    arguments = parser.parse_args()
    truth = np.array([TRUTH[name[0]] for name in LABELS])
    rows = []
    for width in arguments.width:
        for shift in arguments.shift:
            for seed in range(arguments.draws):
                rng = np.random.default_rng(seed)
                refits, label = draw(arguments.cells, width, shift, rng)
                true, permuted = claim(refits, label, seed), claim(refits, rng.permutation(label), seed)
                rows += [
                    {
                        "width": width,
                        "shift": shift,
                        "score": name,
                        "seed": seed,
                        "found": (true[name][truth != 0] == truth[truth != 0]).mean(),
                        "wrong modality": (true[name][truth != 0] == -truth[truth != 0]).mean(),
                        "false": (true[name][truth == 0] != 0).mean(),
                        "permuted": (permuted[name] != 0).mean(),
                    }
                    for name in true
                ]
            pd.DataFrame(rows).to_csv(arguments.output, index=False)
            print(
                pd.DataFrame(rows)
                .groupby(["width", "shift", "score"], sort=False)
                .mean()
                .drop(columns="seed")
                .round(3),
                flush=True,
            )


if __name__ == "__main__":
    main()
