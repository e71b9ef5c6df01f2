"""Tests of the dependence and gradients of the losses of the baselines."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from indiseek_sc._keys import ROLES, other
from indiseek_sc.baselines import CLIP, FactorizedCL, InfoDisen, IntraModal, JointOpt, NoIndependence
from indiseek_sc.baselines._views import TEMPERATURE
from indiseek_sc.losses import info_nce


def gradients(term, parts):
    parameters = [p for part in parts for p in part.parameters()]
    found = torch.autograd.grad(term, parameters, retain_graph=True, allow_unused=True)
    return sum(0.0 if g is None else float(g.abs().sum()) for g in found)


@pytest.mark.parametrize("model", [CLIP, FactorizedCL, InfoDisen, JointOpt])
def test_shared_representations_have_unit_length_beside_the_batch(make_module, features, prepare, model):
    module = make_module(model)
    cells = prepare(module)
    for role in ROLES:
        latent = module.shared(role, features[role])
        torch.testing.assert_close(latent.norm(dim=1), torch.ones(60))
        condition = cells[role]["condition"]
        assert condition.shape == (60, 5)
        torch.testing.assert_close(condition[:, :3], math.sqrt(3) * latent)
        assert torch.equal(condition[:, 3:].argmax(dim=1), torch.arange(60) % 2)
        torch.testing.assert_close(module.condition_of(role, features[role], condition), condition)


def test_clip_has_no_specific_representation_but_a_decoder(make_module, features, prepare):
    module = make_module(CLIP)
    cells = prepare(module)
    assert module.learners() == []
    latents = module.describe(features, torch.eye(2)[torch.zeros(60, dtype=torch.long)])
    assert {role: tuple(latents["specific"][role].shape) for role in ROLES} == {"rna": (60, 0), "adt": (60, 0)}
    encoder_decoder, condition = module.encoder_decoders["rna"], cells["rna"]["condition"]
    empty = condition[:, :0]
    encoder_decoder.start_decoder(features["rna"], empty, condition)
    error = (features["rna"] - encoder_decoder.decode(empty, condition)).square().sum()
    assert error < (features["rna"] - features["rna"].mean(dim=0)).square().sum()


@pytest.mark.parametrize("model", [FactorizedCL, InfoDisen, IntraModal])
@pytest.mark.parametrize("role", ROLES)
def test_independence_term_depends_on_the_own_shared_representation_only(make_module, prepare, model, role):
    module = make_module(model)
    cells = prepare(module)[role]
    assert torch.equal(cells["against"], cells["condition"])
    if "other_condition" in cells:
        assert not torch.equal(cells["against"], cells["other_condition"])
    torch.manual_seed(0)
    first = module.specific_terms(role, cells)
    moved = {name: x.flip(0) if name in ("other_features", "other_condition") else x for name, x in cells.items()}
    torch.manual_seed(0)
    second = module.specific_terms(role, moved)
    torch.manual_seed(0)
    third = module.specific_terms(role, cells | {"against": cells["against"].flip(0)})
    bounds = [name for name in first if name != "error"]
    assert bounds
    for name in bounds:
        torch.testing.assert_close(first[name], second[name])
        assert not torch.isclose(first[name], third[name])


@pytest.mark.parametrize("role", ROLES)
def test_contrast_depends_on_the_own_or_the_other_shared_representation(make_module, prepare, role):
    def error(module, cells):
        torch.manual_seed(0)
        return module.specific_terms(role, cells)["error"]

    disen = make_module(InfoDisen)
    cells = prepare(disen)[role]
    moved = cells | {"other_condition": cells["other_condition"].flip(0)}
    assert not torch.isclose(error(disen, cells), error(disen, moved))

    factorized = make_module(FactorizedCL)
    cells = prepare(factorized)[role]
    assert not any(name.startswith("other") for name in cells)
    moved = cells | {"condition": cells["condition"].flip(0)}
    assert not torch.isclose(error(factorized, cells), error(factorized, moved))


@pytest.mark.parametrize("model", [FactorizedCL, InfoDisen])
def test_every_term_has_gradients_for_the_encoder_only(make_module, prepare, model):
    module = make_module(model)
    cells = prepare(module)
    for part in (*module.encoders.parameters(),):
        part.requires_grad_(False)
    for role in ROLES:
        for name, term in module.specific_terms(role, cells[role]).items():
            assert gradients(term, [module.encoder_decoders[role].encoder]) > 0, name
            assert (
                gradients(
                    term, [module.encoder_decoders[other(role)].encoder, module.encoder_decoders[role].refinement]
                )
                == 0
            ), name


def test_only_info_disen_encodes_the_shared_representation(make_module, prepare):
    for model, reads in ((FactorizedCL, False), (InfoDisen, True)):
        module = make_module(model)
        cells = prepare(module)["rna"]
        moved = cells | {"condition": cells["condition"].flip(0)}
        same = torch.equal(module.encode_prepared("rna", cells), module.encode_prepared("rna", moved))
        assert same != reads


def test_factorized_representations_are_noisy_in_training_only(make_module, prepare):
    module = make_module(FactorizedCL)
    cells = prepare(module)["adt"]
    module.encoder_decoders["adt"].freeze_statistics(cells, cells["condition"])
    latent = module.encode_prepared("adt", cells)
    assert torch.equal(latent, module.encode_prepared("adt", cells))
    torch.testing.assert_close(latent.std(dim=0, correction=0), torch.ones(4), atol=1e-2, rtol=0)
    module.train()
    noise = module.encode_prepared("adt", cells) - latent
    assert 0.08 < noise.std().item() < 0.12


def test_stage_1_of_disen(make_module, features):
    module = make_module(InfoDisen).eval()
    terms = module.shared_terms(features)
    latents = [F.normalize(module.encoders[role](features[role]), dim=1) for role in ROLES]
    torch.testing.assert_close(terms["info_nce"], info_nce(*latents, torch.tensor(math.log(1 / TEMPERATURE))))
    torch.testing.assert_close(terms["distance"], -F.cosine_similarity(*latents).mean())
    torch.testing.assert_close(module.shared_objective(terms), terms["info_nce"] + 0.1 * terms["distance"])
    module.train()
    assert not torch.isclose(module.shared_terms(features)["info_nce"], terms["info_nce"])
    assert gradients(module.shared_objective(terms), [module.encoders]) > 0
    loss = module.shared_objective(module.shared_terms(features))
    assert torch.autograd.grad(loss, module.log_scale, allow_unused=True) == (None,)  # the temperature is fixed


@pytest.mark.parametrize("role", ROLES)
def test_joint_optimisation_trains_shared_encoders_by_all_terms_except_independence(make_module, prepare, role):
    module = make_module(JointOpt)
    cells = prepare(module)[role]
    terms = module.specific_terms(role, cells)
    assert list(terms) == ["gaussian_bound", "nce_bound", "error", "contrast"]
    own, others = module.encoders[role], module.encoders[other(role)]
    for name in ("gaussian_bound", "nce_bound"):
        assert gradients(terms[name], [own, others]) == 0
        assert gradients(terms[name], [module.encoder_decoders[role].encoder]) > 0
    assert gradients(terms["error"], [own]) > 0
    assert gradients(terms["error"], [others]) == 0
    assert gradients(terms["contrast"], [own]) > 0
    assert gradients(terms["contrast"], [others]) > 0


def test_joint_optimisation_uses_current_shared_representations(make_module, prepare):
    module = make_module(JointOpt)
    cells = prepare(module)["rna"]
    stale = cells | {name: cells[name].clone() for name in ("condition", "against")}
    for name in ("condition", "against"):
        stale[name][:, :3] = 0.0  # the batch is unchanged
    first, second = module.specific_terms("rna", cells), module.specific_terms("rna", stale)
    for name, term in first.items():
        torch.testing.assert_close(term, second[name])
    losses = module.critic_losses("rna", cells)
    torch.testing.assert_close(losses, module.critic_losses("rna", stale))
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for name, p in module.named_parameters() if not name.startswith("critics.rna"))


def test_no_independence_has_no_critics(make_module, prepare):
    module = make_module(NoIndependence)
    terms = module.specific_terms("rna", prepare(module)["rna"])
    assert terms["none_bound"] == 0
    assert not module.critics_learn
