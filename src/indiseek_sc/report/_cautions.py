"""What the audit says, figure by figure, and what speaks against the representations or asks to be read with care."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indiseek_sc import _keys
from indiseek_sc._lookup import find_labels
from indiseek_sc.metrics import AUDIT_FIGURES, AUDIT_PAIR_FIGURES, label_accuracy
from indiseek_sc.pl import AUDIT_AIMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._facts import Material

MOST_NAMES, MOST_LISTED = 12, 5

CELLS_OF_BATCHES, N_NEIGHBORS = 4000, 15

APART = 0.5
"""Batches lie apart if neighbours name this share of those cells whose batch is not guessed anyway."""

LEVEL = 0.05
"""A p-value below this is taken for larger than chance."""

SMALLEST_EXCESS = 0.1
"""How much more neighbours share their batch than by chance, of what more is possible, before it is told of a label."""

CLUSTERS_OF_LATENTS = ("leiden", _keys.CLUSTERS)
"""How columns begin that hold no cell types but clusters: those of the command line, and of ``tl.compare_clusters``."""


def find_cautions(material: Material) -> list[str]:
    """Sentences, the model's own words first, then the strongest.

    Parameters
    ----------
    material
        What the report is made from.
    """
    own = [] if material.facts is None else material.facts.cautions
    return [
        *own,
        *_of_audit(material),
        *_of_split(material),
        *_of_batches(material),
        *_of_claims(material),
        *_of_dimensions(material),
        *_of_small_leaks(material),
        *_of_labels(material),
        *_of_versions(material),
    ]


def _of_audit(material: Material) -> Iterator[str]:
    if material.audit is None:
        yield "The representations were not audited for this report, which needs the model: nothing here says how independent they are."
        return
    table = material.audit.table
    for figure, aim in AUDIT_AIMS.items():
        values = table[figure].astype(float)
        missed = values[aim.is_missed(values)]
        if len(missed):
            listed = " and ".join(f"{value:.3f} ({name})" for name, value in missed.items())
            yield f"The audit misses an aim ({aim.title}): {listed}, where {aim.side} {aim.value:g} is aimed for."


def _of_small_leaks(material: Material) -> Iterator[str]:
    """Leaks that meet the aim and are larger than chance all the same."""
    if material.audit is None or "leak_p" not in material.audit.table:
        return
    figures = material.audit.table[["leak_ratio", "leak_p"]].astype(float)
    small = figures[(figures["leak_p"] < LEVEL) & (figures["leak_ratio"] <= AUDIT_AIMS["leak_ratio"].value)]
    if len(small):
        listed = " and ".join(
            f"{name} ({percent(row['leak_ratio'])} of what its features explain, permutation p = {row['leak_p']:.3f})"
            for name, row in small.iterrows()
        )
        yield (
            f"The leak of {listed} is small but larger than chance: a small dependence of the specific representation on the shared one of the other modality remains."
        )


def _of_split(material: Material) -> Iterator[str]:
    obs = material.mdata.obs
    if _keys.SPLIT not in obs:
        yield "It is not known which cells the model learned from; figures may be of these very cells."
    elif not (obs[_keys.SPLIT].astype(str) == "test").any():
        yield (
            "No cells were held out. Audit and retrieval are of the validation cells, by which training was stopped, and may be too favourable. Train with "
            "held_out to keep some apart."
        )


def _of_claims(material: Material) -> Iterator[str]:
    table = material.mdata.uns.get(_keys.IMPORTANCE)
    if table is None or not {"claim", "reliable"} <= set(table):
        return
    claims = table.loc[table["reliable"].astype(bool), "claim"].astype(str)
    if not material.has_refits:
        yield (
            "It is not claimed which modality resolves which labels better, since that needs models trained anew on halves of the cells: indiseek-sc fit --refits, or "
            "model.write_refits() before tl.modality_importance."
        )
    n_neither = int((claims == "neither").sum())
    if n_neither > len(claims) / 2:
        yield (
            f"For {n_neither} of {len(claims)} labels neither modality resolves the label beyond the shared representations: theta is near chance there, and compares noise "
            "with noise."
        )


def _of_labels(material: Material) -> Iterator[str]:
    table = material.mdata.uns.get(_keys.IMPORTANCE)
    if table is None or "reliable" not in table:
        return
    few = table.loc[~table["reliable"].astype(bool), "label"].astype(str).tolist()
    if few:
        minimum = material.mdata.uns.get(f"{_keys.IMPORTANCE}_params", {}).get("minimum_cells")
        than = f"fewer than {minimum}" if minimum is not None else "few"
        more = f" and {len(few) - MOST_NAMES} more" if len(few) > MOST_NAMES else ""
        yield f"Theta is uncertain for labels of {than} cells: {', '.join(few[:MOST_NAMES])}{more}."
    if material.label_key is not None and material.label_key.startswith(CLUSTERS_OF_LATENTS):
        yield f"The labels ({material.label_key}) are clusters of the joint representation itself: theta is relative to what the representations resolve."


def _of_dimensions(material: Material) -> Iterator[str]:
    table = material.mdata.uns.get(_keys.DIMENSIONS)
    if table is None or not (technical := table["is_technical"].astype(bool)).any():
        return
    counts = technical.groupby(table["modality"], sort=False, observed=True).agg(["sum", "size"])
    listed = " and ".join(f"{row['sum']} of {row['size']} ({name})" for name, row in counts.iterrows() if row["sum"])
    yield (
        f"Dimensions of specific representations follow technical covariates: {listed}. Which, and what they follow, stands under "
        "What the dimensions mean."
    )


def _of_batches(material: Material) -> Iterator[str]:
    """Whether batches lie apart in the joint representation: overall, by how well neighbours predict the batch of a cell, and within labels."""
    facts, mdata = material.facts, material.mdata
    if facts is None or facts.batch_key is None:
        return
    latents = {"joint": _keys.JOINT, "shared": _keys.shared(material.modalities["rna"])}
    latents |= {f"{name}-specific": _keys.specific(name) for name in material.modalities.values()}
    batch = find_labels(mdata, facts.batch_key, "batch_key").astype(str).to_numpy()
    known = np.flatnonzero(np.isfinite(mdata.obsm[_keys.JOINT]).all(axis=1))
    cells = np.random.default_rng(material.seed).permutation(known)[:CELLS_OF_BATCHES]
    batch, (train, test) = batch[cells], np.array_split(np.arange(len(cells)), 2)
    if len(train) <= N_NEIGHBORS:
        return
    by_chance = np.unique(batch[test], return_counts=True)[1].max() / len(test)
    accuracy = {
        name: label_accuracy(mdata.obsm[key][cells], batch, train, test, n_neighbors=N_NEIGHBORS)
        for name, key in latents.items()
    }
    if accuracy["joint"] - by_chance > APART * (1 - by_chance):
        listed = ", ".join(f"{share:.0%} ({name})" for name, share in accuracy.items())
        yield (
            f"Batches ({facts.batch_key}) lie apart: neighbours in a representation predict the batch of {listed} of the cells, where the largest batch has {by_chance:.0%}. "
            "What a batch adds to the features of cells of each state is subtracted, unless the model was made without; what remains are kinds of cells that only one batch has, "
            "or effects that differ within a state."
        )
    yield from _of_batches_within_labels(material)


def _of_batches_within_labels(material: Material) -> Iterator[str]:
    table = material.mixing
    if table is None or not len(table):
        return
    apart = table[(table["p_adjusted"] < LEVEL) & (table["excess"] > SMALLEST_EXCESS)].sort_values(
        "excess", ascending=False
    )
    if not len(apart):
        return
    listed = ", ".join(
        f"{row['label']} ({row['same_batch']:.0%}, {row['by_chance']:.0%} by chance)"
        for _, row in apart.head(MOST_LISTED).iterrows()
    )
    more = f" and {len(apart) - MOST_LISTED} more" if len(apart) > MOST_LISTED else ""
    key = material.facts.batch_key if material.facts is not None else "batch"
    yield (
        f"Batch structure ({key}) remains in the joint representation within {len(apart)} of {len(table)} labels, whose neighbours of the same label share their batch "
        f"more than by chance: {listed}{more}. Clusters within these labels may be batches, or what differs between them, such as donors."
    )


def _of_versions(material: Material) -> Iterator[str]:
    wrote, here = str(material.noted.get("version", "")), version("indiseek_sc")
    if wrote and wrote != here:
        yield f"The representations were written by indiseek_sc {wrote}; this report was made by {here}."


class AuditRow(NamedTuple):
    """A figure: its values (one a modality, or one of both), what is aimed for, and what it says."""

    figure: str
    values: tuple[str, ...]
    aim: str
    meaning: str
    is_missed: bool = False


def list_figures(audit: AuditReport) -> list[AuditRow]:
    """A row for each figure of the modalities, in the order of the audit."""
    rows = []
    for figure, (target, meaning) in AUDIT_FIGURES.items():
        values = audit.table[figure].astype(float)
        aim = AUDIT_AIMS.get(figure)
        is_missed = aim is not None and bool(aim.is_missed(values).any())
        shown = f"{aim.side} {aim.value:.2f}" if aim is not None else target
        rows.append(AuditRow(figure, tuple(map(_round, values)), shown, meaning, is_missed))
    return rows


def list_pair_figures(audit: AuditReport) -> list[AuditRow]:
    """The same for the figures of both modalities together."""
    return [AuditRow(name, (_round(value),), *AUDIT_PAIR_FIGURES[name]) for name, value in audit.pair.items()]


def _round(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def percent(share: float) -> str:
    """A share as percent; what is below 0, which noise can make of 0, is 0."""
    if math.isnan(share):
        return "an undefined share"
    value = 100 * max(share, 0.0)
    return f"{value:.2g}\N{NO-BREAK SPACE}%" if value < 10 else f"{value:.0f}\N{NO-BREAK SPACE}%"
