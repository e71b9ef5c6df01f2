"""Copying of trained parts of another model: they are identical, and independent afterwards."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from indiseek_sc import IndiSeek
from indiseek_sc.baselines import CLIP, FactorizedCL, NoCritics, NoIndependence

FEW = {"shared": 2, "flow": 2, "specific": 2, "decoder": 1}
HELD_OUT = np.arange(0, 300, 3)
QUICK = {"max_epochs": FEW, "enable_progress_bar": False}


@pytest.fixture(scope="module")
def mdata(_pbmc_covid_once):
    return _pbmc_covid_once[::20].copy()


def make(cls, mdata):
    cls.setup_mudata(mdata)
    model = cls(mdata)
    # The default of 200 critic-only steps would take most of the time.
    optimisation = dataclasses.replace(model.settings.optimisation, n_critic_warmup_steps=2)
    model.settings = model.settings._replace(optimisation=optimisation)
    return model


@pytest.fixture(scope="module")
def leader(mdata):
    model = make(IndiSeek, mdata)
    model.train(held_out=HELD_OUT, **QUICK)
    return model


def state_of(model, *parts):
    return {name: x for name, x in model.module.state_dict().items() if name.startswith(parts)}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(x, second[name]) for name, x in first.items())


def test_all_representations_are_copied_for_the_same_architecture(mdata, leader):
    model = make(NoCritics, mdata)
    model.take_over(leader)
    assert model.stages_ == ["shared", "specific"] and model.is_trained_
    for kind in ("shared", "specific"):
        latents = [m.get_latent_representation(kind=kind, modality="rna") for m in (leader, model)]
        np.testing.assert_array_equal(*latents)
    np.testing.assert_array_equal(model.test_indices, HELD_OUT)


def test_training_continues_from_the_copied_start_without_changing_the_other_model(mdata, leader):
    before = {name: x.clone() for name, x in leader.module.state_dict().items()}
    model = make(NoCritics, mdata)
    model.take_over(leader)
    model.train(stages=("specific",), keep_start=True, **QUICK)
    start = [
        f"encoder_decoders.{role}.{part}." for role in ("rna", "adt") for part in ("conditional", "flow", "principal")
    ]
    assert_same(state_of(model, *start, "encoders", "rotations"), state_of(leader, *start, "encoders", "rotations"))
    assert_same(before, leader.module.state_dict())
    # Without keep_start, the start is trained again.
    model.train(stages=("specific",), **QUICK)
    assert not torch.equal(*(m.module.state_dict()[_a_weight(m)] for m in (model, leader)))


def _a_weight(model):
    return next(
        name for name in model.module.state_dict() if name.startswith("encoder_decoders.rna.flow.") and "weight" in name
    )


def test_only_shared_representations_are_copied_for_another_specific_architecture(mdata, leader):
    model = make(NoIndependence, mdata)
    model.take_over(leader)
    assert model.stages_ == ["shared"] and not model.is_trained_
    model.train(stages=("specific",), **QUICK)
    assert_same(state_of(model, "encoders", "rotations"), state_of(leader, "encoders", "rotations"))


def test_lambda_path_on_copied_shared_representations(mdata):
    clip = make(CLIP, mdata)
    clip.train(held_out=HELD_OUT, **QUICK)
    alone, follower = make(FactorizedCL, mdata), make(FactorizedCL, mdata)
    alone.train(held_out=HELD_OUT, stages=("shared",), **QUICK)
    follower.take_over(clip)
    walks = [model.lambda_path([10], apply=True, **QUICK) for model in (alone, follower)]
    np.testing.assert_array_equal(*(walk.table.drop(columns="modality").astype(float) for walk in walks))
    assert_same(alone.module.state_dict(), follower.module.state_dict())


def test_the_split_is_copied_by_cell_names(mdata, leader):
    """The cells may have another order."""
    more = mdata[::-1].copy()
    model = make(IndiSeek, more)
    model.take_over(leader)
    for part in ("train", "validation", "test"):
        own, theirs = (set(m.adata.obs_names[getattr(m.split, part)]) for m in (model, leader))
        assert own == theirs


def test_an_auditor_of_the_same_shared_representations_gives_the_same_report(mdata, leader):
    model = make(NoCritics, mdata)
    model.take_over(leader)
    model.train(stages=("specific",), keep_start=True, **QUICK)
    alone, beside = model.audit(), model.audit(auditor=leader.make_auditor())
    np.testing.assert_array_equal(alone.table, beside.table)
    assert alone.pair == beside.pair


def test_incompatible_models_are_rejected(mdata, leader):
    with pytest.raises(ValueError, match="another architecture"):
        make(CLIP, mdata).take_over(leader)
    with pytest.raises(ValueError, match="other: it was trained on cells that this model does not have"):
        make(IndiSeek, mdata[:100].copy()).take_over(leader)
    with pytest.raises(RuntimeError):
        make(IndiSeek, mdata).take_over(make(IndiSeek, mdata))


def test_keep_start_requires_unchanged_shared_representations(mdata, leader):
    model = make(IndiSeek, mdata)
    with pytest.raises(ValueError, match="keep_start"):
        model.train(keep_start=True, **QUICK)
    model.take_over(leader)
    model.train(stages=("shared",), held_out=HELD_OUT, **QUICK)
    with pytest.raises(RuntimeError):
        model.train(stages=("specific",), keep_start=True, **QUICK)
