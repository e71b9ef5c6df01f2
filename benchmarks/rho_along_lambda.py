"""Compute rank correlations of theta with WNN weights along lambda, as in the paper's figure 5.

    python benchmarks/rho_along_lambda.py teaseq.h5mu pbmc10k.h5mu liu2021_covid.h5mu --seeds 4 --output rho_along_lambda

In each seed another random half of the cells is used for training and the other half for
evaluation. Each method (``--methods``) is trained at each lambda from the same shared
representations, the literal recipe with 150 epochs per stage, IndiSeek from the same whitening as
well; JointOpt has no separate stage 1. Seeds are the refits over which theta is combined
(``metrics.replicated_importance``), so that intervals of rho account for the sampling of cells and
for the training. Writes ``OUTPUT.csv``, one row for each data set, method, lambda and kind of
representation (``both``: shared and specific ones concatenated; ``rho`` with its interval over
cells and refits and its jackknife interval over labels, mean leak ratio and gain of the specific
representations), and ``OUTPUT.png``. Labels are read for rho only.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from _disentangle_evaluate import get_wnn_weights, latents_of
from _disentangle_runs import LITERAL, LITERAL_EPOCHS, Options, open_case
from _quiet import train_quietly
from _slides import SLIDES
from main_job import find_labels

from indiseek_sc._keys import ROLES
from indiseek_sc.baselines import METHODS
from indiseek_sc.metrics import Refit, rank_correlation, replicated_importance
from indiseek_sc.pl import PALETTE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from _disentangle_evaluate import Latents

LAMBDAS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
KINDS = ("raw", "shared", "specific", "both")


def train(
    data: str, method: str, seed: int, lambdas: Sequence[float]
) -> Iterator[tuple[float, Latents, np.ndarray, dict[str, float]]]:
    """Yield, for each lambda, representations, whether each cell was held out, and the audit."""
    case = open_case(data, seed, Options())
    model = case.make(method)
    epochs = case.epochs_of(model, LITERAL_EPOCHS if method == LITERAL else {})
    model.train(epochs, held_out=case.test, stages=("shared",), enable_progress_bar=False)
    held_out = np.isin(np.arange(case.mdata.n_obs), case.test)
    auditor = None
    for lambda_ in lambdas:
        keep = method != LITERAL and "specific" in model.stages_
        model.train(epochs, lambda_, stages=("specific",), keep_start=keep, enable_progress_bar=False)
        auditor = auditor or model.make_auditor()
        audit = model.audit(auditor=auditor).table
        figures = {f"{r}.{k}": audit.loc[model.modalities[r], k] for r in ROLES for k in ("leak_ratio", "gain")}
        yield lambda_, latents_of(model), held_out, figures


def evaluate(data: str, method: str, n_seeds: int, lambdas: Sequence[float]) -> Iterator[dict]:
    """Yield the rows of a method and a data set, with rho of theta over all seeds."""
    case = open_case(data, 0, Options())
    labels = np.asarray(find_labels(case.mdata), dtype=object)
    weights: np.ndarray | None = None
    refits: dict[tuple[float, str], list[Refit]] = {}
    audits: dict[float, list[dict[str, float]]] = {}
    for seed in range(n_seeds):
        for lambda_, latents, held_out, figures in train(data, method, seed, lambdas):
            if weights is None:
                weights, _ = get_wnn_weights(case.mdata, case.make(method).modalities, latents["raw"])
            audits.setdefault(lambda_, []).append(figures)
            for kind in KINDS:
                refits.setdefault((lambda_, kind), []).append(Refit(latents["shared"], latents[kind], held_out))
    for (lambda_, kind), parts in refits.items():
        found = replicated_importance(parts, labels, latent="specific", information=False)
        known = np.isfinite(found.theta) & np.isfinite(weights) & pd.notna(labels)
        ranks = rank_correlation(
            found.theta[known],
            weights[known],
            labels[known],
            estimates=found.theta_of_labels,
            statistics=("spearman",),
        )
        (rho,) = ranks.table.to_dict("records")
        ends = ("lower", "upper", "jackknife_lower", "jackknife_upper")
        yield {
            "data": Path(data).stem,
            "method": method,
            "lambda": lambda_,
            "latent": kind,
            "n_refits": n_seeds,
            "n_labels": rho["n_labels"],
            "rho": rho["estimate"],
            **{f"rho_{end}": rho[end] for end in ends},
            **pd.DataFrame(audits[lambda_]).mean().to_dict(),
        }


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw rho with its intervals and the mean leak ratio, one row for each method."""
    sets, methods = list(table["data"].unique()), list(table["method"].unique())
    with plt.rc_context(SLIDES):
        size = 4.6 * len(sets), 0.6 + 2.9 * len(methods)
        figure, axes = plt.subplots(
            len(methods), len(sets), figsize=size, squeeze=False, layout="constrained", sharex=True, sharey=True
        )
        for (data, method), rows in table.groupby(["data", "method"], sort=False):
            ax = axes[methods.index(method), sets.index(data)]
            for color, kind in zip(PALETTE, KINDS, strict=False):
                of_kind = rows[rows["latent"] == kind].set_index("lambda")
                ax.plot(of_kind.index, of_kind["rho"], "o-", color=color, label=f"rho, {kind}")
                ax.fill_between(of_kind.index, of_kind["rho_lower"], of_kind["rho_upper"], color=color, alpha=0.1, lw=0)
            leak = rows.groupby("lambda")[["rna.leak_ratio", "adt.leak_ratio"]].first().mean(axis=1)
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
    parser.add_argument("--seeds", type=int, default=4, help="number of refits, at least 2")
    parser.add_argument("--lambdas", type=float, nargs="+", default=LAMBDAS)
    parser.add_argument("--output", type=Path, default=Path("rho_along_lambda"))
    arguments = parser.parse_args()
    train_quietly()
    rows: list[dict] = []
    for data in arguments.data:
        for method in arguments.methods:
            for row in evaluate(data, method, arguments.seeds, arguments.lambdas):
                rows.append(row)
                print(" ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in row.values()), flush=True)
            pd.DataFrame(rows).to_csv(arguments.output.with_suffix(".csv"), index=False)
    draw(pd.DataFrame(rows), arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
