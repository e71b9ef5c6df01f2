r"""Find technical dimensions of the representations, for several seeds.

    python benchmarks/dimensions.py pbmc_covid:cell_type:batch liu2021_covid.h5mu:mergedcelltype:Batch pbmc10k.h5mu:cell_type \
        teaseq.h5mu:cell_type --seeds 3 --output dimensions.csv

A data set is given as ``FILE:LABELS:BATCHES``; without batches the model has no ``batch_key``. From
larger data sets 3,000 cells are drawn (seed 0; the bundled data are used completely), a fifth of
which, chosen by the seed, are held out. The table contains the result of ``tl.describe_dimensions``
for both kinds of representations, one row for each dimension, and ``jacobian``: the correlation
over features of its loadings with the decoder's Jacobian (specific representations only).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pandas as pd
from _quiet import train_quietly

from indiseek_sc import IndiSeek, _keys, datasets, tl
from indiseek_sc.tl._dimensions import find_loadings
from indiseek_sc.tl._values import read_values

if TYPE_CHECKING:
    from mudata import MuData

CELLS = 3000
BUNDLED = "pbmc_covid"
COVARIATES = {"pbmc10k": ["iso_IgG1", "iso_IgG2a", "iso_IgG2b"]}
"""Isotype controls in ``obs`` of a data set."""


def read(name: str) -> MuData:
    """Return the bundled data, or 3,000 cells of a file."""
    if name == BUNDLED:
        return datasets.pbmc_covid()
    mdata = mudata.read_h5mu(name)
    rows = np.random.default_rng(0).permutation(mdata.n_obs)[:CELLS]
    return mdata[np.sort(rows)].copy()


def compare_with_jacobian(model: IndiSeek, mdata: MuData, role: _keys.Role, modality: str) -> list[float]:
    """Return correlations over features of loadings with the decoder's Jacobian."""
    slopes = model.feature_attribution(modality=modality, max_cells=200)
    slopes = slopes.pivot(index="feature", columns="dimension", values="attribution")
    values = read_values(mdata, role, modality, None, np.arange(mdata.n_obs))
    latent = mdata.obsm[_keys.specific(modality)].astype(float)
    loadings = find_loadings(values, latent).slopes.loc[slopes.index.astype(str)]
    return [float(np.corrcoef(loadings[number], slopes[number])[0, 1]) for number in slopes]


def run(data: str, seed: int) -> pd.DataFrame:
    """Train once, and describe the dimensions of both kinds of representations."""
    name, label_key, *batch_key = data.split(":")
    mdata, stem = read(name), Path(name).stem
    held_out = np.random.default_rng(seed).permutation(mdata.n_obs)[: mdata.n_obs // 5]
    IndiSeek.setup_mudata(mdata, batch_key=batch_key[0] if batch_key else None)
    model = IndiSeek(mdata, seed=seed)
    model.train(held_out=held_out, accelerator="cpu", enable_progress_bar=False)
    model.write_latents()
    tables = [
        tl.describe_dimensions(mdata, label_key, kind=kind, covariates=COVARIATES.get(stem, []))
        for kind in ("specific", "shared")
    ]
    tables[0]["jacobian"] = [
        value for role, name in model.modalities.items() for value in compare_with_jacobian(model, mdata, role, name)
    ]
    table = pd.concat(tables, ignore_index=True)
    table.insert(0, "seed", seed)
    table.insert(0, "data", stem)
    return table


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    train_quietly()
    found = []
    for data in arguments.data:
        for seed in range(arguments.seeds):
            found.append(run(data, seed))
            print(
                found[-1][
                    ["data", "seed", "modality", "kind", "dimension", "r2_beyond_labels", "covariates"]
                ].to_string()
            )
            if arguments.output:
                pd.concat(found, ignore_index=True).round(4).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
