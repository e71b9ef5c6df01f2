from __future__ import annotations

import math

import pytest
import torch
from scvi import REGISTRY_KEYS
from scvi.module.base import LossOutput

from indiseek_sc._keys import ROLES, other
from indiseek_sc.losses import canonical_correlation_loss, info_nce
from indiseek_sc.module import make_settings, set_trainable

NO_BATCH = torch.zeros(60, 0)
BATCH = torch.eye(3)[torch.arange(60) % 3]
OTHER_BATCH = BATCH.roll(1, dims=1)


def fit_encoder_decoders(module, features, batch=NO_BATCH):
    """Fit the closed forms of stage 2, and return the inputs of adversarial training."""
    names = module.modalities
    with torch.no_grad():
        conditions = {m: module.condition(m, module.shared(m, features[m]), batch) for m in names}
        for name in names:
            module.encoder_decoders[name].fit(features[name], conditions[name], module.n_shared)
        module.eval()
        if module.architecture.conditional_encoder_decoder:
            for name in names:
                module.encoder_decoders[name].fit_whitening(features[name], conditions[name], 45)
                module.encoder_decoders[name].freeze_start(features[name], conditions[name])
        cells = {name: module.prepare_specific(name, features, conditions) for name in names}
        for name in names:
            module.encoder_decoders[name].freeze_statistics(cells[name], conditions[name])
        module.joint.fit(list(module.describe(features, batch)["reconstruction"].values()))
    return cells


def flatten(latents):
    return {
        f"{kind}/{role}": x
        for kind, by_role in latents.items()
        for role, x in (by_role.items() if isinstance(by_role, dict) else [("both", by_role)])
    }


def assert_equal_latents(first, second):
    first, second = flatten(first), flatten(second)
    assert first.keys() == second.keys()
    for name, latent in first.items():
        assert torch.equal(latent, second[name]), name


@pytest.mark.parametrize("n_batches", [1, 3])
def test_shapes(make_module, features, n_batches):
    module = make_module(n_batches=n_batches)
    design = BATCH if n_batches > 1 else NO_BATCH
    fit_encoder_decoders(module, features, design)
    latents = module.describe(features, design)
    assert {name: tuple(x.shape) for name, x in flatten(latents).items()} == {
        "shared/rna": (60, 3),
        "shared/adt": (60, 3),
        "specific/rna": (60, 4),
        "specific/adt": (60, 2),  # five features less three shared directions
        "reconstruction/rna": (60, 7),
        "reconstruction/adt": (60, 5),
        "joint/both": (60, 12),
    }
    assert all(torch.isfinite(x).all() for x in flatten(latents).values())


def test_shapes_of_the_published_recipe(make_module, features):
    module = make_module("paper", n_shared=8, n_specific=9)
    fit_encoder_decoders(module, features)
    shapes = {name: x.shape[1] for name, x in flatten(module.describe(features, NO_BATCH)).items()}
    assert shapes["shared/rna"] == shapes["shared/adt"] == 8  # more dimensions than features, as specified
    assert shapes["specific/rna"] == shapes["specific/adt"] == 9


def test_widths_are_bounded_by_the_features(make_module):
    module = make_module(n_shared=50, n_specific=50)
    assert module.n_shared == 5
    assert module.n_specific == {"rna": 7, "adt": 5}


def test_dropped_directions_are_not_returned_and_are_zero_in_the_condition(make_module, features):
    module = make_module().eval()
    for role in ROLES:
        rotation = module.rotations[role]
        rotation.weight[:, 1:] = 0
        rotation.correlation[1:] = 0
    fit_encoder_decoders(module, features)
    latents = module.describe(features, NO_BATCH)
    assert latents["shared"]["rna"].shape == (60, 1)
    condition = module.condition("rna", module.shared("rna", features["rna"]), NO_BATCH)
    assert condition.shape == (60, 3)
    assert (condition[:, 1:] == 0).all()


def test_the_condition_contains_indicators_of_the_batch(make_module, features):
    module = make_module(n_batches=3).eval()
    assert module.n_condition == 3 + 3
    shared = module.shared("rna", features["rna"])
    condition = module.condition("rna", shared, BATCH)
    assert torch.equal(condition[:, :3], module.rotations["rna"].standardize(shared))
    assert torch.equal(condition[:, 3:], BATCH)


def test_shared_representations_do_not_depend_on_the_batch(make_module, features, disturb):
    module = make_module(n_batches=3)
    disturb(module)
    fit_encoder_decoders(module, features, BATCH)
    first, second = module.describe(features, BATCH), module.describe(features, OTHER_BATCH)
    assert torch.equal(first["shared"]["adt"], second["shared"]["adt"])
    assert not torch.equal(first["specific"]["adt"], second["specific"]["adt"])


def test_each_modality_is_encoded_from_its_own_features(make_module, features, disturb):
    module = make_module()
    disturb(module)
    fit_encoder_decoders(module, features)
    before = module.describe(features, NO_BATCH)
    after = module.describe({**features, "adt": features["adt"].flip(0)}, NO_BATCH)
    for kind in ("shared", "specific", "reconstruction"):
        assert torch.equal(before[kind]["rna"], after[kind]["rna"])
        assert not torch.equal(before[kind]["adt"], after[kind]["adt"])


@pytest.mark.parametrize("frozen", [(), ("transforms", "encoders", "rotations")])
def test_frozen_parts_stay_in_evaluation_mode(make_module, frozen):
    module = make_module()
    module.frozen = frozen
    assert module.train() is module
    for name, part in module.named_children():
        assert all(m.training == (name not in frozen) for m in part.modules()), name
    module.eval()
    assert not any(m.training for m in module.modules())


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_weights_can_be_loaded_into_a_new_module(make_module, features, disturb, preset):
    module = make_module(preset, n_batches=3)
    disturb(module)
    fit_encoder_decoders(module, features, BATCH)
    fresh = make_module(preset, n_batches=3, seed=99)
    fresh.load_state_dict(module.state_dict(), strict=True)
    assert_equal_latents(module.describe(features, BATCH), fresh.eval().describe(features, BATCH))


def test_the_interface_of_scvi_tools(make_module, features, disturb):
    module = make_module(n_batches=3)
    disturb(module)
    fit_encoder_decoders(module, features, BATCH)
    tensors = {
        REGISTRY_KEYS.X_KEY: features["rna"],
        "adt": features["adt"],
        REGISTRY_KEYS.BATCH_KEY: BATCH.argmax(dim=1, keepdim=True),
    }
    inference, generative, losses = module(tensors)
    found = inference.pop("features")
    assert all(torch.equal(found[role], features[role]) for role in ROLES)
    expected = module.describe(features, BATCH)
    assert_equal_latents(inference, expected)
    assert_equal_latents(generative, {"reconstruction": expected["reconstruction"]})
    assert isinstance(losses, LossOutput)
    errors = [
        (features[r] - expected["reconstruction"][r]).square().sum() / 60 / features[r].var(dim=0).sum() for r in ROLES
    ]
    torch.testing.assert_close(losses.loss, errors[0] + errors[1])
    assert set(losses.extra_metrics) == {"rna_error", "adt_error"}


def test_without_covariates_all_cells_belong_to_one_batch(make_module, features):
    module = make_module()
    fit_encoder_decoders(module, features)
    tensors = {REGISTRY_KEYS.X_KEY: features["rna"], "adt": features["adt"]}
    inference = module.inference(**module._get_inference_input(tensors))
    del inference["features"]
    assert_equal_latents(inference, module.describe(features, NO_BATCH))


def test_terms_of_stage_one(make_module, features):
    module = make_module(info_nce_weight=0.2, canonical_weight=0.7, prediction_weight=3.0, dropout=0.0).eval()
    latents = {role: module.encoders[role](features[role]) for role in ROLES}
    terms = module.shared_terms(features)
    torch.testing.assert_close(terms["info_nce"], info_nce(*latents.values(), module.log_scale))
    torch.testing.assert_close(terms["canonical"], canonical_correlation_loss(*latents.values()))
    shares = []
    for source, target in (("rna", "adt"), ("adt", "rna")):
        missed = features[target] - module.predictors[source](latents[source])
        around = features[target] - features[target].mean(dim=0)
        shares.append(missed.square().sum() / around.square().sum())
    torch.testing.assert_close(terms["prediction"], (shares[0] + shares[1]) / 2)
    weighted = 0.2 * terms["info_nce"] + 0.7 * terms["canonical"] + 3.0 * terms["prediction"]
    torch.testing.assert_close(module.shared_objective(terms), weighted)


def test_a_term_without_weight_is_not_computed(make_module, features):
    module = make_module(canonical_weight=0.0, prediction_weight=0.0)
    assert set(module.shared_terms(features)) == {"info_nce"}
    assert len(module.predictors) == 0


def test_the_temperature_has_a_lower_limit(make_module, features):
    module = make_module(dropout=0.0)
    with torch.no_grad():
        module.log_scale.fill_(50.0)
    latents = [module.encoders[role](features[role]) for role in ROLES]
    expected = info_nce(*latents, torch.tensor(math.log(100.0)))
    torch.testing.assert_close(module.shared_terms(features)["info_nce"], expected)


@pytest.mark.parametrize("role", ROLES)
def test_critics_are_conditioned_on_the_other_modality(make_module, features, disturb, role):
    module = make_module()
    disturb(module)
    cells = fit_encoder_decoders(module, features)
    assert torch.equal(cells[role]["against"], cells[other(role)]["condition"])
    terms = module.specific_terms(role, cells[role])
    assert list(terms) == ["gaussian_bound", "nce_bound", "error"]
    latent = module.encode_prepared(role, cells[role])
    bounds = module.critics[role].bounds(latent, cells[other(role)]["condition"])
    torch.testing.assert_close(terms["nce_bound"], bounds["nce"])
    torch.testing.assert_close(terms["gaussian_bound"], bounds["gaussian"])


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_critic_losses_give_gradients_to_critics_only(make_module, features, preset):
    module = make_module(preset)
    cells = fit_encoder_decoders(module, features)
    losses = module.critic_losses("rna", cells["rna"])
    assert list(losses) == list(module.critics["rna"].critics)
    torch.stack(list(losses.values())).sum().backward()
    has_gradient = {name for name, p in module.named_parameters() if p.grad is not None}
    assert has_gradient == {f"critics.rna.{name}" for name, _ in module.critics["rna"].named_parameters()}


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_bounds_and_error_give_gradients_to_the_encoder(make_module, features, preset):
    module = make_module(preset)
    cells = fit_encoder_decoders(module, features)
    if preset == "default":  # at the start the error is 0, and so is its gradient
        torch.nn.init.normal_(module.encoder_decoders["adt"].correction[-1].weight)
    trained = (
        module.encoder_decoders["adt"].correction if preset == "default" else module.encoder_decoders["adt"].encoder
    )
    for name, term in module.specific_terms("adt", cells["adt"]).items():
        gradients = torch.autograd.grad(term, list(trained.parameters()), retain_graph=True)
        assert sum(g.abs().sum() for g in gradients) > 0, name


def test_the_error_is_zero_at_the_start_of_stage_two(make_module, features):
    module = make_module()
    cells = fit_encoder_decoders(module, features)
    assert module.specific_terms("rna", cells["rna"])["error"].item() == pytest.approx(0, abs=1e-6)


def test_the_decoding_error_is_relative_to_the_residual_variance(make_module, features):
    module = make_module()
    cells = fit_encoder_decoders(module, features)["adt"]
    latent = module.encode_prepared("adt", cells)
    encoder_decoder = module.encoder_decoders["adt"]
    missed = (features["adt"] - encoder_decoder.decode(latent, cells["condition"])).square().sum(dim=1).mean()
    closed = encoder_decoder.decode_closed(latent, cells["condition"])
    error = module.decoding_error("adt", {**cells, "features": features["adt"], "specific": latent, "closed": closed})
    torch.testing.assert_close(error, missed / encoder_decoder.error_scale)


def test_stages_can_be_reset(make_module):
    module = make_module()
    names = set(module.state_dict())
    before = {name: x.clone() for name, x in module.state_dict().items()}
    module.reset_specific()
    changed = {name.split(".")[0] for name, x in module.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"encoder_decoders", "critics"}
    module.reset_shared()
    changed = {name.split(".")[0] for name, x in module.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"encoder_decoders", "critics", "encoders", "predictors"}
    assert set(module.state_dict()) == names


def test_only_the_named_parts_are_trainable(make_module):
    module = make_module()
    set_trainable(module, [module.encoders["rna"], module.log_scale])
    trainable = {name for name, p in module.named_parameters() if p.requires_grad}
    assert trainable == {"log_scale", *(f"encoders.rna.{n}" for n, _ in module.encoders["rna"].named_parameters())}


@pytest.mark.parametrize("role", ROLES)
def test_critics_can_be_conditioned_on_the_own_modality(make_module, features, disturb, role):
    module = make_module(against="own")
    disturb(module)
    cells = fit_encoder_decoders(module, features)
    assert torch.equal(cells[role]["against"], cells[role]["condition"])
    assert not torch.equal(cells[role]["against"], cells[other(role)]["condition"])


def test_a_module_has_its_architecture_and_modalities(make_module, make_module_of_three):
    module, of_three = make_module(n_hidden=17), make_module_of_three()
    assert module.architecture == make_settings("default", n_shared=3, n_specific=4, n_hidden=17).architecture
    assert module.modalities == ROLES
    assert [module.other(role) for role in ROLES] == [other(role) for role in ROLES]
    assert module.others("rna") == ("adt",)
    assert of_three.others("adt") == ("rna", "atac")
    with pytest.raises(ValueError, match="too many values"):
        of_three.other("adt")


@pytest.mark.parametrize(
    ("n_batches", "batch_offsets", "subtracts"), [(1, True, False), (3, True, True), (3, False, False)]
)
def test_batch_offsets_are_subtracted_where_there_are_batches(make_module, n_batches, batch_offsets, subtracts):
    assert make_module(n_batches=n_batches, batch_offsets=batch_offsets).subtracts_offsets == subtracts


@pytest.mark.parametrize("batch_offsets", [True, False])
def test_the_joint_representation_uses_the_mean_batch_if_offsets_are_subtracted(
    make_module, features, disturb, batch_offsets
):
    module = make_module(n_batches=3, batch_offsets=batch_offsets)
    disturb(module)
    fit_encoder_decoders(module, features, BATCH)
    module.design.mean.copy_(torch.tensor([0.5, 0.3, 0.2]))
    conditions = {role: module.condition(role, module.shared(role, features[role]), BATCH) for role in ROLES}
    specific = {role: module.specific(role, features[role], conditions[role]) for role in ROLES}
    joined = module.join(specific, conditions)
    batch = module.design.mean.expand(60, 3) if batch_offsets else BATCH
    for role, values in zip(ROLES, joined, strict=True):
        condition = torch.cat([conditions[role][:, :3], batch], dim=1)
        assert torch.equal(values, module.encoder_decoders[role].decode(specific[role], condition))
    assert torch.equal(module.describe(features, BATCH)["joint"], module.joint(joined))


@pytest.mark.parametrize("role", ROLES)
def test_encode_agrees_with_describe(make_module, features, disturb, role):
    module = make_module(n_batches=3)
    disturb(module)
    fit_encoder_decoders(module, features, BATCH)
    described = module.describe(features, BATCH)
    for kind in ("shared", "specific"):
        assert torch.equal(module.encode(kind, role, features[role], BATCH), described[kind][role])


def test_critics_learn_if_any_critic_has_parameters(make_module):
    assert make_module(independence="hsic+nce").critics_learn
    assert not make_module(independence="hsic").critics_learn


PAIRS = [("rna", "adt"), ("rna", "atac"), ("adt", "atac")]


@pytest.mark.parametrize("prediction_weight", [0.0, 3.0])
def test_terms_of_three_modalities_are_means_over_pairs(make_module_of_three, features_of_three, prediction_weight):
    module = make_module_of_three(prediction_weight=prediction_weight).eval()
    latents = {name: module.encoders[name](x) for name, x in features_of_three.items()}
    terms = module.shared_terms(features_of_three)
    nce = [info_nce(latents[a], latents[b], module.log_scale) for a, b in PAIRS]
    torch.testing.assert_close(terms["info_nce"], (nce[0] + nce[1] + nce[2]) / 3)
    canonical = [canonical_correlation_loss(latents[a], latents[b]) for a, b in PAIRS]
    torch.testing.assert_close(terms["canonical"], (canonical[0] + canonical[1] + canonical[2]) / 3)
    if prediction_weight:
        shares = []
        for source in module.modalities:
            others = torch.cat([x for name, x in features_of_three.items() if name != source], dim=1)
            missed = others - module.predictors[source](latents[source])
            shares.append(missed.square().sum() / (others - others.mean(dim=0)).square().sum())
        torch.testing.assert_close(terms["prediction"], (shares[0] + shares[1] + shares[2]) / 3)
    else:
        assert set(terms) == {"info_nce", "canonical"}
        assert len(module.predictors) == 0
    objective = module.shared_objective(terms)
    assert torch.isfinite(objective)
    objective.backward()
    assert all(p.grad.isfinite().all() for p in module.encoders.parameters() if p.grad is not None)
    assert all(any(p.grad.abs().sum() > 0 for p in encoder.parameters()) for encoder in module.encoders.values())


@pytest.mark.parametrize("against", ["other", "own"])
@pytest.mark.parametrize("conditional_encoder_decoder", [True, False])
def test_stage_two_of_three_modalities(make_module_of_three, features_of_three, conditional_encoder_decoder, against):
    module = make_module_of_three(conditional_encoder_decoder=conditional_encoder_decoder, against=against)
    cells = fit_encoder_decoders(module, features_of_three)
    for name in module.modalities:
        compared = [name] if against == "own" else [m for m in module.modalities if m != name]
        expected = torch.cat([cells[m]["condition"] for m in compared], dim=1)
        assert torch.equal(cells[name]["against"], expected)
        assert expected.shape == (60, 3 * len(compared))
        terms = module.specific_terms(name, cells[name])
        assert list(terms) == ["gaussian_bound", "nce_bound", "error"]
        assert all(term.shape == () and torch.isfinite(term) for term in terms.values())
        losses = module.critic_losses(name, cells[name])
        assert list(losses) == ["gaussian", "nce"]
        assert all(torch.isfinite(loss) for loss in losses.values())
        assert 0 <= module.critic_diagnostics(name, cells[name])["nce_accuracy"] <= 1


@pytest.mark.parametrize("conditional_encoder_decoder", [True, False])
@pytest.mark.parametrize("n_batches", [1, 3])
def test_shapes_of_three_modalities(make_module_of_three, features_of_three, conditional_encoder_decoder, n_batches):
    module = make_module_of_three(n_batches=n_batches, conditional_encoder_decoder=conditional_encoder_decoder)
    design = BATCH if n_batches > 1 else NO_BATCH
    fit_encoder_decoders(module, features_of_three, design)
    latents = flatten(module.describe(features_of_three, design))
    widths = dict.fromkeys(module.modalities, 4)
    if conditional_encoder_decoder:  # with batches, the third dimension of ATAC has too little variance in 60 cells
        widths = {"rna": 4, "adt": 2, "atac": 3 if n_batches == 1 else 2}
    assert {name: tuple(x.shape) for name, x in latents.items()} == {
        **{f"shared/{name}": (60, 3) for name in module.modalities},
        **{f"specific/{name}": (60, width) for name, width in widths.items()},
        **{f"reconstruction/{name}": (60, n) for name, n in module.n_features.items()},
        "joint/both": (60, 18),
    }
    assert all(torch.isfinite(x).all() for x in latents.values())


def test_modality_predictors_require_two_modalities(make_module, make_module_of_three):
    assert tuple(make_module().modality_predictors) == ROLES
    assert len(make_module_of_three().modality_predictors) == 0
