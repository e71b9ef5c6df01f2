"""What a model is built from and how it is trained, as two values that are saved with it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, get_args

from indiseek_sc._checks import check_flag, check_name, check_number, check_whole
from indiseek_sc.losses import Independence, check_independence

Preset = Literal["default", "paper"]
Against = Literal["other", "own"]


@dataclass(frozen=True)
class Architecture:
    """What the module is built from, and the losses that it computes; see :class:`indiseek_sc.IndiSeek` for what a user gives.

    Parameters
    ----------
    n_shared
        Largest width of the raw shared representations, before directions that are not shared are dropped.
    n_shared_first
        Width that stage 1 begins with; the largest is used only if representations of this width turn out not to be sufficient. It has no
        effect on a stage 1 without a linear start.
    n_specific
        Largest width of the specific representations.
    n_hidden
        Width of the hidden layers of encoders and encoder-decoders.
    n_layers
        Hidden layers of encoders (and of the encoder-decoder, if plain).
    dropout
        Dropout of the shared encoders.
    batch_offsets
        Subtract from the features what batches and other covariates add to them.
    within_batches
        Compare cells in stage 1 within the levels of covariates alone, so that these cannot help to find partners.
    linear_start
        Start stage 1 from regularised CCA, and end it in canonical directions.
    info_nce_weight
        Weight of InfoNCE in stage 1.
    canonical_weight
        Weight of the canonical term, for each dimension of the representation.
    prediction_weight
        Weight of the error of predicting each modality from the other one's shared representation.
    conditional_encoder_decoder
        Use the conditional whitening in stage 2, else the plain encoder and decoder.
    standardize
        Standardise the specific representation of the plain encoder. The conditional whitening always does.
    independence
        Names of the critics, joined by ``+``, or what makes them.
    against
        Whose shared representation the critics compare a specific representation with.
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
            raise ValueError(f"One of {', '.join(weights)} must be above 0: stage 1 has nothing to learn from.")
        for name in ("batch_offsets", "within_batches", "linear_start", "conditional_encoder_decoder", "standardize"):
            check_flag(name, getattr(self, name))
        check_name("against", self.against, get_args(Against))
        if not check_number("dropout", self.dropout) < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, but is {self.dropout}.")


@dataclass(frozen=True)
class Optimisation:
    """How the stages are trained; ``plan_kwargs`` of :meth:`indiseek_sc.IndiSeek.train` changes these for one call.

    Parameters
    ----------
    lambda_
        Weight of the reconstruction error.
    batch_size
        Cells in a batch of stage 1, whose other cells are the negatives.
    specific_batch_size
        Cells in a batch of the specific encoders and of the critics that they learn against: many small steps remove more dependence than
        few large ones of the same cost.
    regression_batch_size
        Cells in a batch of all else that is trained after stage 1 by a plain loss: splines, critics alone, decoder, prediction.
    learning_rate
        Learning rate of the shared encoders, the largest one where there is a cycle.
    one_cycle
        Let the learning rate of the shared encoders rise and fall once over the stage (Smith and Topin 2019), whose number of epochs is then
        given, and at least 200 steps if the user does not say; else it is constant.
    specific_learning_rate
        Initial learning rate of the specific encoders.
    regression_learning_rate
        Initial learning rate of the splines and of the refinement of the decoder.
    prediction_learning_rate
        Initial learning rate of the prediction of one modality from the other.
    critic_learning_rate
        Learning rate of the critics.
    weight_decay
        Decoupled weight decay of the encoders.
    n_critic_steps
        Critic steps for each step of the specific encoders.
    n_critic_warmup_steps
        Critic steps before the specific encoders move at all, where critics were not trained alone before.
    gate_critics
        Train the critics alone first, on representations that stand still, and move the encoder of a modality only if critics or a probe find
        dependence in it on validation cells.
    keep_least_leak
        Keep the representations of each modality as they were when a newly fitted probe explained least of the other shared representation on validation
        cells, which may be before the first epoch; else as they are after the last.
    max_epochs_shared
        Largest number of epochs of stage 1.
    max_epochs_flow
        Largest number of epochs of the splines that follow the conditional whitening.
    max_epochs_critics
        Largest number of epochs of critics alone.
    max_epochs_specific
        Number of epochs of the specific encoders; those in which critics learn alone come on top.
    max_epochs_decoder
        Largest number of epochs of the decoder's refinement.
    max_epochs_prediction
        Largest number of epochs of the prediction of one modality from the other.
    patience
        Epochs without a better validation figure before a stage ends; 0 means never.
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
    """All choices that make a model and its training."""

    architecture: Architecture
    optimisation: Optimisation

    def describe(self) -> dict[str, Any]:
        """Return all choices by name, as they are given to a model."""
        return vars(self.architecture) | vars(self.optimisation)


_PRESETS: dict[str, Settings] = {
    "default": Settings(Architecture(), Optimisation()),
    # arXiv 2509.21584, CITE-seq experiments, as far as they are described there.
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
    """Return the settings of a preset, with those changes that are not None.

    Parameters
    ----------
    preset
        ``"default"`` or ``"paper"``.
    **changes
        Fields of :class:`Architecture` or :class:`Optimisation`.

    Raises
    ------
    TypeError
        If neither has such a field.
    ValueError
        If there is no such preset, a number is out of range, stage 1 has no term with a weight, or a critic is unknown.
    """
    preset = check_name("preset", preset, _PRESETS)
    changes = {name: value for name, value in changes.items() if value is not None}
    architecture, optimisation = _PRESETS[preset]
    own = {field.name for field in fields(Optimisation)} & set(changes)
    return Settings(
        replace(architecture, **{name: value for name, value in changes.items() if name not in own}),
        replace(optimisation, **{name: changes[name] for name in own}),
    )
