"""Compare the agreement and sufficiency of stage 1 with other methods for shared representations.

    python benchmarks/shared_latents.py DATA.h5mu [DATA.h5mu ...] --seeds 2 --max-cells 6000 --output shared_latents

Writes ``OUTPUT.csv`` and ``OUTPUT.png``. Half of the cells are used for training and validation,
the other half for evaluation by the probes of ``metrics.audit``: agreement of a representation with
the other modality (directions weighted equally), sufficiency, both modalities, and retrieval of
partner cells. Penalties of regularised CCA are chosen on the same validation cells. Deep CCA, CLIP
and the spectral contrastive loss share our encoders (with a linear start, except for CLIP),
schedule and early stopping: they are adaptations, not the programs of their authors. "Three
networks" are the representations of three seeds concatenated, and reduced by regularised CCA to the
width of the first. No label is read.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from _slides import SLIDES
from main_job import read

from indiseek_sc import IndiSeek
from indiseek_sc._keys import ROLES, other
from indiseek_sc.baselines import CLIP, InfoDisen
from indiseek_sc.metrics import add_noise_floor, flat_directions, foscttm, held_out_r2, recall_at_k
from indiseek_sc.module import IndiSeekModule
from indiseek_sc.nn import regularized_cca
from indiseek_sc.pl import PALETTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

CCA_WIDTHS = (4, 6, 10, 16)
NOISE = 0.3
"""Standard deviation of the noise; a standardised protein or the first component of RNA has 1."""
N_NETWORKS = 3


class SpectralModule(IndiSeekModule):
    """Stage 1 by the spectral contrastive loss."""

    def shared_terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the spectral contrastive loss (HaoChen et al. 2021, arXiv 2106.04156, eq. 6)."""
        first, second = (self.encoders[role](features[role]) for role in ROLES)
        products = first @ second.T
        n = len(products)
        apart = (products.square().sum() - products.diagonal().square().sum()) / (n * (n - 1))
        return {"info_nce": apart - 2 * products.diagonal().mean()}


class NoisyModule(IndiSeekModule):
    """Stage 1 on features with new noise at each step."""

    def shared_terms(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the usual terms for features with noise."""
        return super().shared_terms({role: x + NOISE * torch.randn_like(x) for role, x in features.items()})


class Noisy(IndiSeek):
    """IndiSeek with noise in the features of stage 1."""

    _module_cls = NoisyModule


class Spectral(IndiSeek):
    """IndiSeek with the spectral contrastive loss in stage 1."""

    _module_cls = SpectralModule


def weigh(info_nce: float, canonical: float, prediction: float) -> dict[str, float]:
    """Return weights of the terms of stage 1."""
    return {"info_nce_weight": info_nce, "canonical_weight": canonical, "prediction_weight": prediction}


METHODS = {
    "IndiSeek": IndiSeek,
    "IndiSeek, width 10": partial(IndiSeek, n_shared=10),
    "IndiSeek, batches of 256": IndiSeek,
    "IndiSeek, noisy features": Noisy,
    "CLIP + canonical, 16, reduced": partial(IndiSeek, n_shared=16, **weigh(1, 0.75, 0)),
    "deep CCA, 6": partial(IndiSeek, **weigh(0, 0.75, 0)),
    "deep CCA, 12": partial(IndiSeek, n_shared=12, **weigh(0, 0.75, 0)),
    "CLIP, 6": partial(CLIP, n_shared=6),
    "CLIP, 16": CLIP,
    "spectral contrastive, 6": partial(Spectral, **weigh(1, 0, 0)),
    "spectral contrastive, 10": partial(Spectral, n_shared=10, **weigh(1, 0, 0)),
    "DisentangledSSL, 16": InfoDisen,
}
BATCH_SIZES = {"IndiSeek, batches of 256": 256}


def evaluate(features: dict, latents: dict, train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, float]:
    """Return agreement, sufficiency and retrieval on held-out cells."""
    rng = np.random.default_rng([20261124, seed])
    row: dict[str, float] = {"n_shared": latents["rna"].shape[1]}
    for role in ROLES:
        target, noisy = features[other(role)], add_noise_floor(latents[role], train, rng)
        flat = flat_directions(latents[role], train)
        row[f"{role}.agreement_flat"] = held_out_r2(target, flat, train, test, seed=seed)
        found, most = (held_out_r2(source, target, train, test, seed=seed) for source in (noisy, features[role]))
        row[f"{role}.sufficiency"] = found / most
    few = test[:4000]
    pair = latents["rna"][few], latents["adt"][few]
    return row | {"foscttm": foscttm(*pair), "recall@10": recall_at_k(*pair, k=10)}


def run(name: str, seed: int, max_cells: int) -> list[dict]:
    """Return the rows of all methods for one data set and seed."""
    mdata = read(name)
    order = np.random.default_rng(seed).permutation(mdata.n_obs)[:max_cells]
    mdata = mdata[mdata.obs_names[np.sort(order)]].copy()
    order = np.random.default_rng(seed).permutation(mdata.n_obs)
    test, train = np.sort(order[mdata.n_obs // 2 :]), np.sort(order[: mdata.n_obs // 2])
    setup = {"modalities": {"rna_layer": "rna", "adt_layer": "adt" if "adt" in mdata.mod else "atac"}}

    def fit(method: str, seed: int) -> tuple[IndiSeek, dict[str, np.ndarray]]:
        make = METHODS[method]
        getattr(make, "func", make).setup_mudata(mdata, **setup)
        model = make(mdata, seed=seed)
        batch_size = BATCH_SIZES.get(method)
        model.train(held_out=test, stages=("shared",), batch_size=batch_size, enable_progress_bar=False)
        names = model.modalities
        return model, {r: model.get_latent_representation(kind="shared", modality=names[r]) for r in ROLES}

    rows = []
    for method in METHODS:
        start = time.perf_counter()
        model, latents = fit(method, seed)
        seconds = time.perf_counter() - start
        features = {role: model.get_features(modality=model.modalities[role]) for role in ROLES}
        if method == "IndiSeek":
            ours = latents
        figures = evaluate(features, latents, train, test, seed)
        rows.append({"data": Path(name).stem, "seed": seed, "method": method, "seconds": seconds, **figures})
    cells = [torch.from_numpy(part) for part in (model.split.train, model.split.validation)]
    several = [ours, *(fit("IndiSeek", seed + 1000 * k)[1] for k in range(1, N_NETWORKS))]
    joined = [torch.from_numpy(np.hstack([latents[role] for latents in several])) for role in ROLES]
    *maps, _ = regularized_cca(*joined, *cells, ours["rna"].shape[1], refit=True)
    latents = {r: m(x.double()).numpy() for r, m, x in zip(ROLES, maps, joined, strict=True)}
    figures = evaluate(features, latents, train, test, seed)
    rows.append({"data": Path(name).stem, "seed": seed, "method": "IndiSeek, three networks", **figures})
    arrays = [torch.from_numpy(features[role]) for role in ROLES]
    for width in (w for w in CCA_WIDTHS if w <= min(x.shape[1] for x in arrays)):
        *maps, correlation = regularized_cca(*arrays, *cells, width, refit=True)
        scale = np.where(correlation > 0, correlation, 1.0)
        latents = {r: m(x.double()).numpy() / scale for r, m, x in zip(ROLES, maps, arrays, strict=True)}
        figures = evaluate(features, latents, train, test, seed)
        rows.append({"data": Path(name).stem, "seed": seed, "method": f"CCA, {width}", **figures})
    return rows


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw agreement against sufficiency, without the variants of IndiSeek."""
    table = table[~table["method"].str.startswith("IndiSeek, ")]
    table = table.assign(
        agreement=table.filter(like="agreement_flat").mean(axis=1),
        sufficiency=table.filter(like="sufficiency").mean(axis=1),
    )
    sets, methods = table["data"].unique(), table["method"].unique()
    with plt.rc_context(SLIDES):
        figure, axes = plt.subplots(1, len(sets), figsize=(5 * len(sets), 4.8), squeeze=False, layout="constrained")
        for ax, data in zip(axes[0], sets, strict=True):
            means = table[table["data"] == data].groupby("method", sort=False)[["sufficiency", "agreement"]].mean()
            for k, method in enumerate(methods):
                if method in means.index:
                    place = {"ms": 13, "zorder": 5} if method == "IndiSeek" else {"ms": 9}
                    style = {"color": PALETTE[k], "mec": "white", "label": method, **place}
                    ax.plot(*means.loc[method], "osD^v"[k % 5], **style)
            ax.axhline(0.9, color="0.7", lw=1, ls=":")
            ax.axvline(0.97, color="0.7", lw=1, ls=":")
            ax.set(title=data, xlabel="sufficiency")
        axes[0, 0].set_ylabel("agreement, directions weighted equally")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
        figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    """Read the command line, run, write the table as it grows, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--max-cells", type=int, default=6000)
    parser.add_argument("--output", type=Path, default=Path("shared_latents"))
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore", module="mudata")
    torch.set_num_threads(1)
    rows: list[dict] = []
    for seed in range(arguments.seeds):
        for name in arguments.data:
            rows += run(name, seed, arguments.max_cells)
            table = pd.DataFrame(rows)
            table.to_csv(arguments.output.with_suffix(".csv"), index=False)
            print(table[(table["seed"] == seed) & (table["data"] == Path(name).stem)].round(3).to_string(), flush=True)
    draw(table, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
