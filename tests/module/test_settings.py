from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from indiseek_sc.module import Settings, make_settings


def test_presets():
    assert make_settings("default") == Settings()
    paper = make_settings("paper")
    assert (paper.n_layers, paper.n_hidden, paper.n_shared, paper.n_specific) == (5, 50, 50, 50)
    assert (paper.batch_size, paper.learning_rate, paper.n_critic_steps) == (128, 1e-4, 5)
    assert not paper.linear_start
    assert not paper.conditional_codec
    assert paper.canonical_weight == 0


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_changes_replace_values_and_none_leaves_them(preset):
    assert make_settings(preset, n_shared=None, dropout=None) == make_settings(preset)
    assert make_settings(preset, n_shared=3, canonical_weight=0.0) == replace(
        make_settings(preset), n_shared=3, canonical_weight=0.0
    )


def test_settings_cannot_change_behind_a_model():
    with pytest.raises(FrozenInstanceError):
        make_settings("default").n_shared = 3


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="preset: there is no 'papers', only 'default', 'paper'"):
        make_settings("papers")


@pytest.mark.parametrize(
    "name",
    ["n_shared", "n_specific", "n_hidden", "n_layers", "batch_size", "specific_batch_size", "n_critic_steps"],
)
def test_sizes_below_one_are_refused(name):
    assert getattr(make_settings("default", **{name: 1}), name) == 1
    with pytest.raises(ValueError, match=f"{name} must be at least 1, but is 0"):
        make_settings("default", **{name: 0})


@pytest.mark.parametrize(
    "name", ["lambda_", "info_nce_weight", "canonical_weight", "prediction_weight", "weight_decay"]
)
def test_negative_weights_are_refused(name):
    assert getattr(make_settings("default", **{name: 0.0}), name) == 0
    with pytest.raises(ValueError, match=f"{name} must not be negative, but is -0.5"):
        make_settings("default", **{name: -0.5})


def test_stage_one_needs_a_term():
    none = {"info_nce_weight": 0.0, "canonical_weight": 0.0, "prediction_weight": 0.0}
    with pytest.raises(ValueError, match="info_nce_weight, canonical_weight, prediction_weight must be above 0"):
        make_settings("default", **none)
    assert make_settings("default", **{**none, "canonical_weight": 0.1}).canonical_weight == 0.1


@pytest.mark.parametrize("name", ["patience", "max_epochs_shared", "max_epochs_decoder", "n_critic_warmup_steps"])
def test_negative_lengths_are_refused(name):
    assert getattr(make_settings("default", **{name: 0}), name) == 0
    with pytest.raises(ValueError, match=f"{name} must not be negative, but is -1"):
        make_settings("default", **{name: -1})


@pytest.mark.parametrize("name", ["learning_rate", "regression_learning_rate", "critic_learning_rate"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_senseless_step_sizes_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be above 0, but is {value}"):
        make_settings("default", **{name: value})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_senseless_dropout_is_refused(dropout):
    assert make_settings("default", dropout=0.0).dropout == 0
    with pytest.raises(ValueError, match="dropout must be at least 0 and below 1"):
        make_settings("default", dropout=dropout)


def test_critics_judge_by_one_modality_or_the_other():
    assert make_settings("default", against="own").against == "own"
    with pytest.raises(ValueError, match="against must be 'other' or 'own', but is 'both'"):
        make_settings("default", against="both")
