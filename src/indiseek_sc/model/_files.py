"""Values in a folder: JSON, and a file of tensors beside it. They appear whole or not at all, and reading them runs no code of theirs."""

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
"""Number of the way in which values are written; a later version reads those of before, or says what to do."""

NEW = ".new"
"""End of the names of files that are not whole yet."""


def write_values(folder: Path, name: str, values: Mapping[str, Any]) -> None:
    """Write values as ``<name>.json``, and their tensors and arrays as ``<name>.pt``.

    Former files of these names stay whole until both new ones are: what is new is written beside them, and then takes their place. Whenever
    the process is killed, or the disk is full, :func:`read_values` finds the former values or the new ones.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    name
        Beginning of the names of both files.
    values
        Texts, numbers, truth values, None, arrays, tensors, data frames, and lists, tuples and mappings of these.

    Raises
    ------
    TypeError
        If there is something else.
    OSError
        If the files cannot be written; the former ones are as they were.
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
        os.replace(new_settings, settings)  # if this is not reached, `read_values` takes the new one
    except (OSError, RuntimeError) as error:  # torch's writer raises the latter
        _remove(new_weights, new_settings)
        raise OSError(
            f"{weights} could not be written: {error}. What was there before is as it was. Make room on the disk, or write to another folder."
        ) from error


def read_values(folder: Path, name: str, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Return what :func:`write_values` wrote, tensors on a device.

    Raises
    ------
    FileNotFoundError
        If there are no such files.
    ValueError
        If a file is damaged, or in another format; the message says which, and what to do.
    """
    weights = folder / f"{name}.pt"
    if not weights.is_file():
        raise FileNotFoundError(f"{weights}: there is no such file. Check the folder, and the prefix if one was given.")
    values = _read_settings(folder / f"{name}.json", weights)
    try:
        tensors = torch.load(weights, map_location=device, weights_only=True)  # tensors alone: nothing is run
        return decode(values, tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{weights} and {name}.json do not belong together: {error}. {REMEDY}") from error


REMEDY = "Copy the folder again, both files of it, or train and save again."


def remove_values(folder: Path, name: str) -> None:
    """Remove what :func:`write_values` wrote; the folder stays."""
    files = [folder / f"{name}{ending}" for ending in (".json", ".pt")]
    _remove(*files, *(path.with_name(path.name + NEW) for path in files))


def has_values(folder: Path, name: str) -> bool:
    """Whether there is something to read."""
    return (folder / f"{name}.pt").is_file()


def _read_settings(path: Path, weights: Path) -> dict[str, Any]:
    """Return the values in JSON that belong to a file of tensors, whose checksum they hold."""
    files = [file for file in (path, path.with_name(path.name + NEW)) if file.is_file()]
    if not files:
        raise ValueError(
            f"{weights} has no {path.name} beside it. If that was left behind, copy it too. If the model was saved by a version of "
            "before that file, it is a pickle, which could run any code and is not read: train again and save, or load it by "
            "the version that saved it if you trust its source."
        )
    checksum = _hash(weights)
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            number, maker = int(found["format"]), str(found["version"])
        except (KeyError, TypeError, ValueError) as error:
            if file == files[-1]:
                raise ValueError(f"{file} is damaged: {error}. {REMEDY}") from error
            continue
        if number > FORMAT:
            raise ValueError(
                f"{file} is of indiseek_sc {maker}, whose format {number} this version, {version('indiseek_sc')}, does not "
                f"know (it reads up to {FORMAT}). Install that version or a later one: pip install -U indiseek_sc"
            )
        if found.get("sha256") == checksum:
            return found.get("values")
    raise ValueError(f"{weights} is damaged: its checksum is not the one in {path.name}. {REMEDY}")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(file: Any) -> None:
    """Have a file on the disk before another one names it."""
    file.flush()
    os.fsync(file.fileno())


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


# Values as JSON: what JSON lacks is a mapping of one name that begins with $


def encode(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Return a value as JSON; tensors and arrays of numbers go to ``tensors``, by the path to them.

    Raises
    ------
    TypeError
        If the value is none of those that :func:`write_values` lists.
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
        # Of a part of a tensor, torch would write the whole.
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
"""What is made of the items of each kind."""


def decode(value: Any, tensors: Mapping[str, torch.Tensor]) -> Any:
    """Return the value of what :func:`encode` made."""
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
