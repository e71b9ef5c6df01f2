"""Writing a report."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indiseek_sc import _keys
from indiseek_sc._lookup import find_obs
from indiseek_sc.report._audit_rows import list_figures, list_pair_figures
from indiseek_sc.report._cautions import find_cautions
from indiseek_sc.report._compute import compute_missing, find_label_key
from indiseek_sc.report._facts import collect_facts
from indiseek_sc.report._figures import draw_figures
from indiseek_sc.report._gathered import gathered_warnings
from indiseek_sc.report._material import Material
from indiseek_sc.report._pictures import list_pictures
from indiseek_sc.report._render import render
from indiseek_sc.report._unchanged import unchanged

if TYPE_CHECKING:
    from mudata import MuData

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._model_facts import ModelFacts


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
) -> None:
    """Write one HTML file that tells what was done and found; see ``model.report``, which hands over the model.

    Parameters
    ----------
    path
        File to write; one that is there is overwritten.
    mdata
        With codes that ``model.write_latents(mdata)`` wrote. What is written to it while the report is made is taken back.
    label_key
        Column of labels; by default the one that theta was computed for, if it was.
    model
        The trained model; without it there are no audit, histories and attributions.
    facts
        Of the model.
    audit
        What ``model.audit()`` returned; asked of the model if not given.
    compare
        Compare clusters of the codes, and theta with WNN weights, where this was not done before. It takes minutes.
    source
        What the cells are, for the title.
    seed
        Seed of what the report computes: audit, intervals, clusters and the draw of cells for attributions.

    Raises
    ------
    KeyError
        If there are no codes, or no column ``label_key``.
    """
    check_codes(mdata, "mdata")
    if label_key is not None:
        find_obs(mdata, label_key, "label_key")
    with unchanged(mdata), gathered_warnings() as told:
        if audit is None and model is not None:
            audit = model.audit(seed=seed)
        label_key = label_key or find_label_key(mdata)
        failures = compute_missing(mdata, label_key, model, audit, compare=compare, seed=seed)
        material = Material(mdata, source or "cells", label_key, model, facts, audit, failures, seed)
        figures = draw_figures(list_pictures(material))
        content = {
            "facts": collect_facts(material),
            "audit": audit,
            "audit_rows": None if audit is None else list_figures(audit),
            "pair_rows": None if audit is None else list_pair_figures(audit),
            "figures": figures,
            "cautions": find_cautions(material),
            "made_on": datetime.now(UTC).strftime("%Y-%m-%d"),
            "seed": seed,
        }
    Path(path).write_text(render(**content, warnings=told), encoding="utf-8")


def check_codes(mdata: MuData, name: str) -> None:
    """Refuse a MuData without codes.

    Parameters
    ----------
    mdata
        The data.
    name
        What the user calls it, for the error.

    Raises
    ------
    KeyError
        If codes or the note of the model that wrote them are missing.
    """
    roles = mdata.uns.get(_keys.SETTINGS, {}).get("modalities", {})
    keys = [
        _keys.JOINT,
        *(key(str(roles.get(role, role))) for key in (_keys.shared, _keys.specific) for role in _keys.ROLES),
    ]
    lacking = [key for key in keys if key not in mdata.obsm]
    if lacking or not roles:
        what = (
            f"the codes {', '.join(lacking)} in obsm" if lacking else f"uns[{_keys.SETTINGS!r}], the note of the model"
        )
        raise KeyError(
            f"{name} lacks {what}: no model wrote its codes there. Run indiseek-sc fit first, or model.write_latents(mdata), and save the result."
        )
