"""Saving a model to a folder, and loading it; a folder from a stranger runs no code."""

from __future__ import annotations

import os
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import mudata
from mudata import MuData

from indiseek_sc._checks import check_flag, check_path
from indiseek_sc.losses import describe_independence, is_named
from indiseek_sc.model._files import NEW, read_values, write_values
from indiseek_sc.model._setup import is_view
from indiseek_sc.train import choose_device

if TYPE_CHECKING:
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.module import Independence

WEIGHTS = "weights"
"""The weights among the values of a model."""


def save(
    model: IndiSeek,
    dir_path: str | os.PathLike[str],
    prefix: str | None = None,
    overwrite: bool = False,
    save_anndata: bool = False,
    **anndata_write_kwargs: Any,
) -> None:
    """Save the model: ``model.json`` with all settings, and ``model.pt`` with weights and arrays, of which it holds the checksum.

    Both appear whole or not at all: if the disk is full, or the process killed, a model that was there before is as it was.

    Parameters
    ----------
    dir_path
        Folder; nothing is written outside it.
    prefix
        Beginning of the names of all files.
    overwrite
        Write to a folder that is there already, over a model of the same ``prefix``.
    save_anndata
        Write the data too, as ``mdata.h5mu``.
    **anndata_write_kwargs
        Passed to :meth:`mudata.MuData.write`.

    Raises
    ------
    ValueError
        If the folder is there and ``overwrite`` is False, ``prefix`` names another folder, or there are no data to save.
    OSError
        If the files cannot be written.
    """
    folder, prefix = check_path("dir_path", dir_path), _check_prefix(prefix)
    for argument, value in (("overwrite", overwrite), ("save_anndata", save_anndata)):
        check_flag(argument, value)
    if folder.exists() and not overwrite:
        raise ValueError(
            f"dir_path: {folder} already exists. Please provide another folder, or overwrite it by overwrite=True."
        )
    if save_anndata and model.adata is None:
        raise ValueError("save_anndata: the model has no data. Leave it out, or load the model with them.")
    # What ends in _ is part of a model, as in scvi-tools.
    values = {name: x for name, x in vars(model).items() if name.endswith("_") and not name.startswith("_")}
    parameters = {**values["init_params_"]["non_kwargs"]}
    if parameters.get("independence") is not None:
        parameters["independence"] = describe_independence(parameters["independence"])
    values["init_params_"] = parameters
    folder.mkdir(parents=True, exist_ok=True)
    if save_anndata:
        _write_data(model.adata, folder / f"{prefix}mdata.h5mu", **anndata_write_kwargs)
    write_values(folder, f"{prefix}model", {**values, WEIGHTS: model.module.state_dict()})


def _write_data(mdata: MuData, path: Path, **kwargs: Any) -> None:
    new = path.with_name(path.name + NEW)
    try:
        mdata.write(str(new), **kwargs)
        os.replace(new, path)
    finally:
        new.unlink(missing_ok=True)


def load(
    cls: type[IndiSeek],
    dir_path: str | os.PathLike[str],
    adata: MuData | bool | None = None,
    accelerator: str = "auto",
    device: int | str = "auto",
    prefix: str | None = None,
    *,
    independence: Independence | None = None,
) -> IndiSeek:
    """Load a model that :meth:`save` wrote.

    Nothing in the folder is run: weights are read as tensors alone, and all else is JSON.

    Parameters
    ----------
    dir_path
        Folder of the model.
    adata
        A MuData with the features of the model, which are matched by name; it needs no set-up. Cells that the model was trained with are
        recognised by their names and values, in any order. If not given, data that were saved with the model; if False, none.
    accelerator
        ``"auto"`` (a GPU where there is one), ``"gpu"`` or ``"cpu"``.
    device
        Number of the GPU.
    prefix
        Beginning of the names of the files.
    independence
        What the model was made with, if that was more than names of ours: own code is named in the folder, but neither kept there nor
        imported.

    Raises
    ------
    TypeError
        If ``adata`` is no MuData.
    FileNotFoundError
        If there is no such model.
    ValueError
        If a file is damaged, or of a newer version or one of before; the model is of another class; ``independence`` is not what the
        model was made with; or ``adata`` cannot be read by it.
    """
    if adata is not None and adata is not False and not isinstance(adata, MuData):
        raise TypeError(
            f"adata must be a MuData with both modalities, but is {type(adata).__name__}. "
            "Put them together by mudata.MuData({'rna': rna, 'adt': adt}), or give False to load the model alone."
        )
    folder, prefix = check_path("dir_path", dir_path), _check_prefix(prefix)
    place = choose_device(accelerator, device=device).torch
    values = read_values(folder, f"{prefix}model", place)
    registry, parameters, weights = (values.pop(name) for name in ("registry_", "init_params_", WEIGHTS))
    if registry["model_name"] != cls.__name__:
        raise ValueError(
            f"{folder} holds a model of the class {registry['model_name']}: call {registry['model_name']}.load."
        )
    if (made_of := _check_independence(folder, parameters.get("independence"), independence)) is not None:
        parameters["independence"] = made_of
    if adata is None:
        adata = _read_data(folder / f"{prefix}mdata.h5mu")
    model = cls(registry=registry, **parameters)
    for name in values.keys() & vars(model).keys():
        setattr(model, name, values[name])
    try:
        model.module.load_state_dict({_current_name(name): weight for name, weight in weights.items()})
    except RuntimeError as error:
        raise ValueError(
            f"{folder}: the weights are those of other parts than version {version('indiseek_sc')} has. "
            f"Train again and save, or load the model by the version that model.json names. {error}"
        ) from error
    model.to_device(place)
    model.module.eval()
    if isinstance(adata, MuData):
        if is_view(adata):
            raise ValueError("adata: it is a view of other data. Make it an object of its own: mdata = mdata.copy()")
        model.adata = adata
    return model


FORMER_NAMES = {"codecs.": "encoder_decoders.", ".mixing.": ".cholesky.", ".shape.": ".flow.", ".deviation": ".std"}
"""Parts of names of weights in format 1, and what they are called since."""


def _current_name(name: str) -> str:
    """Return what a weight of format 1 is called in this version; names of this version stay as they are."""
    for former, current in FORMER_NAMES.items():
        name = name.replace(former, current)
    return name


def _check_prefix(prefix: str | None) -> str:
    if prefix and (not isinstance(prefix, str) or Path(prefix).name != prefix or "\\" in prefix):
        raise ValueError(f"prefix must be the beginning of names of files, without folders, but is {prefix!r}.")
    return prefix or ""


def _check_independence(folder: Path, noted: Any, given: Independence | None) -> Any:
    """Return what to make critics of: what is noted in the folder, or what the user gave again."""
    if given is None:
        if is_named(noted):
            return noted
        raise ValueError(
            f"independence: the model in {folder} was made with code of its own, {noted!r}. Code is not kept with a model: import it, "
            "and give it again by load(..., independence=...)."
        )
    if (described := describe_independence(given)) != noted:
        raise ValueError(f"independence: the model in {folder} was made with {noted!r}, but {described!r} was given.")
    return given


def _read_data(path: Path) -> MuData | None:
    if path.is_file():
        try:
            return mudata.read_h5mu(path)
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read: {error}. Copy it again, give the data by adata=mdata, or load the model alone by adata=False."
            ) from error
    warnings.warn(
        f"adata: no data were given, and none saved with the model ({path.name}), so it is loaded without. Give the data, or adata=False.",
        UserWarning,
        stacklevel=3,
    )
    return None


def load_registry(dir_path: str, prefix: str | None = None) -> dict[str, Any]:
    """Return what a saved model noted of its set-up.

    Parameters
    ----------
    dir_path, prefix
        As in :meth:`load`.
    """
    return read_values(check_path("dir_path", dir_path), f"{_check_prefix(prefix)}model")["registry_"]


def view_setup_args(dir_path: str, prefix: str | None = None) -> None:
    """Print the arguments of ``setup_mudata`` of a saved model.

    Parameters
    ----------
    dir_path, prefix
        As in :meth:`load`.
    """
    registry = load_registry(dir_path, prefix)
    given = "".join(f"    {name}={value!r},\n" for name, value in registry["setup_args"].items())
    print(f"{registry['model_name']}.setup_mudata(\n    mdata,\n{given})")


def convert_legacy_save(cls: type[IndiSeek], *args: Any, **kwargs: Any) -> NoReturn:
    """Not there: no version of this package saved models in that way.

    Raises
    ------
    NotImplementedError
        Always.
    """
    raise NotImplementedError(f"{cls.__name__} was never saved in the way of scvi-tools before 0.15.")
