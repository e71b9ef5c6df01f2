"""Trained parameters and logged metrics of each plan."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc._keys import ROLES
from indiseek_sc.module import Optimisation, make_settings
from indiseek_sc.train import KeepBest, LeakProbe, RegressionPlan, SharedPlan, SpecificPlan

NO_WARMUP = Optimisation(n_critic_warmup_steps=0)
ALL_WARMUP = Optimisation(n_critic_warmup_steps=10_000)


def state(module):
    return {name: x.clone() for name, x in module.state_dict().items()}


def is_statistic(name):
    """Return whether an entry is a running statistic of representations."""
    return ".standardize." in name


class Steps(Callback):
    """Records the entries that each optimiser step changed, by learning rate."""

    def __init__(self, module, changed):
        self.module, self.compare = module, changed
        self.optimizer, self.before = None, None
        self.changes = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.close()
        self.optimizer, self.before = optimizer, state(self.module)

    def on_train_end(self, trainer, pl_module):
        self.close()

    def close(self):
        if self.optimizer is not None:
            self.changes.append((self.optimizer, self.compare(self.before, state(self.module))))


def test_stage_1_trains_encoders_and_temperature_only(make_module, features, run, changed):
    module = make_module()
    before = state(module)
    fit = run(SharedPlan(module, Optimisation()), features)
    assert fit.reason is None
    names = changed(before, state(module))
    trained = {name for name in before if name.startswith(("encoders.", "predictors.")) or name == "log_scale"}
    trained -= {name for name in before if name.endswith(".active")}  # the mask of columns is not trained
    assert names == trained
    assert not any(p.requires_grad for name, p in module.named_parameters() if name not in trained)


def test_stage_1_improves_and_logs_metrics(make_module, features, run):
    module = make_module(dropout=0.0)
    history = run(SharedPlan(module, Optimisation(learning_rate=1e-2)), features, stage="shared", max_epochs=10).history
    terms = "validation_info_nce", "validation_correlation", "validation_prediction"
    for name in ("train_loss", "validation_loss", *terms, "temperature"):
        assert history[f"shared/{name}"].shape == (10, 1)
    losses = history["shared/train_loss"].to_numpy(dtype=float).ravel()
    assert losses[-1] < losses[0] - 0.5
    correlation = history["shared/validation_correlation"].to_numpy(dtype=float).ravel()
    assert 0 <= correlation.min() <= correlation.max() <= 1
    temperature = history["shared/temperature"].to_numpy(dtype=float).ravel()
    assert temperature[-1] == pytest.approx((-module.log_scale).exp().item())


def test_terms_without_weight_are_not_logged(make_module, features, run):
    module = make_module(info_nce_weight=1.0, canonical_weight=0.0, prediction_weight=0.0)
    history = run(SharedPlan(module, Optimisation()), features, stage="shared").history
    assert not {"shared/validation_correlation", "shared/validation_prediction"} & set(history)
    loss, info_nce = (history[f"shared/validation_{name}"].to_numpy(dtype=float) for name in ("loss", "info_nce"))
    assert (loss == info_nce).all()


def test_temperature_has_no_weight_decay(make_module):
    plan = SharedPlan(make_module(), Optimisation(weight_decay=0.3, learning_rate=0.07))
    encoders, temperature = plan.configure_optimizers().param_groups
    assert (encoders["lr"], temperature["lr"]) == (0.07, 0.07)
    assert (encoders["weight_decay"], temperature["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_critics_are_trained_first(make_module, prepare, run, changed, preset):
    module, optimisation = make_module(preset), make_settings(preset, n_critic_warmup_steps=10_000).optimisation
    cells = prepare(module)
    before = state(module)
    run(SpecificPlan(module, optimisation, lambda_=1.0, n_steps=6), cells, n_extra=2)
    names = {name for name in changed(before, state(module)) if not is_statistic(name)}
    assert names == {name for name in before if name.startswith("critics.")}


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_each_step_changes_either_critics_or_encoders(make_module, prepare, run, changed, preset):
    module, optimisation = make_module(preset), make_settings(preset, n_critic_warmup_steps=3).optimisation
    trained = "correction." if preset == "default" else ""
    cells = prepare(module)
    before, steps = state(module), Steps(module, changed)
    plan = SpecificPlan(module, optimisation, lambda_=1.0, n_steps=6)
    run(plan, cells, n_extra=2, callbacks=(steps,))

    encoders, critics = plan.trainer.optimizers
    order = ["encoders" if optimizer is encoders else "critics" for optimizer, _ in steps.changes]
    # Six batches of two critic steps; the first batch is warm-up only.
    assert order == ["critics"] * 2 + (["critics"] * 2 + ["encoders"]) * 5
    for optimizer, names in steps.changes:
        moved = {name for name in names if not is_statistic(name)}
        sides = ["critics."] if optimizer is critics else [f"encoder_decoders.{role}.{trained}" for role in ROLES]
        assert all(any(name.startswith(side) for side in sides) for name in moved)
        assert all(any(name.startswith(side) for name in moved) for side in sides)
    untouched = {name for name in before if name.split(".")[0] in ("encoders", "rotations", "transforms", "log_scale")}
    assert not untouched & changed(before, state(module))


def test_stage_2_does_not_change_shared_representations(make_module, features, prepare, run):
    module = make_module()
    cells = prepare(module)
    before = {role: module.shared(role, features[role]) for role in ROLES}
    run(SpecificPlan(module, NO_WARMUP, lambda_=1.0, n_steps=6), cells, n_extra=2)
    for role in ROLES:
        assert torch.equal(module.shared(role, features[role]), before[role])


def test_encoder_steps_do_not_train_critics(make_module, prepare, run, changed):
    module, optimisation = make_module(), Optimisation(n_critic_warmup_steps=0, critic_learning_rate=1e-2)
    cells = prepare(module)
    plan = SpecificPlan(module, optimisation, lambda_=1.0, n_steps=6)
    seen = []

    class Gradients(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if optimizer is trainer.optimizers[1]:
                found = {name: p.grad.clone() for name, p in module.critics.named_parameters()}
                losses = [loss for role in ROLES for loss in module.critic_losses(role, plan.batch[role]).values()]
                loss = torch.stack(losses).sum()
                expected = torch.autograd.grad(loss, list(module.critics.parameters()))
                seen.append(all(torch.equal(x, y) for x, y in zip(found.values(), expected, strict=True)))

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            plan.batch = batch[1][0]

    run(plan, cells, n_extra=1, callbacks=(Gradients(),))
    assert seen == [True] * 6


def test_learning_rate_of_encoders_decays_and_that_of_critics_is_constant(make_module, prepare, run):
    plan = SpecificPlan(make_module(), NO_WARMUP, lambda_=1.0, n_steps=6)
    run(plan, prepare(plan.module), n_extra=1)
    encoders, critics = plan.trainer.optimizers
    assert encoders.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert critics.param_groups[0]["lr"] == NO_WARMUP.critic_learning_rate


@pytest.mark.parametrize("lambda_", [0.0, 3.0])
def test_error_is_weighted_by_half_of_lambda(make_module, prepare, lambda_):
    module = make_module()
    cells = prepare(module)
    torch.nn.init.normal_(module.encoder_decoders["rna"].correction[-1].weight)
    terms = module.specific_terms("rna", cells["rna"])
    objective = SpecificPlan(module, Optimisation(), lambda_=lambda_, n_steps=1)._objective(terms)
    expected = terms["gaussian_bound"] + terms["nce_bound"] + lambda_ / 2 * terms["error"]
    torch.testing.assert_close(objective, expected)


def test_larger_lambda_lowers_the_error(make_module, prepare, run):
    errors = []
    for lambda_ in (0.01, 1000.0):
        module, optimisation = make_module(), Optimisation(n_critic_warmup_steps=0, specific_learning_rate=2e-2)
        cells = prepare(module)
        for role in ROLES:
            torch.nn.init.normal_(module.encoder_decoders[role].correction[-1].weight, std=0.5)
        plan = SpecificPlan(module, optimisation, lambda_=lambda_, n_steps=24)
        history = run(plan, cells, n_extra=1, stage="specific", max_epochs=8).history
        errors.append(float(history["specific/rna_error"].iloc[-1, 0]))
    assert errors[1] < 0.5 * errors[0]


def test_stage_2_logs_each_critic_of_each_modality(make_module, prepare, run):
    module = make_module()
    plan = SpecificPlan(module, Optimisation(), lambda_=1.0, n_steps=6)
    history = run(plan, prepare(module), n_extra=2, stage="specific").history
    figures = "train_bound", "validation_bound", "train_loss", "validation_loss", "validation_accuracy", "staleness"
    expected = {f"specific/{r}_{c}_{f}" for r in ROLES for c in ("gaussian", "nce") for f in figures}
    expected |= {f"specific/{r}_error" for r in ROLES}
    assert expected <= set(history)
    assert all(history[name].shape == (2, 1) for name in expected)


def test_regression_trains_only_its_networks(make_module, features, prepare, run, changed):
    module = make_module()
    cells = prepare(module)
    for role in ROLES:
        cells[role]["values"] = module.encoder_decoders[role].scores(features[role], cells[role]["condition"])
    before = state(module)
    parts = {r: module.encoder_decoders[r].flow for r in ROLES}
    plan = RegressionPlan(
        module,
        parts,
        lambda role, cells: parts[role].loss(cells["values"], cells["condition"]),
        n_steps=10,
        learning_rate=1e-2,
        weight_decay=1e-2,
    )
    history = run(plan, cells, stage="flow", max_epochs=5).history
    trained = {
        f"encoder_decoders.{r}.flow.{n}" for r in ROLES for n, _ in module.encoder_decoders[r].flow.named_parameters()
    }
    assert changed(before, state(module)) == trained
    for role in ROLES:
        losses = history[f"flow/{role}_train_loss"].to_numpy(dtype=float).ravel()
        assert losses[-1] < losses[0]
        assert f"flow/{role}_validation_loss" in history


def test_regression_sets_only_its_networks_to_training_mode(make_module):
    module = make_module()
    parts = {r: module.encoder_decoders[r].refinement for r in ROLES}
    plan = RegressionPlan(module, parts, module.decoding_error, n_steps=1, learning_rate=1e-2, weight_decay=1e-2)
    plan.train()
    assert all(part.training for role in ROLES for part in module.encoder_decoders[role].refinement.modules())
    assert not any(part.training for role in ROLES for part in module.encoder_decoders[role].flow.modules())
    plan.eval()
    assert not any(part.training for part in module.modules())


def test_learning_rate_of_a_regression_decays_to_zero(make_module, features, prepare, run):
    module = make_module()
    cells = prepare(module)
    for role in ROLES:
        cells[role]["values"] = module.encoder_decoders[role].scores(features[role], cells[role]["condition"])
    parts = {r: module.encoder_decoders[r].flow for r in ROLES}
    plan = RegressionPlan(
        module,
        parts,
        lambda role, cells: parts[role].loss(cells["values"], cells["condition"]),
        n_steps=6,
        learning_rate=1e-2,
        weight_decay=1e-2,
    )
    run(plan, cells)
    assert plan.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def values(history, name, stage="specific"):
    return history[f"{stage}/{name}"].to_numpy(dtype=float).ravel()


class Watch(Callback):
    """Records critics and encoders at the start of each epoch."""

    def __init__(self, module):
        self.module, self.starts = module, []

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts.append({name: p.detach().clone() for name, p in self.module.named_parameters()})


def test_metrics_of_critics_agree_with_the_module(make_module, prepare, run):
    module = make_module()
    cells = prepare(module)
    plan = SpecificPlan(module, NO_WARMUP, lambda_=1.0, n_steps=6)
    history = run(plan, cells, n_extra=2, stage="specific").history
    assert {name for name in history if "_accuracy" in name or "_staleness" in name} == {
        f"specific/{role}_{critic}_{figure}"
        for role in ROLES
        for critic in ("gaussian", "nce")
        for figure in ("validation_accuracy", "staleness")
    }
    for role in ROLES:
        rows = {name: x[90:] for name, x in cells[role].items()}
        with torch.no_grad():
            terms = module.specific_terms(role, rows)
            losses, figures = module.critic_losses(role, rows), module.critic_diagnostics(role, rows)
        for critic in ("gaussian", "nce"):
            name = f"{role}_{critic}"
            last = {k: values(history, f"{name}_validation_{k}")[-1] for k in ("bound", "loss", "accuracy")}
            assert last["bound"] == pytest.approx(terms[f"{critic}_bound"].item(), abs=1e-6)
            assert last["loss"] == pytest.approx(losses[critic].item(), rel=1e-5)
            assert last["accuracy"] == pytest.approx(figures[f"{critic}_accuracy"].item())
            for split in ("train_bound", "train_loss"):
                assert values(history, f"{name}_{split}").shape == (2,)
                assert np.isfinite(values(history, f"{name}_{split}")).all()


def test_staleness_is_the_gain_of_the_first_critic_steps(make_module, prepare, run):
    module, optimisation = make_module(), Optimisation(n_critic_warmup_steps=10_000, critic_learning_rate=3e-3)
    cells = prepare(module)
    held_out = {role: {name: x[90:] for name, x in cells[role].items()} for role in ROLES}
    noted = []

    class Note(Callback):
        """Records the loss on validation representations before and after critic steps."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            pl_module.eval()
            self.latent = module.encode_prepared("rna", held_out["rna"]).detach()
            pl_module.train()
            self.read(batch_idx)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.read(batch_idx)

        def read(self, batch_idx):
            if batch_idx == 0:
                loss = module.critics["rna"].losses(self.latent, held_out["rna"]["against"])["gaussian"]
                noted.append(loss.item())

    plan = SpecificPlan(module, optimisation, lambda_=1.0, n_steps=6)
    history = run(plan, cells, n_extra=2, stage="specific", callbacks=(Note(),)).history
    staleness = values(history, "rna_gaussian_staleness")
    np.testing.assert_allclose(staleness, [noted[0] - noted[1], noted[2] - noted[3]], rtol=1e-3, atol=1e-4)
    assert staleness[0] > 0.005  # a new critic improves clearly


def test_staleness_of_fixed_critics_is_zero(make_module, prepare, run):
    module, optimisation = make_module(), Optimisation(critic_learning_rate=1e-12, n_critic_warmup_steps=0)
    plan = SpecificPlan(module, optimisation, lambda_=1.0, n_steps=6)
    history = run(plan, prepare(module), n_extra=2, stage="specific").history
    assert values(history, "rna_nce_staleness") == pytest.approx([0, 0], abs=1e-5)


def test_validation_does_not_change_running_statistics(make_module, prepare, run):
    running = []
    for n_looks in (1, 3):
        module = make_module()
        cells = prepare(module)
        plan = SpecificPlan(module, NO_WARMUP, lambda_=1.0, n_steps=6)
        look = plan._held_out_latents
        plan._held_out_latents = lambda look=look, n_looks=n_looks: [look() for _ in range(n_looks)][-1]
        run(plan, cells, n_extra=2)
        running.append(module.encoder_decoders["rna"].standardize.running_mean.clone())
        assert module.encoder_decoders["rna"].standardize.num_batches_tracked > 0
    assert torch.equal(*running)


def test_critics_continue_after_warm_up(make_module, prepare, run):
    # Three batches per epoch with two critic steps: the first epoch is warm-up only.
    module, optimisation = make_module(), Optimisation(n_critic_warmup_steps=6)
    cells = prepare(module)
    plan = SpecificPlan(module, optimisation, lambda_=1.0, n_steps=12)
    watch = Watch(module)
    run(plan, cells, n_extra=2, max_epochs=5, callbacks=(watch,))
    encoder = [start["encoder_decoders.rna.correction.4.bias"] for start in watch.starts]
    moved = [not torch.equal(a, b) for a, b in zip(encoder, encoder[1:], strict=False)]
    assert moved == [False, True, True, True]
    assert (plan.n_critic_updates, plan.n_encoder_steps) == (30, 12)
    assert plan.trainer.optimizers[1].state[module.critics["rna"].critics["nce"].embed_specific[0].bias]["step"] == 30
    assert plan.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("independence", ["hsic", "distance_correlation", "hsic+distance_correlation"])
def test_parameter_free_terms_train_encoders_from_the_first_step(make_module, prepare, run, independence):
    module = make_module(independence=independence)
    cells = prepare(module)
    plan = SpecificPlan(module, ALL_WARMUP, lambda_=1.0, n_steps=6)
    before = module.encoder_decoders["rna"].correction[-1].weight.detach().clone()
    history = run(plan, cells, stage="specific").history
    assert len(plan.trainer.optimizers) == 1
    assert not torch.equal(module.encoder_decoders["rna"].correction[-1].weight, before)
    assert plan.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    terms = independence.split("+")
    logged = {f"specific/{r}_{t}_{s}_bound" for r in ROLES for t in terms for s in ("train", "validation")}
    assert {name for name in history if name.startswith(("specific/rna", "specific/adt"))} == {
        *logged,
        "specific/rna_error",
        "specific/adt_error",
    }


def test_kernel_term_with_a_critic(make_module, prepare, run):
    module = make_module(independence="hsic+nce")
    plan = SpecificPlan(module, NO_WARMUP, lambda_=1.0, n_steps=6)
    history = run(plan, prepare(module), n_extra=2, stage="specific").history
    assert "specific/rna_hsic_validation_bound" in history
    assert "specific/rna_nce_validation_loss" in history
    assert "specific/rna_hsic_validation_loss" not in history


def test_hsic_alone_reduces_dependence(make_module, prepare, run):
    module, optimisation = make_module(independence="hsic"), Optimisation(specific_learning_rate=2e-2)
    cells = prepare(module)
    torch.nn.init.normal_(
        module.encoder_decoders["rna"].correction[-1].weight, std=1.0
    )  # the representation depends on the condition
    plan = SpecificPlan(module, optimisation, lambda_=0.0, n_steps=45)
    bounds = values(run(plan, cells, stage="specific", max_epochs=15).history, "rna_hsic_train_bound")
    assert bounds[-1] < bounds[0] - 0.02


def test_plan_uses_its_own_settings(make_module, prepare, run):
    module = make_module()
    optimisation = Optimisation(
        specific_learning_rate=0.05, critic_learning_rate=0.07, n_critic_warmup_steps=10_000, n_critic_steps=1
    )
    plan = SpecificPlan(module, optimisation, lambda_=1.0, n_steps=6)
    cells = prepare(module)
    before = module.encoder_decoders["rna"].correction[-1].weight.detach().clone()
    run(plan, cells, n_extra=2)
    assert [optimizer.param_groups[0]["lr"] for optimizer in plan.trainer.optimizers] == [0.05, 0.07]
    assert torch.equal(module.encoder_decoders["rna"].correction[-1].weight, before)


def test_warm_up_can_be_shortened(make_module, prepare, run):
    plan = SpecificPlan(make_module(), ALL_WARMUP, lambda_=1.0, n_steps=6, n_warmup_steps=4)
    run(plan, prepare(plan.module), n_extra=2)
    assert (plan.n_critic_updates, plan.n_encoder_steps) == (12, 4)
    plan = SpecificPlan(make_module(), ALL_WARMUP, lambda_=1.0, n_steps=6, n_warmup_steps=0)
    run(plan, prepare(plan.module), n_extra=2)
    assert plan.n_encoder_steps == 6


def test_plans_support_three_modalities(make_module_of_three, features_of_three, prepare_cells, run):
    module = make_module_of_three()
    shared = run(SharedPlan(module, Optimisation(learning_rate=1e-2)), features_of_three, stage="shared", max_epochs=10)
    losses = values(shared.history, "train_loss", "shared")
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0] - 0.1
    cells = prepare_cells(module, features_of_three)
    before = {
        name: encoder_decoder.correction[-1].weight.detach().clone()
        for name, encoder_decoder in module.encoder_decoders.items()
    }
    probe = LeakProbe(cells, torch.arange(90), torch.arange(90, 120))
    plan = SpecificPlan(module, NO_WARMUP, lambda_=1.0, n_steps=6, probe=probe)
    keep_best = KeepBest(
        {f"{name}_leak": encoder_decoder.learner for name, encoder_decoder in module.encoder_decoders.items()},
        patience=0,
    )
    history = run(plan, cells, n_extra=2, stage="specific", keep_best=keep_best).history
    for name in module.modalities:
        for figure in ("error", "leak", "best_epoch", "nce_validation_bound", "gaussian_staleness"):
            assert np.isfinite(values(history, f"{name}_{figure}")).all(), (name, figure)
        if keep_best.best_epochs[f"{name}_leak"]:
            assert not torch.equal(module.encoder_decoders[name].correction[-1].weight, before[name])
    assert {name.split("_")[0] for name in history} == {f"specific/{name}" for name in module.modalities}
