"""Training that can be killed: a checkpoint after each stage that learns, from which the same call goes on to the same result."""

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
    from indiseek_sc.model._runs import RunOptions, StageRun
    from indiseek_sc.model._stages import Stage
    from indiseek_sc.module import IndiSeekModule
    from indiseek_sc.train import Split

logger = logging.getLogger("scvi.indiseek_sc")

NAME = "checkpoint"
DIGEST = "sha256 "
"""Begins what is noted of data, which is too much to be shown."""


class Checkpoint:
    """A training as it was after the last stage that learns and was finished, in a folder.

    Parameters
    ----------
    folder
        Where it is kept; made if it is not there.
    asked
        All that the result depends on, by name; see :func:`describe_training`.
    device
        Where the training is.

    Raises
    ------
    ValueError
        If it is no folder, or has a checkpoint of another training, or a damaged one.
    """

    def __init__(self, folder: str | os.PathLike[str], asked: Mapping[str, str], device: torch.device) -> None:
        self.folder, self.asked, self.device = check_path("checkpoint_dir", folder), dict(asked), device
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"checkpoint_dir: {folder} is a file. Give a folder, which is made if it is not there.")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._found: dict[str, Any] | None = None
        self._n_stages = 0
        self._values: dict[str, Any] = {}
        if has_values(self.folder, NAME):
            found = read_values(self.folder, NAME, device)
            self._check(found["asked"])
            self._found = found

    def _check(self, noted: Mapping[str, str]) -> None:
        """Refuse a checkpoint of another training."""
        names = [name for name in {**noted, **self.asked} if noted.get(name) != self.asked.get(name)]
        if not names:
            return
        shown = [
            name
            if self.asked.get(name, DIGEST).startswith(DIGEST)
            else f"{name} (there {noted.get(name, 'none')}, here {self.asked[name]})"
            for name in names
        ]
        raise ValueError(
            f"checkpoint_dir: {self.folder} has a training that was begun with other {', '.join(shown)}. Call train() as that was "
            "called, give another folder, or remove this one to begin anew."
        )

    def restore(self, module: IndiSeekModule) -> bool:
        """Put a module in the state that was kept, and return whether there is one."""
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
        """Return how many of these stages were finished before, and the values that are known after them.

        Random numbers, and what is known of stages before, are put back the first time.
        """
        if self._found is None:
            return 0, dict(known)
        found = self._found
        if not self._n_stages:
            run.fits = [StageFit(**fit) for fit in found["fits"]]
            self._values = dict(found["values"])
            _set_random_state(found["random"], self.device)
            logger.info(
                f"checkpoint_dir: training goes on after the stage {found['stage']!r}, which {self.folder} has."
            )
        n_finished = min(len(stages), found["n_stages"] - self._n_stages)
        self._n_stages += n_finished
        if self._n_stages == found["n_stages"]:
            self._found = None  # from here on all is new
        return n_finished, {**known, **self._values}

    def note(self, stage: Stage, run: StageRun, made: Mapping[str, Any]) -> None:
        """Count a stage, and write the state after it if it learns and ended well; a disk that is full is only warned of."""
        self._n_stages += 1
        self._values |= made
        if not stage.learns or run.reason is not None:
            return
        module = run.module
        state = {
            "asked": self.asked,
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
            warnings.warn(f"checkpoint_dir: {error} Training goes on without it.", UserWarning, stacklevel=3)

    def remove(self) -> None:
        """Remove the checkpoint of a training that is over."""
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
    is_anew: bool,
    **arguments: Any,
) -> dict[str, str]:
    """Return all that the result of a training depends on, each as a text by its name.

    Parameters
    ----------
    model
        The model.
    mdata
        Its data.
    matrices
        The raw values by modality, shape ``(n_cells, n_input)`` each.
    split
        Which cells are learned from.
    options
        How the stages run.
    is_anew
        Whether nothing of what the model has learned so far is read.
    **arguments
        Further arguments of ``train``.
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
    if not is_anew:
        state = model.module.state_dict()
        described["weights of the model before"] = _digest(*(x.cpu().numpy() for x in state.values()))
    return described


def _read_parts(blocks: Any) -> Any:
    """Yield the arrays that blocks of a matrix are made of."""
    for block in blocks:
        yield from (block.data, block.indices, block.indptr) if issparse(block) else (np.asarray(block),)


def _digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode())
        found.update("\x1f".join(array).encode() if array.dtype.kind == "U" else np.ascontiguousarray(array).tobytes())
    return DIGEST + found.hexdigest()
