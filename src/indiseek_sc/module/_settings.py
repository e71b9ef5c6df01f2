"""What a model is made of, as one value that is saved with it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from indiseek_sc.losses import Independence, check_independence

Preset = Literal["default", "paper"]
Against = Literal["other", "own"]


@dataclass(frozen=True)
class Settings:
    """Choices that make a model and its training; see :class:`indiseek_sc.IndiSeek` for what a user gives.

    Parameters
    ----------
    n_shared
        Largest width of the raw shared codes, before directions that are not shared are dropped.
    n_shared_first
        Width that stage 1 begins with; it takes the largest only if codes of this one turn out not to be sufficient. Nothing to a
        stage 1 without a linear start.
    n_specific
        Largest width of the specific codes.
    n_hidden
        Width of the hidden layers of encoders and codecs.
    n_layers
        Hidden layers of encoders (and of the codec, if plain).
    dropout
        Dropout of the shared encoders.
    batch_offsets
        Take what each batch adds to features, cell states alike, out of them.
    linear_start
        Start stage 1 from regularised CCA, and end it in canonical directions.
    info_nce_weight
        Weight of InfoNCE in stage 1.
    canonical_weight
        Weight of the canonical term, for each dimension of the code.
    prediction_weight
        Weight of the error of predicting each modality from the other one's shared code.
    conditional_codec
        Use the conditional whitening in stage 2, else the plain encoder and decoder.
    standardize
        Standardise the specific code of the plain encoder. The conditional whitening always does.
    independence
        Names of the critics, joined by ``+``, or what makes them.
    against
        Whose shared code the critics compare a specific code with.
    lambda_
        Weight of the reconstruction error.
    batch_size
        Cells in a batch of stage 1, whose other cells are the negatives.
    specific_batch_size
        Cells in a batch of stage 2.
    learning_rate
        Step size of Adam for the shared encoders.
    specific_learning_rate
        Step size of Adam for the specific encoders, at their start.
    regression_learning_rate
        Step size of Adam for the conditional whitening, its shape, and the refinement of the decoder.
    prediction_learning_rate
        Step size of Adam for the prediction of one modality from the other.
    critic_learning_rate
        Step size of Adam for critics.
    weight_decay
        Decoupled weight decay of the encoders.
    n_critic_steps
        Critic steps for each step of the specific encoders.
    n_critic_warmup_steps
        Critic steps before the specific encoders move at all.
    n_critic_refresh_epochs
        Epochs of the specific encoders after which critics start anew and learn alone again; 0 means never.
    keep_least_leak
        Keep the codes of each modality as they were when a fresh probe read least of the other shared code from them on validation cells,
        which may be before the first epoch; else as they are after the last.
    max_epochs_shared
        Largest number of epochs of stage 1.
    max_epochs_conditional
        Largest number of epochs of the conditional whitening.
    max_epochs_shape
        Largest number of epochs of the splines that even out its shape.
    max_epochs_specific
        Number of epochs of the specific encoders.
    max_epochs_decoder
        Largest number of epochs of the decoder's refinement.
    max_epochs_prediction
        Largest number of epochs of the prediction of one modality from the other.
    patience
        Epochs without a better validation figure before a stage ends; 0 means never.
    """

    n_shared: int = 10
    n_shared_first: int = 6
    n_specific: int = 16
    n_hidden: int = 256
    n_layers: int = 2
    dropout: float = 0.4
    batch_offsets: bool = True
    linear_start: bool = True
    info_nce_weight: float = 0.05
    canonical_weight: float = 0.75
    prediction_weight: float = 4.0
    conditional_codec: bool = True
    standardize: bool = True
    independence: Independence = "gaussian+nce"
    against: Against = "other"
    lambda_: float = 100.0
    batch_size: int = 1024
    specific_batch_size: int = 512
    learning_rate: float = 1e-3
    specific_learning_rate: float = 3e-3
    regression_learning_rate: float = 1e-2
    prediction_learning_rate: float = 3e-3
    critic_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    n_critic_steps: int = 4
    n_critic_warmup_steps: int = 200
    n_critic_refresh_epochs: int = 0
    keep_least_leak: bool = True
    max_epochs_shared: int = 400
    max_epochs_conditional: int = 100
    max_epochs_shape: int = 60
    max_epochs_specific: int = 40
    max_epochs_decoder: int = 60
    max_epochs_prediction: int = 40
    patience: int = 20


_PRESETS: dict[str, Settings] = {
    "default": Settings(),
    # arXiv 2509.21584, CITE-seq experiments, as far as they are described there.
    "paper": Settings(
        n_shared=50,
        n_specific=50,
        n_hidden=50,
        n_layers=5,
        dropout=0.0,
        batch_offsets=False,
        linear_start=False,
        info_nce_weight=1.0,
        canonical_weight=0.0,
        prediction_weight=0.0,
        conditional_codec=False,
        standardize=False,
        independence="gaussian_bounded",
        lambda_=10.0,
        batch_size=128,
        specific_batch_size=128,
        learning_rate=1e-4,
        specific_learning_rate=1e-4,
        critic_learning_rate=1e-4,
        weight_decay=0.0,
        n_critic_steps=5,
        n_critic_warmup_steps=0,
        keep_least_leak=False,
        max_epochs_shared=2000,
        max_epochs_specific=2000,
        patience=0,
    ),
}


def make_settings(preset: str, **changes: Any) -> Settings:
    """Return the settings of a preset, with those changes that are not None.

    Raises
    ------
    ValueError
        If there is no such preset, a number is out of range, or a critic is unknown.
    """
    if preset not in _PRESETS:
        raise ValueError(f"preset: there is no {preset!r}, only {', '.join(map(repr, _PRESETS))}.")
    return change_settings(_PRESETS[preset], **{name: value for name, value in changes.items() if value is not None})


def change_settings(settings: Settings, **changes: Any) -> Settings:
    """Return settings with changes.

    Raises
    ------
    ValueError
        If a number is out of range, stage 1 has no term with a weight, or a critic is unknown.
    """
    settings = replace(settings, **changes)
    check_independence(settings.independence)
    counts = (
        "n_shared",
        "n_shared_first",
        "n_specific",
        "n_hidden",
        "n_layers",
        "batch_size",
        "specific_batch_size",
        "n_critic_steps",
    )
    for name in counts:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, but is {getattr(settings, name)}.")
    rates = "learning_rate", "specific_learning_rate", "regression_learning_rate"
    for name in (*rates, "prediction_learning_rate", "critic_learning_rate"):
        if not getattr(settings, name) > 0:
            raise ValueError(f"{name} must be above 0, but is {getattr(settings, name)}.")
    epochs = (field.name for field in fields(settings) if field.name.startswith("max_epochs_"))
    weights = "lambda_", "info_nce_weight", "canonical_weight", "prediction_weight"
    lengths = "n_critic_warmup_steps", "n_critic_refresh_epochs", "patience", *epochs
    for name in (*weights, "weight_decay", *lengths):
        if getattr(settings, name) < 0:
            raise ValueError(f"{name} must not be negative, but is {getattr(settings, name)}.")
    if not any(getattr(settings, name) for name in weights[1:]):
        raise ValueError(f"One of {', '.join(weights[1:])} must be above 0: stage 1 has nothing to learn from.")
    if settings.against not in get_args(Against):
        raise ValueError(f"against must be 'other' or 'own', but is {settings.against!r}.")
    if not 0 <= settings.dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, but is {settings.dropout}.")
    return settings
