"""Commands and their options; what they do is imported when it is needed, so that help comes at once."""

from __future__ import annotations

from contextlib import ExitStack
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from indiseek_sc.cli._outcome import Clock, check_ending, check_input, new_file, new_folder, reported

app = typer.Typer(
    help=(
        "Split what RNA and surface proteins of single cells share from what each alone knows "
        "(IndiSeek, arXiv 2509.21584)."
        "\n\nStart with [bold]indiseek-sc demo[/bold]: it runs everything on real blood cells that come with the package. "
        "Then [bold]indiseek-sc fit[/bold] does the same for a CITE-seq file of yours."
        "\n\n[bold]indiseek-sc encode[/bold] and [bold]indiseek-sc predict[/bold] use a saved model on other cells."
        "\n\nA command exits with 0 if all went well, 1 if it failed, 2 if it was called wrongly, and 130 if it was "
        "interrupted. Files appear whole or not at all; a report that cannot be made is a warning."
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class Values(StrEnum):
    """What the values of a modality are."""

    AUTO = "auto"
    COUNTS = "counts"
    NORMALIZED = "normalized"


class Source(StrEnum):
    """What is predicted from."""

    RNA = "rna"
    ADT = "adt"


class Accelerator(StrEnum):
    """What to train on."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")]
Seed = Annotated[
    int, typer.Option(min=0, help="Decides split, weights and batches: on a CPU, the same gives the same.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Hardware = Annotated[Accelerator, typer.Option(help="What to train on.")]
MaxEpochs = Annotated[int | None, typer.Option(min=1, help="Most epochs of each stage, for a quick look.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("indiseek_sc"))
        raise typer.Exit


def _check_lambda(value: str | None) -> str | None:
    if value in (None, "auto"):
        return value
    try:
        is_weight = 0 <= float(value) < float("inf")
    except ValueError:
        is_weight = False
    if not is_weight:
        raise typer.BadParameter(f"{value!r} is neither a number of at least 0 nor 'auto'.")
    return value


def _check_refits(value: int) -> int:
    if value != 0 and (value < 4 or value % 2):
        raise typer.BadParameter(f"{value} is neither an even number of at least 4 nor 0.")
    return value


Refits = Annotated[
    int,
    typer.Option(
        callback=_check_refits,
        help="Number of models trained anew on halves of the cells, by which claims about labels have honest intervals: an even number of at least 4, or 0 for no claims.",
    ),
]


@app.callback()
def _main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    outdir: Annotated[Path, typer.Argument(help="Folder to make.")] = Path("indiseek_demo"),
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    refits: Refits = 4,
    accelerator: Hardware = Accelerator.AUTO,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Run everything on 6,000 blood cells that come with the package, in about three minutes.

    OUTDIR gets [bold]report.html[/bold] to open in a browser, [bold]summary.md[/bold] to read with its figures,
    [bold]summary.json[/bold] for programs, and [bold]demo.h5mu[/bold]: the cells with their representations, neighbours, clusters, UMAP and theta.
    """
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
        clock.say(
            f"Done. Open {outdir / 'report.html'} in a browser or read {outdir / 'summary.md'}, and open {outdir / 'demo.h5mu'} with mudata.read_h5mu."
        )


@app.command()
def fit(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help="Cells with both RNA and proteins: Cell Ranger (.h5 or its matrix folder), .h5ad, .h5mu or .zarr.",
        ),
    ],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="File to make: .h5mu, .zarr, or .h5ad.")],
    rna: Annotated[
        str | None, typer.Option(help="Name of the RNA modality, or type of features; found if not given.")
    ] = None,
    adt: Annotated[
        str | None,
        typer.Option(help="Name of the protein modality, entry of obsm, or type of features; found if not given."),
    ] = None,
    rna_layer: Annotated[str | None, typer.Option(help="Layer of the RNA values; .X if not given.")] = None,
    adt_layer: Annotated[str | None, typer.Option(help="Layer of the protein values; .X if not given.")] = None,
    rna_input: Annotated[
        Values, typer.Option(help="What the RNA values are, if what is found by looking at them is wrong.")
    ] = Values.AUTO,
    adt_input: Annotated[Values, typer.Option(help="The same for proteins.")] = Values.AUTO,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PROTEIN|none",
            help="A protein to leave out of the representations; may be given several times. [default: isotype controls, hashtags, empty rows]",
        ),
    ] = None,
    batch_key: Annotated[str | None, typer.Option(help="Column of obs that names the batch of a cell.")] = None,
    categorical_covariate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A further column of this kind, such as the donor, whose effects are subtracted too; may be given several times.",
        ),
    ] = None,
    continuous_covariate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column of numbers whose linear effects are subtracted, such as the share of mitochondrial counts; may be given several times.",
        ),
    ] = None,
    label_key: Annotated[
        str | None, typer.Option(help="Column of obs that names the type of a cell; our clusters if not given.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Folder to make for a page with all results, its figures and a summary.")
    ] = None,
    save_model: Annotated[
        Path | None,
        typer.Option(help="Folder to make for the model, such as for [bold]indiseek-sc report --model[/bold]."),
    ] = None,
    lambda_: Annotated[
        str | None,
        typer.Option(
            "--lambda",
            metavar="NUMBER|auto",
            callback=_check_lambda,
            help="More keeps more in the specific representations; less makes them more independent. "
            "[bold]auto[/bold] takes the largest that leaks next to nothing on validation cells.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the state of the training after each stage: if the command is killed in training, the same command goes on from there."
        ),
    ] = None,
    refits: Refits = 4,
    sample_key: Annotated[
        str | None,
        typer.Option(
            help="Column of obs that names the donor or sample of a cell: halves and intervals are then over samples."
        ),
    ] = None,
    predict: Annotated[
        bool,
        typer.Option(
            "--predict", help="Also learn to predict each modality from the other; for the report and the saved model."
        ),
    ] = False,
    n_top_genes: Annotated[
        int | None,
        typer.Option(min=2, help="Number of highly variable genes to use. [default: 2000 of counts, else all]"),
    ] = None,
    seed: Seed = 0,
    max_epochs: MaxEpochs = None,
    accelerator: Hardware = Accelerator.AUTO,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of the CPU to train with. Two are faster only where two cores are idle.")
    ] = 1,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Do the same for a file of yours: write a copy with representations, neighbours, clusters, UMAP and theta.

    [bold]In:[/bold] cells that have both modalities, as counts or normalised values, in any kind of matrix. Modalities called rna, gex,
    adt, prot, protein or ab are found, and so are antibodies of Cell Ranger and in obsm.

    [bold]Out:[/bold] all that was in the file, and in obsm [bold]X_indiseek[/bold] (the joint representation, made for clusters),
    [bold]X_indiseek_shared_rna[/bold] (what both modalities know), [bold]X_indiseek_specific_rna[/bold] (what RNA alone
    knows), the same for proteins, and a UMAP of each; in obs [bold]leiden[/bold] and [bold]indiseek_theta[/bold] (above 0
    where RNA keeps a cell's type together better, below 0 where proteins do), with its table by type in uns.

    A fifth of the cells takes no part in training, so that the report can tell how independent the representations are on cells
    that the model never saw.

    [bold]Example:[/bold] indiseek-sc fit filtered_feature_bc_matrix.h5 coded.h5mu --report figures
    """
    with reported(debug), ExitStack() as outputs:
        clock = Clock()
        check_ending(output)
        check_input(source, output)
        folder = outputs.enter_context(new_folder(report, force=force)) if report else None
        results = outputs.enter_context(ExitStack())  # what is kept before pictures are drawn
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
        clock.say(f"Done. Wrote {output}" + (f"; open {page} in a browser." if page and page.is_file() else "."))


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that [bold]fit --save-model[/bold] made.")]
Cells = Annotated[Path, typer.Argument(metavar="IN", help="Cells, in any form that [bold]fit[/bold] reads.")]
Proteins = Annotated[
    str | None,
    typer.Option("--adt", help="Modality of proteins, entry of obsm, or type of features; found if not given."),
]


@app.command()
def encode(
    model: Model,
    source: Cells,
    output: Annotated[Path, typer.Argument(metavar="OUT", help="File to make: .h5mu, .zarr, or .h5ad.")],
    adt: Proteins = None,
    new_batches: Annotated[
        bool,
        typer.Option("--new-batches", help="Estimate what batches add that the model does not know."),
    ] = False,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Give cells the representations of a saved model: a copy of them with all representations in obsm.

    Features are found by their names, so they may lie in another order, and there may be more. Proteins that the model leaves out,
    such as isotype controls, may be missing.

    [bold]Example:[/bold] indiseek-sc encode model new_donor.h5 new_donor.h5mu
    """
    with reported(debug):
        clock = Clock()
        check_ending(output)
        check_input(source, output)
        with new_file(output, force=force) as file:
            from indiseek_sc.cli._saved import encode_file

            encode_file(model, source, file, clock, adt=adt, has_new_batches=new_batches)
        clock.say(f"Done. Wrote {output}.")


@app.command("predict")
def predict_other(
    model: Model,
    source: Cells,
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="File to make: .h5ad of the predictions, or .h5mu or .zarr of the cells with them."
        ),
    ],
    known: Annotated[Source, typer.Option("--from", help="What to predict from.")] = Source.RNA,
    adt: Proteins = None,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Predict proteins from RNA, or back, by a saved model that learnt to (fit --predict --save-model).

    Predicted are centred log-ratios of proteins, or log-normalised genes: X has means, layers have the deviation and bounds between
    which 90 % of the values lie. The cells need only the modality that is predicted from.

    [bold]Example:[/bold] indiseek-sc predict model rna_only.h5ad proteins.h5ad
    """
    with reported(debug):
        clock = Clock()
        check_ending(output)
        check_input(source, output)
        with new_file(output, force=force) as file:
            from indiseek_sc.cli._saved import predict_file

            predict_file(model, source, file, clock, known=known.value, adt=adt)
        clock.say(f"Done. Wrote {output}.")


@app.command("report")
def write_report(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE.h5mu", help="MuData with representations, as [bold]fit[/bold] or write_latents left it."
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the saved model: for the audit, histories and which features drive the representations."
        ),
    ] = None,
    label_key: Annotated[
        str | None,
        typer.Option(help="Column of obs that names the type of a cell; that of theta in the file if not given."),
    ] = None,
    output: Annotated[Path, typer.Option(help="File to make.")] = Path("report.html"),
    compare: Annotated[
        bool,
        typer.Option(
            "--compare", help="Also compare clusters of the representations, and theta with WNN weights; takes minutes."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides what the report computes.")] = 0,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write one HTML file about a coded MuData: pictures, figures, warnings, settings, and words for a methods section.

    It needs no network and opens from disk. What the file does not hold is said in words, with what makes it. The MuData
    is left as it is.

    [bold]Example:[/bold] indiseek-sc report coded.h5mu --model model --output report.html
    """
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
        clock.say(f"Done. Open {output} in a browser.")
