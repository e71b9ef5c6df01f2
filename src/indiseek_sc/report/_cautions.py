"""Cautions of a report and the table of audit measures."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indiseek_sc import _keys
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import AUDIT_MEASURES, AUDIT_PAIR_MEASURES, label_accuracy
from indiseek_sc.pl import AUDIT_AIMS, audit_aims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._facts import Material

MAX_FEW_CELL_LABELS, MAX_BATCH_LABELS = 12, 5
"""Largest numbers of labels that a caution names."""

BATCH_CHECK_CELLS, N_NEIGHBORS = 4000, 15

SEPARATION = 0.5
"""Batches are reported as separated if the accuracy with which neighbours predict the batch exceeds
the share of the largest batch by more than this fraction of the largest possible excess."""

SIGNIFICANCE = 0.05
"""Significance level of p-values."""

MIN_EXCESS = 0.1
"""Smallest excess batch sharing within a label that is reported, as a share of the largest possible
excess over chance."""

CLUSTER_COLUMNS = ("leiden", _keys.CLUSTERS)
"""Prefixes of columns that hold clusters rather than cell types: those written by the command line
and by ``tl.compare_clusters``."""


def find_cautions(material: Material) -> list[str]:
    """Return the cautions of a report, one sentence or more each.

    Cautions of the model come first, the others follow in descending order of importance.

    Parameters
    ----------
    material
        Input of the report.
    """
    from_model = [] if material.facts is None else material.facts.cautions
    return [
        *from_model,
        *_audit_cautions(material),
        *_split_cautions(material),
        *_batch_cautions(material),
        *_claim_cautions(material),
        *_dimension_cautions(material),
        *_small_leak_cautions(material),
        *_label_cautions(material),
        *_version_cautions(material),
    ]


def _audit_cautions(material: Material) -> Iterator[str]:
    if material.audit is None:
        yield (
            "The representations were not audited, because the audit needs the model: this report "
            "contains no evidence of their independence."
        )
        return
    table = material.audit.table
    for figure, aim in audit_aims(material.audit.n_train).items():
        values = table[figure].astype(float)
        missed = values[aim.is_missed(values)]
        if len(missed):
            listed = " and ".join(f"{value:.3f} ({name})" for name, value in missed.items())
            yield f"The audit misses an aim ({aim.title}): {listed}, where the aim is {aim.side} {aim.value:g}."


def _small_leak_cautions(material: Material) -> Iterator[str]:
    """Yield a caution for leaks that meet the aim but are larger than chance."""
    if material.audit is None or "leak_p" not in material.audit.table:
        return
    figures = material.audit.table[["leak_ratio", "leak_p"]].astype(float)
    small = figures[(figures["leak_p"] < SIGNIFICANCE) & (figures["leak_ratio"] <= AUDIT_AIMS["leak_ratio"].value)]
    if len(small):
        listed = " and ".join(
            f"{name} ({percent(row['leak_ratio'])} of what its features explain, permutation p = {row['leak_p']:.3f})"
            for name, row in small.iterrows()
        )
        yield (
            f"The leak of {listed} is small but larger than chance: the specific representation still depends slightly "
            "on the shared representation of the other modality."
        )


def _split_cautions(material: Material) -> Iterator[str]:
    obs = material.mdata.obs
    if _keys.SPLIT not in obs:
        yield (
            "The training cells are not recorded in the data, so the results of this report may have been computed "
            "on training cells."
        )
    elif not (obs[_keys.SPLIT].astype(str) == "test").any():
        yield (
            "No cells were held out. Audit and retrieval were computed on the validation cells, which also decided "
            "when training stopped, and may be too favourable. Train with held_out to keep test cells."
        )


def _claim_cautions(material: Material) -> Iterator[str]:
    table = material.mdata.uns.get(_keys.IMPORTANCE)
    if table is None or not {"claim", "reliable"} <= set(table):
        return
    claims = table.loc[table["reliable"].astype(bool), "claim"].astype(str)
    if not material.has_refits:
        yield (
            "This report does not state which modality resolves which label better, because that requires refits of "
            "the model on halves of the cells: run indiseek-sc fit --refits, or call model.write_refits() before "
            "tl.modality_importance."
        )
    n_neither = int((claims == "neither").sum())
    if n_neither > len(claims) / 2:
        yield (
            f"For {n_neither} of {len(claims)} labels neither modality resolves the label beyond the shared "
            "representations: theta is near chance there and should not be interpreted."
        )


def _label_cautions(material: Material) -> Iterator[str]:
    table = material.mdata.uns.get(_keys.IMPORTANCE)
    if table is None or "reliable" not in table:
        return
    few = table.loc[~table["reliable"].astype(bool), "label"].astype(str).tolist()
    if few:
        minimum = material.mdata.uns.get(f"{_keys.IMPORTANCE}_params", {}).get("minimum_cells")
        number = f"fewer than {minimum}" if minimum is not None else "few"
        n_more = len(few) - MAX_FEW_CELL_LABELS
        more = f" and {n_more} more" if n_more > 0 else ""
        yield f"Theta is uncertain for labels of {number} cells: {', '.join(few[:MAX_FEW_CELL_LABELS])}{more}."
    if material.label_key is not None and material.label_key.startswith(CLUSTER_COLUMNS):
        yield (
            f"The labels ({material.label_key}) are clusters of the joint representation itself, so theta describes "
            "only groups that the representations already resolve."
        )


def _dimension_cautions(material: Material) -> Iterator[str]:
    table = material.mdata.uns.get(_keys.DIMENSIONS)
    if table is None or not (technical := table["is_technical"].astype(bool)).any():
        return
    counts = technical.groupby(table["modality"], sort=False, observed=True).agg(["sum", "size"])
    listed = " and ".join(f"{row['sum']} of {row['size']} ({name})" for name, row in counts.iterrows() if row["sum"])
    yield (
        f"Dimensions of specific representations follow technical covariates: {listed}. The section "
        "Interpretation of the dimensions lists these dimensions and their covariates."
    )


def _batch_cautions(material: Material) -> Iterator[str]:
    """Yield cautions on separation of batches in the joint representation."""
    facts, mdata = material.facts, material.mdata
    if facts is None or facts.batch_key is None:
        return
    latents = {"joint": _keys.JOINT, "shared": _keys.shared(material.modalities["rna"])}
    latents |= {f"{name}-specific": _keys.specific(name) for name in material.modalities.values()}
    batch = find_labels(mdata, facts.batch_key, "batch_key").astype(str).to_numpy()
    known = np.flatnonzero(np.isfinite(mdata.obsm[_keys.JOINT]).all(axis=1))
    cells = np.random.default_rng(material.seed).permutation(known)[:BATCH_CHECK_CELLS]
    batch, (train, test) = batch[cells], np.array_split(np.arange(len(cells)), 2)
    if len(train) <= N_NEIGHBORS:
        return
    by_chance = np.unique(batch[test], return_counts=True)[1].max() / len(test)
    accuracy = {
        name: label_accuracy(mdata.obsm[key][cells], batch, train, test, n_neighbors=N_NEIGHBORS)
        for name, key in latents.items()
    }
    if accuracy["joint"] - by_chance > SEPARATION * (1 - by_chance):
        listed = ", ".join(f"{share:.0%} ({name})" for name, share in accuracy.items())
        yield (
            f"Batches ({facts.batch_key}) are separated: nearest neighbours predict the correct batch for {listed} of "
            f"the cells, where the largest batch contains {by_chance:.0%}. Unless batch correction was switched off, "
            "additive batch effects within each cell state were subtracted. The remaining separation is due to cell "
            "types that occur in one batch only, or to batch effects that differ within a state."
        )
    yield from _within_label_batch_cautions(material)


def _within_label_batch_cautions(material: Material) -> Iterator[str]:
    table = material.mixing
    if table is None or not len(table):
        return
    separated = table[(table["p_adjusted"] < SIGNIFICANCE) & (table["excess"] > MIN_EXCESS)].sort_values(
        "excess", ascending=False
    )
    if not len(separated):
        return
    listed = ", ".join(
        f"{row['label']} ({row['same_batch']:.0%}, {row['by_chance']:.0%} by chance)"
        for _, row in separated.head(MAX_BATCH_LABELS).iterrows()
    )
    n_more = len(separated) - MAX_BATCH_LABELS
    more = f" and {n_more} more" if n_more > 0 else ""
    key = material.facts.batch_key if material.facts is not None else "batch"
    yield (
        f"Batch structure ({key}) remains in the joint representation within {len(separated)} of {len(table)} labels: "
        f"neighbours of the same label share their batch more often than by chance: {listed}{more}. Clusters within "
        "these labels may reflect batches, or differences between batches such as those between donors."
    )


def _version_cautions(material: Material) -> Iterator[str]:
    written_by, here = str(material.noted.get("version", "")), version("indiseek_sc")
    if written_by and written_by != here:
        yield (
            f"The representations were written by indiseek_sc {written_by}; this report was created by indiseek_sc "
            f"{here}."
        )


class AuditRow(NamedTuple):
    """A row of the audit table: values (one per modality, or one for both), aim and meaning."""

    figure: str
    values: tuple[str, ...]
    aim: str
    meaning: str
    is_missed: bool = False


def list_figures(audit: AuditReport) -> list[AuditRow]:
    """Return a row for each measure of the single modalities, in the order of the audit."""
    rows, aims = [], audit_aims(audit.n_train)
    for figure, (target, meaning) in AUDIT_MEASURES.items():
        values = audit.table[figure].astype(float)
        aim = aims.get(figure)
        is_missed = aim is not None and bool(aim.is_missed(values).any())
        shown = f"{aim.side} {aim.value:.2f}" if aim is not None else target
        rows.append(AuditRow(figure, tuple(map(_round, values)), shown, meaning, is_missed))
    return rows


def list_pair_figures(audit: AuditReport) -> list[AuditRow]:
    """Return a row for each measure of both modalities together."""
    return [AuditRow(name, (_round(value),), *AUDIT_PAIR_MEASURES[name]) for name, value in audit.pair.items()]


def _round(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def percent(share: float) -> str:
    """Format a share as a percentage; negative estimates of a share are shown as 0 %."""
    if math.isnan(share):
        return "an undefined share"
    value = 100 * max(share, 0.0)
    return f"{value:.2g}\N{NO-BREAK SPACE}%" if value < 10 else f"{value:.0f}\N{NO-BREAK SPACE}%"
