"""Writing a report."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indiseek_sc import _keys
from indiseek_sc._checks import check_flag, check_path, check_whole
from indiseek_sc._lookup import find_obs
from indiseek_sc.report._cautions import find_cautions, list_figures, list_pair_figures
from indiseek_sc.report._compute import compute_missing, find_label_key, mix_batches
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
    """Write one HTML file of what was done and found; see ``model.report``, which hands over the model.

    Parameters
    ----------
    path
        File to write; one that is there is overwritten.
    mdata
        With representations that ``model.write_latents(mdata)`` wrote. What is written to it while the report is made is taken back.
    label_key
        Column of labels; by default the one that theta was computed for, if it was.
    model
        The trained model; without it there are no audit, histories and attributions.
    facts
        Of the model.
    audit
        What ``model.audit()`` returned; asked of the model if not given.
    compare
        Compare clusters of the representations, and theta with WNN weights, where this was not done before. It takes minutes.
    source
        What the cells are, for the title.
    seed
        Seed of what the report computes: audit, intervals, clusters and the draw of cells for attributions.
    tables
        Folder that is there, to which all tables of the report are written as CSV too.

    Raises
    ------
    KeyError
        If there are no representations, or no column ``label_key``.
    ValueError
        If there can be no such file, or there is no folder ``tables``.
    """
    file = check_path("path", path)
    check_flag("compare", compare)
    check_whole("seed", seed, 0)
    check_latents(mdata, "mdata")
    if label_key is not None:
        find_obs(mdata, label_key, "label_key")
    if file.is_dir() or not file.parent.is_dir():  # before the work
        what = (
            "it is a folder; the report is a file"
            if file.is_dir()
            else f"there is no folder {file.parent}. Make it first"
        )
        raise ValueError(f"path: {file}: {what}.")
    folder = None if tables is None else check_path("tables", tables)
    if folder is not None and not folder.is_dir():
        raise ValueError(f"tables: {folder}: there is no such folder. Make it first.")
    with unchanged(mdata), gathered_warnings() as told:
        if audit is None and model is not None:
            audit = model.audit(seed=seed)
        label_key = label_key or find_label_key(mdata)
        failures = compute_missing(mdata, label_key, model, audit, compare=compare, seed=seed)
        mixing = mix_batches(mdata, label_key, None if facts is None else facts.batch_key, seed)
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
    file.write_text(render(**content, warnings=told), encoding="utf-8")


def check_latents(mdata: MuData, name: str) -> None:
    """Refuse a MuData without representations.

    Parameters
    ----------
    mdata
        The data.
    name
        What the user calls it, for the error.

    Raises
    ------
    KeyError
        If representations or the note of the model that wrote them are missing.
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
            else f"uns[{_keys.SETTINGS!r}], the note of the model"
        )
        raise KeyError(
            f"{name} lacks {what}: no model wrote its representations there. Run indiseek-sc fit first, or model.write_latents(mdata), and save the result."
        )


FOR_DEVELOPERS = (DeprecationWarning, FutureWarning, PendingDeprecationWarning)


@contextmanager
def gathered_warnings() -> Iterator[list[str]]:
    """Collect in the block what Python warns of and what the package logs as a warning, each once and in its order.

    Filters that are set stay in force: what a user chose not to see is not in the report either.
    """
    told: list[str] = []
    listener = _Listener(told)
    logger = logging.getLogger("scvi")
    handlers, logger.handlers = logger.handlers, [listener]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, category, *_, **__: (
                None if issubclass(category, FOR_DEVELOPERS) else listener.tell(str(message))
            )
            yield told
    finally:
        logger.handlers = handlers


class _Listener(logging.Handler):
    def __init__(self, told: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.told = told

    def tell(self, message: str) -> None:
        text = " ".join(message.split())
        if text not in self.told:
            self.told.append(text)

    def emit(self, record: logging.LogRecord) -> None:
        self.tell(record.getMessage())


@contextmanager
def unchanged(mdata: MuData) -> Iterator[None]:
    """Take back after the block what was written to ``obs``, ``obsm`` and ``uns`` in it, where all tools of the report write."""
    obs, obsm, uns = mdata.obs.copy(), dict(mdata.obsm), dict(mdata.uns)
    try:
        yield
    finally:
        mdata.obs, mdata.uns = obs, uns
        for key in set(mdata.obsm) - set(obsm):
            del mdata.obsm[key]
        for key, values in obsm.items():
            mdata.obsm[key] = values
