"""Rank correlation of theta with WNN weights along lambda (figure 5 of the paper), with intervals over refits.

    python benchmarks/rho_refits.py teaseq.h5mu pbmc10k.h5mu liu2021_covid.h5mu --output rho_refits.csv

At each lambda both stages are trained on halves of the cells (``model.write_refits``, four refits by
default); theta is that of the cells that a refit has not seen. The intervals of
``tl.rank_correlation`` are over cells, training cells and seeds. Labels are read for the
rank correlation alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from _disentangle_evaluate import get_wnn_weights
from _quiet import train_quietly
from main_job import find_labels, read

from indiseek_sc import IndiSeek, tl

LAMBDAS = (1.0, 100.0, 10_000.0)
KINDS = ("shared", "specific", "both")


def run(data: str, lambda_: float, n_cells: int, n_refits: int, seed: int) -> pd.DataFrame:
    """Return the rank correlation of each kind of representation at one lambda."""
    mdata = read(data, n_cells)
    mdata.obs["label"] = find_labels(mdata)
    IndiSeek.setup_mudata(mdata)
    model = IndiSeek(mdata, seed=seed)
    model.train(0, lambda_, enable_progress_bar=False)  # refits take the settings and lambda of the model only
    model.write_latents()
    model.write_refits(n_refits, seed=seed, enable_progress_bar=False)
    roles = {role: role for role in model.modalities}
    features = {role: model.get_features(modality=role) for role in roles}
    mdata.obs["wnn"], source = get_wnn_weights(mdata, roles, features)
    table = tl.rank_correlation(mdata, "label", latents=KINDS, weight_key="wnn", seed=seed)
    table = table[table["statistic"] == "spearman"].assign(data=Path(data).stem, weights=source)
    return table.assign(n_cells=mdata.n_obs, n_refits=n_refits, seed=seed, **{"lambda": lambda_})


def main() -> None:
    """Read the command line, run, and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--refits", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("rho_refits.csv"))
    arguments = parser.parse_args()
    train_quietly()
    tables = []
    for data in arguments.data:
        for lambda_ in LAMBDAS:
            tables.append(run(data, lambda_, arguments.cells, arguments.refits, arguments.seed))
            pd.concat(tables).to_csv(arguments.output, index=False)
            columns = ["data", "lambda", "latent", "estimate", "lower", "upper", "n_labels"]
            print(tables[-1][columns].round(3).to_string(index=False, header=False), flush=True)


if __name__ == "__main__":
    main()
