"""The pipeline of ``fit`` and ``demo``, and the report of an existing file."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek, _keys, tl
from indiseek_sc._lookup import find_labels, find_obs
from indiseek_sc._recognise import check_not_peaks, find_modalities
from indiseek_sc.cli._maps import CLUSTERS, MapMaker
from indiseek_sc.cli._outcome import warn_on_error
from indiseek_sc.cli._summary import PAGE, TABLES, draw_figures, format_summary, summarize, write_json
from indiseek_sc.io import read, read_anndata_or_mudata, write
from indiseek_sc.model import EarlyEndWarning
from indiseek_sc.report import Material, check_latents, collect_facts, summarize_dimensions, write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pandas as pd

    from indiseek_sc._keys import Role
    from indiseek_sc.cli._outcome import Clock
    from indiseek_sc.metrics import AuditReport

HELD_OUT = 0.2
"""Share of the cells that are held out of the training for the audit."""

MOST_CELLS_IN_PROCESSES = 50_000
"""With more cells, refits are trained sequentially, because each process copies the data."""

WRITTEN_BY_SCANPY = (
    ("obs", CLUSTERS),
    ("obsm", "X_umap"),
    ("obsp", "connectivities"),
    ("obsp", "distances"),
    ("uns", "neighbors"),
    ("uns", CLUSTERS),
    ("uns", "umap"),
)
"""Entries that scanpy overwrites, by attribute and name."""


@dataclass(frozen=True)
class Job:
    """Options of ``indiseek-sc fit``; see ``indiseek-sc fit --help``."""

    source: str
    rna: str = "rna"
    adt: str = "adt"
    rna_layer: str | None = None
    adt_layer: str | None = None
    batch_key: str | None = None
    categorical_covariates: tuple[str, ...] = ()
    continuous_covariates: tuple[str, ...] = ()
    label_key: str | None = None
    color_keys: tuple[str, ...] = ()
    lambda_: float | Literal["auto"] | None = None
    n_top_genes: int | None = None
    seed: int = 0
    max_epochs: int | None = None
    accelerator: str = "auto"
    n_threads: int = 1
    predict: bool = False
    n_refits: int = 4
    sample_key: str | None = None
    checkpoint: Path | None = None
    rna_input: Literal["auto", "counts", "normalized"] = "auto"
    adt_input: Literal["auto", "counts", "normalized"] = "auto"
    exclude: tuple[str, ...] | None = None


def read_input(path: Path, *, rna: str | None = None, adt: str | None = None) -> tuple[MuData, dict[Role, str]]:
    """Read a file into memory, and find its two modalities.

    Parameters
    ----------
    path
        File or folder in any format of :func:`indiseek_sc.read`.
    rna, adt
        Names given by the user, if any.

    Returns
    -------
    The data, and the name of the modality in each role.

    Raises
    ------
    ValueError
        If the file cannot be read, or RNA or proteins are not found.
    """
    mdata = read(path, rna=rna, adt=adt)
    # Names of obsm entries or feature types were resolved on reading.
    given = {role: name if name in mdata.mod else None for role, name in (("rna", rna), ("adt", adt))}
    names = find_modalities(mdata, given, "--{role} NAME")  # type: ignore[arg-type]
    for role, name in names.items():
        check_not_peaks(mdata, name, role)
    return mdata, names


def read_encoded(path: Path) -> MuData:
    """Read a MuData with representations.

    Raises
    ------
    ValueError
        If the file does not contain a MuData.
    """
    mdata = read_anndata_or_mudata(path)
    if not isinstance(mdata, MuData):
        raise ValueError(
            f"{path} does not contain a MuData with representations. Pass an .h5mu or .zarr file written by fit."
        )
    return mdata


def run_job(
    mdata: MuData,
    job: Job,
    clock: Clock,
    *,
    output: Path,
    report: Path | None,
    model_folder: Path | None = None,
    keep: Callable[[], object] = lambda: None,
) -> None:
    """Run the pipeline, and write its results.

    The cells and the model are written before figures are drawn; failure of a figure is a warning.

    Parameters
    ----------
    mdata
        Data, to which representations, clusters, UMAPs and theta are added.
    job
        Options.
    clock
        Reports progress.
    output
        File to write.
    report
        Existing folder for figures and summaries; none are written if None.
    model_folder
        Existing folder for the model; it is not saved if None.
    keep
        Called when the file and the model are complete.
    """
    with clock.step("Preparing the data"), clock.relaying("scvi"):
        model = _set_up(mdata, job)
    audit = None
    with MapMaker() as maps:
        with clock.step("Training on four fifths of the cells"), clock.relaying("scvi"):
            _train(model, job)
            model.write_latents()
        _begin_maps(maps, mdata, job)
        if job.n_refits:
            with (
                clock.step(f"Training {job.n_refits} refits on halves of the cells to estimate intervals"),
                warn_on_error("Refits, and therefore claims about labels,"),
            ):
                _refit(model, job)
        if job.predict:
            with clock.step("Training the prediction of each modality from the other"):
                model.train_prediction(job.max_epochs, accelerator=job.accelerator)
        if report is not None:
            with (
                clock.step("Auditing the representations on held-out cells"),
                warn_on_error("The audit, and therefore the report,"),
            ):
                audit = model.audit(seed=job.seed)
        with clock.step("Computing neighbours, clusters and UMAPs of the representations"):
            _rename_earlier_results(mdata, clock)
            _copy_maps(mdata, maps.finish())
    table = None
    with warn_on_error("Modality importance (theta), and therefore the report,"):
        table = _compute_theta(mdata, job, clock)
    with (
        clock.step("Describing the dimensions"),
        clock.relaying("scvi"),
        warn_on_error("The table of dimensions"),
    ):
        tl.describe_dimensions(mdata, job.label_key or CLUSTERS, seed=job.seed)
    with clock.step("Writing the cells"):
        write(mdata, output, rna=job.rna, adt=job.adt, adt_layer=job.adt_layer)
    if model_folder is not None:
        with clock.step("Saving the model"):
            model.save(str(model_folder), overwrite=True)
    keep()
    if report is not None and audit is not None and table is not None:
        try:
            _report(model, mdata, table, audit, job, clock, report)
        except KeyboardInterrupt as interruption:
            raise KeyboardInterrupt(
                "the cells and the model are complete, but the report was not written"
            ) from interruption


def _set_up(mdata: MuData, job: Job) -> IndiSeek:
    """Check the options, and return an untrained model."""
    if job.sample_key is not None:
        find_labels(mdata, job.sample_key, "--sample-key")
    if job.label_key is not None:  # before the training, which takes minutes
        found = find_labels(mdata, job.label_key, "--label-key").cat.categories
        if len(found) < 2:
            raise ValueError(
                f"--label-key: {job.label_key!r} has {f'only one label, {found[0]!r}' if len(found) else 'no labels'}, but "
                "theta compares labels. Name another column, or omit --label-key to use clusters."
            )
    IndiSeek.setup_mudata(
        mdata,
        rna_layer=job.rna_layer,
        adt_layer=job.adt_layer,
        batch_key=job.batch_key,
        categorical_covariate_keys=job.categorical_covariates,
        continuous_covariate_keys=job.continuous_covariates,
        modalities={"rna_layer": job.rna, "adt_layer": job.adt},
        rna_input=job.rna_input,
        adt_input=job.adt_input,
        exclude=job.exclude,
    )
    return IndiSeek(mdata, seed=job.seed, n_top_genes=job.n_top_genes)


def _train(model: IndiSeek, job: Job) -> None:
    """Train the model; raise an error if training is interrupted or fails."""
    n_cells = model.adata.n_obs
    held_out = np.random.default_rng(job.seed).permutation(n_cells)[: round(HELD_OUT * n_cells)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EarlyEndWarning)  # an early end is reported below
        outcome = model.train(
            job.max_epochs,
            job.lambda_,
            held_out=held_out,
            accelerator=job.accelerator,
            n_threads=job.n_threads,
            checkpoint_dir=job.checkpoint,
        )
    # Representations of an incomplete training are not written.
    if outcome.is_interrupted:
        raise KeyboardInterrupt(
            "nothing was written, but the same command resumes after the last completed stage"
            if job.checkpoint and outcome.fits[0].reason is None
            else ""
        )
    if outcome.reason is not None:
        raise RuntimeError(f"{outcome.reason} Nothing was written.")


def _refit(model: IndiSeek, job: Job) -> None:
    """Train refits of the model."""
    on_cpu = model.device.type == "cpu"
    is_small = model.adata.n_obs <= MOST_CELLS_IN_PROCESSES
    model.write_refits(
        job.n_refits,
        sample_key=job.sample_key,
        n_jobs=min(2, os.cpu_count() or 1) if on_cpu and is_small else 1,
        seed=job.seed,
        max_epochs=job.max_epochs,
        accelerator=job.accelerator,
        n_threads=job.n_threads,
    )


def _rename_earlier_results(mdata: MuData, clock: Clock) -> None:
    """Rename entries that scanpy would overwrite.

    Nothing is renamed if the entries were written by an earlier run of this pipeline.
    """
    if f"{_keys.IMPORTANCE}_params" in mdata.uns:
        return
    renamed = [
        (place, key, f"{key}_before_indiseek") for place, key in WRITTEN_BY_SCANPY if key in getattr(mdata, place)
    ]
    for place, key, name in renamed:
        getattr(mdata, place)[name] = getattr(mdata, place)[key]
    if "neighbors_before_indiseek" in mdata.uns:
        graph = {f"{kind}_key": f"{kind}_before_indiseek" for kind in ("connectivities", "distances")}
        mdata.uns["neighbors_before_indiseek"] = {**mdata.uns["neighbors"], **graph}
    if renamed:
        clock.log(f"Renamed existing entries: {', '.join(f'{place}[{name!r}]' for place, _, name in renamed)}")


def _begin_maps(maps: MapMaker, mdata: MuData, job: Job) -> None:
    """Start computing UMAPs of all representations."""
    single = [key(modality) for modality in (job.rna, job.adt) for key in (_keys.shared, _keys.specific)]
    latents = {key: mdata.obsm[key] for key in (_keys.JOINT, *single)}
    maps.begin(AnnData(obs=mdata.obs[[]], obsm=latents), _keys.JOINT, single, job.seed)


def _copy_maps(mdata: MuData, cells: AnnData) -> None:
    """Copy neighbours, clusters and UMAPs to ``mdata``."""
    for place, key in WRITTEN_BY_SCANPY:
        getattr(mdata, place)[key] = getattr(cells, place)[key]
    for key in cells.obsm:
        if key.endswith("_umap"):
            mdata.obsm[key] = cells.obsm[key]


def _compute_theta(mdata: MuData, job: Job, clock: Clock) -> pd.DataFrame:
    """Compute theta of cell types, or of clusters without cell types."""
    labels = f"types in {job.label_key!r}" if job.label_key else "clusters, because --label-key is not given"
    with clock.step(f"Computing modality importance (theta) of {labels}"):
        return tl.modality_importance(mdata, job.label_key or CLUSTERS, seed=job.seed)


def _report(
    model: IndiSeek,
    mdata: MuData,
    table: pd.DataFrame,
    audit: AuditReport,
    job: Job,
    clock: Clock,
    folder: Path,
) -> None:
    """Write figures, the report and the summary."""
    label_key = job.label_key or CLUSTERS
    with clock.step("Drawing figures"):
        captions = draw_figures(model, mdata, audit, [label_key, _keys.THETA_SMOOTHED, *job.color_keys], folder)
    tables = folder / TABLES
    tables.mkdir()
    with clock.step("Writing the report"), warn_on_error(PAGE):
        model.report(folder / PAGE, label_key=label_key, audit=audit, source=job.source, seed=job.seed, tables=tables)
    with warn_on_error("The summary"):
        facts = collect_facts(Material(mdata, job.source, label_key, model))
        written = sorted(f"{TABLES}/{file.name}" for file in tables.iterdir())
        if not written:
            tables.rmdir()
        files = [*captions, *([PAGE] if (folder / PAGE).is_file() else []), *written, "summary.json", "summary.md"]
        is_clustered = not job.label_key
        dimensions = mdata.uns.get(_keys.DIMENSIONS)
        sentences = () if dimensions is None else summarize_dimensions(mdata)
        summary = summarize(
            *(facts, table, audit),
            is_clustered=is_clustered,
            seconds=clock.seconds,
            files=files,
            dimensions=dimensions,
            about_dimensions=sentences,
        )
        (folder / "summary.md").write_text(format_summary(summary, table, audit, captions), encoding="utf-8")
        write_json(summary, folder / "summary.json")


def report_file(
    mdata: MuData,
    clock: Clock,
    *,
    source: Path,
    output: Path,
    folder: Path | None,
    label_key: str | None,
    compare: bool,
    seed: int,
) -> None:
    """Write a report of cells that have representations.

    Parameters
    ----------
    mdata
        Cells with representations.
    clock
        Reports progress.
    source
        File that the cells were read from.
    output
        File to write.
    folder
        Folder of the saved model, or None.
    label_key, compare, seed
        As in :meth:`indiseek_sc.IndiSeek.report`.

    Raises
    ------
    KeyError
        If the representations or labels are missing.
    ValueError
        If the model cannot be loaded, or was trained on other cells.
    """
    check_latents(mdata, str(source))
    if label_key is not None:
        find_obs(mdata, label_key, "--label-key")
    if folder is None:
        with clock.step("Drawing figures (audit, training history and attributions require --model)"):
            write_report(output, mdata, label_key=label_key, compare=compare, source=source.name, seed=seed)
        return
    with clock.step("Loading the model"), clock.relaying("scvi"):
        model = _load(folder, mdata)
    with clock.step("Auditing the representations on held-out cells"):
        audit = model.audit(seed=seed)
    with clock.step("Drawing figures"):
        model.report(output, label_key=label_key, audit=audit, compare=compare, source=source.name, seed=seed)


def _load(folder: Path, mdata: MuData) -> IndiSeek:
    """Load a model with the cells that it was trained on."""
    _check_model(folder)
    try:
        model = IndiSeek.load(str(folder), adata=mdata)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"--model {folder} cannot be loaded with these cells: {error}") from error
    noted = mdata.obs[_keys.SPLIT].astype(str).to_numpy() if _keys.SPLIT in mdata.obs else None
    if noted is None or not np.array_equal(noted, model.split.as_column()):
        raise ValueError(
            f"--model {folder} was trained on other cells than those in obs[{_keys.SPLIT!r}]. Pass the model that wrote "
            "these representations, or omit --model."
        )
    return model


def _check_model(folder: Path) -> None:
    """Check that a folder contains a saved model."""
    if not (folder / "model.pt").is_file():
        raise ValueError(
            f"--model {folder} is not the folder of a saved model. Pass a folder written by fit --save-model or "
            "model.save."
        )
