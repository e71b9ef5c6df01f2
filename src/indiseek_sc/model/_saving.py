"""Saving and loading of models; loading executes no code, even from an untrusted folder."""

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
"""Key of the weights among the saved values of a model."""


def save(
    model: IndiSeek,
    dir_path: str | os.PathLike[str],
    prefix: str | None = None,
    overwrite: bool = False,
    save_anndata: bool = False,
    **anndata_write_kwargs: Any,
) -> None:
    """Save the model to a folder.

    ``model.json`` contains the settings and a checksum of ``model.pt``, which contains weights and
    arrays. Both are written atomically: if the disk is full or the process is killed, a model saved
    before is not affected.

    Parameters
    ----------
    dir_path
        Folder; nothing is written outside it.
    prefix
        Prefix of the names of all files.
    overwrite
        Write to an existing folder, replacing a model of the same ``prefix``.
    save_anndata
        Save the data too, as ``mdata.h5mu``.
    **anndata_write_kwargs
        Arguments of :meth:`mudata.MuData.write`.

    Raises
    ------
    ValueError
        If the folder exists and ``overwrite`` is False, ``prefix`` contains a folder, or there are
        no data to save.
    OSError
        If the files cannot be written.

    Examples
    --------
    >>> model.save("saved_model")
    >>> IndiSeek.load("saved_model", adata=mdata).modalities
    {'rna': 'rna', 'adt': 'adt'}
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
    # Attributes whose names end in an underscore are saved, as in scvi-tools.
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
    """Load a saved model.

    Loading executes no code of the folder: weights are read as plain tensors, and the rest is JSON.

    Parameters
    ----------
    dir_path
        Folder of the model.
    adata
        MuData with the features of the model, which are matched by name; it need not be set up.
        Training cells are recognised by their names and values, in any order. If not given,
        the data saved with the model; if False, none.
    accelerator
        ``"auto"`` (a GPU if there is one), ``"gpu"`` or ``"cpu"``.
    device
        Number of the GPU.
    prefix
        Prefix of the names of the files.
    independence
        The argument ``independence`` with which the model was created, if it included custom code.
        Custom code is named in the folder, but neither saved nor imported.

    Returns
    -------
    The model, which needs no data to represent new cells.

    Raises
    ------
    TypeError
        If ``adata`` is not a MuData.
    FileNotFoundError
        If there is no such model.
    ValueError
        If a file is damaged or of an unsupported version; the model is of another class;
        ``independence`` differs from that of the model; or the model cannot read ``adata``.

    Examples
    --------
    >>> model.save("model_to_load")
    >>> IndiSeek.load("model_to_load", adata=mdata).is_trained
    True
    """
    if adata is not None and adata is not False and not isinstance(adata, MuData):
        raise TypeError(
            f"adata must be a MuData with both modalities, but is {type(adata).__name__}. "
            "Create one by mudata.MuData({'rna': rna, 'adt': adt}), or give False to load the model alone."
        )
    folder, prefix = check_path("dir_path", dir_path), _check_prefix(prefix)
    place = choose_device(accelerator, device=device).torch
    values = read_values(folder, f"{prefix}model", place)
    registry, parameters, weights = (values.pop(name) for name in ("registry_", "init_params_", WEIGHTS))
    if registry["model_name"] != cls.__name__:
        raise ValueError(
            f"{folder} contains a model of the class {registry['model_name']}: call {registry['model_name']}.load."
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
            f"{folder}: the weights do not fit the architecture of version {version('indiseek_sc')}. "
            f"Train and save the model again, or load it with the version that model.json names. {error}"
        ) from error
    model.to_device(place)
    model.module.eval()
    if isinstance(adata, MuData):
        if is_view(adata):
            raise ValueError("adata: it is a view of other data. Copy it first: mdata = mdata.copy()")
        model.adata = adata
    return model


FORMER_NAMES = {"codecs.": "encoder_decoders.", ".mixing.": ".cholesky.", ".shape.": ".flow.", ".deviation": ".std"}
"""Parts of names of weights of encoder-decoders in format 1, and their present names."""


def _current_name(name: str) -> str:
    """Return the present name of a weight of format 1; present names are not changed."""
    if not name.startswith("codecs."):
        return name  # a weight of a user's own critic, for example, may be called .shape
    for former, current in FORMER_NAMES.items():
        name = name.replace(former, current)
    return name


def _check_prefix(prefix: str | None) -> str:
    if prefix and (not isinstance(prefix, str) or Path(prefix).name != prefix or "\\" in prefix):
        raise ValueError(f"prefix must be the beginning of file names, without folders, but is {prefix!r}.")
    return prefix or ""


def _check_independence(folder: Path, noted: Any, given: Independence | None) -> Any:
    """Return the independence terms: those noted in the folder or, if custom, those given."""
    if given is None:
        if is_named(noted):
            return noted
        raise ValueError(
            f"independence: the model in {folder} was created with custom code, {noted!r}, which is not saved with a "
            "model. Import it, and give it again by load(..., independence=...)."
        )
    if (described := describe_independence(given)) != noted:
        raise ValueError(
            f"independence: the model in {folder} was created with {noted!r}, but {described!r} was given."
        )
    return given


def _read_data(path: Path) -> MuData | None:
    if path.is_file():
        try:
            return mudata.read_h5mu(path)
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read: {error}. Copy the file again, give the data by adata=mdata, or load the model alone by "
                "adata=False."
            ) from error
    warnings.warn(
        f"adata: no data were given, and none were saved with the model ({path.name}), so it is loaded without data. Give the data, "
        "or adata=False.",
        UserWarning,
        stacklevel=3,
    )
    return None


def load_registry(dir_path: str, prefix: str | None = None) -> dict[str, Any]:
    """Return the registry of a saved model: the arguments and the result of ``setup_mudata``.

    Parameters
    ----------
    dir_path, prefix
        As in :meth:`load`.

    Examples
    --------
    >>> model.save("model_with_registry")
    >>> IndiSeek.load_registry("model_with_registry")["setup_args"]["batch_key"]
    'batch'
    """
    return read_values(check_path("dir_path", dir_path), f"{_check_prefix(prefix)}model")["registry_"]


def view_setup_args(dir_path: str, prefix: str | None = None) -> None:
    """Print the arguments of ``setup_mudata`` of a saved model.

    Parameters
    ----------
    dir_path, prefix
        As in :meth:`load`.

    Examples
    --------
    >>> model.save("model_with_arguments")
    >>> IndiSeek.view_setup_args("model_with_arguments")
    IndiSeek.setup_mudata(
        mdata,
        ...
        batch_key='batch',
        ...
    )
    """
    registry = load_registry(dir_path, prefix)
    given = "".join(f"    {name}={value!r},\n" for name, value in registry["setup_args"].items())
    print(f"{registry['model_name']}.setup_mudata(\n    mdata,\n{given})")


def convert_legacy_save(cls: type[IndiSeek], *args: Any, **kwargs: Any) -> NoReturn:
    """Raise an error: no version of this package used the legacy format of scvi-tools.

    Raises
    ------
    NotImplementedError
        Always.
    """
    raise NotImplementedError(f"{cls.__name__} was never saved in the legacy format of scvi-tools (before 0.15).")
