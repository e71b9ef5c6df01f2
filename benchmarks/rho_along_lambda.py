"""Compute rank correlations of theta with WNN weights along lambda, as in the paper's figure 5.

    python benchmarks/rho_along_lambda.py teaseq.h5mu pbmc10k.h5mu liu2021_covid.h5mu --seeds 3 --output rho_along_lambda

Half of the cells are used for training, the other half for evaluation. Each method (``--methods``)
is trained at each lambda from the same shared representations, the literal recipe with 150 epochs
per stage, IndiSeek from the same whitening as well; JointOpt has no separate stage 1. Writes
``OUTPUT.csv``, one row for each data set, seed, method, lambda and kind of representation
(``both``: shared and specific ones concatenated; ``rho`` with its bootstrap interval over cells,
leak ratio and gain of the specific representations), and ``OUTPUT.png``. Labels are read for rho
only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import pandas as pd
from _disentangle_evaluate import evaluate_ranks, latents_of
from _disentangle_runs import LITERAL, LITERAL_EPOCHS, Options, open_case
from _quiet import train_quietly
from _slides import SLIDES
from main_job import find_labels

from indiseek_sc._keys import ROLES
from indiseek_sc.baselines import METHODS
from indiseek_sc.pl import PALETTE

if TYPE_CHECKING:
    from collections.abc import Iterator

LAMBDAS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
KINDS = ("raw", "shared", "specific", "both")


def run(data: str, method: str, seed: int) -> Iterator[dict]:
    """Yield the rows of all lambdas of a method for one data set and seed."""
    case = open_case(data, seed, Options())
    model = case.make(method)
    epochs = case.epochs_of(model, LITERAL_EPOCHS if method == LITERAL else {})
    model.train(epochs, held_out=case.test, stages=("shared",), enable_progress_bar=False)
    auditor = None
    for lambda_ in LAMBDAS:
        keep = method != LITERAL and "specific" in model.stages_
        model.train(epochs, lambda_, stages=("specific",), keep_start=keep, enable_progress_bar=False)
        auditor = auditor or model.make_auditor()
        audit = model.audit(auditor=auditor).table
        figures = {f"{r}.{k}": audit.loc[model.modalities[r], k] for r in ROLES for k in ("leak_ratio", "gain")}
        ranks = evaluate_ranks(
            latents_of(model), model.modalities, case.mdata, find_labels(case.mdata), case.test, seed
        )
        for kind in KINDS:
            rho = {f"rho{end}": ranks.get(f"rho.{kind}{end}") for end in ("", "_lower", "_upper")}
            yield {
                "data": Path(data).stem,
                "seed": seed,
                "method": method,
                "lambda": lambda_,
                "latent": kind,
                **rho,
                **figures,
            }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw means over seeds and the mean leak ratio, one row for each method."""
    sets, methods = list(table["data"].unique()), list(table["method"].unique())
    with plt.rc_context(SLIDES):
        size = 4.6 * len(sets), 0.6 + 2.9 * len(methods)
        figure, axes = plt.subplots(
            len(methods), len(sets), figsize=size, squeeze=False, layout="constrained", sharex=True, sharey=True
        )
        for (data, method), rows in table.groupby(["data", "method"], sort=False):
            ax = axes[methods.index(method), sets.index(data)]
            for color, kind in zip(PALETTE, KINDS, strict=False):
                means = rows[rows["latent"] == kind].groupby("lambda")[["rho", "rho_lower", "rho_upper"]].mean()
                ax.plot(means.index, means["rho"], "o-", color=color, label=f"rho, {kind}")
                ax.fill_between(means.index, means["rho_lower"], means["rho_upper"], color=color, alpha=0.1, lw=0)
            leak = rows.groupby("lambda")[["rna.leak_ratio", "adt.leak_ratio"]].mean().mean(axis=1)
            ax.plot(leak.index, leak, "k--", lw=1.5, label="leak ratio of the specific representations")
            ax.axhline(0, color="0.8", lw=1, zorder=0)
            ax.set(xscale="log", title=f"{METHODS[method].title}, {data}")
        for ax in axes[-1]:
            ax.set_xlabel("lambda")
        figure.supylabel("Spearman correlation of theta with WNN weights")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Read the command line, run, write the table as it grows, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--methods", nargs="+", default=["indiseek", LITERAL, "factorized_cl", "info_disen"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("rho_along_lambda"))
    arguments = parser.parse_args()
    train_quietly()
    rows: list[dict] = []
    for seed in range(arguments.seeds):
        for data in arguments.data:
            for method in arguments.methods:
                for row in run(data, method, seed):
                    rows.append(row)
                    pd.DataFrame(rows).to_csv(arguments.output.with_suffix(".csv"), index=False)
                    print(" ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values()), flush=True)
    draw(pd.DataFrame(rows), arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
