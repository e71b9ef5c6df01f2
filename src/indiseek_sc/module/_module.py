"""Everything of a model that has weights, and what it computes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput, auto_move_data
from torch import Tensor, nn

from indiseek_sc._keys import ROLES, other
from indiseek_sc.losses import canonical_correlation_loss, info_nce, normalized_error
from indiseek_sc.module._parts import ModuleParts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from indiseek_sc._keys import Role
    from indiseek_sc.module._modality_predictor import Units

LARGEST_LOG_SCALE = math.log(100.0)
"""The inverse temperature stays below 100, as in CLIP."""


class IndiSeekModule(ModuleParts):
    """Transforms, encoders, codecs and critics of both modalities.

    *Raw values* go through ``transforms`` and lose their ``batch_offsets`` to be *features*; ``encoders`` and ``rotations`` give *shared codes*; a *condition* is the
    standardised shared code with the batch beside it; ``codecs`` give *specific codes* and decode; ``critics`` judge a
    specific code against the other modality's condition.

    Parameters
    ----------
    transforms
        The feature transform of each role.
    settings
        What the networks are made of.
    n_batches
        Number of batches, 1 if there are none to tell apart.
    """

    def train(self, mode: bool = True) -> IndiSeekModule:
        """Switch to training mode, except what is frozen: its buffers must not move and its dropout must be off."""
        super().train(mode)
        for name in self.frozen:
            getattr(self, name).eval()
        return self

    # Codes

    def shared(self, role: Role, features: Tensor) -> Tensor:
        """Return the shared code, shape ``(n_cells, n_shared)``; dropped directions are columns of 0 at the end."""
        return self.rotations[role](self.encoders[role](features))

    def condition(self, role: Role, shared: Tensor, batch: Tensor) -> Tensor:
        """Return what stage 2 knows of a cell, shape ``(n_cells, n_condition)``, from the batch code of shape ``(n_cells,)``."""
        standardized = self.rotations[role].standardize(shared)
        if self.n_batches == 1:
            return standardized
        return torch.cat([standardized, F.one_hot(batch, self.n_batches).to(standardized.dtype)], dim=1)

    def decode(self, specific: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]) -> dict[Role, Tensor]:
        """Return the features that both codes of each modality decode to."""
        return {role: self.codecs[role].decode(specific[role], conditions[role]) for role in ROLES}

    def join(self, specific: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]) -> dict[Role, Tensor]:
        """Return the features that the joint code is made of: as :meth:`decode`, but of a cell of no certain batch.

        Where batches are taken out of features, all cells have the shares of the batches in the place of their own one. That leaves out what a
        batch does to some cells more than to others, as far as stage 2 has learnt it.
        """
        if not self.takes_out_batches:
            return self.decode(specific, conditions)
        shares = self.batch_shares.expand(len(conditions["rna"]), -1)
        known = {role: condition[:, : -self.n_batches] for role, condition in conditions.items()}
        return self.decode(specific, {role: torch.cat([code, shares], dim=1) for role, code in known.items()})

    def specific(self, role: Role, features: Tensor, condition: Tensor) -> Tensor:
        """Return the specific code, shape ``(n_cells, n_specific)``."""
        return self.codecs[role](features, condition)

    def encode(self, kind: str, role: Role, features: Tensor, batch: Tensor) -> Tensor:
        """Return the dimensions in use of the ``"shared"`` or ``"specific"`` code of one modality; nothing is decoded."""
        shared = self.shared(role, features)
        if kind == "shared":
            return shared[:, : self.rotations[role].n_kept]
        return self.specific(role, features, self.condition(role, shared, batch))[:, self.codecs[role].used]

    def describe(self, features: Mapping[Role, Tensor], batch: Tensor) -> dict[str, Any]:
        """Return all codes of cells: shared, specific, reconstructed features, each by role, and the joint code."""
        shared = {role: self.shared(role, features[role]) for role in ROLES}
        conditions = {role: self.condition(role, shared[role], batch) for role in ROLES}
        specific = {role: self.specific(role, features[role], conditions[role]) for role in ROLES}
        decoded = self.decode(specific, conditions)
        joined = self.join(specific, conditions) if self.takes_out_batches else decoded
        return {
            "shared": {role: code[:, : self.rotations[role].n_kept] for role, code in shared.items()},
            "specific": {role: code[:, self.codecs[role].used] for role, code in specific.items()},
            "reconstruction": decoded,
            "joint": self.joint(*joined.values()),
        }

    def prediction_input(self, source: Role, features: Tensor, batch: Tensor) -> Tensor:
        """Return what the other modality is predicted from: the shared code of ``source``, the batch, and the features themselves."""
        return torch.cat([self.condition(source, self.shared(source, features), batch), features], dim=1)

    def predict_other(self, source: Role, features: Tensor, batch: Tensor, units: Units) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the other modality, shape ``(n_cells, n_columns)`` both."""
        inputs = self.prediction_input(source, features, batch)
        target = other(source)
        return self.modality_predictors[source](
            inputs, units, self.transforms[target], self.batch_offsets[target].of(batch)
        )

    # Losses of the stages

    def shared_terms(self, features: Mapping[Role, Tensor]) -> dict[str, Tensor]:
        """Return the terms of stage 1 that have a weight, unweighted: ``info_nce``, ``canonical`` and ``prediction``.

        The last one is the mean over both modalities of the error of predicting it from the other one's code, as a share of
        its variance.
        """
        s, codes = self.settings, {role: self.encoders[role](features[role]) for role in ROLES}
        terms = {}
        if s.info_nce_weight > 0:
            terms["info_nce"] = info_nce(codes["rna"], codes["adt"], self.log_scale.clamp(max=LARGEST_LOG_SCALE))
        if s.canonical_weight > 0:
            terms["canonical"] = canonical_correlation_loss(codes["rna"], codes["adt"])
        if s.prediction_weight > 0:
            errors = [self._prediction_error(role, codes[role], features[other(role)]) for role in ROLES]
            terms["prediction"] = torch.stack(errors).mean()
        return terms

    def _prediction_error(self, role: Role, shared: Tensor, target: Tensor) -> Tensor:
        variance = target.var(dim=0, correction=0).sum().clamp(min=torch.finfo(target.dtype).tiny)
        return normalized_error(target, self.predictors[role](shared), variance)

    def shared_objective(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Weigh the terms of stage 1."""
        return torch.stack([getattr(self.settings, f"{name}_weight") * term for name, term in terms.items()]).sum()

    def prepare_specific(
        self, role: Role, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]
    ) -> dict[str, Tensor]:
        """Compute once what the last stage reads of each cell, one row a cell."""
        prepared = self.codecs[role].prepare(features[role], conditions[role])
        against = conditions[role if self.settings.against == "own" else other(role)]
        return {**prepared, "condition": conditions[role], "against": against}

    def encode_prepared(self, role: Role, cells: Mapping[str, Tensor]) -> Tensor:
        """Return the specific code of prepared cells, shape ``(n_cells, n_specific)``."""
        return self.codecs[role].encode(cells, cells["condition"])

    def specific_terms(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the terms of stage 2, unweighted: the bound of each critic and ``error``."""
        specific = self.encode_prepared(role, cells)
        target, estimate = self.codecs[role].compare(specific, cells, cells["condition"])
        bounds = self.critics[role].bounds(specific, cells["against"])
        return {
            **{f"{name}_bound": bound for name, bound in bounds.items()},
            "error": normalized_error(target, estimate, self.codecs[role].error_scale),
        }

    def decoding_error(self, role: Role, cells: Mapping[str, Tensor]) -> Tensor:
        """Return the reconstruction error, as a share of what the specific code could hold."""
        codec = self.codecs[role]
        estimate = codec.refine(cells["closed"], cells["specific"], cells["condition"])
        return normalized_error(cells["features"], estimate, codec.error_scale)

    def critic_losses(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the loss that teaches each critic of ``role`` that learns, by name, with the encoder left alone."""
        with torch.no_grad():
            specific = self.encode_prepared(role, cells)
        return self.critics[role].losses(specific, cells["against"])

    def critic_diagnostics(self, role: Role, cells: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return how good the critics of ``role`` are, such as ``<critic>_accuracy``."""
        return self.critics[role].diagnostics(self.encode_prepared(role, cells), cells["against"])

    # The interface of scvi-tools

    def _get_inference_input(self, tensors: Mapping[str, Tensor], **kwargs: Any) -> dict[str, Any]:
        batch = tensors.get(REGISTRY_KEYS.BATCH_KEY)
        return {
            "rna": tensors[REGISTRY_KEYS.X_KEY],
            "adt": tensors["adt"],
            "batch": None if batch is None else batch.reshape(-1).long(),
        }

    @auto_move_data
    def inference(self, rna: Tensor, adt: Tensor, batch: Tensor | None = None) -> dict[str, Any]:
        """Encode raw values, shapes ``(n_cells, n_genes)`` and ``(n_cells, n_proteins)``."""
        batch = torch.zeros(rna.shape[0], dtype=torch.long, device=rna.device) if batch is None else batch
        raw = {"rna": rna, "adt": adt}
        features = {role: self.batch_offsets[role](self.transforms[role](raw[role]), batch) for role in ROLES}
        return {"features": features, **self.describe(features, batch)}

    def _get_generative_input(
        self, tensors: Mapping[str, Tensor], inference_outputs: Mapping[str, Any], **kwargs: Any
    ) -> dict[str, Any]:
        return {"reconstruction": inference_outputs["reconstruction"]}

    def generative(self, reconstruction: dict[Role, Tensor]) -> dict[str, dict[Role, Tensor]]:
        """Return the features that both codes decode to."""
        return {"reconstruction": reconstruction}

    def loss(
        self, tensors: Mapping[str, Tensor], inference_outputs: Mapping[str, Any], generative_outputs: Mapping[str, Any]
    ) -> LossOutput:
        """Return the reconstruction error of both modalities; the stages train by the terms above."""
        features, decoded = inference_outputs["features"], generative_outputs["reconstruction"]
        errors = {
            role: normalized_error(features[role], decoded[role], features[role].var(dim=0).sum()) for role in ROLES
        }
        return LossOutput(
            loss=torch.stack(list(errors.values())).sum(),
            n_obs_minibatch=features["rna"].shape[0],
            extra_metrics={f"{role}_error": error for role, error in errors.items()},
        )


def set_trainable(module: nn.Module, trained: Iterable[nn.Module | nn.Parameter]) -> None:
    """Let only the given parts have gradients."""
    module.requires_grad_(False)
    for part in trained:
        part.requires_grad_(True)
