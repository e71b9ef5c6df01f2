"""Errors raised by construction and training of a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from indiseek_sc import IndiSeek
from indiseek_sc.losses import HSICCritic

from ..model.cells import make_mdata
from .cases import assert_rejected, state_of


def make(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: IndiSeek(model.adata, **arguments)


def train(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.train(**{"max_epochs": 1, "enable_progress_bar": False, **arguments})


def trade_off(**arguments: Any) -> Callable[[IndiSeek], Any]:
    return lambda model: model.lambda_path(**arguments)


# name: (the call, error, parts of the message)
CASES: dict[str, tuple[Callable[[IndiSeek], Any], type[Exception], list[str]]] = {
    # Construction
    "an AnnData": (lambda m: IndiSeek(m.adata["rna"]), TypeError, ["mdata must be a MuData", "IndiSeek.setup_mudata(mdata)"]),
    "no data": (lambda m: IndiSeek(), ValueError, ["mdata: give a MuData", "IndiSeek.setup_mudata(mdata)"]),
    "data that were not set up": (lambda m: IndiSeek(make_mdata()), ValueError, ["mdata was not set up", "IndiSeek.setup_mudata(mdata)"]),
    "setup_anndata": (lambda m: IndiSeek.setup_anndata(m.adata["rna"]), NotImplementedError, ["mudata.MuData(", "IndiSeek.setup_mudata(mdata)"]),
    "n_shared of 0": (make(n_shared=0), ValueError, ["n_shared must be at least 1, but is 0"]),
    "n_specific as fraction": (make(n_specific=1.5), ValueError, ["n_specific must be a whole number, but is 1.5"]),
    "n_components as float": (make(n_components=np.float64(5)), ValueError, ["n_components must be a whole number, but is"]),
    "n_top_genes of 0": (make(n_top_genes=0), ValueError, ["n_top_genes must be at least 1, but is 0"]),
    "dropout of 1": (make(dropout=1.0), ValueError, ["dropout must be at least 0 and below 1, but is 1.0"]),
    "a negative weight": (make(info_nce_weight=-1), ValueError, ["info_nce_weight must not be negative, but is -1.0"]),
    "a weight of NaN": (make(canonical_weight=np.nan), ValueError, ["canonical_weight must be a finite number, but is nan"]),
    "batch_offsets as text": (make(batch_offsets="no"), ValueError, ["batch_offsets must be True or False, but is 'no'"]),
    "an unknown preset": (make(preset="papr"), ValueError, ["preset='papr' is not known", "Did you mean 'paper'?"]),
    "an unknown critic": (make(independence="gaussian+clip"), ValueError, ["independence: unknown critic 'clip' in 'gaussian+clip'", "hsic"]),
    "a critic defined by a lambda": (make(independence=lambda *n: HSICCritic(*n)), ValueError, ["independence: ", "cannot be saved", "top level of a module"]),
    "independence as number": (make(independence=3), TypeError, ["independence must be names of critics or callables"]),
    "a negative seed": (make(seed=-1), ValueError, ["seed must not be negative, but is -1"]),
    # Training
    "negative max_epochs": (train(max_epochs=-1), ValueError, ["max_epochs must be whole numbers of at least 0, but is -1"]),
    "max_epochs as fraction": (train(max_epochs=1.5), ValueError, ["max_epochs must be whole numbers of at least 0, but is 1.5"]),
    "max_epochs as boolean": (train(max_epochs=True), ValueError, ["max_epochs must be whole numbers of at least 0, but is True"]),
    "an unknown stage": (train(max_epochs={"critic": 1}), ValueError, ["max_epochs: the stage 'critic' is not known", "Did you mean 'critics'?"]),
    "stages in the wrong order": (train(stages=("specific", "shared")), ValueError, ["stages must be ('shared', 'specific') or one of them alone"]),
    "a negative lambda_": (train(lambda_=-1.0), ValueError, ["lambda_ must be a finite number of at least 0, but is -1.0"]),
    "lambda_ of NaN": (train(lambda_=np.float32("nan")), ValueError, ["lambda_ must be a finite number of at least 0, but is"]),
    "lambda_ as unknown text": (train(lambda_="best"), ValueError, ["lambda_ must be a number or 'auto', but is 'best'"]),
    "train_size of NaN": (train(train_size=np.nan), ValueError, ["train_size must be a finite number, but is nan"]),
    "train_size as text": (train(train_size="0.9"), ValueError, ["train_size must be a number, but is '0.9'"]),
    "validation_size of 1": (train(validation_size=1), ValueError, ["validation_size=1 must lie between 0 and 1"]),
    "shares above 1 in total": (train(train_size=0.9, validation_size=0.2), ValueError, ["train_size + validation_size must be at most 1"]),
    "held_out beyond the last cell": (train(held_out=[240]), ValueError, ["held_out must lie below the number of cells, 240, but reach 240 to 240"]),
    "too few cells": (train(held_out=np.arange(220)), ValueError, ["Too few cells: ", "hold out fewer"]),
    "held_out with stage 2 alone": (train(stages=("specific",), held_out=[0]), ValueError, ["held_out: stage 2 alone keeps the cells", "Leave it out"]),
    "keep_start with stage 1": (train(keep_start=True), ValueError, ["keep_start: ", "Give stages=('specific',)"]),
    "early_stopping as text": (train(early_stopping="no"), ValueError, ["early_stopping must be True or False, but is 'no'"]),
    "batch_size of 0": (train(batch_size=0), ValueError, ["batch_size must be at least 1, but is 0"]),
    "an unknown key of plan_kwargs": (train(plan_kwargs={"learning_rates": 1}), ValueError, ["plan_kwargs: 'learning_rates' is not known", "Did you mean 'learning_rate'?"]),
    "max_epochs in plan_kwargs": (train(plan_kwargs={"max_epochs_shared": 3}), ValueError, ["plan_kwargs: give max_epochs to train() itself"]),
    "plan_kwargs as list": (train(plan_kwargs=[1]), ValueError, ["plan_kwargs must be a dictionary, but is [1]"]),
    "a learning rate of 0": (train(plan_kwargs={"learning_rate": 0}), ValueError, ["learning_rate must be above 0, but is 0.0"]),
    "no GPU": (train(accelerator="gpu"), ValueError, ["accelerator='gpu': torch finds no CUDA GPU here", "Use accelerator='cpu'"]),
    "an unknown accelerator": (train(accelerator="tpu"), ValueError, ["accelerator must be 'auto', 'gpu' or 'cpu', but is 'tpu'"]),
    "several devices": (train(devices=2), ValueError, ["devices: training runs on a single device", "such as [0]"]),
    "an unsupported argument of trainers": (train(use_gpu=True), ValueError, ['use_gpu is not supported: give accelerator="gpu"']),
    "an unknown argument": (train(acelerator="cpu"), TypeError, ["no argument 'acelerator'", "Did you mean 'accelerator'?"]),
    "half precision": (train(precision=16), ValueError, ["precision=16 is not supported"]),
    "limit_train_batches of 0": (train(limit_train_batches=0), ValueError, ["limit_train_batches must be at least 1, but is 0"]),
    "gradient_clip_val of 0": (train(gradient_clip_val=np.float32(0)), ValueError, ["gradient_clip_val must be above 0, but is 0.0"]),
    "check_val_every_n_epoch as float": (train(check_val_every_n_epoch=1.0), ValueError, ["check_val_every_n_epoch must be a whole number, but is 1.0"]),
    "callbacks as text": (train(callbacks=["early"]), TypeError, ["callbacks must be callbacks of lightning.pytorch, but one is 'early'"]),
    "checkpoint_dir is a file": (train(checkpoint_dir=__file__), ValueError, ["checkpoint_dir: ", "is a file. Give a folder"]),
    "checkpoint_dir as number": (train(checkpoint_dir=5), ValueError, ["checkpoint_dir must be a path, but is 5"]),
    "lambdas empty": (trade_off(lambdas=()), ValueError, ["lambdas must be one or more finite numbers above 0"]),
    "lambdas with 0": (trade_off(lambdas=[0]), ValueError, ["lambdas must be above 0, but is 0.0"]),
    "a negative tolerance": (trade_off(tolerance=-1), ValueError, ["tolerance must not be negative, but is -1.0"]),
    "n_jobs of 0": (trade_off(n_jobs=0), ValueError, ["n_jobs must be at least 1, but is 0"]),
    "seed of lambda_path as text": (trade_off(seed="x"), ValueError, ["seed must be a whole number, but is 'x'"]),
    "apply as text": (trade_off(apply="yes"), ValueError, ["apply must be True or False, but is 'yes'"]),
    "take_over from a path": (lambda m: m.take_over("model"), TypeError, ["other must be a model", "but is str"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_model_and_training(name: str, model: IndiSeek, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call, error, parts = CASES[name]
    monkeypatch.chdir(tmp_path)
    before = state_of(model)
    assert_rejected(lambda: call(model), error, parts)
    assert state_of(model) == before
    assert list(tmp_path.iterdir()) == []
