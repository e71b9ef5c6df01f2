"""Interrupted training resumes after the last completed stage, with the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc import IndiSeek, baselines
from indiseek_sc.model import _checkpoint, _files
from indiseek_sc.model._checkpoint import Checkpoint

from .make_saved_model import draw_cells

SMALL = {"n_shared": 3, "n_specific": 3, "n_hidden": 8, "n_layers": 1, "n_components": 5}
QUICK = {"max_epochs": 2, "enable_progress_bar": False}
UNGATED = {"gate_critics": False, "n_critic_warmup_steps": 0}


def begin(mdata=None, cls=IndiSeek, **settings):
    mdata = draw_cells() if mdata is None else mdata
    cls.setup_mudata(mdata, batch_key="donor")
    return cls(mdata, **{**SMALL, **settings})


def assert_same(model, other):
    """Assert that two trained models are bitwise identical, with their histories."""
    state, others = model.module.state_dict(), other.module.state_dict()
    assert state.keys() == others.keys()
    for name, x in state.items():
        assert torch.equal(x, others[name]), name
    assert model.history.keys() == other.history.keys()
    for name, table in model.history.items():
        pd.testing.assert_frame_equal(table, other.history[name], check_exact=True)
    np.testing.assert_array_equal(model.split_["part"], other.split_["part"])
    assert model.lambda_ == other.lambda_
    assert (model.lambda_path_ is None) == (other.lambda_path_ is None)
    np.testing.assert_array_equal(model.get_latent_representation(), other.get_latent_representation())
    assert not any(p.requires_grad is False for p in model.module.parameters())
    assert model.module.frozen == () == other.module.frozen
    assert not any(part.training for part in other.module.modules())


def run_script(checkpoint: Path, number: int) -> None:
    script = [sys.executable, str(Path(__file__).with_name("train_and_be_killed.py")), str(checkpoint), str(number)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == -signal.SIGKILL, result.stderr


class Kill(Callback):
    """Callback without effect, with the name of the callback that kills the script."""


@pytest.mark.slow  # starts several processes
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_repeatedly_killed_process_reaches_the_same_result(tmp_path):
    arguments = {"max_epochs": 3, "plan_kwargs": UNGATED, "enable_progress_bar": False}
    whole, killed = begin(), begin()
    whole.train(**arguments)
    run_script(tmp_path, 1)  # in stage 1, before the first checkpoint
    assert not list(tmp_path.glob("*.pt"))
    for number in (2, 2):  # in the second stage trained by each process
        run_script(tmp_path, number)
        assert (tmp_path / "checkpoint.pt").is_file()
    killed.train(**arguments, callbacks=[Kill()], checkpoint_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    assert_same(whole, killed)


class Killed(BaseException):
    """Exception that is not caught."""


def train_killed(model, folder, monkeypatch, n_written, **arguments):
    """Train until ``n_written`` checkpoints are written, or to the end; return their number."""
    written = []

    def write(*values):
        _files.write_values(*values)
        written.append(values)
        if len(written) == n_written:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint, "write_values", write)
        try:
            model.train(**arguments, checkpoint_dir=folder)
        except Killed:
            assert not model.stages_
    return len(written)


CASES = {
    "default": (IndiSeek, {}, {"plan_kwargs": UNGATED}),
    "gated": (IndiSeek, {}, {}),
    "lambda": (IndiSeek, {}, {"lambda_": "auto", "plan_kwargs": UNGATED}),
    "paper": (IndiSeek, {"preset": "paper"}, {"held_out": np.arange(0, 240, 5)}),
    "JointOpt": (baselines.JointOpt, {}, {}),
    "shared": (IndiSeek, {}, {"stages": ("shared",)}),
}


@pytest.mark.parametrize(
    "case", [pytest.param(x, marks=pytest.mark.slow if x in ("default", "lambda") else ()) for x in CASES]
)
@pytest.mark.filterwarnings("ignore")
def test_training_resumes_after_any_stage_to_the_same_result(tmp_path, monkeypatch, case):
    cls, settings, arguments = CASES[case]
    whole = begin(cls=cls, **settings)
    outcome = whole.train(**QUICK, **arguments)
    n_all = {"JointOpt": 4, "shared": 1}.get(case, 5)
    if case == "default":
        assert train_killed(begin(cls=cls, **settings), tmp_path, monkeypatch, 0, **QUICK, **arguments) == n_all
    # After each stage of the default case; after a middle and the last stage of the others.
    for n in range(1, n_all + 1) if case == "default" else sorted({-(-n_all // 2), n_all}):
        folder = tmp_path / str(n)
        train_killed(begin(cls=cls, **settings), folder, monkeypatch, n, **QUICK, **arguments)
        assert {file.name for file in folder.iterdir()} == {"checkpoint.pt", "checkpoint.json"}
        model = begin(cls=cls, **settings)
        torch.manual_seed(n)  # the random state of the process has no effect
        resumed = model.train(**QUICK, **arguments, checkpoint_dir=folder)
        assert not list(folder.iterdir())
        assert [fit.stage for fit in resumed.fits] == [fit.stage for fit in outcome.fits]
        if "shared" in case:
            np.testing.assert_array_equal(
                *(m.get_latent_representation(kind="shared", modality="rna") for m in (whole, model))
            )
        else:
            assert_same(whole, model)


@pytest.mark.slow
def test_stage_2_alone_resumes(tmp_path, monkeypatch):
    arguments = {**QUICK, "stages": ("specific",), "lambda_": 3.0}
    first = begin()
    first.train(**QUICK)
    first.save(tmp_path / "first")
    whole, killed, other = (IndiSeek.load(tmp_path / "first", draw_cells()) for _ in range(3))
    whole.train(**arguments)
    with pytest.raises(Killed):
        _kill_once(monkeypatch, lambda: killed.train(**arguments, checkpoint_dir=tmp_path / "c"))
    other.module.log_scale.data += 1
    with pytest.raises(ValueError, match="differs in initial weights of the model"):
        other.train(**arguments, checkpoint_dir=tmp_path / "c")
    killed.train(**arguments, checkpoint_dir=tmp_path / "c")
    assert_same(whole, killed)


def _kill_once(monkeypatch, act):
    with monkeypatch.context() as patch:

        def write(*values):
            _files.write_values(*values)
            raise Killed

        patch.setattr(_checkpoint, "write_values", write)
        act()


def test_a_checkpoint_of_another_training_run_is_rejected(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        _kill_once(monkeypatch, lambda: begin().train(**QUICK, checkpoint_dir=tmp_path))

    def assert_rejected(pieces, model=None, **arguments):
        before = sorted(file.read_bytes() for file in tmp_path.iterdir())
        with pytest.raises(
            ValueError, match="checkpoint_dir: .* contains a checkpoint of a training run that differs in"
        ) as caught:
            (begin() if model is None else model).train(**{**QUICK, **arguments}, checkpoint_dir=tmp_path)
        assert all(piece in str(caught.value) for piece in (*pieces, "remove this one to start again"))
        assert sorted(file.read_bytes() for file in tmp_path.iterdir()) == before

    assert_rejected(["lambda_ (saved: 100.0, now: 7.0)"], lambda_=7.0)
    assert_rejected(["max_epochs", "batch_size (saved: 512, now: 64)"], max_epochs=3, batch_size=64)
    assert_rejected(["cells in training, validation and held_out"], held_out=[1, 2, 3])
    assert_rejected(["seed (saved: 0, now: 1)", "n_hidden (saved: 8, now: 9)"], begin(seed=1, n_hidden=9))
    changed, renamed, batches = draw_cells(), draw_cells(), draw_cells()
    changed["adt"].X[5, 3] += 1
    assert_rejected(["differs in values of adt."], begin(changed))
    renamed.obs["donor"] = "a"
    assert_rejected(["batches"], begin(renamed))
    batches["rna"].obs_names = batches["adt"].obs_names = [f"x{i}" for i in range(240)]
    batches.update()
    batches.obs["donor"] = draw_cells().obs["donor"].to_numpy()
    assert_rejected(["names of cells"], begin(batches))
    (tmp_path / "checkpoint.pt").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"checkpoint\.pt is damaged"):
        begin().train(**QUICK, checkpoint_dir=tmp_path)


class _Interrupt(Callback):
    def __init__(self) -> None:
        self.n_begun = 0

    def on_fit_start(self, trainer, pl_module):
        self.n_begun += 1

    def on_train_epoch_end(self, trainer, pl_module):
        if self.n_begun == 2:
            raise KeyboardInterrupt


def test_interrupted_training_resumes(tmp_path):
    arguments = {**QUICK, "plan_kwargs": UNGATED}
    whole, model = begin(), begin()
    whole.train(**arguments)
    with pytest.warns(UserWarning, match="Interrupted"):
        model.train(**arguments, callbacks=[_Interrupt()], checkpoint_dir=tmp_path)
    assert (tmp_path / "checkpoint.pt").is_file()
    calm = _Interrupt()
    calm.n_begun = 5
    model.train(**arguments, callbacks=[calm], checkpoint_dir=tmp_path)
    assert_same(whole, model)


def test_a_full_disk_raises_a_warning_and_training_continues(tmp_path, monkeypatch):
    def write(*values):
        raise OSError("checkpoint.pt could not be written: no space left.")

    monkeypatch.setattr(_checkpoint, "write_values", write)
    model = begin()
    with pytest.warns(UserWarning, match="checkpoint_dir: .*no space left. Training continues without a checkpoint"):
        model.train(**QUICK, checkpoint_dir=tmp_path)
    assert model.stages_ == ["shared", "specific"]


def test_a_checkpoint_contains_no_code(tmp_path, monkeypatch):
    with pytest.raises(Killed):
        _kill_once(monkeypatch, lambda: begin().train(**QUICK, checkpoint_dir=tmp_path))
    found = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(isinstance(x, torch.Tensor) for x in found.values())
    with pytest.raises(ValueError, match="differs in"):
        Checkpoint(tmp_path, {}, torch.device("cpu"))
