"""The module of the model: all trained and fitted parts, their representations and losses."""

from __future__ import annotations

import math
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import BaseModuleClass, LossOutput, auto_move_data
from torch import Tensor, nn

from indiseek_sc.losses import canonical_correlation_loss, info_nce, make_critic, normalized_error, remove_linear
from indiseek_sc.module._outputs import JointLatent, ModalityPredictor
from indiseek_sc.nn import (
    CanonicalRotation,
    ConditionalEncoderDecoder,
    CovariateDesign,
    CovariateOffsets,
    CrossPredictor,
    NamedModules,
    PlainEncoderDecoder,
    SharedEncoder,
    SpecificEncoderDecoder,
    map_parts,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from indiseek_sc._keys import Role
    from indiseek_sc.losses import CriticSum
    from indiseek_sc.module._outputs import Units
    from indiseek_sc.module._settings import Architecture
    from indiseek_sc.nn import FeatureTransform

KINDS = ("shared", "specific", "reconstruction", "joint")
"""Kinds of representations computed by :meth:`IndiSeekModule.describe`."""

COVARIATE_KEYS = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.CAT_COVS_KEY, REGISTRY_KEYS.CONT_COVS_KEY)
"""Keys of covariates in scvi-tools, in the order of the design matrix."""

LARGEST_LOG_SCALE = math.log(100.0)
"""Upper limit of the logarithm of the inverse temperature, as in CLIP."""


class IndiSeekModule(BaseModuleClass):
    """Transforms, encoders, encoder-decoders and critics of all modalities.

    *Raw values* are transformed by ``transforms`` and corrected by ``covariate_offsets`` to give
    *features*. ``encoders`` and ``rotations`` compute *shared representations*. ``design``
    converts batches and other covariates of cells to columns. A *condition* is the standardised
    shared representation concatenated with these columns. ``encoder_decoders`` compute *specific
    representations* and decode, and ``critics`` measure their dependence on the condition of the
    other modalities. Each of these attributes except ``design`` is a mapping by modality.

    Parameters
    ----------
    transforms
        Feature transform of each modality, by its name in the module. All properties that are
        particular to a kind of measurement are in the transforms. A linear start of stage 1 and the
        prediction of a modality require exactly two modalities.
    architecture
        Architecture of the networks.
    n_levels
        Number of levels of each categorical covariate, the batch first.
    n_values
        Number of continuous covariates.
    n_added
        Number of additional batches that were not part of the training data. They have covariate
        offsets of their own; elsewhere, the batch columns of their cells have the mean of the
        training cells.
    gaps
        Features that each batch did not measure, by modality, shape ``(n_levels[0], n_features)``;
        they are left out of the losses.

    Examples
    --------
    >>> module = model.module
    >>> module.modalities
    ('rna', 'adt')
    >>> module.n_specific["adt"] <= module.n_features["adt"]
    True
    """

    frozen_in_specific: tuple[str, ...] = (
        "transforms",
        "design",
        "covariate_offsets",
        "encoders",
        "predictors",
        "rotations",
    )
    """Parts that are frozen in stage 2."""

    def __init__(
        self,
        transforms: Mapping[Role, FeatureTransform],
        architecture: Architecture,
        n_levels: Sequence[int] = (1,),
        n_values: int = 0,
        n_added: int = 0,
        gaps: Mapping[Role, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.has_gaps = frozenset(gaps or ())
        for name, lacking in (gaps or {}).items():
            self.register_buffer(f"{name}_gaps", lacking.float(), persistent=False)
        self.design = CovariateDesign(n_levels, n_values, n_added)
        self.modalities: tuple[Role, ...] = tuple(transforms)
        self.transforms = NamedModules(transforms)
        self.n_features = {name: transform.n_output for name, transform in transforms.items()}
        self.covariate_offsets = self._of_each(
            lambda name: CovariateOffsets(self.design.n_columns, self.n_features[name])
        )
        widest = architecture.n_shared
        self.n_shared = min(widest, *self.n_features.values()) if architecture.linear_start else widest
        self.n_condition = self.n_shared + self.design.n_learned
        self.n_specific = {name: self._count_specific(name) for name in self.modalities}
        self.frozen: tuple[str, ...] = ()
        self.reset_shared()
        self.reset_specific()
        self.joint = JointLatent(list(self.n_features.values()))
        # Always present, so that a state dict can be loaded whether or not predictions were trained
        # before it was saved.
        predictable = self.modalities if len(self.modalities) == 2 else ()
        self.modality_predictors = NamedModules({name: self._make_modality_predictor(name) for name in predictable})

    # Parts

    def _of_each(self, make: Any) -> NamedModules:
        """Build a part for each modality."""
        return NamedModules({name: make(name) for name in self.modalities})

    def others(self, name: Role) -> tuple[Role, ...]:
        """Return the modalities other than ``name``."""
        return tuple(other for other in self.modalities if other != name)

    def other(self, name: Role) -> Role:
        """Return the other one of two modalities."""
        (other,) = self.others(name)
        return other

    @property
    def subtracts_offsets(self) -> bool:
        """Whether covariate effects are subtracted from the features."""
        return self.design.n_learned > 0 and self.architecture.batch_offsets

    @property
    def critics_learn(self) -> bool:
        """Whether any critic has parameters to train."""
        return any(critic.learns for critic in self.critics.values())

    def learners(self) -> list[nn.Module]:
        """Return the parts that are trained against the critics."""
        return [encoder_decoder.learner for encoder_decoder in self.encoder_decoders.values()]

    def reset_shared(self, n_active: int | None = None) -> None:
        """Initialise the networks of stage 1.

        Parameters
        ----------
        n_active
            Number of first dimensions of the shared representations in use; all if not given.
        """
        a = self.architecture
        self.encoders = self._of_each(
            lambda name: SharedEncoder(
                self.n_features[name],
                self.n_shared,
                a.n_hidden,
                a.n_layers,
                dropout=a.dropout,
                linear_start=a.linear_start,
                activation="gelu" if a.linear_start else "relu",
                n_active=n_active,
            )
        )
        self.rotations = self._of_each(lambda name: CanonicalRotation(self.n_shared))
        predict = a.prediction_weight > 0
        self.predictors = self._of_each(self._make_predictor) if predict else NamedModules({})
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    def reset_specific(self) -> None:
        """Initialise the encoder-decoders and critics of stage 2."""
        self.encoder_decoders: NamedModules[Role, SpecificEncoderDecoder] = self._of_each(self._make_encoder_decoder)
        self.critics: NamedModules[Role, CriticSum] = self._of_each(
            lambda name: make_critic(self.architecture.independence, self.n_specific[name], self._count_against(name))
        )

    def _count_specific(self, name: Role) -> int:
        """Return the largest number of dimensions of a specific representation."""
        a = self.architecture
        return min(a.n_specific, self.n_features[name]) if a.conditional_encoder_decoder else a.n_specific

    def _count_against(self, name: Role) -> int:
        """Return the number of dimensions of the condition that a critic receives."""
        return self.n_condition * (1 if self.architecture.against == "own" else len(self.others(name)))

    def _make_predictor(self, name: Role) -> CrossPredictor:
        """Build the network that predicts the features of all other modalities in stage 1."""
        n_others = sum(self.n_features[other] for other in self.others(name))
        return CrossPredictor(self.n_shared, n_others, self.architecture.n_hidden)

    def _make_modality_predictor(self, name: Role) -> ModalityPredictor:
        """Build the network that predicts the other modality for users."""
        return ModalityPredictor(self.n_condition + self.n_features[name], self.transforms[self.other(name)])

    def _make_encoder_decoder(self, name: Role) -> SpecificEncoderDecoder:
        """Build the encoder-decoder of a modality."""
        a, sizes = self.architecture, (self.n_features[name], self.n_condition, self.n_specific[name])
        if a.conditional_encoder_decoder:
            return ConditionalEncoderDecoder(*sizes, n_linear=self.design.n_learned)
        return PlainEncoderDecoder(*sizes, a.n_hidden, n_layers=a.n_layers, standardize=a.standardize)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Load weights, including those of versions that had one offset per batch."""
        if f"{prefix}batch_shares" in state_dict:
            n_single = 1 if self.design.n_levels[0] == 1 else 0  # a single batch had an offset, of 0
            state_dict[f"{prefix}design.mean"] = state_dict.pop(f"{prefix}batch_shares")[n_single:]
            own = self.state_dict()
            for name in [name for name in own if name.startswith(("design.", "covariate_offsets."))]:
                state_dict.setdefault(prefix + name, own[name])
            for role in self.modalities:
                before, now = f"{prefix}batch_offsets.{role}.", f"{prefix}covariate_offsets.{role}."
                state_dict[f"{now}overall"] = state_dict.pop(f"{before}offsets")[n_single:]
                state_dict[f"{now}states"] = state_dict.pop(f"{before}states", state_dict[f"{now}states"])
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def train(self, mode: bool = True) -> IndiSeekModule:
        """Switch to training mode, except for frozen parts.

        Buffers of frozen parts must not change, and their dropout must be inactive.
        """
        super().train(mode)
        for name in self.frozen:
            getattr(self, name).eval()
        return self

    # Representations

    def shared(self, name: Role, features: Tensor) -> Tensor:
        """Return the shared representation, shape ``(n_cells, n_shared)``.

        Dropped directions are columns of 0 at the end.
        """
        return map_parts(lambda x: self.rotations[name](self.encoders[name](x)), features)

    def condition(self, name: Role, shared: Tensor, design: Tensor) -> Tensor:
        """Return the condition of stage 2, shape ``(n_cells, n_condition)``.

        It consists of the standardised shared representation and the learned columns of the design.
        """
        standardized = self.rotations[name].standardize(shared)
        return torch.cat([standardized, self.design.learned(design)], dim=1) if self.design.n_learned else standardized

    def mask(self, name: Role, values: Tensor, learned: Tensor) -> Tensor:
        """Return features or their estimate, with 0 where the batch of a cell has no measurement.

        Parameters
        ----------
        name
            Name of the modality.
        values
            Features or their estimate, shape ``(n_cells, n_features)``.
        learned
            Learned columns of the design matrix, shape ``(n_cells, n_learned)``.
        """
        if name not in self.has_gaps:
            return values
        gaps = getattr(self, f"{name}_gaps")
        return values * (1 - learned[:, : len(gaps)] @ gaps)

    def decode(self, specific: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]) -> dict[Role, Tensor]:
        """Return the features decoded from the specific representation and condition.

        Both arguments and the result are by modality; features have the shape ``(n_cells,
        n_features)``.
        """
        return {name: self.encoder_decoders[name].decode(latent, conditions[name]) for name, latent in specific.items()}

    def join(self, specific: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]) -> list[Tensor]:
        """Return the features from which the joint representation is computed.

        They are decoded as by :meth:`decode`. If covariate effects are subtracted from the
        features, the covariates of each cell are replaced by the mean of the training cells. This
        removes batch effects that differ between cells, as far as stage 2 has learned them.
        """
        if self.subtracts_offsets:
            conditions = {
                name: torch.cat([x[:, : self.n_shared], self.design.average(len(x))], dim=1)
                for name, x in conditions.items()
            }
        return list(self.decode(specific, conditions).values())

    def specific(self, name: Role, features: Tensor, condition: Tensor) -> Tensor:
        """Return the specific representation, shape ``(n_cells, n_specific)``."""
        return self.encoder_decoders[name](features, condition)

    def encode(self, kind: str, name: Role, features: Tensor, design: Tensor) -> Tensor:
        """Return the dimensions in use of one representation of one modality, without decoding.

        Parameters
        ----------
        kind
            ``"shared"`` or ``"specific"``.
        name
            Name of the modality.
        features
            Features of the modality, shape ``(n_cells, n_features)``.
        design
            Design matrix, shape ``(n_cells, n_columns)``.
        """
        return self.describe({name: features}, design, (kind,))[kind][name]

    def describe(
        self, features: Mapping[Role, Tensor], design: Tensor, kinds: Collection[str] = KINDS
    ) -> dict[str, Any]:
        """Return representations of cells, computing only the parts that they require.

        Parameters
        ----------
        features
            Features by modality, shape ``(n_cells, n_features)`` each. The representations of one
            modality require only its own features; the joint representation requires all.
        design
            Covariates of the cells, as returned by ``self.design``, shape ``(n_cells, n_columns)``.
        kinds
            Kinds of representations, from :data:`KINDS`.

        Returns
        -------
        Representations by kind: ``"shared"``, ``"specific"`` and ``"reconstruction"`` (the features
        decoded from both), each by modality, and ``"joint"``.
        """
        latents: dict[str, Any] = {}
        shared = {name: self.shared(name, x) for name, x in features.items()}
        latents["shared"] = {name: latent[:, : self.rotations[name].n_kept] for name, latent in shared.items()}
        if set(kinds) <= {"shared"}:
            return latents
        conditions = {name: self.condition(name, latent, design) for name, latent in shared.items()}
        specific = {name: self.specific(name, x, conditions[name]) for name, x in features.items()}
        latents["specific"] = {name: latent[:, self.encoder_decoders[name].used] for name, latent in specific.items()}
        if "reconstruction" in kinds or ("joint" in kinds and not self.subtracts_offsets):
            latents["reconstruction"] = self.decode(specific, conditions)
        if "joint" in kinds:
            is_joined = not self.subtracts_offsets
            joined = list(latents["reconstruction"].values()) if is_joined else self.join(specific, conditions)
            latents["joint"] = self.joint(joined)
        return {kind: latents[kind] for kind in kinds}

    def prediction_input(self, source: Role, features: Tensor, design: Tensor) -> Tensor:
        """Return the inputs from which the other modality is predicted.

        These are the shared representation of ``source``, the covariates, and the features.
        """
        return torch.cat([self.condition(source, self.shared(source, features), design), features], dim=1)

    def predict_other(self, source: Role, features: Tensor, design: Tensor, units: Units) -> tuple[Tensor, Tensor]:
        """Return the predicted mean and standard deviation of the other modality.

        Both have the shape ``(n_cells, n_columns)``.
        """
        inputs = self.prediction_input(source, features, design)
        target = self.other(source)
        return self.modality_predictors[source](
            inputs, units, self.transforms[target], partial(self.covariate_offsets[target].add, design=design)
        )

    # Losses of the stages

    def shared_terms(self, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the unweighted terms of stage 1: ``info_nce``, ``canonical`` and ``prediction``.

        Terms of weight 0 are left out. The first two are means over pairs of modalities. The last
        one is the mean over modalities of the error of predicting the other modalities from the
        shared representation, relative to their variance.

        Parameters
        ----------
        cells
            Features by modality, and the design matrix under ``"design"``, if there are
            covariates. With ``within_batches``, negatives have the same levels of all categories,
            and correlations and predictions are those of the residuals of a regression on the
            covariates.
        """
        a, latents = self.architecture, {name: self.encoders[name](cells[name]) for name in self.modalities}
        design, is_compared, remove = cells.get("design"), None, _keep
        if design is not None and a.within_batches:
            is_compared, remove = self.design.find_same(design), partial(remove_linear, design=design)
        pairs = [(latents[first], latents[second]) for first, second in combinations(self.modalities, 2)]
        terms = {}
        if a.info_nce_weight > 0:
            log_scale = self.log_scale.clamp(max=LARGEST_LOG_SCALE)
            terms["info_nce"] = _mean([info_nce(*pair, log_scale, is_compared) for pair in pairs])
        if a.canonical_weight > 0:
            terms["canonical"] = _mean(
                [canonical_correlation_loss(remove(first), remove(second)) for first, second in pairs]
            )
        if a.prediction_weight > 0:
            terms["prediction"] = _mean(
                [self._prediction_error(name, latents, cells, remove) for name in self.modalities]
            )
        return terms

    def _prediction_error(
        self,
        name: Role,
        latents: Mapping[Role, Tensor],
        cells: Mapping[str, Tensor],
        remove: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """Return the error of predicting the other modalities, relative to their variance."""
        others = self.others(name)
        target, estimate = _join([cells[other] for other in others]), self.predictors[name](latents[name])
        if "design" in cells:
            parts = (x.split([self.n_features[other] for other in others], dim=1) for x in (target, estimate))
            target, estimate = (
                _join([self.mask(other, x, cells["design"]) for other, x in zip(others, part, strict=True)])
                for part in parts
            )
        target, estimate = remove(target), remove(estimate)
        variance = target.var(dim=0, correction=0).sum().clamp(min=torch.finfo(target.dtype).tiny)
        return normalized_error(target, estimate, variance)

    def shared_objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms of stage 1."""
        return torch.stack([getattr(self.architecture, f"{name}_weight") * term for name, term in terms.items()]).sum()

    def prepare_specific(
        self, name: Role, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]
    ) -> dict[str, Tensor]:
        """Return the fixed inputs of adversarial training, one row for each cell."""
        prepared = self.encoder_decoders[name].prepare(features[name], conditions[name])
        compared = (name,) if self.architecture.against == "own" else self.others(name)
        return {**prepared, "condition": conditions[name], "against": _join([conditions[m] for m in compared])}

    def encode_prepared(self, name: Role, cells: Mapping[str, Tensor]) -> Tensor:
        """Return the specific representation of prepared cells, shape ``(n_cells, n_specific)``."""
        return self.encoder_decoders[name].encode(cells, cells["condition"])

    def specific_terms(self, name: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the unweighted terms of stage 2: the bound of each critic, and ``error``."""
        specific = self.encode_prepared(name, cells)
        target, estimate = self.encoder_decoders[name].compare(specific, cells, cells["condition"])
        bounds = self.critics[name].bounds(specific, cells["against"])
        return {
            **{f"{critic}_bound": bound for critic, bound in bounds.items()},
            "error": normalized_error(target, estimate, self.encoder_decoders[name].error_scale),
        }

    def decoding_error(self, name: Role, cells: Mapping[str, Tensor]) -> Tensor:
        """Return the reconstruction error relative to the variance that Z can represent."""
        encoder_decoder = self.encoder_decoders[name]
        estimate = encoder_decoder.refine(cells["closed"], cells["specific"], cells["condition"])
        target, estimate = (
            self.mask(name, x, cells["condition"][:, self.n_shared :]) for x in (cells["features"], estimate)
        )
        return normalized_error(target, estimate, encoder_decoder.error_scale)

    def critic_losses(self, name: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss of each trainable critic of a modality, by name of the critic.

        The encoder receives no gradient from them.
        """
        with torch.no_grad():
            specific = self.encode_prepared(name, cells)
        return self.critics[name].losses(specific, cells["against"])

    def critic_diagnostics(self, name: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return quality measures of the critics of a modality, such as ``<critic>_accuracy``."""
        return self.critics[name].diagnostics(self.encode_prepared(name, cells), cells["against"])

    # The interface of scvi-tools

    def _get_inference_input(self, tensors: Mapping[str, Tensor], **kwargs: Any) -> dict[str, Any]:
        covariates = [tensors[key] for key in COVARIATE_KEYS if key in tensors]
        return {
            "rna": tensors[REGISTRY_KEYS.X_KEY],
            "adt": tensors["adt"],
            "covariates": torch.cat([x.reshape(len(x), -1).float() for x in covariates], dim=1) if covariates else None,
        }

    @auto_move_data
    def inference(self, rna: Tensor, adt: Tensor, covariates: Tensor | None = None) -> dict[str, Any]:
        """Return features and representations of raw values.

        Parameters
        ----------
        rna
            Raw values of RNA, shape ``(n_cells, n_genes)``.
        adt
            Raw values of proteins, shape ``(n_cells, n_proteins)``.
        covariates
            Covariates in the form that ``self.design`` takes.
        """
        design = self.design(rna.new_zeros(len(rna), 1) if covariates is None else covariates)
        raw = {"rna": rna, "adt": adt}
        features = {
            name: self.covariate_offsets[name](self.transforms[name](raw[name]), design) for name in self.modalities
        }
        return {"features": features, **self.describe(features, design)}

    def _get_generative_input(
        self, tensors: Mapping[str, Tensor], inference_outputs: Mapping[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        return {"reconstruction": inference_outputs["reconstruction"]}

    def generative(self, reconstruction: dict[Role, Tensor]) -> dict[str, dict[Role, Tensor]]:
        """Return the features decoded from the shared and specific representations."""
        return {"reconstruction": reconstruction}

    def loss(
        self, tensors: Mapping[str, Tensor], inference_outputs: Mapping[str, Any], generative_outputs: Mapping[str, Any]
    ) -> LossOutput:
        """Return the reconstruction error of all modalities.

        Training does not use it: each stage has its own terms.
        """
        features, decoded = inference_outputs["features"], generative_outputs["reconstruction"]
        errors = {name: normalized_error(x, decoded[name], x.var(dim=0).sum()) for name, x in features.items()}
        return LossOutput(
            loss=torch.stack(list(errors.values())).sum(),
            n_obs_minibatch=len(features[self.modalities[0]]),
            extra_metrics={f"{name}_error": error for name, error in errors.items()},
        )


def _join(parts: list[Tensor]) -> Tensor:
    """Concatenate columns; a single part is returned unchanged."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _keep(values: Tensor) -> Tensor:
    """Return the values unchanged."""
    return values


def _mean(values: list[Tensor]) -> Tensor:
    """Return the mean of scalars."""
    return values[0] if len(values) == 1 else torch.stack(values).mean()


def set_trainable(module: nn.Module, trained: Iterable[nn.Module | nn.Parameter]) -> None:
    """Enable gradients of the given parts of a module only.

    Parameters
    ----------
    module
        The module.
    trained
        Parts of the module, or parameters, that are trained.

    Examples
    --------
    >>> from indiseek_sc.module import set_trainable
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    >>> set_trainable(network, [network[1]])
    >>> [parameter.requires_grad for parameter in network.parameters()]
    [False, False, True, True]
    """
    module.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
