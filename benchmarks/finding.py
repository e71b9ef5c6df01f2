"""Find which dimension of each method follows a gene programme, and whether it follows cell types.

    python benchmarks/finding.py liu2021_covid.h5mu:mergedcelltype:Donor:cond_group pbmc10k.h5mu:cell_type teaseq.h5mu:cell_type \
        --seeds 3 --latents latents --output results/finding.csv --figure ../docs/images/finding.png

A data set is given as ``FILE:LABELS:DONORS:GROUPS``, the last two if available; from larger data
sets ``--cells`` are drawn, the same as in peers.py. Half of the donors (or of the cells, if donors
are unknown), drawn by the seed, is used for discovery, the other half for replication. The score of
a programme is the mean of its genes, log-normalised and with mean 0 and variance 1 in the discovery
half; programmes are those of ``tl.feature_sets``.

For each method, the dimension with the largest absolute correlation with the score is chosen in the
discovery half. Figures of the replication half: the correlation (``r``, with the sign found in the
discovery half), the share of the dimension's variance that cell types explain (``eta2``;
``eta2_score`` for the score), and the correlation within cell types (``r_within``, after the mean
of each type is subtracted from both). Rows with ``chosen_by`` "within" choose by the correlation
within cell types. ``r2_all`` is the R2 of the score from all dimensions of the method; ``highest``
and ``lowest`` are the genes with the largest correlations with the dimension within cell types, and
these correlations.

- ``RNA-specific``, ``shared RNA``: IndiSeek, trained on the discovery half only;
- ``PCA of RNA``: 30 components of log-normalised genes of the discovery half;
- ``MOFA+``, ``TOTALVI``: as in peers.py, which computes their representations (``--latents``);
  **they are fitted to both halves**, without labels and scores.

Donors of two groups are compared by the mean of the chosen dimension over all their cells of a type
in the file (10 or more), in the replication half only: area under the curve (the probability that a
donor of the first group in alphabetical order has the smaller mean) and Mann-Whitney test over
donors. MOFA+ encodes no new cells and has no such row.
"""

from __future__ import annotations

import argparse
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from _peers import N_COMPONENTS, Fitted, cached, draw, fit_mofa, fit_totalvi, hold_out, train_ours
from _quiet import train_quietly
from main_job import read_inputs
from peers import read_labels
from scipy.stats import mannwhitneyu
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from indiseek_sc import tl
from indiseek_sc._lookup import find_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from anndata import AnnData
    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

    from indiseek_sc import IndiSeek

PROGRAMMES = ("interferon response", "dissociation stress")
FEWEST_GENES = 5
FEWEST_CELLS = 10
N_GENES = 10
MOST_LABELS = 5
"""Number of cell types in the figure of donors."""
METHODS = ("RNA-specific", "shared RNA", "PCA of RNA", "MOFA+", "TOTALVI")
COLOURS = dict(zip(METHODS, ("#0072B2", "#56B4E9", "#999999", "#E69F00", "#D55E00"), strict=True))


class Data(NamedTuple):
    """A file and its columns."""

    path: str
    labels: str
    donors: str | None = None
    groups: str | None = None

    @property
    def name(self) -> str:
        """Name of the file, without its folder."""
        return Path(self.path).stem


def divide(donors: NDArray, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask of the discovery cells: those of half of the donors."""
    names = rng.permutation(np.unique(donors))
    return np.isin(donors, names[: len(names) // 2])


def log_normalise(mdata: MuData) -> AnnData:
    """Return RNA, log-normalised to 10,000 counts a cell."""
    rna = mdata["rna"].copy()
    sc.pp.normalize_total(rna, target_sum=1e4)
    sc.pp.log1p(rna)
    return rna


def to_array(matrix: Any) -> NDArray:
    """Return a matrix as a dense array."""
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)


def score_programmes(mdata: MuData, rows: NDArray) -> pd.DataFrame:
    """Return scores of all cells by programme, except programmes with few measured genes.

    Genes have mean 0 and variance 1 in ``rows``.
    """
    rna = log_normalise(mdata)
    sets = tl.feature_sets(mdata, modalities={"rna": "rna", "adt": "adt"})
    scores = {}
    for programme in PROGRAMMES:
        genes = sets.loc[sets["source"] == programme, "target"].tolist()
        if len(genes) >= FEWEST_GENES:
            values = to_array(rna[:, genes].X)
            scores[programme] = StandardScaler().fit(values[rows]).transform(values).mean(axis=1)
    return pd.DataFrame(scores)


def subtract_means(values: NDArray, labels: NDArray) -> NDArray:
    """Return values minus the mean of their label, shape as ``values``."""
    return values - pd.DataFrame(values).groupby(labels).transform("mean").to_numpy().reshape(values.shape)


def eta_squared(values: NDArray, labels: NDArray) -> float:
    """Return the share of the variance of values, shape ``(n_cells,)``, that is between labels."""
    return float(1 - subtract_means(values, labels).var() / values.var())


def correlate(latent: NDArray, score: NDArray) -> NDArray:
    """Return the Pearson correlation of each dimension with a score; 0 for constant dimensions."""
    latent, score = latent - latent.mean(axis=0), score - score.mean()
    norms = np.sqrt(np.square(latent).sum(axis=0) * np.square(score).sum())
    return np.divide(latent.T @ score, norms, out=np.zeros(latent.shape[1]), where=norms > 1e-12)


def pick(latent: NDArray, score: NDArray, labels: NDArray | None = None) -> tuple[int, float]:
    """Return the dimension most correlated with a score (within labels, if any), and its sign."""
    if labels is not None:
        latent, score = subtract_means(latent, labels), subtract_means(score, labels)
    found = correlate(latent, score)
    best = int(np.abs(found).argmax())
    return best, float(np.sign(found[best]))


def evaluate(latent: NDArray, score: NDArray, labels: NDArray, discovery: NDArray, replication: NDArray) -> list[dict]:
    """Choose a dimension on discovery cells, and evaluate it on others by two criteria."""
    ridge = RidgeCV(np.logspace(-3, 4, 8)).fit(latent[discovery], score[discovery])
    rest = ridge.score(latent[replication], score[replication])
    rows = []
    for way, given in (("correlation", None), ("within", labels[discovery])):
        best, sign = pick(latent[discovery], score[discovery], given)
        values, wanted, of = latent[replication, best], score[replication], labels[replication]
        within = correlate(subtract_means(values, of)[:, None], subtract_means(wanted, of))
        rows.append(
            {
                "chosen_by": way,
                "dimension": best + 1,
                "sign": sign,
                "r": sign * correlate(values[:, None], wanted)[0],
                "eta2": eta_squared(values, of),
                "r_within": sign * within[0],
                "eta2_score": eta_squared(wanted, of),
                "r2_all": rest,
            }
        )
    return rows


def find_genes(rna: AnnData, values: NDArray, labels: NDArray) -> dict[str, str]:
    """Return the genes with the highest and lowest correlation with values within labels.

    ``rna`` is log-normalised; the arrays have shape ``(n_cells,)``.
    """
    found = correlate(subtract_means(to_array(rna.X), labels), subtract_means(values, labels))
    order = np.argsort(found)
    ends = {"highest": order[: -N_GENES - 1 : -1], "lowest": order[:N_GENES]}
    return {end: " ".join(f"{rna.var_names[i]} {found[i]:.2f}" for i in genes) for end, genes in ends.items()}


def compare_donors(values: NDArray, labels: NDArray, donors: NDArray, groups: NDArray) -> pd.DataFrame:
    """Compare donors of two groups by their mean values in the cells of each label.

    All arrays have shape ``(n_cells,)``.
    """
    table = pd.DataFrame({"value": values, "label": labels, "donor": donors, "group": groups})
    means = table.groupby(["label", "donor", "group"])["value"].agg(["mean", "size"]).reset_index()
    rows = []
    for label, of_label in means[means["size"] >= FEWEST_CELLS].groupby("label"):
        first, second = (of_label.loc[of_label["group"] == group, "mean"] for group in np.unique(groups))
        if min(len(first), len(second)) < 3:
            continue
        found = mannwhitneyu(second, first)
        auc = found.statistic / (len(first) * len(second))
        rows.append({"label": label, "n_first": len(first), "n_second": len(second), "auc": auc, "p": found.pvalue})
    return pd.DataFrame(rows)


def make_latents(
    data: Data,
    every: MuData,
    mdata: MuData,
    discovery: NDArray,
    seed: int,
    fitted_seeds: Mapping[str, int],
    folder: Path,
) -> dict[str, Fitted]:
    """Return representations by method, read from a folder if they are there.

    Methods are trained on the discovery half, MOFA+ and TOTALVI on both.
    """
    rows = every.obs_names.get_indexer(mdata.obs_names)

    @cache
    def train(of_seed: int, *, in_full: bool) -> IndiSeek:
        if in_full:
            return train_ours(mdata, of_seed, np.setdiff1d(np.arange(mdata.n_obs), discovery))
        return train_ours(mdata, of_seed, hold_out(mdata.n_obs, of_seed), max_epochs=0)  # selects the genes of peers.py

    def encode(kind: str) -> Fitted:
        model = train(seed, in_full=True)
        of_all = model.get_latent_representation(every, kind=kind, modality="rna")
        return Fitted(of_all[rows], every=of_all)

    def find_components() -> Fitted:
        features = read_inputs(every, train(seed, in_full=True), rows[discovery])["plain"]["rna"]
        components = features[:, : N_COMPONENTS["rna"]]
        return Fitted(components[rows], every=components)

    fits = {
        "RNA-specific": (f"halves_{seed}", partial(encode, "specific")),
        "shared RNA": (f"halves_{seed}", partial(encode, "shared")),
        "PCA of RNA": (f"halves_{seed}", find_components),
    }
    for method, of_seed in fitted_seeds.items():
        fit, others = (fit_mofa, ()) if method == "MOFA+" else (fit_totalvi, (every,))

        def fit_both(of_seed: int = of_seed, fit: Callable = fit, others: tuple = others) -> Fitted:
            return fit(mdata, train(of_seed, in_full=False), of_seed, *others)

        fits[method] = (str(of_seed), fit_both)
    return {
        method: cached(folder / f"{data.name}_{method}_{suffix}.npz", fit) for method, (suffix, fit) in fits.items()
    }


def run(
    data: Data, seed: int, n_cells: int, fitted_seeds: Mapping[str, int], folder: Path
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of all methods and programmes, and those of donors, for one file and seed."""
    every, mdata = draw(data.path, n_cells)
    rows = every.obs_names.get_indexer(mdata.obs_names)
    donors = np.arange(every.n_obs) if data.donors is None else find_labels(every, data.donors, "donors").astype(str)
    donors, labels = np.asarray(donors), read_labels(every, data.labels)
    known = labels.notna().to_numpy()
    labels = labels.astype(str).to_numpy()
    drawn_donors, is_known = donors[rows], known[rows]
    is_for_discovery = divide(drawn_donors, np.random.default_rng(seed))
    scores = score_programmes(every, rows[is_for_discovery])
    latents = make_latents(data, every, mdata, np.flatnonzero(is_for_discovery), seed, fitted_seeds, folder)
    parts = [np.flatnonzero(part & is_known) for part in (is_for_discovery, ~is_for_discovery)]
    rna = log_normalise(mdata)[parts[1]]
    is_new = ~np.isin(donors, drawn_donors[is_for_discovery]) & known
    found, compared = [], []
    for programme, score in scores.items():
        about = {"data": data.name, "programme": programme, "seed": seed}
        for method, (latent, _, of_all) in latents.items():
            scored = evaluate(latent, score.to_numpy()[rows], labels[rows], *parts)
            for row in scored:
                values = row["sign"] * latent[parts[1], row["dimension"] - 1]
                genes = find_genes(rna, values, labels[rows][parts[1]])
                found.append({**about, "method": method, **row, **genes})
            if data.groups is not None and of_all is not None:
                values = scored[0]["sign"] * of_all[is_new, scored[0]["dimension"] - 1]
                groups = find_labels(every, data.groups, "groups").astype(str).to_numpy()
                table = compare_donors(values, labels[is_new], donors[is_new], groups[is_new])
                compared.append(table.assign(**about, method=method))
        if data.groups is not None:
            table = compare_donors(score.to_numpy()[is_new], labels[is_new], donors[is_new], groups[is_new])
            compared.append(table.assign(**about, method="score"))
    return pd.DataFrame(found), pd.concat(compared) if compared else pd.DataFrame()


def draw_figure(found: pd.DataFrame, compared: pd.DataFrame, path: Path) -> None:
    """Draw how closely chosen dimensions follow cell types and programmes, and donors."""
    found = found[found["chosen_by"] == "correlation"]
    programmes, names = (found[key].unique() for key in ("programme", "data"))
    n_columns = len(names) + (not compared.empty)
    shape = {"nrows": len(programmes), "ncols": n_columns, "squeeze": False}
    figure, axes = plt.subplots(figsize=(3 * n_columns, 2.9 * len(programmes) + 0.5), **shape)
    for of_row, programme in zip(axes, programmes, strict=True):
        for axis, data in zip(of_row, names, strict=False):
            rows = found[(found["programme"] == programme) & (found["data"] == data)]
            for method in METHODS:
                of_method = rows[rows["method"] == method]
                axis.scatter(of_method["eta2"], of_method["r_within"], s=36, color=COLOURS[method], label=method)
            axis.axvline(rows["eta2_score"].mean(), color="0.6", linewidth=1, linestyle="--", label="eta² of the score")
            axis.axhline(0, color="0.85", linewidth=0.8, zorder=0)
            axis.set(xlim=(-0.05, 1.05), ylim=(-0.4, 1))
            axis.set_title(f"{programme}\n{data}", fontsize=9)
            axis.set_xlabel("eta² of cell types", fontsize=9)
            axis.set_ylabel("correlation within types" if axis is of_row[0] else "", fontsize=9)
        if not compared.empty:
            draw_donors(of_row[-1], compared[compared["programme"] == programme])
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="upper center", ncols=len(labels), frameon=False, fontsize=9)
    figure.tight_layout(rect=(0, 0, 1, 0.95))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_donors(axis: Axes, compared: pd.DataFrame) -> None:
    """Draw the area under the curve of donors for the cell types with most donors."""
    sizes = compared[compared["method"] == "score"].groupby("label")[["n_first", "n_second"]].agg(["sum", "size"])
    is_whole = sizes["n_first", "size"] == compared["seed"].nunique()
    n_donors = sizes.loc[is_whole, [("n_first", "sum"), ("n_second", "sum")]].sum(axis=1)
    labels = n_donors.sort_values().index[-MOST_LABELS:].tolist()
    drawn = [*(method for method in METHODS if method in set(compared["method"])), "score"]
    for number, method in enumerate(drawn):
        rows = compared[(compared["method"] == method) & compared["label"].isin(labels)]
        heights = [labels.index(label) + 0.12 * (number - (len(drawn) - 1) / 2) for label in rows["label"]]
        colour = COLOURS.get(method, "black")
        axis.scatter(rows["auc"], heights, s=16, color=colour, marker="o" if method in COLOURS else "x")
    axis.axvline(0.5, color="0.85", linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(labels)), labels, fontsize=8)
    axis.set_xlim(-0.02, 1.05)
    axis.set_xlabel("AUC of new donors (x: the score)", fontsize=9)
    axis.set_title("donors of two groups\n" + ", ".join(compared["data"].unique()), fontsize=9)


def show(found: pd.DataFrame, by: list[str], figures: list[str]) -> str:
    """Return means and standard deviations over seeds as a Markdown table."""
    lines = [f"| {' | '.join([*by, *figures])} |", "|---" * (len(by) + len(figures)) + "|"]
    for names, rows in found.groupby(by, sort=False):
        spread = [f"{rows[figure].mean():.2f} ± {rows[figure].std():.2f}" for figure in figures]
        lines.append(f"| {' | '.join([*map(str, names), *spread])} |")
    return "\n".join(lines)


def main() -> None:
    """Read the command line, run, and write the tables as they grow."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="FILE:LABELS[:DONORS:GROUPS]")
    parser.add_argument("--cells", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--mofa-seeds", type=int, default=3, help="number of MOFA+ fits, shared by the splits; 0 for none"
    )
    parser.add_argument("--totalvi-seeds", type=int, default=1, help="number of TOTALVI fits, likewise")
    parser.add_argument(
        "--latents", type=Path, default=Path("latents"), help="folder of representations, as in peers.py"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("finding.csv"), help="table; that of donors is written beside it"
    )
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    train_quietly()
    mpl.use("Agg")
    found, compared = [], []
    for name in arguments.data:
        data = Data(*name.split(":"))
        for seed in range(arguments.seeds):
            n_fits = {"MOFA+": arguments.mofa_seeds, "TOTALVI": arguments.totalvi_seeds}
            fitted_seeds = {method: seed % n for method, n in n_fits.items() if n}
            of_seed = run(data, seed, arguments.cells, fitted_seeds, arguments.latents)
            for tables, table, path in zip(
                (found, compared),
                of_seed,
                (arguments.output, arguments.output.with_stem(f"{arguments.output.stem}_donors")),
                strict=True,
            ):
                tables.append(table)
                pd.concat(tables).to_csv(path, index=False)
            print(of_seed[0].round(3).to_string(index=False), "\n", flush=True)
    everything = pd.concat(found)
    by = ["data", "programme", "method", "chosen_by"]
    print(show(everything, by, ["r", "eta2", "r_within", "eta2_score", "r2_all"]))
    if not (donors := pd.concat(compared)).empty:
        print(show(donors, ["data", "programme", "label", "method"], ["auc", "p"]))
    if arguments.figure is not None:
        draw_figure(everything, donors, arguments.figure)


if __name__ == "__main__":
    main()
