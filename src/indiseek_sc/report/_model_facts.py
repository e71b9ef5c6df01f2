"""What a report says of a model beyond what the MuData tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from indiseek_sc.metrics import PredictionReport


@dataclass(frozen=True)
class ModelFacts:
    """Facts of a trained model, which ``model.report`` gathers: a report does not know the class of models.

    Parameters
    ----------
    method
        Name of its class.
    preset
        Where settings came from that were not given.
    settings
        All settings, by name.
    preprocessing
        By the user's name of a modality, the steps from its values to the features that the model reads.
    history
        Curves of the training, by ``"stage/quantity"``.
    batch_key
        Column of batches that the model was given, if it was.
    batches
        Their names.
    lambda_path
        The walk by which lambda was chosen, if it was.
    cautions
        What the model itself has to say against its codes.
    predictions
        What ``model.audit_prediction`` found, by source and target; nothing if the model has not learnt to predict.
    """

    method: str
    preset: str
    settings: Mapping[str, Any]
    preprocessing: Mapping[str, str]
    history: Mapping[str, pd.DataFrame]
    batch_key: str | None
    batches: Sequence[str]
    lambda_path: Any
    cautions: Sequence[str]
    predictions: Mapping[tuple[str, str], PredictionReport]
