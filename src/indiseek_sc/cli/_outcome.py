"""Output, errors and exit codes of commands; output files written completely or not at all."""

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
"""Suffixes of output files."""

ROUTINE = (
    "Cannot join columns with the same name",
    "var_names are not unique",
    "The '.*_dataloader' does not have many",
)
"""Warnings of other packages that are irrelevant to users of commands."""


def _repeat_option(option: str, names: str) -> str:
    """Return comma-separated quoted names as a repeated option."""
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
    (r": hold out fewer cells, or change train_size", ""),
    (r"Call model\.write_refits\(\) first\.", "Use --refits 4."),
    (r"\baccelerator='(\w+)'", r"--accelerator \1"),
    (r", more than max_missing=([\d.]+)", r", more than a share of \1"),
    (r"; or allow more missing features: max_missing=[\d.]+", ""),
    (r"as model\.get_var_names\(\) does", "as in the cells that the model was trained with"),
    (r"\bexclude=\[(.*?)\]", lambda found: _repeat_option("--exclude", found[1])),
    (r"\bexclude=\(\)", "--exclude none"),
    (r"(?<!-)\bexclude(?==|:)", "--exclude"),
)
"""Patterns of function arguments in messages, and the corresponding options."""


def name_options(text: str) -> str:
    """Replace function arguments in a message by the corresponding options of a command."""
    for argument, option in _OPTIONS:
        text = re.sub(argument, option, text)
    return text


@contextmanager
def warn_on_error(what: str) -> Iterator[None]:
    """Turn an error of the block into a warning that ``what`` could not be produced.

    This is for results that are not essential, such as figures.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 (the essential results are complete in any case)
        text = _text_of(error)
        cause = text if text == type(error).__name__ else f"{type(error).__name__}: {text}"
        warnings.warn(f"{what} could not be produced: {cause}", stacklevel=3)


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Report errors and warnings in one line each.

    An error exits with 1, an interruption (Ctrl-C, SIGTERM) with 130.

    Parameters
    ----------
    debug
        Whether to raise errors with their traceback.
    """
    handler = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with warnings.catch_warnings():
            for message in ROUTINE:
                warnings.filterwarnings("ignore", message=message)
            for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
                warnings.filterwarnings("ignore", category=category)
            warnings.showwarning = _print_warning
            yield
    except KeyboardInterrupt as interruption:
        typer.echo(f"interrupted: {str(interruption) or 'nothing was written'}.", err=True)
        raise typer.Exit(INTERRUPTED) from interruption
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        if debug:
            raise
        typer.echo(f"error: {name_options(_one_line(_text_of(error)))}", err=True)
        raise typer.Exit(FAILED) from error
    finally:
        signal.signal(signal.SIGTERM, handler)


def _interrupt(*_: Any) -> NoReturn:
    """Raise KeyboardInterrupt, as a signal handler."""
    raise KeyboardInterrupt


def _print_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning in one line."""
    typer.echo(f"warning: {name_options(_one_line(str(message)))}", err=True)


def _text_of(error: Exception) -> str:
    """Return the message of an error, or else its type."""
    if isinstance(error, KeyError) and error.args:  # str() of a KeyError is the repr of its message
        return str(error.args[0])
    return str(error) or type(error).__name__


def _one_line(text: str) -> str:
    """Replace line breaks and repeated blanks by single blanks."""
    return " ".join(text.split())


def check_ending(path: Path) -> None:
    """Check the suffix of an output file.

    Raises
    ------
    ValueError
        If files of this suffix cannot be written.
    """
    if path.suffix not in ENDINGS:
        raise ValueError(
            f"{path} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, which determines the format, "
            f"but ends in {path.suffix or 'nothing'!r}. For example: {path.with_suffix(ENDINGS[0])}"
        )


def check_input(path: Path, output: Path) -> None:
    """Check that the input exists and differs from the output.

    Raises
    ------
    FileNotFoundError
        If the input does not exist.
    ValueError
        If input and output are the same file.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file.")
    if output.exists() and path.samefile(output):
        raise ValueError(f"{output} is the input itself. Choose another name for the output.")


def _temporary_folder(folder: Path, prefix: str) -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder in another one, or raise an OSError that names the latter."""
    try:
        return tempfile.TemporaryDirectory(dir=folder, prefix=prefix)
    except OSError as error:
        raise type(error)(
            f"{folder} cannot be written to ({error.strerror}). Choose another folder for the output."
        ) from error


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces ``path`` if the block succeeds.

    If the block fails, ``path`` is left unchanged. Works for files and zarr stores.

    Raises
    ------
    OSError
        If the file exists and may not be overwritten, or cannot be created.
    """
    if path.is_dir() and not _is_store(path):
        raise IsADirectoryError(f"{path} is a folder, but the output is a file.")
    if path.exists() and not force:
        raise FileExistsError(f"{path} already exists. Choose another name, or overwrite it with --force.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}. Create it first.")
    with _temporary_folder(path.parent, f".{path.stem}-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        if path.is_dir():  # a folder cannot be replaced atomically
            os.replace(path, Path(folder) / "before")
        os.replace(unfinished, path)


def _is_store(path: Path) -> bool:
    """Return whether a folder is a zarr store."""
    return any((path / name).is_file() for name in (".zgroup", "zarr.json"))


@contextmanager
def new_folder(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary folder to fill, which becomes ``path`` if the block succeeds.

    No folder is created if the block fails or writes nothing. In an existing folder that is empty
    or may be overwritten, only files of the same names are replaced.

    Raises
    ------
    OSError
        If the folder contains files and may not be overwritten, or cannot be created.
    """
    path = path.resolve()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, but the output is a folder.")
    if path.is_dir() and any(path.iterdir()) and not force:
        raise FileExistsError(f"{path} already exists. Choose another name, or overwrite its files with --force.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}. Create it first.")
    # An existing folder may be on another disk than its parent.
    with _temporary_folder(path if path.is_dir() else path.parent, f".{path.name}-") as parent:
        unfinished = Path(parent) / path.name
        unfinished.mkdir()
        yield unfinished
        if not any(unfinished.iterdir()):
            return
        if not path.is_dir():
            os.replace(unfinished, path)
            return
        for made in sorted(unfinished.rglob("*")):  # folders sort before their contents
            there = path / made.relative_to(unfinished)
            if made.is_dir():
                there.mkdir(exist_ok=True)
            else:
                os.replace(made, there)


class Clock:
    """Print progress messages with the elapsed time to standard error.

    Attributes
    ----------
    seconds
        Duration of each step by its name.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def log(self, text: str) -> None:
        """Print a line with the elapsed time in minutes and seconds."""
        minutes, seconds = divmod(int(time.perf_counter() - self._start), 60)
        typer.echo(f"[{minutes}:{seconds:02}] {text}", err=True)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Print the name of a step before the block, and record its duration."""
        self.log(name)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 2)

    @contextmanager
    def relaying(self, logger_name: str) -> Iterator[None]:
        """Print log messages of another package instead of its own handlers in the block."""
        logger = logging.getLogger(logger_name)
        handlers = logger.handlers
        logger.handlers = [_RelayHandler(self)]
        try:
            yield
        finally:
            logger.handlers = handlers


class _RelayHandler(logging.Handler):
    """Pass log messages to a clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def emit(self, record: logging.LogRecord) -> None:
        """Print messages of this package, and warnings of others."""
        if record.name.startswith("scvi.indiseek_sc") or record.levelno >= logging.WARNING:
            self.clock.log(name_options(record.getMessage()))
