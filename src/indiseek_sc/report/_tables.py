"""Tables behind a report, to be taken away as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from indiseek_sc import _keys
from indiseek_sc.metrics import AUDIT_FIGURES, AUDIT_PAIR_FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._facts import Material

OF_DATA = {
    _keys.IMPORTANCE: "theta",
    _keys.RANK_CORRELATION: "rank-correlation",
    f"{_keys.RANK_CORRELATION}_labels": "rank-correlation-labels",
    _keys.RETRIEVAL: "retrieval",
    _keys.DIMENSIONS: "dimensions",
    f"{_keys.DIMENSIONS}_covariates": "dimensions-covariates",
    f"{_keys.DIMENSIONS}_labels": "dimensions-labels",
    _keys.CLUSTERS: "cluster-agreement",
    f"{_keys.CLUSTERS}_latents": "cluster-resolutions",
    f"{_keys.CLUSTERS}_splits": "cluster-splits",
}
"""Tables in ``uns``, and what their files are called."""


class Table(NamedTuple):
    """A table, and the name of its file without the ending."""

    name: str
    values: pd.DataFrame

    def to_csv(self) -> str:
        """Comma-separated values with a line of names; what is not defined is empty."""
        return self.values.to_csv(index=False)


def list_tables(material: Material) -> list[Table]:
    """All tables that there are.

    Parameters
    ----------
    material
        What the report is made from.
    """
    tables = [table for table in _all_tables(material) if len(table.values)]
    return [table._replace(name=as_file_name(table.name)) for table in tables]


def _all_tables(material: Material) -> Iterator[Table]:
    if material.audit is not None:
        yield Table("audit", _tell_audit(material.audit))
    for key, name in OF_DATA.items():
        if key in material.mdata.uns:
            yield Table(name, pd.DataFrame(material.mdata.uns[key]))
    if material.mixing is not None:
        yield Table("batch-mixing", material.mixing)
    facts = material.facts
    if facts is not None and facts.lambda_path is not None:
        yield Table("lambda-path", facts.lambda_path.table)
    for (source, target), found in () if facts is None else facts.predictions.items():
        yield Table(f"prediction-{target}-from-{source}", found.table.rename_axis("feature").reset_index())
    if material.history:
        yield Table("training", _in_rows(material))


def _tell_audit(audit: AuditReport) -> pd.DataFrame:
    """A row for each figure: its value for each modality, or for both, and what it means."""
    table = audit.table.T.rename_axis("figure").reset_index()
    table["meaning"] = [AUDIT_FIGURES[figure][1] for figure in table["figure"]]
    pair = pd.DataFrame(
        [{"figure": name, "both": value, "meaning": AUDIT_PAIR_FIGURES[name][1]} for name, value in audit.pair.items()]
    )
    whole = pd.concat([table, pair], ignore_index=True)
    return whole[[*(column for column in whole if column != "meaning"), "meaning"]]


def _in_rows(material: Material) -> pd.DataFrame:
    """A row for each value of each curve of the training."""
    parts = []
    for key, values in material.history.items():
        stage, _, quantity = key.partition("/")
        curve = pd.DataFrame(
            {"stage": stage, "quantity": quantity, "epoch": values.index, "value": values.iloc[:, 0].to_numpy()}
        )
        parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def write_tables(material: Material, folder: Path) -> list[str]:
    """Write each table as CSV into a folder that is there.

    Parameters
    ----------
    material
        What the tables are of.
    folder
        Where to write.

    Returns
    -------
    Names of the files.
    """
    files = []
    for table in list_tables(material):
        files.append(f"{table.name}.csv")
        (folder / files[-1]).write_text(table.to_csv(), encoding="utf-8")
    return files


def as_file_name(name: str) -> str:
    """A name without what a path must not have: modalities are named by the user."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
