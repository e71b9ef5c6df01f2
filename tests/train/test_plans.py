from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc._keys import ROLES
from indiseek_sc.train import RegressionPlan, SharedPlan, SpecificPlan


def state(module):
    return {name: x.clone() for name, x in module.state_dict().items()}


def is_statistic(name):
    """Whether a code is standardised by it in training; set anew when the stage is over."""
    return ".standardize." in name


class Steps(Callback):
    """Notes what each step of an optimiser changed, by where the step size was."""

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


def test_stage_one_trains_encoders_and_temperature_alone(make_module, features, run, changed):
    module = make_module()
    before = state(module)
    runner = run(SharedPlan(module), features)
    assert runner.reason is None
    names = changed(before, state(module))
    trained = {name for name in before if name.startswith(("encoders.", "predictors.")) or name == "log_scale"}
    trained -= {name for name in before if name.endswith(".active")}  # which columns are in use is not learned
    assert names == trained
    assert not any(p.requires_grad for name, p in module.named_parameters() if name not in trained)


def test_stage_one_gets_better_and_says_so(make_module, features, run):
    module = make_module(dropout=0.0, learning_rate=1e-2)
    history = run(SharedPlan(module), features, stage="shared", max_epochs=10).model.history_
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
    history = run(SharedPlan(module), features, stage="shared").model.history_
    assert not {"shared/validation_correlation", "shared/validation_prediction"} & set(history)
    loss, info_nce = (history[f"shared/validation_{name}"].to_numpy(dtype=float) for name in ("loss", "info_nce"))
    assert (loss == info_nce).all()


def test_the_temperature_does_not_decay(make_module):
    encoders, temperature = SharedPlan(make_module(weight_decay=0.3)).configure_optimizers().param_groups
    assert (encoders["weight_decay"], temperature["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_critics_learn_alone_first(make_module, prepare, run, changed, preset):
    module = make_module(preset, n_critic_warmup_steps=10_000)
    cells = prepare(module)
    before = state(module)
    run(SpecificPlan(module, lambda_=1.0, n_steps=6), cells, n_extra=2)
    names = {name for name in changed(before, state(module)) if not is_statistic(name)}
    assert names == {name for name in before if name.startswith("critics.")}


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_each_step_changes_its_own_side_alone(make_module, prepare, run, changed, preset):
    module = make_module(preset, n_critic_warmup_steps=3, n_critic_steps=2)
    trained = "correction." if preset == "default" else ""
    cells = prepare(module)
    before, steps = state(module), Steps(module, changed)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=6)
    run(plan, cells, n_extra=2, callbacks=[steps])

    encoders, critics = plan.trainer.optimizers
    order = ["encoders" if optimizer is encoders else "critics" for optimizer, _ in steps.changes]
    # Six batches of two critic steps; the first batch is all warmup.
    assert order == ["critics"] * 2 + (["critics"] * 2 + ["encoders"]) * 5
    for optimizer, names in steps.changes:
        moved = {name for name in names if not is_statistic(name)}
        sides = ["critics."] if optimizer is critics else [f"codecs.{role}.{trained}" for role in ROLES]
        assert all(any(name.startswith(side) for side in sides) for name in moved)
        assert all(any(name.startswith(side) for name in moved) for side in sides)
    untouched = {name for name in before if name.split(".")[0] in ("encoders", "rotations", "transforms", "log_scale")}
    assert not untouched & changed(before, state(module))


def test_shared_codes_are_the_same_to_the_bit_after_stage_two(make_module, features, prepare, run):
    module = make_module(n_critic_warmup_steps=0)
    cells = prepare(module)
    before = {role: module.shared(role, features[role]) for role in ROLES}
    run(SpecificPlan(module, lambda_=1.0, n_steps=6), cells, n_extra=2)
    for role in ROLES:
        assert torch.equal(module.shared(role, features[role]), before[role])


def test_critics_do_not_learn_from_the_encoders_pass(make_module, prepare, run, changed):
    module = make_module(n_critic_warmup_steps=0, critic_learning_rate=1e-2)
    cells = prepare(module)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=6)
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

    run(plan, cells, n_extra=1, callbacks=[Gradients()])
    assert seen == [True] * 6


def test_the_step_size_of_encoders_falls_to_zero_and_that_of_critics_stays(make_module, prepare, run):
    plan = SpecificPlan(make_module(n_critic_warmup_steps=0), lambda_=1.0, n_steps=6)
    run(plan, prepare(plan.module), n_extra=1)
    encoders, critics = plan.trainer.optimizers
    assert encoders.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    assert critics.param_groups[0]["lr"] == plan.module.settings.critic_learning_rate


@pytest.mark.parametrize("lambda_", [0.0, 3.0])
def test_the_objective_weighs_the_error_by_half_of_lambda(make_module, prepare, lambda_):
    module = make_module()
    cells = prepare(module)
    torch.nn.init.normal_(module.codecs["rna"].correction[-1].weight)
    terms = module.specific_terms("rna", cells["rna"])
    objective = SpecificPlan(module, lambda_=lambda_, n_steps=1)._objective(terms)
    expected = terms["gaussian_bound"] + terms["nce_bound"] + lambda_ / 2 * terms["error"]
    torch.testing.assert_close(objective, expected)


def test_more_lambda_keeps_more(make_module, prepare, run):
    errors = []
    for lambda_ in (0.01, 1000.0):
        module = make_module(n_critic_warmup_steps=0, specific_learning_rate=2e-2)
        cells = prepare(module)
        for role in ROLES:
            torch.nn.init.normal_(module.codecs[role].correction[-1].weight, std=0.5)
        plan = SpecificPlan(module, lambda_=lambda_, n_steps=24)
        history = run(plan, cells, n_extra=1, stage="specific", max_epochs=8).model.history_
        errors.append(float(history["specific/rna_error"].iloc[-1, 0]))
    assert errors[1] < 0.5 * errors[0]


def test_stage_two_logs_each_critic_of_each_modality(make_module, prepare, run):
    module = make_module()
    history = run(
        SpecificPlan(module, lambda_=1.0, n_steps=6), prepare(module), n_extra=2, stage="specific"
    ).model.history_
    figures = "train_bound", "validation_bound", "train_loss", "validation_loss", "validation_accuracy", "staleness"
    expected = {f"specific/{r}_{c}_{f}" for r in ROLES for c in ("gaussian", "nce") for f in figures}
    expected |= {f"specific/{r}_error" for r in ROLES}
    assert expected <= set(history)
    assert all(history[name].shape == (2, 1) for name in expected)


def test_a_regression_trains_its_parts_alone(make_module, features, prepare, run, changed):
    module = make_module()
    cells = prepare(module)
    for role in ROLES:
        cells[role]["values"] = module.codecs[role].scores(features[role], cells[role]["condition"])
    before = state(module)
    parts = {r: module.codecs[r].conditional for r in ROLES}
    plan = RegressionPlan(
        module, parts, lambda role, cells: parts[role].loss(cells["values"], cells["condition"]), n_steps=10
    )
    history = run(plan, cells, stage="conditional", max_epochs=5).model.history_
    trained = {f"codecs.{r}.conditional.{n}" for r in ROLES for n, _ in module.codecs[r].conditional.named_parameters()}
    assert changed(before, state(module)) == trained
    for role in ROLES:
        losses = history[f"conditional/{role}_train_loss"].to_numpy(dtype=float).ravel()
        assert losses[-1] < losses[0]
        assert f"conditional/{role}_validation_loss" in history


def test_in_a_regression_only_what_is_trained_is_in_training_mode(make_module):
    module = make_module()
    plan = RegressionPlan(module, {r: module.codecs[r].refinement for r in ROLES}, module.decoding_error, n_steps=1)
    plan.train()
    assert all(part.training for role in ROLES for part in module.codecs[role].refinement.modules())
    assert not any(part.training for role in ROLES for part in module.codecs[role].conditional.modules())
    plan.eval()
    assert not any(part.training for part in module.modules())


def test_the_step_size_of_a_regression_falls_to_zero(make_module, features, prepare, run):
    module = make_module()
    cells = prepare(module)
    for role in ROLES:
        cells[role]["values"] = module.codecs[role].scores(features[role], cells[role]["condition"])
    parts = {r: module.codecs[r].conditional for r in ROLES}
    plan = RegressionPlan(
        module, parts, lambda role, cells: parts[role].loss(cells["values"], cells["condition"]), n_steps=6
    )
    run(plan, cells)
    assert plan.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
