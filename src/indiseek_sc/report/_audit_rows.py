"""The figures of an audit in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from indiseek_sc.metrics import AUDIT_FIGURES, AUDIT_PAIR_FIGURES
from indiseek_sc.pl import AUDIT_AIMS

if TYPE_CHECKING:
    from indiseek_sc.metrics import AuditReport


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
        told = f"{aim.side} {aim.value:.2f}" if aim is not None else target
        rows.append(AuditRow(figure, tuple(map(_round, values)), told, meaning, is_missed))
    return rows


def list_pair_figures(audit: AuditReport) -> list[AuditRow]:
    """The same for the figures of both modalities together."""
    return [AuditRow(name, (_round(value),), *AUDIT_PAIR_FIGURES[name]) for name, value in audit.pair.items()]


def _round(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"
