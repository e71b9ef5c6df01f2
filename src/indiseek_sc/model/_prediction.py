"""One modality from the other, with how sure each value is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pandas as pd
import torch

from indiseek_sc._keys import ROLES, other
from indiseek_sc._text import listing
from indiseek_sc.data import read_input, read_modality, read_normalized
from indiseek_sc.metrics import judge_prediction, single_thread
from indiseek_sc.model._base import ModelBase, read_features
from indiseek_sc.model._codes import CELLS_AT_ONCE, _as_rows
from indiseek_sc.model._modality_prediction import ModalityPrediction
from indiseek_sc.model._prediction_stage import PredictionStage
from indiseek_sc.model._stage_runs import RunOptions
from indiseek_sc.model._training import _check_single_device
from indiseek_sc.module import Units
from indiseek_sc.nn import LEVELS
from indiseek_sc.train import isolated_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.data import ModalityCells
    from indiseek_sc.metrics import PredictionReport

STAGE = "prediction"


class PredictionMixin(ModelBase):
    """Prediction of a modality that was not measured."""

    def train_prediction(
        self,
        max_epochs: int | None = None,
        *,
        batch_size: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        early_stopping: bool = True,
        enable_progress_bar: bool = True,
        **trainer_kwargs: Any,
    ) -> None:
        """Learn to predict each modality from the other; :meth:`predict_modality` calls it if nobody has.

        Codes and transforms stay as they are. Training cells of :meth:`train` are learnt from, and its validation cells say when to stop
        and calibrate deviations and intervals; then it is learnt once more, for as long, from both. Held-out cells are not read.
        Training the model anew forgets it.

        Parameters
        ----------
        max_epochs
            Largest number of epochs.
        batch_size, accelerator, devices, early_stopping, enable_progress_bar, **trainer_kwargs
            As in :meth:`train`.

        Raises
        ------
        RuntimeError
            If the model is not trained, or has no data or other data than it was trained on.
        """
        self._require("shared")
        _check_single_device(devices)
        if self.adata is None or self.adata.n_obs != len(self.split.as_column()):
            raise RuntimeError(
                "The model has not learnt to predict yet, and needs the cells that it was trained on for it: load it with them, "
                "load(..., adata=mdata), call train_prediction() and save it again."
            )
        mdata = self._validate_anndata()
        runner = {"accelerator": accelerator, "devices": devices, "enable_progress_bar": enable_progress_bar}
        options = RunOptions(max_epochs, batch_size, early_stopping, {**runner, **trainer_kwargs})
        every = np.arange(mdata.n_obs)
        run = PredictionStage(self, {role: self._features(mdata, role, every) for role in ROLES}, options)
        try:
            with isolated_seed(self.seed), single_thread():
                run.train_prediction(self._batch(mdata, every))
            self.stages_ = [*(stage for stage in self.stages_ if stage != STAGE), STAGE]
        finally:
            self.module.requires_grad_(True)
            self.module.eval()

    def predict_modality(
        self,
        source: str,
        target: str,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | np.ndarray | None = None,
        units: Units = "features",
    ) -> ModalityPrediction:
        """Predict one modality from the other, for any cells that have the other one.

        An ensemble of networks reads the shared code of the source, the batch, and the features that the code was made of. The shared
        code alone is a few directions, which tell less of single proteins than kernel ridge regression on the features does; the specific
        code is made to tell nothing of what is shared, and was no help. The ensemble learns at the first call, if
        :meth:`train_prediction` was not called before, and is saved with the model.

        Deviations are of two parts, what varies among cells that look alike and what the members of the ensemble do not agree on, and are
        scaled to the errors on validation cells, feature by feature. So they are right on average for cells like those that
        the model was trained on; of a new donor or another protocol they may be too small.

        Parameters
        ----------
        source
            The modality to read, by its name in the MuData.
        target
            The modality to predict.
        mdata
            Any data with the source modality, whose features and batches must be those that the model knows; the target need not be
            there and is not read. The model's own data if not given. Nothing is written.
        indices
            Row numbers or mask of cells of the source modality, in any order; all if not given.
        units
            ``"features"``: what the model works on, as :meth:`get_features` gives it: standardised log-ratios of proteins, principal components of RNA.
            ``"normalized"``: centred log-ratios of proteins, log-normalised expression of the genes in use (decoded from the components, with
            what these leave of each gene in the deviation), or values as they were given where they were not counts.

        Returns
        -------
        Means and deviations, a row a cell and a column a feature; ``interval(0.9)`` gives bounds.

        Raises
        ------
        TypeError
            If ``mdata`` is no MuData.
        ValueError
            If modalities or units are unknown, or features, values or batches are not as the model needs them.
        RuntimeError
            If the model is not trained, or has to learn to predict first and lacks the data for it.

        Examples
        --------
        >>> predicted = model.predict_modality("rna", "adt", new_cells)
        >>> lower, upper = predicted.interval(0.9)
        """
        role = self._check_prediction(source, target, units)
        self._require("shared")
        cells = self._read_modality(mdata, role)
        if STAGE not in self.stages_:
            self.train_prediction()
        rows = _as_rows(indices, cells.names.size)
        columns = self._feature_names(other(role), units)
        mean, deviation = np.empty((2, rows.size, columns.size), dtype=np.float32)
        self.module.eval()
        with torch.inference_mode():
            for start in range(0, rows.size, CELLS_AT_ONCE):
                some = slice(start, start + CELLS_AT_ONCE)
                features, batch = self._features_of(cells, role, rows[some])
                for values, told in zip(
                    (mean, deviation), self.module.predict_other(role, features, batch, units), strict=True
                ):
                    values[some] = told.cpu().numpy()
        half_widths = self.module.modality_predictors[role].calibrations[units].half_widths.cpu().numpy()
        names = {"index": cells.names[rows], "columns": columns}
        return ModalityPrediction(
            pd.DataFrame(mean, **names),
            pd.DataFrame(deviation, **names),
            pd.DataFrame(half_widths, index=pd.Index(LEVELS, name="level"), columns=columns),
            source,
            target,
            units,
        )

    def audit_prediction(
        self,
        source: str,
        target: str,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | np.ndarray | None = None,
        units: Units = "features",
        level: float = 0.9,
    ) -> PredictionReport:
        """Judge the prediction of one modality by what was measured.

        Parameters
        ----------
        source, target, mdata, units
            As in :meth:`predict_modality`; the target must be there.
        indices
            As there. If not given, of the model's own data the cells that were held out, or the validation cells if none were (which also
            calibrated the intervals, so their coverage says little); of other data all.
        level
            Share of values that intervals shall hold.

        Returns
        -------
        Error, correlations and coverage, over all and by feature; prints as a table. :func:`indiseek_sc.pl.prediction` draws it.

        Raises
        ------
        ValueError
            As :meth:`predict_modality`, and if a cell lacks the target.
        """
        role = self._check_prediction(source, target, units)
        self._require("shared")
        if mdata is None and indices is None:
            indices = self.split.for_judging()[1]
        measured = self._read_modality(mdata, other(role))
        prediction = self.predict_modality(source, target, mdata, indices=indices, units=units)
        rows = measured.names.get_indexer(prediction.mean.index)
        if (rows < 0).any():
            lacking = prediction.mean.index[rows < 0]
            raise ValueError(
                f"mdata: {lacking.size:,} cells of {source!r} lack {target!r}, so there is nothing to compare: "
                f"{listing(lacking)}. Leave them out by indices."
            )
        if units == "features":
            values = self._features_of(measured, other(role), rows)[0]
        else:
            values = read_normalized(self.module.transforms[other(role)], measured.values, rows)
        lower, upper = prediction.interval(level)
        truth = pd.DataFrame(values.cpu().numpy(), index=prediction.mean.index, columns=prediction.mean.columns)
        return judge_prediction(truth, prediction.mean, lower, upper, level=level)

    def _check_prediction(self, source: str, target: str, units: str) -> Role:
        """Return the role of the source."""
        names = {name: role for role, name in self.modalities.items()}
        for argument, name in (("source", source), ("target", target)):
            if name not in names:
                raise ValueError(f"{argument}={name!r}: the model knows {' and '.join(map(repr, names))}.")
        if source == target:
            raise ValueError(
                f"source and target are both {source!r}: name the two modalities, {' and '.join(map(repr, names))}."
            )
        if units not in get_args(Units):
            raise ValueError(f"units must be 'features' or 'normalized', but is {units!r}.")
        return names[source]

    def _read_modality(self, mdata: MuData | None, role: Role) -> ModalityCells:
        own = self.adata
        if mdata is None and own is None:
            raise ValueError("mdata: the model was loaded without data, so it needs a MuData here.")
        is_own = mdata is None or mdata is own
        return read_modality(own if mdata is None else mdata, self.registry_, role, is_sample_enough=is_own)

    def _features_of(self, cells: ModalityCells, role: Role, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and batch codes of some cells."""
        batch = torch.from_numpy(cells.batch[rows]).to(self.module.device)
        return read_features(self.module, role, cells.values, rows, batch), batch

    def _feature_names(self, role: Role, units: Units) -> pd.Index:
        transform = self.module.transforms[role]
        if units == "features" and transform.components is not None:
            return pd.Index([f"component_{k + 1}" for k in range(transform.n_output)])
        names = np.asarray(read_input(self.registry_, role)[1]["column_names"])
        return pd.Index(names[transform.features.cpu().numpy()])
