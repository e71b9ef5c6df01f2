"""Use of a saved model on other cells: representations, and cross-modal predictions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anndata import AnnData
from mudata import MuData

from indiseek_sc import IndiSeek, _keys
from indiseek_sc._keys import ROLES
from indiseek_sc._lookup import with_modalities
from indiseek_sc._recognise import find_modalities
from indiseek_sc.io import read_anndata_or_mudata, split_anndata, write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from indiseek_sc._keys import Role
    from indiseek_sc.cli._outcome import Clock

LEVEL = 0.9
"""Coverage of the prediction intervals."""


def encode_file(
    model_folder: Path,
    source: Path,
    output: Path,
    clock: Clock,
    *,
    adt: str | None = None,
    has_new_batches: bool = False,
) -> None:
    """Write cells with the representations computed by a saved model.

    Parameters
    ----------
    model_folder
        Folder of the model.
    source
        Cells with both modalities, in any format of :func:`indiseek_sc.read`.
    output
        File to write.
    clock
        Reports progress.
    adt
        Modality, entry of ``obsm`` or feature type with proteins; recognised by its name if None.
    has_new_batches
        Whether to estimate the effects of batches that the model was not trained on.

    Raises
    ------
    ValueError
        If the model cannot be loaded, or the cells lack modalities or features of the model or
        belong to unknown batches.
    """
    with clock.step("Loading the model and the cells"), clock.relaying("scvi"):
        model = _load(model_folder)
        mdata = _read(source, model, ROLES, adt, clock)
        if has_new_batches:
            model = IndiSeek.load_query_data(mdata, model)
    with clock.step(f"Computing representations of {mdata.n_obs:,} cells"), clock.relaying("scvi"):
        model.write_latents(mdata)
    with clock.step("Writing the cells"):
        layer = model.registry_["setup_args"]["adt_layer"]
        write(mdata, output, rna=model.modalities["rna"], adt=model.modalities["adt"], adt_layer=layer)


def predict_file(model_folder: Path, source: Path, output: Path, clock: Clock, *, known: Role, adt: str | None) -> None:
    """Write predictions of one modality from the other by a saved model.

    Parameters
    ----------
    model_folder, source, output, clock
        As in :func:`encode_file`; the cells need only the modality from which predictions are made.
    known
        Role of the modality from which predictions are made.
    adt
        As in :func:`encode_file`.

    Raises
    ------
    ValueError
        If the model cannot be loaded, or the cells lack the modality or its features.
    RuntimeError
        If the model was not trained for prediction.
    """
    with clock.step("Loading the model and the cells"), clock.relaying("scvi"):
        model = _load(model_folder)
        mdata = _read(source, model, (known,), adt, clock)
    name, target = model.modalities[known], model.modalities[_keys.other(known)]
    with clock.step(f"Predicting {target} from {name} in {mdata.n_obs:,} cells"), clock.relaying("scvi"):
        found = model.predict_modality(name, target, mdata, units="normalized")
    lower, upper = found.interval(LEVEL)
    predicted = AnnData(found.mean, layers={"std": found.std, "lower": lower, "upper": upper})
    predicted.uns["indiseek_prediction"] = {"source": name, "target": target, "units": found.units, "level": LEVEL}
    with clock.step("Writing the predictions"):
        if output.suffix == ".h5ad":
            predicted.obs = mdata.mod[name].obs.loc[predicted.obs_names]
            predicted.write_h5ad(output)
        else:
            whole = with_modalities(mdata, {**mdata.mod, f"{target}_predicted": predicted})
            write(whole, output, rna=name, adt=target)


def _load(folder: Path) -> IndiSeek:
    """Load a model without cells."""
    if not (folder / "model.pt").is_file():
        raise ValueError(f"{folder} is not the folder of a saved model. Pass a folder written by fit --save-model.")
    try:
        return IndiSeek.load(str(folder), adata=False)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"{folder} cannot be loaded as a model: {error}") from error


def _read(path: Path, model: IndiSeek, roles: Sequence[Role], adt: str | None, clock: Clock) -> MuData:
    """Read cells, and name their modalities as in the model.

    Changed names are reported.
    """
    data = read_anndata_or_mudata(path)
    if isinstance(data, AnnData):
        try:
            data = split_anndata(data, adt=adt)
        except ValueError as error:
            if len(roles) > 1:
                raise ValueError(f"{path}: {error}") from None
            data = MuData({roles[0]: data})  # contains this modality only
    own = [model.modalities[role] for role in roles]
    if all(name in data.mod for name in own):
        return data
    given: dict[Role, str | None] = {role: role for role in ROLES}  # roles that are not required
    found = find_modalities(
        data, {**given, **dict.fromkeys(roles), **({"adt": adt} if adt in data.mod else {})}, "--{role} NAME"
    )
    names = {found[role]: model.modalities[role] for role in roles}
    for name, new in names.items():
        if name != new:
            clock.log(f"Modality {name!r} of the file is renamed to {new!r}, as in the model.")
    return with_modalities(data, {names.get(name, name): part for name, part in data.mod.items()})
