"""Compare variants of stage 2, one change at a time, with the same shared representations.

    python benchmarks/design.py DATA.h5mu [DATA.h5mu ...] --seeds 2 --max-cells 3000 --output design.csv

Half of the cells are used for training, the other half for evaluation. Stage 1 is trained once for
each data set and seed, and so are the whitening and flow from which critics start, except for
variants that change these; ``seconds`` are those of what was trained. ``effective`` is the
effective number of dimensions of each specific representation: the squared sum of the eigenvalues
of its correlation matrix, divided by the sum of their squares. ``own`` and ``other`` are the share
of the features' variance that probes explain from Z together with the modality's own shared
representation, or the other one. No label is read.

Variants that no setting provides are in ``_design_trials.py``: a lambda that changes during
training, noise in the inputs of critics, whitening and critics on separate cells, and whitening
given a prediction of the other shared representation (by a ridge regression on products of two
columns of the own one, optionally with the features) instead of the own one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from _changed import make_changed
from _design_trials import annealing, given_expected, noise, separate_cells
from _quiet import train_quietly
from main_job import read

from indiseek_sc._keys import ROLES, other
from indiseek_sc.metrics import held_out_r2

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from indiseek_sc import IndiSeek

LAMBDA_FROM = {"lambda from 1000 to 100": 1000.0, "lambda from 10 to 100": 10.0}
GIVEN_EXPECTED = {"whitening given E[C other | C]": False, "whitening given E[C other | C, X]": True}
TRIALS: dict[str, Callable] = {
    "noise in the inputs of critics": noise,
    "whitening and critics on separate cells": separate_cells,
}

CHOICES: dict[str, dict] = {
    "default": {},
    "no critics": {"independence": "none"},
    "Gaussian critic": {"independence": "gaussian"},
    "NCE critic": {"independence": "nce"},
    "full Gaussian + NCE": {"independence": "gaussian_full+nce"},
    "two Gaussian + two NCE": {"independence": {"a": "gaussian", "b": "nce", "c": "gaussian", "d": "nce"}},
    "mixture": {"independence": "mixture"},
    "HSIC": {"independence": "hsic"},
    "distance correlation": {"independence": "distance_correlation"},
    "adversarial regression": {"independence": "adversarial"},
    "against own C": {"against": "own"},
    "last epoch, without selection": {"keep_least_leak": False},
    "15 epochs": {"max_epochs_specific": 15},
    "learning rate .001": {"specific_learning_rate": 1e-3},
    "1 critic step": {"n_critic_steps": 1},
    "8 critic steps": {"n_critic_steps": 8},
    "lambda 10": {"lambda_": 10.0},
    "lambda 1000": {"lambda_": 1000.0},
    **dict.fromkeys([*LAMBDA_FROM, "noise in the inputs of critics"], {}),
}
"""Variants of the stage of the critics, from the same whitening and flow."""

CHOICES_OF_START: dict[str, dict] = {
    **dict.fromkeys([*GIVEN_EXPECTED, *list(TRIALS)[1:]], {}),
    "batch 128": {"specific_batch_size": 128},
    "batch 2048": {"specific_batch_size": 2048},
    "whitening without flow": {"max_epochs_flow": 0},
    "Z of 8": {"n_specific": 8},
    "Z of 32": {"n_specific": 32},
    "no whitening": {"conditional_encoder_decoder": False, "max_epochs_specific": 60, "keep_least_leak": False},
}
"""Variants that also change what precedes the critics, so that all of stage 2 is trained."""


def trial(choice: str, model: IndiSeek) -> AbstractContextManager[None]:
    """Return the context in which stage 2 of a variant is trained and evaluated."""
    if choice in LAMBDA_FROM:
        return annealing(LAMBDA_FROM[choice], model.settings.optimisation.max_epochs_specific)
    if choice in GIVEN_EXPECTED:
        return given_expected(model, by_features=GIVEN_EXPECTED[choice])
    return TRIALS.get(choice, nullcontext)()


def count_effective(latent: np.ndarray) -> float:
    """Return the participation ratio of the correlations of a representation."""
    values = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(latent, rowvar=False)))
    return float(values.sum() ** 2 / (values**2).sum())


def run(name: str, seed: int, max_cells: int) -> list[dict]:
    """Evaluate all variants on one data set and seed."""
    mdata = read(name)
    order = np.random.default_rng(seed).permutation(mdata.n_obs)[:max_cells]
    mdata = mdata[mdata.obs_names[np.sort(order)]].copy()
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    test, train = np.sort(order[mdata.n_obs // 2 :]), np.sort(order[: mdata.n_obs // 2])
    leader = make_changed(mdata, {}, seed=seed)
    leader.train(held_out=test, stages=("shared",), enable_progress_bar=False)
    features = {role: leader.get_features(modality=role) for role in ROLES}
    shared = {role: leader.get_latent_representation(kind="shared", modality=role) for role in ROLES}
    auditor = leader.make_auditor(seed=seed)
    rows = []
    for choice, changes in {**CHOICES, **CHOICES_OF_START}.items():
        model = make_changed(mdata, changes, seed=seed)
        model.take_over(leader)
        start = time.perf_counter()
        with trial(choice, model):
            model.train(
                stages=("specific",),
                keep_start=choice in CHOICES and choice != "default",  # the default is trained first
                enable_progress_bar=False,
            )
            seconds = time.perf_counter() - start
            specific = {role: model.get_latent_representation(kind="specific", modality=role) for role in ROLES}
            decoded = {role: model.get_reconstruction(modality=role) for role in ROLES}
        if choice == "default":
            leader = model
        table = auditor(specific, decoded)
        figures = {f"{m}.{k}": table.loc[m, k] for m in ROLES for k in ("leak_ratio", "gain", "complete")}
        if choice == "default":
            views = {"own": shared, "other": {role: shared[other(role)] for role in ROLES}}
            for view, latents in views.items():
                for role in ROLES:
                    seen = np.hstack([specific[role], latents[role]])
                    figures[f"{role}.{view}"] = held_out_r2(seen, features[role], train, test, seed=seed)
        sizes = {f"{role}.effective": count_effective(specific[role][test]) for role in ROLES}
        rows.append({"data": Path(name).stem, "seed": seed, "choice": choice, "seconds": seconds, **figures, **sizes})
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1), flush=True)
    return rows


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--max-cells", type=int, default=3000)
    parser.add_argument("--output", type=Path, default=Path("design.csv"))
    arguments = parser.parse_args()
    train_quietly()
    rows: list[dict] = []
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        for name in arguments.data:
            rows += run(name, seed, arguments.max_cells)
            pd.DataFrame(rows).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
