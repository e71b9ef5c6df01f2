"""Models on a simulated GPU: devices of tensors, agreement with the CPU, no synchronisation."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mudata import MuData
from torch import nn

from indiseek_sc import IndiSeek, tl
from indiseek_sc.baselines import METHODS, make
from indiseek_sc.datasets import synthetic
from indiseek_sc.metrics import _probes
from indiseek_sc.model import _checkpoint, _files, _stages
from indiseek_sc.module import IndiSeekModule

from .pretend_gpu import PretendGpu, pretend_gpu

HELD_OUT = np.arange(0, 160, 5)
FEW = {"max_epochs": 2, "enable_progress_bar": False}
SHORT = {**FEW, "plan_kwargs": {"n_critic_steps": 1, "n_critic_warmup_steps": 2}, "limit_train_batches": 2}
GPU = {**SHORT, "accelerator": "gpu"}
CPU = {**SHORT, "accelerator": "cpu"}


@pytest.fixture
def gpu() -> Iterator[PretendGpu]:
    with pretend_gpu() as pretended:
        yield pretended


@pytest.fixture(autouse=True)
def quick_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_probes, "_MAX_EPOCHS", 2)


def draw_counts(n_cells: int = 160) -> MuData:
    """Return synthetic counts of two batches."""
    mdata = synthetic.make("S6", n_cells)
    mdata.obs["donor"] = np.array(["a", "b"])[np.arange(n_cells) % 2]
    mdata.obs["label"] = np.array(["x", "y", "z"])[np.arange(n_cells) % 3]
    return mdata


def make_model(mdata: MuData | None = None, method: str = "indiseek", **settings: Any) -> IndiSeek:
    mdata = draw_counts() if mdata is None else mdata
    model = make(method, mdata, setup={"batch_key": "donor"}, n_hidden=16, n_components=10, n_top_genes=60, **settings)
    return model


def get_latents(model: IndiSeek) -> dict[str, np.ndarray]:
    latents = {"joint": model.get_latent_representation()}
    for name in model.modalities.values():
        for kind in ("shared", "specific"):
            latents[f"{kind}_{name}"] = model.get_latent_representation(kind=kind, modality=name)
        latents[f"decoded_{name}"] = model.get_reconstruction(modality=name)
        latents[f"features_{name}"] = model.get_features(modality=name)
    return latents


def assert_same_latents(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert first.keys() == second.keys()
    for name, latent in first.items():
        np.testing.assert_array_equal(latent, second[name], err_msg=name)


def run_on_both(act: Callable[[str], Any]) -> tuple[Any, Any]:
    """Return the results of a function on the CPU and on the simulated GPU."""
    on_cpu = act("cpu")
    with pretend_gpu():
        return on_cpu, act("gpu")


# The simulated GPU


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: here @ there,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: torch.where(here > 0, there, here),
        lambda here, there: torch.linalg.solve(here, there),
        lambda here, there: here[there.long()[0]],
        lambda here, there: here.add_(there),
        lambda here, there: nn.functional.linear(here, there),
        lambda here, there: nn.functional.mse_loss(here, there),
        lambda here, there: there.numpy(),
    ],
)
def test_mixing_devices_raises(gpu: PretendGpu, mix: Callable) -> None:
    here, there = torch.eye(2), torch.eye(2, device="cuda")
    assert (here.is_cuda, there.is_cuda, str(there.device)) == (False, True, "cuda:0")
    with pytest.raises((RuntimeError, TypeError), match="pretended"):
        mix(here, there)


def test_tensors_created_on_the_device_stay_there(gpu: PretendGpu) -> None:
    there = torch.randn(4, 3).cuda().requires_grad_()
    scalar = torch.tensor(2.0)
    made = [
        (there * scalar).exp().sum(dim=0),
        there.new_zeros(2),
        torch.zeros_like(there),
        nn.functional.one_hot(there.detach().argmax(dim=1), 3),
        there.detach().clone(),
        copy.deepcopy(there.detach()),
        torch.arange(3, device=there.device),
        torch.tensor([1.0, 2.0], device="cuda"),
        there[:2],
        torch.linalg.eigh(there.T @ there).eigenvectors,
        torch.func.jvp(torch.sin, (there.detach(),), (torch.ones_like(there),))[1],
    ]
    assert all(x.is_cuda for x in made)
    (there.square().sum() / 2).backward()
    assert there.grad.is_cuda
    torch.testing.assert_close(there.grad.cpu(), there.detach().cpu())
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to("cuda")
    optimizer = torch.optim.AdamW(network.parameters())
    network(there.detach()).sum().backward()
    optimizer.step()
    assert all(x.is_cuda for x in network.state_dict().values())
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    for place, is_there in (("cpu", False), ("cuda", True)):
        buffer.seek(0)
        loaded = torch.load(buffer, map_location=place)
        assert all(x.is_cuda == is_there for x in loaded.values())
        network.load_state_dict(loaded)
        assert network[0].weight.is_cuda


def test_synchronisations_are_counted_and_patches_removed() -> None:
    with pretend_gpu() as gpu:
        there = torch.eye(3, device="cuda")
        gpu.waits.clear()
        for act in (
            lambda: there.sum().item(),
            lambda: bool(there[0, 0]),
            there.cpu,
            lambda: there[there > 0],
            there.tolist,
        ):
            act()
        counted = sorted(what for what, _ in gpu.waits)
        assert counted == ["_local_scalar_dense", "_local_scalar_dense", "mask", "to cpu", "tolist"]
        assert torch.cuda.is_available()
    assert not torch.cuda.is_available()
    assert not torch.eye(2).is_cuda
    assert "device" not in vars(torch.Tensor)


# Training and analysis


@pytest.mark.slow
def test_auto_selects_the_gpu(gpu: PretendGpu) -> None:
    model = make_model()
    model.train(**SHORT)
    assert model.device == torch.device("cuda", 0)
    assert all(x.is_cuda for x in model.module.state_dict().values())
    model.train(**CPU)
    assert not any(x.is_cuda for x in model.module.state_dict().values())


@pytest.mark.parametrize(
    ("method", "train"),
    [
        ("indiseek", {}),
        pytest.param("indiseek", {"lambda_": "auto"}, marks=pytest.mark.slow),
        pytest.param("indiseek_literal", {}, marks=pytest.mark.slow),
        *(
            pytest.param(name, {}, marks=pytest.mark.slow)
            for name, method in METHODS.items()
            if method.model._module_cls is not IndiSeekModule
        ),
    ],
)
def test_training_agrees_between_gpu_and_cpu(method: str, train: dict[str, Any]) -> None:
    def act(accelerator: str) -> dict[str, np.ndarray]:
        model = make_model(method=method)
        model.train(**SHORT, accelerator=accelerator, held_out=HELD_OUT, **train)
        return get_latents(model)

    assert_same_latents(*run_on_both(act))


@pytest.fixture(scope="module")
def on_cpu() -> IndiSeek:
    model = make_model()
    model.train(**CPU, held_out=HELD_OUT)
    model.train_prediction(2, enable_progress_bar=False, accelerator="cpu")
    return model


@pytest.fixture
def on_gpu(on_cpu: IndiSeek, gpu: PretendGpu) -> IndiSeek:
    """The same model, trained on the GPU."""
    model = make_model()
    model.train(**GPU, held_out=HELD_OUT)
    model.train_prediction(2, enable_progress_bar=False, accelerator="gpu")
    return model


@pytest.mark.slow
def test_methods_of_a_trained_model(on_cpu: IndiSeek, on_gpu: IndiSeek) -> None:
    assert_same_latents(get_latents(on_cpu), get_latents(on_gpu))
    pd.testing.assert_frame_equal(on_cpu.audit().table, on_gpu.audit().table)
    for pair in (("rna", "adt"), ("adt", "rna")):
        for units in ("features", "normalized"):
            first, second = (model.predict_modality(*pair, units=units) for model in (on_cpu, on_gpu))
            pd.testing.assert_frame_equal(first.mean, second.mean)
            pd.testing.assert_frame_equal(first.std, second.std)
            first, second = (model.audit_prediction(*pair, units=units) for model in (on_cpu, on_gpu))
            pd.testing.assert_frame_equal(first.table, second.table)
    for kind, modality in (("specific", "adt"), ("shared", "rna"), ("joint", None)):
        for method in ("decoder_jacobian", "integrated_gradients"):
            arguments = {"kind": kind, "modality": modality, "method": method, "max_cells": 20, "n_steps": 4}
            first, second = (model.feature_attribution(**arguments) for model in (on_cpu, on_gpu))
            pd.testing.assert_frame_equal(first, second)
    for method in ("jacobian", "permutation", "probe"):
        arguments = {"modality": "adt", "method": method, "max_cells": 30, "n_repeats": 1}
        first, second = (model.feature_importance(**arguments) for model in (on_cpu, on_gpu))
        # torch.func sums in another order if operations are intercepted.
        pd.testing.assert_frame_equal(first, second, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_report_of_a_model_on_the_gpu(on_gpu: IndiSeek, tmp_path) -> None:
    on_gpu.write_latents()
    tl.modality_importance(on_gpu.adata, "label")
    on_gpu.report(tmp_path / "report.html", label_key="label")
    assert (tmp_path / "report.html").stat().st_size > 10_000


@pytest.mark.slow
def test_training_continues_on_another_device(on_cpu: IndiSeek, gpu: PretendGpu) -> None:
    def go_on(accelerator: str) -> tuple[IndiSeek, pd.DataFrame]:
        model = make_model()
        model.train(**{**CPU, "accelerator": {"gpu": "cpu", "cpu": "gpu"}[accelerator]}, held_out=HELD_OUT)
        path = model.lambda_path([10.0], **FEW, limit_train_batches=2, tolerance=1.0, accelerator=accelerator)
        model.train(**SHORT, accelerator=accelerator, stages=("specific",), lambda_=10.0)
        return model, path.table

    (first, path), (second, other_path) = go_on("gpu"), go_on("cpu")
    assert first.device != second.device
    pd.testing.assert_frame_equal(path, other_path)
    assert_same_latents(get_latents(first), get_latents(second))


@pytest.mark.slow
def test_models_load_on_another_device(on_cpu: IndiSeek, on_gpu: IndiSeek, tmp_path) -> None:
    expected = get_latents(on_cpu)
    for model, accelerator in ((on_gpu, "cpu"), (on_cpu, "gpu"), (on_gpu, "gpu")):
        folder = str(tmp_path / f"{model.device.type}_{accelerator}")
        model.save(folder)
        loaded = IndiSeek.load(folder, adata=draw_counts(), accelerator=accelerator)
        assert loaded.device.type == {"cpu": "cpu", "gpu": "cuda"}[accelerator]
        assert_same_latents(get_latents(loaded), expected)
        loaded.train(**CPU, stages=("specific",))


@pytest.mark.slow
def test_training_resumes_from_a_checkpoint_on_the_device(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def write(*values: Any) -> None:
        _files.write_values(*values)
        raise Killed

    def act(accelerator: str) -> dict[str, np.ndarray]:
        arguments = {**SHORT, "accelerator": accelerator, "checkpoint_dir": tmp_path / accelerator}
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(_checkpoint, "write_values", write)
            make_model().train(**arguments)
        model = make_model()
        model.train(**arguments)
        assert list((tmp_path / accelerator).iterdir()) == []
        return get_latents(model)

    assert_same_latents(*run_on_both(act))


CLOSED_FORMS = (
    "_canonical_analysis.py",
    "_shared.py",
    "_evidence.py",
    "_linear.py",
    "_networks.py",
    "_whitening.py",
    "_encoder_decoders.py",
)
"""Files with computations once per stage, whose number of iterations depends on the data."""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["indiseek", "indiseek_literal", "factorized_cl", "info_disen", "joint_opt"])
def test_steps_do_not_synchronise(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of synchronisations does not depend on the number of steps per epoch."""
    monkeypatch.setattr(_stages, "needs_flow", lambda *_: True)  # the same stages for all data

    def count(n_steps: int) -> int:
        model = make_model(draw_counts(300), method)
        with pretend_gpu() as gpu:
            model.train(
                1,
                enable_progress_bar=False,
                accelerator="gpu",
                early_stopping=False,
                batch_size=32,
                limit_train_batches=n_steps,
                plan_kwargs={"n_critic_steps": 2, "n_critic_warmup_steps": 0, "gate_critics": False},
            )
            by_line = {key: n for key, n in gpu.waits.items() if not any(name in key[1] for name in CLOSED_FORMS)}
        return sum(by_line.values())

    assert count(2) == count(7)


# A real GPU


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["indiseek", "indiseek_literal"])
def test_real_gpu_agrees_with_the_cpu(method: str) -> None:
    """Closed-form results agree to rounding; networks agree as well as two seeds on a CPU."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no GPU here")
    untrained = {"max_epochs": 0, "enable_progress_bar": False, "held_out": HELD_OUT}
    features, latents = {}, {}
    for accelerator in ("cpu", "gpu"):
        model = make_model(method=method)
        model.train(**untrained, accelerator=accelerator)
        features[accelerator] = model.get_features(modality="rna")
        latents[accelerator] = get_latents(model)
    np.testing.assert_allclose(features["gpu"], features["cpu"], atol=1e-4)
    if method == "indiseek":  # closed-form initialisation; the paper's preset starts at random
        for name in ("shared_rna", "shared_adt"):
            np.testing.assert_allclose(latents["gpu"][name], latents["cpu"][name], atol=1e-2)
    tables = {}
    for accelerator, seed in (("cpu", 0), ("cpu", 1), ("gpu", 0)):
        model = make_model(draw_counts(2000), method, seed=seed)
        model.train(
            {"shared": 40, "specific": 20},
            accelerator=accelerator,
            held_out=np.arange(0, 2000, 4),
            enable_progress_bar=False,
        )
        tables[accelerator, seed] = model.audit().table
    apart = (tables["cpu", 0] - tables["cpu", 1]).abs()
    found = (tables["gpu", 0] - tables["cpu", 0]).abs()
    figures = ["agreement_flat", "sufficiency", "leak_ratio", "gain"]
    assert (found[figures] <= apart[figures] + 0.05).all(axis=None)
