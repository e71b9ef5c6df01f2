"""What a model predicts of a modality that a cell was not measured in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from indiseek_sc.module._modality_predictor import Units


@dataclass(frozen=True, eq=False)
class ModalityPrediction:
    """Values of a target modality predicted from another one, with how sure each of them is.

    Attributes
    ----------
    mean
        Predicted values, shape ``(n_cells, n_features)``: a row a cell, a column a feature.
    deviation
        Standard deviation of the error of each value, in the same units and shape.
    half_widths
        Half the width of an interval in deviations, by the share of values that it holds (index) and feature (columns).
    source, target
        Names of the modalities.
    units
        What the values are; see :meth:`indiseek_sc.IndiSeek.predict_modality`.
    """

    mean: pd.DataFrame
    deviation: pd.DataFrame
    half_widths: pd.DataFrame
    source: str
    target: str
    units: Units

    def interval(self, level: float = 0.9) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return lower and upper bounds that a share ``level`` of the values of each feature lies between.

        They are around ``mean`` and as wide as was needed on the validation cells, whatever the shape of the errors, so the share
        holds for cells like these: on average over cells, not for each cell or cell type, and not for a new donor.

        Parameters
        ----------
        level
            From 0.05 to 0.99; between multiples of 0.05 widths are interpolated.

        Returns
        -------
        Lower and upper bounds, shape ``(n_cells, n_features)`` both.

        Raises
        ------
        ValueError
            If ``level`` is out of range.
        """
        levels = self.half_widths.index.to_numpy()
        if not levels[0] <= level <= levels[-1]:
            raise ValueError(f"level must lie in {levels[0]} to {levels[-1]}, but is {level}.")
        width = np.array([np.interp(level, levels, column) for column in self.half_widths.to_numpy().T])
        reach = self.deviation * width.astype(np.float32)
        return self.mean - reach, self.mean + reach

    def __repr__(self) -> str:
        n_cells, n_features = self.mean.shape
        return (
            f"{type(self).__name__} of {self.target!r} from {self.source!r}: {n_cells:,} cells, {n_features:,} features, "
            f"units {self.units!r}; mean deviation {np.nanmean(self.deviation.to_numpy()):.3f}."
        )
