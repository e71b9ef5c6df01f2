"""A report of a file that was coded before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from indiseek_sc import IndiSeek, _keys
from indiseek_sc._lookup import find_obs
from indiseek_sc.report import check_codes, write_report

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

    from indiseek_sc.cli._clock import Clock


def report_file(
    mdata: MuData,
    clock: Clock,
    *,
    source: Path,
    output: Path,
    folder: Path | None,
    label_key: str | None,
    compare: bool,
    seed: int,
) -> None:
    """Write a report of cells that have codes.

    Parameters
    ----------
    mdata
        The cells.
    clock
        Tells the steps.
    source
        File that they are from.
    output
        File to write.
    folder
        Of the saved model, if there is one.
    label_key, compare, seed
        As in :meth:`indiseek_sc.IndiSeek.report`.

    Raises
    ------
    KeyError
        If there are no codes, or no such labels.
    ValueError
        If the model is of other cells, or cannot be loaded.
    """
    check_codes(mdata, str(source))
    if label_key is not None:
        find_obs(mdata, label_key, "--label-key")
    if folder is None:
        with clock.step("Drawing figures; without --model there are no audit, histories and attributions"):
            write_report(output, mdata, label_key=label_key, compare=compare, source=source.name, seed=seed)
        return
    with clock.step("Loading the model"), clock.speaking_for("scvi"):
        model = _load(folder, mdata)
    with clock.step("Audit of the codes on the cells that were held out"):
        audit = model.audit(seed=seed)
    with clock.step("Drawing figures"):
        model.report(output, label_key=label_key, audit=audit, compare=compare, source=source.name, seed=seed)


def _load(folder: Path, mdata: MuData) -> IndiSeek:
    if not (folder / "model.pt").is_file():
        raise ValueError(
            f"--model {folder} is not the folder of a saved model. Name one that model.save, or fit by --save-model, wrote."
        )
    try:
        model = IndiSeek.load(str(folder), adata=mdata)
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"--model {folder} cannot be loaded with these cells: {error}") from error
    noted = mdata.obs[_keys.SPLIT].astype(str).to_numpy() if _keys.SPLIT in mdata.obs else None
    if noted is None or not np.array_equal(noted, model.split.as_column()):
        raise ValueError(
            f"--model {folder} learned from other cells than obs[{_keys.SPLIT!r}] says. Give the model that wrote these codes, or leave --model out."
        )
    return model
