"""Trade-off curve along lambda, and the rule that selects a lambda."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indiseek_sc._checks import check_number

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("leak_ratio", "leak_ratio_se", "leak_p", "gain", "complete")


class LambdaChoice(NamedTuple):
    """A selected lambda.

    Attributes
    ----------
    value
        The selected lambda.
    is_within
        Whether its leak ratios are within the tolerance in all modalities.
    reason
        The reason for the selection, in words.

    Examples
    --------
    >>> isk.metrics.LambdaChoice(100.0, True, "Lambda 100 is within the tolerance.").value
    100.0
    """

    value: float
    is_within: bool
    reason: str


def choose_lambda(table: pd.DataFrame, tolerance: float) -> LambdaChoice:
    """Select the largest lambda whose leak ratio is at most ``tolerance`` in every modality.

    If there is none, the lambda with the smallest maximum of leak ratios is selected (the largest
    of several such lambdas). The rule uses the estimates, not their intervals, and no labels. A
    leak ratio that is undefined, because there is too little to leak, counts as within any
    tolerance.

    Parameters
    ----------
    table
        A row for each lambda and modality, with columns ``lambda`` and ``leak_ratio``.
    tolerance
        Largest acceptable leak ratio.

    Returns
    -------
    The selected lambda and the reason.

    Raises
    ------
    ValueError
        If the table has no row, or ``tolerance`` is negative.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "lambda": [1000.0, 1000.0, 100.0, 100.0],
    ...         "modality": ["rna", "adt", "rna", "adt"],
    ...         "leak_ratio": [0.05, 0.01, 0.02, 0.01],
    ...     }
    ... )
    >>> isk.metrics.choose_lambda(table, tolerance=0.02).value
    100.0
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
            f"Lambda {value:g} is the largest {'tested, and its' if is_first else 'whose'} leak ratio is within "
            f"{tolerance:g} in both modalities (at most {leak:.3f}).",
        )
    value, leak = worst.idxmin(), worst.min()
    return LambdaChoice(
        float(value),
        False,
        f"No lambda keeps the leak ratio within {tolerance:g} in both modalities; {value:g} has the smallest "
        f"(at most {leak:.3f}).",
    )


@dataclass(frozen=True, eq=False)
class LambdaPath:
    """Trade-off between independence and completeness along lambda.

    Printing it lists the measures; :func:`indiseek_sc.pl.lambda_path` plots them.

    Attributes
    ----------
    table
        A row for each lambda (largest first) and modality: ``lambda``, ``modality``, the measures
        of :func:`indiseek_sc.metrics.audit` that depend on the specific representation, and
        ``leak_ratio_se``.
    chosen
        The selected lambda.
    tolerance
        Largest acceptable leak ratio.
    reason
        The reason for the selection, in words.
    n_train, n_test
        Number of cells on which the probes were fitted and evaluated.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "lambda": [1000.0, 1000.0, 100.0, 100.0],
    ...         "modality": ["rna", "adt", "rna", "adt"],
    ...         "leak_ratio": [0.05, 0.01, 0.02, 0.01],
    ...     }
    ... )
    >>> path = isk.metrics.LambdaPath(table, 100.0, 0.02, "Smallest leak.", n_train=480, n_test=60)
    >>> path.chosen
    100.0
    """

    table: pd.DataFrame
    chosen: float
    tolerance: float
    reason: str
    n_train: int
    n_test: int

    @property
    def is_within(self) -> bool:
        """Whether the leak ratios of the selected lambda are within the tolerance.

        Examples
        --------
        >>> table = pd.DataFrame(
        ...     {
        ...         "lambda": [1000.0, 1000.0, 100.0, 100.0],
        ...         "modality": ["rna", "adt", "rna", "adt"],
        ...         "leak_ratio": [0.05, 0.01, 0.02, 0.01],
        ...     }
        ... )
        >>> path = isk.metrics.LambdaPath(table, 100.0, 0.02, "Smallest leak.", n_train=480, n_test=60)
        >>> path.is_within
        True
        """
        return choose_lambda(self.table, self.tolerance).is_within

    def __str__(self) -> str:
        lines = self._shown().to_string(justify="right").splitlines()
        return "\n".join([self._title(), "", *lines, "", self.reason, self._note()])

    def _repr_html_(self) -> str:
        return f"<p><b>{self._title()}</b></p>{self._shown().to_html()}<p>{self.reason}</p><p>{self._note()}</p>"

    def _title(self) -> str:
        return (
            f"Trade-off along lambda on {self.n_test:,} validation cells, "
            f"by probes fitted on {self.n_train:,} training cells"
        )

    def _shown(self) -> pd.DataFrame:
        """Return a row for each lambda, with the measures of both modalities side by side.

        The selected lambda is marked by a star.
        """
        wide = self.table.pivot(index="lambda", columns="modality", values=list(SHOWN)).swaplevel(axis=1)
        order = [(modality, figure) for modality in self.table["modality"].unique() for figure in SHOWN]
        wide = wide[order].sort_index(ascending=False).astype(float)
        names = [f"{value:g}{' *' if np.isclose(value, self.chosen) else '  '}" for value in wide.index]
        return wide.map("{:.3f}".format).replace("nan", "-").set_axis(names).rename_axis(None)

    def _note(self) -> str:
        return (
            "leak_ratio_se is the standard error over cells. "
            "The final measures are those of model.audit() on held-out cells."
        )
