"""Draw ``pbmc_covid.h5mu``, the data set in the package, from the whole table of Liu et al. (2021).

Usage: ``python data/draw_pbmc_covid.py liu2021_covid.h5mu [data/pbmc_covid.h5mu]``. See ``data/README.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import warnings
from pathlib import Path

import mudata
import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

N_CELLS = 6000
FLOOR = 50
SEED = 0


def stratum_sizes(available: pd.Series, n_cells: int, floor: int) -> pd.Series:
    """Cells to take of each stratum: ``floor`` (or all there are), and the rest in proportion, ``n_cells`` in all."""
    base = available.clip(upper=floor)
    remaining = available - base
    quota = remaining * (n_cells - base.sum()) / remaining.sum()
    sizes = base + np.floor(quota).astype(int)
    largest_fractions = (quota % 1).sort_values(ascending=False, kind="stable").index[: n_cells - sizes.sum()]
    sizes[largest_fractions] += 1
    return sizes


def draw_cells(obs: pd.DataFrame, seed: int) -> np.ndarray:
    """Row numbers of the drawn cells, ascending, shape ``(N_CELLS,)``."""
    rng = np.random.default_rng(seed)
    strata = obs.groupby(["mergedcelltype", "Batch"], observed=True).indices
    sizes = stratum_sizes(pd.Series({stratum: len(rows) for stratum, rows in strata.items()}), N_CELLS, FLOOR)
    return np.sort(
        np.concatenate([rng.choice(strata[stratum], size, replace=False) for stratum, size in sizes.items()])
    )


def subset(source: MuData, rows: np.ndarray) -> MuData:
    """The drawn cells with all features; every column about the cells in ``mdata.obs``, the modalities' own empty."""
    obs = source["rna"].obs.iloc[rows].copy()
    for column in obs.columns:
        obs[column] = obs[column].cat.remove_unused_categories()
    obs["cell_type"] = obs["mergedcelltype"]
    obs["batch"] = obs["Batch"]
    modalities = {
        name: AnnData(
            X=source[name].X[rows].astype(np.float32),
            obs=pd.DataFrame(index=obs.index),
            var=pd.DataFrame(index=source[name].var_names),
        )
        for name in ("rna", "adt")
    }
    mdata = MuData(modalities)
    mdata.obs = obs
    return mdata


def main() -> None:
    """Read, draw, write, and show the checksum of what was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the whole table, an .h5mu file")
    parser.add_argument("output", type=Path, nargs="?", default=Path(__file__).with_name("pbmc_covid.h5mu"))
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    # What mudata warns of is known: 23 names are those of a gene and of a protein; 0.4 pulls no columns at updates.
    warnings.filterwarnings("ignore", module="mudata")
    source = mudata.read_h5mu(arguments.source)
    if not (source["rna"].obs_names == source["adt"].obs_names).all():
        parser.error(f"the cells of {arguments.source} are not in the same order in both modalities")
    mdata = subset(source, draw_cells(source["rna"].obs, arguments.seed))
    mdata.write_h5mu(arguments.output, compression="gzip", compression_opts=9)
    digest = hashlib.sha256(arguments.output.read_bytes()).hexdigest()
    print(f"{digest}  {arguments.output}")


if __name__ == "__main__":
    main()
