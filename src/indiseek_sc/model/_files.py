"""Values in a folder, as JSON and a file of tensors. Writing is atomic; reading runs no code."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 2
"""Number of the file format. Earlier formats are read, or raise an error with a remedy."""

NEW = ".new"
"""Suffix of files that are being written."""


def write_values(folder: Path, name: str, values: Mapping[str, Any]) -> None:
    """Write values as ``<name>.json``, and their tensors and arrays as ``<name>.pt``.

    New files are written beside existing ones and replace them when both are complete. If the
    process is killed or the disk is full, :func:`read_values` returns either the previous or the
    new values.

    Parameters
    ----------
    folder
        Folder of the files; created if it does not exist.
    name
        Stem of the names of both files.
    values
        Strings, numbers, booleans, None, arrays, tensors, data frames, and lists, tuples and
        mappings of these.

    Raises
    ------
    TypeError
        If a value has another type.
    OSError
        If the files cannot be written; existing files are unchanged.
    """
    tensors: dict[str, torch.Tensor] = {}
    encoded = encode(values, tensors)
    folder.mkdir(parents=True, exist_ok=True)
    weights, settings = folder / f"{name}.pt", folder / f"{name}.json"
    new_weights, new_settings = (path.with_name(path.name + NEW) for path in (weights, settings))
    try:
        with new_weights.open("wb") as file:
            torch.save(tensors, file)
            _flush(file)
        header = {"format": FORMAT, "version": version("indiseek_sc"), "sha256": _hash(new_weights)}
        with new_settings.open("w", encoding="utf-8") as file:
            json.dump({**header, "values": encoded}, file, indent=1, allow_nan=False)
            _flush(file)
        os.replace(new_weights, weights)
        os.replace(new_settings, settings)  # if not reached, `read_values` reads the new file
    except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError
        _remove(new_weights, new_settings)
        raise OSError(
            f"{weights} could not be written: {error}. Existing files are unchanged. Make room on the disk, or write to "
            "another folder."
        ) from error


def read_values(folder: Path, name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return values written by :func:`write_values`, with tensors on a device.

    Raises
    ------
    FileNotFoundError
        If the files do not exist.
    ValueError
        If a file is damaged or in an unsupported format; the message contains the remedy.
    """
    weights = folder / f"{name}.pt"
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: there is no such file. Check the folder, and the prefix if one was given.")
    values = _read_settings(folder / f"{name}.json", weights)
    try:
        tensors = torch.load(weights, map_location=device, weights_only=True)  # runs no code
        return decode(values, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{weights} and {name}.json do not belong together: {error}. {REMEDY}") from error


REMEDY = "Copy the folder again, with both files, or train and save again."


def remove_values(folder: Path, name: str) -> None:
    """Remove the files written by :func:`write_values`, but not the folder."""
    files = [folder / f"{name}{ending}" for ending in (".json", ".pt")]
    _remove(*files, *(path.with_name(path.name + NEW) for path in files))


def has_values(folder: Path, name: str) -> bool:
    """Return whether there are values to read."""
    return (folder / f"{name}.pt").is_file()


def _read_settings(path: Path, weights: Path) -> dict[str, Any]:
    """Return the values in JSON that contain the checksum of a file of tensors."""
    files = [file for file in (path, path.with_name(path.name + NEW)) if file.is_file()]
    if not files:
        raise ValueError(
            f"{weights} has no {path.name} beside it. If that file was not copied, copy it too. If the model was saved by a "
            "version that did not write it, the model is a pickle, which could run any code and is not read: train again "
            "and save, or load it with the version that saved it if you trust its source."
        )
    checksum = _hash(weights)
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            number, writer = int(found["format"]), str(found["version"])
        except (KeyError, TypeError, ValueError) as error:
            if file == files[-1]:
                raise ValueError(f"{file} is damaged: {error}. {REMEDY}") from error
            continue
        if number > FORMAT:
            raise ValueError(
                f"{file} was written by indiseek_sc {writer} in format {number}; this version, {version('indiseek_sc')}, reads "
                f"formats up to {FORMAT}. Install that version or a later one: pip install -U indiseek_sc"
            )
        if found.get("sha256") == checksum:
            return found.get("values")
    raise ValueError(f"{weights} is damaged: its checksum is not the one in {path.name}. {REMEDY}")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(file: Any) -> None:
    """Write a file to disk completely, before another file refers to it."""
    file.flush()
    os.fsync(file.fileno())


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


# Values as JSON: types that JSON lacks are mappings with one key that begins with $.


def encode(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Return a value as JSON; tensors and numeric arrays are added to ``tensors`` by their paths.

    Raises
    ------
    TypeError
        If the type is not listed in :func:`write_values`.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float | np.bool_ | np.integer | np.floating):
        number = getattr(value, "item", lambda: value)()
        return number if math.isfinite(number) else {"$float": str(number)}
    if isinstance(value, list | tuple):
        items = [encode(x, tensors, f"{path}/{i}") for i, x in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if not isinstance(value, Mapping):
        return _encode_array(value, tensors, path)
    if all(isinstance(key, str) and not key.startswith("$") for key in value):
        return {key: encode(x, tensors, f"{path}/{key}" if path else key) for key, x in value.items()}
    return {"$items": encode([list(pair) for pair in value.items()], tensors, path)}


def _encode_array(value: Any, tensors: dict[str, torch.Tensor], path: str) -> dict[str, Any]:
    if isinstance(value, torch.Tensor):
        kept = value.detach().cpu().contiguous()
        # PyTorch would write the whole storage of a view.
        tensors[path] = kept.clone() if kept.untyped_storage().nbytes() > kept.nbytes else kept
        return {"$tensor": path}
    if isinstance(value, np.ndarray):
        if value.dtype.kind in "biuf":
            tensors[path] = torch.from_numpy(np.array(value, order="C"))
            return {"$array": path}
        if value.dtype.kind == "U":
            return {"$text": value.tolist()}
        if value.dtype.kind == "O" and value.ndim == 1:
            return {"$objects": encode(list(value), tensors, path)}
    if isinstance(value, pd.Index):
        return {"$index": [encode(value.to_numpy(), tensors, f"{path}/index"), encode(value.name, tensors, path)]}
    if isinstance(value, pd.DataFrame):
        columns = [[name, encode(x.to_numpy(), tensors, f"{path}/{name}")] for name, x in value.items()]
        return {"$table": [encode(value.index, tensors, path), columns]}
    raise TypeError(f"{path}: a {type(value).__name__} cannot be saved.")


def _as_objects(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


_KINDS: dict[str, Callable[[Any], Any]] = {
    "$float": float,
    "$tuple": tuple,
    "$items": dict,
    "$text": lambda items: np.array(items, dtype=str),
    "$objects": _as_objects,
    "$index": lambda pair: pd.Index(pair[0], name=pair[1]),
    "$table": lambda pair: pd.DataFrame(dict(pair[1]), index=pair[0]),
}
"""Constructors by kind."""


def decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the value encoded by :func:`encode`."""
    if isinstance(value, list):
        return [decode(x, tensors) for x in value]
    if not isinstance(value, dict):
        return value
    kind, given = next(iter(value.items()), ("", ""))
    if kind in ("$tensor", "$array"):
        tensor = tensors[given]
        return tensor if kind == "$tensor" else tensor.cpu().numpy()
    if kind in _KINDS:
        return _KINDS[kind](decode(given, tensors))
    return {key: decode(x, tensors) for key, x in value.items()}
