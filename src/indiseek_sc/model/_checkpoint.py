"""Checkpoints after each training stage, from which the same call resumes to the same result."""

from __future__ import annotations

import hashlib
import logging
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import issparse

from indiseek_sc._checks import check_path
from indiseek_sc.data import as_readable, iterate_blocks
from indiseek_sc.losses import describe_independence
from indiseek_sc.model._cells import get_covariates
from indiseek_sc.model._files import has_values, read_values, remove_values, write_values
from indiseek_sc.train import StageFit

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from mudata import MuData

    from indiseek_sc._keys import Role
    from indiseek_sc.model._model import IndiSeek
    from indiseek_sc.model._run_stages import Stage
    from indiseek_sc.model._runs import RunOptions, StageRun
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

logger = logging.getLogger("scvi.indiseek_sc")

NAME = "checkpoint"
DIGEST = "sha256 "
"""Prefix of digests, which represent values that are too large to be stored or shown."""


class Checkpoint:
    """Folder with the state of training after the last completed stage that trains networks.

    Parameters
    ----------
    folder
        Folder of the checkpoint; created if it does not exist.
    description
        Everything that the result depends on, by name; see :func:`describe_training`.
    device
        Device of the training.

    Raises
    ------
    ValueError
        If the path is not a folder, or contains a checkpoint that is damaged or belongs to a
        different training run.
    """

    def __init__(self, folder: str | os.PathLike[str], description: Mapping[str, str], device: torch.device) -> None:
        self.folder, self.description, self.device = check_path("checkpoint_dir", folder), dict(description), device
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint_dir: {folder} is a file. Give a folder; it is created if it does not exist.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._found: dict[str, Any] | None = None
        self._n_stages = 0
        self._values: dict[str, Any] = {}
        if has_values(self.folder, NAME):
            found = read_values(self.folder, NAME, device)
            self._check(found.get("description", {}))
            self._found = found

    def _check(self, saved: Mapping[str, str]) -> None:
        """Raise a ValueError if the checkpoint belongs to a different training run."""
        names = [name for name in {**saved, **self.description} if saved.get(name) != self.description.get(name)]
        if not names:
            return
        shown = [
            name
            if self.description.get(name, DIGEST).startswith(DIGEST)
            else f"{name} (saved: {saved.get(name, 'none')}, now: {self.description[name]})"
            for name in names
        ]
        raise ValueError(
            f"checkpoint_dir: {self.folder} contains a checkpoint of a training run that differs in {', '.join(shown)}. "
            "Call train() with the same arguments and data, give another folder, or remove this one to start again."
        )

    def restore(self, module: IndiSeekModule) -> bool:
        """Load the saved state into a module, and return whether there is one."""
        if (state := self._found) is None:
            return False
        module.load_state_dict(state["weights"])
        module.frozen = tuple(state["frozen"])
        in_training, fixed = set(state["in_training"]), set(state["fixed"])
        for name, part in module.named_modules():
            part.training = name in in_training
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(name not in fixed)
        return True

    def resume(self, stages: Sequence[Stage], run: StageRun, known: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        """Return the number of stages that are already completed, and the values known after them.

        The first call restores the state of random number generators and the records of completed
        stages.
        """
        if self._found is None:
            return 0, dict(known)
        found = self._found
        if not self._n_stages:
            run.fits = [StageFit(**fit) for fit in found["fits"]]
            self._values = dict(found["values"])
            _set_random_state(found["random"], self.device)
            logger.info(f"checkpoint_dir: training resumes from {self.folder}, after the stage {found['stage']!r}.")
        n_finished = min(len(stages), found["n_stages"] - self._n_stages)
        self._n_stages += n_finished
        if self._n_stages == found["n_stages"]:
            self._found = None  # all following stages are run
        return n_finished, {**known, **self._values}

    def note(self, stage: Stage, run: StageRun, made: Mapping[str, Any]) -> None:
        """Record a completed stage, and write the state after it if it trains networks.

        Nothing is written if the stage ended early. If writing fails, such as on a full disk, a
        warning is given and training continues.
        """
        self._n_stages += 1
        self._values |= made
        if not stage.learns or run.reason is not None:
            return
        module = run.module
        state = {
            "description": self.description,
            "stage": stage.name,
            "n_stages": self._n_stages,
            "weights": module.state_dict(),
            "frozen": list(module.frozen),
            "in_training": [name for name, part in module.named_modules() if part.training],
            "fixed": [name for name, x in module.named_parameters() if not x.requires_grad],
            "fits": [vars(fit) for fit in run.fits],
            "values": self._values,
            "random": _get_random_state(self.device),
        }
        try:
            write_values(self.folder, NAME, state)
        except OSError as error:
            warnings.warn(
                f"checkpoint_dir: {error} Training continues without a checkpoint.", UserWarning, stacklevel=3
            )

    def remove(self) -> None:
        """Remove the checkpoint after training is completed."""
        remove_values(self.folder, NAME)


def _get_random_state(device: torch.device) -> dict[str, torch.Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def describe_training(
    model: IndiSeek,
    mdata: MuData,
    matrices: Mapping[Role, Any],
    split: Split,
    options: RunOptions,
    *,
    from_scratch: bool,
    **arguments: Any,
) -> dict[str, str]:
    """Return everything that the result of training depends on, as text by name.

    Parameters
    ----------
    model
        The model.
    mdata
        Data of the model.
    matrices
        Raw values by modality, shape ``(n_cells, n_input)`` each.
    split
        Training, validation and test cells.
    options
        Options of the stages.
    from_scratch
        Whether training does not depend on the current state of the model.
    **arguments
        Further arguments of ``train``.

    Returns
    -------
    Representations of values, or digests of large values, by name.
    """
    own = dict(model.init_params_["non_kwargs"])
    if own.get("independence") is not None:
        own["independence"] = describe_independence(own["independence"])
    trainer = options.trainer
    values = {
        "version": version("indiseek_sc"),
        "version of torch": torch.__version__,
        "class": type(model).__name__,
        **own,
        **vars(options.optimisation),
        **{
            name: x if isinstance(x, str | int | float | dict) else type(x).__name__
            for name, x in trainer.passed.items()
        },
        "max_epochs": dict(options.max_epochs),
        "accelerator": options.device.accelerator,
        "callbacks": [type(callback).__name__ for callback in trainer.callbacks],
        **{
            name: getattr(trainer, name)
            for name in (
                "check_val_every_n_epoch",
                "limit_train_batches",
                "gradient_clip_val",
                "gradient_clip_algorithm",
            )
        },
        **arguments,
    }
    described = {name: repr(x) for name, x in values.items()}
    described["names of cells"] = _digest(mdata.obs_names.to_numpy().astype(str))
    described["cells in training, validation and held_out"] = _digest(split.train, split.validation, split.test)
    described["batches and covariates"] = _digest(get_covariates(model, mdata, np.arange(mdata.n_obs)).numpy())
    for role, matrix in matrices.items():
        blocks = (block for _, _, block in iterate_blocks(as_readable(matrix)))
        described[f"values of {model.modalities[role]}"] = _digest(*_read_parts(blocks))
    if not from_scratch:
        state = model.module.state_dict()
        described["initial weights of the model"] = _digest(*(x.cpu().numpy() for x in state.values()))
    return described


def _read_parts(blocks: Any) -> Any:
    """Yield the arrays that represent the blocks of a dense or sparse matrix."""
    for block in blocks:
        yield from (block.data, block.indices, block.indptr) if issparse(block) else (np.asarray(block),)


def _digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update("\x1f".join(array).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes())
    return DIGEST + found.hexdigest()
