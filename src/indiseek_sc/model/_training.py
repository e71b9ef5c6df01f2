"""Training: the order of the stages, and the closed forms between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.data import fit_transform
from indiseek_sc.data._fields import REGISTRY_KEY
from indiseek_sc.model._closed_forms import finish_shared, start_shared
from indiseek_sc.model._codes import _as_rows
from indiseek_sc.train import (
    KeepBest,
    RegressionPlan,
    SharedPlan,
    SpecificPlan,
    Split,
    StageData,
    StageProgress,
    StageRunner,
    draw_split,
    isolated_seed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from indiseek_sc._keys import Role
    from indiseek_sc.train._plans import StagePlan

Stage = Literal["shared", "specific"]

STEPS_PER_EPOCH = 100
"""An epoch of large data is a random part of it, so that progress and early stopping look often enough."""


class TrainingMixin:
    """Training of both stages."""

    def train(
        self,
        max_epochs: int | Mapping[str, int] | None = None,
        lambda_: float | None = None,
        *,
        stages: Sequence[Stage] = ("shared", "specific"),
        train_size: float | None = None,
        validation_size: float | None = None,
        held_out: Sequence[int] | np.ndarray | None = None,
        batch_size: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        early_stopping: bool = True,
        enable_progress_bar: bool = True,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model; each call starts anew, from the same start for the same seed.

        A stage that is interrupted (Ctrl-C) or meets a loss that is not finite keeps its best weights, says so in a warning,
        and the stages behind it are left out.

        Parameters
        ----------
        max_epochs
            Largest number of epochs of every stage, or by stage (``shared``, ``conditional``, ``specific``, ``decoder``).
        lambda_
            Weight of the reconstruction: larger keeps more of the modality in its specific code, smaller makes that more
            independent of the other modality.
        stages
            ``("specific",)`` trains stage 2 again on the shared codes that are there, such as with another ``lambda_``.
        train_size
            Share of the cells to learn from. If not given, nine tenths or a little less.
        validation_size
            Share of the cells to stop and choose by. If not given, the rest.
        held_out
            Row numbers or mask of cells that take no part at all; :meth:`audit` judges on them.
        batch_size
            Cells in a batch, in all stages.
        accelerator
            As in Lightning: ``"auto"``, ``"cpu"``, ``"gpu"``.
        devices
            Which device; a single one, since the negatives of a batch are those on its device.
        early_stopping
            Stop a stage when its validation figure has not gained for long. The best weights are kept in any case.
        enable_progress_bar
            Show a bar for each stage.
        **trainer_kwargs
            Passed to :class:`scvi.train.Trainer`.

        Raises
        ------
        ValueError
            If stages are unknown or out of order, too few cells are left, or several devices are asked for.
        """
        stages = self._check_stages(stages)
        _check_single_device(devices)
        self._run = {
            "max_epochs": max_epochs,
            "batch_size": batch_size,
            "early_stopping": early_stopping,
            "runner": {
                "accelerator": accelerator,
                "devices": devices,
                "enable_progress_bar": enable_progress_bar,
                **trainer_kwargs,
            },
        }
        mdata = self._validate_anndata()
        if "shared" in stages:
            split = draw_split(
                mdata.n_obs,
                seed=self.seed,
                train_size=train_size,
                validation_size=validation_size,
                held_out=None if held_out is None else _as_rows(held_out, mdata.n_obs),
            )
            self._set_split(split)
            self.stages_, self.history_ = [], None
            for role in ROLES:
                matrix = self.adata_manager.get_from_registry(REGISTRY_KEY[role])
                fit_transform(self.module.transforms[role], matrix, split.train, seed=self.seed)
        features = {role: self._features(mdata, role, np.arange(mdata.n_obs)) for role in ROLES}
        try:
            with isolated_seed(self.seed):
                if "shared" in stages and self._train_shared(features) is not None:
                    return
                if "specific" in stages:
                    lambda_ = self.settings.lambda_ if lambda_ is None else lambda_
                    self._train_specific(features, self._batch(mdata, np.arange(mdata.n_obs)), lambda_)
        finally:
            self.module.frozen = ()
            self.module.requires_grad_(True)
            self.module.eval()
            del self._run

    @property
    def split(self) -> Split:
        """What the model did with each cell of its data."""
        return Split(**self.split_)

    def _set_split(self, split: Split) -> None:
        self.split_ = {"train": split.train, "validation": split.validation, "test": split.test}
        self.train_indices, self.validation_indices, self.test_indices = split.train, split.validation, split.test

    def _check_stages(self, stages: Sequence[Stage]) -> tuple[Stage, ...]:
        stages = (stages,) if isinstance(stages, str) else tuple(stages)  # type: ignore[assignment]
        if stages not in (("shared", "specific"), ("shared",), ("specific",)):
            raise ValueError(f"stages must be ('shared', 'specific') or one of them alone, but is {stages!r}.")
        if stages == ("specific",):
            self._require("shared")
        return stages

    def _train_shared(self, features: Mapping[Role, Tensor]) -> str | None:
        module, split = self.module, self.split
        module.reset_shared()
        module.to(features["rna"].device)
        if self.settings.linear_start:
            start_shared(module, features, split)
        data = StageData(
            dict(features), split.train, split.validation, batch_size=self._batch_size("batch_size"), seed=self.seed
        )
        reason = self._run_stage(
            "shared",
            SharedPlan(module),
            data,
            "Shared codes",
            {"validation_info_nce": "InfoNCE", "validation_correlation": "correlation²"},
            KeepBest({"validation_info_nce": _SharedParts(module)}, patience=self._patience()),
        )
        if self.settings.linear_start:
            finish_shared(module, features, split)
        self.stages_.append("shared")
        return reason

    def _train_specific(self, features: Mapping[Role, Tensor], batch: Tensor, lambda_: float) -> None:
        module, train = self.module, self.split.train
        self.stages_ = ["shared"]
        self.lambda_ = float(lambda_)
        module.reset_specific()
        module.to(batch.device)
        module.frozen = ("transforms", "encoders", "rotations")
        with torch.no_grad():
            conditions = {role: module.condition(role, module.shared(role, features[role]), batch) for role in ROLES}
        for role in ROLES:
            n_shared = module.rotations[role].n_kept
            module.codecs[role].fit(features[role][train], conditions[role][train], n_shared)

        is_conditional = self.settings.conditional_codec
        reason = self._train_conditional(features, conditions) if is_conditional else None
        with torch.no_grad():
            cells = {role: module.prepare_specific(role, features[role], conditions) for role in ROLES}
        self._freeze_statistics(cells)
        if reason is None:
            reason = self._train_critics(cells, lambda_)
            self._freeze_statistics(cells)
        with torch.no_grad():
            specific = {role: module.encode_prepared(role, cells[role]) for role in ROLES}
        if reason is None and is_conditional:
            self._train_decoder(features, conditions, specific)
        with torch.no_grad():
            decoded = [module.codecs[role].decode(specific[role], conditions[role])[train] for role in ROLES]
        module.joint.fit(*decoded)
        self.stages_.append("specific")
        self.is_trained_ = True

    def _train_conditional(self, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor]) -> str | None:
        codecs, train = self.module.codecs, self.split.train
        cells = {
            role: {"scores": codecs[role].scores(features[role], conditions[role]), "condition": conditions[role]}
            for role in ROLES
        }
        parts = {role: codecs[role].conditional for role in ROLES}
        reason = self._run_regression("conditional", parts, self.module.conditional_loss, cells, smallest_gain=1e-2)
        for role in ROLES:
            codecs[role].freeze_start(features[role][train], conditions[role][train])
        return reason

    def _train_decoder(
        self, features: Mapping[Role, Tensor], conditions: Mapping[Role, Tensor], specific: Mapping[Role, Tensor]
    ) -> str | None:
        cells = {
            role: {"features": features[role], "condition": conditions[role], "specific": specific[role]}
            for role in ROLES
        }
        parts = {role: self.module.codecs[role].refinement for role in ROLES}
        return self._run_regression("decoder", parts, self.module.decoding_error, cells, smallest_gain=1e-3)

    def _run_regression(
        self,
        stage: str,
        parts: Mapping[Role, torch.nn.Module],
        loss: Callable[[Role, Mapping[str, Tensor]], Tensor],
        cells: Mapping[Role, dict[str, Tensor]],
        *,
        smallest_gain: float,
    ) -> str | None:
        description = {"conditional": "Conditional standardisation", "decoder": "Decoder"}[stage]
        batch_size = self._batch_size("specific_batch_size")
        data = StageData(cells, self.split.train, self.split.validation, batch_size=batch_size, seed=self.seed)
        judged = {f"{role}_validation_loss": parts[role] for role in ROLES}
        return self._run_stage(
            stage,
            RegressionPlan(self.module, parts, loss),
            data,
            description,
            {f"{role}_validation_loss": self.modalities[role] for role in ROLES},
            KeepBest(judged, patience=self._patience(), smallest_gain=smallest_gain),
        )

    def _train_critics(self, cells: Mapping[Role, Mapping[str, Tensor]], lambda_: float) -> str | None:
        module, split, s = self.module, self.split, self.settings
        data = StageData(
            {role: dict(tensors) for role, tensors in cells.items()},
            split.train,
            split.validation,
            batch_size=self._batch_size("specific_batch_size"),
            n_extra=s.n_critic_steps,
            seed=self.seed,
        )
        steps_per_epoch = min(len(data.train_dataloader()), STEPS_PER_EPOCH)
        n_epochs = self._max_epochs("specific")
        n_warmup = -(-s.n_critic_warmup_steps // (s.n_critic_steps * steps_per_epoch))
        return self._run_stage(
            "specific",
            SpecificPlan(module, lambda_=lambda_, n_steps=n_epochs * steps_per_epoch),
            data,
            "Specific codes",
            {f"{role}_error": f"{self.modalities[role]} error" for role in ROLES},
            KeepBest({"latest": module.codecs}, patience=0),
            max_epochs=n_epochs + n_warmup,
        )

    def _freeze_statistics(self, cells: Mapping[Role, Mapping[str, Tensor]]) -> None:
        train = torch.from_numpy(self.split.train)
        for role in ROLES:
            rows = {name: x[train.to(x.device)] for name, x in cells[role].items()}
            self.module.codecs[role].freeze_statistics(rows, rows["condition"])

    def _run_stage(
        self,
        stage: str,
        plan: StagePlan,
        data: StageData,
        description: str,
        figures: Mapping[str, str],
        keep_best: KeepBest,
        max_epochs: int | None = None,
    ) -> str | None:
        runner = StageRunner(
            self,
            plan,
            data,
            stage=stage,
            keep_best=keep_best,
            progress=StageProgress(description, figures),
            max_epochs=self._max_epochs(stage) if max_epochs is None else max_epochs,
            limit_train_batches=min(len(data.train_dataloader()), STEPS_PER_EPOCH),
            **self._run["runner"],
        )
        return runner()

    def _max_epochs(self, stage: str) -> int:
        wanted = self._run["max_epochs"]
        if wanted is not None and not isinstance(wanted, int):
            wanted = wanted.get(stage)
        return getattr(self.settings, f"max_epochs_{stage}") if wanted is None else wanted

    def _batch_size(self, name: str) -> int:
        return self._run["batch_size"] or getattr(self.settings, name)

    def _patience(self) -> int:
        return self.settings.patience if self._run["early_stopping"] else 0


def _check_single_device(devices: int | list[int] | str) -> None:
    n_devices = len(devices) if isinstance(devices, list) else devices
    if n_devices not in ("auto", "1", 1):
        raise ValueError(
            f"devices: training runs on a single device, but {devices!r} was asked for. The negatives of InfoNCE are the "
            "other cells of a batch on one device; give the number of one device, such as devices=[0]."
        )


class _SharedParts(torch.nn.Module):
    """What stage 1 trains, as one part."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.encoders = module.encoders
        self.log_scale = module.log_scale
