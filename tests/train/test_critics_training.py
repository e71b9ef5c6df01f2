"""What is logged of critics, critics that start anew, and terms that have nothing to learn."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from indiseek_sc._keys import ROLES
from indiseek_sc.module import change_settings
from indiseek_sc.train import SpecificPlan, find_negative_bounds, warn_of_negative_bounds


def values(history, name):
    return history[f"specific/{name}"].to_numpy(dtype=float).ravel()


class Watch(Callback):
    """Notes what critics and encoders are at the start of each epoch."""

    def __init__(self, module):
        self.module, self.starts = module, []

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts.append({name: p.detach().clone() for name, p in self.module.named_parameters()})


def test_figures_of_each_critic_are_those_of_the_module(make_module, prepare, run):
    module = make_module(n_critic_warmup_steps=0)
    cells = prepare(module)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=6)
    history = run(plan, cells, n_extra=2, stage="specific").model.history_
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


def test_staleness_is_what_the_first_critic_steps_of_an_epoch_gain(make_module, prepare, run):
    module = make_module(n_critic_warmup_steps=10_000, critic_learning_rate=3e-3)
    cells = prepare(module)
    held_out = {role: {name: x[90:] for name, x in cells[role].items()} for role in ROLES}
    noted = []

    class Note(Callback):
        """Reads the loss on the codes that validation cells had before the critic steps, before and after those."""

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            pl_module.eval()
            self.code = module.encode_prepared("rna", held_out["rna"]).detach()
            pl_module.train()
            self.read(batch_idx)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.read(batch_idx)

        def read(self, batch_idx):
            if batch_idx == 0:
                loss = module.critics["rna"].losses(self.code, held_out["rna"]["against"])["gaussian"]
                noted.append(loss.item())

    plan = SpecificPlan(module, lambda_=1.0, n_steps=6)
    history = run(plan, cells, n_extra=2, stage="specific", callbacks=[Note()]).model.history_
    staleness = values(history, "rna_gaussian_staleness")
    np.testing.assert_allclose(staleness, [noted[0] - noted[1], noted[2] - noted[3]], rtol=1e-3, atol=1e-4)
    assert staleness[0] > 0.005  # a new critic has all to learn


def test_critics_that_cannot_move_are_not_stale_in_their_own_eyes(make_module, prepare, run):
    module = make_module(critic_learning_rate=1e-12, n_critic_warmup_steps=0)
    history = run(
        SpecificPlan(module, lambda_=1.0, n_steps=6), prepare(module), n_extra=2, stage="specific"
    ).model.history_
    assert values(history, "rna_nce_staleness") == pytest.approx([0, 0], abs=1e-5)


def test_looking_at_validation_cells_leaves_statistics_alone(make_module, prepare, run):
    running = []
    for n_looks in (1, 3):
        module = make_module(n_critic_warmup_steps=0)
        cells = prepare(module)
        plan = SpecificPlan(module, lambda_=1.0, n_steps=6)
        look = plan._held_out_codes
        plan._held_out_codes = lambda look=look, n_looks=n_looks: [look() for _ in range(n_looks)][-1]
        run(plan, cells, n_extra=2)
        running.append(module.codecs["rna"].standardize.running_mean.clone())
        assert module.codecs["rna"].standardize.num_batches_tracked > 0
    assert torch.equal(*running)


def test_critics_start_anew_and_learn_alone_again(make_module, prepare, run):
    # Three batches an epoch, two critic steps each: the first epoch is warm-up, the next two move encoders, and so on.
    module = make_module(n_critic_warmup_steps=6, n_critic_refresh_epochs=2)
    cells = prepare(module)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=12)
    assert plan.count_epochs(4, 3) == 6
    assert plan.count_epochs(5, 3) == 8
    assert plan.count_epochs(0, 3) == 1
    watch = Watch(module)
    run(plan, cells, n_extra=2, max_epochs=6, callbacks=[watch])
    encoder = [start["codecs.rna.correction.4.bias"] for start in watch.starts]
    moved = [not torch.equal(a, b) for a, b in zip(encoder, encoder[1:], strict=False)]
    assert moved == [False, True, True, False, True]
    critic = "critics.rna.critics.nce.embed_specific.0.bias"
    jumps = [(b[critic] - a[critic]).abs().max().item() for a, b in zip(watch.starts, watch.starts[1:], strict=False)]
    assert np.argmax(jumps) == 3  # in the fourth epoch, whose start a callback sees just before the plan does
    assert plan.trainer.optimizers[1].state[module.critics["rna"].critics["nce"].embed_specific[0].bias]["step"] == 18


def test_by_default_critics_live_on(make_module, prepare, run, monkeypatch):
    module = make_module(n_critic_warmup_steps=0)
    cells = prepare(module)
    monkeypatch.setattr(module, "refresh_critics", lambda: pytest.fail("critics were renewed"))
    plan = SpecificPlan(module, lambda_=1.0, n_steps=12)
    assert plan.count_epochs(4, 3) == 4
    run(plan, cells, n_extra=2, max_epochs=4)


@pytest.mark.parametrize("independence", ["hsic", "distance_correlation", "hsic+distance_correlation"])
def test_terms_without_parameters_train_encoders_from_the_first_step(make_module, prepare, run, independence):
    module = make_module(independence=independence, n_critic_warmup_steps=10_000)
    cells = prepare(module)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=6)
    assert plan.count_epochs(4, 3) == 4
    before = module.codecs["rna"].correction[-1].weight.detach().clone()
    history = run(plan, cells, stage="specific").model.history_
    assert len(plan.trainer.optimizers) == 1
    assert not torch.equal(module.codecs["rna"].correction[-1].weight, before)
    assert plan.trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    terms = independence.split("+")
    logged = {f"specific/{r}_{t}_{s}_bound" for r in ROLES for t in terms for s in ("train", "validation")}
    assert {name for name in history if name.startswith(("specific/rna", "specific/adt"))} == {
        *logged,
        "specific/rna_error",
        "specific/adt_error",
    }


def test_a_kernel_term_beside_a_critic(make_module, prepare, run):
    module = make_module(independence="hsic+nce", n_critic_warmup_steps=0)
    history = run(
        SpecificPlan(module, lambda_=1.0, n_steps=6), prepare(module), n_extra=2, stage="specific"
    ).model.history_
    assert "specific/rna_hsic_validation_bound" in history
    assert "specific/rna_nce_validation_loss" in history
    assert "specific/rna_hsic_validation_loss" not in history


def test_hsic_alone_makes_codes_less_dependent(make_module, prepare, run):
    module = make_module(independence="hsic", specific_learning_rate=2e-2)
    cells = prepare(module)
    torch.nn.init.normal_(module.codecs["rna"].correction[-1].weight, std=1.0)  # the condition shows in the code
    plan = SpecificPlan(module, lambda_=0.0, n_steps=45)
    bounds = values(run(plan, cells, stage="specific", max_epochs=15).model.history_, "rna_hsic_train_bound")
    assert bounds[-1] < bounds[0] - 0.02


def test_the_plan_goes_by_its_own_settings(make_module, prepare, run):
    module = make_module(n_critic_warmup_steps=0)
    settings = change_settings(module.settings, critic_learning_rate=0.07, n_critic_warmup_steps=10_000)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=6, settings=settings)
    cells = prepare(module)
    before = module.codecs["rna"].correction[-1].weight.detach().clone()
    run(plan, cells, n_extra=2)
    assert plan.trainer.optimizers[1].param_groups[0]["lr"] == 0.07
    assert torch.equal(module.codecs["rna"].correction[-1].weight, before)


def record(bounds, name="specific/rna_gaussian", *, learns=True):
    history = {f"{name}_validation_bound": pd.DataFrame({"x": bounds})}
    return history | ({f"{name}_validation_loss": pd.DataFrame({"x": bounds})} if learns else {})


def test_the_last_half_of_the_epochs_decides():
    assert find_negative_bounds(record([-9.0, -9.0, -0.1, -0.3])) == {"specific/rna_gaussian": pytest.approx(-0.2)}
    assert find_negative_bounds(record([-9.0, -9.0, 0.1, 0.3])) == {}
    assert find_negative_bounds(record([-9.0, -0.2, -0.2])) == {"specific/rna_gaussian": pytest.approx(-0.2)}
    assert find_negative_bounds(record([0.3, -0.04])) == {}
    assert list(find_negative_bounds(record([0.3, -0.04]), tolerance=0.01)) == ["specific/rna_gaussian"]


def test_histories_hold_objects_and_kernel_terms_are_left_out():
    assert find_negative_bounds(record(np.array([-1.0, -1.0], dtype=object))) == {"specific/rna_gaussian": -1.0}
    assert find_negative_bounds(record([-1.0, -1.0], learns=False)) == {}
    assert find_negative_bounds({}) == {}


def test_one_warning_names_all_critics(recwarn):
    warn_of_negative_bounds(record([0.2, 0.1]))
    assert not recwarn.list
    warn_of_negative_bounds(
        record([-1.0]) | record([-0.25], "specific/adt_nce") | record([0.5], "specific/adt_gaussian")
    )
    (warning,) = recwarn.list
    assert warning.category is UserWarning
    assert "stayed negative (rna gaussian -1.00, adt nce -0.25 nats" in str(warning.message)
    assert "model.audit()" in str(warning.message)
