"""Test whether critics remove dependence from deliberately impaired specific representations.

    python benchmarks/critics.py pbmc_covid S4 [DATA.h5mu ...] --seeds 3 --lambdas 100 30 --output critics.csv

In the impaired start, correlations, second scales and the shift of the whitening do not depend on
the shared representation, and there are no splines; ``--whole`` uses the usual start. Each row is
one data set, seed and modality: leak ratio and gain by ``model.audit()`` on held-out cells at the
start and after training against the critics, and the bounds of the critics on validation cells, in
nats, in the first and in the last epoch.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from main_job import read

from indiseek_sc import IndiSeek
from indiseek_sc.datasets import synthetic
from indiseek_sc.metrics import limit_threads
from indiseek_sc.model import _stages
from indiseek_sc.nn import ConditionalEncoderDecoder

CONSTANT = ("cholesky", "second", "shift")

fit_whitening = ConditionalEncoderDecoder.fit_whitening


def impair_whitening(
    encoder_decoder: ConditionalEncoderDecoder, features: torch.Tensor, condition: torch.Tensor, n_fit: int
) -> None:
    """Fit the whitening, and make parts of it constant over conditions."""
    fit_whitening(encoder_decoder, features, condition, n_fit)
    for name in CONSTANT:
        getattr(encoder_decoder.conditional, name).weight.zero_()


def run(name: str, seed: int, lambdas: list[float], *, is_impaired: bool) -> list[dict[str, Any]]:
    """Train with each lambda from the same start."""
    mdata = synthetic.make(name, 4000, seed=seed) if name in synthetic.NAMES else read(name)
    held_out = np.random.default_rng(seed).permutation(mdata.n_obs)[: mdata.n_obs // 2]
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata, seed=seed)
    model.train(held_out=held_out, max_epochs={"specific": 0, "decoder": 0}, enable_progress_bar=False)
    start = model.audit().table
    rows = []
    for lambda_ in lambdas:
        outcome = model.train(
            stages=("specific",),
            keep_start=True,
            lambda_=lambda_,
            plan_kwargs={"gate_critics": not is_impaired},
            enable_progress_bar=False,
        )
        after = model.audit().table
        seconds = sum(fit.seconds for fit in outcome.fits if fit.stage == "specific")
        for role, modality in model.modalities.items():
            bounds = {
                f"{critic}_{when}": float(model.history[key].iloc[row, 0])
                for critic in ("gaussian", "nce")
                if (key := f"specific/{role}_{critic}_validation_bound") in model.history
                for when, row in (("first", 0), ("last", -1))
            }
            rows.append(
                {"data": Path(name).stem, "seed": seed, "lambda": lambda_, "modality": modality, "seconds": seconds}
                | {f"{figure}_start": start.loc[modality, figure] for figure in ("leak_ratio", "gain")}
                | {figure: after.loc[modality, figure] for figure in ("leak_ratio", "gain")}
                | bounds
            )
    return rows


def main() -> None:
    """Read the command line, run, and print the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--lambdas", type=float, nargs="+", default=[100.0, 30.0])
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("critics.csv"))
    a = parser.parse_args()
    logging.getLogger("scvi").setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    for name in a.data:
        for seed in range(a.seeds):
            with limit_threads():
                if a.whole:
                    rows += run(name, seed, a.lambdas, is_impaired=False)
                else:
                    with (
                        patch.object(ConditionalEncoderDecoder, "fit_whitening", impair_whitening),
                        patch.object(_stages, "needs_flow", lambda *_: False),
                    ):
                        rows += run(name, seed, a.lambdas, is_impaired=True)
            table = pd.DataFrame(rows)
            table.to_csv(a.output, index=False)
            print(table.tail(2 * len(a.lambdas)).round(3).to_string(index=False), "\n", flush=True)


if __name__ == "__main__":
    main()
