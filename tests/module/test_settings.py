from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

from indiseek_sc.module import Architecture, Optimisation, Settings, make_settings


def get(name: str, value: object) -> object:
    """Return the setting that results from a given value."""
    return make_settings("default", **{name: value}).describe()[name]


def test_presets():
    assert make_settings("default") == Settings(Architecture(), Optimisation())
    architecture, optimisation = make_settings("paper")
    sizes = architecture.n_layers, architecture.n_hidden, architecture.n_shared, architecture.n_specific
    assert sizes == (5, 50, 50, 50)
    assert (optimisation.batch_size, optimisation.learning_rate, optimisation.n_critic_steps) == (128, 1e-4, 5)
    assert not architecture.linear_start
    assert not architecture.conditional_encoder_decoder
    assert architecture.canonical_weight == 0


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_changes_replace_values_and_none_keeps_them(preset):
    assert make_settings(preset, n_shared=None, dropout=None, patience=None) == make_settings(preset)
    architecture, optimisation = make_settings(preset)
    assert make_settings(preset, n_shared=3, canonical_weight=0.0) == (
        replace(architecture, n_shared=3, canonical_weight=0.0),
        optimisation,
    )
    assert make_settings(preset, lambda_=3.0) == (architecture, replace(optimisation, lambda_=3.0))
    both = make_settings(preset, patience=7, n_hidden=9)
    assert both == (replace(architecture, n_hidden=9), replace(optimisation, patience=7))


def test_all_settings_have_unique_names():
    names = [field.name for part in (Architecture, Optimisation) for field in fields(part)]
    assert len(set(names)) == len(names)
    described = make_settings("paper", n_shared=4, patience=3).describe()
    assert list(described) == names
    assert (described["n_shared"], described["patience"], described["lambda_"]) == (4, 3, 10.0)


def test_settings_are_immutable():
    settings = make_settings("default")
    with pytest.raises(FrozenInstanceError):
        settings.architecture.n_shared = 3
    with pytest.raises(FrozenInstanceError):
        settings.optimisation.patience = 3
    with pytest.raises(AttributeError):
        settings.optimisation = Optimisation()


def test_unknown_presets_are_rejected():
    with pytest.raises(ValueError, match="preset='papers' is not known. Available: 'default', 'paper'"):
        make_settings("papers")


def test_unknown_names_are_rejected():
    with pytest.raises(TypeError, match="n_shard"):
        make_settings("default", n_shard=3)


def test_replaced_values_are_checked():
    architecture, optimisation = make_settings("default")
    with pytest.raises(ValueError, match="n_shared must be at least 1, but is 0"):
        replace(architecture, n_shared=0)
    with pytest.raises(ValueError, match="patience must not be negative, but is -1"):
        replace(optimisation, patience=-1)


def test_unknown_critics_are_rejected():
    with pytest.raises(ValueError, match="independence"):
        make_settings("default", independence="gaussian+gauss")


SIZES = ["n_shared", "n_shared_first", "n_specific", "n_hidden", "n_layers"]


@pytest.mark.parametrize(
    "name", [*SIZES, "batch_size", "specific_batch_size", "regression_batch_size", "n_critic_steps"]
)
def test_sizes_below_one_are_rejected(name):
    assert get(name, 1) == 1
    assert get(name, np.int64(2)) == 2
    with pytest.raises(ValueError, match=f"{name} must be at least 1, but is 0"):
        make_settings("default", **{name: 0})


LENGTHS = ["patience", "n_critic_warmup_steps", *(f.name for f in fields(Optimisation) if f.name[:4] == "max_")]


@pytest.mark.parametrize("name", [*SIZES, "batch_size", *LENGTHS])
@pytest.mark.parametrize("value", [1.0, "1", True])
def test_sizes_must_be_whole_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a whole number, but is {value!r}"):
        make_settings("default", **{name: value})


WEIGHTS = ["lambda_", "info_nce_weight", "canonical_weight", "prediction_weight", "weight_decay"]


@pytest.mark.parametrize("name", WEIGHTS)
def test_negative_weights_are_rejected(name):
    assert get(name, 0.0) == 0
    with pytest.raises(ValueError, match=f"{name} must not be negative, but is -0.5"):
        make_settings("default", **{name: -0.5})


@pytest.mark.parametrize("name", [*WEIGHTS, "learning_rate"])
def test_weights_must_be_finite_numbers(name):
    assert get(name, np.float32(0.5)) == 0.5
    for value in (True, "0.5", [1.0]):
        with pytest.raises(ValueError) as error:
            make_settings("default", **{name: value})
        assert str(error.value) == f"{name} must be a number, but is {value!r}."
    with pytest.raises(ValueError, match=f"{name} must be a finite number, but is inf"):
        make_settings("default", **{name: float("inf")})


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_nan_are_rejected(name):
    with pytest.raises(ValueError, match=f"{name} must be a finite number, but is nan"):
        make_settings("default", **{name: float("nan")})


def test_stage_one_requires_a_term():
    none = {"info_nce_weight": 0.0, "canonical_weight": 0.0, "prediction_weight": 0.0}
    with pytest.raises(ValueError, match="info_nce_weight, canonical_weight, prediction_weight must be above 0"):
        make_settings("default", **none)
    assert make_settings("default", **{**none, "canonical_weight": 0.1}).architecture.canonical_weight == 0.1


@pytest.mark.parametrize("name", LENGTHS)
def test_negative_lengths_are_rejected(name):
    assert get(name, 0) == 0
    with pytest.raises(ValueError, match=f"{name} must not be negative, but is -1"):
        make_settings("default", **{name: -1})


@pytest.mark.parametrize("name", [f.name for f in fields(Optimisation) if f.name.endswith("learning_rate")])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_learning_rates_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} must be above 0, but is {value}"):
        make_settings("default", **{name: value})


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_invalid_dropout_is_rejected(dropout):
    assert get("dropout", 0.0) == 0
    with pytest.raises(ValueError, match="dropout must"):
        make_settings("default", dropout=dropout)


def test_critics_are_conditioned_on_the_own_or_the_other_modality():
    assert get("against", "own") == "own"
    with pytest.raises(ValueError, match="against='both' is not known. Available: 'other', 'own'"):
        make_settings("default", against="both")
