"""Settings of the architecture and of the training of a model, which are saved with it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

from indiseek_sc._checks import check_flag, check_name, check_number, check_whole
from indiseek_sc.losses import Independence, check_independence

Preset = Literal["default", "paper"]
Against = Literal["other", "own"]


@dataclass(frozen=True)
class Architecture:
    """Architecture of the module and weights of its losses.

    :class:`indiseek_sc.IndiSeek` describes the corresponding arguments for users.

    Parameters
    ----------
    n_shared
        Largest number of dimensions of the raw shared representations, before directions that are
        not shared are dropped.
    n_shared_first
        Number of dimensions with which stage 1 starts. The largest number is used only if
        representations of this size are not sufficient. Ignored without a linear start.
    n_specific
        Largest number of dimensions of the specific representations.
    n_hidden
        Width of the hidden layers of encoders and encoder-decoders.
    n_layers
        Number of hidden layers of encoders (and of plain encoder-decoders).
    dropout
        Share of hidden units of the shared encoders dropped in training.
    batch_offsets
        Whether to subtract additive effects of batches and other covariates from the features.
    within_batches
        Whether to compare cells in stage 1 only within the levels of covariates, so that covariates
        cannot help to identify the two measurements of a cell.
    linear_start
        Whether to start stage 1 from regularised CCA, and to rotate its result to canonical
        directions.
    info_nce_weight
        Weight of InfoNCE in stage 1.
    canonical_weight
        Weight of the canonical correlation loss in stage 1, which is summed over dimensions.
    prediction_weight
        Weight of the error of predicting each modality from the shared representation of the other.
    conditional_encoder_decoder
        Whether to use the conditional whitening in stage 2 instead of a plain encoder and decoder.
    standardize
        Whether to standardise the specific representation of the plain encoder. That of the
        conditional encoder-decoder is always standardised.
    independence
        Critics of stage 2: names joined by ``+``, or callables that build critics.
    against
        Modality whose shared representation the critics compare with a specific representation:
        ``"other"`` or ``"own"``.

    Raises
    ------
    ValueError
        If a number is out of range, stage 1 has no term with a weight above 0, or a critic is
        unknown.
    """

    n_shared: int = 10
    n_shared_first: int = 6
    n_specific: int = 16
    n_hidden: int = 256
    n_layers: int = 2
    dropout: float = 0.4
    batch_offsets: bool = True
    within_batches: bool = True
    linear_start: bool = True
    info_nce_weight: float = 0.05
    canonical_weight: float = 0.75
    prediction_weight: float = 4.0
    conditional_encoder_decoder: bool = True
    standardize: bool = True
    independence: Independence = "gaussian+nce"
    against: Against = "other"

    def __post_init__(self) -> None:
        check_independence(self.independence)
        for name in ("n_shared", "n_shared_first", "n_specific", "n_hidden", "n_layers"):
            check_whole(name, getattr(self, name), 1)
        weights = ("info_nce_weight", "canonical_weight", "prediction_weight")
        for name in weights:
            check_number(name, getattr(self, name))
        if not any(getattr(self, name) for name in weights):
            raise ValueError(f"At least one of {', '.join(weights)} must be above 0, or stage 1 has no loss.")
        for name in ("batch_offsets", "within_batches", "linear_start", "conditional_encoder_decoder", "standardize"):
            check_flag(name, getattr(self, name))
        check_name("against", self.against, get_args(Against))
        if not check_number("dropout", self.dropout) < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, but is {self.dropout}.")


@dataclass(frozen=True)
class Optimisation:
    """Optimisation settings of all stages.

    ``plan_kwargs`` of :meth:`indiseek_sc.IndiSeek.train` changes them for a single call.

    Parameters
    ----------
    lambda_
        Weight of the reconstruction error.
    batch_size
        Number of cells in a batch of stage 1, which also serve as negatives of each other.
    specific_batch_size
        Number of cells in a batch of adversarial training of specific encoders and critics. Many
        steps with small batches remove more dependence than few steps with large batches of the
        same total cost.
    regression_batch_size
        Number of cells in a batch of the remaining networks after stage 1: normalizing flows,
        critics before adversarial training, decoders, and prediction of a modality.
    learning_rate
        Learning rate of the shared encoders; with ``one_cycle`` the maximum.
    one_cycle
        Whether the learning rate of the shared encoders increases and decreases once during the
        stage (one-cycle schedule [1]_) instead of being constant. The number of epochs is then
        fixed, with at least 200 steps unless the user sets it.
    specific_learning_rate
        Initial learning rate of the specific encoders.
    regression_learning_rate
        Initial learning rate of normalizing flows and of the refinement of the decoder.
    prediction_learning_rate
        Initial learning rate of the prediction of one modality from the other.
    critic_learning_rate
        Learning rate of the critics.
    weight_decay
        Decoupled weight decay of the encoders.
    n_critic_steps
        Number of critic steps for each step of the specific encoders.
    n_critic_warmup_steps
        Number of critic steps before the first step of the specific encoders, if the critics were
        not trained alone before.
    gate_critics
        Whether to train the critics alone first, on fixed representations, and to train the
        specific encoder of a modality only if the critics or a probe detect dependence on
        validation cells.
    keep_least_leak
        Whether to keep, for each modality, the state in which a newly fitted probe explained the
        least variance of the other shared representation on validation cells, which may be the
        state before the first epoch, instead of the state after the last epoch.
    max_epochs_shared
        Largest number of epochs of stage 1.
    max_epochs_flow
        Largest number of epochs of the normalizing flows after conditional whitening.
    max_epochs_critics
        Largest number of epochs in which critics are trained alone.
    max_epochs_specific
        Number of epochs of adversarial training of the specific encoders, not counting epochs in
        which the critics are trained alone.
    max_epochs_decoder
        Largest number of epochs of the refinement of the decoder.
    max_epochs_prediction
        Largest number of epochs of the prediction of one modality from the other.
    patience
        Number of epochs without improvement on validation cells after which a stage ends; 0
        disables early stopping.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    .. [1] Smith and Topin. Super-convergence: very fast training of neural networks using large
       learning rates. Proceedings of SPIE 11006 (2019). arXiv 1708.07120.
    """

    lambda_: float = 100.0
    batch_size: int = 512
    specific_batch_size: int = 256
    regression_batch_size: int = 512
    learning_rate: float = 1e-2
    one_cycle: bool = True
    specific_learning_rate: float = 1e-2
    regression_learning_rate: float = 1e-2
    prediction_learning_rate: float = 3e-3
    critic_learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    n_critic_steps: int = 4
    n_critic_warmup_steps: int = 200
    gate_critics: bool = True
    keep_least_leak: bool = True
    max_epochs_shared: int = 25
    max_epochs_flow: int = 60
    max_epochs_critics: int = 20
    max_epochs_specific: int = 20
    max_epochs_decoder: int = 20
    max_epochs_prediction: int = 40
    patience: int = 20

    def __post_init__(self) -> None:
        for name in ("batch_size", "specific_batch_size", "regression_batch_size", "n_critic_steps"):
            check_whole(name, getattr(self, name), 1)
        lengths = (field.name for field in fields(self) if field.name.startswith("max_epochs_"))
        for name in ("n_critic_warmup_steps", "patience", *lengths):
            check_whole(name, getattr(self, name), 0)
        for name in (field.name for field in fields(self) if field.name.endswith("learning_rate")):
            check_number(name, getattr(self, name), above_zero=True)
        for name in ("one_cycle", "gate_critics", "keep_least_leak"):
            check_flag(name, getattr(self, name))
        for name in ("lambda_", "weight_decay"):
            check_number(name, getattr(self, name))


class Settings(NamedTuple):
    """Complete settings of a model and its training.

    Parameters
    ----------
    architecture
        Architecture and loss weights.
    optimisation
        Optimisation settings.
    """

    architecture: Architecture
    optimisation: Optimisation

    def describe(self) -> dict[str, Any]:
        """Return all settings by the names under which a model accepts them."""
        return vars(self.architecture) | vars(self.optimisation)


_PRESETS: dict[str, Settings] = {
    "default": Settings(Architecture(), Optimisation()),
    # Settings of the CITE-seq experiments of arXiv 2509.21584, as far as they are described there.
    "paper": Settings(
        Architecture(
            n_shared=50,
            n_specific=50,
            n_hidden=50,
            n_layers=5,
            dropout=0.0,
            batch_offsets=False,
            within_batches=False,
            linear_start=False,
            info_nce_weight=1.0,
            canonical_weight=0.0,
            prediction_weight=0.0,
            conditional_encoder_decoder=False,
            standardize=False,
            independence="gaussian_bounded",
        ),
        Optimisation(
            lambda_=10.0,
            batch_size=128,
            specific_batch_size=128,
            regression_batch_size=128,
            learning_rate=1e-4,
            one_cycle=False,
            specific_learning_rate=1e-4,
            critic_learning_rate=1e-4,
            weight_decay=0.0,
            n_critic_steps=5,
            n_critic_warmup_steps=0,
            gate_critics=False,
            keep_least_leak=False,
            max_epochs_shared=2000,
            max_epochs_specific=2000,
            max_epochs_decoder=60,
            patience=0,
        ),
    ),
}


def make_settings(preset: str, **changes: Any) -> Settings:
    """Return the settings of a preset with changes.

    Parameters
    ----------
    preset
        ``"default"`` or ``"paper"``.
    **changes
        Fields of :class:`Architecture` or :class:`Optimisation`; None leaves the value of the
        preset.

    Returns
    -------
    The settings.

    Raises
    ------
    TypeError
        If neither class has a field of this name.
    ValueError
        If the preset is unknown, a number is out of range, stage 1 has no term with a weight above
        0, or a critic is unknown.

    Examples
    --------
    >>> from indiseek_sc.module import make_settings
    >>> make_settings("default", n_shared=4).architecture.n_shared
    4
    """
    preset = check_name("preset", preset, _PRESETS)
    changes = {name: value for name, value in changes.items() if value is not None}
    architecture, optimisation = _PRESETS[preset]
    of_optimisation = {field.name for field in fields(Optimisation)} & set(changes)
    return Settings(
        replace(architecture, **{name: value for name, value in changes.items() if name not in of_optimisation}),
        replace(optimisation, **{name: changes[name] for name in of_optimisation}),
    )
