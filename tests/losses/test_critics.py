from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from indiseek_sc.losses import (
    CRITICS,
    CriticSum,
    GaussianCritic,
    IndependenceCritic,
    NCECritic,
    PairCritic,
    make_critic,
)
from indiseek_sc.losses._critics import contrastive_loss, pair_accuracy


def draw(n_cells: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_cells, 3, generator=generator), torch.randn(n_cells, 2, generator=generator)


def draw_sign(n_cells: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw two standard normal dimensions whose correlation has the sign of the condition."""
    generator = torch.Generator().manual_seed(seed)
    condition = torch.randint(0, 2, (n_cells, 1), generator=generator) * 2.0 - 1.0
    first, noise = torch.randn(2, n_cells, 1, generator=generator)
    return torch.cat([first, 0.9 * condition * first + 0.19**0.5 * noise], dim=1), condition


def test_critic_sum_adds_bounds_and_losses():
    critics = make_critic("gaussian+nce", 3, 2)
    specific, condition = draw()
    bounds = critics.bounds(specific, condition)
    assert list(bounds) == ["gaussian", "nce"]
    gaussian, nce = critics.critics["gaussian"], critics.critics["nce"]
    torch.testing.assert_close(bounds["gaussian"], gaussian.bound(specific, condition))
    torch.testing.assert_close(bounds["nce"], nce.bound(specific, condition))
    torch.testing.assert_close(critics.bound(specific, condition), bounds["gaussian"] + bounds["nce"])
    torch.testing.assert_close(
        critics.critic_loss(specific, condition),
        gaussian.critic_loss(specific, condition) + nce.critic_loss(specific, condition),
    )


def test_summed_loss_trains_each_critic_independently():
    critics = make_critic("gaussian+nce", 3, 2)
    critics.critic_loss(*draw()).backward()
    together = {name: p.grad.clone() for name, p in critics.named_parameters()}
    for name, critic in critics.critics.items():
        critic.zero_grad()
        critic.critic_loss(*draw()).backward()
        for parameter, p in critic.named_parameters():
            torch.testing.assert_close(p.grad, together[f"critics.{name}.{parameter}"])


@pytest.mark.parametrize("name", ["gaussian", "nce", "gaussian_bounded", "gaussian+nce"])
def test_critics_are_built_from_names(name):
    critics = make_critic(name, 3, 2)
    assert list(critics.critics) == name.split("+")
    assert isinstance(critics, IndependenceCritic)
    specific, condition = draw()
    specific.requires_grad_()
    critics.bound(specific, condition).backward()
    assert specific.grad.abs().sum() > 0  # the encoder receives a gradient
    assert type(critics.critics[name.split("+")[0]]) is (NCECritic if name == "nce" else GaussianCritic)


def test_only_the_published_critic_bounds_the_variance():
    assert make_critic("gaussian_bounded", 3, 2).critics["gaussian_bounded"].bounded_variance
    assert not make_critic("gaussian", 3, 2).critics["gaussian"].bounded_variance


@pytest.mark.parametrize("name", ["clip", "gaussian+clip", "", "gaussian+"])
def test_unknown_critics_are_rejected(name):
    with pytest.raises(
        ValueError, match=r"independence: unknown critic .* Available critics: gaussian, gaussian_bounded, .*nce"
    ):
        make_critic(name, 3, 2)


def test_an_empty_sum_is_rejected():
    with pytest.raises(ValueError, match="at least one"):
        CriticSum({})


def test_a_critic_with_parameters_must_define_its_loss():
    class WithoutLoss(IndependenceCritic):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))

        def bound(self, specific, condition):
            return self.weight

    with pytest.raises(NotImplementedError, match="WithoutLoss has parameters"):
        WithoutLoss().critic_loss(torch.ones(2, 1), torch.ones(2, 1))


def test_nce_detects_dependence_that_the_gaussian_critic_does_not():
    torch.manual_seed(0)
    critics = CriticSum({"gaussian": GaussianCritic(2, 1, 32), "nce": NCECritic(2, 1, 32)})
    optimizer = torch.optim.Adam(critics.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        critics.critic_loss(*draw_sign(256, seed=step)).backward()
        optimizer.step()
    with torch.no_grad():
        bounds = critics.bounds(*draw_sign(5000, seed=10_000))
    assert bounds["gaussian"].item() == pytest.approx(0, abs=0.03)
    assert bounds["nce"].item() > 1.0


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_accuracy_is_the_share_of_won_comparisons(n_cells, seed):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (n_cells, n_cells), generator=generator).float()  # with ties
    won = 0.0
    for i in range(n_cells):
        for j in range(n_cells):
            if i != j:
                won += float(scores[i, i] > scores[i, j]) + 0.5 * float(scores[i, i] == scores[i, j])
    assert pair_accuracy(scores).item() == pytest.approx(won / (n_cells * (n_cells - 1)), abs=1e-6)


def test_accuracy_of_one_cell_constant_scores_and_perfect_scores():
    assert pair_accuracy(torch.zeros(1, 1)).item() == 0.5
    assert pair_accuracy(torch.zeros(20, 20)).item() == 0.5
    assert pair_accuracy(torch.eye(20)).item() == 1.0
    assert pair_accuracy(-torch.eye(20)).item() == 0.0


def test_contrastive_loss_of_constant_scores_is_log_n():
    assert contrastive_loss(torch.full((8, 8), 3.0)).item() == pytest.approx(torch.tensor(8.0).log().item())


@pytest.mark.parametrize("name", [name for name in CRITICS if isinstance(CRITICS[name](3, 2), PairCritic)])
def test_the_score_of_a_pair_does_not_depend_on_other_pairs(name):
    torch.manual_seed(0)
    critic = CRITICS[name](3, 2)
    assert isinstance(critic, PairCritic)
    latent, condition = torch.randn(7, 3), torch.randn(7, 2)
    scores = critic.scores(latent, condition)
    assert scores.shape == (7, 7)
    if name != "adversarial":  # its errors are in units of the variance of the batch
        torch.testing.assert_close(critic.scores(latent[2:3], condition[5:6])[0, 0], scores[2, 5])


@pytest.mark.parametrize("name", ["gaussian", "gaussian_bounded", "gaussian_full"])
def test_closed_form_bounds_equal_the_mean_over_all_pairs(name):
    torch.manual_seed(0)
    critic = CRITICS[name](3, 2)
    latent, condition = torch.randn(40, 3), torch.randn(40, 2)
    torch.testing.assert_close(
        critic.bound(latent, condition), PairCritic.bound(critic, latent, condition), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("name", ["gaussian", "gaussian_full", "mixture"])
def test_the_loss_of_a_density_critic_is_minus_the_mean_score_of_true_pairs(name):
    torch.manual_seed(0)
    critic = CRITICS[name](3, 2)
    latent, condition = torch.randn(40, 3), torch.randn(40, 2)
    torch.testing.assert_close(
        critic.critic_loss(latent, condition), -critic.scores(latent, condition).diagonal().mean()
    )
