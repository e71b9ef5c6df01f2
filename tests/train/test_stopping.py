from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from indiseek_sc._keys import ROLES
from indiseek_sc.module import Optimisation
from indiseek_sc.nn._linear import N_FOURIER_FEATURES, PENALTIES
from indiseek_sc.train import (
    KeepBest,
    LeakProbe,
    SpecificPlan,
    find_negative_bounds,
    share_explained,
    warn_of_negative_bounds,
)
from indiseek_sc.train._stopping import MOST_CELLS

N_FIT = 2000


class Part(nn.Module):
    """Module that stores the number of the last epoch in a parameter and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.register_buffer("buffer", torch.zeros(()))

    def move(self, epoch: int) -> None:
        with torch.no_grad():
            self.weight.fill_(epoch)
            self.buffer.fill_(epoch)

    @property
    def epoch(self) -> int:
        assert self.weight == self.buffer
        return int(self.weight)


def follow(keep_best: KeepBest, parts: list[Part], figures: list[dict[str, float]]) -> int:
    """Simulate epochs, starting before training; return the epoch at which training stops."""
    trainer = SimpleNamespace(should_stop=False)
    for epoch, values in enumerate(figures):
        for part in parts:
            part.move(epoch)
        trainer.sanity_checking, trainer.current_epoch = epoch == 0, max(0, epoch - 1)
        trainer.callback_metrics = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
        keep_best.on_validation_end(trainer, None)
        if trainer.should_stop:
            break
    keep_best.restore()
    return epoch


def evaluate(scores: list[float], patience: int = 0, **kwargs) -> tuple[int, int]:
    """Return the kept epoch, and the epoch at which training stopped."""
    part = Part()
    keep_best = KeepBest({"loss": part}, patience=patience, **kwargs)
    last = follow(keep_best, [part], [{"loss": score} for score in scores])
    assert keep_best.best_epochs == {"loss": part.epoch}
    return part.epoch, last


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=10))
def test_first_of_the_best_epochs_is_kept(scores):
    assert evaluate(scores, smallest_gain=0.0) == (scores.index(min(scores)), len(scores) - 1)


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([1.0, 2.0, 3.0], 0),  # no improvement over the initial state
        ([3.0, 1.0, 2.0], 1),
        ([1.0, 0.95, 0.91, 0.89], 3),  # small improvements accumulate
        ([1.0, 0.95, 0.91], 0),
        ([math.nan, 2.0, math.nan], 1),
        ([2.0, math.nan, math.inf], 0),
    ],
)
def test_kept_epoch(scores, best):
    assert evaluate(scores, smallest_gain=0.1)[0] == best


@pytest.mark.parametrize(
    ("scores", "patience", "last"),
    [
        ([5, 4, 6, 6, 6, 6], 2, 3),
        ([5, 4, 6, 3, 6, 6, 6], 2, 5),
        ([5, 6, 6, 6], 1, 1),
        ([5, 6, 6, 6], 0, 3),
        ([5, 4, 3, 2], 1, 3),
        ([5, math.nan, math.nan, math.nan], 2, 2),
    ],
)
def test_patience(scores, patience, last):
    assert evaluate(scores, patience)[1] == last


def test_modules_are_kept_separately_and_any_improvement_counts():
    first, second = Part(), Part()
    keep_best = KeepBest({"a": first, "b": second}, patience=2)
    figures = [
        {"a": 3, "b": 3},
        {"a": 1, "b": 2},
        {"a": 2, "b": 1},
        {"a": 2, "b": 2},
        {"a": 2, "b": 2},
        {"a": 0, "b": 0},
    ]
    assert follow(keep_best, [first, second], figures) == 4
    assert (first.epoch, second.epoch) == (1, 2)
    assert keep_best.best_epochs == {"a": 1, "b": 2}


def test_latest_epoch_is_kept_without_a_metric():
    part = Part()
    keep_best = KeepBest({"latest": part}, patience=1)
    assert follow(keep_best, [part], [{"loss": 0.0}] * 4) == 3
    assert part.epoch == 3


def test_initial_state_is_kept_without_any_epoch():
    part = Part()
    keep_best = KeepBest({"loss": part}, patience=0)
    part.move(7)
    keep_best.restore()
    assert part.epoch == 0


def test_metrics_missing_in_some_epochs():
    part = Part()
    keep_best = KeepBest({"leak": part}, patience=0)
    follow(keep_best, [part], [{"leak": 1.0}, {}, {}, {"leak": 0.5}, {}, {"leak": 0.7}])
    assert part.epoch == 3
    follow(keep_best := KeepBest({"leak": part}, patience=0), [part], [{"leak": 1.0}, {}, {"leak": 2.0}, {}])
    assert part.epoch == 0
    assert keep_best.best_epochs == {"leak": 0}


def test_modules_kept_at_given_epochs():
    parts = {name: nn.Linear(1, 1) for name in ("early", "late", "cut_short")}
    keep = KeepBest(parts, patience=0, at={"early": 1, "late": 3, "cut_short": 9})
    for epoch in range(5):
        for part in parts.values():
            nn.init.constant_(part.weight, epoch)
        trainer = SimpleNamespace(sanity_checking=epoch == 0, current_epoch=epoch - 1)
        keep.on_validation_end(trainer, None)
    keep.restore()
    assert {name: part.weight.item() for name, part in parts.items()} == {"early": 1, "late": 3, "cut_short": 4}
    assert keep.best_epochs == {}


def draw(n_cells: int = 3000, n_source: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_cells, n_source, generator=generator), torch.randn(n_cells, 2, generator=generator)


def test_share_explained_of_a_noisy_linear_relation():
    source, noise = draw()
    told = share_explained(source, source[:, :2] + 0.5 * noise, N_FIT)
    assert told.item() == pytest.approx(1 / 1.25, abs=0.03)


@pytest.mark.parametrize(
    ("target", "least"),
    [
        (lambda x: x[:, :1].square(), 0.7),
        (lambda x: x[:, :1] * x[:, 1:2], 0.7),
        (lambda x: x[:, :1].sign() * x[:, 1:2].abs(), 0.6),
    ],
)
def test_share_explained_of_nonlinear_relations(target, least):
    source, _ = draw()
    assert share_explained(source, target(source), N_FIT) > least
    assert share_explained(source[:, 2:], target(source), N_FIT).abs() < 0.02


def test_share_explained_equals_ridge_regression_on_random_features():
    """Compare with a separate solution for each penalty in numpy."""
    source, noise = draw(200)
    target = source[:, :2] * source[:, 1:3] + noise
    found = share_explained(source, target, 150, seed=3)

    x, y = source.double().numpy(), target.double().numpy()
    x = (x - x[:150].mean(0)) / x[:150].std(0)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(4, N_FOURIER_FEATURES, generator=generator).double().numpy() / 2
    phase = 2 * np.pi * torch.rand(N_FOURIER_FEATURES, generator=generator).double().numpy()
    features = np.hstack([x, np.cos(x @ weight + phase)])
    features = (features - features[:150].mean(0)) / features[:150].std(0)
    y = y - y[:150].mean(0)
    errors = []
    for penalty in PENALTIES:
        gram = features[:150].T @ features[:150] + 150 * penalty * np.eye(features.shape[1])
        predicted = features[150:] @ np.linalg.solve(gram, features[:150].T @ y[:150])
        errors.append(((y[150:] - predicted) ** 2).sum())
    assert found.item() == pytest.approx(1 - min(errors) / (y[150:] ** 2).sum(), abs=1e-6)


def test_share_explained_ignores_units_and_constant_columns():
    source, target = draw()
    target[:, 0] += source[:, 0].square()
    told = share_explained(source, target, N_FIT)
    torch.testing.assert_close(share_explained(source * 1e3 + 5, target * 1e-2 - 1, N_FIT), told, rtol=1e-3, atol=0)
    assert share_explained(torch.ones(3000, 2), target, N_FIT).abs() < 0.02
    assert share_explained(source, torch.full((3000, 2), 7.0), N_FIT) == 0


def make_probe(module, cells, **kwargs) -> LeakProbe:
    return LeakProbe(cells, torch.arange(90), torch.arange(90, 120), **kwargs)


def test_probe_of_current_representations(make_module, prepare):
    module = make_module()
    cells = prepare(module)
    probe = make_probe(module, cells)
    before = probe(module)
    assert before == probe(module)
    for role in ROLES:
        probe.cells[role]["start"] = probe.cells[role]["against"][:, : module.n_specific[role]].clone()
    after = probe(module)
    assert set(after) == {"rna_leak", "adt_leak"}
    assert all(after[name] > 0.9 > before[name] for name in after)


def test_probe_samples_large_data(make_module, prepare):
    module = make_module()
    cells = {role: {name: x.repeat(100, 1) for name, x in of.items()} for role, of in prepare(module).items()}
    probe = LeakProbe(cells, torch.arange(9000), torch.arange(9000, 12000), seed=1)
    assert probe.n_fit == MOST_CELLS
    assert len(probe.cells["rna"]["condition"]) == MOST_CELLS + 3000


def test_probe_at_start_every_fifth_epoch_and_end(make_module, prepare, run):
    module = make_module(independence="hsic")
    cells = prepare(module)
    plan = SpecificPlan(module, Optimisation(), lambda_=1.0, n_steps=21, probe=make_probe(module, cells))
    keep_best = KeepBest({f"{role}_leak": module.encoder_decoders[role].learner for role in ROLES}, patience=0)
    history = run(plan, cells, keep_best=keep_best, stage="specific", max_epochs=7).history
    for role in ROLES:
        assert history[f"specific/{role}_leak"].index.tolist() == [
            4,
            6,
        ]  # Lightning logs nothing before the first epoch
        assert keep_best.best_epochs[f"{role}_leak"] in (0, 5, 7)
        assert f"specific/{role}_best_epoch" in history


@pytest.mark.parametrize(
    ("every", "n_epochs", "asked"),
    [(1, 7, [0, 5, 7]), (2, 7, [0, 6]), (2, 3, [0, 2]), (3, 12, [0, 6, 12]), (5, 10, [0, 5, 10]), (9, 4, [0, 4])],
)
def test_probe_with_fewer_validations(make_module, prepare, run, every, n_epochs, asked):
    module = make_module(independence="hsic")
    cells, found = prepare(module), []

    def probe(module):
        found.append(plan.n_encoder_steps // 3)
        return {f"{role}_leak": torch.tensor(0.5) for role in ROLES}

    plan = SpecificPlan(module, Optimisation(), lambda_=1.0, n_steps=3 * n_epochs, probe=probe)
    run(plan, cells, max_epochs=n_epochs, check_val_every_n_epoch=every)
    assert found == asked


@pytest.mark.parametrize("leaks", [(0.3, 0.1, 0.2), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)])
def test_representation_with_the_smallest_leak_is_kept(make_module, prepare, run, leaks):
    module = make_module(independence="hsic")
    cells = prepare(module)
    states = []

    def scripted(module):
        states.append({role: module.encode_prepared(role, cells[role]).clone() for role in ROLES})
        leak = leaks[len(states) - 1]
        return {"rna_leak": torch.tensor(leak), "adt_leak": torch.tensor(1 - leak)}

    plan = SpecificPlan(module, Optimisation(), lambda_=0.0, n_steps=21, probe=scripted)
    keep_best = KeepBest({f"{role}_leak": module.encoder_decoders[role].learner for role in ROLES}, patience=0)
    run(plan, cells, keep_best=keep_best, max_epochs=7)
    assert len(states) == 3

    def standardized(latent):  # statistics are fixed after the stage
        return (latent - latent.mean(dim=0)) / latent.std(dim=0, correction=0)

    for role, best in (("rna", np.argmin(leaks)), ("adt", np.argmax(leaks))):
        found = standardized(module.encode_prepared(role, cells[role]))
        torch.testing.assert_close(found, standardized(states[best][role]), rtol=1e-4, atol=1e-4)
        others = [standardized(states[i][role]) for i in range(3) if i != best]
        assert all((found - other).abs().max() > 1e-3 for other in others)


def record(bounds, name="specific/rna_gaussian", *, learns=True):
    history = {f"{name}_validation_bound": pd.DataFrame({"x": bounds})}
    return history | ({f"{name}_validation_loss": pd.DataFrame({"x": bounds})} if learns else {})


def test_negative_bounds_use_the_last_half_of_epochs():
    assert find_negative_bounds(record([-9.0, -9.0, -0.1, -0.3])) == {"specific/rna_gaussian": pytest.approx(-0.2)}
    assert find_negative_bounds(record([-9.0, -9.0, 0.1, 0.3])) == {}
    assert find_negative_bounds(record([-9.0, -0.2, -0.2])) == {"specific/rna_gaussian": pytest.approx(-0.2)}
    assert find_negative_bounds(record([0.3, -0.04])) == {}
    assert list(find_negative_bounds(record([0.3, -0.04]), tolerance=0.01)) == ["specific/rna_gaussian"]


def test_negative_bounds_ignore_kernel_terms():
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
