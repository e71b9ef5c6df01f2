"""Types and options that commands share."""

from __future__ import annotations

from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        typer.echo(version("indiseek_sc"))
        raise typer.Exit


def check_lambda(value: str | None) -> str | None:
    """Check the value of ``--lambda``.

    Raises
    ------
    typer.BadParameter
        If it is neither ``"auto"`` nor a finite number of at least 0.
    """
    if value in (None, "auto"):
        return value
    try:
        is_weight = 0 <= float(value) < float("inf")
    except ValueError:
        is_weight = False
    if not is_weight:
        raise typer.BadParameter(f"{value!r} is neither a number of at least 0 nor 'auto'.")
    return value


def check_refits(value: int) -> int:
    """Check the value of ``--refits``.

    Raises
    ------
    typer.BadParameter
        If it is neither 0 nor an even number of at least 4.
    """
    if value != 0 and (value < 4 or value % 2):
        raise typer.BadParameter(f"{value} is neither an even number of at least 4 nor 0.")
    return value


class Values(StrEnum):
    """Scale of the values of a modality."""

    AUTO = "auto"
    COUNTS = "counts"
    NORMALIZED = "normalized"


class Source(StrEnum):
    """Modality from which the other one is predicted."""

    RNA = "rna"
    ADT = "adt"


class Accelerator(StrEnum):
    """Device for training."""

    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.")]
Seed = Annotated[
    int,
    typer.Option(
        min=0, help="Random seed of the split, weights and batches; on a CPU, the same seed reproduces the results."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Hardware = Annotated[Accelerator, typer.Option(help="Device for training.")]
MaxEpochs = Annotated[
    int | None, typer.Option(min=1, help="Maximal number of epochs of each stage, for a quick trial.")
]


Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="Folder of the model, written by [bold]fit --save-model[/bold].")
]
Cells = Annotated[Path, typer.Argument(metavar="IN", help="Cells, in any format that [bold]fit[/bold] reads.")]
Proteins = Annotated[
    str | None,
    typer.Option("--adt", help="Protein modality, entry of obsm, or feature type (default: recognised by its name)."),
]


Refits = Annotated[
    int,
    typer.Option(
        callback=check_refits,
        help="Number of additional models, each trained on half of the cells, from which the intervals and claims about labels are estimated: an even number of at least 4, or 0 for no claims.",
    ),
]
