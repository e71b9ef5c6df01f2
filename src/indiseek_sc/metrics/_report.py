"""What an audit found, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FIGURES: dict[str, tuple[str, str]] = {
    "agreement": ("1 is best", "share of C that the other modality predicts"),
    "agreement_flat": ("1 is best", "the same, with all directions of C weighed equally"),
    "sufficiency": ("1 is best", "what C tells of the other modality, of all that can be told of it"),
    "leak": ("0 is best", "share of the other modality's C that Z predicts"),
    "leak_max": ("for scale", "share of the other modality's C that the raw features predict"),
    "leak_ratio": ("0 is best", "leak, as a share of leak_max"),
    "leak_p": ("large is best", "how often chance alone tells as much; is there any leak, not how much"),
    "r2_shared": ("for scale", "share of the features that C alone rebuilds"),
    "r2_both": ("for scale", "share of the features that C and Z rebuild"),
    "r2_best": ("for scale", "share of the features that C and as wide a code as Z can rebuild"),
    "complete": ("1 is best", "r2_both, as a share of r2_best"),
    "gain": ("1 is best", "what Z adds to C, of all that could be added"),
}
"""By figure of one modality: its target and what it says of the shared code C and the specific code Z."""

PAIR_FIGURES: dict[str, tuple[str, str]] = {
    "foscttm": ("0 is best, 0.5 is chance", "share of cells nearer to a cell's C than its own partner"),
    "recall@10": ("1 is best", "share of cells whose partner is among their 10 nearest"),
}
"""The same for the figures of both modalities together."""

_NOT_A_NUMBER = "A dash stands where there is too little to share, to leak or to gain for a ratio to mean anything."


@dataclass(frozen=True, eq=False)
class AuditReport:
    """Figures of an audit on held-out cells; print it to read them with their targets.

    Attributes
    ----------
    table
        One row a modality, one column a figure; what each says is in the printed report. NaN where a ratio has
        nothing to refer to.
    pair
        Figures of both shared codes together: ``foscttm`` and ``recall@10``.
    n_train, n_test
        Cells that the probes were fitted on, and cells that the figures were read on.
    n_retrieval
        Cells of the test part among which partners were sought.
    """

    table: pd.DataFrame
    pair: dict[str, float]
    n_train: int
    n_test: int
    n_retrieval: int

    def to_dict(self) -> dict[str, float]:
        """All figures as one flat mapping, with keys such as ``"rna.leak_ratio"`` and ``"foscttm"``."""
        of_modalities = {
            f"{modality}.{figure}": float(value)
            for modality, row in self.table.iterrows()
            for figure, value in row.items()
        }
        return of_modalities | self.pair

    def __str__(self) -> str:
        shown = self._shown()
        for column in ("target", "meaning"):  # pandas would set words flush right
            shown[column] = shown[column].str.ljust(shown[column].str.len().max())
        lines = shown.to_string(justify="left").splitlines()
        return "\n".join([self._title(), "", *map(str.rstrip, lines), "", *self._notes()])

    def _repr_html_(self) -> str:
        paragraphs = "".join(f"<p>{note}</p>" for note in self._notes())
        return f"<p><b>{self._title()}</b></p>{self._shown().to_html()}{paragraphs}"

    def _title(self) -> str:
        return f"Audit on {self.n_test:,} held-out cells, by probes fitted on {self.n_train:,} others"

    def _shown(self) -> pd.DataFrame:
        """Figures down, modalities across, then the target of each figure and what it says."""
        shown = self.table.T.map("{:.3f}".format).replace("nan", "-")
        shown["target"] = [FIGURES[figure][0] for figure in shown.index]
        shown["meaning"] = [FIGURES[figure][1] for figure in shown.index]
        return shown

    def _notes(self) -> list[str]:
        """The figures of the pair, and what a dash means if there is one."""
        notes = [
            f"{name} {value:.3f} ({PAIR_FIGURES[name][0]}): {PAIR_FIGURES[name][1]}, of {self.n_retrieval:,}"
            for name, value in self.pair.items()
        ]
        return [*notes, _NOT_A_NUMBER] if self.table.isna().any(axis=None) else notes
