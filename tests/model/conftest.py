"""Helpers for tests of whole models: quick training, and all representations of a model."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import mudata
import numpy as np
import pytest

from indiseek_sc import IndiSeek

FEW = {"shared": 5, "flow": 3, "critics": 2, "specific": 2, "decoder": 3}
HELD_OUT = np.arange(0, 600, 5)
UNGATED = {"gate_critics": False, "n_critic_warmup_steps": 8}
"""Train encoders against critics even if no dependence is found, as in short tests on few cells."""


@pytest.fixture
def messages(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Capture log messages of scvi-tools, whose logger does not propagate them."""
    logger = logging.getLogger("scvi")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def fit(mdata, *, setup=None, train=None, **kwargs):
    IndiSeek.setup_mudata(mdata, **(setup or {}))
    model = IndiSeek(mdata, **kwargs)
    quick = {"max_epochs": FEW, "plan_kwargs": UNGATED, "enable_progress_bar": False}
    model.train(**{**quick, "held_out": HELD_OUT, **(train or {})})
    return model


def all_latents(model, mdata=None, indices=None):
    latents = {"joint": model.get_latent_representation(mdata, indices=indices)}
    for role, name in model.modalities.items():
        for kind in ("shared", "specific"):
            latents[f"{kind}_{role}"] = model.get_latent_representation(
                mdata, kind=kind, modality=name, indices=indices
            )
        latents[f"decoded_{role}"] = model.get_reconstruction(mdata, modality=name, indices=indices)
    return latents


def assert_equal_latents(first, second):
    assert first.keys() == second.keys()
    for name, latent in first.items():
        np.testing.assert_array_equal(latent, second[name], err_msg=name)


@pytest.fixture(scope="module")
def fitted(_pbmc_covid_once) -> tuple[IndiSeek, mudata.MuData]:
    """Return a model trained on 600 cells, and the cells."""
    mdata = _pbmc_covid_once[::10].copy()
    return fit(mdata), mdata
