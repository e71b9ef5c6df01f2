"""Tables of a report as CSV files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from indiseek_sc import _keys
from indiseek_sc.metrics import AUDIT_MEASURES, AUDIT_PAIR_MEASURES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._facts import Material

FILE_NAMES = {
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
"""Names of the CSV files of tables in ``uns``, without the extension."""


class Table(NamedTuple):
    """A table and the name of its file without the extension."""

    name: str
    values: pd.DataFrame

    def to_csv(self) -> str:
        """Return comma-separated values with a header; undefined values are empty."""
        return self.values.to_csv(index=False)


def list_tables(material: Material) -> list[Table]:
    """Return all available tables.

    Parameters
    ----------
    material
        Input of the report.
    """
    tables = [table for table in _all_tables(material) if len(table.values)]
    return [table._replace(name=as_file_name(table.name)) for table in tables]


def _all_tables(material: Material) -> Iterator[Table]:
    if material.audit is not None:
        yield Table("audit", _describe_audit(material.audit))
    for key, name in FILE_NAMES.items():
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
        yield Table("training", _stack_history(material))


def _describe_audit(audit: AuditReport) -> pd.DataFrame:
    """Return a row for each measure: its value for each modality, or for both, and its meaning."""
    table = audit.table.T.rename_axis("figure").reset_index()
    table["meaning"] = [AUDIT_MEASURES[figure][1] for figure in table["figure"]]
    pair = pd.DataFrame(
        [{"figure": name, "both": value, "meaning": AUDIT_PAIR_MEASURES[name][1]} for name, value in audit.pair.items()]
    )
    whole = pd.concat([table, pair], ignore_index=True)
    return whole[[*(column for column in whole if column != "meaning"), "meaning"]]


def _stack_history(material: Material) -> pd.DataFrame:
    """Return the training curves in long format, a row for each value."""
    parts = []
    for key, values in material.history.items():
        stage, _, quantity = key.partition("/")
        curve = pd.DataFrame(
            {"stage": stage, "quantity": quantity, "epoch": values.index, "value": values.iloc[:, 0].to_numpy()}
        )
        parts.append(curve)
    return pd.concat(parts, ignore_index=True)


def write_tables(material: Material, folder: Path) -> list[str]:
    """Write each table as a CSV file.

    Parameters
    ----------
    material
        Input of the report.
    folder
        Existing folder to write to.

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
    """Replace the characters of a name that are not allowed in a file name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
