"""Record the results of Seurat for five pairs of embeddings.

Run ``python seurat_wnn.py`` where ``Rscript`` finds Seurat. The recording contains the embeddings,
because principal components differ slightly between machines.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np
import scanpy as sc

from indiseek_sc.datasets import pbmc_covid

HERE = Path(__file__).parent
Pair = tuple[np.ndarray, np.ndarray]


def embed_cells() -> Pair:
    """Principal components of every twentieth cell of the bundled data."""
    mdata = pbmc_covid()[::20].copy()
    for name, n_components in (("rna", 20), ("adt", 12)):
        sc.pp.normalize_total(mdata[name], target_sum=1e4)
        sc.pp.log1p(mdata[name])
        sc.pp.pca(mdata[name], n_comps=n_components, random_state=0)
    return mdata["rna"].obsm["X_pca"], mdata["adt"].obsm["X_pca"]


def draw_groups(n_cells: int, seed: int) -> Pair:
    """Synthetic cells of four groups, two of which are one in the second modality."""
    rng = np.random.default_rng(seed)
    group = rng.integers(4, size=n_cells)
    centres = 3 * rng.normal(size=(2, 4, 6))
    first = centres[0][group] + rng.normal(size=(n_cells, 6))
    return first, centres[1][np.minimum(group, 2)][:, :4] + rng.normal(size=(n_cells, 4))


def draw_twins() -> Pair:
    """Groups with 60 cells that are the first 60 in the second modality; some are drawn."""
    first, second = draw_groups(200, 1)
    second[120:180] = second[:60]
    return first, second


def draw_one_twin() -> Pair:
    """Groups with one cell that is an earlier one in the second modality; it is not drawn."""
    first, second = draw_groups(200, 4)
    second[199] = second[3]
    return first, second


def draw_grid() -> Pair:
    """Small whole numbers: many cells at one distance, many alike."""
    rng = np.random.default_rng(2)
    return rng.poisson(1, size=(200, 3)), rng.poisson(2, size=(200, 2))


CASES = {  # embeddings, k.nn, knn.range, l2.norm
    "cells": (embed_cells, 20, 200, True),
    "twins": (draw_twins, 20, 100, True),
    "one_twin": (draw_one_twin, 20, 100, True),
    "grid": (draw_grid, 10, 60, False),
    "few": (lambda: draw_groups(30, 3), 10, 20, True),
}


def main() -> None:
    arrays = {}
    for case, (make, n_neighbors, n_candidates, normalize) in CASES.items():
        pair = [np.asarray(part, dtype=np.float32) for part in make()]
        with tempfile.TemporaryDirectory() as folder:
            for name, part in zip(("first", "second"), pair, strict=True):
                np.savetxt(Path(folder, f"{name}.tsv"), part.astype(float), fmt="%.17g")
                arrays[f"{case}_{name}"] = part
            options = [n_neighbors, n_candidates, str(normalize).upper()]
            subprocess.run(["Rscript", HERE / "seurat_wnn.R", folder, *map(str, options)], check=True)
            for name in ("weights", "indices", "distances", "similarity"):
                arrays[f"{case}_{name}"] = np.loadtxt(Path(folder, f"{name}.tsv"))
        arrays[f"{case}_indices"] = arrays[f"{case}_indices"].astype(np.int16)
        arrays[f"{case}_options"] = np.array([n_neighbors, n_candidates, normalize])
    np.savez_compressed(HERE / "seurat_wnn.npz", **arrays)


if __name__ == "__main__":
    main()
