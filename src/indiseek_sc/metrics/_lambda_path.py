"""What a walk along lambda found, and which lambda it chooses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indiseek_sc._checks import check_number

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("leak_ratio", "leak_ratio_se", "leak_p", "gain", "complete")


class LambdaChoice(NamedTuple):
    """A lambda, whether all leaks there are within the tolerance, and why it was chosen, in words."""

    value: float
    is_within: bool
    reason: str


def choose_lambda(table: pd.DataFrame, tolerance: float) -> LambdaChoice:
    """Choose the largest lambda whose leak ratio is at most ``tolerance`` in every modality; no label is read.

    If there is none, the one whose larger leak ratio is smallest (of equals, the largest lambda). The estimates decide, not
    their intervals. A leak ratio that is not defined, since there is too little to leak, is within any tolerance.

    Parameters
    ----------
    table
        A row for each lambda and modality, with columns ``lambda`` and ``leak_ratio``.
    tolerance
        Largest leak ratio that counts as none.

    Raises
    ------
    ValueError
        If the table has no row, or ``tolerance`` is negative.
    """
    if table.empty:
        raise ValueError("table has no row: there is no lambda to choose from.")
    check_number("tolerance", tolerance)
    worst = table.assign(leak_ratio=table["leak_ratio"].fillna(0.0)).groupby("lambda")["leak_ratio"].max()
    worst = worst.sort_index(ascending=False)
    within = worst[worst <= tolerance]
    if len(within):
        value, leak = within.index[0], within.iloc[0]
        is_first = worst.index[0] == value
        return LambdaChoice(
            float(value),
            True,
            f"Lambda {value:g} is the largest {'tried, and its' if is_first else 'whose'} leak ratio is within {tolerance:g} in "
            f"both modalities (at most {leak:.3f}).",
        )
    value, leak = worst.idxmin(), worst.min()
    return LambdaChoice(
        float(value),
        False,
        f"No lambda keeps the leak ratio within {tolerance:g} in both modalities; {value:g} has the smallest (at most {leak:.3f}).",
    )


@dataclass(frozen=True, eq=False)
class LambdaPath:
    """Independence against completeness along lambda; print it to read it, or draw it by :func:`indiseek_sc.pl.lambda_path`.

    Attributes
    ----------
    table
        A row for each lambda (largest first) and modality: ``lambda``, ``modality``, the figures of
        :func:`indiseek_sc.metrics.audit` that depend on the specific representation, and ``leak_ratio_se``.
    chosen
        The chosen lambda.
    tolerance
        Largest leak ratio that counts as none.
    reason
        Why it was chosen, in words.
    n_train, n_test
        Cells that the probes were fitted on, and cells that the figures were read on.
    """

    table: pd.DataFrame
    chosen: float
    tolerance: float
    reason: str
    n_train: int
    n_test: int

    @property
    def is_within(self) -> bool:
        """Whether the leaks of the chosen lambda are within the tolerance."""
        return choose_lambda(self.table, self.tolerance).is_within

    def __str__(self) -> str:
        lines = self._shown().to_string(justify="right").splitlines()
        return "\n".join([self._title(), "", *lines, "", self.reason, self._note()])

    def _repr_html_(self) -> str:
        return f"<p><b>{self._title()}</b></p>{self._shown().to_html()}<p>{self.reason}</p><p>{self._note()}</p>"

    def _title(self) -> str:
        return f"Path of lambda, judged on {self.n_test:,} validation cells by probes fitted on {self.n_train:,} training cells"

    def _shown(self) -> pd.DataFrame:
        """A row a lambda, the figures of one modality beside those of the other; the chosen one has a star."""
        wide = self.table.pivot(index="lambda", columns="modality", values=list(SHOWN)).swaplevel(axis=1)
        order = [(modality, figure) for modality in self.table["modality"].unique() for figure in SHOWN]
        wide = wide[order].sort_index(ascending=False).astype(float)
        names = [f"{value:g}{' *' if np.isclose(value, self.chosen) else '  '}" for value in wide.index]
        return wide.map("{:.3f}".format).replace("nan", "-").set_axis(names).rename_axis(None)

    def _note(self) -> str:
        return "leak_ratio_se is the standard error over cells. The final figures are those of model.audit() on held-out cells."
