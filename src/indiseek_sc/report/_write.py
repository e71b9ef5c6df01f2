"""Writing of the HTML report."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indiseek_sc import _keys
from indiseek_sc._checks import check_flag, check_path, check_whole
from indiseek_sc._lookup import find_obs
from indiseek_sc.report._cautions import find_cautions, list_figures, list_pair_figures
from indiseek_sc.report._compute import compute_missing, find_label_key, measure_batch_mixing
from indiseek_sc.report._dimensions import find_dimensions
from indiseek_sc.report._facts import Material, collect_facts
from indiseek_sc.report._findings import find_findings
from indiseek_sc.report._images import as_csv
from indiseek_sc.report._page import render
from indiseek_sc.report._pictures import draw_figures, list_pictures
from indiseek_sc.report._tables import list_tables, write_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._facts import ModelFacts


def write_report(
    path: str | Path,
    mdata: MuData,
    *,
    label_key: str | None = None,
    model: Any = None,
    facts: ModelFacts | None = None,
    audit: AuditReport | None = None,
    compare: bool = False,
    source: str | None = None,
    seed: int = 0,
    tables: str | Path | None = None,
) -> None:
    """Write an HTML report of the methods and results; ``model.report`` calls it with a model.

    Parameters
    ----------
    path
        File to write; an existing file is overwritten.
    mdata
        Data with representations written by ``model.write_latents(mdata)``. The data are restored
        after the report is written.
    label_key
        Column of labels; by default the one for which theta was computed, if any.
    model
        The trained model. Without it the report has no audit, training curves and attributions.
    facts
        Facts about the model.
    audit
        Result of ``model.audit()``; computed by the model if not given.
    compare
        Compare clusters of the representations, and theta with WNN weights, unless the data contain
        these results. This takes minutes.
    source
        Description of the cells, for the title.
    seed
        Random seed of all computations of the report: audit, intervals, clusters and the subsample
        of cells for attributions.
    tables
        Existing folder, to which all tables of the report are written as CSV files.

    Raises
    ------
    KeyError
        If representations or the column ``label_key`` are missing.
    ValueError
        If the file cannot be written to, or the folder ``tables`` does not exist.
    """
    file = check_path("path", path)
    check_flag("compare", compare)
    check_whole("seed", seed, 0)
    check_latents(mdata, "mdata")
    if label_key is not None:
        find_obs(mdata, label_key, "label_key")
    if file.is_dir() or not file.parent.is_dir():  # checked before any computation
        what = (
            "it is a folder; the report is a file"
            if file.is_dir()
            else f"there is no folder {file.parent}. Create it first"
        )
        raise ValueError(f"path: {file}: {what}.")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise PermissionError(f"path: {file} cannot be written to (permission denied). Choose another folder.")
    folder = None if tables is None else check_path("tables", tables)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"tables: {folder}: there is no such folder. Create it first.")
    with restored(mdata), collected_warnings() as collected:
        if audit is None and model is not None:
            audit = model.audit(seed=seed)
        label_key = label_key or find_label_key(mdata)
        failures = compute_missing(mdata, label_key, model, audit, compare=compare, seed=seed)
        mixing = measure_batch_mixing(mdata, label_key, None if facts is None else facts.batch_key, seed)
        material = Material(mdata, source or "cells", label_key, model, facts, audit, failures, seed, mixing)
        figures = draw_figures(list_pictures(material))
        content = {
            "facts": collect_facts(material),
            "findings": find_findings(material),
            "tables": as_csv(list_tables(material)),
            "mixing": mixing,
            "audit": audit,
            "audit_rows": None if audit is None else list_figures(audit),
            "pair_rows": None if audit is None else list_pair_figures(audit),
            "figures": [figure for figure in figures if not figure.missing],
            "missing": [figure for figure in figures if figure.missing],
            "dimensions": find_dimensions(mdata),
            "cautions": find_cautions(material),
            "made_on": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seed": seed,
        }
        if folder is not None:
            write_tables(material, folder)
    file.write_text(render(**content, warnings=collected), encoding="utf-8")


def check_latents(mdata: MuData, name: str) -> None:
    """Raise an error if a MuData lacks representations.

    Parameters
    ----------
    mdata
        The data.
    name
        Name of the data in the error message.

    Raises
    ------
    KeyError
        If the representations or the settings recorded by the model are missing.
    """
    roles = mdata.uns.get(_keys.SETTINGS, {}).get("modalities", {})
    keys = [
        _keys.JOINT,
        *(key(str(roles.get(role, role))) for key in (_keys.shared, _keys.specific) for role in _keys.ROLES),
    ]
    lacking = [key for key in keys if key not in mdata.obsm]
    if lacking or not roles:
        what = (
            f"the representations {', '.join(lacking)} in obsm"
            if lacking
            else f"uns[{_keys.SETTINGS!r}], the settings of the model"
        )
        raise KeyError(
            f"{name} lacks {what}. Run indiseek-sc fit first, or call model.write_latents(mdata), and save the result."
        )


DEVELOPER_WARNINGS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect Python warnings and logged warnings of the package, without repetitions and in order.

    Warning filters of the user remain in force.
    """
    collected: list[str] = []
    handler = _WarningHandler(collected)
    logger = logging.getLogger("scvi")
    handlers, logger.handlers = logger.handlers, [handler]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, category, *_, **__: (
                None if issubclass(category, DEVELOPER_WARNINGS) else handler.add(str(message))
            )
            yield collected
    finally:
        logger.handlers = handlers


class _WarningHandler(logging.Handler):
    def __init__(self, collected: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.collected = collected

    def add(self, message: str) -> None:
        text = " ".join(message.split())
        if text not in self.collected:
            self.collected.append(text)

    def emit(self, record: logging.LogRecord) -> None:
        self.add(record.getMessage())


@contextmanager
def restored(mdata: MuData) -> Iterator[None]:
    """Restore ``obs``, ``obsm`` and ``uns`` at the end of the block."""
    obs, obsm, uns = mdata.obs.copy(), dict(mdata.obsm), dict(mdata.uns)
    try:
        yield
    finally:
        mdata.obs, mdata.uns = obs, uns
        for key in set(mdata.obsm) - set(obsm):
            del mdata.obsm[key]
        for key, values in obsm.items():
            mdata.obsm[key] = values
