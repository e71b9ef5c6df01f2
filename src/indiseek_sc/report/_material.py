"""What a report is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from indiseek_sc import _keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from indiseek_sc.metrics import AuditReport
    from indiseek_sc.report._model_facts import ModelFacts


@dataclass(frozen=True)
class Material:
    """The data with codes and tables, and the model where there is one.

    Parameters
    ----------
    mdata
        With codes; tables and embeddings as far as they were made.
    source
        What the cells are, in words.
    label_key
        Column of labels, if there is one.
    model
        The trained model, if it is at hand.
    facts
        Of the model.
    audit
        What ``model.audit()`` found.
    failures
        Why a table could not be computed, by its key in ``uns``.
    seed
        Seed of what the report itself computes.
    """

    mdata: MuData
    source: str
    label_key: str | None = None
    model: Any = None
    facts: ModelFacts | None = None
    audit: AuditReport | None = None
    failures: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @property
    def noted(self) -> Mapping[str, Any]:
        """What the model noted when it wrote its codes."""
        return self.mdata.uns[_keys.SETTINGS]

    @property
    def modalities(self) -> dict[_keys.Role, str]:
        """The user's own name of the modality in each role."""
        return {role: str(self.noted["modalities"][role]) for role in _keys.ROLES}

    @property
    def colors(self) -> Sequence[str]:
        """Columns to colour maps of cells by: labels, theta and batches, as far as there are any."""
        theta = _keys.THETA if _keys.THETA in self.mdata.obs else None
        batch = self.facts.batch_key if self.facts is not None else None
        return list(dict.fromkeys(key for key in (self.label_key, theta, batch) if key is not None))
