"""Compare the training bounds of the published recipe with the leak that an audit finds.

    python benchmarks/loophole.py --output loophole.csv --figure docs/images/loophole.png

Stage 1 of ``preset="paper"`` is trained once for each seed, then stage 2 from these
representations, as published and with one change at a time; finally the default design, with its
own shared representations. Cells are drawn from the bundled data (or from an h5mu with counts in
``rna`` and ``adt``); a third of them are held out. The published recipe has 2,000 epochs at a
learning rate of 1e-4; here it has ``--epochs`` at ten times this learning rate, so that it takes
minutes on two cores. All other settings are those published: widths of 50, five layers, batches of
128, five critic steps per step, lambda 10.

Each row of the table is one seed, variant, epoch of stage 2 and modality: ``bound``, the sum of the
critics' bounds on validation cells in nats; ``std``, the standard deviation of a dimension of the
representation (root of the mean variance); ``leak_ratio`` by newly fitted probes on held-out cells;
``gain``. ``--redraw`` draws the figure from an existing table.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import matplotlib.pyplot as plt
import mudata
import numpy as np
import pandas as pd
import torch
from _changed import make_changed
from _slides import SLIDES

from indiseek_sc import datasets
from indiseek_sc._keys import ROLES
from indiseek_sc.model._cells import read_features
from indiseek_sc.pl import PALETTE, display_name, finish
from indiseek_sc.train import SpecificPlan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

    from indiseek_sc import IndiSeek
    from indiseek_sc.metrics import SpecificAuditor

VARIANTS: dict[str, dict[str, Any]] = {
    "published": {},
    "free variance": {"independence": "gaussian"},
    "standardised": {"standardize": True},
    "standardised, free variance": {"standardize": True, "independence": "gaussian"},
    "standardised, free variance, NCE": {"standardize": True, "independence": "gaussian+nce"},
}
"""Changes of the published recipe in stage 2."""

DEFAULT = "default design"
MARKERS = {"rna": "o", "adt": "s"}
COLORS = (PALETTE[3], PALETTE[1], PALETTE[5], PALETTE[4], PALETTE[0], PALETTE[2])
LEARNING_RATES = {f"{name}learning_rate": 1e-3 for name in ("", "specific_", "critic_")}


class Recorder(pl.Callback):
    """Record bounds and representations at some epochs of stage 2.

    Parameters
    ----------
    model
        The model, whose shared representations are trained.
    epochs
        Epochs to record in addition to the last one; 0 is before training.
    """

    def __init__(self, model: IndiSeek, epochs: list[int]) -> None:
        self.epochs = epochs
        rows = np.arange(model.adata.n_obs)
        self.features = {role: read_features(model, model.adata, role, rows) for role in ROLES}
        self.recorded: list[dict[str, Any]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record bounds and representations at the chosen epochs."""
        epoch = 0 if trainer.sanity_checking else trainer.current_epoch + 1
        if not isinstance(pl_module, SpecificPlan) or epoch not in [*self.epochs, trainer.max_epochs]:
            return
        figures = {k: float(v) for k, v in trainer.callback_metrics.items() if k.endswith("_validation_bound")}
        bounds = {role: sum(v for k, v in figures.items() if k.startswith(f"{role}_")) for role in ROLES}
        module = pl_module.module  # the copy in training, not the model's module
        features = {role: x.to(module.device) for role, x in self.features.items()}
        latents = module.describe(features, torch.zeros(len(features["rna"]), dtype=torch.long, device=module.device))
        kinds = {k: {role: latents[k][role].cpu().numpy() for role in ROLES} for k in ("specific", "reconstruction")}
        self.recorded.append({"epoch": epoch, "bound": bounds, **kinds})


def train_recorded(
    model: IndiSeek, auditor: SpecificAuditor, n_epochs: int, n_records: int, **kwargs: Any
) -> pd.DataFrame:
    """Train stage 2, and evaluate it at some of its epochs."""
    recorder = Recorder(model, [0, *np.geomspace(1, n_epochs, n_records).round().astype(int).tolist()])
    model.train(stages=("specific",), callbacks=[recorder], enable_progress_bar=False, **kwargs)
    return pd.concat([evaluate(auditor, **values) for values in recorder.recorded])


def evaluate(
    auditor: SpecificAuditor,
    epoch: int,
    bound: dict[str, float],
    specific: dict[str, np.ndarray],
    reconstruction: dict[str, np.ndarray],
) -> pd.DataFrame:
    """Return figures of specific representations, one row for each modality."""
    table = auditor(specific, reconstruction)[["leak_ratio", "gain"]].rename_axis("modality").reset_index()
    table["bound"] = [bound[role] for role in table["modality"]]
    table["std"] = [float(np.sqrt(specific[role].var(axis=0).mean())) for role in table["modality"]]
    return table.assign(epoch=epoch)


def run(mdata: MuData, seed: int, n_epochs: int, n_records: int) -> pd.DataFrame:
    """Evaluate all variants with one split."""
    held_out = np.random.default_rng(seed).permutation(mdata.n_obs)[: mdata.n_obs // 3]
    published = make_changed(mdata, LEARNING_RATES, preset="paper", seed=seed)
    published.train(stages=("shared",), held_out=held_out, max_epochs=n_epochs, enable_progress_bar=False)
    auditor = published.make_auditor(seed=seed)
    tables = []
    for name, changes in VARIANTS.items():
        start = time.perf_counter()
        model = make_changed(mdata, LEARNING_RATES | changes, preset="paper", seed=seed)
        model.take_over(published)
        table = train_recorded(model, auditor, n_epochs, n_records, max_epochs={"specific": n_epochs})
        tables.append(table.assign(variant=name))
        report(tables[-1], seed, time.perf_counter() - start)

    tables.append(run_default(mdata, held_out, seed, n_records))
    return pd.concat(tables).assign(seed=seed)


def run_default(mdata: MuData, held_out: np.ndarray, seed: int, n_records: int) -> pd.DataFrame:
    """Evaluate the default design, whose critics are trained alone first.

    Encoders are trained even where validation cells show no dependence, so that there are bounds.
    """
    start = time.perf_counter()
    model = make_changed(mdata, {}, seed=seed)
    model.train(stages=("shared",), held_out=held_out, enable_progress_bar=False)
    n_epochs = model.settings.optimisation.max_epochs_specific
    table = train_recorded(
        model, model.make_auditor(seed=seed), n_epochs, n_records, plan_kwargs={"gate_critics": False}
    ).assign(variant=DEFAULT)
    report(table, seed, time.perf_counter() - start)
    return table


def report(table: pd.DataFrame, seed: int, seconds: float) -> None:
    """Print the final figures of a variant."""
    last = table[table["epoch"] == table["epoch"].max()]
    print(f"seed {seed}, {last['variant'].iloc[0]}, {seconds:.0f} s")
    print(last.drop(columns="variant").round(3).to_string(index=False), flush=True)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw bounds and leaks during training (published recipe) and at its end (all variants)."""
    with plt.rc_context(SLIDES):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(10.5, 4.2), width_ratios=(1, 1.2), sharey=True, layout="constrained"
        )
        _draw_course(left, table[table["variant"] == "published"])
        _draw_ends(right, table)
        left.set_ylim(-0.03, 1.03)
        finish(figure, (left, right), show=False, save=path)


def _draw_course(ax: Axes, table: pd.DataFrame) -> None:
    for role, dash in zip(ROLES, ("-", "--"), strict=True):
        of_role = table[table["modality"] == role]
        for _, course in of_role.groupby("seed"):
            ax.plot(course["epoch"], course["leak_ratio"], dash, color=COLORS[0], marker=MARKERS[role])
            ax.plot(course["epoch"], course["bound"], dash, color="0.45", marker=MARKERS[role], markersize=4)
        y = 1.0 if role == ROLES[0] else of_role["leak_ratio"].min() - 0.03
        ax.text(1, y, f"leak ratio, {display_name(role)}", color=COLORS[0], ha="center", va="top")
    ax.text(1, 0.1, "bound in nats, both", color="0.35", ha="center")
    ax.set_xscale("symlog", linthresh=1)
    ax.set_xticks([0, 1, 10, table["epoch"].max()], ["0", "1", "10", str(table["epoch"].max())])
    ax.set(xlabel="epoch of stage 2", ylabel="leak ratio on held-out cells (0 is best)")
    ax.set_title("Published recipe", loc="left")


def _draw_ends(ax: Axes, table: pd.DataFrame) -> None:
    ends = table[table["epoch"] == table.groupby("variant")["epoch"].transform("max")]
    ax.axvline(0, color="0.8", linewidth=1, zorder=0)
    for color, (variant, points) in zip(COLORS, ends.groupby("variant", sort=False), strict=True):
        for role, marker in MARKERS.items():
            of_role = points[points["modality"] == role]
            ax.plot(of_role["bound"], of_role["leak_ratio"], marker, color=color, markersize=9, alpha=0.85)
        ax.plot([], [], "D", color=color, markersize=8, label=variant)
    for role, marker in MARKERS.items():
        ax.plot([], [], marker, color="0.3", fillstyle="none", markersize=9, label=display_name(role))
    ax.set_xlabel("training bound on validation cells, nats")
    ax.set_title("All variants, trained", loc="left")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def main() -> None:
    """Read the command line, run, and write table and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", help="h5mu; the bundled data if not given")
    parser.add_argument("--n-cells", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--records", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("loophole.csv"))
    parser.add_argument("--figure", type=Path, default=Path("loophole.png"))
    parser.add_argument("--redraw", action="store_true")
    arguments = parser.parse_args()
    logging.getLogger("scvi").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="mudata")
    torch.set_num_threads(1)
    if not arguments.redraw:
        whole = datasets.pbmc_covid() if arguments.data is None else mudata.read_h5mu(arguments.data)
        few = np.sort(np.random.default_rng(0).permutation(whole.n_obs)[: arguments.n_cells])
        tables = []
        for seed in range(arguments.seeds):
            tables.append(run(whole[few].copy(), seed, arguments.epochs, arguments.records))
            pd.concat(tables).to_csv(arguments.output, index=False)
    draw(pd.read_csv(arguments.output), arguments.figure)


if __name__ == "__main__":
    main()
