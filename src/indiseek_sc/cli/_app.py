"""Commands of the command line; imported lazily, so that help is fast."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from indiseek_sc.cli._options import (
    Accelerator,
    Cells,
    Debug,
    Force,
    Hardware,
    MaxEpochs,
    Model,
    Proteins,
    Refits,
    Seed,
    Source,
    Values,
    check_lambda,
    show_version,
)
from indiseek_sc.cli._outcome import Clock, check_ending, check_input, new_file, new_folder, reported

app = typer.Typer(
    help=(
        "Separate information that RNA and surface proteins of single cells share from information that is specific "
        "to each (IndiSeek, arXiv 2509.21584)."
        "\n\nStart with [bold]indiseek-sc demo[/bold], which runs the complete pipeline on bundled blood cells. Then run "
        "[bold]indiseek-sc fit[/bold] on your own CITE-seq file."
        "\n\n[bold]indiseek-sc encode[/bold] and [bold]indiseek-sc predict[/bold] apply a saved model to other "
        "cells."
        "\n\nExit codes: 0 for success, 1 for failure, 2 for wrong usage, and 130 for interruption. Output files are "
        "written completely or not at all. A report that cannot be written causes a warning, not a failure."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Handle options of the program."""
    pass


@app.command(
    help=(
        "Run the complete pipeline on 6,000 bundled blood cells, in three to five minutes.\n\n"
        "OUTDIR will contain [bold]report.html[/bold] (open it in a browser), [bold]summary.md[/bold] with "
        "figures, [bold]summary.json[/bold] for programs, and [bold]demo.h5mu[/bold]: the cells with "
        "representations, neighbours, clusters, UMAPs and modality importance (theta)."
    ),
)
def demo(
    outdir: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("indiseek_demo"),
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    refits: Refits = 4,
    accelerator: Hardware = Accelerator.AUTO,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the pipeline on the bundled data."""
    with reported(debug):
        clock = Clock()
        with new_folder(outdir, force=force) as folder:
            with clock.step("Loading libraries and data"):
                from indiseek_sc.cli._pipeline import Job, run_job
                from indiseek_sc.datasets import pbmc_covid

                mdata = pbmc_covid()
            job = Job(
                source="6,000 blood cells of healthy donors and COVID-19 patients (pbmc_covid)",
                batch_key="batch",
                label_key="cell_type",
                color_keys=("batch",),
                n_refits=refits,
                seed=seed,
                max_epochs=max_epochs,
                accelerator=accelerator.value,
            )
            run_job(mdata, job, clock, output=folder / "demo.h5mu", report=folder)
        clock.log(
            f"Done. Open {outdir / 'report.html'} in a browser or read {outdir / 'summary.md'}; read "
            f"{outdir / 'demo.h5mu'} with mudata.read_h5mu."
        )


@app.command(
    help=(
        "Run the pipeline on your own file, and write a copy with representations, clusters, UMAPs and theta.\n\n"
        "[bold]Input:[/bold] cells with both modalities, as counts or normalised values, in sparse or dense "
        "matrices. Modalities named rna, gex, adt, prot, protein or ab are recognised, as are Cell Ranger's "
        "antibody features and proteins in obsm.\n\n"
        "[bold]Output:[/bold] the contents of the input file and, in obsm, [bold]X_indiseek[/bold] (the joint "
        "representation, used for clustering), [bold]X_indiseek_shared_rna[/bold] (what both modalities "
        "measure), [bold]X_indiseek_specific_rna[/bold] (what only RNA measures), the same for proteins, and "
        "a UMAP of each; in obs, [bold]leiden[/bold] clusters and [bold]indiseek_theta[/bold] (above 0 where "
        "RNA separates the type of a cell better, below 0 where proteins do); in uns, a table of theta by "
        "type.\n\n"
        "A fifth of the cells is held out of the training, so that the independence of the representations "
        "can be evaluated on cells that the model has not seen.\n\n"
        "[bold]Example:[/bold] indiseek-sc fit filtered_feature_bc_matrix.h5 encoded.h5mu --report figures"
    ),
)
def fit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Cells with both RNA and proteins: Cell Ranger (.h5 or its matrix folder), .h5ad, .h5mu or .zarr.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Output file: .h5mu, .zarr or .h5ad.")],
    rna: Annotated[
        str | None, typer.Option(help="RNA modality or feature type (default: recognised by its name).")
    ] = None,
    adt: Annotated[
        str | None,
        typer.Option(help="Protein modality, entry of obsm, or feature type (default: recognised by its name)."),
    ] = None,
    rna_layer: Annotated[str | None, typer.Option(help="Layer of the RNA values (default: X).")] = None,
    adt_layer: Annotated[str | None, typer.Option(help="Layer of the protein values (default: X).")] = None,
    rna_input: Annotated[
        Values, typer.Option(help="Scale of the RNA values, if it is not recognised correctly.")
    ] = Values.AUTO,
    adt_input: Annotated[
        Values, typer.Option(help="Scale of the protein values, if it is not recognised correctly.")
    ] = Values.AUTO,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROTEIN|none",
            help="Protein to exclude from the model; may be repeated (default: isotype controls, hashtags, proteins without counts).",
        ),
    ] = None,
    batch_key: Annotated[str | None, typer.Option(help="Column of obs with the batch of each cell.")] = None,
    categorical_covariate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with another categorical covariate, such as the donor, whose effects are subtracted; may be repeated.",
        ),
    ] = None,
    continuous_covariate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of obs with a continuous covariate, such as the share of mitochondrial counts, whose linear effects are subtracted; may be repeated.",
        ),
    ] = None,
    label_key: Annotated[
        str | None,
        typer.Option(help="Column of obs with the type of each cell (default: clusters of the joint representation)."),
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Folder for an HTML report, figures and a summary.")] = None,
    save_model: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the trained model, as used by [bold]encode[/bold], [bold]predict[/bold] and [bold]report[/bold]."
        ),
    ] = None,
    lambda_: Annotated[
        str | None,
        typer.Option(
            "--lambda",
            metavar="NUMBER|auto",
            callback=check_lambda,
            help="Weight of reconstruction against independence: larger values retain more in the specific representations, "
            "smaller values make them more independent. [bold]auto[/bold] selects the largest value with negligible "
            "leakage on validation cells.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder for checkpoints after each training stage; if the training is interrupted, the same command resumes from the last checkpoint."
        ),
    ] = None,
    refits: Refits = 4,
    sample_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with the donor or sample of each cell; refits and intervals then account for the variation over samples."
        ),
    ] = None,
    predict: Annotated[
        bool,
        typer.Option(
            "--predict",
            help="Also train the prediction of each modality from the other, for the report and the saved model.",
        ),
    ] = False,
    n_top_genes: Annotated[
        int | None,
        typer.Option(min=2, help="Number of highly variable genes to use (default: 2000 for counts, otherwise all)."),
    ] = None,
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    accelerator: Hardware = Accelerator.AUTO,
    threads: Annotated[
        int, typer.Option(min=1, help="Number of CPU threads for training. Two are faster only if two cores are idle.")
    ] = 1,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run the pipeline on a file."""
    with reported(debug), ExitStack() as outputs:
        clock = Clock()
        check_ending(output)
        check_input(source, output)
        folder = outputs.enter_context(new_folder(report, force=force)) if report else None
        results = outputs.enter_context(ExitStack())  # complete before figures are drawn
        file = results.enter_context(new_file(output, force=force))
        model_folder = results.enter_context(new_folder(save_model, force=force)) if save_model else None
        with clock.step("Loading libraries and data"):
            from indiseek_sc.cli._pipeline import Job, read_input, run_job

            mdata, names = read_input(source, rna=rna, adt=adt)
        job = Job(
            source=source.name,
            rna=names["rna"],
            adt=names["adt"],
            rna_layer=rna_layer,
            adt_layer=adt_layer,
            batch_key=batch_key,
            categorical_covariates=tuple(categorical_covariate or ()),
            continuous_covariates=tuple(continuous_covariate or ()),
            label_key=label_key,
            color_keys=(batch_key,) if batch_key else (),
            lambda_=None if lambda_ is None else "auto" if lambda_ == "auto" else float(lambda_),
            n_top_genes=n_top_genes,
            seed=seed,
            max_epochs=max_epochs,
            accelerator=accelerator.value,
            n_threads=threads,
            predict=predict,
            n_refits=refits,
            sample_key=sample_key,
            checkpoint=checkpoint,
            rna_input=rna_input.value,
            adt_input=adt_input.value,
            exclude=None if not exclude else () if exclude == ["none"] else tuple(exclude),
        )
        run_job(mdata, job, clock, output=file, report=folder, model_folder=model_folder, keep=results.close)
        outputs.close()
        page = report / "report.html" if report else None
        clock.log(f"Done. Wrote {output}" + (f"; open {page} in a browser." if page and page.is_file() else "."))


@app.command(
    help=(
        "Compute the representations of other cells with a saved model, and write them with the cells.\n\n"
        "Features are matched by name; their order may differ, and additional features are ignored. Proteins "
        "that the model does not use, such as isotype controls, may be missing.\n\n"
        "[bold]Example:[/bold] indiseek-sc encode model new_donor.h5 new_donor.h5mu"
    ),
)
def encode(
    model: Model,
    source: Cells,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Output file: .h5mu, .zarr or .h5ad.")],
    adt: Proteins = None,
    new_batches: Annotated[
        bool,
        typer.Option("--new-batches", help="Estimate the effects of batches that the model was not trained on."),
    ] = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Encode cells with a saved model."""
    with reported(debug):
        clock = Clock()
        check_ending(output)
        check_input(source, output)
        with new_file(output, force=force) as file:
            from indiseek_sc.cli._saved import encode_file

            encode_file(model, source, file, clock, adt=adt, has_new_batches=new_batches)
        clock.log(f"Done. Wrote {output}.")


@app.command(
    "predict",
    help=(
        "Predict proteins from RNA, or RNA from proteins, with a saved model.\n\n"
        "The model must have been trained with fit --predict --save-model. Predictions are centred log-ratios "
        "of proteins or log-normalised gene expression: X contains the means; layers contain standard "
        "deviations and the bounds of 90 % prediction intervals. The cells need only the modality from which "
        "predictions are made.\n\n"
        "[bold]Example:[/bold] indiseek-sc predict model rna_only.h5ad proteins.h5ad"
    ),
)
def predict_other(
    model: Model,
    source: Cells,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="Output file: .h5ad for the predictions alone, .h5mu or .zarr for the cells with predictions.",
        ),
    ],
    known: Annotated[
        Source, typer.Option("--from", help="Modality from which the other one is predicted.")
    ] = Source.RNA,
    adt: Proteins = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Predict one modality from the other with a saved model."""
    with reported(debug):
        clock = Clock()
        check_ending(output)
        check_input(source, output)
        with new_file(output, force=force) as file:
            from indiseek_sc.cli._saved import predict_file

            predict_file(model, source, file, clock, known=known.value, adt=adt)
        clock.log(f"Done. Wrote {output}.")


@app.command(
    "report",
    help=(
        "Write an HTML report about a MuData with representations: figures, tables, warnings and settings.\n\n"
        "The report also contains a paragraph for a methods section. It is a single file that needs no "
        "network connection. Missing results are listed with the calls that compute them. The MuData is not "
        "changed.\n\n"
        "[bold]Example:[/bold] indiseek-sc report encoded.h5mu --model model --output report.html"
    ),
)
def write_report(
    source: Annotated[
        Path,
        typer.Argument(metavar="FILE.h5mu", help="MuData with representations, written by [bold]fit[/bold]."),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the saved model, required for the audit, training history and feature attributions."
        ),
    ] = None,
    label_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs with the type of each cell (default: the column for which theta was computed)."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Output file.")] = Path("report.html"),
    compare: Annotated[
        bool,
        typer.Option(
            "--compare",
            help="Also compare the clusters of the representations, and theta with WNN weights; takes minutes.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the computations.")] = 0,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a report of a file."""
    with reported(debug):
        clock = Clock()
        check_input(source, output)
        with new_file(output, force=force) as file:
            with clock.step("Loading libraries and data"):
                from indiseek_sc.cli._pipeline import read_encoded, report_file

                mdata = read_encoded(source)
            report_file(
                mdata,
                clock,
                source=source,
                output=file,
                folder=model,
                label_key=label_key,
                compare=compare,
                seed=seed,
            )
        clock.log(f"Done. Open {output} in a browser.")
