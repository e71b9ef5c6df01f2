from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indiseek_sc.losses import CRITICS, PairCritic
from indiseek_sc.losses._critics import contrastive_loss, pair_accuracy


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_accuracy_counts_comparisons(n_cells, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (n_cells, n_cells), generator=generator).float()  # with ties
    won = 0.0
    for i in range(n_cells):
        for j in range(n_cells):
            if i != j:
                won += float(scores[i, i] > scores[i, j]) + 0.5 * float(scores[i, i] == scores[i, j])
    assert pair_accuracy(scores).item() == pytest.approx(won / (n_cells * (n_cells - 1)), abs=1e-6)


def test_accuracy_of_nothing_chance_and_certainty():
    assert pair_accuracy(torch.zeros(1, 1)).item() == 0.5
    assert pair_accuracy(torch.zeros(20, 20)).item() == 0.5
    assert pair_accuracy(torch.eye(20)).item() == 1.0
    assert pair_accuracy(-torch.eye(20)).item() == 0.0


def test_the_contrastive_loss_of_constant_scores_is_chance():
    assert contrastive_loss(torch.full((8, 8), 3.0)).item() == pytest.approx(torch.tensor(8.0).log().item())


@pytest.mark.parametrize("name", [name for name in CRITICS if isinstance(CRITICS[name](3, 2), PairCritic)])
def test_scores_of_a_pair_need_no_other_pair(name):
    torch.manual_seed(0)
    critic = CRITICS[name](3, 2)
    assert isinstance(critic, PairCritic)
    code, condition = torch.randn(7, 3), torch.randn(7, 2)
    scores = critic.scores(code, condition)
    assert scores.shape == (7, 7)
    if name != "adversarial":  # whose errors are in units of the batch's variance
        torch.testing.assert_close(critic.scores(code[2:3], condition[5:6])[0, 0], scores[2, 5])


@pytest.mark.parametrize("name", ["gaussian", "gaussian_bounded", "gaussian_full"])
def test_closed_forms_are_the_mean_over_all_pairs(name):
    torch.manual_seed(0)
    critic = CRITICS[name](3, 2)
    code, condition = torch.randn(40, 3), torch.randn(40, 2)
    torch.testing.assert_close(
        critic.bound(code, condition), PairCritic.bound(critic, code, condition), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["gaussian", "gaussian_full", "mixture"])
def test_the_loss_of_a_density_is_the_mean_score_of_true_pairs(name):
    torch.manual_seed(0)
    critic = CRITICS[name](3, 2)
    code, condition = torch.randn(40, 3), torch.randn(40, 2)
    torch.testing.assert_close(critic.critic_loss(code, condition), -critic.scores(code, condition).diagonal().mean())
