from __future__ import annotations

import numpy as np
import pytest
import torch

from indiseek_sc._keys import ROLES
from indiseek_sc.nn._linear import N_FOURIER_FEATURES, PENALTIES
from indiseek_sc.train import KeepBest, LeakProbe, SpecificPlan, share_told
from indiseek_sc.train._leak_probe import MOST_CELLS

N_FIT = 2000


def draw(n_cells: int = 3000, n_source: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_cells, n_source, generator=generator), torch.randn(n_cells, 2, generator=generator)


def test_the_share_of_a_line_with_noise_is_that_of_its_signal():
    source, noise = draw()
    told = share_told(source, source[:, :2] + 0.5 * noise, N_FIT)
    assert told.item() == pytest.approx(1 / 1.25, abs=0.03)


@pytest.mark.parametrize(
    ("target", "least"),
    [
        (lambda x: x[:, :1].square(), 0.7),
        (lambda x: x[:, :1] * x[:, 1:2], 0.7),
        (lambda x: x[:, :1].sign() * x[:, 1:2].abs(), 0.6),
    ],
)
def test_it_sees_what_no_line_tells(target, least):
    source, _ = draw()
    assert share_told(source, target(source), N_FIT) > least
    assert share_told(source[:, 2:], target(source), N_FIT).abs() < 0.02


def test_it_is_a_ridge_regression_on_random_features():
    """Against one solve for each penalty, in numpy."""
    source, noise = draw(200)
    target = source[:, :2] * source[:, 1:3] + noise
    found = share_told(source, target, 150, seed=3)

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


def test_units_and_constant_columns_make_no_difference():
    source, target = draw()
    target[:, 0] += source[:, 0].square()
    told = share_told(source, target, N_FIT)
    torch.testing.assert_close(share_told(source * 1e3 + 5, target * 1e-2 - 1, N_FIT), told, rtol=1e-3, atol=0)
    assert share_told(torch.ones(3000, 2), target, N_FIT).abs() < 0.02
    assert share_told(source, torch.full((3000, 2), 7.0), N_FIT) == 0


def make_probe(module, cells, **kwargs) -> LeakProbe:
    return LeakProbe(cells, np.arange(90), np.arange(90, 120), **kwargs)


def test_the_probe_reads_codes_as_they_are(make_module, prepare):
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


def test_of_large_data_a_part_is_drawn(make_module, prepare):
    module = make_module()
    cells = {role: {name: x.repeat(100, 1) for name, x in of.items()} for role, of in prepare(module).items()}
    probe = LeakProbe(cells, np.arange(9000), np.arange(9000, 12000), seed=1)
    assert probe.n_fit == MOST_CELLS
    assert len(probe.cells["rna"]["condition"]) == MOST_CELLS + 3000


def test_the_plan_asks_the_probe_at_the_start_every_fifth_epoch_and_at_the_end(make_module, prepare, run):
    module = make_module(independence="hsic")
    cells = prepare(module)
    plan = SpecificPlan(module, lambda_=1.0, n_steps=21, probe=make_probe(module, cells))
    keep_best = KeepBest({f"{role}_leak": module.codecs[role].learner for role in ROLES}, patience=0)
    history = run(plan, cells, keep_best=keep_best, stage="specific", max_epochs=7).model.history_
    for role in ROLES:
        assert history[f"specific/{role}_leak"].index.tolist() == [4, 6]  # Lightning logs nothing before the first
        assert keep_best.best_epochs[f"{role}_leak"] in (0, 5, 7)
        assert f"specific/{role}_best_epoch" in history


@pytest.mark.parametrize("leaks", [(0.3, 0.1, 0.2), (0.1, 0.2, 0.3), (0.3, 0.2, 0.1)])
def test_a_modality_keeps_the_code_that_the_probe_read_least_from(make_module, prepare, run, leaks):
    module = make_module(independence="hsic")
    cells = prepare(module)
    states = []

    def scripted(module):
        states.append({role: module.encode_prepared(role, cells[role]).clone() for role in ROLES})
        leak = leaks[len(states) - 1]
        return {"rna_leak": torch.tensor(leak), "adt_leak": torch.tensor(1 - leak)}

    plan = SpecificPlan(module, lambda_=0.0, n_steps=21, probe=scripted)
    keep_best = KeepBest({f"{role}_leak": module.codecs[role].learner for role in ROLES}, patience=0)
    run(plan, cells, keep_best=keep_best, max_epochs=7)
    assert len(states) == 3

    def standardized(code):  # statistics of a code are fixed after the stage
        return (code - code.mean(dim=0)) / code.std(dim=0, correction=0)

    for role, best in (("rna", np.argmin(leaks)), ("adt", np.argmax(leaks))):
        found = standardized(module.encode_prepared(role, cells[role]))
        torch.testing.assert_close(found, standardized(states[best][role]), rtol=1e-4, atol=1e-4)
        others = [standardized(states[i][role]) for i in range(3) if i != best]
        assert all((found - other).abs().max() > 1e-3 for other in others)
