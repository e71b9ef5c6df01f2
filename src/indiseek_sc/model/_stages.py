"""Stage 2: the order of its parts, and what is computed between them."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.model._closed_forms import some_rows
from indiseek_sc.model._shared_stage import SharedStage
from indiseek_sc.train import KeepBest, LeakProbe, SpecificPlan, StageData, warn_of_negative_bounds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.nn import ConditionalGaussian, ConditionalSpline


class Stages(SharedStage):
    """The stages of a model, on features that lie on the device.

    Each returns why it ended early, in words, or None.

    A walk along lambda calls :meth:`start_specific` once, :meth:`train_critics` for each lambda, and :meth:`finish_specific`
    at the chosen one; a method that trains otherwise says so in these three.
    """

    CAN_START_WARM: ClassVar[bool] = True
    """Whether :meth:`train_critics` may go on from the codes of another lambda; else each lambda begins at the start."""

    def train_specific(self, batch: Tensor, lambda_: float) -> str | None:
        """Stage 2: conditional whitening and shape, critics, decoder, and the joint code; ``batch`` has shape ``(n_cells,)``."""
        reason = self.start_specific(batch, from_trained=self.options.keep_start)
        if reason is None:
            reason = self.train_critics(lambda_)
        return self.finish_specific(reason)

    def start_specific(self, batch: Tensor, *, from_trained: bool = False) -> str | None:
        """Bring the specific codes to their start, before any critic has spoken.

        With ``from_trained`` the conditional whitening and shape that are there are kept, and only what comes after it made new.
        """
        module, train, features = self.module, self.split.train, self.features
        kept = {role: module.codecs[role].start_state() for role in ROLES} if from_trained else None
        module.reset_specific(keep_critics=self.options.keep_critics)
        module.to(batch.device)
        module.frozen = module.frozen_in_specific
        self._batch = batch
        self._conditions = self._describe_conditions()
        reason = None
        if kept is not None:
            for role in ROLES:
                module.codecs[role].load_state_dict(kept[role], strict=False)
        else:
            for role in ROLES:
                n_shared = module.rotations[role].n_kept
                module.codecs[role].fit(features[role][train], self._conditions[role][train], n_shared)
            if module.codecs["rna"].is_conditional:
                reason = self._train_start()
        module.eval()  # new parts are in training mode, where dropout would blur the start
        self._prepare()
        self._freeze_statistics()
        return reason

    def train_critics(self, lambda_: float) -> str | None:
        """Train the specific codes against their critics, from where both are."""
        if not self.module.learners():
            return None
        reason = self._run_critics(lambda_)
        if "encoders" not in self.module.frozen:
            self._conditions = self._describe_conditions()
            self._prepare()
        self._freeze_statistics()
        return reason

    def finish_specific(self, reason: str | None = None) -> str | None:
        """Train the decoder, unless stage 2 ended early for a ``reason``, and fit the joint code."""
        module, train, conditions = self.module, self.split.train, self._conditions
        with torch.no_grad():
            specific = {role: module.encode_prepared(role, self._cells[role]) for role in ROLES}
        for role in ROLES:
            rows = self.features[role][train], specific[role][train], conditions[role][train]
            module.codecs[role].start_decoder(*rows)
        if reason is None and module.codecs["rna"].is_refined:
            reason = self._train_decoder(conditions, specific)
        with torch.no_grad():
            decoded = module.join(specific, conditions)
        module.joint.fit(*(features[train] for features in decoded.values()))
        return reason

    @torch.no_grad()
    def _describe_conditions(self) -> dict[Role, Tensor]:
        module, features = self.module, self.features
        return {role: module.condition(role, module.shared(role, features[role]), self._batch) for role in ROLES}

    @torch.no_grad()
    def _prepare(self) -> None:
        """Compute what the specific codes are made of."""
        module, features = self.module, self.features
        self._cells = {role: module.prepare_specific(role, features, self._conditions) for role in ROLES}

    def _train_start(self) -> str | None:
        """Train the parts that make the start independent, from the coarse to the fine: affine, then shape."""
        codecs, train, features, conditions = self.module.codecs, self.split.train, self.features, self._conditions
        with torch.no_grad():
            scores = {role: codecs[role].scores(features[role], conditions[role]) for role in ROLES}
        parts = {role: codecs[role].conditional for role in ROLES}
        reason = self._train_density("conditional", parts, scores, conditions)
        if reason is None:
            fitted_on, chosen_by = some_rows(train), some_rows(self.split.validation)
            rows = torch.from_numpy(np.concatenate([fitted_on, chosen_by]))
            for role in ROLES:
                seen, known = (x[role][rows.to(x[role].device)] for x in (features, conditions))
                codecs[role].correct_mean(seen, known, fitted_on.size)
                codecs[role].drop_idle(known[: fitted_on.size])
            with torch.no_grad():
                whitened = {role: codecs[role].whitened(features[role], conditions[role]) for role in ROLES}
            reason = self._train_shape(whitened)
        for role in ROLES:
            codecs[role].freeze_start(features[role][train], conditions[role][train])
        return reason

    def _train_shape(self, whitened: Mapping[Role, Tensor]) -> str | None:
        """Train splines with the condition and, to compare, without; give those up that the condition does not help.

        The difference of both log-likelihoods on validation cells estimates the mutual information that whitening has left. Where that is
        no more than chance gives, there is nothing to take out, and bending by a condition could only bring it in.
        """
        shapes = {role: self.module.codecs[role].shape for role in ROLES}
        unknown = {role: torch.zeros_like(condition) for role, condition in self._conditions.items()}
        without = {role: copy.deepcopy(shape) for role, shape in shapes.items()}
        reason = self._train_density("shape", shapes, whitened, self._conditions)
        reason = reason or self._train_density("shape_without", without, whitened, unknown)
        for role in ROLES:
            rows = torch.from_numpy(self.split.validation).to(whitened[role].device)
            values, condition = whitened[role][rows], self._conditions[role][rows]
            with torch.no_grad():
                told = without[role].surprise(values, unknown[role][rows]) - shapes[role].surprise(values, condition)
            if reason is not None or told.mean() <= 2 * told.std() / math.sqrt(len(told)):
                shapes[role].give_up()
        return reason

    def _train_density(
        self,
        stage: str,
        parts: Mapping[Role, ConditionalGaussian] | Mapping[Role, ConditionalSpline],
        values: Mapping[Role, Tensor],
        conditions: Mapping[Role, Tensor],
    ) -> str | None:
        cells = {role: {"values": values[role], "condition": conditions[role]} for role in ROLES}

        def loss(role: Role, batch: Mapping[str, Tensor]) -> Tensor:
            return parts[role].loss(batch["values"], batch["condition"])

        return self._run_regression(stage, parts, loss, cells, smallest_gain=3e-3)

    def _train_decoder(self, conditions: Mapping[Role, Tensor], specific: Mapping[Role, Tensor]) -> str | None:
        with torch.no_grad():
            closed = {role: self.module.codecs[role].decode_closed(specific[role], conditions[role]) for role in ROLES}
        cells = {
            role: {
                "features": self.features[role],
                "condition": conditions[role],
                "specific": specific[role],
                "closed": closed[role],
            }
            for role in ROLES
        }
        parts = {role: self.module.codecs[role].refinement for role in ROLES}
        return self._run_regression("decoder", parts, self.module.decoding_error, cells, smallest_gain=1e-3)

    def _run_critics(self, lambda_: float) -> str | None:
        module, split = self.module, self.split
        settings = self.options.critic_settings or self.settings
        batch_size = self._batch_size("specific_batch_size")
        data = StageData(
            {role: dict(tensors) for role, tensors in self._cells.items()},
            split.train,
            split.validation,
            batch_size=batch_size,
            validation_batch_size=batch_size,  # losses and bounds compare between batches of one size only
            n_extra=settings.n_critic_steps if module.critics_learn else 0,
            seed=self.model.seed,
        )
        steps_per_epoch = self._steps_per_epoch(data)
        n_epochs = self._max_epochs("specific")
        probe, kept = None, {"latest": torch.nn.ModuleList(module.learners())}
        if self.settings.keep_least_leak:
            probe = LeakProbe(self._cells, split.train, split.validation, seed=self.model.seed)
            kept = {f"{role}_leak": module.codecs[role].learner for role in ROLES}
        plan = SpecificPlan(module, lambda_=lambda_, n_steps=n_epochs * steps_per_epoch, settings=settings, probe=probe)
        reason = self._run_stage(
            "specific",
            plan,
            data,
            f"Specific codes, lambda {lambda_:g}",
            {f"{role}_error": f"{self.model.modalities[role]} error" for role in ROLES},
            KeepBest(kept, patience=0, smallest_gain=1e-3),
            max_epochs=plan.count_epochs(n_epochs, steps_per_epoch),
        )
        if reason is None:
            warn_of_negative_bounds(self.model.history_)
        return reason

    def _freeze_statistics(self) -> None:
        train = torch.from_numpy(self.split.train)
        for role in ROLES:
            rows = {name: x[train.to(x.device)] for name, x in self._cells[role].items()}
            self.module.codecs[role].freeze_statistics(rows, rows["condition"])
