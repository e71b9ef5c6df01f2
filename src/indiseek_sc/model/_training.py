"""Training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.data import REGISTRY_KEY, fit_batch_offsets, fit_transform
from indiseek_sc.metrics import single_thread
from indiseek_sc.model._closed_forms import some_rows
from indiseek_sc.model._codes import _as_rows
from indiseek_sc.model._path import PathMixin
from indiseek_sc.model._stage_runs import RunOptions
from indiseek_sc.model._stages import Stages
from indiseek_sc.module import change_settings
from indiseek_sc.train import Split, draw_split, isolated_seed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from indiseek_sc.module import Settings

Stage = Literal["shared", "specific"]

PLAN_OPTIONS = ("n_critic_steps", "n_critic_warmup_steps", "n_critic_refresh_epochs", "critic_learning_rate")
"""Settings of the critics' training that a call of ``train`` may change."""


class TrainingMixin(PathMixin):
    """Training of both stages."""

    _stages_cls = Stages

    def train(
        self,
        max_epochs: int | Mapping[str, int] | None = None,
        lambda_: float | Literal["auto"] | None = None,
        *,
        stages: Sequence[Stage] = ("shared", "specific"),
        train_size: float | None = None,
        validation_size: float | None = None,
        held_out: Sequence[int] | np.ndarray | None = None,
        keep_critics: bool = False,
        keep_start: bool = False,
        plan_kwargs: Mapping[str, Any] | None = None,
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
            Largest number of epochs of every stage, or by stage (``shared``, ``conditional``, ``shape``, ``specific``, ``decoder``).
        lambda_
            Weight of the reconstruction: larger keeps more of the modality in its specific code, smaller makes that more
            independent of the other modality. ``"auto"`` walks down from 1,000 to the first that keeps the leak ratio within 2 % on
            validation cells (:meth:`lambda_path`), and notes the walk in ``chosen_path``.
        stages
            ``("specific",)`` trains stage 2 again on the shared codes that are there, such as with another ``lambda_``.
        train_size
            Share of the cells to learn from. If not given, nine tenths or a little less.
        validation_size
            Share of the cells to stop and choose by. If not given, the rest.
        held_out
            Row numbers or mask of cells that take no part at all; :meth:`audit` judges on them.
        keep_critics
            Let critics go on from where they are, such as from another ``lambda_``, in place of new ones; with
            ``stages=("specific",)`` alone, since new shared codes mean something else.
        keep_start
            Let the specific codes start from the conditional whitening and shape that are there, such as those of a model that was
            taken over (:meth:`take_over`), in place of training these again; with ``stages=("specific",)`` alone.
        plan_kwargs
            How critics learn, where it is not to be as the model was made: ``n_critic_steps`` (steps for each step of the
            encoders), ``n_critic_warmup_steps`` (steps before encoders move at all), ``n_critic_refresh_epochs`` (epochs of the
            encoders after which critics start anew; 0 is never), ``critic_learning_rate``.
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
            If stages are unknown or out of order, ``lambda_`` is a word other than ``"auto"``, too few cells are left, several
            devices are asked for, or critics cannot be trained like that.
        """
        stages = self._check_stages(stages)
        if isinstance(lambda_, str) and lambda_ != "auto":
            raise ValueError(f"lambda_ must be a number or 'auto', but is {lambda_!r}.")
        _check_single_device(devices)
        runner = {"accelerator": accelerator, "devices": devices, "enable_progress_bar": enable_progress_bar}
        critic_settings = self._change_critic_settings(plan_kwargs or {})
        if keep_critics and "shared" in stages:
            raise ValueError(
                "keep_critics: critics of former shared codes cannot judge new ones; give stages=('specific',)."
            )
        if keep_start:
            if "shared" in stages:
                raise ValueError("keep_start: it is a start for other shared codes; give stages=('specific',).")
            self._require("specific")
        options = RunOptions(
            max_epochs,
            batch_size,
            early_stopping,
            {**runner, **trainer_kwargs},
            critic_settings,
            keep_critics,
            keep_start,
        )
        mdata = self._validate_anndata()
        if "shared" in stages:
            rows = None if held_out is None else _as_rows(held_out, mdata.n_obs)
            self._start_anew(
                draw_split(
                    mdata.n_obs,
                    seed=self.seed,
                    train_size=train_size,
                    validation_size=validation_size,
                    held_out=rows,
                )
            )
        every = np.arange(mdata.n_obs)
        run = self._stages_cls(self, {role: self._features(mdata, role, every) for role in ROLES}, options)
        try:
            with isolated_seed(self.seed), single_thread():
                if "shared" in stages:
                    reason = run.train_shared()
                    self.stages_ = ["shared"]
                    if reason is not None:
                        return
                if "specific" in stages:
                    self.stages_ = ["shared"]
                    self.lambda_path_ = None
                    batch = self._batch(mdata, every)
                    if lambda_ == "auto":
                        self._train_along_path(run, batch)
                    else:
                        self.lambda_ = self.settings.lambda_ if lambda_ is None else float(lambda_)
                        run.train_specific(batch, self.lambda_)
                    self.stages_ = ["shared", "specific"]
                    self.is_trained_ = True
        finally:
            self.module.frozen = ()
            self.module.requires_grad_(True)
            self.module.eval()

    def _start_anew(self, split: Split) -> None:
        """Take over a split, and fit the transforms on its training cells."""
        self.stages_, self.history_ = [], None
        self.split_ = {"train": split.train, "validation": split.validation, "test": split.test}
        self.train_indices, self.validation_indices, self.test_indices = split.train, split.validation, split.test
        for role in ROLES:
            matrix = self.adata_manager.get_from_registry(REGISTRY_KEY[role])
            fit_transform(self.module.transforms[role], matrix, split.train, seed=self.seed)
        if self.module.takes_out_batches:
            self._fit_batch_offsets(some_rows(split.train))

    def _fit_batch_offsets(self, rows: np.ndarray) -> None:
        """Estimate from training cells what batches add to features."""
        offsets = {role: self.module.batch_offsets[role] for role in ROLES}
        for role in ROLES:
            offsets[role].set(torch.zeros_like(offsets[role].offsets))  # features as they come
        features = [self._features(self.adata, role, rows).cpu().numpy() for role in ROLES]
        batch = self._batch(self.adata, rows).cpu().numpy()
        counts = np.bincount(batch, minlength=self.module.n_batches)
        self.module.batch_shares.copy_(torch.from_numpy(counts / counts.sum()))
        found = fit_batch_offsets(features, batch, self.module.n_batches, seed=self.seed)
        for role, values in zip(ROLES, found, strict=True):
            offsets[role].set(torch.from_numpy(values))

    def _check_stages(self, stages: Sequence[Stage]) -> tuple[Stage, ...]:
        stages = (stages,) if isinstance(stages, str) else tuple(stages)  # type: ignore[assignment]
        if stages not in (("shared", "specific"), ("shared",), ("specific",)):
            raise ValueError(f"stages must be ('shared', 'specific') or one of them alone, but is {stages!r}.")
        if stages == ("specific",):
            self._require("shared")
        return stages

    def _change_critic_settings(self, changes: Mapping[str, Any]) -> Settings:
        if unknown := sorted(set(changes) - set(PLAN_OPTIONS)):
            raise ValueError(f"plan_kwargs: there is no {unknown[0]!r}, only {', '.join(PLAN_OPTIONS)}.")
        return change_settings(self.settings, **changes)


def _check_single_device(devices: int | list[int] | str) -> None:
    n_devices = len(devices) if isinstance(devices, list) else devices
    if n_devices not in ("auto", "1", 1):
        raise ValueError(
            f"devices: training runs on a single device, but {devices!r} was asked for. The negatives of InfoNCE are the "
            "other cells of a batch on one device; give the number of one device, such as devices=[0]."
        )
