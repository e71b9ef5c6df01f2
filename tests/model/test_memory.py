"""Insufficient memory: encoding takes fewer cells at a time, and training names the remedy."""

from __future__ import annotations

import shutil
import warnings

import numpy as np
import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.module import IndiSeekModule
from indiseek_sc.nn import ConditionalEncoderDecoder, is_out_of_memory, map_parts, take_parts

from .conftest import UNGATED
from .make_saved_model import ARCHIVE, draw_cells, latents_of

QUICK = {"max_epochs": 2, "enable_progress_bar": False}
ERRORS = {
    "GPU": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "CPU": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    "numpy": MemoryError("Unable to allocate 3.00 TiB for an array"),
}


@pytest.fixture
def model(tmp_path) -> IndiSeek:
    shutil.unpack_archive(ARCHIVE, tmp_path / "model")
    return IndiSeek.load(tmp_path / "model", draw_cells())


def fail_beyond(n_cells, error, function):
    """Return a function that raises an error for more than a number of cells, and its calls."""
    calls = []

    def limited(*args, **kwargs):
        first = next(x for x in args[1:] if isinstance(x, torch.Tensor | dict))
        size = len(first) if isinstance(first, torch.Tensor) else len(next(iter(first.values())))
        calls.append(size)
        if size > n_cells:
            raise error
        return function(*args, **kwargs)

    return limited, calls


def test_out_of_memory_errors_are_recognised():
    assert all(map(is_out_of_memory, ERRORS.values()))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_fewer_cells_are_encoded_at_a_time_if_memory_is_short(model, monkeypatch, error):
    whole = latents_of(model, None)
    describe, calls = fail_beyond(100, error, IndiSeekModule.describe)
    monkeypatch.setattr(IndiSeekModule, "describe", describe)
    with pytest.warns(UserWarning, match="Memory is short: 60 cells are computed at a time") as caught:
        joint = model.get_latent_representation()
    assert calls == [240, 120, 60, 60, 60, 60]
    assert sum("Memory is short" in str(warning.message) for warning in caught) == 1
    np.testing.assert_allclose(joint, whole["joint"], atol=1e-5)


def test_an_error_is_raised_if_memory_does_not_suffice_for_few_cells(model, monkeypatch):
    describe, _ = fail_beyond(0, ERRORS["GPU"], IndiSeekModule.describe)
    monkeypatch.setattr(IndiSeekModule, "describe", describe)
    message = r"not suffice even for 60 cells.*CUDA out of memory.*model.to_device\('cpu'\)"
    with pytest.raises(MemoryError, match=message):
        model.get_latent_representation()


def test_other_errors_are_not_caught(model, monkeypatch):
    describe, calls = fail_beyond(0, RuntimeError("another one"), IndiSeekModule.describe)
    monkeypatch.setattr(IndiSeekModule, "describe", describe)
    with pytest.raises(RuntimeError, match="another one"):
        model.get_latent_representation()
    assert calls == [240]


def test_parts_are_complete_and_in_order():
    values = torch.arange(1000.0)[:, None]
    limited, calls = fail_beyond(300, ERRORS["GPU"], lambda _, x: 2 * x)
    with torch.no_grad(), pytest.warns(UserWarning, match="250 cells"):
        assert torch.equal(map_parts(lambda x: limited(None, x), values), 2 * values)
    assert calls == [1000, 500, 250, 250, 250, 250]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [part for part, _ in take_parts(lambda part: None, 5, 2)] == [slice(0, 2), slice(2, 4), slice(4, 5)]
        assert [part for part, _ in take_parts(lambda part: None, 0, 2)] == [slice(0, 0)]


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_training_errors_name_the_stage_and_the_remedy(model, monkeypatch, error):
    before, stages = model.get_latent_representation(), model.stages_

    def fail(*_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(IndiSeekModule, "shared_objective", fail)
        with pytest.raises(
            MemoryError, match=r"Stage 'shared'.* 240 cells in batches of 512.*batch_size=256"
        ) as caught:
            model.train(**QUICK)
        assert str(error) in str(caught.value)
        patch.undo()
        patch.setattr(ConditionalEncoderDecoder, "fit", fail)
        with pytest.raises(
            MemoryError, match=r"Stage 'encoder-decoders'.*does not suffice for 240 cells\. Give fewer cells"
        ):
            model.train(**QUICK)
        patch.undo()
        patch.setattr(IndiSeekModule, "specific_terms", fail)
        with pytest.raises(MemoryError, match=r"^Stage 'specific': .*batches of 64.*batch_size=32"):
            model.train(**QUICK, lambda_="auto", batch_size=64, plan_kwargs=UNGATED)
    np.testing.assert_array_equal(model.get_latent_representation(), before)
    assert model.stages_ == stages
