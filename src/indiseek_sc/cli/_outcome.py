"""What a command says, and how it ends: whole files or none, one line for an error, and an exit code."""

from __future__ import annotations

import logging
import os
import re
import signal
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAILED, INTERRUPTED = 1, 130

ENDINGS = (".h5mu", ".zarr", ".h5ad")
"""What results can be written as."""

ROUTINE = (
    "Cannot join columns with the same name",
    "var_names are not unique",
    "The '.*_dataloader' does not have many",
)
"""Warnings of libraries that tell the user of a command nothing."""


def _repeat_option(option: str, names: str) -> str:
    """Return names in quotation marks, with commas between, as an option that is given for each of them."""
    return re.sub(r"(?:^|, )(?=['\"])", f" {option} ", names).strip()


_OPTIONS: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"read\(path, (rna|adt)='NAME'\)", r"--\1 NAME"),
    (r"\b(rna|adt)='(NAME|TYPE)'", r"--\1 NAME"),
    (r"modalities=\{'rna_layer': '(.*?)', 'adt_layer': '(.*?)'\}", r"--rna '\1' --adt '\2'"),
    (r"modalities=\{\.\.\., 'batch_key': '(.*?)'\}", r"--batch-key '\1:COLUMN'"),
    (r"modalities\['(rna|adt)_layer'\]", r"--\1"),
    (r"^modalities: |; if not: check_sizes=False", ""),
    (r"(?<!')\b(rna|adt)_(layer|input)\b", r"--\1-\2"),
    (r"\b(rna|adt)=(?=')", r"--\1="),
    (r"(?<!-)\b(batch|label)_key(?==|:)", r"--\1-key"),
    (r"\b(categorical|continuous)_covariate_keys\b", r"--\1-covariate"),
    (
        r"load it with them, load\(\.\.\., adata=mdata\), call train_prediction\(\) and save it again",
        "run fit again, with --predict and --save-model",
    ),
    (r"\bcheckpoint_dir(?=:)", "--checkpoint"),
    (r"model = IndiSeek\.load_query_data\(mdata, model\)", "encode with --new-batches"),
    (r"\blambda_(?= \()", "--lambda"),
    (r"Call train\(\) with the same arguments and data", "Run the command with the same options and data"),
    (r": hold out fewer, or change train_size", ""),
    (r"\baccelerator='(\w+)'", r"--accelerator \1"),
    (r", more than max_missing=([\d.]+)", r", more than a share of \1"),
    (r"; or allow more where they are read: max_missing=[\d.]+", ""),
    (r"as model\.get_var_names\(\) does", "as in the cells that the model was trained with"),
    (r"\bexclude=\[(.*?)\]", lambda found: _repeat_option("--exclude", found[1])),
    (r"\bexclude=\(\)", "--exclude none"),
    (r"(?<!-)\bexclude(?==|:)", "--exclude"),
)
"""What arguments of functions are called on the command line, in messages."""


def in_options(text: str) -> str:
    """Return a message with the arguments of functions as options of a command."""
    for argument, option in _OPTIONS:
        text = re.sub(argument, option, text)
    return text


@contextmanager
def or_warned(what: str) -> Iterator[None]:
    """Turn an error of the block into a warning that ``what`` could not be made, and why: of no more than a picture."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever it is, the results are there)
        text = _text_of(error)
        cause = text if text == type(error).__name__ else f"{type(error).__name__}: {text}"
        warnings.warn(f"{what} could not be made: {cause}", stacklevel=3)


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Tell errors and warnings in one line each; an error exits with 1, an interruption (Ctrl-C, SIGTERM) with 130.

    Parameters
    ----------
    debug
        Let errors through with their traceback.
    """
    handler = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            for message in ROUTINE:
                warnings.filterwarnings("ignore", message=message)
            for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
                warnings.filterwarnings("ignore", category=category)
            warnings.showwarning = _tell_warning
            yield
    except KeyboardInterrupt as interruption:
        typer.echo(f"interrupted: {str(interruption) or 'nothing was written'}.", err=True)
        raise typer.Exit(INTERRUPTED) from interruption
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        typer.echo(f"error: {in_options(_one_line(_text_of(error)))}", err=True)
        raise typer.Exit(FAILED) from error
    finally:
        signal.signal(signal.SIGTERM, handler)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _tell_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    typer.echo(f"warning: {in_options(_one_line(str(message)))}", err=True)


def _text_of(error: Exception) -> str:
    if isinstance(error, KeyError) and error.args:  # its own text is the representation of the message
        return str(error.args[0])
    return str(error) or type(error).__name__


def _one_line(text: str) -> str:
    return " ".join(text.split())


def check_ending(path: Path) -> None:
    """Refuse an output that nothing can be written as.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(
            f"{path} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, which says what is written, "
            f"but ends in {path.suffix or 'nothing'!r}. For instance: {path.with_suffix(ENDINGS[0])}"
        )


def check_input(path: Path, output: Path) -> None:
    """Refuse an input that is not there, or that the output would take the place of.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If both are the same file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    if output.exists() and path.samefile(output):
        raise ValueError(f"{output} is the input itself. Give the output another name.")


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Give a path to write to; file or zarr store appear under their name when the block ends well, else not at all.

    Raises
    ------
    OSError
        If the file exists and may not be overwritten, or cannot be made there.
    """
    if path.is_dir() and not _is_store(path):
        raise IsADirectoryError(f"{path} is a folder; the output is a file.")
    if path.exists() and not force:
        raise FileExistsError(f"{path} is there already. Choose another name, or overwrite it with --force.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}. Make it first.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        if path.is_dir():  # which cannot be replaced in one step
            os.replace(path, Path(folder) / "before")
        os.replace(unfinished, path)


def _is_store(path: Path) -> bool:
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


@contextmanager
def new_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Give a folder to fill; it appears under its name when the block ends well and something is in it, else not.

    Of a folder that is there (and may be overwritten, or is empty) only files of the same names are replaced.

    Raises
    ------
    OSError
        If the folder has files and may not be overwritten, or cannot be made there.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file; the output is a folder.")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise FileExistsError(f"{path} is there already. Choose another name, or overwrite its files with --force.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}. Make it first.")
    # In the folder itself where there is one: it may be on a disk of its own.
    with tempfile.TemporaryDirectory(dir=path if path.is_dir() else path.parent, prefix=f".{path.name}-") as parent:
        unfinished = Path(parent) / path.name
        unfinished.mkdir()
        yield unfinished
        if not any(unfinished.iterdir()):
            return
        if not path.is_dir():
            os.replace(unfinished, path)
            return
        for made in sorted(unfinished.rglob("*")):  # a folder before what is in it
            there = path / made.relative_to(unfinished)
            if made.is_dir():
                there.mkdir(exist_ok=True)
            else:
                os.replace(made, there)


class Clock:
    """Says on the error stream what is done when, and remembers how long it took.

    Attributes
    ----------
    seconds
        How long each step took, by its name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def say(self, text: str) -> None:
        """Write a line that begins with the time since the start, in minutes and seconds."""
        minutes, seconds = divmod(int(time.perf_counter() - self._start), 60)
        typer.echo(f"[{minutes}:{seconds:02}] {text}", err=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Say what is done in the block, and time it."""
        self.say(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)

    @contextmanager
    def speaking_for(self, logger_name: str) -> Iterator[None]:
        """Say in the block what a library logs, in place of its own handlers."""
        logger = logging.getLogger(logger_name)
        handlers = logger.handlers
        logger.handlers = [_Speaker(self)]
        try:
            yield
        finally:
            logger.handlers = handlers


class _Speaker(logging.Handler):
    """Hands messages of a logger to a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Say a message of ours, or a warning."""
        if record.name.startswith("scvi.indiseek_sc") or record.levelno >= logging.WARNING:
            self.clock.say(in_options(record.getMessage()))
